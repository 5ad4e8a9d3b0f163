// Who reaches a published port, on hosts made up of small rulesets: explain's answers where rules differ by source or by interface,
// where the packet ends in a chain, a table or a program. The lab tries some of them with packets.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { readContainer } from "../../src/docker/container.ts";
import { readNetwork } from "../../src/docker/network.ts";
import type { DockerProxy } from "../../src/docker/proxy.ts";
import { locate } from "../../src/docker/published.ts";
import { readLive } from "../../src/iptables/live.ts";
import { ruleWith } from "../../src/iptables/packet.ts";
import { type PacketHost, PROXY, trace } from "../../src/iptables/trace.ts";
import { type View, viewsOf } from "../../src/iptables/views.ts";
import { isWithin } from "../../src/model/addresses.ts";
import type { Source } from "../../src/model/sources.ts";
import { type ProbeOrigin, probesOf } from "../../src/rules/probe.ts";

const ONE = [
  { name: "lo", cidr: "127.0.0.1/8" },
  { name: "eth0", cidr: "192.0.2.1/24" },
  { name: "br0", cidr: "172.17.0.1/16" },
  { name: "br1", cidr: "172.18.0.1/16" },
  { name: "br2", cidr: "172.19.0.1/16" },
];
const TWO = [...ONE, { name: "eth1", cidr: "198.51.100.1/24" }];
const network = (name: string, subnet: string) =>
  readNetwork({
    Name: name,
    Driver: "bridge",
    IPAM: { Config: [{ Subnet: subnet }] },
    Options: { "com.docker.network.bridge.name": name },
  });
const NETWORKS = [network("br0", "172.17.0.0/16"), network("br1", "172.18.0.0/16"), network("br2", "172.19.0.0/16")];

const DNAT = "-A PREROUTING -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80";
const PROXIES: DockerProxy[] = [
  { protocol: "tcp", hostAddress: "0.0.0.0", hostPort: 8080, address: "172.17.0.2", port: 80, answersAsAsked: false },
];
const HOOKS: Record<string, string[]> = {
  raw: ["PREROUTING", "OUTPUT"],
  mangle: ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"],
  nat: ["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"],
  filter: ["INPUT", "FORWARD", "OUTPUT"],
  security: ["INPUT", "FORWARD", "OUTPUT"],
};

type Tables = Partial<Record<keyof typeof HOOKS, string[]>>;

/** A host with these rules; a line that begins with a colon is a chain of its own, or a policy. */
function hostWith(tables: Tables, subnets = ONE, proxies: readonly DockerProxy[] = []): PacketHost {
  const texts = Object.entries({ nat: [DNAT], ...tables }).flatMap(([table, lines = []]) => {
    const own = lines.filter((line) => line.startsWith(":"));
    const hooks = (HOOKS[table] ?? []).filter((hook) => !own.some((line) => line.startsWith(`:${hook} `)));
    const rules = lines.filter((line) => !line.startsWith(":"));
    return [`*${table}`, ...hooks.map((hook) => `:${hook} ACCEPT [0:0]`), ...own, ...rules, "COMMIT"];
  });
  const isLocal = (address: string) => subnets.some(({ cidr }) => cidr.startsWith(`${address}/`));
  return {
    ...{ rulings: { ipv4: ruleWith(readLive(`${texts.join("\n")}\n`), isLocal) }, subnets, proxies },
    ...{ routed: new Set(), filtered: new Set() },
  };
}

