// Tables as they run -> the few lines for `iptables-restore --noflush` that make them others. Pure.
//
// A table that is loaded anew takes the kernel 15 to 25 ms, and its rules count from 0; a rule that is added takes 5. The numbers hold only
// for exactly these tables: who uses the lines has to know that nothing else has changed in between.

import type { Live, LiveTable } from "./live.ts";
import { byChain } from "./rule.ts";

/** Each line that is not at its chain's end has iptables go through the chain. */
const MOST_LINES = 20;

/**
 * `wanted` has the lines of each table as iptables-save prints them, without counters, and names only tables that change. Undefined where
 * that is more than some rules and chains of a user's: a table that is new, a policy, many rules.
 */
export function differenceText({ tables }: Live, wanted: ReadonlyMap<string, readonly string[]>): string | undefined {
  const text: string[] = [];
  for (const [name, lines] of wanted) {
    const running = tables.get(name);
    const edits = running && tableEdits(running, lines);
    if (edits === undefined || edits.length > MOST_LINES) return undefined;
    text.push(`*${name}`, ...edits, "COMMIT");
  }
  return [...text, ""].join("\n");
}

function tableEdits(running: LiveTable, lines: readonly string[]): string[] | undefined {
  const declared = new Map(lines.filter((line) => line.startsWith(":")).map(readDeclaration));
  const created = [...declared].filter(([chain]) => !running.chains.has(chain));
  const isSamePolicy = ([chain, policy]: [string, string]) => (running.chains.get(chain) ?? "-") === policy;
  const dropped = [...running.chains].filter(([chain]) => !declared.has(chain));
  if (![...declared].every(isSamePolicy) || dropped.some(([, policy]) => policy !== "-")) return undefined;
  const rules = lines.filter((line) => !line.startsWith(":"));
  if (![...running.lines, ...rules].every((line) => PRINTED.test(line))) return undefined;
  const [before, after] = [byChain(running.lines), byChain(rules)];
  const edits = [...new Set([...before.keys(), ...after.keys()])].map((chain) =>
    chainEdits(chain, before.get(chain) ?? [], after.get(chain) ?? []),
  );
  if (!edits.every((one) => one !== undefined)) return undefined;
  return [
    ...created.map(([chain]) => `-N ${chain}`),
    ...edits.flatMap(({ deletions }) => deletions),
    ...edits.flatMap(({ insertions }) => insertions),
    ...dropped.map(([chain]) => `-X ${chain}`),
  ];
}

function readDeclaration(line: string): [chain: string, policy: string] {
  const [chain = "", policy = ""] = line.slice(1).split(" ");
  return [chain, policy];
}

/** A rule that iptables-save prints, without counters. */
const PRINTED = /^-A \S+ \S/;

/** What stands between the rules that both begin and end with is exchanged. */
function chainEdits(chain: string, before: readonly string[], after: readonly string[]) {
  const shorter = Math.min(before.length, after.length);
  let head = 0;
  while (head < shorter && before[head] === after[head]) head++;
  let tail = 0;
  while (tail < shorter - head && before.at(-1 - tail) === after.at(-1 - tail)) tail++;
  const going = before.slice(head, before.length - tail);
  const coming = after.slice(head, after.length - tail);
  if (going.length + coming.length > MOST_LINES) return undefined;
  // -D takes the first of equal rules.
  if (going.some((line) => before.indexOf(line) < head || before.lastIndexOf(line) >= before.length - tail))
    return undefined;
  const specOf = (line: string) => line.slice(`-A ${chain} `.length);
  return {
    deletions: going.map((line) => `-D ${chain} ${specOf(line)}`),
    insertions: coming.map((line, at) => (tail === 0 ? line : `-I ${chain} ${head + at + 1} ${specOf(line)}`)),
  };
}
