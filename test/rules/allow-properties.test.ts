// Who may connect, for any documents, arguments, labels and settings: the rules are made as the program makes them, and packets walk
// through them. What is to come of each is decided here a second time, from the words of the documentation: it shares nothing with the
// code that reads lists, decides between them or writes rules.

import fc from "fast-check";
import { expect, test } from "vitest";
import { readNetwork } from "../../src/docker/network.ts";
import type { DockerProxy } from "../../src/docker/proxy.ts";
import { assemble, textOf } from "../../src/iptables/assemble.ts";
import { readFragment, writeFragment } from "../../src/iptables/fragment-text.ts";
import { readLive } from "../../src/iptables/live.ts";
import { ruleWith } from "../../src/iptables/packet.ts";
import { readMeaning } from "../../src/iptables/read.ts";
import { type PacketHost, PROXY, trace } from "../../src/iptables/trace.ts";
import { Failure } from "../../src/model/errors.ts";
import { readHead } from "../../src/model/options.ts";
import { hostFragments } from "../../src/rules/host-fragments.ts";
import type { Trip } from "../../src/rules/probe.ts";
import {
  addressOf,
  type Box,
  edgesOf,
  type Family,
  familyOf,
  isIn,
  type Key,
  type List,
  numberOf,
  type Publish,
  type Source,
  type Spelling,
  spellLists,
  type World,
  world,
} from "./allow-worlds.ts";
import { type Given, type Outcome, outcomeOf } from "./pipeline.ts";

const RUNS = { seed: 17, numRuns: 150, endOnFailure: true };
const FAMILIES = ["ipv4", "ipv6"] as const;

// The host: two cards, a tunnel, three bridges.

const NETWORKS = [0, 1, 2];
const SUBNETS = [
  { name: "eth0", cidr: "192.0.2.10/24" },
  { name: "eth0", cidr: "2001:db8::10/64" },
  { name: "eth1", cidr: "198.51.100.4/24" },
  { name: "wg0", cidr: "10.8.0.1/24" },
  { name: "wg0", cidr: "fd08::1/64" },
  ...NETWORKS.flatMap((index) => [
    { name: `br-${index}`, cidr: `172.${20 + index}.0.1/16` },
    { name: `br-${index}`, cidr: `fd00:${20 + index}::1/64` },
  ]),
];
const HOST_ADDRESSES = SUBNETS.map(({ cidr }) => cidr.replace(/\/.*/, ""));

const ID = (index: number) => `${index}`.repeat(64);

function networkDocument({ modes, trusted }: World, index: number): Record<string, unknown> {
  const option = "com.docker.network.bridge";
  const mode = modes[index] ?? "nat";
  return {
    ...{ Name: `net${index}`, Id: ID(index), Driver: "bridge" },
    IPAM: { Config: [{ Subnet: `172.${20 + index}.0.0/16` }, { Subnet: `fd00:${20 + index}::/64` }] },
    Options: {
      ...{ [`${option}.name`]: `br-${index}`, [`${option}.trusted_host_interfaces`]: (trusted[index] ?? []).join(":") },
      ...{ [`${option}.gateway_mode_ipv4`]: mode, [`${option}.gateway_mode_ipv6`]: mode },
    },
  };
}

/** The container's addresses, by network. */
function addressesOf({ with6, modes }: World, { name, networks }: Box) {
  const host = name === "web" ? 2 : 3;
  const of = (index: number) => ({ bridge: `br-${index}`, isRouted: modes[index] === "routed" });
  return networks.flatMap((index) => [
    { ...of(index), family: "ipv4" as const, address: `172.${20 + index}.0.${host}` },
    ...(with6[index] ? [{ ...of(index), family: "ipv6" as const, address: `fd00:${20 + index}::${host}` }] : []),
  ]);
}

