// The transaction: write the fragments, have the kernel load them, look whether it did; or put everything back.
//
// The directory's lock is held twice, while files are written and while rules are loaded, and released in between: of many
// processes all write first, and whoever loads then looks first, because another's load may have brought its rules.

import { dirname } from "node:path";
import { FAMILIES, type Family } from "./docker/container.ts";
import { asFailure, Failure } from "./errors.ts";
import { exchangeRules } from "./exchange.ts";
import { confirmationOf } from "./fragments/confirmed.ts";
import { type Own, readOwn } from "./fragments/directory.ts";
import { clearTemporary, replaceFragment } from "./fragments/replace.ts";
import type { Arguments } from "./generated/arguments.ts";
import { backendsWith, restoreCommand } from "./kernel/iptables.ts";
import { restoreSnapshot } from "./kernel/snapshot.ts";
import { findUnit, isShuttingDown, loadUnit, type Unit, type Wish } from "./kernel/units.ts";
import { load } from "./load.ts";
import { withWriteLock } from "./lock.ts";
import { drifts } from "./rules/live.ts";
import { commentOf, spell } from "./rules/rule.ts";
import { directoryOf, fileChanges, type Item, itemChanges, type Survey, surveyKernel } from "./survey.ts";

export interface Committed {
  reloaded: string[];
  warnings: string[];
  /** The kernel afterwards; empty where it was not looked at. */
  live: Survey["live"];
}

/** How the kernel will get the rules; found out before anything is written. */
export type Loader = { kind: "none" | "restore" | "patch" } | { kind: "systemd"; units: Unit[] } | { kind: "shutdown" };

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
    withWriteLock(args.iptables_dir, patience, async () => {
      await Promise.all(FAMILIES.map((family) => clearTemporary(directoryOf(family, args))));
      return orRollBack(undo, args, steps);
    });

  if (before.items.some(fileChanges) || before.unconfirmed.length > 0) {
    await alone(args.timeout, () => writeFragments(before, undo));
  }
  if (loader.kind === "none") return { reloaded: [], warnings: [], live: {} };
  if (loader.kind === "shutdown") {
    const warnings = ["the host is shutting down: nothing was reloaded, the rules go with the host"];
    return { reloaded: [], warnings, live: {} };
  }
  // Twice the patience: without the lock there is no way on, nor back.
  return alone(2 * args.timeout, () => lookAndLoad(before.items, loader, undo, args)).catch((error: unknown) => {
    const failure = asFailure(error);
    // Only where the lock could not be had: else they are undone.
    if (undo.length > 0) failure.changed = true;
    if (undo.length > 0 && args.state === "present") {
      failure.rolledBack = [`NOT put back: the fragments just written; ${failure.message}`];
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
      failure.rolledBack = [...(failure.rolledBack ?? []), ...(await rollBack(undo))];
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

async function writeFragments({ items, unconfirmed }: Survey, undo: Undo[]): Promise<void> {
  const write = async (path: string, after: string | undefined, report: boolean) => {
    const former = await readOwn(path);
    if (former?.text === after) return;
    const back = async () => ((await putBack(path, after, former)) && report ? path : undefined);
    await replaceFragment(path, after, former).catch(async (error: unknown) => {
      // The disk may have refused after the rename: then the new text is there.
      if ((await readOwn(path))?.text === after) undo.push(back);
      throw error;
    });
    undo.push(back);
  };
  for (const { path, after } of items.filter(fileChanges)) await write(path, after, true);
  for (const directory of new Set(unconfirmed.map((path) => dirname(path)))) {
    const confirming = unconfirmed.filter((path) => dirname(path) === directory);
    const { path, after } = await confirmationOf(directory, confirming);
    await write(path, after, false);
  }
}

/** Only if it still is what this process wrote: a later writer's bytes are not ours to undo. Says whether it was. */
async function putBack(path: string, written: string | undefined, former: Own | undefined): Promise<boolean> {
  const now = await readOwn(path);
  if (now?.text !== written) return false;
  await replaceFragment(path, former?.text, former);
  return true;
}

/** Under the lock: look, load, look again. */
async function lookAndLoad(items: readonly Item[], loader: Loader, undo: Undo[], args: Arguments): Promise<Committed> {
  const before = await surveyKernel(items, args);
  const families = FAMILIES.filter((family) =>
    before.items.some((item) => item.family === family && item.drift && drifts(item.drift)),
  );
  if (families.length === 0) return { reloaded: [], warnings: [], live: before.live };
  // A service may load more than what drifts, so every family has its way back. A patch knows its own.
  for (const family of loader.kind === "patch" ? [] : FAMILIES) {
    const snapshot = before.live[family];
    if (snapshot) undo.push(() => restoreSnapshot(family, snapshot, args.timeout));
  }
  const loaded = await loadWith(loader, families, before.items, undo, args);
  return { ...loaded, live: await refuseDrift(items, args) };
}

async function loadWith(
  loader: Loader,
  families: readonly Family[],
  items: readonly Item[],
  undo: Undo[],
  args: Arguments,
): Promise<Omit<Committed, "live">> {
  if (loader.kind === "systemd") {
    const units = loader.units.filter((unit) => unit.families.some((family) => families.includes(family)));
    const warnings = await inTurn(units, args, (unit) => loadUnit(unit, args.timeout));
    return { reloaded: units.map(({ name }) => name), warnings };
  }
  const warnings = await inTurn(families, args, async (family) => {
    if (loader.kind === "patch") return patch(family, items, undo, args);
    const directories = { [family]: directoryOf(family, args) };
    const putBack = args.state === "present";
    return (await load({ directories, timeout: args.timeout, stateDirectory: undefined, putBack })).warnings;
  });
  return { reloaded: families.map(restoreCommand), warnings };
}

/** A failed `present` stops at once; `absent` goes on, so that one family's failure does not leave the other's ports open. */
async function inTurn<T>(things: readonly T[], { state }: Arguments, step: (thing: T) => Promise<string[]>) {
  const warnings: string[] = [];
  const failures: unknown[] = [];
  for (const thing of things) {
    try {
      warnings.push(...(await step(thing)));
    } catch (error) {
      if (state === "present") throw error;
      failures.push(error);
    }
  }
  if (failures.length > 0) throw failures[0];
  return warnings;
}

/** `reload: patch`: our rules exchanged, the others left alone. */
async function patch(family: Family, items: readonly Item[], undo: Undo[], args: Arguments): Promise<string[]> {
  const former = items.filter((item) => item.family === family).map((item) => item.former);
  await exchangeRules(family, former, args, (wayBack) => undo.push(wayBack));
  return [];
}

/** Returns the kernel's rules, or throws Failure `rules_not_live`. The former fragment's rules are not asked for again: another fragment may hold the same. */
async function refuseDrift(items: readonly Item[], args: Arguments): Promise<Survey["live"]> {
  const after = await surveyKernel(
    items.map((item) => ({ ...item, former: new Map() })),
    args,
  );
  const drifting = after.items.filter(({ drift }) => drift && drifts(drift));
  const [first] = drifting;
  if (first?.drift === undefined) return after.live;
  const { container, family, drift } = first;
  const what =
    drift.missing[0] !== undefined
      ? `the kernel lacks '${spell(drift.missing[0])}'`
      : drift.surplus > 0
        ? `${drift.surplus} of its rules are still there`
        : drift.unreached !== undefined
          ? `nothing jumps to the chain ${drift.unreached}`
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
