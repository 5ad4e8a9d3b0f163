// Loads the rules into the kernel, in the way that was chosen, and checks that they are there.

import { sortByBoot } from "../fragments/confirmed.ts";
import { readFragments } from "../fragments/directory.ts";
import { changedDnats } from "../iptables/changed-dnats.ts";
import { restoreCommand } from "../iptables/commands.ts";
import { type Live, readLive } from "../iptables/live.ts";
import { asFailure, ConcurrentChange, Failure } from "../model/errors.ts";
import { FAMILIES, type Family } from "../model/family.ts";
import { type HostConfig, type Request, removesHost } from "../model/request.ts";
import { deleteStaleFlows } from "../netfilter/conntrack.ts";
import { emptyBackend, restoreBackend } from "../netfilter/foreign-firewalls.ts";
import { keepOurLastGood } from "../netfilter/last-good.ts";
import { refuseRewritten } from "../plan/concurrency.ts";
import { readDirectories } from "../plan/directories.ts";
import { deletedSince, findForeignRules, rememberSeen } from "../plan/foreign-rules.ts";
import { hasChanges, hasFileChanges, type Item, type Kernel, ofFamily } from "../plan/item.ts";
import { describePatch, type Loader, replacesForeign } from "../plan/loader.ts";
import type { Load } from "../plan/plan.ts";
import { type Survey, surveyKernel } from "../plan/survey.ts";
import { verbose } from "../system/verbose.ts";
import { loadUnit, type Unit } from "../systemd/units.ts";
import { findDrift, isDrifting, notLive } from "./drift.ts";
import { removeLeftover } from "./leftovers.ts";
import { findBroken, loadLocked } from "./load.ts";
import { LoadLocks } from "./load-locks.ts";
import { dropChains, patchOwnRules } from "./patch.ts";
import { orRollBack, type Undo } from "./undo.ts";
import { removeWithoutLoad } from "./unload.ts";
import { loadWatched, TookAway } from "./watched-load.ts";
import { type WaysBack, waysBack } from "./ways-back.ts";

export interface Reloaded {
  reloaded: string[];
  warnings: string[];
  /** The kernel afterwards; empty where it was not looked at. */
  live: Survey["live"];
}

export type ReloadRequest = Pick<Request, "subject" | "host" | "defaults" | "loading">;

/** Holds the write lock, and undoes what fails before it releases it. */
export type Alone = <T>(patience: number, steps: () => Promise<T>) => Promise<T>;

/** What the steps of one load share. */
interface Work {
  load: Load;
  undo: Undo[];
  locks: LoadLocks;
  request: ReloadRequest;
}

/** Once the files are as they should be. */
export async function loadRules(load: Load, undo: Undo[], request: ReloadRequest, alone: Alone): Promise<Reloaded> {
  const { found, loader } = load;
  const { timeout } = request.host;
  if (loader.kind === "none") return { reloaded: [], warnings: [], live: {} };
  if (loader.kind === "shutdown") {
    const warnings = ["the host is shutting down: nothing was reloaded"];
    return { reloaded: [], warnings, live: {} };
  }
  // Twice the patience: without the lock there is no way on, nor back.
  const loaded = await alone(2 * timeout, async () => {
    const work = { load, undo, locks: new LoadLocks(request.host), request };
    const loaded = await loadOrRemove(work);
    await removeOthers(work);
    return loaded;
  });
  // Last, because nothing brings a flow back; and also where another process's load has brought our rules.
  const warnings = await deleteStaleFlows(changedDnats(found.items, found.live), timeout);
  return { ...loaded, warnings: [...loaded.warnings, ...warnings] };
}

async function loadOrRemove(work: Work): Promise<Reloaded> {
  const { load, undo, locks, request } = work;
  const { loader, closes, going } = load;
  const concerned = loader.kind === "systemd" ? load.found.items : ofConcern(load.found.items);
  const steps = () => lookAndLoad(concerned, work);
  // No load may run between reading the rules, the change, and the rollback. The service's own load takes the locks itself.
  const families = FAMILIES.filter((family) => concerned.some((item) => item.family === family));
  const loading =
    loader.kind === "systemd" ? steps() : locks.holding(families, () => (closes ? steps() : orRollBack(undo, steps)));
  if (!closes) return loading;
  return loading.catch((error: unknown) => removeWithoutLoad(asFailure(error), going, locks, request));
}

