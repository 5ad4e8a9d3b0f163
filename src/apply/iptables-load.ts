// How iptables takes the rules: by a load of the directories, by a service that does it, or by exchanging our own rules alone.

import { sortByBoot } from "../fragments/confirmed.ts";
import { readFragments } from "../fragments/directory.ts";
import { restoreCommand } from "../iptables/commands.ts";
import { type Live, NOTHING_LIVE } from "../iptables/live.ts";
import { asFailure, ConcurrentChange, Failure } from "../model/errors.ts";
import type { Family } from "../model/family.ts";
import { type HostConfig, removesHost } from "../model/request.ts";
import { emptyBackend, restoreBackend } from "../netfilter/foreign-firewalls.ts";
import { keepOurLastGood } from "../netfilter/last-good.ts";
import type { HostRequest, Look, Reloaded, Work } from "../plan/backend.ts";
import { readDirectories } from "../plan/directories.ts";
import { deletedSince, findForeignRules, rememberSeen } from "../plan/foreign-rules.ts";
import { type Kernel, ofFamily } from "../plan/item.ts";
import { describePatch, type Loader, replacesForeign, startsService } from "../plan/loader.ts";
import { whatWaits } from "../system/unconfirmed-file.ts";
import { loadUnit, type Unit } from "../systemd/units.ts";
import { removeLeftover } from "./leftovers.ts";
import { findBroken, loadLocked } from "./load.ts";
import { dropChains, patchOwnRules } from "./patch.ts";
import { loadWatched } from "./watched-load.ts";

/**
 * Another firewall may have been started while this call waited for the client or for a lock. Throws ConcurrentChange: it starts
 * again.
 */
export async function refuseNewcomers(
  { load, request }: Work,
  live: Kernel,
  families: readonly Family[],
): Promise<void> {
  const { loader, found } = load;
  const loads = loader.kind === "restore" || (loader.kind === "systemd" && !startsService(loader));
  if (!loads || replacesForeign(request)) return;
  const changed = families.filter((family) => listed(live[family]) !== listed(found.live[family]));
  if (changed.length === 0) return;
  const now = Object.fromEntries(changed.map((family) => [family, live[family]]));
  const [first] = await findForeignRules(now, await readDirectories(request.host), request.host);
  if (first === undefined) return;
  const message = `rules that no fragment declares were added during this call: ${first.rules[0]}; nothing was changed; retry`;
  throw new ConcurrentChange(message, { rules: first.rules.slice(0, 10) });
}

function listed(live: Live | undefined): string {
  return JSON.stringify([...(live?.tables ?? [])].map(([name, { lines }]) => [name, lines]));
}

/** `Backend.load`. */
export async function loadWith(families: readonly Family[], before: Look, work: Work): Promise<Reloaded> {
  const { loader } = work.load;
  const { host } = work.request;
  switch (loader.kind) {
    case "unusable":
      throw loader.why;
    case "systemd":
      return loadByServices(loader.units, families, before, work);
  }
  const live: Kernel = {};
  const warnings = await sideBySide(families, async (family) => {
    if (loader.kind === "patch") {
      live[family] = await patch(family, before, work);
      return rememberPatched(family, live[family], loader, work.request);
    }
    const loading = { families: [family], directories: host.directories, timeout: host.timeout };
    return (await loadLocked(loading, before.live)).warnings;
  });
  return { reloaded: families.map(restoreCommand), warnings, live };
}

async function loadByServices(
  all: readonly Unit[],
  families: readonly Family[],
  before: Look,
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
  return findBroken(current, { family, directory, timeout }, NOTHING_LIVE);
}

/** All of them, whatever becomes of one; throws the first failure once all have ended. The kernel takes most of the time of each. */
async function sideBySide<T>(things: readonly T[], step: (thing: T) => Promise<string[]>): Promise<string[]> {
  const ended = await Promise.allSettled(things.map(step));
  const failed = ended.find((one) => one.status === "rejected");
  if (failed !== undefined) throw failed.reason;
  return ended.flatMap((one) => (one.status === "fulfilled" ? one.value : []));
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
async function patch(family: Family, { items, live }: Look, work: Work): Promise<Live | undefined> {
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
  { host, loading }: Pick<HostRequest, "host" | "loading">,
): Promise<string[]> {
  const directory = host.directories[family];
  const isAsked = loading.reload === "patch";
  const isConfirmed = (await whatWaits(host.directories)) === undefined;
  const kept = isConfirmed ? await keepOurLastGood(family, directory, await readFragments(directory), isAsked) : [];
  if (loader.why?.kind !== "foreign") return kept;
  return [...kept, ...(await rememberSeen(family, live, host, describePatch(loader.why)))];
}

function isBesideForeign(loader: Loader): boolean {
  return loader.kind === "patch" && loader.why?.kind === "foreign";
}

/** `Backend.removeOthers`: the other variant's rules, and what Docker left. */
export async function removeOthers({ load, undo, locks, request }: Work): Promise<void> {
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
