// The fragments of one family in the spelling of iptables itself. Pure.
//
// A trial has loaded all of them as one text, each rule with a mark of its line; what iptables-save prints there is what it will
// print on the host. The result is fragments again: the rules in the kernel's order, each under the path that it
// came from, so that one path may come several times.

import { type Assembled, type Fragment, isFront } from "./assemble.ts";
import { isManaged } from "./fragment-text.ts";
import { readMark } from "./line-marks.ts";
import { readChain, readWords, spell, uncounted } from "./rule.ts";
import { builtInChains, readTables, type Section, tablesOf } from "./table-text.ts";

/** A rule, and the line of the assembled text that it came from. */
interface Placed {
  text: string;
  at: number;
}

/** `marked` is what iptables-save printed in the trial of `assembled`; `untried` lines, which it left out, stay as written. */
export function spelledFragments(
  fragments: readonly Fragment[],
  { lines, origins }: Pick<Assembled, "lines" | "origins">,
  marked: string,
  untried: readonly number[],
): Fragment[] {
  const marks = new Map(fragments.map(({ path, text }) => [path, isManaged(text) ? text.split("\n", 1) : []]));
  const sections = new Map(readTables(marked).sections.map((section) => [section.table, section]));
  const left = asWritten(lines, untried);
  const tables = [...new Set([...sections.keys(), ...left.keys()])];
  const runs = tables.flatMap((table) => {
    const printed = (sections.get(table)?.lines ?? []).map(({ text }) => asAdded(readMark(text), lines));
    return runsOf(withUntried(printed, left.get(table) ?? []), (at) => origins[at]?.path ?? "").map((run) => ({
      path: run.path,
      text: textOf(marks.get(run.path) ?? [], [[table, run.rules]]),
    }));
  });
  return [...fragments.map((fragment) => declarationsOf(fragment, marks.get(fragment.path) ?? [], sections)), ...runs];
}

/** What we insert stays an insertion: it comes before whatever a load keeps. */
function asAdded({ text, at }: Placed, lines: readonly string[]): Placed {
  return { text: isFront(lines[at] ?? "") ? text.replace(/^-A /, "-I ") : text, at };
}

/** Lines that no trial could load, as our parser writes their words, by table. */
function asWritten(lines: readonly string[], untried: readonly number[]): Map<string, Placed[]> {
  const left = new Map<string, Placed[]>();
  const leftOut = new Set(untried);
  let table = "";
  for (const [at, line] of lines.entries()) {
    if (line.startsWith("*")) table = line.slice(1);
    if (!leftOut.has(at)) continue;
    const rule = readWords(uncounted(line));
    if (readChain(rule) !== undefined) left.set(table, [...(left.get(table) ?? []), { text: spell(rule), at }]);
  }
  return left;
}

/** Each behind those before it in its chain. */
function withUntried(printed: readonly Placed[], untried: readonly Placed[]): Placed[] {
  const rules = [...printed];
  for (const one of untried) {
    const chain = readChain(readWords(one.text));
    const isBefore = ({ text, at }: Placed) => at < one.at && readChain(readWords(text)) === chain;
    const after = rules.filter(isBefore).at(-1);
    rules.splice(after === undefined ? 0 : rules.indexOf(after) + 1, 0, one);
  }
  return rules;
}

/** What follows one another and is of one fragment. */
function runsOf(rules: readonly Placed[], pathOf: (at: number) => string): { path: string; rules: string[] }[] {
  const runs: { path: string; rules: string[] }[] = [];
  for (const { text, at } of rules) {
    const path = pathOf(at);
    const open = runs.at(-1);
    if (open?.path === path) open.rules.push(text);
    else runs.push({ path, rules: [text] });
  }
  return runs;
}

/** The chains that a fragment declares and the policies that it states, as they came out. */
function declarationsOf(fragment: Fragment, mark: readonly string[], printed: ReadonlyMap<string, Section>): Fragment {
  const tables = tablesOf(fragment).sections.map(({ table, chains, lines }) => {
    const stated = new Map(chains);
    for (const line of lines) {
      const [option = "", chain = "", policy = "-"] = readWords(uncounted(line.text));
      if (/^(-N|--new-chain)$/.test(option)) stated.set(chain, "-");
      if (/^(-P|--policy)$/.test(option)) stated.set(chain, policy);
    }
    const isStated = ([chain, policy]: [string, string]) => policy !== "-" || !builtInChains(table).includes(chain);
    const policies = [...stated].filter(isStated).map(([chain, policy]) => {
      return `:${chain} ${printed.get(table)?.chains.get(chain) ?? policy} [0:0]`;
    });
    return [table, policies] as const;
  });
  return { path: fragment.path, text: textOf(mark, tables) };
}

function textOf(mark: readonly string[], tables: readonly (readonly [string, readonly string[]])[]): string {
  const sections = tables.flatMap(([table, lines]) => [`*${table}`, ...lines, "COMMIT"]);
  return [...mark, ...sections, ""].join("\n");
}
