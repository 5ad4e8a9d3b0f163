// What there is to do for the host besides its own fragments. Pure.

import type { Failure } from "../model/errors.ts";
import type { Family } from "../model/family.ts";
import type { OtherBackend } from "../netfilter/foreign-firewalls.ts";
import type { PlannedUnit } from "../systemd/install.ts";
import { type FileChange, hasFileChanges } from "./item.ts";
import type { Leftover } from "./leftovers.ts";
import type { Move } from "./moving.ts";

/** What there is to do for the host rules besides their own fragments. */
export interface HostPlan {
  /** To be made where they are missing. */
  directories: string[];
  /** The file with the host's settings, where the call is about it. */
  settings?: FileChange;
  /** Fragments with the rules that ran before, or of a backend that is left; and the file of nftables.service. */
  files: FileChange[];
  units: PlannedUnit[];
  /** The other backend's rules, which are to be removed. */
  others: { family: Family; other: OtherBackend }[];
  leftovers: Leftover[];
  /** From another backend, whose rules of ours are to be removed. */
  move?: Move;
  /** Whether the state of these directories is to be removed, and there is some. */
  dropsState: boolean;
  /** Why nothing but our own rules can be loaded, on a host that already has the host rules. */
  broken?: Failure;
  warnings: string[];
}

export const NOTHING_PLANNED: HostPlan = {
  directories: [],
  files: [],
  units: [],
  others: [],
  leftovers: [],
  dropsState: false,
  warnings: [],
};

/** Whether there is anything to do besides the host rules' own fragments. */
export function hasHostChanges({ settings, files, units, others, leftovers, dropsState }: HostPlan): boolean {
  if (settings !== undefined && hasFileChanges(settings)) return true;
  return files.some(hasFileChanges) || units.some(hasUnitChanges) || others.length + leftovers.length > 0 || dropsState;
}

/** Whether a service of ours is to be written, enabled, started or removed. */
export function hasUnitChanges({ before, after, enabled, unread, start }: PlannedUnit): boolean {
  return before?.text !== after || (after !== undefined && (!enabled || unread || start));
}
