// compareLive: one container's rules against the kernel's.

import { describe, expect, test } from "vitest";
import {
  barrierOf,
  compareLive,
  type Drift,
  hasDockersRules,
  hasDrift,
  readLive,
  type Tables,
  withoutCounters,
} from "../../src/iptables/live.ts";
import { commentOf, readWords, spellLive } from "../../src/iptables/rule.ts";

const NONE: Tables = new Map();
const NO_DRIFT: Drift = { missing: [], surplus: 0, disordered: false };

function line(port: number, container = "web", chain = "FORWARD"): string {
  return `-A ${chain} -p tcp -m tcp --dport ${port} -m comment --comment "${commentOf(container)}" -j ACCEPT`;
}

const bare = (port: number) => `-A FORWARD -p tcp -m tcp --dport ${port} -j ACCEPT`;

function wanted(...lines: string[]): Tables {
  return new Map([["filter", lines.map(readWords)]]);
}

function live(...lines: string[]) {
  return readLive(["# by hand", "*filter", ":FORWARD ACCEPT [3:180]", ...lines, "COMMIT", ""].join("\n"));
}

describe("no drift", () => {
  test.each([
    ["the same rules", live(line(1), line(2))],
    ["other people's rules between them", live(bare(9), line(1), bare(8), line(2), bare(7))],
    ["other containers' rules between them", live(line(1), line(5, "db"), line(2))],
    ["a container whose name begins alike", live(line(1), line(5, "web2"), line(6, "we"), line(2))],
    ["the same rule without the comment, which is somebody else's", live(bare(1), line(1), line(2))],
    [
      "another order of the matches",
      live(`-A FORWARD -m comment --comment "${commentOf("web")}" -p tcp --dport 1 -j ACCEPT`, line(2)),
    ],
  ])("%s", (_what, running) => {
    expect(compareLive("web", wanted(line(1), line(2)), NONE, running)).toEqual(NO_DRIFT);
  });

  test("nothing wanted, nothing there", () => {
    expect(compareLive("web", NONE, NONE, live(line(1, "web2"), bare(1)))).toEqual(NO_DRIFT);
    expect(compareLive("web", NONE, NONE, readLive(""))).toEqual(NO_DRIFT);
  });

  test("order counts within a chain only", () => {
    const rules = wanted(line(1, "web", "ONE"), line(2, "web", "TWO"));
    expect(compareLive("web", rules, NONE, live(line(2, "web", "TWO"), line(1, "web", "ONE")))).toEqual(NO_DRIFT);
  });
});

describe("where a rule sends its packets", () => {
  test.each([
    ["a jump", "-A FORWARD -i eth0 -j MINE", "MINE"],
    ["a goto", "-A FORWARD -g MINE", "MINE"],
    ["behind a comment", '-A FORWARD -m comment --comment "to mine" -j MINE', "MINE"],
    ["in a comment", '-A FORWARD -m comment --comment "as -j MINE does" -j ACCEPT', "ACCEPT"],
    ["a comment of a word", "-A FORWARD -m comment --comment -j -j ACCEPT", "ACCEPT"],
    ["in the text of a log", '-A FORWARD -j LOG --log-prefix "no -j MINE "', "LOG"],
  ])("%s", (_what, rule, target) => {
    expect(live(rule).tables.get("filter")?.targets).toEqual(new Set([target]));
  });
});

describe("missing", () => {
  test.each([
    ["the table is not there", readLive("")],
    ["the rule is not there", live(line(2))],
    ["it is there without the comment", live(bare(1), line(2))],
    ["it is another container's", live(line(1, "web2"), line(2))],
    ["it stands in another table", readLive(`*mangle\n${line(1)}\nCOMMIT\n*filter\n${line(2)}\nCOMMIT\n`)],
    ["it stands in another chain", live(line(1, "web", "INPUT"), line(2))],
    ["it is wider", live(line(1).replace(" -p tcp -m tcp --dport 1", ""), line(2))],
  ])("%s", (_what, running) => {
    const { missing } = compareLive("web", wanted(line(1), line(2)), NONE, running);
    expect(missing).toContain(spellLive(readWords(line(1))));
  });
});

