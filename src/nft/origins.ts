// Of which element a rule in iptables' words is made: what a person finds in the kernel, when he asks which rule decides. Pure.

import { renderRules } from "../iptables/render.ts";
import { keyOf } from "../iptables/rule.ts";
import type { Family } from "../model/family.ts";
import { type Owner, spellOwner } from "../model/owner.ts";
import type { ContainerRule, HostRule } from "../rules/model.ts";
import { elementsCommand, spellElement } from "./commands.ts";
import { commentFor, type NftElement, renderElements } from "./elements.ts";
import { CHAIN } from "./fragment-text.ts";
import { nameOf, type ObjectName } from "./layout.ts";
import { containerMeaning, hostMeaning } from "./meaning.ts";
import type { NftTable } from "./table.ts";

/** By the key of the rule: nft's command for its element. A rule that is part of the layout has none. */
export function originsIn(table: NftTable, family: Family, owners: readonly Owner[]): Map<string, string> {
  const origins = new Map<string, string>();
  for (const owner of owners) {
    for (const rule of meaningOf(table, family, owner)) {
      const command = elementOf(rule, family, owner);
      const tables = renderRules([rule], family, { owner: spellOwner(owner), chain: CHAIN });
      const keys = Object.values(tables).flatMap((rules = []) => rules.map(keyOf));
      for (const key of keys) if (command !== undefined && !origins.has(key)) origins.set(key, command);
    }
  }
  return origins;
}

function meaningOf(table: NftTable, family: Family, owner: Owner): (ContainerRule | HostRule)[] {
  return owner.kind === "host"
    ? hostMeaning(table, family, owner.file)
    : containerMeaning(table, family, commentFor(spellOwner(owner)));
}

function elementOf(rule: ContainerRule | HostRule, family: Family, owner: Owner): string | undefined {
  const { elements } = renderElements([rule], family, spellOwner(owner));
  const decisive = elements.filter(({ object }) => !BESIDE.has(object));
  const [one = elements[0], ...more] = decisive;
  // Of a range that is moved each port has an element of its own.
  const isOfMany = more.some(({ object }) => object === one?.object);
  return one === undefined || isOfMany ? undefined : spell(one, commentFor(spellOwner(owner)));
}

/** What only says where a rule does not hold. */
const BESIDE = new Set<ObjectName>([
  ...(["same", "within", "near", "inside", "inside_at"] as const),
  ...(["proxied", "proxied_range", "proxied_at", "proxied_at_range"] as const),
]);

function spell({ object, family, key, value }: NftElement, comment: string): string | undefined {
  return elementsCommand("add", nameOf(object, family), [spellElement(key, comment, value)])[0];
}
