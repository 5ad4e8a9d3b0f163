import { describe, expect, test } from "vitest";
import { renderElements } from "../../src/nft/elements.ts";
import { difference, type NftChain, type NftRule, readLines, readTable, tableOf } from "../../src/nft/table.ts";
import { containerLines, hostLines } from "../../src/nft/text.ts";
import type { ContainerRule } from "../../src/rules/model.ts";

const publish = (port: number, to = 80): ContainerRule => ({
  kind: "dnat",
  hostAddress: undefined,
  ports: { protocol: "tcp", first: port, last: port },
  to: { address: "172.17.0.2", port: to, base: undefined },
  exceptFrom: undefined,
});
const HOST = hostLines("(10_docker)", { proxy: true }, []);
const containerOf = (owner: string, ...rules: ContainerRule[]) =>
  containerLines(owner, [renderElements(rules, "ipv4", owner)]);

function goalOf(...lines: string[][]) {
  const goal = tableOf(lines.flat());
  if (goal === undefined) throw new Error("a line of ours was not read");
  return goal;
}

/** As what runs is read: without the texts of rules. */
function liveOf(...lines: string[][]) {
  const { sets, chains } = goalOf(...lines);
  const bare = [...chains].map(
    ([name, { hook, rules }]) => [name, { hook, rules: rules.map((rule) => ({ ...rule, text: "" })) }] as const,
  );
  return { sets, chains: new Map(bare) };
}

describe("one transaction of what differs", () => {
  test("is empty where nothing does", () => {
    const lines = [HOST, containerOf("web", publish(8080))];
    expect(difference(goalOf(...lines), liveOf(...lines))).toEqual([]);
  });

  test("a port more, a port less, a port that leads elsewhere", () => {
    const was = liveOf(HOST, containerOf("web", publish(8080), publish(8081), publish(8082)));
    const goal = goalOf(HOST, containerOf("web", publish(8080), publish(8081, 90), publish(8083)));
    expect(difference(goal, was)).toEqual([
      "delete element inet docker_iptables publish4 { tcp . 8081, tcp . 8082 }",
      'add element inet docker_iptables publish4 { tcp . 8081 comment "docker_iptables: web" : 172.17.0.2 . 90, tcp . 8083 comment "docker_iptables: web" : 172.17.0.2 . 80 }',
    ]);
  });

  test("what two state goes with the last", () => {
    const was = liveOf(HOST, containerOf("a", publish(8080)), containerOf("b", publish(8080)));
    // It is the other's from then on.
    expect(difference(goalOf(HOST, containerOf("b", publish(8080))), was)).toEqual([
      "delete element inet docker_iptables publish4 { tcp . 8080 }",
      'add element inet docker_iptables publish4 { tcp . 8080 comment "docker_iptables: b" : 172.17.0.2 . 80 }',
    ]);
    expect(difference(goalOf(HOST), was)).toEqual(["delete element inet docker_iptables publish4 { tcp . 8080 }"]);
  });

  test("a chain in which somebody has changed something is written anew", () => {
    const goal = goalOf(HOST);
    const { sets, chains } = liveOf(HOST);
    const spoilt = (rules: readonly NftRule[]) => ({
      sets,
      chains: new Map<string, NftChain>([...chains, ["forward4", { hook: undefined, rules }]]),
    });
    const own = chains.get("forward4")?.rules ?? [];
    for (const rules of [[], own.slice(1), [...own].reverse(), [...own, { hash: "", comment: "", text: "" }]]) {
      const lines = difference(goal, spoilt(rules)) ?? [];
      expect(lines[0]).toBe("flush chain inet docker_iptables forward4");
      expect(lines.slice(1)).toHaveLength(own.length);
      expect(lines.slice(1).every((line) => line.startsWith("add rule inet docker_iptables forward4 "))).toBe(true);
    }
  });

  test("a table that is not there, or of another layout, is replaced as a whole", () => {
    const goal = goalOf(HOST);
    expect(difference(goal, undefined)).toBeUndefined();
    const { sets, chains } = liveOf(HOST);
    const other = { kind: "set", type: "ipv4_addr", elements: new Map() } as const;
    expect(difference(goal, { sets: new Map([...sets, ["publish4", other]]), chains })).toBeUndefined();
    const moved = new Map([...chains, ["filter_forward", { hook: "filter forward 10 accept", rules: [] }]]);
    expect(difference(goal, { sets, chains: moved })).toBeUndefined();
  });

  test("what is not ours in it goes", () => {
    const { sets, chains } = liveOf(HOST);
    const more = new Map([...sets, ["theirs", { kind: "set", type: "ipv4_addr", elements: new Map() } as const]]);
    const lines = difference(goalOf(HOST), {
      sets: more,
      chains: new Map([...chains, ["theirs_too", { hook: undefined, rules: [] }]]),
    });
    expect(lines).toEqual([
      "flush chain inet docker_iptables theirs_too",
      "delete chain inet docker_iptables theirs_too",
      "delete set inet docker_iptables theirs",
    ]);
  });
});

