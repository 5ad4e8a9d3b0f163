import { describe, expect, test } from "vitest";
import type { Family } from "../../src/model/family.ts";
import { commentFor, renderElements, ruleComment } from "../../src/nft/elements.ts";
import { containerLines } from "../../src/nft/text.ts";
import type { ContainerRule, HostRule } from "../../src/rules/model.ts";

const WEB = { address: "172.17.0.2", bridge: "docker0" };
const WEB6 = { address: "fd00::2", bridge: "docker0" };
const tcp = (first: number, last = first) => ({ protocol: "tcp", first, last });
const SAME = 'same "docker0" . "docker0"';

/** "object key : value", each. */
function rendered(rule: ContainerRule | HostRule, family: Family = "ipv4"): string[] {
  const { elements } = renderElements([rule], family, "web");
  return elements.map(({ object, key, value }) => `${object} ${key}${value === undefined ? "" : ` : ${value}`}`);
}

const dnat = (more: Partial<ContainerRule & { kind: "dnat" }>): ContainerRule => ({
  kind: "dnat",
  hostAddress: undefined,
  ports: tcp(8080),
  to: { address: WEB.address, port: 80, base: undefined },
  exceptFrom: undefined,
  ...more,
});

describe("each kind of rule", () => {
  test.each<[string, ContainerRule | HostRule, string[]]>([
    ["a port on every address", dnat({}), ["publish tcp . 8080 : 172.17.0.2 . 80"]],
    [
      "left to docker-proxy for its own bridge",
      dnat({ exceptFrom: "docker0" }),
      ['proxied "docker0" . tcp . 8080', "publish tcp . 8080 : 172.17.0.2 . 80"],
    ],
    [
      "a port on one address",
      dnat({ hostAddress: "198.51.100.1", exceptFrom: "docker0" }),
      ['proxied_at "docker0" . 198.51.100.1 . tcp . 8080', "publish_at 198.51.100.1 . tcp . 8080 : 172.17.0.2 . 80"],
    ],
    [
      "a port that stays the same",
      dnat({ to: { address: WEB.address, port: undefined, base: undefined } }),
      ["publish tcp . 8080 : 172.17.0.2 . 8080"],
    ],
    [
      "ports that stay the same",
      dnat({
        ports: tcp(9000, 9999),
        to: { address: WEB.address, port: undefined, base: undefined },
        exceptFrom: "docker0",
      }),
      ['proxied_range "docker0" . tcp . 9000-9999', "publish_range tcp . 9000-9999 : 172.17.0.2"],
    ],
    [
      "ports that move",
      dnat({ ports: tcp(9100, 9101), to: { address: WEB.address, port: 9200, base: 9100 }, exceptFrom: "docker0" }),
      [
        'proxied "docker0" . tcp . 9100',
        "publish tcp . 9100 : 172.17.0.2 . 9200",
        'proxied "docker0" . tcp . 9101',
        "publish tcp . 9101 : 172.17.0.2 . 9201",
      ],
    ],
    ["an accept", { kind: "accept", ...WEB, ports: tcp(80) }, [SAME, 'open "docker0" . 172.17.0.2 . tcp . 80']],
    [
      "of more ports",
      { kind: "accept", ...WEB, ports: tcp(80, 81) },
      [SAME, 'open_range "docker0" . 172.17.0.2 . tcp . 80-81'],
    ],
    [
      "a hairpin to itself",
      { kind: "hairpin", source: "172.17.0.2/32", address: WEB.address, ports: tcp(80) },
      ["hairpin 172.17.0.2 . 172.17.0.2 . tcp . 80"],
    ],
    [
      "and from its peers",
      { kind: "hairpin", source: "172.17.0.0/16", address: WEB.address, ports: tcp(80) },
      ["hairpin_range 172.17.0.0/16 . 172.17.0.2 . tcp . 80"],
    ],
    ["direct access", { kind: "direct-access-filter", ...WEB }, ["guarded 172.17.0.2", 'near "docker0" . 172.17.0.2']],
    [
      "by a trusted interface",
      { kind: "direct-access-accept", address: WEB.address, by: "wg0" },
      ['near "wg0" . 172.17.0.2'],
    ],
    [
      "a loopback address",
      { kind: "loopback-filter", hostAddress: "127.0.0.1", ports: tcp(8443) },
      ["loopback 127.0.0.1 . tcp . 8443"],
    ],
    [
      "a closed port of the container's",
      { kind: "direct-port-filter", ...WEB, ports: tcp(80) },
      [SAME, 'direct "docker0" . 172.17.0.2 . tcp . 80 : drop'],
    ],
    ["what the layout has", { kind: "published-ports", from: "others" }, []],
    ["what a table of the user's has", { kind: "user-rules" }, []],
    [
      "a network that is masqueraded",
      { kind: "masquerade", subnet: "172.17.0.0/16", bridge: "docker0", hostAddress: undefined },
      ['within 172.17.0.0/16 . "docker0"', "masquerade 172.17.0.0/16"],
    ],
    [
      "one that has an address of the host's",
      { kind: "masquerade", subnet: "172.17.0.0/16", bridge: "docker0", hostAddress: "198.51.100.1" },
      ['within 172.17.0.0/16 . "docker0"', "source 172.17.0.0/16 : 198.51.100.1"],
    ],
    [
      "the host's loopback address",
      { kind: "masquerade-host", bridge: "docker0", hostAddress: undefined },
      ['masquerade_host "docker0"'],
    ],
    [
      "and with an address",
      { kind: "masquerade-host", bridge: "docker0", hostAddress: "198.51.100.1" },
      ['source_host "docker0" : 198.51.100.1'],
    ],
    ["an internal network", { kind: "internal", bridge: "docker0", direction: "out" }, [SAME, 'internal "docker0"']],
    ["replies", { kind: "replies", bridge: "docker0" }, ['replies "docker0"']],
    ["ICMP", { kind: "icmp", bridge: "docker0" }, ['icmp "docker0"']],
    ["a guard", { kind: "unpublished", bridge: "docker0", verdict: "drop" }, [SAME, 'closed "docker0"']],
    ["none", { kind: "unpublished", bridge: "docker0", verdict: "accept" }, [SAME, 'unprotected "docker0"']],
    ["icc=false", { kind: "isolated", bridge: "docker0" }, [SAME, 'isolated "docker0"']],
    ["what containers send", { kind: "outgoing", bridge: "docker0" }, ['outgoing "docker0"']],
  ])("%s", (_what, rule, expected) => expect(rendered(rule)).toEqual(expected));

  test("of two DNATs of one port the first holds, as with iptables: nft refuses a key with two values", () => {
    const [first, second] = [dnat({}), dnat({ to: { address: "172.17.0.3", port: 80, base: undefined } })];
    expect(renderElements([first, second], "ipv4", "web").elements.map(({ value }) => value)).toEqual([
      "172.17.0.2 . 80",
    ]);
  });

  test("an address of IPv6 has no brackets", () => {
    expect(rendered(dnat({ to: { address: WEB6.address, port: 80, base: undefined } }), "ipv6")).toEqual([
      "publish tcp . 8080 : fd00::2 . 80",
    ]);
  });
});

