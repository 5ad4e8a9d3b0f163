// A foreign rule that hides ours. Pure.

import type { DesiredFragment } from "../iptables/fragment-text.ts";
import { barrierOf } from "../iptables/live.ts";
import { FAMILIES } from "../model/family.ts";
import { spellOwner } from "../model/owner.ts";
import type { Kernel } from "./item.ts";

/** An ACCEPT of ours behind a final DROP or REJECT in FORWARD is never reached. */
export function warnOfBarriers({
  wanted,
  live: kernel,
}: {
  wanted: readonly DesiredFragment[];
  live: Kernel;
}): string[] {
  return FAMILIES.flatMap((family) => {
    const live = kernel[family];
    const barrier = live && barrierOf("filter", "FORWARD", live);
    if (barrier === undefined) return [];
    const hidden = wanted
      .filter(({ rules }) => rules[family].filter?.some(barrier.hides))
      .map(({ owner }) => spellOwner(owner));
    if (hidden.length === 0) return [];
    return [
      `'${barrier.rule}' comes before the rules of ${hidden.join(", ")}, which therefore never match; move it to a fragment that sorts later`,
    ];
  });
}
