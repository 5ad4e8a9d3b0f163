// A foreign rule that hides ours. Pure.

import { barrierOf } from "../iptables/live.ts";
import { FAMILIES } from "../model/family.ts";
import { spellOwner } from "../model/owner.ts";
import { type Item, type Kernel, ofFamily } from "./item.ts";

/** An ACCEPT of ours behind a final DROP or REJECT in FORWARD is never reached. */
export function warnOfBarriers(items: readonly Item[], kernel: Kernel): string[] {
  return FAMILIES.flatMap((family) => {
    const live = kernel[family];
    const barrier = live && barrierOf("filter", "FORWARD", live);
    if (barrier === undefined) return [];
    const hidden = ofFamily(items, family)
      .filter(({ wanted }) => wanted.get("filter")?.some(barrier.hides))
      .map(({ owner }) => spellOwner(owner));
    if (hidden.length === 0) return [];
    return [
      `'${barrier.rule}' comes before the rules of ${hidden.join(", ")}, which therefore never match; move it to a fragment that sorts later`,
    ];
  });
}
