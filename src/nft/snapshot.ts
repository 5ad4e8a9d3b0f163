// The table as it ran, to be made again: what a rollback puts back. Pure.

import { FAMILIES } from "../model/family.ts";
import { type Owner, spellOwner } from "../model/owner.ts";
import { commentFor, listRules, ruleHash, ruleOwner } from "./elements.ts";
import { chainsOf, familyOfName } from "./layout.ts";
import type { NftRule, NftTable } from "./table.ts";

/** The same table without what these owners have in it. What only their elements led to is not there either. */
export function withoutOwners(table: NftTable, owners: readonly Owner[]): NftTable {
  const names = owners.map(spellOwner);
  const comments = new Set(names.map(commentFor));
  const rulesOwners = new Set(names.map(ruleOwner));
  const gone = [...table.chains].filter(
    ([name, { rules }]) => isList(name) && rules.some(({ comment }) => rulesOwners.has(comment)),
  );
  const lists = new Set(gone.map(([name]) => name));
  const isLists = (name: string) => lists.has(name.replace(/_(from|by|both)$/, ""));
  const sets = [...table.sets].flatMap(([name, set]) => {
    if (isList(name) && isLists(name)) return [];
    const elements = [...set.elements].filter(([, { comment }]) => comment === undefined || !comments.has(comment));
    return [[name, { ...set, elements: new Map(elements) }] as const];
  });
  return { sets: new Map(sets), chains: new Map([...table.chains].filter(([name]) => !lists.has(name))) };
}

function isList(name: string): boolean {
  return name.startsWith("allow");
}

/**
 * A table that was read from the kernel, with the texts of its rules, as far as they are ours: nft prints them in other words, which
 * differ from version to version.
 */
export function withTexts({ sets, chains }: NftTable): NftTable {
  const texts = new Map<string, string>();
  for (const proxy of [true, false])
    for (const { rules } of chainsOf(FAMILIES, { proxy })) for (const rule of rules) texts.set(ruleHash(rule), rule);
  const written = [...chains].map(([name, { hook, rules }]) => {
    const own = isList(name) ? listTexts(name) : texts;
    return [name, { hook, rules: rules.flatMap((rule) => withText(rule, own)) }] as const;
  });
  return { sets, chains: new Map(written) };
}

function listTexts(chain: string): Map<string, string> {
  const family = familyOfName(chain) ?? "ipv4";
  // One of each kind: the rules say which sets there are, not what is in them.
  const sources = [
    { subnet: family === "ipv4" ? "0.0.0.0/1" : "::/1", by: undefined },
    { subnet: undefined, by: "lo" },
    { subnet: family === "ipv4" ? "0.0.0.0/1" : "::/1", by: "lo" },
  ];
  const all = (["in", "out"] as const).flatMap((direction) => listRules({ chain, family, direction, sources }));
  return new Map(all.map((rule) => [ruleHash(rule), rule]));
}

function withText(rule: NftRule, texts: ReadonlyMap<string, string>): NftRule[] {
  const text = texts.get(rule.hash);
  return text === undefined ? [] : [{ ...rule, text: `${text} comment "${rule.comment} ${rule.hash}"` }];
}
