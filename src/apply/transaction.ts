// The transaction: write the fragments, have the kernel load them, look whether it did; or put everything back.
//
// The directory's lock is held twice, while files are written and while rules are loaded, and released in between: of many
// processes all write first, and whoever loads then looks first, because another's load may have brought its rules.

import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import { confirmationOf } from "../fragments/confirmed.ts";
import { asFailure } from "../model/errors.ts";
import { FAMILIES } from "../model/family.ts";
import { type HostConfig, removesHost } from "../model/request.ts";
import type { Reloaded, ReloadRequest, Undo } from "../plan/backend.ts";
import { refuseConcurrentChange } from "../plan/concurrency.ts";
import { hasUnitChanges } from "../plan/host-plan.ts";
import { hasFileChanges, hasRules } from "../plan/item.ts";
import type { Plan } from "../plan/plan.ts";
import type { SelectionRequest } from "../plan/selection.ts";
import type { Survey } from "../plan/survey.ts";
import { withWriteLock } from "../system/lock.ts";
import { clearTemporary, writeFailure } from "../system/replace-file.ts";
import { removeState, stateOf } from "../system/state.ts";
import { type Alone, loadRules } from "./reload.ts";
import { installUnits, removeUnits, startWatcher } from "./services.ts";
import { orRollBack, write } from "./undo.ts";

type CommitRequest = ReloadRequest & SelectionRequest;

/** A commit under way. */
interface Commit {
  plan: Plan;
  request: CommitRequest;
  /** The steps back. */
  undo: Undo[];
  /** Those of what goes, which nothing brings back. */
  gone: Undo[];
  alone: Alone;
}

/**
 * Makes files, services and kernel as planned. Throws Failure; what was undone stands in its `rolledBack`.
 *
 * What fails is put back as it was, but for what goes: a rule that is gone is never brought back.
 */
export async function commit(plan: Plan, request: CommitRequest): Promise<Reloaded> {
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

/** What fails is undone before the lock is released, so that nobody loads what is being taken back. */
function aloneFor({ base, closes }: Plan, undo: Undo[], { directories }: HostConfig): Alone {
  const all = [...Object.values(directories), ...base.units.map(({ path }) => dirname(path))];
  return (patience, steps) =>
    withWriteLock(directories.ipv4, patience, async () => {
      await Promise.all(all.map(clearTemporary));
      return closes ? steps() : orRollBack(undo, steps);
    });
}

async function change(work: Commit): Promise<Reloaded> {
  const { plan, request, undo, alone } = work;
  const { subject, host } = request;
  const { units, directories } = plan.base;
  for (const directory of directories) await makeDirectory(directory);
  const installs = subject.state === "present" && units.some(hasUnitChanges);
  await writeFiles(work, installs);
  const loaded = await loadRules(plan, undo, request, alone);
  if (installs) await startWatcherAlone(work);
  if (subject.state === "absent" && units.length > 0) {
    await alone(host.timeout, () => removeUnits(units, undo, host.timeout));
  }
  if (removesHost(subject)) {
    for (const family of FAMILIES) await removeState(stateOf(family, host.directories[family]));
  }
  return loaded;
}

/** Fragments, the lists of this boot's, and services; those that go first. */
async function writeFiles({ plan, request, undo, gone, alone }: Commit, installs: boolean): Promise<void> {
  const { found, settled, base, going } = plan;
  const { timeout } = request.host;
  const staying = [...base.files, ...found.items].filter(hasFileChanges);
  if (staying.length === 0 && found.misfiled.length === 0 && !installs) return;
  await alone(timeout, async () => {
    await refuseConcurrentChange(settled, found.items, request);
    for (const { path, after } of going.filter(hasFileChanges)) await write(path, after, gone);
    for (const { path, after } of staying) await write(path, after, undo);
    await confirm(found, undo);
    if (installs) await installUnits(base.units, undo, timeout);
  });
}

/** It waits for our locks before it is ready, so none is held meanwhile. */
async function startWatcherAlone({ plan, request, alone }: Commit): Promise<void> {
  const { timeout } = request.host;
  await startWatcher(plan.base.units, timeout).catch(async (error: unknown) => {
    // Without the lock nothing can be put back; why it did not start is what is to be told.
    await alone(timeout, () => Promise.reject(error)).catch(() => {});
    throw error;
  });
}

async function makeDirectory(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o755 }).catch((error: unknown) => {
    throw writeFailure(path, "made", error);
  });
}

/** Brings the lists of this boot's fragments up to date. */
async function confirm({ items, misfiled }: Survey, undo: Undo[]): Promise<void> {
  const lasting = new Set(items.filter(hasRules).map(({ path }) => path));
  for (const directory of new Set(misfiled.map((path) => dirname(path)))) {
    const here = misfiled.filter((path) => dirname(path) === directory);
    const { path, after } = await confirmationOf(directory, here);
    const writing = write(path, after, undo, false);
    // A name that is gone goes the next time, too: a full disk keeps no port open.
    await (here.some((one) => lasting.has(one)) ? writing : writing.catch(() => {}));
  }
}
