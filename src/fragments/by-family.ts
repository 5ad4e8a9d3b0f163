// The fragments of both families: who owns them, and their order. Pure.

import type { Fragment } from "../iptables/assemble.ts";
import type { Family } from "../model/family.ts";
import { containerOf } from "../model/owner.ts";

/**
 * The fragments of each family in their order, as they are or as they will be. Of a directory that is not there, none, or those
 * that will be in it.
 */
export type Fragments = Partial<Record<Family, Fragment[]>>;

/** The containers that have a fragment in either family. */
export function ownersIn(fragments: Fragments): Set<string> {
  const all = Object.values(fragments).flat();
  return new Set(all.flatMap((one) => containerOf(one) ?? []));
}

/** The text of a container's fragment; undefined where it has none. */
export function textIn(fragments: Fragments, family: Family, owner: string): string | undefined {
  return textsOf(fragments[family] ?? []).get(owner);
}

const known = new WeakMap<readonly Fragment[], Map<string, string>>();

/** By container; read once, because every container of a directory is looked up. */
function textsOf(fragments: readonly Fragment[]): Map<string, string> {
  const texts = known.get(fragments) ?? new Map(fragments.map((one) => [containerOf(one) ?? "", one.text] as const));
  known.set(fragments, texts);
  return texts;
}

/** Bytewise: the order in which fragments of these names are loaded. */
export function compareNames(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}
