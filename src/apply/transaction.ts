// The transaction: write the fragments, load them into the kernel, check that they are live; or roll back.
//
// The directory's lock is held twice, while files are written and while rules are loaded, and released in between: of many
// processes all write first, and each checks before it loads, because another's load may have loaded its rules.

import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import { confirmationOf, misfiledOf } from "../fragments/confirmed.ts";
import { readOwn } from "../fragments/directory.ts";
import type { Unconfirmed } from "../generated/unconfirmed.ts";
import { asFailure, Failure, type Undone } from "../model/errors.ts";
import { type HostConfig, removesHost } from "../model/request.ts";
import { unconfirmedFailure } from "../model/unconfirmed.ts";
import type { HostRequest, Reloaded, ReloadRequest, Undo } from "../plan/backend.ts";
import { refuseConcurrentChange } from "../plan/concurrency.ts";
import { hasUnitChanges } from "../plan/host-plan.ts";
import { type FileChange, hasFileChanges, hasRules, isContainers } from "../plan/item.ts";
import type { Plan } from "../plan/plan.ts";
import type { SelectionRequest } from "../plan/selection.ts";
import type { Survey } from "../plan/survey.ts";
import { changedUnits, unconfirmedOf } from "../plan/unconfirmed.ts";
import { withWriteLock } from "../system/lock.ts";
import { clearTemporary, writeFailure } from "../system/replace-file.ts";
import { findUnconfirmed, forgetUnconfirmed, readNow } from "../system/unconfirmed-file.ts";
import { formerUnit } from "../systemd/install.ts";
import { begin, countFromNow, forgetHost, putBack, type Waits, waitingFor } from "./confirmation.ts";
import { type Alone, loadRules } from "./reload.ts";
import { installUnits, removeUnits, startWatcher } from "./services.ts";
import { orRollBack, write } from "./undo.ts";

type CommitRequest = ReloadRequest & SelectionRequest & Pick<HostRequest, "settings" | "confirm">;

/** What came of it. */
export interface Committed extends Reloaded {
  /** Where it is put back unless it is confirmed. */
  waits?: Waits;
}

/** A commit under way. */
interface Commit {
  plan: Plan;
  request: CommitRequest;
  /** The steps back. */
  undo: Undo[];
  /** Rules that are to be removed, which a rollback never restores. */
  gone: Undo[];
  alone: Alone;
}

/**
 * Makes files, services and kernel as planned. Throws Failure; what was undone is in its `rolledBack`.
 *
 * A failure restores what was there, except rules to be removed: those are never restored.
 */
export async function commit(plan: Plan, request: CommitRequest): Promise<Committed> {
  const undo: Undo[] = [];
  const gone: Undo[] = [];
  const alone = aloneFor(plan, undo, request.host);
  return change({ plan, request, undo, gone, alone }).catch((error: unknown) => {
    const failure = asFailure(error);
    if (gone.length > 0) failure.changed = true;
    // Nothing is left to undo after a roll back; only where a lock could not be had there was none.
    if (undo.length > 0) {
      failure.changed = true;
      const why = `the fragments just written; ${failure.message}`;
      if (!plan.closes) failure.rolledBack = [{ kind: "not_put_back", why }];
    }
    throw failure;
  });
}

/** What fails is undone before the lock is released, so that no other process loads what is being undone. */
function aloneFor({ base, closes }: Plan, undo: Undo[], { directories }: HostConfig): Alone {
  const files = [...base.units, ...base.files, ...(base.settings === undefined ? [] : [base.settings])];
  const all = [...Object.values(directories), ...files.map(({ path }) => dirname(path))];
  return (patience, steps) =>
    withWriteLock(directories.ipv4, patience, async () => {
      await Promise.all(all.map(clearTemporary));
      return closes ? steps() : orRollBack(undo, steps);
    });
}

async function change(work: Commit): Promise<Committed> {
  const { plan, request } = work;
  for (const directory of plan.base.directories) await makeDirectory(directory);
  const { confirm } = request;
  if (confirm === undefined) return make(work);
  const waiting = await beginAlone(work, confirm);
  try {
    const made = await make(work);
    const waits = await work.alone(request.host.timeout, () => countFromNow(waiting, confirm, request));
    return { ...made, waits };
  } catch (error) {
    throw await revertFailed(waiting, asFailure(error), work);
  }
}

/** From now on it is put back, whatever becomes of this process. */
async function beginAlone({ plan, request, alone }: Commit, seconds: number): Promise<Unconfirmed> {
  const { subject, host, defaults } = request;
  return alone(host.timeout, async () => {
    const other = await findUnconfirmed(host.directories);
    if (other !== undefined && other.stage !== "distrusted") throw unconfirmedFailure(other, await readNow());
    const { chain } = defaults;
    const former = await host.backend.former(plan, chain, host);
    const units = await Promise.all(changedUnits(plan).map((name) => formerUnit(name, host.timeout)));
    return begin(unconfirmedOf(plan, former, units, { subject, chain }, await waitingFor(seconds)), other, request);
  });
}

