// The transaction: write the fragments, have the kernel load them, look whether it did; or put everything back.
//
// The directory's lock is held twice, while files are written and while rules are loaded, and released in between: of many
// processes all write first, and whoever loads then looks first, because another's load may have brought its rules.

import { FAMILIES, type Family } from "./docker/container.ts";
import { asFailure, Failure } from "./errors.ts";
import { assemble } from "./fragments/assemble.ts";
import { type Own, readFragments, readOwn } from "./fragments/directory.ts";
import { clearTemporary, replaceFragment } from "./fragments/replace.ts";
import type { Arguments } from "./generated/arguments.ts";
import { backendsWith, restoreCommand, restoreRules, saveRules } from "./kernel/iptables.ts";
import { findUnit, isShuttingDown, loadUnit, type Unit, type Wish } from "./kernel/units.ts";
import { withLock } from "./lock.ts";
import { refuseBrokenFragments } from "./refuse.ts";
import { drifts, type Live, withoutCounters } from "./rules/live.ts";
import { commentOf, spell } from "./rules/rule.ts";
import { builtInChains } from "./rules/table-text.ts";
import { directoryOf, fileChanges, type Item, itemChanges, type Survey, surveyKernel } from "./survey.ts";

export interface Committed {
  reloaded: string[];
  warnings: string[];
}

/** How the kernel will get the rules; found out before anything is written. */
export type Loader = { kind: "none" } | { kind: "restore" } | { kind: "systemd"; units: Unit[] } | { kind: "shutdown" };

/**
 * Throws Failure `unit_missing`, `unit_not_suitable`. A host that shuts down loads nothing for `absent`: systemd would
 * refuse the job, and the rules go with the host.
 */
export async function chooseLoader({ items }: Survey, args: Arguments): Promise<Loader> {
  if (args.reload !== "systemd") return { kind: args.reload };
  if (args.state === "absent" && (await isShuttingDown(args.timeout))) return { kind: "shutdown" };
  const wishes = new Map<string, Wish>();
  for (const family of FAMILIES.filter((one) => items.some((item) => item.family === one && itemChanges(item)))) {
    const unit = withSuffix(family === "ipv4" ? args.iptables_service : args.ip6tables_service);
    const wish = wishes.get(unit) ?? { unit, directories: [], families: [] };
    wish.directories.push(directoryOf(family, args));
    wish.families.push(family);
    wishes.set(unit, wish);
  }
  return {
    kind: "systemd",
    units: await Promise.all([...wishes.values()].map((wish) => findUnit(wish, args.timeout))),
  };
}

function withSuffix(unit: string): string {
  return /\.[a-z]+$/.test(unit) ? unit : `${unit}.service`;
}

/**
 * Makes files and kernel as the survey wants them. Throws Failure; what was undone stands in its `rolledBack`.
 *
 * A failed `present` puts back what was there. A failed `absent` never brings a rule back.
 */
export async function commit(before: Survey, loader: Loader, args: Arguments): Promise<Committed> {
  const undo: Undo[] = [];
  // What fails is undone before the lock is released, so that nobody loads what is being taken back.
  const alone = <T>(patience: number, steps: () => Promise<T>) =>
    withLock(args.iptables_dir, patience, async () => {
      await Promise.all(FAMILIES.map((family) => clearTemporary(directoryOf(family, args))));
      return orRollBack(undo, args, steps);
    });

  if (before.items.some(fileChanges)) await alone(args.timeout, () => writeFragments(before.items, undo));
  if (loader.kind === "none") return { reloaded: [], warnings: [] };
  if (loader.kind === "shutdown") {
    return { reloaded: [], warnings: ["the host is shutting down: nothing was reloaded, the rules go with the host"] };
  }
  // Twice the patience: without the lock there is no way on, nor back.
  return alone(2 * args.timeout, () => load(before.items, loader, undo, args)).catch((error: unknown) => {
    const failure = asFailure(error);
    if (failure.code === "locked" && args.state === "present" && undo.length > 0) {
      failure.rolledBack = [`NOT put back: the fragments just written; ${failure.message}`];
      failure.changed = true;
    }
    throw failure;
  });
}

/** A step back. It returns what it put back, or undefined when there was no need. */
type Undo = () => Promise<string | undefined>;

/** Takes the steps; when one fails, what was done so far is undone, the last first, and the failure says so. */
async function orRollBack<T>(undo: Undo[], { state }: Arguments, steps: () => Promise<T>): Promise<T> {
  try {
    return await steps();
  } catch (error) {
    const failure = asFailure(error);
    if (state === "absent") {
      failure.changed = undo.length > 0;
    } else if (undo.length > 0) {
      failure.rolledBack = await rollBack(undo);
      failure.changed = failure.rolledBack.some((what) => what.startsWith("NOT put back"));
    }
    throw failure;
  }
}

async function rollBack(undo: Undo[]): Promise<string[]> {
  const done: string[] = [];
  for (const step of undo.splice(0).reverse()) {
    const what = await step().catch((error: unknown) => `NOT put back: ${asFailure(error).message}`);
    if (what !== undefined) done.push(what);
  }
  return done;
}