describe("lists", () => {
  const sources = [
    { subnet: "10.0.0.0/8", by: undefined },
    { subnet: "198.51.100.7/32", by: undefined },
    { subnet: undefined, by: "wg0" },
    { subnet: "192.0.2.0/24", by: "eth1" },
  ];
  const list = (more: object) =>
    ({
      kind: "allow-forwarded",
      direction: "in",
      hostAddress: undefined,
      ports: tcp(8080),
      ...WEB,
      sources,
      ...more,
    }) as ContainerRule;

  test("are a chain that returns what may pass, and drops the rest", () => {
    const lines = containerLines("web", [renderElements([list({})], "ipv4", "web")]);
    const chain = /jump (allow4_[\da-f]{20}) }$/.exec(lines.at(-1) ?? "")?.[1] ?? "";
    const words = lines.map((line) =>
      line.replaceAll(chain, "LIST").replace(/ comment "docker_iptables: web[^"]*"/, ""),
    );
    expect(words).toEqual([
      "add set inet docker_iptables LIST_from { type ipv4_addr; flags interval; }",
      "add set inet docker_iptables LIST_by { type ifname; }",
      "add set inet docker_iptables LIST_both { type ifname . ipv4_addr; flags interval; }",
      "add chain inet docker_iptables LIST",
      "flush chain inet docker_iptables LIST",
      'add rule inet docker_iptables LIST iifname "lo" return',
      "add rule inet docker_iptables LIST ip saddr @LIST_from return",
      "add rule inet docker_iptables LIST iifname @LIST_by return",
      "add rule inet docker_iptables LIST iifname . ip saddr @LIST_both return",
      "add rule inet docker_iptables LIST drop",
      "add element inet docker_iptables LIST_from { 10.0.0.0/8 }",
      "add element inet docker_iptables LIST_from { 198.51.100.7 }",
      'add element inet docker_iptables LIST_by { "wg0" }',
      'add element inet docker_iptables LIST_both { "eth1" . 192.0.2.0/24 }',
      'add element inet docker_iptables same4 { "docker0" . "docker0" }',
      'add element inet docker_iptables listed4 { "docker0" . 172.17.0.2 . tcp . 8080 : jump LIST }',
    ]);
  });

  test("without a source, of the host itself alone", () => {
    const lines = containerLines("web", [renderElements([list({ sources: [] })], "ipv4", "web")]);
    expect(
      lines.filter((line) => line.startsWith("add rule")).map((line) => line.replace(/.*allow4_\w+ | comment.*/g, "")),
    ).toEqual(['iifname "lo" return', "drop"]);
  });

  test("of answers ask where they go", () => {
    const lines = containerLines("web", [renderElements([list({ direction: "out" })], "ipv4", "web")]);
    expect(lines.join("\n")).toMatch(/oifname "lo" return .*\n.* ip daddr @allow4_\w+_from return/);
    expect(lines.at(-1)).toMatch(/ listed_reply4 /);
  });

  test("of two rules are one chain; of two owners, families or directions never", () => {
    const chains = (rules: ContainerRule[], owner = "web", family: Family = "ipv4") =>
      renderElements(rules, family, owner).lists.map(({ chain }) => chain);
    const [one = ""] = chains([list({}), list({ ports: tcp(8081) })]);
    expect(chains([list({}), list({ ports: tcp(8081) })])).toEqual([one]);
    const others = [
      chains([list({})], "db"),
      chains([list({ sources: [] })], "web", "ipv6"),
      chains([list({ direction: "out" })]),
    ];
    expect(new Set([one, ...others.flat()]).size).toBe(4);
  });
});

describe("comments", () => {
  test("say whose it is, in what nft takes", () => {
    expect(commentFor("web")).toBe("docker_iptables: web");
    const [long, other] = ["a".repeat(235), `${"a".repeat(234)}b`];
    expect(commentFor(long)).toHaveLength(128);
    expect(commentFor(long)).not.toBe(commentFor(other));
  });

  test("of a rule know it again", () => {
    expect(ruleComment("(10_docker)", "drop")).toMatch(/^docker_iptables: \(10_docker\) [\da-f]{8}$/);
    expect(ruleComment("(10_docker)", "drop")).not.toBe(ruleComment("(10_docker)", "accept"));
    expect(ruleComment("a".repeat(235), "drop").length).toBeLessThanOrEqual(128);
  });
});
