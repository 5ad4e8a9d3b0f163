// Live rules that no fragment declares, nor declared in this boot: foreign ones. A load would remove them.

import type { Fragments } from "../fragments/by-family.ts";
import { sortByBoot } from "../fragments/confirmed.ts";
import { readFragments } from "../fragments/directory.ts";
import type { Fragment } from "../iptables/assemble.ts";
import type { BridgeNetwork } from "../iptables/docker-rules.ts";
import { isManaged } from "../iptables/fragment-text.ts";
import type { Live, Tables } from "../iptables/live.ts";
import { readChain, readRule, readWords } from "../iptables/rule.ts";
import { readTables } from "../iptables/table-text.ts";
import { adopt, listUndeclared, undeclaredOf } from "../iptables/undeclared.ts";
import { FAMILIES, FAMILY_WORDS, type Family } from "../model/family.ts";
import { hasHostRules, isHostFile } from "../model/owner.ts";
import type { HostConfig } from "../model/request.ts";
import { type BootRecord, deletedOf, leftOf, readRecord, rememberFragments, textOf } from "../netfilter/record.ts";
import { comparable } from "../netfilter/spelling.ts";
import { stateOf } from "../system/state.ts";
import type { Advice } from "../text/advice.ts";
import { ownersOf, someOf } from "../text/words.ts";
import type { Kernel } from "./item.ts";

type HostRules = "ours" | "by hand" | "none";

/** One family's. */
export interface ForeignRules {
  family: Family;
  /** As `listUndeclared` spells them; policies are none, for a load keeps them. */
  rules: string[];
  /** Fragments of others of which something does not run. */
  unloaded: string[];
  /** Whose the host rules are: setup may write where they are docker_iptables' own, and where there are none. */
  hostRules: HostRules;
  /** What was last reported of them. */
  told: string | undefined;
}

/**
 * What fragments declare, and, unless `onlyNow`, declared in this boot, so that it compares with what runs. `future` are the
 * fragments as they will be. Of a family that was not looked at, as they are.
 */
export async function declaredIn(
  future: Fragments,
  live: Kernel,
  host: HostConfig,
  onlyNow = false,
): Promise<Fragments> {
  const all = FAMILIES.map(async (family) => {
    const running = live[family];
    const fragments = future[family];
    if (running === undefined || fragments === undefined) return [family, fragments ?? []] as const;
    const { now, all } = await declared(fragments, family, running, host);
    return [family, onlyNow ? [...now] : all] as const;
  });
  return Object.fromEntries(await Promise.all(all));
}

async function declared(
  fragments: readonly Fragment[],
  family: Family,
  live: Live,
  { directories, timeout }: HostConfig,
) {
  const directory = directories[family];
  const record = await readRecord(stateOf(family, directory), live);
  const { stale } = await sortByBoot(directory, fragments);
  // What is not written yet will be confirmed.
  const old = new Set(stale.filter(({ access }) => access !== undefined));
  const current = fragments.filter((one) => !old.has(one));
  const now = await comparable(current, live, { family, directory, timeout });
  return { now, all: [...now, ...formerOf(record)], record };
}

/**
 * What was deleted from fragments in this boot, for a change that loads none of them. Not of a chain in which a fragment has a rule
 * that is not live: the deleted rule may have been changed to that one, or, where the fragments cannot be tried, may be that one;
 * without either the chain would be one that was never written.
 */
export async function deletedSince(family: Family, live: Live, host: HostConfig): Promise<Tables> {
  const fragments = await readFragments(host.directories[family]);
  const { now, record } = await declared(fragments, family, live, host);
  if (record === undefined) return new Map();
  const behind = chainsBehind(now, live);
  return new Map(
    [...deletedOf(record.left, leftOf(now))].map(([table, lines]) => [
      table,
      lines.map(readWords).filter((rule) => !behind.has(`${table} ${readChain(rule)}`)),
    ]),
  );
}

/** "TABLE CHAIN" of each rule of others' fragments that does not run. */
function chainsBehind(fragments: readonly Fragment[], live: Live): Set<string> {
  const lacking = fragments.filter(({ text }) => !isManaged(text)).flatMap(({ text }) => lackingIn(text, live));
  return new Set(lacking.map(({ table, line }) => `${table} ${readChain(readRule(line))}`));
}

/**
 * Keeps what the fragments declare, where no load of ours does. `live` is the kernel now, `told` what was reported of foreign
 * rules.
 */
export async function rememberSeen(
  family: Family,
  live: Live | undefined,
  host: HostConfig,
  told?: string,
): Promise<string[]> {
  if (live === undefined) return [];
  const directory = host.directories[family];
  const { now, record } = await declared(await readFragments(directory), family, live, host);
  return rememberFragments({ family, directory, record, live }, now, undefined, told);
}

