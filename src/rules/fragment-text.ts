// A container's fragment: its rules as the text of one file, and back. Pure.
//
// On disk: a line that marks the file as ours, then a section for each table that has rules (raw, nat, filter).
// No chain is declared: the chain is the host's, and a second declaration would flush it. No time, no container id:
// the same container gives the same bytes.

import { commentOf, type Rule, readWords, spell, TABLES, type Table } from "./rule.ts";
import { readTables } from "./table-text.ts";

/** The name of a container's fragment in either directory; the original script's, so that it takes over its files. */
export function fragmentName(container: string): string {
  return `11-docker-container_${container}`;
}

/** The first line of a container's fragment: it is ours, and whose it is. */
export function markOf(container: string): string {
  return `# ${commentOf(container)} (do not edit: it is written anew)`;
}

/** Whether a text is a fragment of ours: its first line says so. */
export function isMarked(text: string): boolean {
  return text.startsWith(`# ${commentOf("")}`);
}

/** The text of the fragment, or undefined when there is no rule: then there is no file. */
export function fragmentText(container: string, rules: Partial<Record<Table, Rule[]>>): string | undefined {
  const sections = TABLES.flatMap((table) => {
    const lines = rules[table] ?? [];
    return lines.length === 0 ? [] : [`*${table}`, ...lines.map(spell), "COMMIT"];
  });
  if (sections.length === 0) return undefined;
  return [markOf(container), ...sections, ""].join("\n");
}

/** The rules of a fragment, ours or the original script's, by table. */
export function readFragment(text: string): Map<string, Rule[]> {
  const rules = new Map<string, Rule[]>();
  for (const { table, lines } of readTables(text).sections) {
    const known = rules.get(table) ?? [];
    rules.set(table, known);
    for (const { text } of lines) known.push(readWords(text));
  }
  return rules;
}
