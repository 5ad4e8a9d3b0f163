// Which UDP publishes change, and which flows that makes stale.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { changedDnats } from "../../src/iptables/changed-dnats.ts";
import { compareLive, readLive, type Tables } from "../../src/iptables/live.ts";
import { readDnat } from "../../src/iptables/read.ts";
import { commentOf, readWords } from "../../src/iptables/rule.ts";
import { containerOwner } from "../../src/model/owner.ts";
import { type Changes, type Flow, readFlows, type Selector, selectStale } from "../../src/rules/flows.ts";
import type { Dnat } from "../../src/rules/model.ts";

const COMMENT = `-m comment --comment "${commentOf("web")}"`;

function dnat(ports: string, to: string, match = "! -i br0"): string {
  return `-A DOCKER_CONTAINERS ${match} -p udp -m udp --dport ${ports} ${COMMENT} -j DNAT --to-destination ${to}`;
}

function udp(ports: string, to: string, match?: string): Dnat {
  const read = readDnat(readWords(dnat(ports, to, match)));
  if (read === undefined) throw new Error(`not read: ${ports} ${to}`);
  return read;
}

describe("a DNAT rule for UDP", () => {
  const any = { kind: "dnat", hostAddress: undefined, exceptFrom: "br0" };
  const ports = (first: number, last = first) => ({ protocol: "udp", first, last });
  const to = (address: string, port?: number, base?: number) => ({ address, port, base });
  test.each([
    [dnat("53", "172.17.0.2:5353"), { ...any, ports: ports(53), to: to("172.17.0.2", 5353) }],
    [dnat("53:60", "172.17.0.2"), { ...any, ports: ports(53, 60), to: to("172.17.0.2") }],
    [dnat("53:60", "172.17.0.2:93-100/53"), { ...any, ports: ports(53, 60), to: to("172.17.0.2", 93, 53) }],
    [
      dnat("53", "172.17.0.2:53", "-d 192.0.2.1/32"),
      { ...any, hostAddress: "192.0.2.1", ports: ports(53), to: to("172.17.0.2", 53), exceptFrom: undefined },
    ],
    [
      dnat("53", "[fd00::2]:53", "! -s fe80::/10 -d 2001:db8::1/128 ! -i br0"),
      { ...any, hostAddress: "2001:db8::1", ports: ports(53), to: to("fd00::2", 53) },
    ],
    [dnat("53:60", "fd00::2"), { ...any, ports: ports(53, 60), to: to("fd00::2") }],
  ])("%s", (rule, expected) => {
    expect(readDnat(readWords(rule))).toEqual(expected);
  });

  test.each([
    ["that accepts", dnat("53", "172.17.0.2:53").replace("DNAT --to-destination 172.17.0.2:53", "ACCEPT")],
    ["with a match that is not ours", dnat("53", "172.17.0.2:53", "-s 10.0.0.0/8")],
    ["of a whole network", dnat("53", "172.17.0.2:53", "-d 192.0.2.0/24")],
    ["without a port", `-A PREROUTING -p udp -j DNAT --to-destination 172.17.0.2`],
    ["to several addresses", dnat("53", "172.17.0.2-172.17.0.9")],
    ["without a destination", `-A PREROUTING -p udp --dport 53 -j DNAT`],
  ])("not one %s", (_what, rule) => {
    expect(readDnat(readWords(rule))).toBeUndefined();
  });
});