describe("what nft prints", () => {
  const table = (...objects: object[]) =>
    JSON.stringify({ nftables: [{ metainfo: { version: "1.0.6" } }, ...objects] });

  test.each([
    [
      "a protocol as its number",
      [{ elem: { val: { concat: [6, 8080] }, comment: "docker_iptables: web" } }, { concat: ["172.17.0.2", 80] }],
    ],
    [
      "as its name",
      [{ elem: { val: { concat: ["tcp", 8080] }, comment: "docker_iptables: web" } }, { concat: ["172.17.0.2", 80] }],
    ],
  ])("%s", (_what, elem) => {
    const map = {
      name: "publish4",
      type: ["inet_proto", "inet_service"],
      map: "ipv4_addr . inet_service",
      elem: [elem],
    };
    const read = readTable(table({ map }));
    expect(read?.sets.get("publish4")).toEqual({
      kind: "map",
      type: "inet_proto . inet_service : ipv4_addr . inet_service",
      elements: new Map([["tcp . 8080", { value: "172.17.0.2 . 80", comment: "docker_iptables: web" }]]),
    });
  });

  test("intervals, verdicts, interfaces, addresses of IPv6", () => {
    const flags = ["interval"];
    const read = readTable(
      table(
        {
          map: {
            name: "direct6",
            type: ["ipv6_addr", "inet_proto", "inet_service"],
            map: "verdict",
            flags,
            elem: [[{ elem: { val: { concat: ["fd00:0:0::2", "udp", { range: [1, 9] }] } } }, { drop: null }]],
          },
        },
        {
          set: {
            name: "within4",
            type: ["ipv4_addr", "ifname"],
            flags,
            elem: [{ concat: [{ prefix: { addr: "172.17.0.0", len: 16 } }, "docker0"] }],
          },
        },
        { set: { name: "icmp4", type: "ifname", elem: ["br-0"] } },
        { chain: { name: "forward4" } },
        { rule: { chain: "forward4", comment: "docker_iptables: (10_docker) 0123abcd", expr: [] } },
        { rule: { chain: "forward4", comment: "docker_iptables: web", expr: [] } },
        { rule: { chain: "forward4", expr: [] } },
      ),
    );
    const entry = (value?: string) => ({ value, comment: undefined });
    expect([...(read?.sets ?? [])].map(([name, { type, elements }]) => [name, type, ...elements])).toEqual(
      [
        ["within4", "ipv4_addr . ifname; flags interval", ['172.17.0.0/16 . "docker0"', entry()]],
        ["icmp4", "ifname", ['"br-0"', entry()]],
        [
          "direct6",
          "ipv6_addr . inet_proto . inet_service : verdict; flags interval",
          ["fd00::2 . udp . 1-9", entry("drop")],
        ],
      ].sort((a, b) => (a[0] === "direct6" ? -1 : b[0] === "direct6" ? 1 : 0)),
    );
    expect(read?.chains.get("forward4")?.rules.map(({ hash }) => hash)).toEqual(["0123abcd", "", ""]);
  });

  test.each(["", "nothing", "[]", "{}", '{"nftables": 1}'])("nothing of %j", (json) =>
    expect(readTable(json)).toBeUndefined(),
  );
});

test("a line that is none of ours is not read", () => {
  expect(tableOf([...HOST, "add rule ip filter FORWARD accept"])).toBeUndefined();
  expect(tableOf([...HOST, "add element inet docker_iptables nowhere { 1 }"])).toBeUndefined();
  expect(tableOf(["# a comment", "", ...HOST])).toEqual(tableOf(HOST));
});

describe("a line of a fragment that is none of ours", () => {
  const element = (key: string, comment = "docker_iptables: web", value = "172.17.0.2 . 80") =>
    `add element inet docker_iptables publish4 { ${key} comment "${comment}" : ${value} }`;

  test.each([
    ["another table's", "add rule inet filter forward accept"],
    ["all tables'", "flush ruleset"],
    ["a deletion", "delete table inet docker_iptables"],
    ["a rule and what follows it", "add rule inet docker_iptables forward4 accept; flush ruleset"],
    ["a rule and a block", 'add rule inet docker_iptables forward4 accept } table inet x { chain y { comment "z" }'],
    [
      "an element and what follows it",
      element("tcp . 8080 }; flush ruleset; add element inet docker_iptables publish4 { tcp . 1"),
    ],
    [
      "a value and what follows it",
      element("tcp . 8080", "docker_iptables: web", "172.17.0.2 . 80 }; flush ruleset #"),
    ],
    ["a comment and what follows it", element("tcp . 8080", 'x" } ; flush ruleset #')],
    ["a variable", element("tcp . $port")],
    [
      "a chain with a device",
      "add chain inet docker_iptables x { type filter hook ingress device eth0 priority 0; policy drop; }",
    ],
    ["another name", "add set inet docker_iptables x;y { type ipv4_addr; }"],
    ["a set with more", "add set inet docker_iptables x { type ipv4_addr; flags dynamic; timeout 1s; }"],
  ])("%s", (_what, line) => {
    expect(tableOf([...HOST, line])).toBeUndefined();
  });

  test("stops none of the others", () => {
    const { table, strange } = readLines([...HOST, "flush ruleset", element("tcp . 8080")]);
    expect(strange).toEqual([HOST.length]);
    expect(table.sets.get("publish4")?.elements.get("tcp . 8080")?.value).toBe("172.17.0.2 . 80");
  });
});
