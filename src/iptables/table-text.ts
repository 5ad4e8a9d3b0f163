// The text format of iptables-save and iptables-restore: sections of one table each. Pure.
// It reads what iptables-restore reads (iptables 1.8), and says on which line it would refuse.

import { hasOpenQuote } from "./rule.ts";

/** One `*table … COMMIT` section. */
export interface Section {
  table: string;
  /** Declared chains with their policy; "-" for a chain of the user's own. */
  chains: ReadonlyMap<string, string>;
  /** The other lines: `-A …`, and whatever else iptables accepts, unchanged except for blanks before the rule. */
  lines: readonly { number: number; text: string }[];
}

export interface Problem {
  line: number;
  why: string;
}

export interface TableText {
  sections: readonly Section[];
  problems: readonly Problem[];
}

/** A rule may have counters before it, and blanks around them. */
const RULE = /^\s*(\[\d+:\d+\])?\s*-/;

/** A whole file or output. What is wrong becomes a problem; the rest is still read. */
export function readTables(text: string): TableText {
  const sections: Section[] = [];
  const problems: Problem[] = [];
  let open: { table: string; chains: Map<string, string>; lines: { number: number; text: string }[] } | undefined;
  const lines = text.split("\n");
  for (const [index, line] of lines.entries()) {
    const number = index + 1;
    if (line === "" || line.startsWith("#")) continue;
    if (line.trim() === "") continue;
    if (line.endsWith("\r")) problems.push({ line: number, why: "it has a Windows line end (CR LF)" });
    // iptables-restore reads no further than there, and the rule would be another, perhaps wider one.
    if (line.includes("\0")) problems.push({ line: number, why: "it has a NUL byte" });
    if (line.startsWith("*")) {
      if (open) problems.push({ line: number, why: `the table ${open.table} has no COMMIT before this line` });
      const table = line.slice(1).trim().split(/\s+/)[0] ?? "";
      if (table === "") problems.push({ line: number, why: "a table's name must follow the *" });
      open = { table, chains: new Map(), lines: [] };
      sections.push(open);
    } else if (open === undefined) {
      problems.push({ line: number, why: "this line is in no table; a line such as *filter must come first" });
    } else if (line.trimEnd() === "COMMIT") {
      open = undefined;
    } else if (line.startsWith(":")) {
      const [chain, policy] = line.slice(1).split(/\s+/);
      if (chain && policy) open.chains.set(chain, policy);
      else problems.push({ line: number, why: "a chain declaration has the form :CHAIN POLICY [0:0]" });
    } else if (line.startsWith("-") || RULE.test(line)) {
      if (hasOpenQuote(line)) problems.push({ line: number, why: 'a " has no end' });
      open.lines.push({ number, text: withoutBlanks(line) });
    } else {
      problems.push({ line: number, why: "this is not a rule, chain, table or comment" });
    }
  }
  if (open) problems.push({ line: lines.length, why: `the table ${open.table} has no COMMIT` });
  return { sections, problems };
}

function withoutBlanks(line: string): string {
  if (line.startsWith("-")) return line;
  return line.replace(RULE, (_, counters = "") => (counters ? `${counters} -` : "-"));
}

/** The same of a fragment, which several rooms read: each object once. */
export function tablesOf(fragment: { readonly text: string }): TableText {
  const known = READ.get(fragment) ?? readTables(fragment.text);
  READ.set(fragment, known);
  return known;
}

const READ = new WeakMap<object, TableText>();

const BUILT_IN: ReadonlyMap<string, readonly string[]> = new Map([
  ["raw", ["PREROUTING", "OUTPUT"]],
  ["mangle", ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"]],
  ["nat", ["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"]],
  ["filter", ["INPUT", "FORWARD", "OUTPUT"]],
  ["security", ["INPUT", "FORWARD", "OUTPUT"]],
]);

/** The built-in chains of a table (iptables(8)); none for a table that is not known. */
export function builtInChains(table: string): readonly string[] {
  return BUILT_IN.get(table) ?? [];
}