describe("what changes", () => {
  const now = dnat("53", "172.17.0.3:53");
  const before = dnat("53", "172.17.0.2:53");
  const JUMP = "-A PREROUTING -j DOCKER_CONTAINERS";
  const tables = (...lines: string[]): Tables => new Map([["nat", lines.map(readWords)]]);
  function changes(former: string[], wanted: string[], running: string[]): Changes | undefined {
    const live = readLive(["*nat", ":DOCKER_CONTAINERS - [0:0]", JUMP, ...running, "COMMIT", ""].join("\n"));
    const item = {
      owner: containerOwner("web"),
      family: "ipv4",
      former: tables(...former),
      wanted: tables(...wanted),
    } as const;
    const drift = compareLive("web", item.wanted, item.former, live);
    return changedDnats([{ ...item, drift }], { ipv4: live }).get("ipv4");
  }
  const addresses = (forwards: Iterable<Dnat>) => [...forwards].map(({ to }) => to.address);

  test("nothing, where file and kernel are as they should be", () => {
    expect(changes([now], [now], [now])).toBeUndefined();
  });

  test("nothing of UDP, where TCP changes", () => {
    const tcp = (line: string) => line.replaceAll("udp", "tcp");
    expect(changes([tcp(before), now], [tcp(now), now], [tcp(before), now])).toBeUndefined();
  });

  test.each([
    ["a new address in the file", [before], [now], [before], [now], [before]],
    ["the same, and another process has loaded it", [before], [now], [now], [now], [before]],
    ["a rule that the kernel lacks", [now], [now], [], [now], []],
    ["a file that a killed run wrote and never loaded", [now], [now], [before], [now], [before]],
    ["a rule that goes", [before], [], [before], [], [before]],
    ["a rule that goes and stands in no file", [], [], [before], [], [before]],
  ])("%s", (_what, former, wanted, running, fresh, gone) => {
    const changed = changes(former, wanted, running);
    const of = (lines: string[]) => addresses(lines.map((line) => readDnat(readWords(line)) as Dnat));
    expect(addresses(changed?.fresh ?? [])).toEqual(of(fresh));
    expect(addresses(changed?.gone ?? [])).toEqual(of(gone));
  });

  test("all of it, where nothing jumped to the chain", () => {
    const live = readLive(`*nat\n:DOCKER_CONTAINERS - [0:0]\n${now}\nCOMMIT\n`);
    const item = { owner: containerOwner("web"), family: "ipv4", former: tables(now), wanted: tables(now) } as const;
    const drift = compareLive("web", item.wanted, item.former, live);
    const changed = changedDnats([{ ...item, drift }], { ipv4: live }).get("ipv4");
    expect(addresses(changed?.fresh ?? [])).toEqual(["172.17.0.3"]);
  });
});

test("what conntrack prints is read, and what it does not print is left out", () => {
  const printed = `udp      17 99 src=198.51.100.1 dst=198.51.100.10 sport=1000 dport=53 [UNREPLIED] src=172.17.0.2 dst=198.51.100.1 sport=5353 dport=1000 mark=0 use=1
udp      17 9 src=198.51.100.1 dst=198.51.100.10 sport=1001 dport=53 packets=2 bytes=80 src=198.51.100.10 dst=198.51.100.1 sport=53 dport=1001 packets=1 bytes=40 [ASSURED] mark=0 secctx=x zone=3 use=1
udp      17 99 src=2001:db8::1 dst=2001:db8::2 sport=1002 dport=53 src=2001:db8::2 dst=2001:db8::1 sport=53 dport=1002 mark=0 use=1
tcp      6 99 ESTABLISHED src=198.51.100.1 dst=198.51.100.10 sport=1005 dport=53 src=172.17.0.2 dst=198.51.100.1 sport=53 dport=1005 mark=0 use=1
udp      17 99 src=198.51.100.1 dst=198.51.100.10 sport=1000
nonsense
`;
  expect(readFlows(printed)).toEqual([
    { source: "198.51.100.1", destination: "198.51.100.10", port: 53, replySource: "172.17.0.2", replyPort: 5353 },
    { source: "198.51.100.1", destination: "198.51.100.10", port: 53, replySource: "198.51.100.10", replyPort: 53 },
    { source: "2001:db8::1", destination: "2001:db8::2", port: 53, replySource: "2001:db8::2", replyPort: 53 },
  ]);
});

const SUBNETS = [
  { name: "lo", cidr: "127.0.0.1/8" },
  { name: "eth0", cidr: "198.51.100.10/24" },
  { name: "eth0", cidr: "198.51.100.11/24" },
  { name: "br0", cidr: "172.17.0.1/16" },
  { name: "lo", cidr: "::1/128" },
  { name: "eth0", cidr: "2001:db8::10/64" },
];
const HOST = "198.51.100.10";
const CLIENT = "198.51.100.1";

