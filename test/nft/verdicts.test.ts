// Both backends give one verdict for every packet: the rules of arbitrary containers and networks, written for iptables and for nftables,
// hook by hook.

import fc from "fast-check";
import ipaddr from "ipaddr.js";
import { expect, test } from "vitest";
import { readNetwork } from "../../src/docker/network.ts";
import { readLive } from "../../src/iptables/live.ts";
import { type Packet, ruleWith, walk } from "../../src/iptables/packet.ts";
import { readDestination } from "../../src/iptables/read.ts";
import { renderRules } from "../../src/iptables/render.ts";
import { spell, TABLES } from "../../src/iptables/rule.ts";
import { Failure } from "../../src/model/errors.ts";
import { FAMILIES, type Family } from "../../src/model/family.ts";
import { HOST_FILES, hostOwner, spellOwner } from "../../src/model/owner.ts";
import { commentFor, renderElements } from "../../src/nft/elements.ts";
import { containerMeaning, hostMeaning } from "../../src/nft/meaning.ts";
import { type NftTable, tableOf } from "../../src/nft/table.ts";
import { containerLines, hostLines } from "../../src/nft/text.ts";
import { makeHostRules } from "../../src/rules/host-rules.ts";
import { type ContainerRule, type HostRule, portAt } from "../../src/rules/model.ts";
import { outcomeOf } from "../rules/pipeline.ts";
import { type World, world } from "../rules/worlds.ts";
import { type NftPacket, walkChain } from "./walk.ts";

const CHAIN = "DOCKER_CONTAINERS";
const SUBNETS: Record<Family, string> = { ipv4: "172.20.0.0/16", ipv6: "fd00:20::/64" };

/** A hook: iptables' table and chain, and ours. Of the lists and the filters it matters what is dropped. */
const HOOKS = [
  ["raw", "PREROUTING", "raw_prerouting"],
  ["mangle", "FORWARD", "lists_forward"],
  ["mangle", "INPUT", "lists_input"],
  ["nat", "PREROUTING", "nat_prerouting"],
  ["nat", "OUTPUT", "nat_output"],
  ["filter", "FORWARD", "filter_forward"],
  ["nat", "POSTROUTING", "nat_postrouting"],
] as const;

const ELSEWHERE: Record<Family, string[]> = {
  ipv4: ["203.0.113.9", "127.0.0.1", "198.51.100.4", "192.0.2.10", "10.1.2.3"],
  ipv6: ["2001:db8:ffff::9", "::1", "2001:db8::10", "fe80::7", "2001:db8::11"],
};

interface Choice {
  family: Family;
  source: number;
  destination: number;
  port: number;
  protocol: "tcp" | "udp" | "sctp";
  from: number;
  to: number;
  translated: boolean;
  asked: number;
  /** Whether it is to what the world publishes. */
  aimed: boolean;
}

const choice: fc.Arbitrary<Choice> = fc.record({
  family: fc.constantFrom<Family>("ipv4", "ipv6"),
  source: fc.nat(60),
  destination: fc.nat(60),
  port: fc.nat(60),
  protocol: fc.constantFrom("tcp", "tcp", "udp", "sctp"),
  from: fc.nat(60),
  to: fc.nat(60),
  translated: fc.boolean(),
  asked: fc.nat(60),
  aimed: fc.constantFrom(true, true, true, false),
});

const list = fc.option(
  fc.array(fc.constantFrom("10.0.0.0/8", "203.0.113.9", "eth0", "wg0=203.0.113.0/24", "2001:db8:ffff::/48"), {
    maxLength: 3,
  }),
);

type Meanings = Record<Family, (ContainerRule | HostRule)[][]>;

/** How iptables has the rules. */
function liveOf(families: Meanings) {
  return Object.fromEntries(
    FAMILIES.map((family) => {
      const all = families[family].map((rules) => renderRules(rules, family, { owner: "web", chain: CHAIN }));
      const text = TABLES.flatMap((table) => {
        const lines = all.flatMap((one) => one[table] ?? []);
        const chains = new Set(lines.map(([, chain = ""]) => chain));
        // What is inserted comes first.
        const sorted = [...lines.filter(([flag]) => flag === "-I"), ...lines.filter(([flag]) => flag !== "-I")];
        const own = [...chains, CHAIN, "DOCKER-USER"].map((chain) => `:${chain} - [0:0]`);
        return [`*${table}`, ...own, ...sorted.map((rule) => spell(["-A", ...rule.slice(1)])), "COMMIT"];
      });
      return [family, readLive([...text, ""].join("\n"))];
    }),
  );
}

