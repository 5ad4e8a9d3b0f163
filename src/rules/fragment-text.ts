// A fragment of ours: its rules as the text of one file, and back. Pure.
//
// On disk: a line that marks the file as ours, then a section for each table that has rules (raw, nat, filter).
// A container's declares no chain: that is the base's. No time, no container id: the same container gives the same bytes.

import { FAMILIES, type Family } from "../docker/container.ts";
import { oneLine } from "../visible.ts";
import { commentOf, type Rule, type Ruleset, readWords, spell, TABLES, type Table } from "./rule.ts";
import { readTables } from "./table-text.ts";

/** One fragment of ours as it should be: a container's, or one of the base. */
export interface Wanted {
  /** Whose it is, in the comment of each rule: a container's name, or "(10_docker)", which no container can have. */
  owner: string;
  /** Its name in either directory. */
  file: string;
  rules: Ruleset;
  /** By family; without a rule there is no file. */
  texts: Partial<Record<Family, string | undefined>>;
}

/** A container's fragment; without rules, what is left of it when it goes. */
export function containerFragment(name: string, rules: Ruleset = { ipv4: {}, ipv6: {} }): Wanted {
  const texts = Object.fromEntries(FAMILIES.map((family) => [family, fragmentText(name, rules[family])]));
  return { owner: name, file: fragmentName(name), rules, texts };
}

/** The name of a container's fragment in either directory; the original script's, so that it takes over its files. */
export function fragmentName(container: string): string {
  return `11-docker-container_${container}`;
}

/** Whether a file of this name is a container's fragment. */
export function isContainers(name: string): boolean {
  return name.startsWith(fragmentName(""));
}

/** Whose fragment a file of this name is, or undefined: it is no container's. */
export function containerOf(name: string): string | undefined {
  return isContainers(name) ? name.slice(fragmentName("").length) : undefined;
}

/** The first line of a file of ours: it is ours, and whose it is. */
export function markOf(owner: string): string {
  return `# ${commentOf(owner)} (do not edit: it is written anew)`;
}

/** Whether a text is a file of ours: its first line says so. */
export function isMarked(text: string): boolean {
  return text.startsWith(`# ${commentOf("")}`);
}

interface Besides {
  /** By table the chain that the fragment declares. */
  chains?: Partial<Record<Table, string>>;
  /** Lines for who reads it. */
  notes?: readonly string[];
}

/** The text of a fragment, or undefined when there is no rule: then there is no file. */
export function fragmentText(
  owner: string,
  rules: Partial<Record<Table, Rule[]>>,
  { chains = {}, notes = [] }: Besides = {},
): string | undefined {
  const sections = TABLES.flatMap((table) => {
    const lines = rules[table] ?? [];
    const chain = chains[table];
    const declared = chain === undefined ? [] : [`:${chain} - [0:0]`];
    return lines.length === 0 ? [] : [`*${table}`, ...declared, ...lines.map(spell), "COMMIT"];
  });
  if (sections.length === 0) return undefined;
  return [markOf(owner), ...notes.map((note) => `# ${oneLine(note)}`), ...sections, ""].join("\n");
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
