// A change that waits for its confirmation: written down before it begins, and kept or put back. For the holder of the write lock.
//
// Files are put back only where they are as the change left them; of the kernel, what the change replaced, but containers' rules are
// those of the fragments as they are now: what was published or unpublished meanwhile stays so.

import { basename, dirname } from "node:path";
import { confirmationOf } from "../fragments/confirmed.ts";
import { existingFamilies, type Own, readFragments, readOwn } from "../fragments/directory.ts";
import type { ChangedFile, FormerUnit, Unconfirmed } from "../generated/unconfirmed.ts";
import { asFailure, Failure } from "../model/errors.ts";
import { FAMILIES } from "../model/family.ts";
import { containerOf } from "../model/owner.ts";
import type { HostConfig } from "../model/request.ts";
import { configWords } from "../model/settings.ts";
import { timeOfDay } from "../model/unconfirmed.ts";
import type { HostRequest } from "../plan/backend.ts";
import { loadersOf } from "../plan/services.ts";
import type { Waiting } from "../plan/unconfirmed.ts";
import { clearTemporary, replaceFragment } from "../system/replace-file.ts";
import { forgetLastValid } from "../system/settings-file.ts";
import { networkNamespace, removeState, stateOf } from "../system/state.ts";
import { findUnconfirmed, forgetUnconfirmed, keepUnconfirmed, readNow } from "../system/unconfirmed-file.ts";
import { verbose } from "../system/verbose.ts";
import {
  disableUnit,
  enableUnit,
  findPlaces,
  isLoadable,
  reloadManager,
  restartSoon,
  startSoon,
  stopUnit,
  WATCH_UNIT,
} from "../systemd/install.ts";
import { startWaiting, stopWaiting, type Waiter, waitSooner } from "../systemd/revert-unit.ts";
import { LoadLocks } from "./load-locks.ts";

export type ConfirmRequest = Pick<HostRequest, "host" | "settings">;

/** That a change waits: until when, and who would put it back. */
export interface Waits {
  until: string;
  waiter: Waiter;
}

/** seconds; how long one that is under way may take longer than it is given, before it counts as one that died. */
const GRACE = 60;

/** For the record of a change that begins now. */
export async function waitingFor(seconds: number): Promise<Waiting> {
  const now = await readNow();
  return { now, namespace: await networkNamespace(), seconds: seconds + GRACE, until: timeIn(seconds + GRACE) };
}

/**
 * Before anything is changed: from now on it is put back, whatever becomes of this process. `other` is one that was put back and is
 * tried again: what is not trusted stays so until this is confirmed. Throws as `startWaiting`, with nothing begun.
 */
export async function begin(
  change: Unconfirmed,
  other: Unconfirmed | undefined,
  request: ConfirmRequest,
): Promise<Unconfirmed> {
  const { host, settings } = request;
  const begun = { ...change, armed: [...new Set([...change.armed, ...(other?.armed ?? [])])] };
  const words = [...host.backend.flags(host.directories), ...configWords(settings.path)];
  try {
    const left = Math.ceil(change.due - (await readNow()).uptime);
    // First who puts it back: without the record it only ends itself.
    await startWaiting(left, words, loadersOf(host), findPlaces(host.timeout, []), host);
    await keepUnconfirmed(host.directories, begun);
    return begun;
  } catch (error) {
    await notBegun(other, request);
    throw error;
  }
}

/** As it was before one that changed nothing. */
export async function notBegun(other: Unconfirmed | undefined, request: ConfirmRequest): Promise<void> {
  if (other === undefined) await forgetUnconfirmed(request.host.directories);
  else await keepUnconfirmed(request.host.directories, other);
  await stopTimer(request.host);
}

/** Once the change is made: the seconds that were given count from now on. Throws Failure `unconfirmed` where it is put back already. */
export async function countFromNow(change: Unconfirmed, seconds: number, { host }: ConfirmRequest): Promise<Waits> {
  const { directories } = host;
  const waiting = await findUnconfirmed(directories);
  if (waiting?.stage !== "making" || waiting.due !== change.due) throw isPutBack(change);
  const now = await readNow();
  const until = timeIn(seconds);
  await keepUnconfirmed(directories, { ...change, stage: "waiting", due: now.uptime + seconds, until });
  return { until, waiter: await waitSooner(seconds, findPlaces(host.timeout, []), host) };
}

