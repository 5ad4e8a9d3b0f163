// The transaction: write the fragments, have the kernel load them, look whether it did; or put everything back.
//
// The directory's lock is held twice, while files are written and while rules are loaded, and released in between: of many
// processes all write first, and whoever loads then looks first, because another's load may have brought its rules.

import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import { type BasePlan, unitChanges, wishesFor } from "./base.ts";
import { refuseOvertaken, type Settled } from "./conflicts.ts";
import { FAMILIES, type Family } from "./docker/container.ts";
import { asFailure, Failure } from "./errors.ts";
import { dropChain, exchangeRules } from "./exchange.ts";
import { confirmationOf } from "./fragments/confirmed.ts";
import { type Own, readOwn } from "./fragments/directory.ts";
import { clearTemporary, replaceFragment, writeFailure } from "./fragments/replace.ts";
import type { Arguments } from "./generated/arguments.ts";
import { deleteStaleFlows } from "./kernel/conntrack.ts";
import {
  disableUnit,
  enableUnit,
  type PlannedUnit,
  reloadManager,
  removeLastGood,
  restartUnit,
  stopUnit,
  WATCH_UNIT,
} from "./kernel/install.ts";
import { backendsWith, restoreCommand } from "./kernel/iptables.ts";
import { emptyBackend, restoreBackend } from "./kernel/others.ts";
import { restoreSnapshot } from "./kernel/snapshot.ts";
import { findUnit, isShuttingDown, loadUnit, type Unit } from "./kernel/units.ts";
import { loadLocked } from "./load.ts";
import { withLoadLock, withWriteLock } from "./lock.ts";
import { changedForwards } from "./rules/flows.ts";
import { drifts, type Live } from "./rules/live.ts";
import { commentOf, spell } from "./rules/rule.ts";
import {
  directoryOf,
  type FileChange,
  fileChanges,
  type Item,
  itemChanges,
  type Kernel,
  type Survey,
  surveyKernel,
} from "./survey.ts";

export interface Committed {
  reloaded: string[];
  warnings: string[];
  /** The kernel afterwards; empty where it was not looked at. */
  live: Survey["live"];
}

/** How the kernel will get the rules; found out before anything is written. */
export type Loader = { kind: "none" | "restore" | "patch" } | { kind: "systemd"; units: Unit[] } | { kind: "shutdown" };

/** All that a call is about to change. */
export interface Plan {
  found: Survey;
  settled: Settled;
  base: BasePlan;
  loader: Loader;
}

/**
 * Throws Failure `unit_missing`, `unit_not_suitable`. The base brings its own services. A host that shuts down loads nothing for `absent`: systemd would
 * refuse the job, and the rules go with the host.
 */
export async function chooseLoader({ items }: Survey, base: BasePlan, args: Arguments): Promise<Loader> {
  if (args.reload !== "systemd") return { kind: args.reload };
  if (args.base && args.state === "present")
    return { kind: "systemd", units: base.units.filter(({ name }) => name !== WATCH_UNIT) };
  if (args.state === "absent" && (await isShuttingDown(args.timeout))) return { kind: "shutdown" };
  const changing = FAMILIES.filter((one) => items.some((item) => item.family === one && itemChanges(item)));
  return {
    kind: "systemd",
    units: await Promise.all(wishesFor(changing, args).map((wish) => findUnit(wish, args.timeout))),
  };
}

/**
 * Makes files, services and kernel as planned. Throws Failure; what was undone stands in its `rolledBack`.
 *
 * A failed `present` puts back what was there. A failed `absent` never brings a rule back.
 */
export async function commit(plan: Plan, args: Arguments): Promise<Committed> {
  const undo: Undo[] = [];
  return change(plan, undo, args).catch((error: unknown) => {
    const failure = asFailure(error);
    // Nothing is left to undo after a roll back; only where a lock could not be had there was none.
    if (undo.length > 0) {
      failure.changed = true;
      if (args.state === "present") {
        failure.rolledBack = [`NOT put back: the fragments just written; ${failure.message}`];
      }
    }
    throw failure;
  });
}

