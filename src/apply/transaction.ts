// The transaction: write the fragments, have the kernel load them, look whether it did; or put everything back.
//
// The directory's lock is held twice, while files are written and while rules are loaded, and released in between: of many
// processes all write first, and whoever loads then looks first, because another's load may have brought its rules.

import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import { confirmationOf } from "../fragments/confirmed.ts";
import type { Arguments } from "../generated/arguments.ts";
import { directoryOf } from "../model/directories.ts";
import { asFailure } from "../model/errors.ts";
import { FAMILIES } from "../model/family.ts";
import { refuseConcurrentChange, type Settled } from "../plan/concurrency.ts";
import { hasUnitChanges } from "../plan/host-plan.ts";
import { hasFileChanges, hasRules } from "../plan/item.ts";
import type { Survey } from "../plan/survey.ts";
import { withWriteLock } from "../system/lock.ts";
import { clearTemporary, writeFailure } from "../system/replace-file.ts";
import { removeState, stateOf } from "../system/state.ts";
import { type Load, loadRules, type Reloaded } from "./reload.ts";
import { installUnits, removeUnits, startWatcher } from "./services.ts";
import { orRollBack, type Undo, write } from "./undo.ts";

/** All that a call is about to change. */
export interface Plan extends Load {
  settled: Settled;
}

/**
 * Makes files, services and kernel as planned. Throws Failure; what was undone stands in its `rolledBack`.
 *
 * What fails is put back as it was, but for what goes: a rule that is gone is never brought back.
 */
export async function commit(plan: Plan, args: Arguments): Promise<Reloaded> {
  const undo: Undo[] = [];
  const gone: Undo[] = [];
  return change(plan, undo, gone, args).catch((error: unknown) => {
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

/** `undo` gets the steps back. Of what goes there is no way back: those are in `gone`. */
async function change(plan: Plan, undo: Undo[], gone: Undo[], args: Arguments): Promise<Reloaded> {
  const { found, settled, base, going, closes } = plan;
  const directories = FAMILIES.map((family) => directoryOf(family, args));
  // What fails is undone before the lock is released, so that nobody loads what is being taken back.
  const alone = <T>(patience: number, steps: () => Promise<T>) =>
    withWriteLock(args.iptables_dir, patience, async () => {
      await Promise.all([...directories, ...base.units.map(({ path }) => dirname(path))].map(clearTemporary));
      return closes ? steps() : orRollBack(undo, steps);
    });

  for (const directory of base.directories) await makeDirectory(directory);
  const installs = args.state === "present" && base.units.some(hasUnitChanges);
  if (base.files.some(hasFileChanges) || found.items.some(hasFileChanges) || found.misfiled.length > 0 || installs) {
    await alone(args.timeout, async () => {
      await refuseConcurrentChange(settled, found.items, args);
      for (const { path, after } of going.filter(hasFileChanges)) await write(path, after, gone);
      const staying = [...base.files, ...found.items].filter(hasFileChanges);
      for (const { path, after } of staying) await write(path, after, undo);
      await confirm(found, undo);
      if (installs) await installUnits(base.units, undo, args.timeout);
    });
  }
  const loaded = await loadRules(plan, undo, args, alone);
  if (installs) {
    // It waits for our locks before it is ready, so none is held meanwhile.
    await startWatcher(base.units, args.timeout).catch(async (error: unknown) => {
      // Without the lock nothing can be put back; why it did not start is what is to be told.
      await alone(args.timeout, () => Promise.reject(error)).catch(() => {});
      throw error;
    });
  }
  if (args.state === "absent" && base.units.length > 0) {
    await alone(args.timeout, () => removeUnits(base.units, undo, args.timeout));
  }
  if (args.base && args.state === "absent") {
    for (const family of FAMILIES) await removeState(stateOf(family, directoryOf(family, args)));
  }
  return loaded;
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
