// What differs between a fragment of ours and the table that runs. Pure.

import type { Drift } from "../iptables/live.ts";
import type { Family } from "../model/family.ts";
import { addChain, addRule, addSet, elementsCommand, spellElement } from "./commands.ts";
import { commentFor, ruleOwner } from "./elements.ts";
import { familyOfName } from "./layout.ts";
import { type NftChain, type NftTable, NOTHING } from "./table.ts";

/** `wanted` is what the fragment of this owner says, `live` what runs; of one family. What is for both counts as IPv4's. */
export function compareNft(owner: string, family: Family, wanted: NftTable, live: NftTable | undefined): Drift {
  const [own, running] = [ofFamily(wanted, family), ofFamily(live ?? NOTHING, family)];
  const missing = [...missingSets(own, running), ...missingElements(own, running), ...missingChains(own, running)];
  return { missing, surplus: surplusOf(owner, own, running), disordered: false };
}

function ofFamily({ sets, chains }: NftTable, family: Family): NftTable {
  const isOwn = ([name]: [string, unknown]) => (familyOfName(name) ?? "ipv4") === family;
  return { sets: new Map([...sets].filter(isOwn)), chains: new Map([...chains].filter(isOwn)) };
}

function missingSets(wanted: NftTable, running: NftTable): string[] {
  return [...wanted.sets].flatMap(([name, { kind, type }]) => {
    const live = running.sets.get(name);
    return live?.kind === kind && live.type === type ? [] : [addSet(kind, name, type)];
  });
}

/** Of another owner it may be: what two fragments state is there once. */
function missingElements(wanted: NftTable, running: NftTable): string[] {
  return [...wanted.sets].flatMap(([name, { elements }]) => {
    const live = running.sets.get(name)?.elements;
    const lacking = [...elements].filter(([key, { value }]) => !live?.has(key) || live.get(key)?.value !== value);
    return lacking.flatMap(([key, { comment, value }]) =>
      elementsCommand("add", name, [spellElement(key, comment, value)]),
    );
  });
}

function missingChains(wanted: NftTable, running: NftTable): string[] {
  return [...wanted.chains].flatMap(([name, { hook, rules }]) => {
    const live = running.chains.get(name);
    if (live === undefined || live.hook !== hook) return [addChain(name, hook)];
    if (isSame(rules, live)) return [];
    const left = new Set(live.rules.map(({ hash }) => hash));
    const lacking = rules.filter(({ hash }) => !left.has(hash));
    // All are there, and others, or in another order: the chain is written anew.
    return (lacking.length > 0 ? lacking : rules).map(({ text }) => addRule(name, text));
  });
}

function isSame(rules: NftChain["rules"], live: NftChain): boolean {
  return rules.length === live.rules.length && rules.every(({ hash }, at) => hash === live.rules[at]?.hash);
}

/** What carries the owner's comment, and its fragment does not say. */
function surplusOf(owner: string, wanted: NftTable, running: NftTable): number {
  const elements = [...running.sets].flatMap(([name, set]) => {
    const own = wanted.sets.get(name)?.elements;
    return [...set.elements].filter(([key, one]) => one.comment === commentFor(owner) && own?.get(key) === undefined);
  });
  const chains = [...running.chains].filter(
    ([name, { rules }]) => !wanted.chains.has(name) && rules.some(({ comment }) => comment === ruleOwner(owner)),
  );
  return elements.length + chains.reduce((sum, [, { rules }]) => sum + rules.length, 0);
}
