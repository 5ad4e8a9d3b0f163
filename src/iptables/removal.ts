// The live rules of removed fragments, and the text for `iptables-restore --noflush` that removes them and does nothing else. Pure.
//
// It adds no rule, so no fragment can spoil it: neither another's nor one of ours.

import { type Owner, spellOwner } from "../model/owner.ts";
import { readFragment } from "./fragment-text.ts";
import { idleLists, isListChain, LIST_CHAIN } from "./list-chains.ts";
import type { Live, Tables } from "./live.ts";
import { commentOf, isOurs, keyOf, mayBeOurs, readChain, readComment, readWords, uncounted } from "./rule.ts";

/** A removed fragment: its owner, and the rules that it had. */
export interface Gone {
  owner: Owner;
  former: Tables;
}

/** Live rules, unchanged, by table. */
export type Lines = ReadonlyMap<string, ReadonlySet<string>>;

/**
 * The live rules of fragments that are gone. Those of the original script carry no comment: they are known by the former
 * file alone, and stay where a fragment that is `kept` declares the same.
 */
export function goneLines(gone: readonly Gone[], kept: readonly { text: string }[], live: Live): Lines {
  const comments = new Set(gone.map(({ owner }) => commentOf(spellOwner(owner))));
  const lines = new Map<string, Set<string>>();
  for (const [name, table] of live.tables) {
    const bare = bareKeys(name, gone, kept);
    const isGone = (line: string) => {
      if (bare.size === 0 && !mayBeOurs(line)) return false;
      const rule = readWords(uncounted(line));
      return readChain(rule) !== undefined && (comments.has(readComment(rule) ?? "") || bare.has(keyOf(rule)));
    };
    lines.set(name, new Set(table.lines.filter(isGone)));
  }
  return lines;
}

function bareKeys(table: string, gone: readonly Gone[], kept: readonly { text: string }[]): Set<string> {
  const rules = gone.flatMap(({ former }) => former.get(table) ?? []).filter((rule) => !isOurs(rule));
  if (rules.length === 0) return new Set();
  const declared = new Set(kept.flatMap(({ text }) => readFragment(text).get(table) ?? []).map(keyOf));
  return new Set(rules.map(keyOf).filter((key) => !declared.has(key)));
}

/** The text that removes these rules; undefined when none of them is live. */
export function removalText(lines: Lines, live: Live): string | undefined {
  const text = [...live.tables].flatMap(([name, table]) => {
    const isGoing = (line: string) => lines.get(name)?.has(line) ?? false;
    const going = table.lines.filter(isGoing);
    if (going.length === 0) return [];
    const idle = idleLists(table, isGoing).map((chain) => `-X ${chain}`);
    return [`*${name}`, ...going.map((line) => uncounted(line).replace(/^\S+/, "-D")), ...idle, "COMMIT"];
  });
  return text.length === 0 ? undefined : [...text, ""].join("\n");
}

/** A snapshot's text without these rules, and without the chains of lists that hold nothing then. */
export function withoutLines({ text }: Live, lines: Lines): string {
  let table = "";
  const staying = text.split("\n").filter((line) => {
    if (line.startsWith("*")) table = line.slice(1);
    return !lines.get(table)?.has(line);
  });
  const used = new Set(
    staying.filter((line) => line.startsWith("-A ")).flatMap((line) => line.match(LIST_CHAIN) ?? []),
  );
  const isIdle = (line: string) => line.startsWith(":") && isListChain(chainOf(line)) && !used.has(chainOf(line));
  return staying.filter((line) => !isIdle(line)).join("\n");
}

/** Of a line that declares one. */
function chainOf(line: string): string {
  return line.slice(1, line.indexOf(" "));
}
