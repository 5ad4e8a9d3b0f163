// Tables of other firewalls: whether one filters at the hooks of our rules, and whether a published port's packets can pass. The
// rulesets are written as nft prints them in JSON (tried, 1.0.6).

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { readLive } from "../../src/iptables/live.ts";
import {
  type Arriving,
  asksForPorts,
  barrierIn,
  decides,
  type NftTable,
  type Statements,
  tablesOf,
} from "../../src/netfilter/nft-tables.ts";

const PACKET: Arriving = { family: "ipv4", protocol: "tcp", ports: [80, 8080], bridge: "docker0" };

const match = (left: unknown, right: unknown, op = "==") => ({ match: { op, left, right } });
const meta = (key: string, right: unknown, op?: string) => match({ meta: { key } }, right, op);
const payload = (protocol: string, field: string, right: unknown, op?: string) =>
  match({ payload: { protocol, field } }, right, op);
const dport = (right: unknown, op?: string) => payload("tcp", "dport", right, op);
const state = (right: unknown) => match({ ct: { key: "state" } }, right, "in");
const ACCEPT = { accept: null };
const DROP = { drop: null };
const COUNTER = { counter: { packets: 0, bytes: 0 } };

interface Shape {
  policy?: string;
  hook?: string;
  type?: string;
  name?: string;
  more?: Record<string, Statements[]>;
}

function table(
  rules: Statements[],
  { policy = "drop", hook = "forward", type = "filter", name = "inet fw", more = {} }: Shape = {},
): NftTable {
  return { name, bases: [{ name: "f", hook, type, policy }], rules: new Map([["f", rules], ...Object.entries(more)]) };
}

const closes = (rules: Statements[], shape?: Shape, packet = PACKET) =>
  barrierIn(table(rules, shape), packet) !== undefined;

describe("a policy of drop lets nothing through", () => {
  test.each<[string, Statements[]]>([
    ["without a rule", []],
    ["with answers", [[state(["established", "related"]), ACCEPT]]],
    ["with another port", [[dport(22), ACCEPT]]],
    ["with other ports", [[dport({ set: [22, { range: [100, 200] }] }), ACCEPT]]],
    ["with the port of another protocol", [[payload("udp", "dport", 80), ACCEPT]]],
    [
      "with pings",
      [
        [payload("icmp", "type", "echo-request"), ACCEPT],
        [meta("l4proto", { set: ["icmp", "ipv6-icmp"] }), ACCEPT],
      ],
    ],
    [
      "with the host's own",
      [
        [meta("iifname", "lo"), ACCEPT],
        [meta("iif", "lo"), ACCEPT],
      ],
    ],
    ["with what leaves the containers", [[meta("iifname", { set: ["docker0", "lo"] }), ACCEPT]]],
    [
      "with what goes elsewhere",
      [
        [meta("oifname", "eth1"), ACCEPT],
        [meta("oifname", "virbr*"), ACCEPT],
      ],
    ],
    [
      "with IPv6",
      [
        [meta("nfproto", "ipv6"), ACCEPT],
        [payload("ip6", "saddr", "::1"), ACCEPT],
      ],
    ],
    ["with all but the ports", [[dport({ set: [80, 8080, 443] }, "!="), ACCEPT]]],
    ["behind a jump that comes back", [[{ jump: { target: "n" } }]]],
    ["with a drop first", [[DROP], [ACCEPT]]],
    [
      "with a reject first",
      [
        [COUNTER, { reject: { type: "icmpx", expr: "admin-prohibited" } }],
        [dport(80), ACCEPT],
      ],
    ],
    [
      "with a map of others",
      [
        [
          {
            vmap: {
              key: { ct: { key: "state" } },
              data: {
                set: [
                  ["established", ACCEPT],
                  ["invalid", DROP],
                ],
              },
            },
          },
        ],
      ],
    ],
  ])("%s", (_what, rules) => {
    expect(closes(rules, { more: { n: [[dport(22), ACCEPT], [{ return: null }], [ACCEPT]] } })).toBe(true);
  });
});