/** What a removal has removed is put back, too, where it was to be confirmed. */
async function revertFailed(change: Unconfirmed, failure: Failure, { plan, request, alone }: Commit): Promise<Failure> {
  const { done, failures } = await alone(2 * request.host.timeout, async () => {
    const waiting = await findUnconfirmed(request.host.directories);
    // Somebody has put it back already, and perhaps another has begun.
    return waiting?.due === change.due ? putBack(change, request) : { done: [], failures: [] };
  });
  const undone = [
    ...(failure.rolledBack ?? []),
    ...done.map((what): Undone => ({ kind: "put_back", what })),
    ...failures.map(({ message }): Undone => ({ kind: "not_put_back", why: message })),
  ];
  if (undone.length > 0) failure.rolledBack = undone;
  if (plan.closes && failures.length === 0) failure.changed = false;
  return failure;
}

/** The change itself. */
async function make(work: Commit): Promise<Reloaded> {
  const { plan, request, undo, alone } = work;
  const { subject, host } = request;
  const { units } = plan.base;
  const installs = subject.state === "present" && units.some(hasUnitChanges);
  await writeFiles(work, installs);
  const loaded = await loadRules(plan, undo, request, alone);
  if (installs) await startWatcherAlone(work);
  const leaving = units.filter(({ before, after }) => before !== undefined && after === undefined);
  if (leaving.length > 0) await alone(host.timeout, () => removeUnits(leaving, undo, host.timeout));
  if (removesHost(subject)) {
    for (const file of plan.base.files)
      await alone(host.timeout, async () => {
        await refuseOthersChange(file);
        await writeChange(file, undo);
      });
    // What waits for a confirmation may have to be put back.
    if (request.confirm !== undefined) return loaded;
    const { settings } = plan.base;
    if (settings !== undefined) await alone(host.timeout, () => write(settings.path, settings.after, undo));
    await forgetHost(request);
    // Also what was put back and is not trusted: nothing of ours loads it any more.
    await forgetUnconfirmed(host.directories);
  }
  return loaded;
}

/** Fragments, the lists of this boot's, and services; removals first. */
async function writeFiles({ plan, request, undo, gone, alone }: Commit, installs: boolean): Promise<void> {
  const { found, settled, base, going } = plan;
  const { timeout } = request.host;
  // What a removal forgets, or takes out of another's file, comes when all else is gone.
  const isRemoval = removesHost(request.subject);
  const settings = isRemoval ? undefined : base.settings;
  const files = isRemoval ? [] : base.files;
  const staying = [...(settings === undefined ? [] : [settings]), ...files, ...found.items].filter(hasFileChanges);
  if (staying.length === 0 && found.misfiled.length === 0 && !installs) return;
  await alone(timeout, async () => {
    await refuseConcurrentChange(settled, found.items, request);
    for (const file of [...(settings === undefined ? [] : [settings]), ...files]) await refuseOthersChange(file);
    for (const { path, after } of going.filter(hasFileChanges)) await write(path, after, gone);
    for (const file of staying) await writeChange(file, undo);
    await confirm(found, undo);
    if (installs) await installUnits(base.units, undo, timeout);
  });
}

/** Another's file stays theirs. */
function writeChange({ path, after, before }: FileChange, undo: Undo[]): Promise<void> {
  return write(path, after, undo, { others: before?.owner !== undefined });
}

/** Another setup may have kept its choices since these were read, or a person has written. Throws Failure `concurrent_change`. */
async function refuseOthersChange({ path, before, after }: FileChange): Promise<void> {
  const now = (await readOwn(path))?.text;
  if (now === before?.text || now === after) return;
  // Not to be tried again with what was read: a Failure, and no ConcurrentChange.
  throw new Failure("concurrent_change", `${path} was changed during this call; run it again`, { path });
}

/** It waits for our locks before it is ready, so none is held meanwhile. */
async function startWatcherAlone({ plan, request, alone }: Commit): Promise<void> {
  const { timeout } = request.host;
  await startWatcher(plan.base.units, timeout).catch(async (error: unknown) => {
    // Without the lock nothing can be restored; the failure to report is why it did not start.
    await alone(timeout, () => Promise.reject(error)).catch(() => {});
    throw error;
  });
}

async function makeDirectory(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o755 }).catch((error: unknown) => {
    throw writeFailure(path, "made", error);
  });
}

/**
 * Brings the lists of this boot's fragments up to date. They are read again: another process that has written since the survey has left
 * out a name whose fragment was not there.
 */
async function confirm({ items }: Survey, undo: Undo[]): Promise<void> {
  const lasting = new Set(items.filter(hasRules).map(({ path }) => path));
  const entries = items.filter(isContainers).map(({ path }) => ({ path, lasts: lasting.has(path) }));
  const misfiled = await misfiledOf(entries);
  for (const directory of new Set(misfiled.map((path) => dirname(path)))) {
    const here = misfiled.filter((path) => dirname(path) === directory);
    const { path, after } = await confirmationOf(directory, here);
    const writing = write(path, after, undo, { report: false });
    // A name without a fragment is removed the next time, too: a full disk keeps no port open.
    await (here.some((one) => lasting.has(one)) ? writing : writing.catch(() => {}));
  }
}
