// Has the kernel take the rules, in the way that was asked for, and looks whether it did.

import type { Fragments } from "../fragments/by-family.ts";
import { sortByBoot } from "../fragments/confirmed.ts";
import { readFragments, readOwn } from "../fragments/directory.ts";
import type { Arguments } from "../generated/arguments.ts";
import { changedDnats } from "../iptables/changed-dnats.ts";
import { restoreCommand } from "../iptables/commands.ts";
import { type Drift, hasDrift, type Live, readLive } from "../iptables/live.ts";
import { INGRESS_CHAIN, meshOf } from "../iptables/mesh.ts";
import { goneLines } from "../iptables/removal.ts";
import { commentOf, spellLive } from "../iptables/rule.ts";
import { directoryOf } from "../model/directories.ts";
import { asFailure, ConcurrentChange, Failure, orElse } from "../model/errors.ts";
import { FAMILIES, type Family } from "../model/family.ts";
import { spellOwner } from "../model/owner.ts";
import { deleteStaleFlows } from "../netfilter/conntrack.ts";
import { emptyBackend, restoreBackend } from "../netfilter/foreign-firewalls.ts";
import { backendsWith } from "../netfilter/iptables.ts";
import { keepOurLastGood } from "../netfilter/last-good.ts";
import { restoreSnapshot } from "../netfilter/snapshot.ts";
import { refuseRewritten } from "../plan/concurrency.ts";
import { readDirectories } from "../plan/directories.ts";
import {
  deletedSince,
  describeForeignRules,
  type ForeignRules,
  findForeignRules,
  rememberSeen,
} from "../plan/foreign-rules.ts";
import type { HostPlan } from "../plan/host-plan.ts";
import { servicesFor } from "../plan/host-rules.ts";
import { hasChanges, hasFileChanges, type Item, isContainers, type Kernel } from "../plan/item.ts";
import { adviseService } from "../plan/missing-service.ts";
import { type Survey, surveyKernel } from "../plan/survey.ts";
import { withLoadLock } from "../system/lock.ts";
import { verbose } from "../system/verbose.ts";
import { isLoader } from "../systemd/install.ts";
import { findUnit, isShuttingDown, loadUnit, type Unit } from "../systemd/units.ts";
import { removeLeftover } from "./leftovers.ts";
import { findBroken, loadLocked } from "./load.ts";
import { dropChains, patchOwnRules, removeRules } from "./patch.ts";
import { loadWhatCan } from "./salvage.ts";
import { orRollBack, type Undo } from "./undo.ts";
import { loadWatched, TookAway } from "./watched-load.ts";

/** How the kernel will get the rules; found out before anything is written. */
export type Loader =
  | { kind: "none" | "restore" | "shutdown" }
  /** `why` it is not the way that was asked for; `beside` whose rules. */
  | { kind: "patch"; why?: string; beside?: readonly ForeignRules[] }
  | { kind: "systemd"; units: Unit[] }
  /** A load cannot be had. */
  | { kind: "unusable"; why: Failure };

/** What the kernel is to get. */
export interface Load {
  found: Survey;
  base: HostPlan;
  loader: Loader;
  /** Of those who have no rules any more: what is taken away of them is never brought back. */
  going: readonly Item[];
  /** Whether nothing else changes. Then nothing is undone, and what goes goes without a load if none can be had. */
  closes: boolean;
}

export interface Reloaded {
  reloaded: string[];
  warnings: string[];
  /** The kernel afterwards; empty where it was not looked at. */
  live: Survey["live"];
}

/**
 * Throws Failure `unit_missing`, `unit_not_suitable`, unless what is wanted only takes away. The base brings its own services.
 * A host that shuts down loads nothing for `absent`: systemd would refuse the job, and the rules go with the host.
 *
 * Beside a swarm's routing mesh only our own rules are exchanged: dockerd changes its rules at any time, and a service of
 * another hand knows nothing of them. What starts with the base is our own load, which carries them over.
 */
