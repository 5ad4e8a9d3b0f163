// One packet through one chain: what matches, what ends a walk, and what is unknown. The lab tries whole paths.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { readLive } from "../../src/iptables/live.ts";
import { type Packet, ruleWith, walk } from "../../src/iptables/packet.ts";

const PACKET: Packet = {
  family: "ipv4",
  from: "eth0",
  to: "docker0",
  source: "203.0.113.9",
  destination: "172.17.0.2",
  protocol: "tcp",
  port: 80,
  translated: true,
  original: { destination: "192.0.2.1", port: 8080 },
};

/** What FORWARD, with policy ACCEPT by default, does with the packet. */
function forward(lines: string[], packet: Partial<Packet> = {}, chains: string[] = [":FORWARD ACCEPT [0:0]"]) {
  const live = readLive(["*filter", ...chains, ...lines, "COMMIT", ""].join("\n"));
  const ruling = ruleWith(live, (address) => address === "198.51.100.10" || address.startsWith("127."));
  const { doubts, ...walked } = walk(ruling, "filter", "FORWARD", { ...PACKET, ...packet });
  return { ...walked, doubts: doubts.map(({ rule }) => rule), doubted: doubts };
}

/** A rule's match, and whether the packet is matched: undefined where it is unknown. */
describe.each<[match: string, matches: boolean | undefined, packet?: Partial<Packet>]>([
  ["", true],
  ["-d 172.17.0.2/32", true],
  ["-d 172.17.0.2", true],
  ["! -d 172.17.0.2/32", false],
  ["-d 172.17.0.0/16", true],
  ["-d 172.18.0.0/16", false],
  ["-s 203.0.113.0/24", true],
  ["-s 203.0.113.0/255.255.255.0", undefined],
  ["-s example.org", undefined],
  ["-i eth0", true],
  ["-i eth+", true],
  ["-i eth", false],
  ["! -i docker0 -o docker0", true],
  ["-i docker0 -o docker0", false],
  ["-i eth0", false, { from: undefined }],
  ["! -i eth0", true, { from: undefined }],
  ["-p tcp", true],
  ["-p 6", true],
  ["-p all", true],
  ["-p udp", false],
  ["-p tcp -m tcp --dport 80", true],
  ["-p tcp -m tcp --dport 70:90", true],
  ["-p tcp -m tcp --dport :79", false],
  ["-p tcp -m tcp ! --dport 80", false],
  ["-p tcp -m multiport --dports 22,80:81", true],
  ["-p tcp -m multiport --dports 22,443", false],
  ["-p tcp -m tcp --sport 1024", undefined],
  ["-p udp -m tcp --sport 1024", false],
  ["-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN", true],
  ["-p tcp -m tcp --tcp-flags SYN,RST SYN", undefined],
  ["-m conntrack --ctstate RELATED,ESTABLISHED", false],
  ["-m conntrack --ctstate NEW", true],
  ["-m conntrack --ctstate DNAT", true],
  ["-m conntrack --ctstate DNAT", false, { translated: false }],
  ["-m conntrack --ctorigdst 192.0.2.1 --ctorigdstport 8080 --ctdir ORIGINAL", true],
  ["-m conntrack --ctorigdstport 8000:8100", true],
  ["-m conntrack --ctorigdstport 80", false],
  ["-m conntrack --ctorigdst 192.0.2.2", false],
  ["-m conntrack --ctdir REPLY", false],
  ["-m state --state INVALID,NEW", true],
  ["-m conntrack --ctorigsrc 203.0.113.0/24", true],
  ["-m conntrack --ctstate NEW", false, { state: "UNTRACKED" }],
  ["-m conntrack --ctstate UNTRACKED", true, { state: "UNTRACKED" }],
  ["-m conntrack --ctstate DNAT", false, { state: "UNTRACKED" }],
  ["-m conntrack ! --ctstate DNAT", true, { state: "UNTRACKED" }],
  ["-m conntrack --ctdir ORIGINAL", false, { state: "UNTRACKED" }],
  ["-m conntrack ! --ctorigdstport 22", false, { state: "UNTRACKED" }],
  ["-m conntrack --ctstate INVALID --ctdir REPLY", true, { state: "INVALID" }],
  ["-f", false],
  ["! -f", true],
  ["-m addrtype --dst-type LOCAL", false],
  ["-m addrtype --dst-type LOCAL", true, { destination: "198.51.100.10" }],
  ["-m addrtype ! --dst-type LOCAL", true],
  ["-m addrtype --src-type UNICAST", true],
  ["-m addrtype --dst-type BROADCAST", false],
  ["-m addrtype --dst-type UNREACHABLE", undefined],
  ["-m set --match-set banned src", undefined],
  ["-d 10.0.0.0/8 -m set --match-set banned src", false],
  ["-m limit --limit 5/min", undefined],
  ["-m mark --mark 0x1", undefined],
  ['-m comment --comment "a b -j DROP"', true],
  ["-m comment --comment -j", true],
  ["-d fd00::2/128", true, { family: "ipv6", destination: "fd00::2" }],
  ["-d fd00::/64", false, { family: "ipv6", destination: "fd01::2" }],
  ["-d 172.17.0.0/16", false, { family: "ipv6", destination: "fd00::2" }],
])("'%s' is %s", (match, matches, packet) => {
  test.each(["DROP", "RETURN", "INNER"])("before -j %s", (target) => {
    const rule = ["-A FORWARD", match, `-j ${target}`].filter(Boolean).join(" ");
    const chains = [":FORWARD ACCEPT [0:0]", ":INNER - [0:0]"];
    const { verdict, doubts } = forward([rule, "-A FORWARD -j REJECT", "-A INNER -j DROP"], packet, chains);
    const yes = { DROP: rule, RETURN: ":FORWARD ACCEPT", INNER: "-A INNER -j DROP" }[target];
    expect(verdict?.rule).toBe(matches === true ? yes : "-A FORWARD -j REJECT");
    expect(doubts).toEqual(matches === undefined ? [rule] : []);
  });
});

