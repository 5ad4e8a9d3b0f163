// The chains of lists (render.ts): whose they are not, and when they go. Pure.

import { HASH_LENGTH, hashOf } from "../model/hash.ts";
import type { LiveTable } from "./live.ts";
import { readChain, readTarget, readWords, uncounted } from "./rule.ts";

const PREFIX = "ALLOW-";

/** The name of a list's chain: a hash, so that who chooses a container's name or label cannot choose another's chain. */
export function listChainOf(list: string): string {
  return `${PREFIX}${hashOf(list)}`;
}

/** Names of lists' chains in a text. */
export const LIST_CHAIN = new RegExp(`${PREFIX}[\\da-f]{${HASH_LENGTH}}`, "g");

/** Whether a chain is one of a list's. */
export function isListChain(chain: string): boolean {
  return chain.startsWith(PREFIX) && new RegExp(`^[\\da-f]{${HASH_LENGTH}}$`).test(chain.slice(PREFIX.length));
}

/** Those that hold nothing and to which nothing jumps, once some lines are gone. */
export function idleLists(table: LiveTable | undefined, isGoing: (line: string) => boolean): string[] {
  const lists = [...(table?.chains.keys() ?? [])].filter(isListChain);
  if (table === undefined || lists.length === 0) return [];
  const stays = table.lines
    .filter((line) => line.includes(PREFIX) && !isGoing(line))
    .map((line) => readWords(uncounted(line)));
  const used = new Set(stays.flatMap((rule) => [readChain(rule), readTarget(rule)]));
  return lists.filter((chain) => !used.has(chain));
}
