// The table as nft's commands: what the host's fragment says, what a container's says, and the text that loads all of them as one
// transaction. Pure.
//
// Each text may be loaded again on top of itself: sets and maps keep what is in them, and chains are emptied before their rules come.

import { FAMILIES } from "../model/family.ts";
import {
  commentFor,
  listRules,
  listSets,
  type NftElement,
  type NftList,
  type Rendered,
  ruleComment,
} from "./elements.ts";
import { chainsOf, declarationsOf, type LayoutOptions, nameOf, TABLE_WORDS } from "./layout.ts";

/** The lines of the host's own part: the table, and what networks put into it. */
export function hostLines(owner: string, options: LayoutOptions, rendered: readonly Rendered[]): string[] {
  const chains = chainsOf(FAMILIES, options);
  return [
    `add table ${TABLE_WORDS}`,
    ...FAMILIES.flatMap(declarationsOf),
    ...chains.map(({ name, hook }) => {
      const base = hook === undefined ? "" : ` { ${hook}; policy accept; }`;
      return `add chain ${TABLE_WORDS} ${name}${base}`;
    }),
    ...chains.flatMap(({ name, rules }) => chainLines(owner, name, rules)),
    ...rendered.flatMap((one) => elementLines(owner, one.elements)),
  ];
}

/** The lines of a container's part. */
export function containerLines(owner: string, rendered: readonly Rendered[]): string[] {
  return rendered.flatMap(({ lists, elements }) => [
    ...lists.flatMap((list) => listLines(owner, list)),
    ...elementLines(owner, elements),
  ]);
}

/** The text that makes our table what these lines say, and touches no other; nothing of it is seen before all of it. */
export function loadText(lines: readonly string[]): string {
  // A table that is not there cannot be deleted, and one that is added again stays as it is.
  return [`add table ${TABLE_WORDS}`, `delete table ${TABLE_WORDS}`, ...lines, ""].join("\n");
}

function listLines(owner: string, list: NftList): string[] {
  const { chain } = list;
  const sets = listSets(list);
  return [
    ...sets.map(({ name, type }) => `add set ${TABLE_WORDS} ${name} { type ${type}; }`),
    `add chain ${TABLE_WORDS} ${chain}`,
    ...chainLines(owner, chain, listRules(list)),
    ...sets.flatMap(({ name, keys }) => keys.map((key) => elementLine(name, key, owner))),
  ];
}

function chainLines(owner: string, chain: string, rules: readonly string[]): string[] {
  const line = (rule: string) => `add rule ${TABLE_WORDS} ${chain} ${rule} comment "${ruleComment(owner, rule)}"`;
  return [`flush chain ${TABLE_WORDS} ${chain}`, ...rules.map(line)];
}

function elementLines(owner: string, elements: readonly NftElement[]): string[] {
  return elements.map(({ object, family, key, value }) => elementLine(nameOf(object, family), key, owner, value));
}

function elementLine(name: string, key: string, owner: string, value?: string): string {
  const leads = value === undefined ? "" : ` : ${value}`;
  return `add element ${TABLE_WORDS} ${name} { ${key} comment "${commentFor(owner)}"${leads} }`;
}