function isPutBack({ what, until }: Unconfirmed): Failure {
  const message = `the ${what} was put back while it was being made, by 'docker_iptables revert', or because it took until ${timeOfDay(until)}; allow more seconds with --confirm`;
  return new Failure("unconfirmed", message, { what, until });
}

/** Nothing waits any more. */
export async function end({ host }: ConfirmRequest): Promise<void> {
  await forgetUnconfirmed(host.directories);
  await stopTimer(host);
}

/** Nobody waits any more; also where a run that has ended it has died before it was done. */
export async function stopTimer({ directories, timeout }: HostConfig): Promise<void> {
  await stopWaiting(findPlaces(timeout, []), { directories, timeout });
}

function timeIn(seconds: number): string {
  return new Date(Date.now() + seconds * 1000).toISOString();
}

/** What the removal of the host's rules leaves for the end. Throws Failure `write_failed`, `permission_denied`. */
export async function forgetHost({ host, settings }: ConfirmRequest): Promise<void> {
  await forgetLastValid(settings.path);
  for (const family of FAMILIES) await removeState(stateOf(family, host.directories[family]));
}

/** The files that change with the confirmation. Throws Failure `write_failed`, `permission_denied`. */
export async function changeLater({ later }: Unconfirmed): Promise<void> {
  for (const { path, before, after } of later)
    if ((await readOwn(path))?.text === before?.text) await replaceIn(path, after ?? undefined, before ?? undefined);
}

/** What was put back, and what could not be. */
export interface Reverted {
  done: string[];
  failures: Failure[];
}

/**
 * Puts back what was there. Where something fails all else is still done, and it can be tried again. Others' fragments are not ours to
 * put back: where they hold what was not loaded before, the record stays, and says that they are not to be trusted.
 */
export async function putBack(change: Unconfirmed, request: ConfirmRequest): Promise<Reverted> {
  const { host } = request;
  const reverted: Reverted = { done: [], failures: [] };
  const step = (what: () => Promise<readonly string[]>) =>
    what().then(
      (done) => void reverted.done.push(...done),
      (error: unknown) => void reverted.failures.push(asFailure(error)),
    );
  // From here on no confirmation comes in time. A full disk stops nothing else.
  await step(() => keepStage({ ...change, stage: "putting back" }, host));
  const isUnits = ({ path }: ChangedFile) => UNIT_FILE.test(path);
  // First the units: the watcher would follow what is put back.
  for (const file of change.files.filter(isUnits)) await step(() => putBackUnitFile(file, host.timeout));
  for (const file of change.files) if (!isUnits(file)) await step(() => putBackFile(file));
  await step(() => removeStranded(change, host));
  const isWhole = reverted.failures.length === 0;
  await step(() => putBackKernel(change, isWhole, host));
  await step(() => rereadUnits(change, host.timeout));
  for (const unit of change.units) await step(() => putBackUnit(unit, change, host.timeout));
  if (reverted.failures.length > 0) return reverted;
  await step(async () => {
    if (change.what === "setup" && !change.isSetUp) await forgetHost(request);
    if (change.armed.length > 0) await keepUnconfirmed(host.directories, distrusted(change));
    else await forgetUnconfirmed(host.directories);
    await stopTimer(host);
    return [];
  });
  verbose(() => `revert: ${reverted.done.join(", ") || "nothing to put back"}`);
  return reverted;
}

/**
 * From then on no fragment that is not trusted is loaded. Where the files are put back (`isWhole`) it is done once: a later try leaves
 * alone what others have made of the rules since.
 */
