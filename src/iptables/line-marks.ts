// Marks that say of each rule in a trial which line it came from, and which iptables prints back. Pure.
//
// A mark is a comment, the rule's first match: so it stands before any word that the rule's author has chosen freely, and no text in a
// rule looks like one. Where a line deletes a rule by its words, which are then others, it is the packet counter; ip6tables-restore 1.8.9
// (nf_tables), Debian 12's, sets none (tried; 1.8.11 does), and what a rule came from is unknown there.

import { type Rule, readRule, spell, uncounted } from "./rule.ts";

export type MarkKind = "comment" | "counter";

/** Which marks a text can have. */
export function markKindOf(lines: readonly string[]): MarkKind {
  return lines.some((line) => /-D|--del/.test(line) && deletesByWords(readRule(line))) ? "counter" : "comment";
}

function deletesByWords([option, , ...words]: Rule): boolean {
  return option === "-D" && !(words.length === 1 && /^\d+$/.test(words[0] ?? ""));
}

/** A rule with its mark, in place of its counters; any other line as it is. `at` counts from 0. */
export function withMark(line: string, at: number, kind: MarkKind): string {
  const bare = uncounted(line);
  if (!bare.startsWith("-")) return bare;
  return kind === "counter" ? withCounter(bare, at + 1) : withComment(bare, at + 1);
}

function withComment(line: string, number: number): string {
  const mark = ["-m", "comment", "--comment", `line-${number}`];
  const [, head, rest = ""] = /^(-A [^\s"]+|-I [^\s"]+(?: \d+)?)( .*)?$/.exec(line) ?? [];
  // Most can be told apart without their words.
  if (head !== undefined) return `${head} ${mark.join(" ")}${rest}`;
  const rule = readRule(line);
  if (!isAdded(rule)) return line;
  const length = rule[0] === "-I" && /^\d+$/.test(rule[2] ?? "") ? 3 : 2;
  return spell([...rule.slice(0, length), ...mark, ...rule.slice(length)]);
}

function withCounter(line: string, number: number): string {
  const rule = readRule(line);
  if (!isAdded(rule)) return line;
  const setsCounters = /\s(-c|--set-c\S*)\s/.test(line);
  return `[${number}:0] ${setsCounters ? spell(withoutCounters(rule)) : line}`;
}

/** In the words of readRule. */
function isAdded([option = ""]: Rule): boolean {
  return option === "-A" || option === "-I";
}

/** A rule without the counters that its own words set: "-c 1 2", "-c 1,2" (iptables(8), --set-counters). */
function withoutCounters(rule: Rule): Rule {
  const at = rule.findIndex((word, index) => word === "-c" && rule[index - 1] !== "--comment");
  if (at < 0) return rule;
  return [...rule.slice(0, at), ...rule.slice(at + (rule[at + 1]?.includes(",") ? 2 : 3))];
}

const MARK = / -m comment --comment "?line-(\d+)"?(?= |$)/;

/** A rule as iptables-save prints it, without its mark, and the line that it came from; -1 where it has none. */
export function readMark(line: string): { text: string; at: number } {
  const counted = /^\[(\d+):/.exec(line);
  if (counted !== null) return { text: uncounted(line), at: Number(counted[1]) - 1 };
  const [mark = "", number] = MARK.exec(line) ?? [];
  return number === undefined ? { text: line, at: -1 } : { text: line.replace(mark, ""), at: Number(number) - 1 };
}
