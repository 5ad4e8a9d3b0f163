// compareLive: one container's rules against the kernel's.

import { describe, expect, test } from "vitest";
import {
  barrierOf,
  compareLive,
  type Drift,
  drifts,
  hasDockersRules,
  readLive,
  type Tables,
  withoutCounters,
} from "../../src/rules/live.ts";
import { commentOf, readWords } from "../../src/rules/rule.ts";

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
    expect(missing).toContainEqual(readWords(line(1)));
  });
});

describe("surplus", () => {
  test("every rule with the container's comment that is not wanted, in any table", () => {
    const running = readLive(
      `*nat\n${line(1)}\n${line(2, "web2")}\nCOMMIT\n*filter\n${line(1)}\n${line(3)}\n${line(4)}\nCOMMIT\n`,
    );
    expect(compareLive("web", wanted(line(1)), NONE, running)).toEqual({ ...NO_DRIFT, surplus: 3 });
  });

  test("the original's rules carry no comment: they are known from the fragment that goes", () => {
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

test("all there in another order is disorder, and nothing else", () => {
  const drift = compareLive("web", wanted(line(1), line(2), line(3)), NONE, live(line(1), line(3), bare(9), line(2)));
  expect(drift).toEqual({ ...NO_DRIFT, disordered: true });
});

test("any of the three is drift", () => {
  expect(drifts(NO_DRIFT)).toBe(false);
  expect(drifts({ ...NO_DRIFT, missing: [["-A", "FORWARD"]] })).toBe(true);
  expect(drifts({ ...NO_DRIFT, surplus: 1 })).toBe(true);
  expect(drifts({ ...NO_DRIFT, disordered: true })).toBe(true);
});

test.each([
  ["*nat\n-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\nCOMMIT\n", true],
  ["*nat\n-A OUTPUT ! -d 127.0.0.0/8 -j DOCKER -m comment --comment x\nCOMMIT\n", true],
  ["*nat\n:DOCKER - [0:0]\n-A PREROUTING -j DOCKER_CONTAINERS\nCOMMIT\n", false],
  ["*filter\n-A FORWARD -j DOCKER\nCOMMIT\n", false],
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