export async function chooseLoader(
  { items, live }: Survey,
  base: HostPlan,
  future: Fragments,
  closes: boolean,
  args: Arguments,
): Promise<Loader> {
  if (args.reload === "none" || args.reload === "patch") return { kind: args.reload };
  const units = base.units.filter(isLoader);
  const starts = args.reload === "systemd" && units.some(({ start }) => start);
  const isMeshed = FAMILIES.some((family) => meshOf(live[family] ?? readLive(""), future[family] ?? []).size > 0);
  if (isMeshed && !starts) return { kind: "patch", why: MESHED };
  if (base.broken !== undefined) return { kind: "patch", why: onlyOurs(base.broken) };
  const beside =
    starts || (args.base && (args.adopt || args.replace)) ? [] : await findForeignRules(live, future, args);
  const patch: Loader = { kind: "patch", why: describeForeignRules(beside), beside };
  if (args.reload === "restore") return beside.length > 0 ? patch : { kind: "restore" };
  if (args.base && args.state === "present") return beside.length > 0 ? patch : { kind: "systemd", units };
  if (args.state === "absent" && (await isShuttingDown(args.timeout))) return { kind: "shutdown" };
  const changing = FAMILIES.filter((one) => items.some((item) => item.family === one && hasChanges(item)));
  try {
    const units = await Promise.all(servicesFor(changing, args).map((wish) => findUnit(wish, args.timeout)));
    return beside.length > 0 ? patch : { kind: "systemd", units };
  } catch (error) {
    const why = asFailure(await adviseService(error, live, args));
    if (!closes) throw why;
    return { kind: "unusable", why };
  }
}

/** Which it is and why, for --verbose. */
export function describeLoader(loader: Loader, { reload }: Pick<Arguments, "reload">): string {
  const chosen = loader.kind === reload ? `loader: ${reload}, as asked for` : `loader: ${loader.kind}, not ${reload}`;
  switch (loader.kind) {
    case "patch":
      return loader.why === undefined ? chosen : `${chosen}: ${loader.why}`;
    case "unusable":
      return `${chosen}: ${loader.why.message}`;
    case "systemd":
      return `${chosen}: ${loader.units.map(({ verb, name, ours }) => `${verb} ${name}${ours ? "" : " (not ours)"}`).join(", ")}`;
    default:
      return chosen;
  }
}

/** Whatever is wrong with somebody's fragment: the guard of a new network is not left out for it. */
function onlyOurs({ message }: Failure): string {
  return `no fragment of others can be loaded until this is fixed, so only docker_iptables' own rules were exchanged: ${message}`;
}

const MESHED = `this host is in a swarm, whose routing mesh (${INGRESS_CHAIN}) a load could lose: only docker_iptables' own rules were exchanged, as reload: patch does`;

/** Once the files are as they should be. `alone` holds the write lock, and undoes what fails before it releases it. */
export async function loadRules(
  load: Load,
  undo: Undo[],
  args: Arguments,
  alone: <T>(patience: number, steps: () => Promise<T>) => Promise<T>,
): Promise<Reloaded> {
  const { found, base, loader, closes } = load;
  const { items, live } = found;
  if (loader.kind === "none") return { reloaded: [], warnings: [], live: {} };
  if (loader.kind === "shutdown") {
    const warnings = ["the host is shutting down: nothing was reloaded, the rules go with the host"];
    return { reloaded: [], warnings, live: {} };
  }
  // Twice the patience: without the lock there is no way on, nor back.
  const loaded = await alone(2 * args.timeout, async () => {
    const concerned = loader.kind === "systemd" ? items : ofConcern(items);
    const locks = new LoadLocks(args);
    const steps = () => lookAndLoad(concerned, load, undo, locks, args);
    // No load may come between the look, what is made of it, and the way back. The service's own load takes the locks itself.
    const families = FAMILIES.filter((family) => concerned.some((item) => item.family === family));
    const loading =
      loader.kind === "systemd" ? steps() : locks.holding(families, () => (closes ? steps() : orRollBack(undo, steps)));
    const loaded = await (closes
      ? loading.catch((error: unknown) => removeInstead(asFailure(error), load, locks, args))
      : loading);
    for (const { family, other } of base.others) {
      undo.push(async () => {
        await restoreBackend(family, other.backend, other.live, args.timeout);
        return `the rules of the ${other.backend} backend`;
      });
      await emptyBackend(family, other.backend, other.live, args.timeout);
    }
    for (const leftover of base.leftovers) {
      const concerned = leftover.kind === "rules" ? [leftover.family] : [];
      await locks.holding(concerned, () => removeLeftover(leftover, undo, args.timeout));
    }
    return loaded;
  });
  // Last, because nothing brings a flow back; and also where another process's load has brought our rules.
  const warnings = await deleteStaleFlows(changedDnats(items, live), args.timeout);
  return { ...loaded, warnings: [...loaded.warnings, ...warnings] };
}

/** The load locks of this call: what is done while they are held does not wait for them. */
class LoadLocks {
  readonly #args: Arguments;
  #held: readonly Family[] = [];

  constructor(args: Arguments) {
    this.#args = args;
  }