function webOn(subnets: typeof ONE) {
  const container = readContainer({
    Name: "/web",
    State: { Running: true },
    NetworkSettings: {
      Ports: { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8080" }] },
      Networks: { br0: { IPAddress: "172.17.0.2", Gateway: "172.17.0.1" } },
    },
  });
  return locate(container, NETWORKS, {
    names: new Set(subnets.map(({ name }) => name)),
    subnets,
    routes: [],
    hasIpv6: true,
  });
}

/** All views of one kind of client. */
function views(host: PacketHost, kind: ProbeOrigin["kind"] = "machine", list?: readonly Source[]): View[] {
  const target = webOn([...host.subnets]);
  const [publish] = target.publishes;
  if (publish === undefined) throw new Error("web publishes nothing");
  const by = list?.flatMap((one) => one.by ?? []);
  const probes = probesOf(publish, target, NETWORKS, host, by).filter(({ from }) => from.kind === kind);
  return probes.flatMap((probe) => viewsOf(host, probe, list).views);
}

/** "yes" or "no", a question mark where there is an unless, and for whom. */
function told(all: readonly View[]): string[] {
  return all.map(({ arrival, sources, interfaces }) => {
    const rest = sources?.rest === undefined ? [] : ["*"];
    const whose = [
      ...(sources ? [...sources.subnets, ...rest] : []),
      ...(interfaces ?? []).map((name) => `by ${name}`),
    ];
    return [`${arrival.reached ? "yes" : "no"}${arrival.doubts.length > 0 ? "?" : ""}`, ...whose].join(" ");
  });
}

test("without rules that tell clients apart another machine is one view, seen as itself", () => {
  for (const subnets of [ONE, TWO]) {
    const all = views(hostWith({}, subnets));
    expect(told(all)).toEqual(["yes"]);
    expect(all[0]?.arrival).toMatchObject({ reached: { address: "172.17.0.2", port: 80, seenAs: "203.0.113.9" } });
  }
});

test("docker-proxy answers a datagram from the address that was asked since Docker 28, before it from the preferred one", () => {
  const subnets = [...ONE, { name: "eth0", cidr: "192.0.2.77/24" }];
  const asked = (answersAsAsked: boolean, hostAddress: string, destination: string) => {
    const proxy = { protocol: "udp", hostAddress, hostPort: 8080, address: "172.17.0.2", port: 80, answersAsAsked };
    const host = hostWith({ nat: [] }, subnets, [proxy]);
    const trip = {
      family: "ipv4",
      from: "eth0",
      source: "192.0.2.9",
      destination,
      protocol: "udp",
      port: 8080,
    } as const;
    return trace(host, trip).reached === undefined ? "not answered" : "answered";
  };
  expect(asked(false, "0.0.0.0", "192.0.2.1")).toBe("answered");
  expect(asked(false, "0.0.0.0", "192.0.2.77")).toBe("not answered");
  expect(asked(false, "192.0.2.77", "192.0.2.77")).toBe("answered");
  expect(asked(true, "0.0.0.0", "192.0.2.77")).toBe("answered");
});

describe("it is never said closed where it is open, nor open where it is closed", () => {
  test.each<[string, Tables, string[]]>([
    [
      "a chain without rules that is gone to returns, and the policy decides",
      { filter: [":EMPTY - [0:0]", "-A FORWARD -g EMPTY", "-A FORWARD -j DROP"] },
      ["yes"],
    ],
    [
      "a chain that was gone to returns to the caller's caller",
      {
        filter: [
          ...[":OUTER - [0:0]", ":EMPTY - [0:0]", "-A FORWARD -j OUTER", "-A FORWARD -j DROP"],
          ...["-A OUTER -g EMPTY", "-A OUTER -j ACCEPT"],
        ],
      },
      ["no"],
    ],
    [
      "whether it is gone to is unknown",
      { filter: [":EMPTY - [0:0]", "-A FORWARD -m set --match-set good src -g EMPTY", "-A FORWARD -j DROP"] },
      ["no?"],
    ],
    [
      "a program's queue that is passed by where none listens",
      { filter: ["-A FORWARD -j NFQUEUE --queue-num 0 --queue-bypass", "-A FORWARD -j DROP"] },
      ["yes?"],
    ],
    ["a program's queue", { filter: ["-A FORWARD -j NFQUEUE --queue-num 0"] }, ["no?"]],
    [
      "some sources are let in",
      { filter: ["-A FORWARD -s 10.0.0.0/8 -j ACCEPT", "-A FORWARD -j DROP"] },
      ["yes 10.0.0.0/8", "no *"],
    ],
    ["some sources are kept out", { filter: ["-A FORWARD -s 203.0.113.0/24 -j DROP"] }, ["no 203.0.113.0/24", "yes *"]],
    ["all others are kept out", { filter: ["-A FORWARD ! -s 203.0.113.0/24 -j DROP"] }, ["yes 203.0.113.0/24", "no *"]],
    [
      "sources within sources",
      { filter: ["-A FORWARD -s 10.1.0.0/16 -j DROP", "-A FORWARD -s 10.0.0.0/8 -j ACCEPT", "-A FORWARD -j DROP"] },
      ["yes 10.0.0.0/8", "no 10.1.0.0/16 *"],
    ],
    [
      "sources that a chain alone tells apart, which only some come to",
      {
        filter: [
          ...[":OFFICE - [0:0]", "-A FORWARD -s 10.0.0.0/8 -j OFFICE", "-A FORWARD -j DROP"],
          ...["-A OFFICE -s 10.9.0.0/16 -j ACCEPT"],
        ],
      },
      ["yes 10.9.0.0/16", "no *"],
    ],
    [
      "some of some sources, of which a set decides",
      { filter: ["-A FORWARD -s 10.0.0.0/8 -m set --match-set good src -j ACCEPT", "-A FORWARD -j DROP"] },
      ["no? 10.0.0.0/8", "no *"],
    ],
    ["the last hook", { mangle: ["-A POSTROUTING -o br0 -j DROP"] }, ["no"]],
    ["the security table", { security: ["-A FORWARD -p tcp -j DROP"] }, ["no"]],
    ["a policy of the nat table", { nat: [":POSTROUTING DROP [0:0]", DNAT] }, ["no"]],
    ["a program takes it", { mangle: ["-A PREROUTING -p tcp -j TPROXY --on-port 1 --on-ip 127.0.0.1"] }, ["no?"]],
    ["a limit", { filter: ["-A FORWARD -m limit --limit 5/min -j ACCEPT", "-A FORWARD -j DROP"] }, ["no?"]],
    ["a target that is not known", { filter: ["-A FORWARD -p tcp -j SYNPROXY --mss 1460"] }, ["yes?"]],
    ["another subnet", { nat: ["-A PREROUTING -d 192.0.2.0/24 -j NETMAP --to 203.0.113.0/24", DNAT] }, ["no"]],
    ["the port alone", { nat: ["-A PREROUTING -p tcp -j DNAT --to-destination :81"] }, ["no"]],
    [
      "one of several addresses",
      { nat: ["-A PREROUTING -p tcp -j DNAT --to-destination 172.17.0.2-172.17.0.9:80"] },
      ["no?"],
    ],
  ])("%s", (_what, tables, expected) => {
    expect(told(views(hostWith(tables)))).toEqual(expected);
  });

  test("closed by one interface, open by another", () => {
    const host = hostWith({ filter: ["-A FORWARD -i eth0 -j DROP"] }, TWO);
    expect(told(views(host))).toEqual(["no by eth0", "yes by eth1"]);
    expect(views(host).map(({ trip }) => [trip.from, trip.destination])).toEqual([
      ["eth0", "192.0.2.1"],
      ["eth1", "198.51.100.1"],
    ]);
  });

  test("by sources at one interface, and by none at another", () => {
    const host = hostWith({ filter: ["-A FORWARD -i eth0 ! -s 10.0.0.0/8 -j DROP"] }, TWO);
    expect(told(views(host))).toEqual(["yes 10.0.0.0/8 by eth0", "no * by eth0", "yes by eth1"]);
  });

  test("what is on the link of one interface does not come by another", () => {
    const host = hostWith({ filter: ["-A FORWARD -s 198.51.100.0/24 -j ACCEPT", "-A FORWARD -j DROP"] }, TWO);
    const all = views(host);
    expect(told(all)).toEqual(["yes 198.51.100.0/24", "no *"]);
    expect(all[0]?.trip).toMatchObject({ from: "eth1", source: "198.51.100.3" });
  });

  test("networks that rules tell apart, and one of their containers", () => {
    const host = hostWith({ filter: ["-A FORWARD -s 172.18.0.9/32 -j ACCEPT", "-A FORWARD -i br1 -j DROP"] });
    const all = views(host, "other_bridge");
    expect(told(all)).toEqual(["yes 172.18.0.9/32 by br1", "no * by br1", "yes by br2"]);
    const alike = views(hostWith({}), "other_bridge");
    expect(alike.map(({ from }) => from)).toEqual([{ kind: "other_bridge", bridge: "br1" }]);
  });

  test("neighbours, of which one is kept out; the container itself is none of them", () => {
    const filter = ["-A FORWARD -s 172.17.0.7/32 -j DROP", "-A FORWARD -s 172.17.0.2/32 -j DROP"];
    const host = { ...hostWith({ filter }), filtered: new Set(["ipv4"] as const) };
    expect(told(views(host, "bridge_peer"))).toEqual(["no 172.17.0.7/32", "yes *"]);
  });

  test("NOTRACK: no DNAT, so docker-proxy answers, and the container sees the bridge's address", () => {
    for (const target of ["CT --notrack", "NOTRACK"]) {
      const raw = [`-A PREROUTING -p tcp -m tcp --dport 8080 -j ${target}`];
      const [view] = views(hostWith({ raw }, ONE, PROXIES));
      expect(view?.arrival).toMatchObject({ reached: { seenAs: "172.17.0.1" }, by: [PROXY], doubts: [] });
      const filter = ["-A INPUT -m conntrack --ctstate UNTRACKED -j DROP"];
      expect(told(views(hostWith({ raw, filter }, ONE, PROXIES)))).toEqual(["no"]);
      const tracked = ["-A INPUT -m conntrack --ctstate NEW -j DROP", "-A INPUT -m conntrack --ctdir ORIGINAL -j DROP"];
      expect(told(views(hostWith({ raw, filter: tracked }, ONE, PROXIES)))).toEqual(["yes"]);
      const some = [`-A PREROUTING -m set --match-set fast src -j ${target}`];
      expect(told(views(hostWith({ raw: some }, ONE, PROXIES)))).toEqual(["yes?"]);
    }
  });

  test("raw comes before conntrack", () => {
    expect(told(views(hostWith({ raw: ["-A PREROUTING -m conntrack --ctstate NEW -j DROP"] })))).toEqual(["yes"]);
    expect(told(views(hostWith({ raw: ["-A PREROUTING -m conntrack --ctstate INVALID -j DROP"] })))).toEqual(["no"]);
  });

  test.each<[string, Tables]>([
    ["the security table", { security: ["-A INPUT -j DROP"] }],
    ["the nat table", { nat: [":INPUT DROP [0:0]"] }],
    ["what docker-proxy sends", { filter: ["-A OUTPUT -o br0 -j DROP"] }],
    ["where it leaves for the container", { mangle: ["-A POSTROUTING -o br0 -j DROP"] }],
  ])("docker-proxy is closed by %s", (_what, tables) => {
    expect(told(views(hostWith({ nat: [] }, ONE, PROXIES)))).toEqual(["yes"]);
    expect(told(views(hostWith({ nat: [], ...tables }, ONE, PROXIES)))).toEqual(["no"]);
  });

  test.each<[string, Tables]>([
    ["where it is sent", { security: ["-A OUTPUT -j DROP"] }],
    ["where it comes in by lo", { raw: ["-A PREROUTING -p tcp -m tcp --dport 8080 -j DROP"] }],
    ["where it leaves by lo", { mangle: ["-A POSTROUTING -o lo -j DROP"] }],
  ])("this host's packets to itself end %s", (_what, tables) => {
    expect(new Set(told(views(hostWith({ nat: [] }, ONE, PROXIES), "host")))).toEqual(new Set(["yes"]));
    expect(new Set(told(views(hostWith({ nat: [], ...tables }, ONE, PROXIES), "host")))).toEqual(new Set(["no"]));
  });

  test("where a DNAT sends it, the hook that it leaves by is told the first interface", () => {
    const nat = [DNAT, "-A OUTPUT -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80"];
    const answers = (rule: string) => told(views(hostWith({ nat, filter: [rule] }), "host")).at(-1);
    expect(answers("-A OUTPUT -o br0 -j DROP")).toBe("yes");
    expect(answers("-A OUTPUT -o lo -j DROP")).toBe("no");
  });

  test("IPv6: sources by subnet, a single one, and never one that is link-local", () => {
    const rules = [
      ...["*nat", ":PREROUTING ACCEPT [0:0]"],
      "-A PREROUTING ! -s fe80::/10 -p tcp -m tcp --dport 8080 -j DNAT --to-destination [fd00::2]:80",
      ...["COMMIT", "*filter", ":FORWARD DROP [0:0]", "-A FORWARD -s 2001:db8:5::/48 -j ACCEPT"],
      ...["-A FORWARD -s 2001:db8:6::6/128 -j ACCEPT", "COMMIT", ""],
    ];
    const subnets = [
      { name: "eth0", cidr: "2001:db8::1/64" },
      { name: "br0", cidr: "fd00::1/64" },
    ];
    const host: PacketHost = {
      ...hostWith({}, subnets),
      rulings: { ipv6: ruleWith(readLive(rules.join("\n")), () => false) },
    };
    const target = { ...webOn(ONE), publishing: {}, endpoints: [] };
    const publish = {
      family: "ipv6",
      hostAddress: undefined,
      hostPort: 8080,
      containerPort: 80,
      protocol: "tcp",
    } as const;
    const [probe] = probesOf(publish, target, NETWORKS, host);
    if (probe === undefined) throw new Error("no probe");
    const { views: found } = viewsOf(host, probe, undefined);
    expect(told(found)).toEqual(["yes 2001:db8:5::/48 2001:db8:6::6/128", "no *"]);
    expect(found.map(({ trip }) => trip.source)).toEqual(["2001:db8:5::1", "2001:db8:ffff::9"]);
  });

  test("what would only drop it once more is no unless, nor is what would only accept it once more", () => {
    const banned = "-A FORWARD -m set --match-set banned src -j DROP";
    const limited = "-A FORWARD -m limit --limit 5/min -j ACCEPT";
    expect(told(views(hostWith({ filter: [banned, "-A FORWARD -j DROP"] })))).toEqual(["no"]);
    expect(told(views(hostWith({ filter: [limited] })))).toEqual(["yes"]);
    expect(told(views(hostWith({ filter: [banned, limited] })))).toEqual(["yes?"]);
    // An ACCEPT in nat keeps it from its DNAT, one in raw from NOTRACK.
    expect(told(views(hostWith({ nat: ["-A PREROUTING -m limit --limit 5/min -j ACCEPT", DNAT] })))).toEqual(["yes?"]);
    const raw = ["-A PREROUTING -m limit --limit 5/min -j ACCEPT", "-A PREROUTING -j NOTRACK"];
    expect(told(views(hostWith({ raw }, ONE, PROXIES)))).toEqual(["yes?"]);
  });

  test("a source address that SNAT gives, in all its forms", () => {
    const seenAs = (options: string) => {
      const nat = [DNAT, `-A POSTROUTING -o br0 -j ${options}`];
      return views(hostWith({ nat }))[0]?.arrival.reached?.seenAs;
    };
    expect(seenAs("SNAT --to-source 192.0.2.5")).toBe("192.0.2.5");
    expect(seenAs("SNAT --to-source 192.0.2.5:1024-65535")).toBe("192.0.2.5");
    expect(seenAs("SNAT --to-source 192.0.2.5-192.0.2.9")).toBe("192.0.2.5");
    expect(seenAs("NETMAP --to 10.9.8.0/24")).toBe("10.9.8.9");
    expect(seenAs("MASQUERADE")).toBe("172.17.0.1");
  });
});

describe("a list", () => {
  const CHAIN = "ALLOW-0123456789abcdef0123";
  const listed = (sources: readonly Source[]): Tables => ({
    mangle: [
      `:${CHAIN} - [0:0]`,
      `-A FORWARD -d 172.17.0.2/32 ! -i br0 -o br0 -p tcp -m tcp --dport 80 -m conntrack --ctorigdstport 8080 --ctdir ORIGINAL -j ${CHAIN}`,
      `-A ${CHAIN} -i lo -j RETURN`,
      ...sources.map(({ subnet, by }) =>
        ["-A", CHAIN, ...(subnet ? ["-s", subnet] : []), ...(by ? ["-i", by] : []), "-j RETURN"].join(" "),
      ),
      `-A ${CHAIN} -j DROP`,
    ],
  });
  const from = (subnet: string | undefined, by?: string): Source => ({ subnet, by });

  test.each<[string, Source[], typeof ONE, string[]]>([
    ["some sources", [from("10.0.0.0/8"), from("192.0.2.7/32")], ONE, ["yes 10.0.0.0/8 192.0.2.7/32", "no *"]],
    ["an interface", [from(undefined, "eth1")], TWO, ["no by eth0", "yes by eth1"]],
    ["one that is not there yet", [from(undefined, "wg0")], ONE, ["no by eth0", "yes by wg0"]],
    [
      "sources at an interface",
      [from("10.0.0.0/8", "eth1")],
      TWO,
      ["no by eth0", "yes 10.0.0.0/8 by eth1", "no * by eth1"],
    ],
    ["nobody", [], TWO, ["no"]],
  ])("of %s: who is on it reaches the port, and nobody else", (_what, sources, subnets, expected) => {
    expect(told(views(hostWith(listed(sources), subnets), "machine", sources))).toEqual(expected);
  });

  test("of another network, by its subnet or its bridge", () => {
    for (const source of [from("172.18.0.0/16"), from("172.16.0.0/14"), from(undefined, "br1")]) {
      const expected = source.subnet === "172.16.0.0/14" ? ["yes"] : ["yes by br1", "no by br2"];
      expect(told(views(hostWith(listed([source])), "other_bridge", [source])), JSON.stringify(source)).toEqual(
        expected,
      );
    }
    // The list is none of its own network's.
    expect(told(views({ ...hostWith(listed([])), filtered: new Set(["ipv4"] as const) }, "bridge_peer", []))).toEqual([
      "yes",
    ]);
  });

  test("that another rule overrules is asked for all the same", () => {
    const sources = [from("10.0.0.0/8")];
    const closed = { ...listed(sources), filter: ["-A FORWARD -j DROP"] };
    expect(told(views(hostWith(closed), "machine", sources))).toEqual(["no 10.0.0.0/8", "no *"]);
    const open = { mangle: ["-A FORWARD -j ACCEPT", ...(listed(sources).mangle ?? [])] };
    expect(told(views(hostWith(open), "machine", sources))).toEqual(["yes 10.0.0.0/8", "yes *"]);
  });

  test("of a thousand sources says how many were not asked for", () => {
    const sources = Array.from({ length: 1000 }, (_, at) => from(`10.0.${at >> 8}.${at & 255}/32`));
    const host = hostWith(listed(sources));
    const target = webOn(ONE);
    const [publish] = target.publishes;
    const [probe] = publish ? probesOf(publish, target, NETWORKS, host) : [];
    if (probe === undefined) throw new Error("no probe");
    const { views: found, left } = viewsOf(host, probe, sources);
    expect(left).toBe(500);
    expect(found.map(({ arrival }) => arrival.reached !== undefined)).toEqual([true, false]);
    expect(found[0]?.sources?.subnets).toHaveLength(500);
  });
});

/** Few addresses, so that all of them can be asked: 10.0.0.0 to 10.0.0.15, and their subnets. */
const subnet = fc
  .tuple(fc.integer({ min: 0, max: 15 }), fc.integer({ min: 28, max: 32 }))
  .map(([last, prefix]) => `10.0.0.${last & (0xff << (32 - prefix))}/${prefix}`);
const condition = fc.oneof(
  { weight: 4, arbitrary: subnet.map((one) => `-s ${one}`) },
  { weight: 2, arbitrary: subnet.map((one) => `! -s ${one}`) },
  fc.constantFrom("-i eth0", "! -i eth0", "-i eth1", "-i eth+"),
  fc.constantFrom("", "-p udp", "-m set --match-set some src", "-d 172.17.0.2/32"),
);
const ruleOf = (chains: readonly string[], targets: readonly string[]) =>
  fc
    .tuple(
      fc.constantFrom(...chains),
      fc.uniqueArray(condition, { maxLength: 2, selector: (one) => one.slice(-8, 1) }),
      fc.constantFrom(...targets),
    )
    .map(([chain, conditions, target]) => ["-A", chain, ...conditions.filter(Boolean), target].join(" "));
const ENDS = ["-j ACCEPT", "-j DROP", "-j RETURN", "-j NFQUEUE --queue-num 0"];

test("what the views say is what becomes of each single address, by each interface", () => {
  let split = 0;
  const property = fc.property(
    fc.array(ruleOf(["FORWARD", "FORWARD", "A", "B"], [...ENDS, "-j C", "-g C"]), { maxLength: 6 }),
    fc.array(ruleOf(["FORWARD"], ["-j A", "-g A", "-j B", "-g B"]), { maxLength: 3 }),
    fc.array(ruleOf(["C"], ENDS), { maxLength: 2 }),
    fc.array(
      ruleOf(["POSTROUTING"], ["-j DROP", "-j ACCEPT"]).filter((one) => !one.includes("-i ")),
      { maxLength: 1 },
    ),
    fc.constantFrom("ACCEPT", "DROP"),
    (own, jumps, deep, last, policy) => {
      const chains = [`:FORWARD ${policy} [0:0]`, ":A - [0:0]", ":B - [0:0]", ":C - [0:0]"];
      const host = hostWith({ filter: [...chains, ...jumps, ...own, ...deep], mangle: last }, TWO);
      const all = views(host);
      if (all.length > 1) split++;
      for (const by of ["eth0", "eth1"]) {
        for (let at = 0; at < 16; at++) {
          const source = `10.0.0.${at}`;
          const [view, ...others] = narrowest(all, source, by);
          expect(others, `${source} by ${by}`).toEqual([]);
          const alone = trace(host, { ...(view as View).trip, from: by, source, destination: "192.0.2.1" });
          expect([view?.arrival.reached !== undefined, view?.arrival.doubts], `${source} by ${by}`).toEqual([
            alone.reached !== undefined,
            alone.doubts,
          ]);
        }
      }
    },
  );
  fc.assert(property, { seed: 17, numRuns: 120 });
  expect(split).toBeGreaterThan(30);
});

/** The views that an address is of. */
function narrowest(all: readonly View[], source: string, by: string): View[] {
  const prefixes = (view: View) => {
    const { subnets = [], rest = view.sources ? undefined : "0.0.0.0/0" } = view.sources ?? {};
    return [...subnets, ...(rest === undefined ? [] : [rest])]
      .filter((one) => isWithin(source, one))
      .map((one) => Number(one.split("/")[1]));
  };
  const here = all.filter(({ interfaces }) => interfaces?.includes(by) ?? true);
  const best = Math.max(...here.flatMap(prefixes));
  return here.filter((view) => prefixes(view).includes(best));
}
