// Whether the kernel has what the fragments say, and what is said where it has not.

import { type Drift, hasDrift } from "../iptables/live.ts";
import { commentOf } from "../iptables/rule.ts";
import { Failure } from "../model/errors.ts";
import { spellOwner } from "../model/owner.ts";
import type { Host } from "../plan/backend.ts";
import type { Item, Kernel } from "../plan/item.ts";
import { surveyKernel } from "../plan/survey.ts";

export type Drifting = Item & { drift: Drift };

export function isDrifting(item: Item): item is Drifting {
  return item.drift !== undefined && hasDrift(item.drift);
}

/**
 * The kernel's rules, those seen already or new ones, and the fragments that they do not agree with. The former fragment's rules
 * are not checked: another fragment may have the same.
 */
export async function findDrift(
  items: readonly Item[],
  seen: Kernel,
  host: Host,
): Promise<{ live: Kernel; drifting: Drifting[] }> {
  const unasked = items.map((item) => ({ ...item, former: new Map() }));
  const { items: after, live } = await surveyKernel(unasked, host, seen);
  // A rule that another process inserted first right after the load did not undo it.
  return { live, drifting: after.filter(isDrifting).filter(({ drift }) => hasDrift({ ...drift, ahead: undefined })) };
}

/** Failure `rules_not_live`, which says what is wrong with the first of them. `others` are services that are not ours. */
export async function notLive(
  first: Drifting,
  { drifting, live, others }: { drifting: readonly Item[]; live: Kernel; others: readonly string[] },
  host: Host,
): Promise<Failure> {
  const { owner, family, drift } = first;
  const name = spellOwner(owner);
  const backends = await host.backend.whereElse(owner, family, host);
  // Where the rules are that were looked for says nothing, but for those of another backend than the one that was asked.
  const isElsewhere = backends.length > 1 || !live[family]?.text.includes(commentOf(name));
  const hint =
    others.length > 0
      ? `; ${others.join(" and ")} loaded them and was not written by docker_iptables; see what it does with 'systemctl cat ${others[0]}'; without it, reload: patch replaces only docker_iptables' own rules`
      : isElsewhere && backends.length > 0
        ? `; the ${backends.join(" and the ")} backend holds rules of ${name}: check that all programs use the same iptables backend`
        : "";
  return new Failure("rules_not_live", `the rules were loaded, but for ${name} ${describeDrift(drift)}${hint}`, {
    containers: drifting.map((item) => spellOwner(item.owner)),
    missing: drift.missing,
    surplus: drift.surplus,
    backends,
  });
}

/** The first thing that is wrong. */
function describeDrift({ missing, surplus, unreached }: Drift): string {
  if (missing[0] !== undefined) return `the kernel lacks '${missing[0]}'`;
  if (surplus > 0) return `${surplus} of its rules are still there`;
  if (unreached !== undefined) return `nothing jumps to the chain ${unreached}`;
  return "its rules are in a different order";
}
