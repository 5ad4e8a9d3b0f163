// What people write, and what iptables-save prints of it (test/spellings/table.json, recorded): after a trial, nothing of a loaded
// fragment is undeclared, changed or removed, and two rules are never taken for one.

import { describe, expect, test } from "vitest";
import { assemble } from "../../src/iptables/assemble.ts";
import { withMark } from "../../src/iptables/line-marks.ts";
import { readLive } from "../../src/iptables/live.ts";
import { lostRules } from "../../src/iptables/lost.ts";
import { keyOf, readWords } from "../../src/iptables/rule.ts";
import { spelledFragments } from "../../src/iptables/spelled.ts";
import { builtInChains } from "../../src/iptables/table-text.ts";
import { listUndeclared, undeclaredOf } from "../../src/iptables/undeclared.ts";
import { FAMILIES } from "../../src/model/family.ts";
import { BACKENDS, printedOf, readSpellings, textOf } from "../lab/spellings.ts";

const SPELLINGS = readSpellings();
const NOTHING = readLive("");

/** Each rule of the table that is taken, with what is printed of it. */
const ALL = BACKENDS.flatMap((backend) =>
  FAMILIES.flatMap((family) =>
    SPELLINGS.flatMap((spelling) => {
      const printed = printedOf(spelling, family, backend);
      return printed === "refused"
        ? []
        : [{ ...spelling, printed, name: `${spelling.written.join("; ")} (${family}, ${backend})` }];
    }),
  ),
);

/** The output of iptables-save: tables and policies that every kernel has, too; `from`: each rule with the mark of that line. */
function saved(table: string, printed: readonly string[], from?: number): string {
  const text: string[] = [];
  const lines = printed[0]?.startsWith("*") ? printed : [`*${table}`, ...printed];
  let open = "";
  for (const line of lines) {
    if (line.startsWith("*")) {
      if (open !== "") text.push("COMMIT");
      open = line.slice(1);
      const stated = new Set(lines.filter((one) => one.startsWith(":")).map((one) => one.split(" ")[0]?.slice(1)));
      text.push(
        line,
        ...builtInChains(open)
          .filter((chain) => !stated.has(chain))
          .map((chain) => `:${chain} ACCEPT [0:0]`),
      );
    } else if (line.startsWith(":")) text.push(`${line} [0:0]`);
    else text.push(from === undefined ? line : withMark(line, from, "comment"));
  }
  return [...text, "COMMIT", ""].join("\n");
}

test("the table has what people write, of both families", () => {
  expect(SPELLINGS.length).toBeGreaterThan(200);
  expect(ALL.filter(({ written, printed }) => written.join() !== printed.join()).length).toBeGreaterThan(400);
});

describe("a fragment that was loaded", () => {
  test.each(ALL)("$name", ({ table, printed, ...spelling }) => {
    const fragments = [{ path: "/etc/iptables.d/05_host", text: textOf({ table, ...spelling }) }];
    const live = readLive(saved(table, printed));
    const assembled = assemble(fragments, [], NOTHING);
    expect(assembled.problems).toEqual([]);
    const from = assembled.lines.findIndex((line) => /^[[-]/.test(line));
    const spelled = spelledFragments(fragments, assembled, saved(table, printed, from), []);

    expect(listUndeclared(undeclaredOf(live, spelled, []))).toEqual([]);
    const again = readLive(assemble(spelled, live.tables.keys(), live).lines.join("\n"));
    for (const [name, { chains, lines }] of live.tables) {
      expect(again.tables.get(name)?.lines).toEqual(lines);
      expect(again.tables.get(name)?.chains).toEqual(chains);
    }
    expect(lostRules(live, NOTHING, spelled, []).undeclared).toEqual([]);
  });
});

test("two rules that are printed differently never have one key", () => {
  const known = new Map<string, string>();
  for (const line of ALL.flatMap(({ printed }) => printed).filter((one) => one.startsWith("-"))) {
    const key = keyOf(readWords(line));
    expect(known.get(key) ?? line, `the key of ${line}`).toBe(line);
    known.set(key, line);
  }
  expect(known.size).toBeGreaterThan(200);
});

test("what is written otherwise has one key only where one rule is printed", () => {
  const known = new Map<string, string>();
  for (const { written, printed, name } of ALL) {
    const [line = "", ...more] = written;
    if (more.length > 0 || !line.startsWith("-A ")) continue;
    const key = `${name.replace(/.*\(/, "")} ${keyOf(readWords(line))}`;
    expect(known.get(key) ?? printed.join("\n"), line).toBe(printed.join("\n"));
    known.set(key, printed.join("\n"));
  }
});