/** How nftables has them. */
function tableFor(families: Meanings, proxy: boolean): NftTable {
  const [first = "", last = ""] = HOST_FILES.map((file) => spellOwner(hostOwner(file)));
  const of = (owner: string, at: number) =>
    FAMILIES.map((family) => renderElements(families[family][at] ?? [], family, owner));
  const table = tableOf([
    ...hostLines(first, { proxy }, of(first, 0)),
    ...containerLines("web", of("web", 1)),
    ...containerLines(last, of(last, 2)),
  ]);
  if (table === undefined) throw new Error("a line of ours was not read");
  return table;
}

/** What a table is read back as. */
function readBack(table: NftTable, family: Family): (ContainerRule | HostRule)[][] {
  const [first = "", last = ""] = HOST_FILES;
  return [
    hostMeaning(table, family, first),
    containerMeaning(table, family, commentFor("web")),
    hostMeaning(table, family, last),
  ];
}

function rulesOf({ given, addresses }: World, allow: Record<string, string[]>) {
  const { wanted } = outcomeOf({ ...given, args: { ...given.args, allow } });
  const networks = given.networks
    .map((document) => readNetwork(document as never))
    .map((network, index) => {
      const subnets = (family: Family) =>
        addresses
          .filter(({ address, bridge }) => bridge === network.bridge && address.includes(":") === (family === "ipv6"))
          .map((one) => one.network);
      return { ...network, icc: index !== 1, subnets: { ipv4: subnets("ipv4"), ipv6: subnets("ipv6") } };
    });
  const proxy = (given.proxying?.routed.length ?? 0) === 0;
  const host = { guards: given.args["guards"] === true, proxy, routes: [] };
  const of = (family: Family) => {
    const { first, last } = makeHostRules(networks, family, host);
    return [[...first], [...wanted.meaning[family]], [...last]];
  };
  return { families: { ipv4: of("ipv4"), ipv6: of("ipv6") }, proxy };
}

const pick = <T>(from: readonly T[], at: number): T | undefined => from[at % from.length];

const LOCAL = new Set(["127.0.0.1", "198.51.100.4", "192.0.2.10", "::1", "2001:db8::10"]);
const isLocal = (address: string) => LOCAL.has(address);

/** Where the world is, most of the time: to a port that is published, at the host or, behind the DNAT, at the container. */
function packetOf({ given, addresses, publishes }: World, chosen: Choice): NftPacket {
  const { family, protocol, translated, aimed } = chosen;
  const isOfFamily = (address: string) => address.includes(":") === (family === "ipv6");
  const own = addresses.filter(({ address }) => isOfFamily(address));
  const all = [
    ...own.map(({ address }) => address),
    ...ELSEWHERE[family],
    SUBNETS[family].replace(/0\/\d+$|\/\d+$/, "9"),
  ];
  const publish = pick(
    publishes.filter(({ hostIp }) => hostIp === "" || isOfFamily(hostIp) || hostIp === "::"),
    chosen.port,
  );
  const host =
    publish?.hostIp && isOfFamily(publish.hostIp) && !/^(0\.0\.0\.0|::)$/.test(publish.hostIp)
      ? publish.hostIp
      : pick([...LOCAL].filter(isOfFamily), chosen.asked);
  const container = pick(own, chosen.destination);
  const asked = { destination: canonical(host ?? ""), port: publish?.hostPort ?? 9 };
  const bridges = given.interfaces.names;
  const destination = aimed ? (translated ? container?.address : asked.destination) : pick(all, chosen.destination);
  const dport = aimed ? (translated ? publish?.containerPort : publish?.hostPort) : pick([9, 8000, 8003], chosen.port);
  const packet = {
    ...{ family, protocol: aimed ? (publish?.protocol ?? protocol) : protocol, translated, isLocal },
    iifname: pick([...bridges, "eth0", "wg0", "lo"], chosen.from) ?? "",
    oifname: (aimed ? container?.bridge : pick([...bridges, "eth0"], chosen.to)) ?? "",
    source: pick(all, chosen.source) ?? "",
    destination: destination ?? "",
    sport: 40_000,
    dport: dport ?? 9,
  };
  return { ...packet, original: translated ? asked : { destination: packet.destination, port: packet.dport } };
}

