// The services of the host rules, as a part of the transaction: installed before the load that starts them, removed last.

import type { Undo } from "../plan/backend.ts";
import { hasUnitChanges } from "../plan/host-plan.ts";
import { hasFileChanges } from "../plan/item.ts";
import {
  disableUnit,
  enableUnit,
  type PlannedUnit,
  reloadManager,
  restartSoon,
  restartUnit,
  stopUnit,
  WATCH_UNIT,
} from "../systemd/install.ts";
import { write } from "./undo.ts";

/** The services' files, known to systemd, and enabled. They are started where the rules are loaded. */
export async function installUnits(units: readonly PlannedUnit[], undo: Undo[], timeout: number): Promise<void> {
  const quietly =
    (step: () => Promise<void>): Undo =>
    async () => {
      await step();
      return undefined;
    };
  const ours = units.filter(({ after }) => after !== undefined);
  const watches = ours.some(({ name, before, start }) => name === WATCH_UNIT && before !== undefined && !start);
  // As it was, once all else is: it waits for the lock that is held meanwhile.
  if (watches) undo.push(quietly(() => restartSoon(WATCH_UNIT, timeout)));
  if (ours.some((unit) => unit.unread || hasFileChanges(unit))) {
    // Steps are undone from the last to the first: systemd has to read the restored files.
    undo.push(quietly(() => reloadManager(timeout)));
    for (const { path, after } of ours.filter(hasFileChanges)) await write(path, after, undo);
    await reloadManager(timeout);
  }
  for (const { name, before, enabled, start, failed } of ours) {
    // One that had failed is failed again, and its timer continues.
    if (before === undefined || (start && !failed)) undo.push(quietly(() => stopUnit(name, timeout)));
    if (enabled) continue;
    undo.push(quietly(() => disableUnit(name, timeout)));
    await enableUnit(name, timeout);
  }
}

/** Started anew where it is another than before; the others are started by the load. */
export async function startWatcher(units: readonly PlannedUnit[], timeout: number): Promise<void> {
  const watcher = units.find(({ name }) => name === WATCH_UNIT);
  if (watcher?.after !== undefined && hasUnitChanges(watcher)) await restartUnit(WATCH_UNIT, timeout);
}

/** Stopped, disabled, their files gone. */
export async function removeUnits(units: readonly PlannedUnit[], undo: Undo[], timeout: number): Promise<void> {
  for (const { name, path, after } of units) {
    await disableUnit(name, timeout);
    await stopUnit(name, timeout);
    await write(path, after, undo);
  }
  await reloadManager(timeout);
}
