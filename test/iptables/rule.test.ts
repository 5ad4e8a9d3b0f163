// Spelling and reading of single rules.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  commentOf,
  hasOpenQuote,
  isInserted,
  isOurs,
  keyOf,
  mayBeOurs,
  readAdded,
  readChain,
  readComment,
  readRule,
  readWords,
  spell,
  unconditionalTarget,
} from "../../src/iptables/rule.ts";

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
    ['-m comment --comment "half', ["-m", "comment", "--comment", "half"]],
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
    [
      "what a comment says",
      rule.replace("-p tcp -m tcp --dport 80", '-m comment --comment "-p tcp -m tcp --dport 80"'),
    ],
    ["another target", rule.replace("ACCEPT", "DROP")],
  ])("%s makes one", (_what, other) => {
    expect(other).not.toBe(rule);
    expect(keyOf(words(other))).not.toBe(keyOf(words(rule)));
  });

  test.each([
    ["-m mark ! --mark 1 -m connmark --mark 1 -j", "-m mark --mark 1 -m connmark ! --mark 1 -j"],
    ["-m limit --limit 1/sec -m recent --set --name x -j", "-m recent --set --name x -m limit --limit 1/sec -j"],
    ["-m comment --comment ! -i lo -j", "-m comment --comment i ! -i lo -j"],
  ])("two rules with the same words are two: %s", (one, other) => {
    expect(keyOf(words(`-A FORWARD ${one} ACCEPT`))).not.toBe(keyOf(words(`-A FORWARD ${other} ACCEPT`)));
  });

  test("a comment that looks like options makes no rule another's", () => {
    const [tcp, udp] = [
      '-A FORWARD -p tcp -m comment --comment "-p udp" -j ACCEPT',
      '-A FORWARD -p udp -m comment --comment "-p tcp" -j ACCEPT',
    ].map(readWords);
    expect(keyOf(tcp ?? [])).not.toBe(keyOf(udp ?? []));
  });

  test("IPv6 addresses get their own mask", () => {
    expect(keyOf(words("-A FORWARD -d fd00::2 -j ACCEPT"))).toBe(keyOf(words("-A FORWARD -d fd00::2/128 -j ACCEPT")));
    expect(keyOf(words("-A FORWARD ! -s fe80::1 -j DROP"))).toBe(keyOf(words("-A FORWARD ! -s fe80::1/128 -j DROP")));
  });
});

describe("readRule", () => {
  test.each([
    ["[1:2] -A INPUT -i lo -j ACCEPT", "-A INPUT -i lo -j ACCEPT"],
    ["--append INPUT --source 192.0.2.1 --jump DROP", "-A INPUT -s 192.0.2.1 -j DROP"],
    ["--app INPUT --sourc a --dest b --in-i lo --proto tcp -j DROP", "-A INPUT -s a -d b -i lo -p tcp -j DROP"],
    ["-j DROP -I INPUT 2 -i lo", "-I INPUT 2 -j DROP -i lo"],
    ["-AINPUT -mstate --state=NEW -g x", "-A INPUT -m state --state NEW -g x"],
    ["-A INPUT -m comment --comment=--jump --goto x", "-A INPUT -m comment --comment --jump -g x"],
    ['-A INPUT -m comment --comment "--jump" -j x', "-A INPUT -m comment --comment --jump -j x"],
    [
      "-A INPUT -p tcp --source-port 1 --destination-port 2 --src-type x",
      "-A INPUT -p tcp --source-port 1 --destination-port 2 --src-type x",
    ],
    ["--new x", "-N x"],
    ["--set-counters 1 2 --insert INPUT", "-I INPUT -c 1 2"],
  ])("%s is %s", (line, rule) => {
    expect(readRule(line).join(" ")).toBe(rule);
  });
});

test.each([
  ['-A x --comment "a"', false],
  ['-A x --comment "a', true],
  ['-A x --comment "a\\" -j y', true],
  ['-A x --comment "a\\"" -j y', false],
  ['-A x --comment a\\" -j "', false],
  ["-A x --comment 'a", false],
])("whether a quote of %s is open: %s", (line, open) => {
  expect(hasOpenQuote(line)).toBe(open);
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