/** The other backend's rules, and what Docker left. */
async function removeOthers({ load, undo, locks, request }: Work): Promise<void> {
  const { timeout } = request.host;
  for (const { family, other } of load.base.others) {
    undo.push(async () => {
      await restoreBackend(family, other.backend, other.live, timeout);
      return `the rules of the ${other.backend} backend`;
    });
    await emptyBackend(family, other.backend, other.live, timeout);
  }
  for (const leftover of load.base.leftovers) {
    const concerned = leftover.kind === "rules" ? [leftover.family] : [];
    await locks.holding(concerned, () => removeLeftover(leftover, undo, timeout));
  }
}

/** Without a family that has and should have no rules of ours: only a service may load that one, too. */
function ofConcern(items: readonly Item[]): Item[] {
  const concerns = (item: Item) => item.before !== undefined || item.after !== undefined || hasChanges(item);
  const families = new Set(items.filter(concerns).map(({ family }) => family));
  return items.filter(({ family }) => families.has(family));
}

/** Under the lock: check, load, check again. */
async function lookAndLoad(items: readonly Item[], work: Work): Promise<Reloaded> {
  const { load, undo, locks, request } = work;
  const { host } = request;
  const before = await surveyKernel(items, host);
  const families = FAMILIES.filter((family) => ofFamily(before.items, family).some(isDrifting));
  await refuseNewStrangers(work, before.live, families);
  if (families.length === 0 && !startsService(load.loader)) {
    verbose(() => "load: not needed, the rules are live");
    return { reloaded: [], warnings: [], live: before.live };
  }
  const left: Kernel = {};
  // A service may load more than what drifts, so every family has a rollback step. A patch makes its own.
  const isService = load.loader.kind === "systemd";
  const touched = isService ? FAMILIES : load.loader.kind === "patch" ? [] : families;
  const ways = waysBack(touched, { items, live: before.live, left, going: load.going, isService }, locks, host);
  undo.unshift(...ways.salvages);
  undo.push(...ways.snapshots);
  const { live: seen, ...loaded } = await loadWith(families, before, work).catch((error: unknown) =>
    bringBackTaken(error, load, ways),
  );
  const live = await refuseNotLive(items, seen, work);
  Object.assign(left, live);
  return { ...loaded, live };
}

/** Rules that a service removed are restored even if nothing else is undone. */
async function bringBackTaken(error: unknown, { closes }: Load, { snapshots }: WaysBack): Promise<never> {
  if (closes && error instanceof TookAway) for (const back of snapshots) await back();
  throw error;
}

function startsService(loader: Loader): boolean {
  return loader.kind === "systemd" && loader.units.some(({ start }) => start);
}

/** The kernel after the load. Throws Failure `rules_not_live`, and ConcurrentChange where another process has the last word. */
async function refuseNotLive(items: readonly Item[], seen: Kernel, { load, undo, request }: Work): Promise<Kernel> {
  const { live, drifting } = await findDrift(items, seen, request.host);
  const [first] = drifting;
  if (first === undefined) return live;
  const wrote = [...load.base.files, ...load.found.items].some(hasFileChanges);
  await refuseRewritten(drifting, wrote).catch((error: unknown) => {
    // The kernel has what the fragments say: a rollback would restore rules that another process has removed.
    undo.splice(0);
    throw error;
  });
  const { loader } = load;
  const others = loader.kind === "systemd" ? loader.units.filter(({ ours }) => !ours).map(({ name }) => name) : [];
  throw await notLive(first, { drifting, live, others }, request.host.timeout);
}

/**
 * Another firewall may have been started while this call waited for the client or for a lock. Throws ConcurrentChange: it starts
 * again.
 */
async function refuseNewStrangers({ load, request }: Work, live: Kernel, families: readonly Family[]): Promise<void> {
  const { loader, found } = load;
  const loads = loader.kind === "restore" || (loader.kind === "systemd" && !startsService(loader));
  if (!loads || replacesForeign(request)) return;
  const changed = families.filter((family) => listed(live[family]) !== listed(found.live[family]));
  if (changed.length === 0) return;
  const now = Object.fromEntries(changed.map((family) => [family, live[family]]));
  const [first] = await findForeignRules(now, await readDirectories(request.host.directories), request.host);
  if (first === undefined) return;
  const message = `rules that no fragment declares were added during this call: ${first.rules[0]}; nothing was changed; retry`;
  throw new ConcurrentChange(message, { rules: first.rules.slice(0, 10) });
}

function listed(live: Live | undefined): string {
  return JSON.stringify([...(live?.tables ?? [])].map(([name, { lines }]) => [name, lines]));
}

type Before = Pick<Survey, "items" | "live">;