async function change({ found, settled, base, loader }: Plan, undo: Undo[], args: Arguments): Promise<Committed> {
  const directories = FAMILIES.map((family) => directoryOf(family, args));
  // What fails is undone before the lock is released, so that nobody loads what is being taken back.
  const alone = <T>(patience: number, steps: () => Promise<T>) =>
    withWriteLock(args.iptables_dir, patience, async () => {
      await Promise.all([...directories, ...base.units.map(({ path }) => dirname(path))].map(clearTemporary));
      return orRollBack(undo, args, steps);
    });

  for (const directory of base.directories) await makeDirectory(directory);
  const installs = args.state === "present" && base.units.some(unitChanges);
  if (base.files.some(fileChanges) || found.items.some(fileChanges) || found.unconfirmed.length > 0 || installs) {
    await alone(args.timeout, async () => {
      await refuseOvertaken(settled, found.items, args);
      await writeFragments([...base.files, ...found.items], found.unconfirmed, undo);
      if (installs) await installUnits(base.units, undo, args.timeout);
    });
  }
  const loaded = await loadRules(found, base, loader, undo, args, alone);
  const watcher = base.units.find(({ name }) => name === WATCH_UNIT);
  if (installs && watcher !== undefined && unitChanges(watcher)) {
    // It waits for our locks before it is ready, so none is held meanwhile.
    await restartUnit(WATCH_UNIT, args.timeout).catch((error: unknown) =>
      alone(args.timeout, () => Promise.reject(error)),
    );
  }
  if (args.state === "absent" && base.units.length > 0) {
    await alone(args.timeout, () => removeUnits(base.units, undo, args.timeout));
  }
  return loaded;
}

async function makeDirectory(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o755 }).catch((error: unknown) => {
    throw writeFailure(path, "made", error);
  });
}

async function loadRules(
  { items, live }: Survey,
  base: BasePlan,
  loader: Loader,
  undo: Undo[],
  args: Arguments,
  alone: <T>(patience: number, steps: () => Promise<T>) => Promise<T>,
): Promise<Committed> {
  if (loader.kind === "none") return { reloaded: [], warnings: [], live: {} };
  if (loader.kind === "shutdown") {
    const warnings = ["the host is shutting down: nothing was reloaded, the rules go with the host"];
    return { reloaded: [], warnings, live: {} };
  }
  // Twice the patience: without the lock there is no way on, nor back.
  const loaded = await alone(2 * args.timeout, async () => {
    const concerned = loader.kind === "systemd" ? items : ofConcern(items);
    const steps = () => lookAndLoad(concerned, loader, undo, args);
    const directories = [...new Set(concerned.map(({ family }) => directoryOf(family, args)))];
    // No load may come between the look and what is made of it. The service's own load takes that lock itself.
    const loaded = await (loader.kind === "systemd" ? steps() : withLoadLock(directories, args.timeout, steps));
    for (const { family, other } of base.others) {
      undo.push(async () => {
        await restoreBackend(family, other.backend, other.live, args.timeout);
        return `the rules of the ${other.backend} backend`;
      });
      await emptyBackend(family, other.backend, other.live, args.timeout);
    }
    return loaded;
  });
  // Last, because nothing brings a flow back; and also where another process's load has brought our rules.
  const warnings = await deleteStaleFlows(changedForwards(items, live), args.timeout);
  return { ...loaded, warnings: [...loaded.warnings, ...warnings] };
}

/** A step back. It returns what it put back, or undefined when there was no need. */
type Undo = () => Promise<string | undefined>;

