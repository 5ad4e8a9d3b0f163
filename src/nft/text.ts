// The table as nft's commands: what the host's fragment says, what a container's says, and the text that loads all of them as one
// transaction. Pure.
//
// Each text may be loaded again on top of itself: sets and maps keep what is in them, and chains are emptied before their rules come.

import { FAMILIES } from "../model/family.ts";
import {
  ADD_TABLE,
  addChain,
  addRule,
  addSet,
  DELETE_TABLE,
  elementsCommand,
  emptyOrDelete,
  spellElement,
} from "./commands.ts";
import {
  commentFor,
  listRules,
  listSets,
  type NftElement,
  type NftList,
  type Rendered,
  ruleComment,
} from "./elements.ts";
import { CONTAINER_OBJECTS, chainsOf, declarationsOf, type LayoutOptions, nameOf, OBJECTS } from "./layout.ts";

/** The lines of the host's own part: the table, and what networks put into it. */
export function hostLines(owner: string, options: LayoutOptions, rendered: readonly Rendered[]): string[] {
  const chains = chainsOf(FAMILIES, options);
  return [
    ADD_TABLE,
    ...FAMILIES.flatMap(declarationsOf).map(({ kind, name, type }) => addSet(kind, name, type)),
    ...chains.map(({ name, hook }) => addChain(name, hook)),
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

/**
 * The last lines of the host's part: only what is confirmed since the boot has an effect, for whoever includes all files of the directory.
 * The sets are emptied of what the files before have put into them, and filled from links to the files that are confirmed: a wildcard
 * that matches nothing is no error (nft(8)).
 */
export function confirmedLines(directory: string): string[] {
  const emptied = FAMILIES.flatMap((family) =>
    CONTAINER_OBJECTS.map((object) => {
      const isMap = "value" in OBJECTS[object];
      return emptyOrDelete("flush", isMap ? "map" : "set", nameOf(object, family));
    }),
  );
  return [...emptied, `include "${directory}/*.nft"`];
}

/** The text that makes our table what these lines say, and touches no other; nothing of it is seen before all of it. */
export function loadText(lines: readonly string[]): string {
  // A table that is not there cannot be deleted, and one that is added again stays as it is.
  return [ADD_TABLE, DELETE_TABLE, ...lines, ""].join("\n");
}

function listLines(owner: string, list: NftList): string[] {
  const { chain } = list;
  const sets = listSets(list);
  return [
    ...sets.map(({ name, type }) => addSet("set", name, type)),
    addChain(chain, undefined),
    ...chainLines(owner, chain, listRules(list)),
    ...sets.flatMap(({ name, keys }) => keys.flatMap((key) => elementLine(name, key, owner))),
  ];
}

function chainLines(owner: string, chain: string, rules: readonly string[]): string[] {
  const line = (rule: string) => addRule(chain, `${rule} comment "${ruleComment(owner, rule)}"`);
  return [emptyOrDelete("flush", "chain", chain), ...rules.map(line)];
}

function elementLines(owner: string, elements: readonly NftElement[]): string[] {
  return elements.flatMap(({ object, family, key, value }) => elementLine(nameOf(object, family), key, owner, value));
}

function elementLine(name: string, key: string, owner: string, value?: string): string[] {
  return elementsCommand("add", name, [spellElement(key, commentFor(owner), value)]);
}