function givenOf(drawn: World, box: Box, lists: boolean, spelling: Spelling = "plain"): Given {
  const { ipv6, guards, proxy, dual, groups, host } = drawn;
  const Ports: Record<string, object[]> = {};
  for (const { hostIp, hostPort, containerPort, protocol } of box.publishes) {
    const key = `${containerPort}/${protocol}`;
    // Before 20.10 the client lists no socket on [::].
    if (dual && hostIp === "::") continue;
    Ports[key] = [...(Ports[key] ?? []), { HostIp: hostIp, HostPort: `${hostPort}` }];
  }
  for (const { family, containerPort, protocol } of box.directs) {
    const key = `${containerPort}/${protocol}`;
    Ports[key] = [...(Ports[key] ?? []), { HostIp: family === "ipv4" ? "0.0.0.0" : "::", HostPort: "" }];
  }
  const own = addressesOf(drawn, box);
  const at = (index: number, family: Family) =>
    own.find((one) => one.bridge === `br-${index}` && one.family === family)?.address ?? "";
  const Networks = Object.fromEntries(
    box.networks.map((index) => [
      `net${index}`,
      {
        NetworkID: ID(index),
        IPAddress: at(index, "ipv4"),
        GlobalIPv6Address: at(index, "ipv6"),
        Gateway: `172.${20 + index}.0.1`,
      },
    ]),
  );
  const labels = Object.entries(spellLists(box.label, spelling)).map(([key, words]) => [
    key === "*" ? "docker_iptables.allow" : `docker_iptables.allow.${key}`,
    words.join(spelling === "odd" ? " , " : ","),
  ]);
  const said = (all: readonly Source[]) => spellLists([{ key: EVERY, sources: all }], spelling)["*"];
  return {
    args: {
      ...{ container: box.name, ipv6, guards },
      ...(lists && box.own !== undefined ? { allow: spellLists(box.own, spelling) } : {}),
    },
    inspect: [
      {
        ...{ Id: box.name, Name: `/${box.name}`, State: { Running: true }, NetworkSettings: { Ports, Networks } },
        ...(lists ? { Config: { Labels: Object.fromEntries(labels) } } : {}),
      },
    ],
    networks: NETWORKS.map((index) => networkDocument(drawn, index)),
    interfaces: { names: [...new Set(SUBNETS.map(({ name }) => name))], subnets: SUBNETS },
    settings: {
      sources: Object.fromEntries(Object.entries(groups).map(([name, all]) => [name, said(all)])),
      ...(lists && host.length > 0 ? { allow: spellLists(host, spelling) } : {}),
    },
    proxying: {
      routed: proxy ? [] : NETWORKS.map((index) => `br-${index}`),
      proxied: proxy ? own.map(({ address }) => address) : [],
      filtered: ["ipv4", "ipv6"],
    },
  };
}

const EVERY: Key = { address: undefined, first: 0, last: 65_535, protocol: undefined };

function proxiesOf(drawn: World, box: Box): DockerProxy[] {
  const own = addressesOf(drawn, box);
  const to = (family: Family) => own.find((one) => one.family === family)?.address ?? own[0]?.address ?? "";
  return publishesOf(drawn, box).flatMap(({ hostIp, hostPort, containerPort, protocol }) => {
    const family = familyOf(hostIp);
    const proxy = { protocol, hostPort, port: containerPort, answersAsAsked: false };
    // Without an address of its own family it leads to the other's.
    const one = { ...proxy, hostAddress: hostIp, address: to(family) };
    return drawn.dual && hostIp === "0.0.0.0" ? [one, { ...proxy, hostAddress: "::", address: to("ipv4") }] : [one];
  });
}

function publishesOf({ dual }: World, { publishes }: Box): Publish[] {
  return publishes.filter(({ hostIp }) => !(dual && hostIp === "::"));
}

/** Those of the container's own ports that are open somewhere, as what they are to a list: its number is the container's. */
function directsOf(drawn: World, box: Box): (Publish & { family: Family })[] {
  const own = addressesOf(drawn, box).filter(({ isRouted }) => isRouted);
  return box.directs
    .filter((one) => own.some(({ family }) => family === one.family))
    .map((one) => ({ ...one, hostIp: "", hostPort: one.containerPort }));
}