function canonical(address: string): string {
  return ipaddr.IPv6.isValid(address) ? ipaddr.IPv6.parse(address).toRFC5952String() : address;
}

test("what iptables does with a packet at a hook, nftables does", () => {
  const seen = new Map<string, number>();
  fc.assert(
    fc.property(world, list, fc.array(choice, { minLength: 20, maxLength: 40 }), (one, sources, choices) => {
      // Docker gives a port of the host to one port of a container.
      fc.pre(new Set(one.publishes.map((each) => `${each.protocol} ${each.hostPort}`)).size === one.publishes.length);
      const ports = one.publishes.map(({ hostPort }) => hostPort);
      const allow =
        sources === null ? {} : Object.fromEntries(ports.slice(0, 4).map((port) => [String(port), sources]));
      let made: ReturnType<typeof rulesOf>;
      try {
        made = rulesOf(one, allow);
      } catch (error) {
        if (!(error instanceof Failure)) throw error;
        // The container runs on no network of this host, or a list names what cannot be.
        fc.pre(false);
        return;
      }
      const table = tableFor(made.families, made.proxy);
      const live = liveOf(made.families);
      const again = liveOf({ ipv4: readBack(table, "ipv4"), ipv6: readBack(table, "ipv6") });
      for (const chosen of choices) {
        const packet = packetOf(one, chosen);
        const known = live[packet.family];
        const read = again[packet.family];
        if (known === undefined || read === undefined) throw new Error(packet.family);
        for (const [name, hook, chain] of HOOKS) {
          const at = atHook(packet, hook);
          // There it matters only what is dropped.
          const short = (verdict: string) =>
            name === "raw" || name === "mangle" ? verdict.replace("accept", "pass") : verdict;
          const expected = short(byIptables(walk(ruleWith(known, isLocal), name, hook, toPacket(at)).verdict, at));
          const found = short(byNftables(walkChain(table, chain, at), at));
          expect(found, `${chain} ${JSON.stringify(at)}`).toBe(expected);
          const meant = short(byIptables(walk(ruleWith(read, isLocal), name, hook, toPacket(at)).verdict, at));
          expect(meant, `${chain} read back ${JSON.stringify(at)}`).toBe(expected);
          const kind = `${chain} ${expected.split(" ")[0]}`;
          seen.set(kind, (seen.get(kind) ?? 0) + 1);
        }
      }
    }),
    { numRuns: 100 },
  );
  // The packets come to what the rules are there for.
  for (const kind of [
    ...["raw_prerouting drop", "lists_forward drop", "lists_input drop", "nat_prerouting dnat", "nat_output dnat"],
    ...["filter_forward accept", "filter_forward drop", "filter_forward pass", "nat_postrouting masquerade"],
  ])
    expect(seen.get(kind) ?? 0, kind).toBeGreaterThan(5);
});

/** What a hook is told of the interfaces. */
function atHook(packet: NftPacket, hook: string): NftPacket {
  if (hook === "PREROUTING" || hook === "INPUT") return { ...packet, oifname: "" };
  return hook === "FORWARD" ? packet : { ...packet, iifname: "" };
}

function toPacket({
  family,
  iifname,
  oifname,
  source,
  destination,
  protocol,
  dport,
  translated,
  original,
}: NftPacket): Packet {
  return {
    ...{ family, source, destination, protocol, translated, original, port: dport },
    from: iifname || undefined,
    to: oifname || undefined,
  };
}

/** "pass" where nothing decides; of a DNAT where it sends the packet. */
function byIptables(verdict: ReturnType<typeof walk>["verdict"], { dport }: NftPacket): string {
  if (verdict === undefined || verdict.rule.startsWith(":")) return "pass";
  const { target, options } = verdict;
  if (target === "DNAT") {
    const to = readDestination(options[1] ?? "");
    return to === undefined ? "?" : `dnat ${to.address} ${portAt(to, dport)}`;
  }
  return target === "SNAT" ? `snat ${options[1]}` : target.toLowerCase();
}

function byNftables(verdict: string | undefined, { dport }: NftPacket): string {
  const [, address, port = dport] = /^dnat (\S+)(?: \. (\d+))?$/.exec(verdict ?? "") ?? [];
  return address === undefined ? (verdict ?? "pass") : `dnat ${address} ${port}`;
}
