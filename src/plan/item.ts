// A fragment of ours as it is and as it should be, and what of it changes. Pure.

import type { Own } from "../fragments/directory.ts";
import type { Tables } from "../iptables/live.ts";
import { type Drift, hasDrift, type Live } from "../iptables/live.ts";
import { FAMILIES, type Family } from "../model/family.ts";
import { fileOf, type Owner } from "../model/owner.ts";
import type { ContainerRule } from "../rules/model.ts";

/** A file as it is and as it should be; undefined where there is none. */
export interface FileChange {
  path: string;
  before: Own | undefined;
  after: string | undefined;
}

/** One fragment of ours in one family, and how the kernel differs. */
export interface Item extends FileChange {
  owner: Owner;
  family: Family;
  /** What it is to be, as `Fragments` have it; undefined where there is to be none. */
  fragment: string | undefined;
  former: Tables;
  wanted: Tables;
  /** What `wanted` means, where it is a container's. */
  meaning: readonly ContainerRule[];
  /** Undefined where the kernel is not asked (`reload: none`). */
  drift: Drift | undefined;
}

/** The kernel's rules; a family that this host does not have is left out. */
export type Kernel = Partial<Record<Family, Live>>;

export function hasFileChanges({ before, after }: FileChange): boolean {
  return before?.text !== after;
}

export function hasChanges(item: Item): boolean {
  return hasFileChanges(item) || (item.drift !== undefined && hasDrift(item.drift));
}

/** The fragments of each container, by its name. */
export function byContainer(items: readonly Item[]): Map<string, Item[]> {
  const owned = new Map<string, Item[]>();
  for (const item of items) {
    if (item.owner.kind !== "container") continue;
    const known = owned.get(item.owner.name);
    if (known) known.push(item);
    else owned.set(item.owner.name, [item]);
  }
  return owned;
}

/** Whether it is a container's, not the host's. */
export function isContainers({ owner }: Pick<Item, "owner">): boolean {
  return owner.kind === "container";
}

/** Whether it is to have rules; a container's fragment may be there for its options alone. */
export function hasRules({ wanted }: Pick<Item, "wanted">): boolean {
  return wanted.size > 0;
}

/** Whether the kernel has all rules of a container with these fragments, in order. */
export function isLive(items: readonly Item[]): boolean {
  return items.some(hasRules) && !items.some(({ drift }) => drift && hasDrift(drift));
}

/** The kernel without the families in which it differs from one of these. */
export function withoutDrifting(live: Kernel, items: readonly Item[]): Kernel {
  const drifting = new Set(items.filter(({ drift }) => drift && hasDrift(drift)).map(({ family }) => family));
  return Object.fromEntries(FAMILIES.filter((one) => !drifting.has(one) && live[one]).map((one) => [one, live[one]]));
}

/** The items of those who have no rules any more. */
export function goingOf(items: readonly Item[]): Item[] {
  const staying = new Set(items.filter(hasRules).map(({ owner }) => fileOf(owner)));
  return items.filter(({ owner }) => !staying.has(fileOf(owner)));
}

export function ofFamily<T extends { family: Family }>(items: readonly T[], family: Family): T[] {
  return items.filter((item) => item.family === family);
}
