// Loads the rules into the kernel, in the way that was chosen, and checks that they are there.

import { asFailure } from "../model/errors.ts";
import { FAMILIES } from "../model/family.ts";
import { deleteStaleFlows } from "../netfilter/conntrack.ts";
import type { Reloaded, ReloadRequest, Work } from "../plan/backend.ts";
import { TookAway, type Undo, type WaysBack } from "../plan/backend.ts";
import { refuseRewritten } from "../plan/concurrency.ts";
import { hasChanges, hasFileChanges, type Item, type Kernel, ofFamily } from "../plan/item.ts";
import { startsService } from "../plan/loader.ts";
import type { Load } from "../plan/plan.ts";
import { surveyKernel } from "../plan/survey.ts";
import { verbose } from "../system/verbose.ts";
import { findDrift, isDrifting, notLive } from "./drift.ts";
import { LoadLocks } from "./load-locks.ts";
import { orRollBack } from "./undo.ts";
import { removeWithoutLoad } from "./unload.ts";

/** Holds the write lock, and undoes what fails before it releases it. */
export type Alone = <T>(patience: number, steps: () => Promise<T>) => Promise<T>;

/** Once the files are as they should be. */
export async function loadRules(load: Load, undo: Undo[], request: ReloadRequest, alone: Alone): Promise<Reloaded> {
  const { found, loader } = load;
  const { timeout, backend } = request.host;
  if (loader.kind === "none") return { reloaded: [], warnings: [], live: {} };
  if (loader.kind === "shutdown") {
    const warnings = ["the host is shutting down: nothing was reloaded"];
    return { reloaded: [], warnings, live: {} };
  }
  // Twice the patience: without the lock there is no way on, nor back.
  const loaded = await alone(2 * timeout, async () => {
    const work: Work = { load, undo, locks: new LoadLocks(request.host), request };
    const loaded = await loadOrRemove(work);
    await backend.removeOthers(work);
    const { move } = load.base;
    if (move !== undefined) await move.from.backend.leave(move.from, request.defaults.chain, undo);
    return loaded;
  });
  // Last, because nothing brings a flow back; and also where another process's load has brought our rules.
  const warnings = await deleteStaleFlows(backend.changedDnats(found.items, found.live), timeout);
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

/** Without a family in which nothing of ours stands or should stand: only a service may load that one, too. */
function ofConcern(items: readonly Item[]): Item[] {
  const concerns = (item: Item) => item.before !== undefined || item.after !== undefined || hasChanges(item);
  const families = new Set(items.filter(concerns).map(({ family }) => family));
  return items.filter(({ family }) => families.has(family));
}

/** Under the lock: check, load, check again. */
async function lookAndLoad(items: readonly Item[], work: Work): Promise<Reloaded> {
  const { load, undo, locks, request } = work;
  const { host } = request;
  const { backend } = host;
  const before = await surveyKernel(items, host);
  const families = FAMILIES.filter((family) => ofFamily(before.items, family).some(isDrifting));
  await backend.refuseNewcomers(work, before.live, families);
  if (families.length === 0 && !startsService(load.loader)) {
    verbose(() => "load: not needed, the rules are live");
    return { reloaded: [], warnings: [], live: before.live };
  }
  const left: Kernel = {};
  // A service may load more than what drifts, so every family has a rollback step. A patch makes its own.
  const isService = load.loader.kind === "systemd";
  const touched = isService ? FAMILIES : load.loader.kind === "patch" ? [] : families;
  const ways = backend.waysBack(touched, { items, live: before.live, left, going: load.going, isService }, locks, host);
  undo.unshift(...ways.salvages);
  undo.push(...ways.snapshots);
  const { live: seen, ...loaded } = await backend
    .load(families, before, work)
    .catch((error: unknown) => bringBackTaken(error, load, ways));
  const live = await refuseNotLive(items, seen, work);
  Object.assign(left, live);
  return { ...loaded, live };
}

/** Rules that a service removed are restored even if nothing else is undone. */
async function bringBackTaken(error: unknown, { closes }: Load, { snapshots }: WaysBack): Promise<never> {
  if (closes && error instanceof TookAway) for (const back of snapshots) await back();
  throw error;
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
  throw await notLive(first, { drifting, live, others }, request.host);
}