describe("the port can come in", () => {
  test.each<[string, Statements[]]>([
    ["by its number", [[dport(80), ACCEPT]]],
    ["by the host's", [[dport({ set: [{ range: [8000, 8100] }] }), COUNTER, ACCEPT]]],
    ["by an element with a counter", [[dport({ set: [{ elem: { val: 80, counter: {} } }] }), ACCEPT]]],
    ["by a set with a name", [[dport("@open"), ACCEPT]]],
    ["by all but another", [[dport(22, "!="), ACCEPT]]],
    ["by what was translated", [[match({ ct: { key: "status" } }, "dnat"), ACCEPT]]],
    ["by its bridge", [[meta("oifname", "docker*"), ACCEPT]]],
    ["by where it comes from", [[meta("iifname", "eth0"), ACCEPT]]],
    ["by a source", [[payload("ip", "saddr", { prefix: { addr: "10.0.0.0", len: 8 } }), ACCEPT]]],
    ["by being new", [[state(["established", "new"]), ACCEPT]]],
    ["by a mark", [[meta("mark", 7), ACCEPT]]],
    ["by a queue", [[{ queue: null }]]],
    ["by a jump", [[{ jump: { target: "n" } }]]],
    ["by a map", [[{ vmap: { key: { ct: { key: "state" } }, data: { set: [["new", { goto: { target: "n" } }]] } } }]]],
    ["by a map with a name", [[{ vmap: { key: { meta: { key: "oifname" } }, data: "@jumps" } }]]],
    [
      "before a drop of some",
      [
        [meta("mark", 7), DROP],
        [dport(80), ACCEPT],
      ],
    ],
    ["by what nobody knows", [[{ match: null }, ACCEPT]]],
  ])("%s", (_what, rules) => {
    expect(closes(rules, { more: { n: [[dport({ set: [80] }), ACCEPT]] } })).toBe(false);
  });

  test("where the chain is elsewhere, is of another kind or family, or accepts", () => {
    for (const shape of [
      { hook: "input" },
      { hook: "output" },
      { type: "nat" },
      { name: "ip6 fw" },
      { name: "bridge fw" },
      { policy: "accept" },
    ]) {
      expect(closes([], shape), JSON.stringify(shape)).toBe(false);
    }
    expect(closes([], { hook: "prerouting" })).toBe(true);
    expect(closes([], { name: "ip6 fw" }, { ...PACKET, family: "ipv6" })).toBe(true);
    expect(closes([[DROP]], { policy: "accept" })).toBe(true);
    expect(barrierIn({ ...table([]), rules: undefined }, PACKET)).toBeUndefined();
  });

  test("a chain that may have gone back before its drop is not sure to drop", () => {
    const more = { n: [[meta("mark", 7), { return: null }], [DROP]] };
    expect(closes([[{ jump: { target: "n" } }], [ACCEPT]], { more })).toBe(false);
    expect(closes([[{ jump: { target: "n" } }], [dport(22), ACCEPT]], { more })).toBe(true);
    expect(closes([[{ jump: { target: "f" } }]])).toBe(false);
  });
});

test("whatever is there, nothing is thrown", () => {
  const statement = fc.oneof(
    fc.dictionary(fc.constantFrom("match", "accept", "drop", "jump", "goto", "vmap", "xt", "limit"), fc.jsonValue()),
    fc.record({ match: fc.record({ op: fc.jsonValue(), left: fc.jsonValue(), right: fc.jsonValue() }) }),
  );
  fc.assert(
    fc.property(fc.array(fc.array(statement)), (rules) => {
      const one = table(rules, { more: { n: rules } });
      barrierIn(one, PACKET);
      decides(one);
    }),
  );
});

test("ports fare alike where no rule asks for one, and in such a table alone", () => {
  const some = fc.constantFrom<Statements[number]>(
    ...[meta("oifname", "docker0"), meta("iifname", "eth0"), meta("l4proto", "udp"), state(["new"])],
    ...[dport(80), dport({ set: [22, { range: [79, 81] }] }), dport(80, "!="), ACCEPT, DROP, { return: null }],
    { jump: { target: "n" } },
    { vmap: { key: { payload: { protocol: "tcp", field: "dport" } }, data: { set: [[80, ACCEPT]] } } },
  );
  const rules = fc.array(fc.array(some, { maxLength: 3 }), { maxLength: 4 });
  const port = fc.constantFrom(22, 80, 443, 8080);
  let alike = 0;
  let apart = 0;
  fc.assert(
    fc.property(rules, rules, port, port, (own, more, first, second) => {
      const one = table(own, { more: { n: more } });
      const [a, b] = [first, second].map((number) => barrierIn(one, { ...PACKET, ports: [number] }) !== undefined);
      if (asksForPorts(one)) apart += Number(a !== b);
      else {
        expect(a).toBe(b);
        alike++;
      }
    }),
    { numRuns: 1000 },
  );
  expect(alike).toBeGreaterThan(50);
  expect(apart).toBeGreaterThan(5);
});