function flow(source: string, destination: string, port: number, replySource: string, replyPort = port): Flow {
  return { source, destination, port, replySource, replyPort };
}

function isSelected(flow: Flow, selectors: readonly Selector[]): boolean {
  return selectors.some((selector) =>
    Object.entries(selector).every(([key, value]) => flow[key as keyof Flow] === value),
  );
}

describe("stale", () => {
  const before = udp("53", "172.17.0.2:53");
  const after = udp("53", "172.17.0.3:53");
  const moved: Changes = { wanted: [after], fresh: new Set([after]), gone: [before] };
  const removed: Changes = { wanted: [], fresh: new Set(), gone: [before] };
  const six = udp("53", "[fd00::3]:53", "! -s fe80::/10 ! -i br0");
  const first6: Changes = { wanted: [six], fresh: new Set([six]), gone: [] };
  test.each<[string, boolean, Flow, Changes]>([
    ["the container's former address", true, flow(CLIENT, HOST, 53, "172.17.0.2"), moved],
    ["docker-proxy", true, flow(CLIENT, HOST, 53, HOST), moved],
    ["docker-proxy, for the host's own client", true, flow(HOST, HOST, 53, HOST), moved],
    ["the address as it is now", false, flow(CLIENT, HOST, 53, "172.17.0.3"), moved],
    ["another hand's DNAT", false, flow(CLIENT, HOST, 53, "10.9.9.9"), moved],
    ["another port", false, flow(CLIENT, HOST, 54, "172.17.0.2"), moved],
    ["the host's own query to a remote server", false, flow(HOST, "8.8.8.8", 53, "8.8.8.8"), moved],
    ["docker-proxy's own flow to the container", false, flow("172.17.0.1", "172.17.0.2", 53, "172.17.0.2"), moved],
    ["what is routed through", false, flow(CLIENT, "203.0.113.1", 53, "172.17.0.2"), moved],
    ["a neighbour on the bridge, whom docker-proxy serves", false, flow("172.17.0.9", HOST, 53, HOST), moved],
    [
      "a client on the loopback, whom docker-proxy serves",
      false,
      flow("127.0.0.1", "127.0.0.1", 53, "127.0.0.1"),
      moved,
    ],
    ["a host's service on the loopback", false, flow("127.0.0.1", "127.0.0.53", 53, "127.0.0.53"), moved],
    ["the loopback, when it was led to the former address", true, flow(CLIENT, "127.0.0.1", 53, "172.17.0.2"), moved],
    ["a publish that goes", true, flow(CLIENT, HOST, 53, "172.17.0.2"), removed],
    ["docker-proxy, of a publish that goes", false, flow(CLIENT, HOST, 53, HOST), removed],
    ["IPv6 through docker-proxy", true, flow("2001:db8::1", "2001:db8::10", 53, "2001:db8::10"), first6],
    ["IPv6 from a link-local client", false, flow("fe80::1", "2001:db8::10", 53, "2001:db8::10"), first6],
  ])("%s: %s", (_what, stale, one, changes) => {
    expect(selectStale([one], changes, SUBNETS).length > 0).toBe(stale);
  });

  test("another container port at the same address", () => {
    const was = udp("5000:5010", "172.17.0.2:6000-6010/5000");
    const is = udp("5000:5010", "172.17.0.2:7000-7010/5000");
    const changes = { wanted: [is], fresh: new Set([is]), gone: [was] };
    const flows = [flow(CLIENT, HOST, 5003, "172.17.0.2", 6003), flow(CLIENT, HOST, 5003, "172.17.0.2", 7003)];
    expect(selectStale(flows, changes, SUBNETS)).toEqual([
      { destination: HOST, port: 5003, replySource: "172.17.0.2", replyPort: 6003 },
    ]);
  });

  test("a publish that is narrower now: only what the rest does not hold", () => {
    const narrow = udp("53", "172.17.0.2:53", `-d ${HOST}/32 ! -i br0`);
    const changes = { wanted: [narrow], fresh: new Set([narrow]), gone: [before] };
    const elsewhere = flow(CLIENT, "198.51.100.11", 53, "172.17.0.2");
    const flows = [flow(CLIENT, HOST, 53, "172.17.0.2"), elsewhere];
    expect(flows.filter((one) => isSelected(one, selectStale(flows, changes, SUBNETS)))).toEqual([elsewhere]);
  });

  test("thousands of clients are one selector, and an address next to them is not part of it", () => {
    const clients = Array.from({ length: 3000 }, (_, n) => flow(`198.51.${n >> 8}.${n & 255}`, HOST, 53, "172.17.0.2"));
    expect(selectStale(clients, moved, SUBNETS)).toHaveLength(1);
    const proxied = [flow(CLIENT, HOST, 53, HOST), flow("172.17.0.9", HOST, 53, HOST)];
    expect(selectStale(proxied, moved, SUBNETS)).toEqual([proxied[0]]);
  });
});

