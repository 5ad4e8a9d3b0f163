// Which UDP publishes a transaction changes, in the fragments or in the kernel. Pure.

import { FAMILIES, type Family } from "../model/family.ts";
import { type Owner, spellOwner } from "../model/owner.ts";
import type { Changes } from "../rules/flows.ts";
import type { Dnat } from "../rules/model.ts";
import type { Drift, Live, Tables } from "./live.ts";
import { readDnat } from "./read.ts";
import { commentOf, keyOf, type Rule, readComment, readWords } from "./rule.ts";

/** One fragment in one family, before and after. */
interface Changing {
  owner: Owner;
  family: Family;
  former: Tables;
  wanted: Tables;
  drift: Drift | undefined;
}

/** `live` is the kernel before. A family without a UDP publish that changes is left out. */
export function changedDnats(items: readonly Changing[], live: Partial<Record<Family, Live>>): Map<Family, Changes> {
  const changes = new Map<Family, Changes>();
  for (const family of FAMILIES) {
    const wanted: Dnat[] = [];
    const fresh = new Set<Dnat>();
    const gone: Dnat[] = [];
    for (const item of items.filter((one) => one.family === family)) {
      const inFile = dnatsByKey(item.former.get("nat") ?? []);
      const rules = dnatsByKey(item.wanted.get("nat") ?? []);
      const isMissing = (key: string) =>
        item.drift !== undefined && live[family]?.tables.get("nat")?.ours.has(key) !== true;
      for (const [key, dnat] of rules) {
        wanted.push(dnat);
        if (!inFile.has(key) || isMissing(key) || item.drift?.unreached !== undefined) fresh.add(dnat);
      }
      const running = dnatsByKey(liveRulesOf(item.owner, rules, live[family]));
      for (const [key, dnat] of new Map([...inFile, ...running])) if (!rules.has(key)) gone.push(dnat);
    }
    if (fresh.size > 0 || gone.length > 0) changes.set(family, { wanted, fresh, gone });
  }
  return changes;
}

function dnatsByKey(rules: readonly Rule[]): Map<string, Dnat> {
  const dnats = new Map<string, Dnat>();
  for (const rule of rules) {
    const dnat = rule.includes("udp") ? readDnat(rule) : undefined;
    if (dnat?.ports.protocol === "udp") dnats.set(keyOf(rule), dnat);
  }
  return dnats;
}

/** What runs under an owner's comment, if any of it is not wanted: a run that was killed wrote the file and loaded nothing. */
function liveRulesOf(owner: Owner, wanted: ReadonlyMap<string, Dnat>, live: Live | undefined): Rule[] {
  const nat = live?.tables.get("nat");
  const comment = commentOf(spellOwner(owner));
  if (nat?.byComment.get(comment)?.every((key) => wanted.has(key)) ?? true) return [];
  const lines = nat?.lines.filter((line) => line.includes(comment)) ?? [];
  return lines.map(readWords).filter((rule) => readComment(rule) === comment);
}
