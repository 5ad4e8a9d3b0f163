// Containers that are not published: disabled by their label, not to be located, not to be used. What was published of them stays as
// it is, but only while it is true: an address that has become another container's would answer in its place. What their lists close is
// made anew (desired.ts). Pure.

import type { Skipped } from "../docker/find.ts";
import { describeSkipped } from "../docker/nothing-published.ts";
import type { Holding } from "../docker/published.ts";
import { type Fragments, textIn } from "../fragments/by-family.ts";
import { readFragment } from "../iptables/fragment-text.ts";
import { type Lead, readLeads } from "../iptables/read.ts";
import { FAMILIES } from "../model/family.ts";

/** One that was left out, and whose fragment is stale: it is removed. */
export interface StaleFragment extends Skipped {
  /** Where its rules lead, and it is not. */
  lead: Lead;
}

/** Of those whose fragments publish something: whose stays, and whose is removed. */
export function sortSkipped(
  left: readonly Skipped[],
  now: Fragments,
): { staying: Set<string>; untrue: StaleFragment[] } {
  const staying = new Set<string>();
  const untrue: StaleFragment[] = [];
  for (const one of left) {
    const texts = FAMILIES.flatMap((family) => textIn(now, family, one.name) ?? []);
    const publishing = texts.filter(isPublishing);
    // Lists alone lead nobody astray.
    const leads = publishing.flatMap((text) => readLeads(readFragment(text)));
    const lead = leads.find((lead) => !isAt(lead, one.holdings));
    if (lead !== undefined) untrue.push({ ...one, lead });
    // What cannot be made anew stays.
    else if (publishing.length > 0 || (one.target === undefined && texts.length > 0)) staying.add(one.name);
  }
  return { staying, untrue };
}

/** Lists, and options without a rule, are made anew where they can be. */
function isPublishing(text: string): boolean {
  return [...readFragment(text)].some(([table, rules]) => table !== "mangle" && rules.length > 0);
}

/** Whether a rule leads to the container. False where that is unknown. */
function isAt({ address, bridge }: Lead, holdings: readonly Holding[]): boolean {
  return holdings.some((own) => own.address === address && (bridge === undefined || own.bridge === bridge));
}

/** Why a fragment is removed, in a sentence. */
export function describeStale({ name, why, lead: { address = "nowhere", bridge } }: StaleFragment): string {
  const where = bridge === undefined ? address : `${address} on ${bridge}`;
  return `the container ${name} ${describeSkipped(why)}, and is not at ${where}, where its rules lead`;
}