async function putBackKernel(change: Unconfirmed, isWhole: boolean, host: HostRequest["host"]): Promise<string[]> {
  const { boot } = await readNow();
  const isHere = change.boot === boot && change.namespace === (await networkNamespace());
  const families = await existingFamilies(host.directories);
  const kernel = change.kernel.filter(({ family }) => families.includes(family));
  return new LoadLocks(host).holding(families, async () => {
    const done = isHere ? await host.backend.putBack({ ...change, kernel }, host) : [];
    const left = isWhole ? { kernel: [], tables: [] } : {};
    await keepStage({ ...change, ...left, stage: "putting back" }, host);
    return done;
  });
}

async function keepStage(change: Unconfirmed, { directories }: HostConfig): Promise<string[]> {
  await keepUnconfirmed(directories, change);
  return [];
}

/** What is left of one whose fragments are not to be trusted. */
export function distrusted(change: Unconfirmed): Unconfirmed {
  return { ...change, stage: "distrusted", files: [], later: [], units: [], kernel: [], tables: [] };
}

async function putBackFile({ path, before, after }: ChangedFile): Promise<string[]> {
  // A later writer's bytes are not ours to undo, nor what is no plain file by now.
  const now = await readOwn(path).catch(() => ({ text: undefined }));
  if ((now === undefined ? null : now.text) !== after) return [];
  await replaceIn(path, before?.text, before ?? undefined);
  return [path];
}

async function replaceIn(path: string, text: string | undefined, former?: Own): Promise<void> {
  await clearTemporary(dirname(path));
  await replaceFragment(path, text, former);
}

/** What was published meanwhile, where there was no chain for it before, or by a watcher that there is no more. */
async function removeStranded(
  { bare, containers, files }: Unconfirmed,
  { directories }: HostConfig,
): Promise<string[]> {
  const removed: string[] = [];
  const hadWatcher = !files.some(({ path, before }) => basename(path) === WATCH_UNIT && before === null);
  for (const family of await existingFamilies(directories)) {
    if (hadWatcher && !bare.includes(family)) continue;
    const directory = directories[family];
    const all = (await readFragments(directory)).map(({ path }) => path);
    const stranded = all.filter((path) => containerOf(path) !== undefined && !containers.includes(path));
    if (stranded.length === 0) continue;
    for (const path of stranded) await replaceIn(path, undefined);
    const list = await confirmationOf(directory, []);
    await replaceIn(list.path, list.after, await readOwn(list.path));
    removed.push(...stranded);
  }
  return removed;
}

/** One that was not there is stopped and disabled while systemd knows it. */
async function putBackUnitFile(file: ChangedFile, timeout: number): Promise<string[]> {
  const isLeft = file.before === null && (await readOwn(file.path).catch(() => undefined))?.text === file.after;
  if (isLeft) {
    const unit = basename(file.path);
    await disableUnit(unit, timeout);
    await stopUnit(unit, timeout);
  }
  return putBackFile(file);
}

async function rereadUnits({ files, units }: Unconfirmed, timeout: number): Promise<string[]> {
  if (units.length > 0 || files.some(({ path }) => UNIT_FILE.test(path))) await reloadManager(timeout);
  return [];
}

/** Started without waiting: this may run before them in a boot. */
async function putBackUnit(unit: FormerUnit, { files }: Unconfirmed, timeout: number): Promise<string[]> {
  const { name, isEnabled, isActive } = unit;
  if (await isGone(unit, files, timeout)) return [];
  if (isEnabled) await enableUnit(name, timeout);
  else await disableUnit(name, timeout);
  if (!isActive) await stopUnit(name, timeout);
  else if (name === WATCH_UNIT) await restartSoon(name, timeout);
  else await startSoon(name, timeout);
  return [];
}

const UNIT_FILE = /\.(service|timer)$/;

/** Whether somebody else has removed it, or made something else of it. */
async function isGone({ name }: FormerUnit, files: readonly ChangedFile[], timeout: number): Promise<boolean> {
  if (!(await isLoadable(name, timeout))) return true;
  const file = files.find(({ path }) => basename(path) === name);
  if (file === undefined) return false;
  const now = await readOwn(file.path).catch(() => undefined);
  return now?.text !== file.before?.text;
}
