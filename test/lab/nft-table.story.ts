/*
 * Our own table in nftables as real nft takes and prints it: what is loaded is read back the same, and one table becomes another by one
 * transaction of what differs.
 */

import fc from "fast-check";
import { expect } from "vitest";
import type { Family } from "../../src/model/family.ts";
import { renderElements } from "../../src/nft/elements.ts";
import { TABLE_WORDS } from "../../src/nft/layout.ts";
import { difference, type NftTable, readTable, tableOf } from "../../src/nft/table.ts";
import { containerLines, hostLines, loadText } from "../../src/nft/text.ts";
import type { ContainerRule, HostRule } from "../../src/rules/model.ts";
import type { Host } from "./host.ts";
import { storyWith } from "./story.ts";

/** A network, and a container in it, each with addresses of its own: what two of them say never overlaps. */
interface Container {
  at: number;
  family: Family;
  hostAddress: boolean;
  protocol: "tcp" | "udp" | "sctp";
  count: number;
  to: "kept" | "moved";
  proxy: boolean;
  guarded: boolean;
  peers: boolean;
  sources: readonly { subnet: string | undefined; by: string | undefined }[] | undefined;
  closed: boolean;
  internal: boolean;
  snat: boolean;
}

const SUBNETS = {
  ipv4: ["198.51.100.7/32", "203.0.113.0/24", "192.0.2.0/25", "192.0.2.128/25"],
  ipv6: ["2001:db8:9::/48", "2001:db8:8::1/128"],
};

const containers: fc.Arbitrary<Container[]> = fc.uniqueArray(
  fc
    .record({
      at: fc.integer({ min: 1, max: 5 }),
      family: fc.constantFrom<Family>("ipv4", "ipv6"),
      hostAddress: fc.boolean(),
      protocol: fc.constantFrom("tcp", "udp", "sctp"),
      count: fc.constantFrom(1, 1, 2, 7),
      to: fc.constantFrom("kept", "moved"),
      ...{ proxy: fc.boolean(), guarded: fc.boolean(), peers: fc.boolean(), closed: fc.boolean() },
      ...{ internal: fc.boolean(), snat: fc.boolean() },
      picks: fc.option(fc.array(fc.tuple(fc.integer({ min: 0, max: 4 }), fc.constantFrom(undefined, "wg0", "eth0")))),
    })
    .map(({ picks, ...one }) => ({
      ...one,
      sources: picks?.map(([subnet, by]) => ({ subnet: SUBNETS[one.family][subnet], by })).filter(distinct),
    })),
  { selector: ({ at, family }) => `${at} ${family}`, maxLength: 6 },
) as fc.Arbitrary<Container[]>;

function distinct(one: object, index: number, all: readonly object[]): boolean {
  return all.findIndex((other) => JSON.stringify(other) === JSON.stringify(one)) === index;
}

function rulesOf(one: Container): (ContainerRule | HostRule)[] {
  const { at, family, protocol, count } = one;
  const bridge = `br-${at}`;
  const address = family === "ipv4" ? `172.20.${at}.2` : `2001:db8:${at}::2`;
  const subnet = family === "ipv4" ? `172.20.${at}.0/24` : `2001:db8:${at}::/64`;
  const host = family === "ipv4" ? "198.51.100.10" : "2001:db8:1::10";
  const hostAddress = one.hostAddress ? host : undefined;
  const ports = { protocol, first: 1000 * at, last: 1000 * at + count - 1 };
  const inside = one.to === "kept" ? ports : { protocol, first: 80, last: 80 + count - 1 };
  const port = one.to === "kept" && count > 1 ? undefined : inside.first;
  const to = { address, port, base: port !== undefined && count > 1 ? ports.first : undefined };
  const sources = one.sources ?? [];
  return [
    ...(one.guarded ? [{ kind: "direct-access-filter", address, bridge } as const] : []),
    ...(one.sources === undefined
      ? []
      : ([
          { kind: "allow-forwarded", direction: "in", hostAddress, ports, address, bridge, sources },
          { kind: "allow-forwarded", direction: "out", hostAddress, ports, address, bridge, sources },
          { kind: "allow-delivered", direction: "in", hostAddress, ports, bridge, sources },
          { kind: "direct-port-filter", address, bridge, ports: inside },
        ] as const)),
    { kind: "dnat", hostAddress, ports, to, exceptFrom: one.proxy ? bridge : undefined },
    ...(one.proxy
      ? []
      : [
          {
            kind: "hairpin",
            source: one.peers ? subnet : `${address}/${family === "ipv4" ? 32 : 128}`,
            address,
            ports: inside,
          } as const,
        ]),
    { kind: "accept", address, bridge, ports: inside },
    { kind: "masquerade", subnet, bridge, hostAddress: one.snat ? host : undefined },
    { kind: "replies", bridge },
    ...(one.internal ? [{ kind: "internal", bridge, direction: "in" } as const] : []),
    ...(one.closed ? [{ kind: "unpublished", bridge, verdict: "drop" } as const] : []),
    { kind: "outgoing", bridge },
  ];
}

function linesOf(all: readonly Container[], proxy: boolean): string[] {
  return [
    ...hostLines("(10_docker)", { proxy }, []),
    ...all.flatMap((one) => containerLines(`c${one.at}`, [renderElements(rulesOf(one), one.family, `c${one.at}`)])),
  ];
}

async function load(host: Host, text: string): Promise<NftTable> {
  await host.run("nft", ["-f", "-"], { input: text });
  const { stdout } = await host.run("nft", ["--json", "list", "table", ...TABLE_WORDS.split(" ")]);
  const table = readTable(stdout);
  if (table === undefined) throw new Error(stdout);
  return table;
}

storyWith({ packages: ["nftables"] })(
  "what is loaded is read back, and becomes another by what differs",
  async ({ lab }) => {
    const host = await lab.host({ name: "table", docker: { atBoot: false } });
    let differed = 0;
    await fc.assert(
      fc.asyncProperty(containers, containers, fc.boolean(), fc.boolean(), async (first, second, ...proxies) => {
        const [former, wanted] = [linesOf(first, proxies[0]), linesOf(second, proxies[1])];
        const live = await load(host, loadText(former));
        const was = tableOf(former);
        const goal = tableOf(wanted);
        if (was === undefined || goal === undefined) throw new Error("a line of ours was not read");
        expect(difference(was, live)).toEqual([]);
        const lines = difference(goal, live);
        expect(lines).toBeDefined();
        if (lines?.length) differed++;
        const now = await load(host, [...(lines ?? []), ""].join("\n"));
        expect(difference(goal, now)).toEqual([]);
        // Nothing of the former one is left.
        expect(await load(host, loadText(wanted))).toEqual(now);
      }),
      { numRuns: 60 },
    );
    expect(differed).toBeGreaterThan(30);
  },
);
