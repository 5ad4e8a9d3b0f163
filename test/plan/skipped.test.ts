// What is left alone keeps its fragment only while the fragment is true.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Skipped } from "../../src/docker/find.ts";
import type { Holding, PublishedContainer } from "../../src/docker/published.ts";
import type { Fragments } from "../../src/fragments/by-family.ts";
import { containerOwner, fileOf } from "../../src/model/owner.ts";
import { describeStale, sortSkipped } from "../../src/plan/skipped.ts";
import { outcomeOf } from "../rules/pipeline.ts";
import { world } from "../rules/worlds.ts";

const FOLDER = { ipv4: "/etc/iptables.d", ipv6: "/etc/ip6tables.d" };
const sort = (name: string, now: Fragments, holdings: Holding[]) =>
  sortSkipped([{ name, target: undefined, why: "disabled", holdings }], now);
const fragment = (text: string): Fragments => ({
  ipv4: [{ path: `/etc/iptables.d/${fileOf(containerOwner("web"))}`, text }],
});

test("no fragment that stays names an address that is not its container's, or a bridge behind which that is not", () => {
  const seen = { stays: 0, goes: 0 };
  const property = fc.property(
    world,
    fc.infiniteStream(fc.constantFrom(0, 0, 0, 0, 1, 2)),
    ({ given, addresses }, fates) => {
      const { name, fragments } = outcomeOf(given);
      const now = Object.fromEntries(
        (["ipv4", "ipv6"] as const).map((family) => {
          const text = fragments[family];
          return [
            family,
            text === undefined ? [] : [{ path: `${FOLDER[family]}/${fileOf(containerOwner(name))}`, text }],
          ];
        }),
      );
      // What each address is by now: kept, gone, or behind another bridge.
      const holdings = addresses.flatMap(({ address, bridge }): Holding[] => {
        const fate = fates.next().value;
        return fate === 1 ? [] : [{ address, bridge: fate === 2 ? "br-other" : bridge }];
      });
      const lines = Object.values(fragments).flatMap((text) => text?.split("\n") ?? []);
      const wrong = addresses.filter(({ address, bridge }) => {
        const own = holdings.find((one) => one.address === address);
        const naming = lines.filter((line) =>
          line
            .split(/[\s/[\]:]+/)
            .join(" ")
            .includes(address.replaceAll(/:+/g, " ")),
        );
        return own === undefined
          ? naming.length > 0
          : own.bridge !== bridge && naming.some((line) => line.includes(bridge));
      });
      const { staying, untrue } = sort(name, now, holdings);
      const exists = lines.length > 0;
      expect([...staying]).toEqual(exists && wrong.length === 0 ? [name] : []);
      expect(untrue.map((one) => one.name)).toEqual(wrong.length > 0 ? [name] : []);
      if (staying.size > 0) seen.stays++;
      if (untrue.length > 0) seen.goes++;
    },
  );
  fc.assert(property, { seed: 8, numRuns: 600 });
  expect(Math.min(seen.stays, seen.goes)).toBeGreaterThan(100);
});

const CLOSING = "*mangle\n-A INPUT -p tcp -m tcp --dport 9 -j DROP\nCOMMIT\n";

test.each(["# nothing\n", CLOSING])("what publishes nothing is made anew where it can be: %j", (text) => {
  const left: Skipped = { name: "web", why: "disabled", holdings: [], target: {} as PublishedContainer };
  expect(sortSkipped([left], fragment(text))).toEqual({ staying: new Set(), untrue: [] });
});

describe("what cannot be proven is not so", () => {
  const dnat = (to: string, more = "! -i docker0 ") =>
    `*nat\n-A C ${more}-p tcp -m tcp --dport 80 -j DNAT --to-destination ${to}\nCOMMIT\n`;
  const accept = (to: string) => `*filter\n-A FORWARD -d ${to} ! -i docker0 -o docker0 -j ACCEPT\nCOMMIT\n`;
  const own: Holding[] = [{ address: "172.17.0.2", bridge: "docker0" }];
  test.each<[string, string, Holding[], boolean]>([
    ["its own, as the original script wrote it", dnat("172.17.0.2:80") + accept("172.17.0.2"), own, true],
    ["its own, without docker-proxy, where no bridge is named", dnat("172.17.0.2:80", ""), own, true],
    ["no rule", "# nothing\n", own, true],
    ["what only closes its port", CLOSING, own, true],
    ["what only closes its port, at a former address", CLOSING.replace("INPUT", "FORWARD -d 172.17.0.9"), own, true],
    ["a rule that names nobody", "*filter\n-A INPUT -p tcp -m tcp --dport 9 -j DROP\nCOMMIT\n", own, true],
    ["a bridge that cannot be told", dnat("172.17.0.2:80"), [{ address: "172.17.0.2", bridge: undefined }], false],
    ["a subnet", accept("172.17.0.0/16"), own, false],
    ["a range", dnat("172.17.0.2-172.17.0.9"), own, false],
    ["no address", dnat(":80"), own, false],
    ["another's beside its own", dnat("172.17.0.2:80") + dnat("172.17.0.3:80"), own, false],
    ["a container without any address", dnat("172.17.0.2:80"), [], false],
  ])("%s", (_what, text, holdings, stays) => {
    expect([...sort("web", fragment(text), holdings).staying]).toEqual(stays ? ["web"] : []);
  });

  test("is said", () => {
    const [one] = sort("web", fragment(accept("172.17.0.9")), own).untrue;
    expect(one && describeStale(one)).toBe(
      "the container web is disabled by its label, and is not at 172.17.0.9 on docker0, where its rules lead",
    );
  });

  test("and one without a fragment is neither kept nor removed", () => {
    expect(sort("other", fragment(accept("172.17.0.9")), own)).toEqual({ staying: new Set(), untrue: [] });
  });
});