  async holding<T>(families: readonly Family[], steps: () => Promise<T>): Promise<T> {
    const missing = families.filter((family) => !this.#held.includes(family));
    const directories = new Set(missing.map((family) => directoryOf(family, this.#args)));
    return withLoadLock([...directories], this.#args.timeout, async () => {
      const before = this.#held;
      this.#held = [...before, ...missing];
      return steps().finally(() => {
        this.#held = before;
      });
    });
  }
}

/** Under the lock: look, load, look again. */
async function lookAndLoad(
  items: readonly Item[],
  load: Load,
  undo: Undo[],
  locks: LoadLocks,
  args: Arguments,
): Promise<Reloaded> {
  const { loader, going } = load;
  const before = await surveyKernel(items, args);
  const families = FAMILIES.filter((family) =>
    before.items.some((item) => item.family === family && item.drift && hasDrift(item.drift)),
  );
  await refuseNewStrangers(load, before.live, families, args);
  const idle = loader.kind === "systemd" && loader.units.some(({ start }) => start);
  if (families.length === 0 && !idle) {
    verbose(() => "load: not needed, the rules are live");
    return { reloaded: [], warnings: [], live: before.live };
  }
  // A service may load more than what drifts, so every family has its way back. A patch knows its own.
  const left: Kernel = {};
  const backs: Undo[] = [];
  const touched = loader.kind === "systemd" ? FAMILIES : families;
  for (const family of loader.kind === "patch" ? [] : touched) {
    const snapshot = before.live[family];
    if (snapshot === undefined) continue;
    const isEmpty = [...snapshot.tables.values()].every(({ lines }) => lines.length === 0);
    if (isEmpty && !isFirstSetup(items)) {
      // Nobody goes back to an open host: once the files are as they were, it gets what can be loaded of them.
      const what = () => loadWhatCan(family, directoryOf(family, args), args.timeout);
      // Why nothing can be loaded the failure itself says.
      undo.unshift(() => locks.holding([family], what).catch(orElse(undefined)));
      // A service that failed has perhaps done so.
      if (loader.kind === "systemd") continue;
    }
    const back = async () => {
      const kept = await readFragments(directoryOf(family, args)).catch(() => []);
      const gone = goneLines(ofFamily(going, family), kept, snapshot);
      return restoreSnapshot(family, snapshot, left[family], args.timeout, gone);
    };
    // A load of the service's may be under way.
    backs.push(() => locks.holding([family], back));
  }
  undo.push(...backs);
  const { live, ...loaded } = await loadWith(load, families, before, undo, locks, args).catch(
    async (error: unknown) => {
      // Where nothing is undone, that is but what a service took away.
      if (load.closes && error instanceof TookAway) for (const back of backs) await back();
      throw error;
    },
  );
  const others = loader.kind === "systemd" ? loader.units.filter(({ ours }) => !ours).map(({ name }) => name) : [];
  const { live: after, drifting } = await findDrift(items, live, args);
  const [first] = drifting;
  if (first !== undefined) {
    const wrote = [...load.base.files, ...load.found.items].some(hasFileChanges);
    await refuseRewritten(drifting, wrote).catch((error: unknown) => {
      // The kernel has what the fragments say: the way back would bring rules back that another process has removed.
      undo.splice(0);
      throw error;
    });
    throw await notLive(first, drifting, after, others, args);
  }
  Object.assign(left, after);
  return { ...loaded, live: after };
}

/** Somebody's firewall may have come while this call waited for the client or for a lock. Throws Overtaken: it looks again. */
async function refuseNewStrangers(
  { found, loader }: Load,
  live: Kernel,
  families: readonly Family[],
  args: Arguments,
): Promise<void> {
  const loads = loader.kind === "restore" || (loader.kind === "systemd" && !loader.units.some(({ start }) => start));
  if (!loads || (args.base && (args.adopt || args.replace))) return;
  const changed = families.filter((family) => listed(live[family]) !== listed(found.live[family]));
  if (changed.length === 0) return;
  const now = Object.fromEntries(changed.map((family) => [family, live[family]]));
  const [first] = await findForeignRules(now, await readDirectories(args), args);
  if (first === undefined) return;
  const message = `rules that no fragment declares came while this call was at work: ${first.rules[0]}; nothing was changed, run it again`;
  throw new ConcurrentChange(message, { rules: first.rules.slice(0, 10) });
}

function listed(live: Live | undefined): string {
  return JSON.stringify([...(live?.tables ?? [])].map(([name, { lines }]) => [name, lines]));
}

/** Whether the base is written for the first time. */
function isFirstSetup(items: readonly Item[]): boolean {
  return items.some((item) => !isContainers(item) && item.before === undefined);
}

/** Without a family in which nothing of ours stands or should stand: only a service may load that one, too. */
function ofConcern(items: readonly Item[]): Item[] {
  const concerns = (item: Item) => item.before !== undefined || item.after !== undefined || hasChanges(item);
  const families = new Set(items.filter(concerns).map(({ family }) => family));
  return items.filter(({ family }) => families.has(family));
}

/**
 * Where a load fails, or cannot be had, what goes is taken out of the kernel without one: whatever somebody's fragment is
 * like, a port does not stay open for it. For the holder of the write lock. Throws the load's failure where rules are left.
 *
 * A load that holds the load lock for too long may have read the fragments before they went, and would bring the rules back:
 * then they are taken out, and the failure stays one.
 */
async function removeInstead(why: Failure, { going }: Load, locks: LoadLocks, args: Arguments): Promise<Reloaded> {
  // The load did what it should.
  if (why instanceof ConcurrentChange) throw why;
  verbose(() => `load: failed, so rules are removed without one: ${why.message}`);
  const { items, live } = await surveyKernel(going, args);
  const families = FAMILIES.filter((family) => ofFamily(items, family).some(isDrifting));
  // Whose fragment is there again was published anew by another process meanwhile.
  const files = await Promise.all(items.map(({ path }) => readOwn(path)));
  const gone = items.filter((_, index) => files[index] === undefined);
  const remove = async () => {
    const after = { ...live };
    for (const family of families) {
      after[family] = await removeRules(family, ofFamily(gone, family), args);
      if (args.base && args.state === "absent") await dropChains(family, args);
    }
    const { live: left, drifting } = await findDrift(going, after, args);
    if (drifting.length > 0) throw why;
    return left;
  };
  try {
    const after = await locks.holding(families, remove);
    return {
      reloaded: families.map(restoreCommand),
      warnings: [withoutLoad(why, items.filter(isDrifting))],
      live: after,
    };
  } catch (error) {
    if (error instanceof Failure && error.code === "locked") await remove();
    throw why;
  }
}

/** That a load cannot be had, and what was done without one. */
export function withoutLoad(why: Failure, removed: readonly Item[] = []): string {
  const done =
    removed.length === 0 ? "" : `; the rules of ${namesOf(removed)} were removed from the kernel without a load`;
  return `no fragment can be loaded until this is fixed: ${why.message}${done}`;
}

/** Whose they are, each once. */
export function namesOf(items: readonly Item[]): string {
  return [...new Set(items.map(({ owner }) => spellOwner(owner)))].join(", ");
}

function ofFamily<T extends { family: Family }>(items: readonly T[], family: Family): T[] {
  return items.filter((item) => item.family === family);
}

async function loadWith(
  { loader, going, closes }: Load,
  families: readonly Family[],
  before: Pick<Survey, "items" | "live">,
  undo: Undo[],
  locks: LoadLocks,
  args: Arguments,
): Promise<Reloaded> {
  if (loader.kind === "unusable") throw loader.why;
  if (loader.kind === "systemd") {
    const units = loader.units.filter(
      (unit) => unit.start || unit.families.some((family) => families.includes(family)),
    );
    const step = () => inTurn(units, closes, (unit) => loadNamingBroken(unit, args));
    const loaded = await loadWatched(units, step, before, args);
    // Ours remember what they load.
    if (units.some(({ ours }) => !ours)) {
      for (const family of families) loaded.warnings.push(...(await rememberSeen(family, loaded.live[family], args)));
    }
    return { reloaded: units.map(({ name }) => name), ...loaded };
  }
  const live: Kernel = {};
  const warnings = await inTurn(families, closes, async (family) => {
    if (loader.kind === "patch") {
      const after = await patch(family, before, loader.beside, going, undo, locks, args);
      live[family] = after;
      const kept = await keepOurs(family, args);
      return loader.beside === undefined ? kept : [...kept, ...(await rememberSeen(family, after, args, loader.why))];
    }
    const directories = { [family]: directoryOf(family, args) };
    const request = { directories, timeout: args.timeout };
    return (await loadLocked(request, before.live)).warnings;
  });
  return { reloaded: families.map(restoreCommand), warnings, live };
}

/** Throws Failure as `loadUnit`; it names the fragment that is to blame. */
async function loadNamingBroken(unit: Unit, args: Arguments): Promise<string[]> {
  try {
    const warnings = await loadUnit(unit, args.timeout);
    // Ours keep strangers' rules as they start, and replace them as they reload.
    if (!(args.replace && unit.ours && unit.start)) return warnings;
    return [...warnings, ...(await loadUnit({ ...unit, verb: "reload" }, args.timeout))];
  } catch (error) {
    const { code, facts } = asFailure(error);
    const broken = await Promise.all(unit.families.map((family) => tryDirectory(family, args))).catch(() => []);
    const first = broken.find((one) => one !== undefined);
    if (first === undefined) throw error;
    const message = `${unit.name} could not load the rules: ${first.message}`;
    throw new Failure(code, message, { ...first.facts, ...facts }, { cause: error });
  }
}

async function tryDirectory(family: Family, args: Arguments): Promise<Failure | undefined> {
  const directory = directoryOf(family, args);
  const { current } = await sortByBoot(directory, await readFragments(directory));
  return findBroken(current, { family, directory, timeout: args.timeout }, readLive(""));
}

/** The first failure stops it; what only takes away goes on, so that one family's failure does not leave the other's ports open. */
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

async function keepOurs(family: Family, args: Arguments): Promise<string[]> {
  const directory = directoryOf(family, args);
  return keepOurLastGood(family, directory, await readFragments(directory), args.reload === "patch");
}

/** `reload: patch`: our rules exchanged, the others left alone. Returns the kernel's rules. */
async function patch(
  family: Family,
  { items, live }: Pick<Survey, "items" | "live">,
  beside: readonly ForeignRules[] | undefined,
  going: readonly Item[],
  undo: Undo[],
  locks: LoadLocks,
  args: Arguments,
): Promise<Live | undefined> {
  const before = live[family];
  if (before === undefined) return undefined;
  const former = ofFamily(items, family).map((item) => item.former);
  if (beside !== undefined) former.push(await deletedSince(family, before, args));
  const place = { family, directory: directoryOf(family, args), timeout: args.timeout };
  const after = await patchOwnRules(place, former, ofFamily(going, family), before, (wayBack) =>
    undo.push(() => locks.holding([family], wayBack)),
  );
  if (args.base && args.state === "absent") await dropChains(family, args);
  return after;
}

type Drifting = Item & { drift: Drift };

function isDrifting(item: Item): item is Drifting {
  return item.drift !== undefined && hasDrift(item.drift);
}

/**
 * The kernel's rules, those seen already or new ones, and the fragments that they do not agree with. The former fragment's
 * rules are not asked for again: another fragment may hold the same.
 */
async function findDrift(
  items: readonly Item[],
  seen: Kernel,
  args: Arguments,
): Promise<{ live: Kernel; drifting: Drifting[] }> {
  const unasked = items.map((item) => ({ ...item, former: new Map() }));
  const { items: after, live } = await surveyKernel(unasked, args, seen);
  // Somebody who comes first right after the load did not undo it.
  return { live, drifting: after.filter(isDrifting).filter(({ drift }) => hasDrift({ ...drift, ahead: undefined })) };
}

/** Failure `rules_not_live`, which says what is wrong with the first of them. `others` are services that are not ours. */
async function notLive(
  { owner, family, drift }: Drifting,
  drifting: readonly Item[],
  live: Kernel,
  others: readonly string[],
  args: Arguments,
): Promise<Failure> {
  const what =
    drift.missing[0] !== undefined
      ? `the kernel lacks '${spellLive(drift.missing[0])}'`
      : drift.surplus > 0
        ? `${drift.surplus} of its rules are still there`
        : drift.unreached !== undefined
          ? `nothing jumps to the chain ${drift.unreached}`
          : "its rules are there in another order";
  const name = spellOwner(owner);
  const backends = await backendsWith(family, commentOf(name), args.timeout);
  // Where the rules are that were looked for says nothing, but for those of another backend than the one that was asked.
  const elsewhere = backends.length > 1 || !live[family]?.text.includes(commentOf(name));
  const hint =
    others.length > 0
      ? `; ${others.join(" and ")} loaded them, which docker_iptables did not write: see what it does with 'systemctl cat ${others[0]}'; without it, reload: patch exchanges only docker_iptables' own rules`
      : elsewhere && backends.length > 0
        ? `; the ${backends.join(" and the ")} backend holds rules of ${name}: do all parties use the same iptables?`
        : "";
  return new Failure("rules_not_live", `the rules were loaded, and for ${name} ${what}${hint}`, {
    containers: drifting.map((item) => spellOwner(item.owner)),
    missing: drift.missing.map(spellLive),
    surplus: drift.surplus,
    backends,
  });
}
