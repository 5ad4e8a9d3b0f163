// A fragment of ours as iptables has it: its rules as the text of one file, and back. Pure.
//
// On disk: a line that marks the file as ours, the container's options if it has some, then a section for each table that has rules
// (raw, mangle, nat, filter). A container's declares no chain but those of its lists: the host rules do. No time, no container id: the
// same container gives the same bytes.

import { FAMILIES, type Family } from "../model/family.ts";
import { headOf } from "../model/options.ts";
import { HOST_FILES, spellOwner } from "../model/owner.ts";
import type { DesiredFragment } from "../rules/desired-fragment.ts";
import { oneLine } from "../text/visible.ts";
import { DOCKER_USER } from "./docker-rules.ts";
import { isListChain } from "./list-chains.ts";
import { renderRules } from "./render.ts";
import { commentOf, type Rule, type Ruleset, readWords, spell, spellLive, TABLES, type Table } from "./rule.ts";
import { readTables } from "./table-text.ts";

/** A fragment as iptables has it. */
export interface Written {
  /** Its lines by table. */
  rules: Ruleset;
  /** By family, as the files have it; without a rule there is no file, unless there are options to keep. */
  texts: Partial<Record<Family, string>>;
  /** The same in iptables' words, as what is read of the files is. */
  fragments: Partial<Record<Family, string>>;
}

/** Writes a fragment, the same object once: the same one gives the same bytes. */
export function writeFragment(fragment: DesiredFragment): Written {
  const known = WRITTEN.get(fragment) ?? write(fragment);
  WRITTEN.set(fragment, known);
  return known;
}

const WRITTEN = new WeakMap<DesiredFragment, Written>();

function write(fragment: DesiredFragment): Written {
  if ("asWritten" in fragment && fragment.asWritten !== undefined) return readWritten(fragment.asWritten);
  const { owner, meaning, chain } = fragment;
  const spelled = spellOwner(owner);
  const rules: Ruleset = { ipv4: {}, ipv6: {} };
  const texts: Written["texts"] = {};
  for (const family of FAMILIES) {
    rules[family] = renderRules(meaning[family], family, { owner: spelled, chain });
    const text = fragmentText(spelled, rules[family], besidesOf(fragment, family));
    if (text !== undefined) texts[family] = text;
  }
  const head = "options" in fragment ? headOf(fragment.options) : undefined;
  if (Object.keys(texts).length === 0 && head !== undefined) texts.ipv4 = [managedHeader(spelled), head, ""].join("\n");
  return { rules, texts, fragments: texts };
}

/** Their rules by family and table, as the kernel has them. */
export function listRules(fragments: readonly DesiredFragment[]): Record<Family, Record<string, string[]>> {
  const listed: Record<Family, Record<string, string[]>> = { ipv4: {}, ipv6: {} };
  for (const { rules } of fragments.map(writeFragment)) {
    for (const family of FAMILIES) {
      for (const [table, some] of Object.entries(rules[family])) {
        const tables = listed[family];
        tables[table] ??= [];
        for (const rule of some) tables[table].push(spellLive(rule));
      }
    }
  }
  return listed;
}

function readWritten(texts: Written["texts"]): Written {
  const rules: Ruleset = { ipv4: {}, ipv6: {} };
  for (const family of FAMILIES) rules[family] = Object.fromEntries(readFragment(texts[family] ?? ""));
  return { rules, texts, fragments: texts };
}

/** What a file has besides rules: a container's options; the chains that the host's first file declares, and its notes. */
function besidesOf(fragment: DesiredFragment, family: Family): Besides {
  if ("options" in fragment) {
    const head = headOf(fragment.options);
    return head === undefined ? {} : { head: [head] };
  }
  const { owner, chain, notes } = fragment;
  const chains = owner.file === HOST_FILES[0] ? { nat: chain, filter: DOCKER_USER } : {};
  return { chains, notes: notes[family] };
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
    const named = new Set([chains[table] ?? [], lines.map(([, chain = ""]) => chain).filter(isListChain)].flat());
    const declared = [...named].map((chain) => `:${chain} - [0:0]`);
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
