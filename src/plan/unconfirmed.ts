// What it takes to put back a change that waits for its confirmation: written down before it begins. Pure.

import type { ChangedFile, FormerUnit, Unconfirmed } from "../generated/unconfirmed.ts";
import { removesHost, type Subject } from "../model/request.ts";
import type { Now } from "../model/unconfirmed.ts";
import { hasUnitChanges } from "./host-plan.ts";
import { type FileChange, hasFileChanges, isContainers } from "./item.ts";
import type { Load } from "./plan.ts";

/** What the packet filter and the directories hold before the change. */
export type Former = Pick<Unconfirmed, "kernel" | "tables" | "bare" | "containers" | "armed">;

/** When it was begun, and when it ends. */
export interface Waiting {
  now: Now;
  namespace: string;
  /** seconds */
  seconds: number;
  /** ISO 8601 */
  until: string;
}

/** Of a change of the host's own rules; `units` as systemd has those of `changedUnits`. */
export function unconfirmedOf(
  load: Load,
  former: Former,
  units: FormerUnit[],
  { subject, chain }: { subject: Subject; chain: string },
  waiting: Waiting,
): Unconfirmed {
  const { base } = load;
  const own = load.found.items.filter((item) => !isContainers(item));
  const settings = base.settings === undefined ? [] : [base.settings];
  const isRemoval = removesHost(subject);
  // A removal leaves the settings until it is confirmed: they say where the record of it is.
  const now = [...(isRemoval ? [] : settings), ...base.files, ...own, ...base.units];
  return {
    ...former,
    ...begun(isRemoval ? "setup --remove" : "setup", waiting),
    chain,
    isSetUp: own.some(({ before }) => before !== undefined),
    files: now.filter(hasFileChanges).map(changedFile),
    later: (isRemoval ? settings : []).filter(hasFileChanges).map(changedFile),
    units,
  };
}

/** The names of the units that a change stops, starts, enables or disables, and that were there before; but for those that only a failure starts. */
export function changedUnits({ base }: Load): string[] {
  const changed = base.units.filter((unit) => hasUnitChanges(unit) && unit.before !== undefined);
  return changed.filter(({ name }) => !name.endsWith(".timer")).map(({ name }) => name);
}

/** Of a load, which changes the kernel alone. */
export function unconfirmedLoad(kernel: Former["kernel"], chain: string, waiting: Waiting): Unconfirmed {
  const none = { bare: [], containers: [], files: [], later: [], units: [], tables: [] };
  return {
    ...none,
    ...begun("load", waiting),
    chain,
    isSetUp: true,
    armed: kernel.map(({ family }) => family),
    kernel,
  };
}

function begun(
  what: Unconfirmed["what"],
  { now, namespace, seconds, until }: Waiting,
): Pick<Unconfirmed, "what" | "boot" | "namespace" | "due" | "until" | "stage"> {
  return { what, boot: now.boot, namespace, due: now.uptime + seconds, until, stage: "making" };
}

function changedFile({ path, before, after }: FileChange): ChangedFile {
  return { path, before: before === undefined ? null : { ...before }, after: after ?? null };
}
