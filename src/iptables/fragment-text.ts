// A fragment of ours: its rules as the text of one file, and back. Pure.
//
// On disk: a line that marks the file as ours, the container's options if it has some, then a section for each table that has rules
// (raw, nat, filter). A container's declares no chain: the host rules do. No time, no container id: the same container gives the
// same bytes.

import { FAMILIES, type Family } from "../model/family.ts";
import { headOf, type Options } from "../model/options.ts";
import { type ContainerOwner, containerOwner, type Owner } from "../model/owner.ts";
import { type ContainerRules, NO_RULES } from "../rules/model.ts";
import { oneLine } from "../text/visible.ts";
import { renderRules } from "./render.ts";
import { commentOf, type Rule, type Ruleset, readWords, spell, TABLES, type Table } from "./rule.ts";
import { readTables } from "./table-text.ts";

/** One fragment of ours as it should be: a container's, or the host's. */
export interface DesiredFragment {
  owner: Owner;
  /** What a container's rules mean, and the chain of its DNATs. */
  meaning: ContainerRules;
  chain: string;
  /** The same, or the host's, as iptables has them. */
  rules: Ruleset;
  /** What a later call that does not name the container holds it to. */
  options: Options;
  /** By family; without a rule there is no file, unless there are options to keep. */
  texts: Partial<Record<Family, string | undefined>>;
}

export type ContainerFragment = DesiredFragment & { owner: ContainerOwner };

export const NOTHING_DESIRED = { meaning: NO_RULES, chain: "", options: {} } as const;

/** A container's fragment; without rules, what is left of it when its rules are removed: its options, if it has some. */
export function containerFragment(
  name: string,
  desired: Pick<DesiredFragment, "meaning" | "chain"> = NOTHING_DESIRED,
  options: Options = {},
): ContainerFragment {
  const { meaning, chain } = desired;
  const head = headOf(options);
  const lines = head === undefined ? [] : [head];
  const rules: Ruleset = { ipv4: {}, ipv6: {} };
  const texts: DesiredFragment["texts"] = {};
  for (const family of FAMILIES) {
    rules[family] = renderRules(meaning[family], family, { owner: name, chain });
    texts[family] = fragmentText(name, rules[family], { head: lines });
  }
  const isBare = FAMILIES.every((family) => texts[family] === undefined);
  if (isBare && head !== undefined) texts.ipv4 = [managedHeader(name), head, ""].join("\n");
  return { owner: containerOwner(name), meaning, chain, rules, options, texts };
}

/** Whether a fragment has a rule, and not a container's options alone. */
export function hasRuleLines(text: string): boolean {
  return /^-/m.test(text);
}

const ADVICE = "(generated: do not edit)";

/** The first line of a file of ours: it is ours, and whose it is. */
export function managedHeader(owner: string): string {
  return `# ${commentOf(owner)} ${ADVICE}`;
}

/** Whether a container's fragment is of a version that kept options: 0.1.0 and the original script did not. */
export function keepsOptions(text: string): boolean {
  return text.split("\n", 1)[0]?.endsWith(ADVICE) === true;
}

/** Whether a text is a file of ours: its first line says so. */
export function isManaged(text: string): boolean {
  return text.startsWith(`# ${commentOf("")}`);
}

interface Besides {
  /** By table the chain that the fragment declares. */
  chains?: Partial<Record<Table, string>>;
  /** Lines for who reads it. */
  notes?: readonly string[];
  /** Comment lines that are read back, as they are. */
  head?: readonly string[];
}

/** The text of a fragment, or undefined when there is no rule: then there is no file. */
export function fragmentText(
  owner: string,
  rules: Partial<Record<Table, Rule[]>>,
  { chains = {}, notes = [], head = [] }: Besides = {},
): string | undefined {
  const sections = TABLES.flatMap((table) => {
    const lines = rules[table] ?? [];
    const chain = chains[table];
    const declared = chain === undefined ? [] : [`:${chain} - [0:0]`];
    return lines.length === 0 ? [] : [`*${table}`, ...declared, ...lines.map(spell), "COMMIT"];
  });
  if (sections.length === 0) return undefined;
  return [managedHeader(owner), ...head, ...notes.map((note) => `# ${oneLine(note)}`), ...sections, ""].join("\n");
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
