// If a load fails, or is impossible: removed rules are removed from the kernel without one.

import { readOwn } from "../fragments/directory.ts";
import { ConcurrentChange, Failure } from "../model/errors.ts";
import { FAMILIES } from "../model/family.ts";
import { spellOwner } from "../model/owner.ts";
import type { HostRequest, Locks, Reloaded } from "../plan/backend.ts";
import { type Item, ofFamily } from "../plan/item.ts";
import { surveyKernel } from "../plan/survey.ts";
import { verbose } from "../system/verbose.ts";
import { findDrift, isDrifting } from "./drift.ts";

/**
 * A broken fragment must not keep a port open. For the holder of the write lock. Throws the load's failure where rules are left.
 *
 * A load that holds the load lock for too long may have read the fragments before they went, and would bring the rules back:
 * then they are taken out, and the failure stays one.
 */
export async function removeWithoutLoad(
  why: Failure,
  going: readonly Item[],
  locks: Locks,
  request: Pick<HostRequest, "subject" | "host" | "defaults">,
): Promise<Reloaded> {
  const { host } = request;
  // The load did what it should.
  if (why instanceof ConcurrentChange) throw why;
  verbose(() => `load: failed, so rules are removed without one: ${why.message}`);
  const { items, live } = await surveyKernel(going, host);
  const families = FAMILIES.filter((family) => ofFamily(items, family).some(isDrifting));
  // Whose fragment has rules again was published anew by another process meanwhile.
  const files = await Promise.all(items.map(({ path }) => readOwn(path)));
  const gone = items.filter(({ family, owner }, index) => {
    const rules = host.backend.parse(files[index]?.text ?? "", family, owner);
    return [...rules.values()].every((some) => some.length === 0);
  });
  const remove = async () => {
    const after = { ...live };
    for (const family of families) {
      after[family] = await host.backend.remove(family, ofFamily(gone, family), request);
    }
    const { live: left, drifting } = await findDrift(going, after, host);
    if (drifting.length > 0) throw why;
    return left;
  };
  try {
    const after = await locks.holding(families, remove);
    const warnings = [describeWithoutLoad(why, items.filter(isDrifting))];
    return { reloaded: families.map(host.backend.commandFor), warnings, live: after };
  } catch (error) {
    if (error instanceof Failure && error.code === "locked") await remove();
    throw why;
  }
}

/** That a load cannot be had, and what was done without one. */
export function describeWithoutLoad(why: Failure, removed: readonly Item[] = []): string {
  const done =
    removed.length === 0 ? "" : `; the rules of ${namesOf(removed)} were removed from the kernel without a load`;
  return `each load fails until this is fixed: ${why.message}${done}`;
}

/** Whose they are, each once. */
export function namesOf(items: readonly Item[]): string {
  return [...new Set(items.map(({ owner }) => spellOwner(owner)))].join(", ");
}