async function writeFragments(items: readonly Item[], undo: Undo[]): Promise<void> {
  for (const { path, after } of items.filter(fileChanges)) {
    const former = await readOwn(path);
    if (former?.text === after) continue;
    await replaceFragment(path, after, former);
    undo.push(() => putBack(path, after, former));
  }
}

/** Only if it still is what this process wrote: a later writer's bytes are not ours to undo. */
async function putBack(
  path: string,
  written: string | undefined,
  former: Own | undefined,
): Promise<string | undefined> {
  const now = await readOwn(path);
  if (now?.text !== written) return undefined;
  await replaceFragment(path, former?.text, former);
  return path;
}

/** Under the lock: look, load, look again. */
async function load(items: readonly Item[], loader: Loader, undo: Undo[], args: Arguments): Promise<Committed> {
  const before = await surveyKernel(items, args);
  const families = FAMILIES.filter((family) =>
    before.items.some((item) => item.family === family && item.drift && drifts(item.drift)),
  );
  if (families.length === 0) return { reloaded: [], warnings: [] };
  // A service may load more than what drifts, so every family has its way back.
  undo.push(...FAMILIES.map((family) => () => restoreSnapshot(family, before.live[family], args)));
  const loaded = await loadWith(loader, families, before, args);
  await refuseDrift(items, args);
  return loaded;
}

/** A failed `present` stops at once; `absent` goes on, so that one family's failure does not leave the other's ports open. */
async function loadWith(
  loader: Loader,
  families: readonly Family[],
  before: Survey,
  args: Arguments,
): Promise<Committed> {
  const units = loader.kind === "systemd" ? loader.units : [];
  const needed = units.filter((unit) => unit.families.some((family) => families.includes(family)));
  const loads =
    loader.kind === "systemd"
      ? needed.map((unit) => () => loadUnit(unit, args.timeout))
      : families.map((family) => () => loadFragments(family, before, args));
  const warnings: string[] = [];
  const failures: unknown[] = [];
  for (const load of loads) {
    try {
      warnings.push(...(await load()));
    } catch (error) {
      if (args.state === "present") throw error;
      failures.push(error);
    }
  }
  if (failures.length > 0) throw failures[0];
  return {
    reloaded: loader.kind === "systemd" ? needed.map(({ name }) => name) : families.map(restoreCommand),
    warnings,
  };
}

/** `reload: restore`: the directory as one text, given to iptables-restore. */
async function loadFragments(family: Family, before: Survey, args: Arguments): Promise<string[]> {
  const fragments = await readFragments(directoryOf(family, args));
  refuseBrokenFragments(fragments);
  const live = before.live[family] ?? (await saveRules(family, args.timeout));
  // Tables that hold rules of ours, though perhaps no fragment names them any more.
  const ours = [...live.tables].filter(([, { byComment }]) => byComment.size > 0).map(([table]) => table);
  const gone = before.items.filter((item) => item.family === family).flatMap(({ former }) => [...former.keys()]);
  await restoreRules(family, assemble(fragments, [...gone, ...ours], live).text, args.timeout);
  return [];
}

/** Throws Failure `rules_not_live`. The former fragment's rules are not asked for again: another fragment may hold the same. */
async function refuseDrift(items: readonly Item[], args: Arguments): Promise<void> {
  const after = await surveyKernel(
    items.map((item) => ({ ...item, former: new Map() })),
    args,
  );
  const drifting = after.items.filter(({ drift }) => drift && drifts(drift));
  const [first] = drifting;
  if (first?.drift === undefined) return;
  const { container, family, drift } = first;
  const what =
    drift.missing[0] !== undefined
      ? `the kernel lacks '${spell(drift.missing[0])}'`
      : drift.surplus > 0
        ? `${drift.surplus} of its rules are still there`
        : "its rules are there in another order";
  const backends = await backendsWith(family, commentOf(container), args.timeout);
  const hint =
    backends.length > 0
      ? `; the ${backends.join(" and the ")} backend holds rules of ${container}: do all parties use the same iptables?`
      : "";
  throw new Failure("rules_not_live", `the rules were loaded, and for ${container} ${what}${hint}`, {
    containers: drifting.map((item) => item.container),
    missing: drift.missing.map(spell),
    surplus: drift.surplus,
    backends,
  });
}

/** Loads the rules that were there, if the kernel has others now. */
async function restoreSnapshot(
  family: Family,
  snapshot: Live | undefined,
  args: Arguments,
): Promise<string | undefined> {
  if (snapshot === undefined) return undefined;
  const now = await saveRules(family, args.timeout);
  if (withoutCounters(now.text) === withoutCounters(snapshot.text)) return undefined;
  const added = [...now.tables.keys()].filter((table) => !snapshot.tables.has(table));
  const emptied = added.map((table) => [
    `*${table}`,
    ...builtInChains(table).map((chain) => `:${chain} ACCEPT [0:0]`),
    "COMMIT",
    "",
  ]);
  await restoreRules(family, snapshot.text + emptied.flat().join("\n"), args.timeout);
  return `the kernel's ${family === "ipv4" ? "IPv4" : "IPv6"} rules`;
}