/** Families with live foreign rules, which a load would remove. What Docker left for `bridges` is none. */
export async function findForeignRules(
  live: Kernel,
  future: Fragments,
  host: HostConfig,
  bridges: readonly BridgeNetwork[] = [],
): Promise<ForeignRules[]> {
  const hostRules = whoseHostRules(future);
  const found = FAMILIES.map(async (family): Promise<ForeignRules[]> => {
    const running = live[family];
    if (running === undefined || [...running.tables.values()].every(({ lines }) => lines.length === 0)) return [];
    // Most hosts have none, and then nothing needs be read or tried.
    if (rulesIn(running, future[family] ?? [], bridges).length === 0) return [];
    const { now, all, record } = await declared(future[family] ?? [], family, running, host);
    const rules = rulesIn(running, all, bridges);
    return rules.length === 0
      ? []
      : [{ family, rules, unloaded: unloadedOf(now, running), hostRules, told: record?.told }];
  });
  return (await Promise.all(found)).flat();
}

/**
 * The fragments, and the live foreign rules where `setup --adopt` would put them: for a load that keeps them. `spelled` are those
 * that declare, as iptables prints them.
 */
export function besideForeignRules(
  fragments: readonly Fragment[],
  spelled: readonly Fragment[],
  record: BootRecord | undefined,
  live: Live,
): Fragment[] {
  // A chain that only was declared must be declared again.
  const former = [...(record?.left ?? [])].map(([table, { rules }]) => [table, { chains: new Map(), rules }] as const);
  const { first, last } = adopt(undeclaredOf(live, [...spelled, { text: textOf(new Map(former)) }], []));
  const foreign = (text: string | undefined) => (text === undefined ? [] : [{ path: "the running rules", text }]);
  return [...foreign(first), ...fragments, ...foreign(last)];
}

/** What was declared in this boot. */
function formerOf(record: BootRecord | undefined): Fragment[] {
  return record === undefined ? [] : [{ path: "", text: textOf(record.left) }];
}

function rulesIn(live: Live, fragments: readonly { text: string }[], bridges: readonly BridgeNetwork[]): string[] {
  return listUndeclared(undeclaredOf(live, fragments, bridges)).filter((line) => /^(\w+: )?-A /.test(line));
}

/** Fragments of others that have a rule that does not run. */
function unloadedOf(fragments: readonly Fragment[], live: Live): string[] {
  const behind = fragments.filter(({ text }) => !isManaged(text) && lackingIn(text, live).length > 0);
  return [...new Set(behind.map(({ path }) => path))];
}

/** The rules of a text that do not run. */
function lackingIn(text: string, live: Live): { table: string; line: string }[] {
  return readTables(text).sections.flatMap(({ table, lines }) => {
    const running = new Set(live.tables.get(table)?.lines);
    return lines.filter((line) => !running.has(line.text)).map((line) => ({ table, line: line.text }));
  });
}

/** What is done because of them, and the ways on. */
export function describeForeignRules(foreign: readonly ForeignRules[]): string {
  const unloaded = [...new Set(foreign.flatMap((one) => one.unloaded))];
  const left = unloaded.length === 0 ? "" : `, and the changes in ${unloaded.join(", ")} were not loaded`;
  return `${foreign.map(describe).join("; ")}: a load would remove them, so only docker_iptables' own rules were replaced${left}. ${waysOn(foreign)}`;
}

/** The same for status, of one family. */
export function adviseUndeclared(foreign: ForeignRules): Advice {
  const { unloaded } = foreign;
  const left = unloaded.length === 0 ? "" : `, and the changes in ${unloaded.join(", ")} are not loaded`;
  const what = `${describe(foreign)}: a load would remove them, so each change of a container replaces only docker_iptables' own rules${left}`;
  return { what, hint: waysOn([foreign]) };
}

/** Whose the host rules are. */
export function whoseHostRules(fragments: Fragments): HostRules {
  const all = Object.values(fragments).flat();
  if (all.some((one) => isHostFile(one) && isManaged(one.text))) return "ours";
  return hasHostRules(all) ? "by hand" : "none";
}

/** Where the host rules were written by hand, setup is none of them. Where there are none, it asks what is to become of the others. */
function waysOn(foreign: readonly ForeignRules[]): string {
  if (foreign.every(({ hostRules }) => hostRules === "none"))
    return "'docker_iptables setup' names the ways to keep or replace them, and changes nothing before one is chosen";
  if (foreign.every(({ hostRules }) => hostRules === "ours"))
    return "'docker_iptables setup --adopt' saves them as fragments, 'docker_iptables setup --reload patch' never touches them, 'docker_iptables load' removes them";
  return "'docker_iptables load' removes them: to keep them, put them into a fragment first, or use reload: patch, which never touches them";
}

function describe({ family, rules }: ForeignRules): string {
  const owners = ownersOf(rules);
  const like = owners.length === 0 ? "" : `, which look like those of ${owners.join(" and ")}`;
  return `${FAMILY_WORDS[family]} rules are live that no fragment declares (${someOf(rules)}${like})`;
}