/** Takes the steps; when one fails, what was done so far is undone, the last first, and the failure says so. */
async function orRollBack<T>(undo: Undo[], { state }: Arguments, steps: () => Promise<T>): Promise<T> {
  try {
    return await steps();
  } catch (error) {
    const failure = asFailure(error);
    if (state === "present" && undo.length > 0) {
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

async function writeFragments(files: readonly FileChange[], unconfirmed: readonly string[], undo: Undo[]) {
  for (const { path, after } of files.filter(fileChanges)) await write(path, after, undo);
  for (const directory of new Set(unconfirmed.map((path) => dirname(path)))) {
    const confirming = unconfirmed.filter((path) => dirname(path) === directory);
    const { path, after } = await confirmationOf(directory, confirming);
    await write(path, after, undo, false);
  }
}

/** `report`: whether it is told when it is put back. */
async function write(path: string, after: string | undefined, undo: Undo[], report = true): Promise<void> {
  const former = await readOwn(path);
  if (former?.text === after) return;
  const back = async () => ((await putBack(path, after, former)) && report ? path : undefined);
  await replaceFragment(path, after, former).catch(async (error: unknown) => {
    // The disk may have refused after the rename: then the new text is there.
    if ((await readOwn(path))?.text === after) undo.push(back);
    throw error;
  });
  undo.push(back);
}

/** The services' files, known to systemd, and enabled. They are started where the rules are loaded. */
async function installUnits(units: readonly PlannedUnit[], undo: Undo[], timeout: number): Promise<void> {
  const quietly =
    (step: () => Promise<void>): Undo =>
    async () => {
      await step();
      return undefined;
    };
  const ours = units.filter(({ after }) => after !== undefined);
  if (ours.some((unit) => unit.unread || fileChanges(unit))) {
    // Steps are undone from the last to the first: systemd is to read the files that are put back.
    undo.push(quietly(() => reloadManager(timeout)));
    for (const { path, after } of ours.filter(fileChanges)) await write(path, after, undo);
    await reloadManager(timeout);
  }
  for (const { name, enabled, start } of ours) {
    if (start) undo.push(quietly(() => stopUnit(name, timeout)));
    if (enabled) continue;
    undo.push(quietly(() => disableUnit(name, timeout)));
    await enableUnit(name, timeout);
  }
}

async function removeUnits(units: readonly PlannedUnit[], undo: Undo[], timeout: number): Promise<void> {
  for (const { name, path, after } of units) {
    await disableUnit(name, timeout);
    await stopUnit(name, timeout);
    await write(path, after, undo);
    if (name !== WATCH_UNIT) await removeLastGood(path);
  }
  await reloadManager(timeout);
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
  const idle = loader.kind === "systemd" && loader.units.some(({ start }) => start);
  if (families.length === 0 && !idle) return { reloaded: [], warnings: [], live: before.live };
  // A service may load more than what drifts, so every family has its way back. A patch knows its own.
  for (const family of loader.kind === "patch" ? [] : FAMILIES) {
    const snapshot = before.live[family];
    if (snapshot) undo.push(() => restoreSnapshot(family, snapshot, args.timeout));
  }
  const { live, ...loaded } = await loadWith(loader, families, before, undo, args);
  return { ...loaded, live: await refuseDrift(items, live, args) };
}

/** Without a family in which nothing of ours stands or should stand: only a service may load that one, too. */
function ofConcern(items: readonly Item[]): Item[] {
  const concerns = (item: Item) => item.before !== undefined || item.after !== undefined || itemChanges(item);
  const families = new Set(items.filter(concerns).map(({ family }) => family));
  return items.filter(({ family }) => families.has(family));
}

async function loadWith(
  loader: Loader,
  families: readonly Family[],
  before: Pick<Survey, "items" | "live">,
  undo: Undo[],
  args: Arguments,
): Promise<Committed> {
  if (loader.kind === "systemd") {
    const units = loader.units.filter(
      (unit) => unit.start || unit.families.some((family) => families.includes(family)),
    );
    const warnings = await inTurn(units, args, (unit) => loadUnit(unit, args.timeout));
    return { reloaded: units.map(({ name }) => name), warnings, live: {} };
  }
  const live: Kernel = {};
  const warnings = await inTurn(families, args, async (family) => {
    if (loader.kind === "patch") {
      live[family] = await patch(family, before, undo, args);
      return [];
    }
    const directories = { [family]: directoryOf(family, args) };
    const putBack = args.state === "present";
    const request = { directories, timeout: args.timeout, stateDirectory: undefined, putBack };
    return (await loadLocked(request, before.live)).warnings;
  });
  return { reloaded: families.map(restoreCommand), warnings, live };
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

/** `reload: patch`: our rules exchanged, the others left alone. Returns the kernel's rules. */
async function patch(
  family: Family,
  { items, live }: Pick<Survey, "items" | "live">,
  undo: Undo[],
  args: Arguments,
): Promise<Live | undefined> {
  const former = items.filter((item) => item.family === family).map((item) => item.former);
  const before = live[family];
  if (before === undefined) return undefined;
  const after = await exchangeRules(family, former, before, args, (wayBack) => undo.push(wayBack));
  if (args.base && args.state === "absent") await dropChain(family, args);
  return after;
}

/** Returns the kernel's rules, those seen already or new ones, or throws Failure `rules_not_live`. The former fragment's rules are not asked for again: another fragment may hold the same. */
async function refuseDrift(items: readonly Item[], seen: Kernel, args: Arguments): Promise<Survey["live"]> {
  const unasked = items.map((item) => ({ ...item, former: new Map() }));
  const after = await surveyKernel(unasked, args, seen);
  const drifting = after.items.filter(({ drift }) => drift && drifts(drift));
  const [first] = drifting;
  if (first?.drift === undefined) return after.live;
  const { owner, family, drift } = first;
  const what =
    drift.missing[0] !== undefined
      ? `the kernel lacks '${spell(drift.missing[0])}'`
      : drift.surplus > 0
        ? `${drift.surplus} of its rules are still there`
        : drift.unreached !== undefined
          ? `nothing jumps to the chain ${drift.unreached}`
          : "its rules are there in another order";
  const backends = await backendsWith(family, commentOf(owner), args.timeout);
  const hint =
    backends.length > 0
      ? `; the ${backends.join(" and the ")} backend holds rules of ${owner}: do all parties use the same iptables?`
      : "";
  throw new Failure("rules_not_live", `the rules were loaded, and for ${owner} ${what}${hint}`, {
    containers: drifting.map((item) => item.owner),
    missing: drift.missing.map(spell),
    surplus: drift.surplus,
    backends,
  });
}