describe("a table decides", () => {
  test.each<[string, NftTable, boolean]>([
    ["a policy", table([]), true],
    ["a drop", table([[DROP]], { policy: "accept" }), true],
    [
      "a drop in a chain that is jumped to",
      table([[{ jump: { target: "n" } }]], { policy: "accept", more: { n: [[DROP]] } }),
      true,
    ],
    [
      "another destination",
      table([[{ dnat: { addr: "192.0.2.1" } }]], { policy: "accept", hook: "prerouting", type: "nat" }),
      true,
    ],
    ["a map with a name", table([[{ vmap: { key: {}, data: "@m" } }]], { policy: "accept" }), true],
    ["nothing told", { ...table([]), rules: undefined }, true],
    ["only yes", table([[ACCEPT], [COUNTER], [{ masquerade: null }]], { policy: "accept" }), false],
    ["input alone", table([[DROP]], { hook: "input" }), false],
  ])("%s: %s", (_what, one, does) => {
    expect(decides(one)).toBe(does);
  });
});

describe("the other iptables backend, as such tables", () => {
  const filter = (...lines: string[]) =>
    readLive(["*filter", ":FORWARD DROP [0:0]", ":OWN - [0:0]", ...lines, "COMMIT", ""].join("\n"));
  const isClosed = (...lines: string[]) =>
    tablesOf(filter(...lines), "ipv4").some((one) => barrierIn(one, PACKET) !== undefined);

  test.each([
    [],
    ["-A FORWARD -m state --state RELATED,ESTABLISHED -j ACCEPT"],
    ["-A FORWARD -m conntrack --ctstate SNAT -j ACCEPT"],
    ['-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -m comment --comment "--dport 80" -j ACCEPT'],
    ["-A FORWARD -p tcp -m tcp --dport 22 -j ACCEPT", "-A FORWARD -p udp -m udp --dport 80 -j ACCEPT"],
    ["-A FORWARD -i docker0 -j ACCEPT", "-A FORWARD -o eth1 -j ACCEPT", "-A FORWARD -i lo -j ACCEPT"],
    [
      "-A FORWARD -j OWN",
      "-A OWN -p tcp -m multiport --dports 22,443 -j ACCEPT",
      "-A OWN -j RETURN",
      "-A OWN -j ACCEPT",
    ],
    [
      '-A FORWARD -m limit --limit 3/min -j LOG --log-prefix "x -j ACCEPT"',
      "-A FORWARD -j REJECT --reject-with icmp-port-unreachable",
      "-A FORWARD -j ACCEPT",
    ],
  ])("closed: %j %j %j %j", (...lines) => {
    expect(isClosed(...lines)).toBe(true);
  });

  test.each([
    ["-A FORWARD -p tcp -m tcp --dport 79:81 -j ACCEPT"],
    ["-A FORWARD -p tcp -m multiport --dports 22,8080 -j ACCEPT"],
    ["-A FORWARD -o docker0 -j ACCEPT"],
    ["-A FORWARD -o doc+ -j ACCEPT"],
    ["-A FORWARD ! -i docker0 -j ACCEPT"],
    ["-A FORWARD -m mark --mark 0x7 -j ACCEPT"],
    ["-A FORWARD -g OWN", "-A OWN -s 10.0.0.0/8 -j ACCEPT"],
    ["-A FORWARD -j TPROXY --on-port 1"],
    ["-A FORWARD -m conntrack --ctstate DNAT -j ACCEPT"],
  ])("open: %j %j", (...lines) => {
    expect(isClosed(...lines)).toBe(false);
  });
});
