// Any text may stand in a fragment or come from a command: reading it never throws, and never takes for ever.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { assemble, textOf } from "../../src/fragments/assemble.ts";
import { markOf, readFragment } from "../../src/rules/fragment-text.ts";
import { compareLive, hasDockersRules, readLive, withoutCounters } from "../../src/rules/live.ts";
import { goalOf, patchText } from "../../src/rules/patch.ts";
import { keyOf, readComment, readWords } from "../../src/rules/rule.ts";
import { readTables } from "../../src/rules/table-text.ts";

const pieces = [
  ...["*filter", "*nat", "*", "COMMIT", ":FORWARD DROP [0:0]", ":X - [0:0]", ":", "-A", "-N", "FORWARD", "X", "#"],
  ...["-m comment --comment", "docker_iptables: web", '"', "\\", "!", "-d", "1.2.3.4", "[1:2] ", "\n", "\n", "\n"],
  ...["\r", "\t", " ", " ", "\0", "\u2028", "é", "\ud800", "__proto__", "constructor", "*toString", "*__proto__"],
];
const text = fc.oneof(
  fc.array(fc.constantFrom(...pieces), { maxLength: 60 }).map((parts) => parts.join("")),
  fc.string({ unit: "binary", maxLength: 200 }),
);

/** Everything that reads a text, each with the same one. */
function readAll(garbage: string): void {
  readTables(garbage);
  withoutCounters(garbage);
  const fragment = readFragment(garbage);
  const live = readLive(garbage);
  hasDockersRules(live);
  compareLive("web", fragment, fragment, live);
  compareLive("web", new Map(), fragment, live);
  assemble([{ path: "/d/1", text: garbage }], ["filter", garbage.slice(0, 20)], live);
  patchText(goalOf([{ text: garbage }, { text: `${markOf("web")}\n${garbage}` }], [fragment], live), live);
  const words = readWords(garbage);
  keyOf(words);
  readComment(words);
}

test("no text makes a reader throw", () => {
  fc.assert(
    fc.property(text, (garbage) => {
      readAll(garbage);
    }),
    { seed: 4, numRuns: 2000 },
  );
});

test("what has no problem in it loses no rule on its way through assemble", () => {
  const property = fc.property(text, (garbage) => {
    const { sections, problems } = readTables(garbage);
    fc.pre(problems.length === 0);
    const rules = sections
      .flatMap(({ lines }) => lines.map((line) => line.text))
      .filter((line) => !/^-N|^--n/.test(line));
    const assembled = textOf(assemble([{ path: "/d/1", text: garbage }], [], readLive("")));
    const kept = readTables(assembled).sections.flatMap(({ lines }) => lines.map((line) => line.text));
    expect([...kept].sort()).toEqual([...rules].sort());
  });
  fc.assert(property, { seed: 5, numRuns: 500 });
});

describe("a megabyte of it is read before the test's time is up", () => {
  test.each([
    ["quotes that never close", '"a '],
    ["escaped quotes", '"a\\"b '],
    ["backslashes", '"\\'],
    ["sections of one table", "*nat\n-A X\nCOMMIT\n"],
    ["sections that never end", "*nat\n"],
    ["one rule again and again", '*nat\n-A X -m comment --comment "docker_iptables: web"\n'],
    ["chains", ":X - [0:0]\n"],
    ["counters that never end", "[1"],
    ["blanks", " "],
    ["blank lines", " \n"],
    ["negations", "! "],
    ["junk", "junk\n"],
  ])("%s", (_what, piece) => {
    const garbage = piece.repeat(Math.ceil(1_000_000 / piece.length));
    for (const whole of [garbage, `*nat\n-A ${garbage}`]) expect(() => readAll(whole)).not.toThrow();
  });
});
