// Spelling and reading of single rules.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  commentOf,
  isInserted,
  isOurs,
  keyOf,
  mayBeOurs,
  readAdded,
  readChain,
  readComment,
  readWords,
  spell,
  unconditionalTarget,
} from "../../src/rules/rule.ts";

const words = (line: string) => line.split(" ");

describe("spell and readWords", () => {
  test.each([
    [["-A", "FORWARD", "-j", "ACCEPT"], "-A FORWARD -j ACCEPT"],
    [["--comment", "docker_iptables: web"], '--comment "docker_iptables: web"'],
    [["--comment", ""], '--comment ""'],
    [["--comment", `say "it's"`], '--comment "say \\"it\\\'s\\""'],
    [["--comment", "back\\slash"], '--comment "back\\\\slash"'],
  ])("%j is %s", (rule, line) => {
    expect(spell(rule)).toBe(line);
    expect(readWords(line)).toEqual(rule);
  });

  test("what is spelled is read as it was", () => {
    const word = fc.string({ unit: fc.constantFrom(..."ab-!\"'\\ \t:[]{}#,é") });
    const rules = fc.array(word, { maxLength: 12 });
    const property = fc.property(rules, (rule) => {
      expect(readWords(spell(rule))).toEqual(rule);
    });
    fc.assert(property, { seed: 1, numRuns: 1000 });
  });

  test.each([
    ["  -A   FORWARD\t-j ACCEPT  ", ["-A", "FORWARD", "-j", "ACCEPT"]],
    ["", []],
    ["   ", []],
    ['-m comment --comment "half', ["-m", "comment", "--comment", '"half']],
  ])("%j reads as words", (line, read) => {
    expect(readWords(line)).toEqual(read);
  });
});

describe("keyOf", () => {
  const rule = "-A FORWARD -d 172.17.0.2/32 ! -i br0 -o br0 -p tcp -m tcp --dport 80 -j ACCEPT";

  test.each([
    ["the order of the clauses", "-A FORWARD -p tcp -m tcp --dport 80 -o br0 ! -i br0 -d 172.17.0.2/32 -j ACCEPT"],
    ["an address without its mask", rule.replace("/32", "")],
    ["the implied -m tcp", rule.replace(" -m tcp", "")],
    ["--append for -A", rule.replace("-A", "--append")],
  ])("%s makes no difference", (_what, other) => {
    expect(other).not.toBe(rule);
    expect(keyOf(words(other))).toBe(keyOf(words(rule)));
  });

  test.each([
    ["another chain", rule.replace("FORWARD", "INPUT")],
    ["a negation less", rule.replace("! ", "")],
    ["a negation elsewhere", rule.replace("! -i br0 -o br0", "-i br0 ! -o br0")],
    ["interfaces the other way round", rule.replace("! -i br0 -o br0", "! -o br0 -i br0")],
    ["source for destination", rule.replace("-d", "-s")],
    ["a wider mask", rule.replace("/32", "/24")],
    ["another protocol", rule.replaceAll("tcp", "udp")],
    ["another port", rule.replace("80", "81")],
    ["a match more", rule.replace("-j", "-m conntrack --ctstate NEW -j")],
    ["a comment", rule.replace("-j", "-m comment --comment x -j")],
    ["another target", rule.replace("ACCEPT", "DROP")],
  ])("%s makes one", (_what, other) => {
    expect(other).not.toBe(rule);
    expect(keyOf(words(other))).not.toBe(keyOf(words(rule)));
  });

  test("IPv6 addresses get their own mask", () => {
    expect(keyOf(words("-A FORWARD -d fd00::2 -j ACCEPT"))).toBe(keyOf(words("-A FORWARD -d fd00::2/128 -j ACCEPT")));
    expect(keyOf(words("-A FORWARD ! -s fe80::1 -j DROP"))).toBe(keyOf(words("-A FORWARD ! -s fe80::1/128 -j DROP")));
  });
});