describe("a rule that is inserted", () => {
  const jump = `-I FORWARD -m comment --comment "${commentOf("web")}" -j USERS`;
  const answers = `-A FORWARD -o br0 -m comment --comment "${commentOf("web")}" -j ACCEPT`;
  const rules = wanted(jump, answers);
  const front = jump.replace("-I", "-A");

  test("is live where the kernel has it in front, and missing where it has it not", () => {
    expect(compareLive("web", rules, NONE, live(front, answers, bare(9)))).toEqual(NO_DRIFT);
    expect(compareLive("web", rules, NONE, live(answers)).missing).toEqual([spellLive(readWords(jump))]);
    expect(compareLive("web", rules, NONE, live(answers, front)).disordered).toBe(true);
  });

  test.each([
    ["any packet", "-A FORWARD -j ACCEPT"],
    ["some, wherever they go", "-A FORWARD -s 10.0.0.0/8 -m conntrack --ctstate ESTABLISHED -j ACCEPT"],
    ["what goes to the bridge", "-A FORWARD -i eth0 -o br0 -j ACCEPT"],
    ["what goes to any such bridge", "-A FORWARD -o br+ -j ACCEPT"],
    ["what goes elsewhere, but for one", "-A FORWARD ! -o eth0 -j ACCEPT"],
    ["by a chain", "-A FORWARD -j ONE"],
    ["by a chain that asks another", "-A FORWARD -o br0 -g TWO"],
  ])("is too late behind a rule that accepts %s", (_what, before) => {
    const chains = ["-A ONE -s 10.0.0.1/32 -j ACCEPT", "-A TWO -i lo -j RETURN", "-A TWO -j ONE"];
    const drift = compareLive(
      "web",
      rules,
      NONE,
      live(bare(9).replace("ACCEPT", "DROP"), before, front, answers, ...chains),
    );
    expect(drift).toEqual({ ...NO_DRIFT, ahead: before });
    expect(hasDrift(drift)).toBe(true);
    expect(compareLive("web", rules, NONE, live(front, before, answers, ...chains))).toEqual(NO_DRIFT);
  });

  test.each([
    ["refuses", "-A FORWARD -s 203.0.113.9/32 -j DROP"],
    ["accepts what goes elsewhere", "-A FORWARD -o eth0 -j ACCEPT"],
    ["accepts what goes to another bridge", "-A FORWARD -o br1 -j ACCEPT"],
    ["accepts what does not go there", "-A FORWARD ! -o br0 -j ACCEPT"],
    ["stands in another chain", "-A INPUT -j ACCEPT"],
    ["asks a chain that refuses", "-A FORWARD -j ONE"],
    ["asks a chain about another bridge", "-A FORWARD -o br1 -j TWO"],
    ["asks a chain that is not there", "-A FORWARD -j THREE"],
  ])("stands well behind a rule that %s", (_what, before) => {
    const chains = ["-A ONE -j DROP", "-A ONE -j ONE", "-A TWO -j ACCEPT"];
    expect(compareLive("web", rules, NONE, live(before, front, answers, ...chains))).toEqual(NO_DRIFT);
  });

  test("may be anywhere if its fragment is about no bridge", () => {
    expect(compareLive("web", wanted(jump), NONE, live(bare(9), front))).toEqual(NO_DRIFT);
  });
});

describe("surplus", () => {
  test("every rule with the container's comment that is not wanted, in any table", () => {
    const running = readLive(
      `*nat\n${line(1)}\n${line(2, "web2")}\nCOMMIT\n*filter\n${line(1)}\n${line(3)}\n${line(4)}\nCOMMIT\n`,
    );
    expect(compareLive("web", wanted(line(1)), NONE, running)).toEqual({ ...NO_DRIFT, surplus: 3 });
  });

  test("the original's rules have no comment: they are known from the fragment that is removed", () => {
    const former = new Map([["filter", [readWords("-A FORWARD -d 172.17.0.2 -j ACCEPT"), readWords(bare(1))]]]);
    const running = live(bare(1), "-A FORWARD -d 172.17.0.2/32 -j ACCEPT", line(1));
    expect(compareLive("web", wanted(line(1)), former, running)).toEqual({ ...NO_DRIFT, surplus: 2 });
    expect(compareLive("web", wanted(line(1)), former, live(line(1)))).toEqual(NO_DRIFT);
  });

  test("the former fragment's rules with the comment count once", () => {
    expect(compareLive("web", NONE, wanted(line(1)), live(line(1)))).toEqual({ ...NO_DRIFT, surplus: 1 });
  });

  test("a rule that stays is no surplus, though the former fragment had it", () => {
    expect(compareLive("web", wanted(line(1)), wanted(line(1)), live(line(1)))).toEqual(NO_DRIFT);
  });
});