test("a policy decides when no rule does; a table that is not there decides nothing", () => {
  expect(forward([], {}, [":FORWARD DROP [0:0]"]).verdict).toMatchObject({ target: "DROP", rule: ":FORWARD DROP" });
  const ruling = ruleWith(readLive("*nat\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n"), () => false);
  expect(walk(ruling, "filter", "FORWARD", PACKET).verdict).toBeUndefined();
});

test("what only notes, marks or counts ends nothing; counters of iptables-save -c are no part of a rule", () => {
  const lines = [
    '[3:180] -A FORWARD -j LOG --log-prefix "in: "',
    "[3:180] -A FORWARD -j MARK --set-xmark 0x1/0xffffffff",
    "[3:180] -A FORWARD",
    "[3:180] -A FORWARD -j DROP",
  ];
  expect(forward(lines).verdict?.rule).toBe("-A FORWARD -j DROP");
});

test("a chain that was called returns, one that was gone to does not", () => {
  const chains = [":FORWARD ACCEPT [0:0]", ":INNER - [0:0]"];
  const inner = ["-A INNER -p udp -j DROP", "-A FORWARD -j DROP"];
  expect(forward(["-A FORWARD -j INNER", ...inner], {}, chains).verdict?.rule).toBe("-A FORWARD -j DROP");
  expect(forward(["-A FORWARD -g INNER", ...inner], {}, chains).verdict?.rule).toBe(":FORWARD ACCEPT");
  // A chain without rules is declared alone.
  expect(forward(["-A FORWARD -g INNER", "-A FORWARD -j DROP"], {}, chains).verdict?.rule).toBe(":FORWARD ACCEPT");
  expect(forward(["-A FORWARD -j INNER", "-A FORWARD -j DROP"], {}, chains).verdict?.rule).toBe("-A FORWARD -j DROP");
});

test("what tells sources apart is asked of rules that only the source keeps from matching", () => {
  const chains = [":FORWARD ACCEPT [0:0]", ":INNER - [0:0]"];
  const { asked } = forward(
    [
      "-A FORWARD -s 10.0.0.0/8 -p udp -j DROP",
      "-A FORWARD -s 10.1.0.0/16 -p tcp -j INNER",
      "-A FORWARD ! -s 10.2.0.0/16 -m mark --mark 1 -j DROP",
      "-A FORWARD -m conntrack --ctorigsrc 10.3.0.0/16 -j DROP",
      "-A INNER -s 10.4.0.0/16 -j DROP",
      "-A FORWARD -j ACCEPT",
      "-A FORWARD -s 10.5.0.0/16 -j DROP",
    ],
    {},
    chains,
  );
  expect(asked).toEqual(["10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16"]);
});

test.each<[string, string, string]>([
  ["drops", "-A FORWARD -m mark --mark 1 -j DROP", "end"],
  ["enters a chain that drops", "-A FORWARD -m mark --mark 1 -j INNER", "end"],
  ["goes to a chain that may not decide", "-A FORWARD -m mark --mark 1 -g EMPTY", "anything"],
  ["accepts", "-A FORWARD -m mark --mark 1 -j ACCEPT", "pass"],
  ["leaves it to a program", "-A FORWARD -m mark --mark 1 -j NFQUEUE --queue-num 1", "anything"],
  ["is of a target that is not known", "-A FORWARD -j SYNPROXY --mss 1460", "anything"],
])("what a doubt may do: it %s", (_what, rule, may) => {
  const chains = [":FORWARD ACCEPT [0:0]", ":INNER - [0:0]", ":EMPTY - [0:0]"];
  const { doubted } = forward([rule, "-A INNER -j DROP", "-A FORWARD -j REJECT"], {}, chains);
  expect(doubted).toEqual([{ rule, may }]);
});

test("a doubt inside a chain is reported with the rule itself", () => {
  const chains = [":FORWARD ACCEPT [0:0]", ":INNER - [0:0]"];
  const doubtful = "-A INNER -m set --match-set banned src -j DROP";
  const { verdict, doubts } = forward(["-A FORWARD -j INNER", doubtful, "-A FORWARD -j ACCEPT"], {}, chains);
  expect([verdict?.rule, doubts]).toEqual(["-A FORWARD -j ACCEPT", [doubtful]]);
});

test("no ruleset makes it throw or run on: not nonsense, not chains that call each other", () => {
  const chains = [":FORWARD ACCEPT [0:0]", ":A - [0:0]", ":B - [0:0]"];
  expect(forward(["-A FORWARD -j A", "-A A -j B", "-A B -j A"], {}, chains).verdict?.rule).toBe(":FORWARD ACCEPT");
  const word = fc.oneof(
    fc.string({ maxLength: 8 }),
    fc.constantFrom(
      "-j",
      "-g",
      "!",
      "-s",
      "-d",
      "-m",
      "--comment",
      "--dport",
      "DROP",
      "ACCEPT",
      "A",
      "::/0",
      "1.2.3.4/99",
      '"',
    ),
  );
  const rule = fc.array(word, { maxLength: 8 }).map((words) => `-A FORWARD ${words.join(" ").replace(/[\n\0]/g, "")}`);
  fc.assert(
    fc.property(fc.array(rule, { maxLength: 5 }), (lines) => {
      expect(forward(lines, {}, chains).verdict?.target).toBeTypeOf("string");
    }),
    { seed: 5, numRuns: 500 },
  );
});
