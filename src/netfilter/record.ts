// What the fragments declared in this boot, and each load left: so that a line that was deleted from a fragment is distinguished
// from a foreign rule. A rule that is not ours cannot be marked.
//
// On disk: FAMILY.left of the state, a text as iptables-save prints it behind a line "# {"boot":…,"namespace":…}". It is written
// before a load, with what was and what will be declared, and once more after it, with what is left of that; so an interruption
// leaves too much in it, never too little. A record of another boot, network namespace or iptables does not count.

import { bootId } from "../fragments/confirmed.ts";
import type { Fragment } from "../iptables/assemble.ts";
import { iptablesOf, type Live } from "../iptables/live.ts";
import { mayBeOurs } from "../iptables/rule.ts";
import { tablesOf } from "../iptables/table-text.ts";
import type { Family } from "../model/family.ts";
import { keepState, networkNamespace, readState, type State, stateOf } from "../system/state.ts";
import { keepSpelling, type Spelling } from "./spelling.ts";

/** By table: chains with their policy, and rules as iptables prints them. */
export type Left = ReadonlyMap<string, { chains: ReadonlyMap<string, string>; rules: ReadonlySet<string> }>;

interface Head {
  boot: string;
  namespace: string;
  iptables: string;
  /** The last warning about foreign rules. */
  told?: string | undefined;
  /** What was loaded where a load could not be had. */
  salvaged?: Salvaged | undefined;
  /** Whether a load of all of it has succeeded in this boot. */
  loaded?: boolean | undefined;
}

/** How many rules were left out, and a digest of the others (salvage.ts). */
export interface Salvaged {
  left: number;
  digest: number;
}

export interface BootRecord extends Head {
  left: Left;
}

/** Undefined where nothing of this boot is known. `live` says which iptables runs. */
export async function readRecord(state: State, live: Live): Promise<BootRecord | undefined> {
  const text = await readState(state, "left");
  const head = readHead(text?.split("\n", 1)[0] ?? "");
  if (text === undefined || head === undefined) return undefined;
  const now = await headOf(live);
  if (head.boot !== now.boot || head.namespace !== now.namespace) return undefined;
  if (now.iptables !== "" && head.iptables !== now.iptables) return undefined;
  return { ...head, left: leftOf([{ text }]) };
}

async function headOf(live: Live): Promise<Head> {
  const [boot, namespace] = await Promise.all([bootId(), networkNamespace()]);
  return { boot, namespace, iptables: iptablesOf(live.text) };
}

function readHead(line: string): Head | undefined {
  try {
    const head: unknown = JSON.parse(line.replace(/^# /, ""));
    const isHead =
      typeof head === "object" &&
      head !== null &&
      ["boot", "namespace", "iptables"].every((key) => typeof (head as { [key: string]: unknown })[key] === "string");
    return isHead ? (head as Head) : undefined;
  } catch {
    return undefined;
  }
}

/** What fragments declare, in the spelling that they have. */
export function leftOf(fragments: readonly Pick<Fragment, "text">[]): Left {
  const sections = fragments.flatMap((one) => tablesOf(one).sections);
  return together(
    sections.map(({ table, chains, lines }) => [table, { chains, rules: lines.map(({ text }) => text) }]),
  );
}

/** Both. */
export function union(a: Left, b: Left): Left {
  return together([...a, ...b]);
}

type Part = readonly [table: string, of: { chains: Iterable<[string, string]>; rules: Iterable<string> }];

/** Of a chain's policies the last. */
function together(parts: readonly Part[]): Left {
  const left = new Map<string, { chains: Map<string, string>; rules: Set<string> }>();
  for (const [table, { chains, rules }] of parts) {
    const into = left.get(table) ?? { chains: new Map(), rules: new Set() };
    left.set(table, into);
    for (const [chain, policy] of chains) into.chains.set(chain, policy);
    for (const rule of rules) into.rules.add(rule);
  }
  return left;
}

/** What is declared, and what was and still runs. */
export function pruned(known: Left, declared: Left, live: Live): Left {
  const running = [...known].map(([table, { chains, rules }]) => {
    const lines = new Set(live.tables.get(table)?.lines);
    return [table, { chains, rules: new Set([...rules].filter((rule) => lines.has(rule))) }] as const;
  });
  return union(new Map(running), declared);
}

/** As a fragment that declares it. */
export function textOf(left: Left): string {
  const sections = [...left].flatMap(([table, { chains, rules }]) => [
    `*${table}`,
    ...[...chains].map(([chain, policy]) => `:${chain} ${policy} [0:0]`),
    ...rules,
    "COMMIT",
  ]);
  return [...sections, ""].join("\n");
}

/** Throws as `keepState`. */
export async function keepRecord(state: State, left: Left, known: Omit<Head, "boot" | "namespace">): Promise<void> {
  const [boot, namespace] = await Promise.all([bootId(), networkNamespace()]);
  const head: Head = { boot, namespace, ...known };
  await keepState(state, "left", `# ${JSON.stringify(head)}\n${textOf(left)}`);
}

/** Whose spelling it is, what is known of this boot, and the kernel: before a load as it was, after it as it is. */
export interface Around {
  family: Family;
  directory: string;
  record: BootRecord | undefined;
  live: Live;
  /** Whether the kernel has all that the fragments say. */
  loaded?: boolean;
}

/** What was declared and is not any more, by table, as iptables prints it: deleted lines. Our own rules are removed otherwise. */
export function deletedOf(known: Left, declared: Left): Map<string, string[]> {
  const deleted = [...known].map(([table, { rules }]) => {
    const here = declared.get(table)?.rules;
    return [table, [...rules].filter((line) => !mayBeOurs(line) && !here?.has(line))] as const;
  });
  return new Map(deleted.filter(([, lines]) => lines.length > 0));
}

/**
 * Keeps what fragments declare, in iptables' spelling, besides what they declared before and what of it runs. Nothing hangs on
 * it but what later runs know: what fails here is a warning.
 */
export async function rememberFragments(
  { family, directory, record, live, loaded = false }: Around,
  fragments: readonly Pick<Fragment, "text">[],
  iptables = iptablesOf(live.text),
  told = record?.told,
): Promise<string[]> {
  const left = pruned(record?.left ?? new Map(), leftOf(fragments), live);
  const known = {
    iptables,
    told,
    salvaged: loaded ? undefined : record?.salvaged,
    loaded: loaded || record?.loaded,
  };
  const keys = ["iptables", "told", "salvaged", "loaded"] as const;
  const isKnown = record !== undefined && keys.every((key) => record[key] === known[key]);
  if (isKnown && textOf(record.left) === textOf(left)) return [];
  return keepRecord(stateOf(family, directory), left, known).then(() => [], notKept);
}

/** The same of what was tried, with what the trial said. */
export async function remember(spelling: Spelling, around: Around): Promise<string[]> {
  const { family, directory, live } = around;
  const iptables = iptablesOf(live.text) || iptablesOf(spelling.known?.marked ?? "");
  const warnings = await rememberFragments(around, spelling.fragments, iptables);
  return [...warnings, ...(await keepSpelling(spelling, { family, directory }).then(() => [], notKept))];
}

function notKept(error: unknown): string[] {
  const why = error instanceof Error ? error.message : String(error);
  return [
    `the record of what the fragments declare could not be written, so rules deleted from them later count as foreign: ${why}`,
  ];
}