async function loadWith(families: readonly Family[], before: Before, work: Work): Promise<Reloaded> {
  const { loader, closes } = work.load;
  const { host } = work.request;
  switch (loader.kind) {
    case "unusable":
      throw loader.why;
    case "systemd":
      return loadByServices(loader.units, families, before, work);
  }
  const live: Kernel = {};
  const warnings = await inTurn(families, closes, async (family) => {
    if (loader.kind === "patch") {
      live[family] = await patch(family, before, work);
      return rememberPatched(family, live[family], loader, work.request);
    }
    const directories = { [family]: host.directories[family] };
    return (await loadLocked({ directories, timeout: host.timeout }, before.live)).warnings;
  });
  return { reloaded: families.map(restoreCommand), warnings, live };
}

async function loadByServices(
  all: readonly Unit[],
  families: readonly Family[],
  before: Before,
  { load, request }: Work,
): Promise<Reloaded> {
  const { host, loading } = request;
  const units = all.filter((unit) => unit.start || unit.families.some((family) => families.includes(family)));
  const step = () => inTurn(units, load.closes, (unit) => loadNamingBroken(unit, host, loading.replace));
  const loaded = await loadWatched(units, step, before, { host, replaces: loading.replace });
  // Ours remember what they load.
  if (units.some(({ ours }) => !ours)) {
    for (const family of families) loaded.warnings.push(...(await rememberSeen(family, loaded.live[family], host)));
  }
  return { reloaded: units.map(({ name }) => name), ...loaded };
}

/** Throws Failure as `loadUnit`; it names the fragment that is to blame. */
async function loadNamingBroken(unit: Unit, host: HostConfig, replaces: boolean): Promise<string[]> {
  try {
    const warnings = await loadUnit(unit, host.timeout);
    // Ours keep foreign rules as they start, and replace them as they reload.
    if (!(replaces && unit.ours && unit.start)) return warnings;
    return [...warnings, ...(await loadUnit({ ...unit, verb: "reload" }, host.timeout))];
  } catch (error) {
    const { code, facts } = asFailure(error);
    const broken = await Promise.all(unit.families.map((family) => tryDirectory(family, host))).catch(() => []);
    const first = broken.find((one) => one !== undefined);
    if (first === undefined) throw error;
    const message = `${unit.name} could not load the rules: ${first.message}`;
    throw new Failure(code, message, { ...first.facts, ...facts }, { cause: error });
  }
}

async function tryDirectory(family: Family, { directories, timeout }: HostConfig): Promise<Failure | undefined> {
  const directory = directories[family];
  const { current } = await sortByBoot(directory, await readFragments(directory));
  return findBroken(current, { family, directory, timeout }, readLive(""));
}

/** The first failure stops it; but a pure removal continues, so that one family's failure does not leave the other's ports open. */
async function inTurn<T>(things: readonly T[], closes: boolean, step: (thing: T) => Promise<string[]>) {
  const warnings: string[] = [];
  const failures: unknown[] = [];
  for (const thing of things) {
    try {
      warnings.push(...(await step(thing)));
    } catch (error) {
      if (!closes) throw error;
      failures.push(error);
    }
  }
  if (failures.length > 0) throw failures[0];
  return warnings;
}

/** Our rules exchanged, the others left alone. Returns the kernel's rules. */
async function patch(family: Family, { items, live }: Before, work: Work): Promise<Live | undefined> {
  const { load, undo, locks, request } = work;
  const { host, defaults, subject } = request;
  const before = live[family];
  if (before === undefined) return undefined;
  const former = ofFamily(items, family).map((item) => item.former);
  if (isBesideForeign(load.loader)) former.push(await deletedSince(family, before, host));
  const place = { family, directory: host.directories[family], timeout: host.timeout };
  const exchange = { former, gone: ofFamily(load.going, family), before };
  const after = await patchOwnRules(place, exchange, (wayBack) => undo.push(() => locks.holding([family], wayBack)));
  if (removesHost(subject)) await dropChains(family, defaults.chain, host);
  return after;
}

/** Keeps what a load at boot falls back to, and what was reported of foreign rules. */
async function rememberPatched(
  family: Family,
  live: Live | undefined,
  loader: Extract<Loader, { kind: "patch" }>,
  { host, loading }: Pick<Request, "host" | "loading">,
): Promise<string[]> {
  const directory = host.directories[family];
  const isAsked = loading.reload === "patch";
  const kept = await keepOurLastGood(family, directory, await readFragments(directory), isAsked);
  if (loader.why?.kind !== "foreign") return kept;
  return [...kept, ...(await rememberSeen(family, live, host, describePatch(loader.why)))];
}

function isBesideForeign(loader: Loader): boolean {
  return loader.kind === "patch" && loader.why?.kind === "foreign";
}
