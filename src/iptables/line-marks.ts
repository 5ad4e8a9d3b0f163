// Marks that say of each rule in a trial which line it came from: a comment as its first match, which iptables prints back. Pure.
//
// The packet counter would be shorter, but ip6tables-restore 1.8.9 (nf_tables), Debian 12's, sets none (tried; 1.8.11 does). As the
// first match it stands before any word that the rule's author has chosen freely, so that no text in a rule looks like one.

import { readRule, spell, uncounted } from "./rule.ts";

/** A rule with its mark, in place of its counters; any other line as it is. `at` counts from 0. */
export function withMark(line: string, at: number): string {
  const bare = uncounted(line);
  if (!bare.startsWith("-")) return bare;
  const mark = ["-m", "comment", "--comment", `line-${at + 1}`];
  const [, head, rest = ""] = /^(-A [^\s"]+|-I [^\s"]+(?: \d+)?)( .*)?$/.exec(bare) ?? [];
  if (head !== undefined) return `${head} ${mark.join(" ")}${rest}`;
  const rule = readRule(bare);
  if (!/^-[AI]$/.test(rule[0] ?? "")) return bare;
  const length = rule[0] === "-I" && /^\d+$/.test(rule[2] ?? "") ? 3 : 2;
  return spell([...rule.slice(0, length), ...mark, ...rule.slice(length)]);
}

const MARK = / -m comment --comment "?line-(\d+)"?(?= |$)/;

/** A rule as iptables-save prints it, without its mark, and the line that it came from; -1 where it has none. */
export function readMark(line: string): { text: string; at: number } {
  const [mark = "", number] = MARK.exec(line) ?? [];
  return number === undefined ? { text: line, at: -1 } : { text: line.replace(mark, ""), at: Number(number) - 1 };
}
