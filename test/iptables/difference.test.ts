// differenceText: few lines make running tables others, and what is more than that is loaded.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { differenceText } from "../../src/iptables/difference.ts";
import { type Live, readLive } from "../../src/iptables/live.ts";
import { goalOf, patchText } from "../../src/iptables/patch.ts";
import { anyCase, applyPatch, linesOf, type Model, saveModel } from "./patch-model.ts";

const CHAINS = [":INPUT ACCEPT", ":FORWARD DROP"];
const rule = (number: number, chain = "FORWARD") => `-A ${chain} -s 10.0.0.${number}/32 -j ACCEPT`;
const rules = (...numbers: number[]) => numbers.map((number) => rule(number));

const MANY = Array.from({ length: 21 }, (_, at) => at);

function live(...lines: string[]): Live {
  return readLive(["*filter", ...CHAINS.map((chain) => `${chain} [3:180]`), ...lines, "COMMIT", ""].join("\n"));
}

/** The lines for the one table. */
function lines(from: Live, ...wanted: string[]): string[] | undefined {
  const text = differenceText(from, new Map([["filter", wanted]]));
  return text?.split("\n").filter((line) => !/^(\*filter|COMMIT|)$/.test(line));
}

describe("what changes", () => {
  test.each([
    ["a rule at the end", live(rule(1)), rules(1, 2), [rule(2)]],
    ["a rule before others", live(...rules(1, 3)), rules(1, 2, 3), ["-I FORWARD 2 -s 10.0.0.2/32 -j ACCEPT"]],
    ["a rule that goes", live(...rules(1, 2, 3)), rules(1, 3), ["-D FORWARD -s 10.0.0.2/32 -j ACCEPT"]],
    [
      "one for another",
      live(...rules(1, 2, 3)),
      rules(1, 4, 3),
      ["-D FORWARD -s 10.0.0.2/32 -j ACCEPT", "-I FORWARD 2 -s 10.0.0.4/32 -j ACCEPT"],
    ],
    [
      "all twins of a rule, which stand together",
      live(...rules(1, 2, 2, 3)),
      rules(1, 3),
      ["-D FORWARD -s 10.0.0.2/32 -j ACCEPT", "-D FORWARD -s 10.0.0.2/32 -j ACCEPT"],
    ],
  ])("%s", (_what, from, to, expected) => {
    expect(lines(from, ...CHAINS, ...to)).toEqual(expected);
  });

  test("a chain comes before the rules that lead there, and goes after them", () => {
    const jump = "-A FORWARD -j MINE";
    const mine = [":MINE -", rule(1, "MINE"), jump];
    expect(lines(live(), ...CHAINS, ...mine)).toEqual(["-N MINE", "-A MINE -s 10.0.0.1/32 -j ACCEPT", jump]);
    const back = ["-D MINE -s 10.0.0.1/32 -j ACCEPT", "-D FORWARD -j MINE", "-X MINE"];
    expect(lines(live(":MINE - [0:0]", rule(1, "MINE"), jump), ...CHAINS)).toEqual(back);
  });
});

describe("what is loaded", () => {
  test.each([
    ["a policy", live(), [":INPUT DROP", ":FORWARD DROP"]],
    ["a built-in chain that is not there yet", live(), [...CHAINS, ":OUTPUT ACCEPT"]],
    ["a twin: -D would take the other one", live(...rules(2, 1, 2)), [...CHAINS, ...rules(2, 1)]],
    ["a rule with counters", live(), [...CHAINS, `[1:60] ${rule(1)}`]],
    ["what takes a rule away", live(rule(1)), [...CHAINS, rule(1), "-D FORWARD 1"]],
    ["many rules", live(), [...CHAINS, ...rules(...MANY)]],
    ["many that go", live(...rules(...MANY)), CHAINS],
  ])("%s", (_what, from, wanted) => {
    expect(lines(from, ...wanted)).toBeUndefined();
  });

  test("a table that the kernel does not have", () => {
    expect(differenceText(live(), new Map([["nat", [":PREROUTING ACCEPT"]]]))).toBeUndefined();
  });
});

test("property: the kernel then has what is wanted, rule by rule", () => {
  let made = 0;
  fc.assert(
    fc.property(anyCase, ({ live: model, fragments }) => {
      const from = readLive(saveModel(model));
      const patch = patchText(goalOf(fragments, [], from), from);
      // Of a change and of its way back.
      for (const [before, after] of patch === undefined ? [] : bothWays(model, applyPatch(model, patch))) {
        const text = differenceText(readLive(saveModel(before)), linesOf(after));
        // A load names all tables that there are.
        if (text === undefined || [...before.keys()].join() !== [...after.keys()].join() || after.size === 0) continue;
        made++;
        expect(rulesOf(applyPatch(before, text))).toEqual(rulesOf(after));
      }
    }),
    { numRuns: 1000 },
  );
  expect(made).toBeGreaterThan(200);
});

function bothWays(one: Model, other: Model): [Model, Model][] {
  return [
    [one, other],
    [other, one],
  ];
}

/** Empty built-in chains are as good as none. */
function rulesOf(model: Model) {
  const spelled = [...model].flatMap(([table, chains]) =>
    [...chains].map(([chain, all]) => [`${table} ${chain}`, all.map(({ spec }) => spec)] as const),
  );
  return Object.fromEntries(spelled.filter(([name, all]) => all.length > 0 || !/^\S+ [A-Z]+$/.test(name)));
}