/** A base of one's own: what is published is looked up, and nothing is closed. */
const OWN_BASE = [
  ...["*nat", ":DOCKER_CONTAINERS - [0:0]", "-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER_CONTAINERS"],
  ...["-A OUTPUT -m addrtype --dst-type LOCAL -j DOCKER_CONTAINERS", "COMMIT", "*filter"],
  ...["-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "COMMIT", ""],
].join("\n");
const NO_BASE = "*nat\n:DOCKER_CONTAINERS - [0:0]\nCOMMIT\n";

/** The host as it is once these fragments are loaded. */
function hostWith(drawn: World, outcomes: readonly Outcome[]): PacketHost {
  const { base, policy, ipv6, guards, proxy, boxes } = drawn;
  const chain = "DOCKER_CONTAINERS";
  const networks = NETWORKS.map((index) => readNetwork(networkDocument(drawn, index) as never));
  const [first, last] = hostFragments(networks, FAMILIES, { chain, guards, proxy, routes: [] }).map((one) =>
    writeFragment(one),
  );
  const rulings = FAMILIES.map((family) => {
    const isThere = family === "ipv4" || ipv6;
    const [before, behind] =
      base === "ours" ? [first?.texts[family], last?.texts[family]] : [base === "own" ? OWN_BASE : NO_BASE];
    const texts = [
      isThere ? before : undefined,
      ...outcomes.map(({ fragments }) => fragments[family]),
      isThere ? behind : undefined,
    ].flatMap((text, index) => (text === undefined ? [] : [{ path: `/${index}`, text }]));
    const live = readLive(`*filter\n:FORWARD ${isThere ? policy : "ACCEPT"} [0:0]\nCOMMIT\n`);
    const { lines, problems } = assemble(texts, [], live);
    expect(problems).toEqual([]);
    return [family, ruleWith(readLive(textOf({ lines })), (one) => isLoopback(one) || HOST_ADDRESSES.includes(one))];
  });
  return {
    rulings: Object.fromEntries(rulings),
    subnets: SUBNETS,
    proxies: proxy ? boxes.flatMap((box) => proxiesOf(drawn, box)) : [],
    routed: new Set(proxy ? [] : NETWORKS.map((index) => `br-${index}`)),
    filtered: new Set(FAMILIES),
  };
}

function isLoopback(address: string): boolean {
  return address === "::1" || address.startsWith("127.");
}

// What is said, as the documentation means it.

/** Whether it can be read: no unknown source, key or family, and no two lists of which neither is more exact. */
function isReadable(lists: readonly List[], groups: World["groups"]): boolean {
  const keys: Key[] = [];
  for (const { key, sources } of lists) {
    if ("bad" in key) return false;
    for (const one of sources) {
      if ("bad" in one || ("group" in one && !(one.group in groups))) return false;
      if ("subnet" in one && key.address !== undefined && one.subnet.family !== familyOf(key.address)) return false;
    }
    for (const other of keys) {
      const agree = <T>(a: T | undefined, b: T | undefined) => a === undefined || b === undefined || a === b;
      const both = key.first <= other.last && other.first <= key.last;
      if (both && agree(key.address, other.address) && agree(key.protocol, other.protocol))
        if (rankOf(key).join() === rankOf(other).join()) return false;
    }
    keys.push(key);
  }
  return true;
}

/** The more exact, the less. */
function rankOf({ address, first, last, protocol }: Key): [number, number, number] {
  return [address === undefined ? 1 : 0, last - first, protocol === undefined ? 1 : 0];
}

/** The list about a publish; undefined where there is none. */
function about(lists: readonly List[], { hostIp, hostPort, protocol }: Publish): List | undefined {
  const fit = lists.filter(({ key }) => {
    if ("bad" in key) return false;
    const isThere = key.address === undefined || key.address === hostIp;
    return isThere && (key.protocol ?? protocol) === protocol && key.first <= hostPort && hostPort <= key.last;
  });
  const rank = ({ key }: List) => ("bad" in key ? [2] : rankOf(key));
  const less = (a: readonly number[], b: readonly number[]): number => {
    const at = a.findIndex((one, index) => one !== b[index]);
    return (a[at] ?? 0) - (b[at] ?? 0);
  };
  return fit.sort((a, b) => less(rank(a), rank(b)))[0];
}

function names(sources: readonly Source[], { family, from, source }: Trip, groups: World["groups"]): boolean {
  return sources.some((one) => {
    if ("group" in one) return names(groups[one.group] ?? [], { family, from, source } as Trip, groups);
    if ("by" in one) return one.by === from;
    return "subnet" in one && one.subnet.family === family && isIn(one.subnet, numberOf(source));
  });
}

/** Whether another machine's packet may come to a publish; undefined where nothing is said of it. */
function isAllowed(drawn: World, box: Box, publish: Publish, trip: Trip): boolean | undefined {
  const { host, groups } = drawn;
  if (!isReadable(box.label, groups)) return false;
  const [own, label, settings] = [box.own ?? [], box.label, host].map((lists) => about(lists, publish));
  if (own !== undefined) return names(own.sources, trip, groups);
  const within = settings === undefined ? undefined : names(settings.sources, trip, groups);
  if (label !== undefined) return names(label.sources, trip, groups) && within !== false;
  return isAstray(drawn, box) ? false : within;
}

/** Whether a network of the container's routes, and a list is about none of its ports: it may be about the one that was asked for. */
function isAstray(drawn: World, box: Box): boolean {
  const directs = directsOf(drawn, box);
  const all = [...publishesOf(drawn, box), ...directs];
  const lists = [...(box.own ?? []), ...box.label].filter(({ key }) => key !== EVERY);
  return directs.length > 0 && lists.some((list) => all.every((publish) => about([list], publish) === undefined));
}

/** What may come of a packet: what comes of it without lists, nothing, or (a peer in the container's second network) either. */
type Verdict = "as without" | "closed" | "either";

function verdictOf(drawn: World, trip: Trip): Verdict {
  const { from, family, destination, protocol, port } = trip;
  if (from === undefined) return "as without";
  for (const box of drawn.boxes) {
    const own = addressesOf(drawn, box);
    const bridges = new Set(own.map(({ bridge }) => bridge));
    const isNear = bridges.has(from);
    const publishes = publishesOf(drawn, box);
    const direct = own.find(({ address }) => address === destination);
    if (direct !== undefined) {
      if (direct.bridge === from) return "as without";
      const directs = directsOf(drawn, box);
      const routed = directs.find(
        (one) => one.family === family && one.containerPort === port && one.protocol === protocol && direct.isRouted,
      );
      // A list about the container's own port decides where others connect to that.
      const isAllowedThere = routed && isAllowed(drawn, box, routed, trip);
      if (isAllowedThere !== undefined) return isAllowedThere ? "as without" : "closed";
      const inside = [...publishes, ...directs].filter(
        (one) => one.containerPort === port && one.protocol === protocol,
      );
      const isListed = inside.some((one) => isAllowed(drawn, box, one, trip) !== undefined);
      return isListed ? "closed" : "as without";
    }
    const here = publishes.filter((one) => one.hostPort === port && one.protocol === protocol);
    const isFor = ({ hostIp }: Publish) => hostIp === destination || hostIp === (family === "ipv4" ? "0.0.0.0" : "::");
    const publish = here.find(isFor) ?? (drawn.dual ? here.find(({ hostIp }) => hostIp === "0.0.0.0") : undefined);
    if (publish === undefined) continue;
    if (isNear) return bridges.size > 1 ? "either" : "as without";
    return isAllowed(drawn, box, publish, trip) === false ? "closed" : "as without";
  }
  return "as without";
}

// Who tries what.

/** Everybody whom some list may be about, and their neighbours just outside. */
function sourcesOf({ boxes, host, groups }: World, family: Family): string[] {
  const lists = [...host, ...boxes.flatMap(({ own, label }) => [...(own ?? []), ...label])];
  const said = [...lists.flatMap(({ sources }) => sources), ...Object.values(groups).flat()];
  const edges = said.flatMap((one) => ("subnet" in one && one.subnet.family === family ? edgesOf(one.subnet) : []));
  const known =
    family === "ipv4" ? ["203.0.113.200", "172.20.0.9", "172.22.0.9"] : ["2001:db8:99::1", "fd00:20::9", "fe80::77"];
  return [...new Set([...known.map(numberOf), ...edges])]
    .map((one) => short(family, one))
    .filter((one) => !isLoopback(one) && !HOST_ADDRESSES.includes(one));
}

/** As the kernel writes it. */
function short(family: Family, number: bigint): string {
  const long = addressOf(family, number);
  return family === "ipv4" ? long : new URL(`http://[${long}]`).hostname.slice(1, -1);
}

const picks = fc.array(fc.tuple(fc.nat(), fc.nat(), fc.nat(), fc.nat()), { minLength: 60, maxLength: 60 });

function tripsOf(drawn: World, chosen: readonly (readonly [number, number, number, number])[]): Trip[] {
  const all = drawn.boxes.flatMap((box) =>
    [...publishesOf(drawn, box), ...directsOf(drawn, box)].map((publish) => ({ box, publish })),
  );
  return chosen.flatMap(([which, where, who, how]): Trip[] => {
    const found = all[which % all.length];
    if (found === undefined) return [];
    const { box, publish } = found;
    const inside = addressesOf(drawn, box).map(({ address }) => ({ address, port: publish.containerPort }));
    const specific = HOST_ADDRESSES.includes(publish.hostIp) || isLoopback(publish.hostIp) ? [publish.hostIp] : [];
    const outside = [...HOST_ADDRESSES, ...specific, ...specific, ...specific].map((address) => ({
      address,
      port: publish.hostPort,
    }));
    const to = [...inside, ...outside][where % (inside.length + outside.length)];
    if (to === undefined) return [];
    const family = familyOf(to.address);
    const sources = sourcesOf(drawn, family);
    const from = ["eth0", "eth1", "wg0", "br-0", "br-1", "br-2", undefined][how % 7];
    const own = family === "ipv4" ? "192.0.2.10" : "2001:db8::10";
    const source = from === undefined ? own : (sources[who % sources.length] ?? "");
    return [{ family, from, source, destination: to.address, protocol: publish.protocol, port: to.port }];
  });
}

/** Where a packet arrives; docker-proxy's own answer may go astray, but the container has got it. */
function arrival(host: PacketHost, trip: Trip): string | undefined {
  const { reached, by, doubts } = trace(host, trip);
  expect(doubts).toEqual([]);
  if (reached === undefined) return by.includes(PROXY) ? "at docker-proxy" : undefined;
  return `${reached.address} ${reached.port}`;
}

function isUsable({ boxes, host, groups }: World): boolean {
  return isReadable(host, groups) && boxes.every(({ own }) => own === undefined || isReadable(own, groups));
}

function refusalOf(drawn: World): Failure | undefined {
  try {
    for (const box of drawn.boxes) outcomeOf(givenOf(drawn, box, true));
    return undefined;
  } catch (error) {
    if (error instanceof Failure) return error;
    throw error;
  }
}

test("arguments and settings that cannot be read are refused, labels close, and nothing else is refused", () => {
  const property = fc.property(world, (drawn) => {
    const refused = refusalOf(drawn);
    if (isUsable(drawn)) expect(refused).toBeUndefined();
    else expect(refused?.code).toMatch(/^(arguments_invalid|settings_unusable)$/);
  });
  fc.assert(property, RUNS);
});

test("what is listed reaches the port as without lists, and nobody else does", () => {
  const seen = { closed: 0, open: 0, listed: 0 };
  const property = fc.property(world, picks, (drawn, chosen) => {
    fc.pre(isUsable(drawn));
    const [listed, plain] = [true, false].map((lists) =>
      hostWith(
        drawn,
        drawn.boxes.map((box) => outcomeOf(givenOf(drawn, box, lists))),
      ),
    );
    if (listed === undefined || plain === undefined) throw new Error("there are two");
    for (const trip of tripsOf(drawn, chosen)) {
      const without = arrival(plain, trip);
      const now = arrival(listed, trip);
      const verdict = verdictOf(drawn, trip);
      if (verdict === "closed") expect(now, JSON.stringify(trip)).toBeUndefined();
      if (verdict === "as without") expect(now, JSON.stringify(trip)).toBe(without);
      if (verdict === "either" && now !== undefined) expect(now, JSON.stringify(trip)).toBe(without);
      if (without !== undefined && verdict !== "either") seen[verdict === "closed" ? "closed" : "open"]++;
    }
  });
  fc.assert(property, RUNS);
  // Not in vain: much that would arrive is closed, and much is not.
  expect(seen.closed).toBeGreaterThan(500);
  expect(seen.open).toBeGreaterThan(500);
});

test("the same lists in another order and spelling are the same rules, byte for byte", () => {
  const property = fc.property(world, (drawn) => {
    fc.pre(isUsable(drawn));
    for (const box of drawn.boxes) {
      const [one, other] = (["plain", "odd"] as const).map((spelling) =>
        outcomeOf(givenOf(drawn, box, true, spelling)),
      );
      expect(other?.rules).toEqual(one?.rules);
      // The head has what was written.
      if (box.own === undefined) expect(other?.fragments).toEqual(one?.fragments);
    }
  });
  fc.assert(property, RUNS);
});

test("a fragment reads back as what it means, and its head as the options of the call", () => {
  const sorted = (rules: readonly unknown[]) =>
    rules.map((one) => JSON.stringify(one, Object.keys(flat(one)).sort())).sort();
  const property = fc.property(world, (drawn) => {
    fc.pre(isUsable(drawn));
    for (const box of drawn.boxes) {
      const { wanted, fragments } = outcomeOf(givenOf(drawn, box, true));
      for (const family of FAMILIES) {
        const text = fragments[family] ?? "";
        expect(sorted(readMeaning(readFragment(text)))).toEqual(sorted(wanted.meaning[family]));
        if (text !== "") expect(readHead(text)).toEqual(wanted.options);
      }
      if (box.own !== undefined) expect(wanted.options.allow).toEqual(spellLists(box.own, "plain"));
    }
  });
  fc.assert(property, RUNS);
});

/** All names in a value, at any depth. */
function flat(value: unknown): Record<string, true> {
  if (typeof value !== "object" || value === null) return {};
  return Object.assign({}, ...Object.entries(value).map(([name, inner]) => ({ [name]: true, ...flat(inner) })));
}