test.each([
  [["-A", "FORWARD", "-m", "comment", "--comment", "x"], "x", "FORWARD"],
  [["--append", "FORWARD"], undefined, "FORWARD"],
  [["-I", "FORWARD", "2"], undefined, "FORWARD"],
  [["--insert", "FORWARD"], undefined, "FORWARD"],
  [["-D", "FORWARD"], undefined, undefined],
  [["-N", "FORWARD", "--comment"], undefined, undefined],
  [[], undefined, undefined],
])("comment and chain of %j", (rule, comment, chain) => {
  expect(readComment(rule)).toBe(comment);
  expect(readChain(rule)).toBe(chain);
});

test.each([
  ["-A FORWARD -j DROP", "-A FORWARD -j DROP", undefined],
  ["--append FORWARD -j DROP", "--append FORWARD -j DROP", undefined],
  ["-I FORWARD -j DROP", "-A FORWARD -j DROP", 0],
  ["--insert FORWARD 1 -j DROP", "-A FORWARD -j DROP", 0],
  ["-I FORWARD 12 -p tcp -j DROP", "-A FORWARD -p tcp -j DROP", 11],
  ["-I FORWARD", "-A FORWARD", 0],
])("%s adds '%s' at %s", (line, rule, place) => {
  expect(readAdded(words(line))).toEqual({ rule: words(rule), place });
  expect(isInserted(words(line))).toBe(place !== undefined);
});

test.each(["-N FORWARD", "-D FORWARD -j DROP", "-R FORWARD 1 -j DROP", ":FORWARD ACCEPT [0:0]", ""])(
  "'%s' adds nothing",
  (line) => {
    expect(readAdded(words(line))).toBeUndefined();
  },
);

describe("unconditionalTarget", () => {
  test.each([
    ["-A FORWARD -j DROP", "DROP"],
    ["-A FORWARD -j REJECT --reject-with icmp-port-unreachable", "REJECT"],
    ["-A INPUT -g LATER", "LATER"],
    ["-A FORWARD -m comment --comment last -j DROP", "DROP"],
    ['-A FORWARD -m comment --comment "the last" -j DROP', "DROP"],
    ['-A FORWARD -m comment --comment "" -j DROP', "DROP"],
    [String.raw`-A FORWARD -m comment --comment "the \"last\" one" -j DROP`, "DROP"],
    [String.raw`-A FORWARD -m comment --comment "it ends with \\" -j DROP`, "DROP"],
    ['-A FORWARD -m comment --comment "one" -m comment --comment two -j DROP', "DROP"],
  ])("%s", (line, target) => {
    expect(unconditionalTarget(line)).toBe(target);
  });

  test.each([
    ["-A FORWARD -i eth0 -j DROP"],
    ["-A FORWARD ! -i eth0 -j DROP"],
    ['-A FORWARD -i eth0 -m comment --comment "last" -j DROP'],
    [String.raw`-A FORWARD -m comment --comment "not \" -j DROP" -i eth0 -j ACCEPT`],
    ['-A FORWARD -m comment --comment "not -j DROP" -i eth0 -j ACCEPT'],
    ['-A FORWARD -m comment --comment "half -j DROP'],
    ["-A FORWARD -p tcp"],
    ["-A FORWARD"],
    ["-P FORWARD DROP"],
    [":FORWARD DROP [0:0]"],
    [""],
  ])("none: %j", (line) => {
    expect(unconditionalTarget(line)).toBeUndefined();
  });
});

describe("mayBeOurs and isOurs", () => {
  test.each([[commentOf("web")], [commentOf("(10_docker)")], [commentOf("")], [commentOf(`odd "'\\ name`)]])(
    "%j is a comment of ours",
    (comment) => {
      const line = spell(["-A", "FORWARD", "-m", "comment", "--comment", comment, "-j", "ACCEPT"]);
      expect(isOurs(readWords(line))).toBe(true);
      expect(mayBeOurs(line)).toBe(true);
    },
  );

  test.each([
    ["-A FORWARD -j ACCEPT"],
    ["-A FORWARD -m comment --comment docker_iptables: -j ACCEPT"],
    ['-A FORWARD -m comment --comment "as docker_iptables: web" -j ACCEPT'],
    ['-A FORWARD -m comment --comment "docker_iptables:web" -j ACCEPT'],
  ])("%s is another's", (line) => {
    expect(isOurs(readWords(line))).toBe(false);
    expect(mayBeOurs(line)).toBe(false);
  });
});