test("all there in a different order is disorder, and nothing else", () => {
  const drift = compareLive("web", wanted(line(1), line(2), line(3)), NONE, live(line(1), line(3), bare(9), line(2)));
  expect(drift).toEqual({ ...NO_DRIFT, disordered: true });
});

test("any of the three is drift", () => {
  expect(hasDrift(NO_DRIFT)).toBe(false);
  expect(hasDrift({ ...NO_DRIFT, missing: ["-A FORWARD"] })).toBe(true);
  expect(hasDrift({ ...NO_DRIFT, surplus: 1 })).toBe(true);
  expect(hasDrift({ ...NO_DRIFT, disordered: true })).toBe(true);
});

test.each([
  ["*nat\n-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\nCOMMIT\n", true],
  ["*nat\n-A OUTPUT ! -d 127.0.0.0/8 -j DOCKER -m comment --comment x\nCOMMIT\n", true],
  ["*nat\n:DOCKER - [0:0]\n-A PREROUTING -j DOCKER_CONTAINERS\nCOMMIT\n", false],
  ["*filter\n-A FORWARD -j DOCKER\nCOMMIT\n", false],
  ['*nat\n-A OUTPUT -m comment --comment "not -j DOCKER any more" -j ACCEPT\nCOMMIT\n', false],
  ["", false],
])("Docker's own rules in %j: %s", (text, there) => {
  expect(hasDockersRules(readLive(text))).toBe(there);
});

test("two listings of one state are equal without counters, dates and versions", () => {
  const first =
    "# Generated on Mon\n*filter\n:FORWARD DROP [3:180]\n-A FORWARD -j ACCEPT\nCOMMIT\n# Completed on Mon\n";
  const later =
    "# Generated on Tue\n*filter\n:FORWARD DROP [9:999]\n-A FORWARD -j ACCEPT\nCOMMIT\n# Completed on Tue\n";
  expect(withoutCounters(first)).toBe(withoutCounters(later));
  expect(withoutCounters(first)).not.toBe(withoutCounters(first.replace("DROP", "ACCEPT")));
});

describe("barrierOf", () => {
  const barrier = (...lines: string[]) =>
    barrierOf("filter", "FORWARD", readLive(["*filter", ":FORWARD ACCEPT [0:0]", ...lines, "COMMIT", ""].join("\n")));

  test.each([
    ["-A FORWARD -j DROP"],
    ["-A FORWARD -j REJECT --reject-with icmp-port-unreachable"],
    [String.raw`-A FORWARD -m comment --comment "the \"end\"" -j DROP`],
  ])("%s hides what stands behind it", (rule) => {
    const found = barrier(line(80), rule, line(81));
    expect(found?.rule).toBe(rule);
    expect(found?.hides(readWords(line(80)))).toBe(false);
    expect(found?.hides(readWords(line(81)))).toBe(true);
    expect(found?.hides(readWords(line(82)))).toBe(false);
  });

  test.each([
    ["-A FORWARD -j ACCEPT"],
    ["-A FORWARD -j RETURN"],
    ["-A FORWARD -i eth0 -j DROP"],
    ["-A INPUT -j DROP"],
    ["-A FORWARDED -j DROP"],
    [String.raw`-A FORWARD -m comment --comment "no \" -j DROP" -i eth0 -j DROP`],
  ])("%s hides nothing", (rule) => {
    expect(barrier(rule, line(81))).toBeUndefined();
  });
});