describe("whatever the rules and the flows are", () => {
  const locals = SUBNETS.map(({ cidr }) => cidr.split("/")[0] ?? "").filter((address) => !address.includes(":"));
  const address = fc.constantFrom(...locals, "8.8.8.8", CLIENT, "172.17.0.2", "172.17.0.3", "127.0.0.53");
  const port = fc.integer({ min: 50, max: 56 });
  const anyDnat = fc
    .record({
      hostAddress: fc.option(fc.constantFrom(...locals), { nil: undefined }),
      firstPort: port,
      length: fc.integer({ min: 0, max: 3 }),
      bridge: fc.constantFrom("br0", undefined),
      address: fc.constantFrom("172.17.0.2", "172.17.0.3"),
      mapping: fc.constantFrom("as it is", "one", "range"),
      to: port,
    })
    .map(({ hostAddress, firstPort: first, length, bridge, address, mapping, to: inside }): Dnat => {
      const as = mapping === "as it is";
      const to = { address, port: as ? undefined : inside, base: mapping === "range" ? first : undefined };
      const ports = { protocol: "udp", first, last: first + length };
      return { kind: "dnat", hostAddress, ports, to, exceptFrom: bridge };
    });
  const anyChanges = fc
    .record({
      wanted: fc.array(anyDnat, { maxLength: 3 }),
      fresh: fc.nat(7),
      gone: fc.array(anyDnat, { maxLength: 3 }),
    })
    .map(
      ({ wanted, fresh, gone }): Changes => ({
        wanted,
        gone,
        fresh: new Set(wanted.filter((_, n) => fresh & (1 << n))),
      }),
    );
  const anyFlow = fc
    .record({ source: address, destination: address, port, replySource: address, replyPort: port, plain: fc.boolean() })
    .map(
      ({ plain, ...flow }): Flow => (plain ? { ...flow, replySource: flow.destination, replyPort: flow.port } : flow),
    );
  const anyFlows = fc.array(anyFlow, { maxLength: 20 });
  const isOf = ({ hostAddress, ports }: Dnat, { destination, port }: Flow) =>
    port >= ports.first && port <= ports.last && (hostAddress ?? destination) === destination;

  test("a flow is touched only if it asked a local address for a publish that changed", () => {
    let touched = 0;
    fc.assert(
      fc.property(anyChanges, anyFlows, (changes, flows) => {
        const selectors = selectStale(flows, changes, SUBNETS);
        for (const one of flows.filter((flow) => isSelected(flow, selectors))) {
          touched++;
          expect(locals.includes(one.destination) || one.destination.startsWith("127.")).toBe(true);
          expect([...changes.fresh, ...changes.gone].some((forward) => isOf(forward, one))).toBe(true);
        }
      }),
      { seed: 11, numRuns: 2000 },
    );
    expect(touched).toBeGreaterThan(50);
  });

  test("each flow is judged by itself, and a second time nothing is stale", () => {
    fc.assert(
      fc.property(anyChanges, anyFlows, (changes, flows) => {
        const selectors = selectStale(flows, changes, SUBNETS);
        for (const one of flows) {
          expect(isSelected(one, selectors)).toBe(selectStale([one], changes, SUBNETS).length > 0);
        }
        const left = flows.filter((flow) => !isSelected(flow, selectors));
        expect(selectStale(left, changes, SUBNETS)).toEqual([]);
      }),
      { seed: 11, numRuns: 2000 },
    );
  });
});
