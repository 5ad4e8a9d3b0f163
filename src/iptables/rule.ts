// What a rule is, and the one place that writes and parses it. Pure. A rule is the argument vector that iptables would get, chain
// first: ["-A", "FORWARD", "-d", "172.17.0.2/32", …]. -I instead of -A means that it belongs to the chain's front; the kernel
// prints it with -A, in its place.

import type { Family } from "../model/family.ts";

export type Rule = readonly string[];

/** In the order in which fragments name them: guards first, so that no moment is wider than the end. */
export const TABLES = ["raw", "mangle", "nat", "filter"] as const;
export type Table = (typeof TABLES)[number];

/** Rules by family and table, in order. A table without a rule is not there. */
export type Ruleset = Record<Family, Partial<Record<Table, Rule[]>>>;

/** Every rule of ours carries this comment, so that it is found again in the kernel. */
export function commentOf(container: string): string {
  return `docker_iptables: ${container}`;
}

/** One line in the spelling of iptables-save: words, or double quotes around what is more than a word. */
export function spell(rule: Rule): string {
  return rule.map((word) => (/^[^\s"'\\]+$/.test(word) ? word : `"${word.replace(/["\\']/g, "\\$&")}"`)).join(" ");
}

/** The same as the kernel has it: iptables-save knows no insertion. */
export function spellLive(rule: Rule): string {
  return spell(readAdded(rule)?.rule ?? rule);
}

/**
 * A line of iptables-save or of a fragment as its words, quotes resolved as iptables-restore does it: a double quote may open
 * within a word, and ends it where it closes; nothing else quotes (iptables/xshared.c, add_param_to_argv).
 */
export function readWords(line: string): string[] {
  const words: string[] = [];
  for (const [, bare = "", quoted = "", whole = ""] of line.matchAll(WORD)) {
    const text = quoted || whole;
    words.push(bare + (text.includes("\\") ? text.replace(/\\([\s\S])/g, "$1") : text));
  }
  return words;
}

const QUOTED = String.raw`"([^"\\]*(?:\\[\s\S][^"\\]*)*)(?:"|\\?$)`;
const WORD = new RegExp(String.raw`([^ \t\n"]+)(?:${QUOTED})?|${QUOTED}`, "g");

/** Whether a line's last quote does not close: iptables takes the end of the line, too, into that word. */
export function hasOpenQuote(line: string): boolean {
  for (let at = line.indexOf('"'); at >= 0; at = line.indexOf('"', CLOSED.lastIndex)) {
    CLOSED.lastIndex = at;
    if (!CLOSED.test(line)) return true;
  }
  return false;
}

const CLOSED = /"[^"\\]*(?:\\[\s\S][^"\\]*)*"/y;

/** Options of every rule in full, and how many letters of each tell it from the others. */
const LONG: readonly (readonly [long: string, least: number, short: string])[] = [
  ["append", 1, "-A"],
  ["insert", 3, "-I"],
  ["delete", 3, "-D"],
  ["replace", 3, "-R"],
  ["new-chain", 2, "-N"],
  ["policy", 2, "-P"],
  ["source", 2, "-s"],
  ["src", 3, "-s"],
  ["destination", 4, "-d"],
  ["dst", 3, "-d"],
  ["protocol", 2, "-p"],
  ["in-interface", 3, "-i"],
  ["out-interface", 1, "-o"],
  ["fragments", 1, "-f"],
  ["match", 2, "-m"],
  ["jump", 1, "-j"],
  ["goto", 1, "-g"],
  ["set-counters", 3, "-c"],
];

/** "-s" of "--sourc": getopt(3) takes what an option begins with. Any other word as it is. */
export function shortOption(word: string): string {
  if (!word.startsWith("--")) return word;
  const name = word.slice(2);
  return LONG.find(([long, least]) => name.length >= least && long.startsWith(name))?.[2] ?? word;
}

/** Options whose value is a text, which may look like an option. */
const TEXT = /^--(comment|string|hex-string|(|nf|u)log-prefix)$/;

/**
 * A rule as it was written, in the words that iptables-save has for what every rule has: the command first, short options, each
 * value a word of its own, no counters before it. For what no trial can spell; it makes no two rules alike.
 */
export function readRule(line: string): Rule {
  const words: string[] = [];
  let isText = false;
  for (const word of readWords(uncounted(line))) {
    const [, option = "", value = ""] =
      /^(--[a-z][\w-]*)=([\s\S]*)$/.exec(word) ?? /^(-[mAI])([^-][\s\S]*)$/.exec(word) ?? [];
    if (isText) words.push(word);
    else words.push(...(option === "" ? [shortOption(word)] : [shortOption(option), value]));
    isText = !isText && TEXT.test(word);
  }
  const at = words.findIndex((word, index) => /^-[ADIRNP]$/.test(word) && !TEXT.test(words[index - 1] ?? ""));
  if (at <= 0) return words;
  const length = /^\d+$/.test(words[at + 2] ?? "") ? 3 : 2;
  return [...words.slice(at, at + length), ...words.slice(0, at), ...words.slice(at + length)];
}

/** The value of a rule's comment, or undefined. */
export function readComment(rule: Rule): string | undefined {
  const at = rule.indexOf("--comment");
  return at < 0 ? undefined : rule[at + 1];
}

/** The word after an option (-d, --dport), or "" without the option. */
export function argumentOf(rule: Rule, option: string): string {
  const at = rule.indexOf(option);
  return at < 0 ? "" : (rule[at + 1] ?? "");
}

/** The chain to which a line adds a rule ("-A CHAIN …", "-I CHAIN …"), or undefined for any other line. */
export function readChain(rule: Rule): string | undefined {
  return /^(-A|--append|-I|--insert)$/.test(rule[0] ?? "") ? rule[1] : undefined;
}

/** Whether a rule is inserted at a place in its chain, and not appended. */
export function isInserted([option]: Rule): boolean {
  return option === "-I" || option === "--insert";
}

/** What a line adds: the rule as if it were appended, and its place in the chain, from 0 on; undefined: the end. */
export interface Added {
  rule: Rule;
  place: number | undefined;
}

/** Reads a line that adds a rule; undefined for any other. An insertion without a number is at the front (iptables(8)). */
export function readAdded(words: Rule): Added | undefined {
  const chain = readChain(words);
  if (chain === undefined) return undefined;
  if (!isInserted(words)) return { rule: words, place: undefined };
  const isNumbered = /^\d+$/.test(words[2] ?? "");
  return { rule: ["-A", chain, ...words.slice(isNumbered ? 3 : 2)], place: isNumbered ? Number(words[2]) - 1 : 0 };
}

/** Where a rule sends its packets (-j or -g), or undefined. A comment may look like it. */
export function readTarget(rule: Rule): string | undefined {
  const at = rule.findIndex((word, index) => /^(-j|--jump|-g|--goto)$/.test(word) && rule[index - 1] !== "--comment");
  return at < 0 ? undefined : rule[at + 1];
}

/** Any number of comments, as iptables-save spells them: the source of a regular expression. */
export const COMMENTS = String.raw`(?:-m comment --comment (?:"(?:[^"\\]|\\.)*"|[^\s"]\S*) )*`;
const UNCONDITIONAL = new RegExp(String.raw`^-A \S+ ${COMMENTS}-[jg] (\S+)`);

/** Where a rule of iptables-save sends every packet that comes to it; undefined where it has a condition. */
export function unconditionalTarget(line: string): string | undefined {
  return UNCONDITIONAL.exec(line)?.[1];
}

/** Whether a rule is ours: its comment says so. */
export function isOurs(rule: Rule): boolean {
  return readComment(rule)?.startsWith(commentOf("")) ?? false;
}

/** Whether a line is worth reading for isOurs. A comment of ours has a space, so it is in quotes. */
export function mayBeOurs(line: string): boolean {
  return line.includes(`"${commentOf("")}`);
}

/** A rule's line without the counters that iptables-save -c puts before it. */
export function uncounted(line: string): string {
  return line.startsWith("[") ? line.replace(/^\[\d+:\d+\] /, "") : line;
}

/** The rules of each chain, in their order. */
export function byChain(lines: readonly string[]): Map<string, string[]> {
  const chains = new Map<string, string[]>();
  for (const line of lines.map(uncounted)) {
    const chain = /^-A (\S+)/.exec(line)?.[1];
    if (chain === undefined) continue;
    const known = chains.get(chain);
    if (known) known.push(line);
    else chains.set(chain, [line]);
  }
  return chains;
}

/**
 * A key that is equal for two spellings of a rule that docker_iptables or the original script wrote: the order of independent
 * options, an address without its mask and implied options make no difference. Foreign rules are compared as iptables prints them
 * (spelling.ts). Two different rules never have one key.
 */
export function keyOf(rule: Rule): string {
  const known = KEYS.get(rule) ?? makeKey(rule);
  KEYS.set(rule, known);
  return known;
}

/** A desired rule is compared at each read of the kernel. */
const KEYS = new WeakMap<Rule, string>();

/** What every packet has: each is independent of its place. */
const BASIC = /^(-[psdio46f]|--(protocol|source|destination|in-interface|out-interface|fragment))$/;
/** The matches that a protocol implies (iptables-extensions(8)). */
const OF_PROTOCOL = /^(tcp|udp|sctp)$/;

/** The chain, and what belongs together as JSON: a basic option with its value, a match or the target with its options, in order. */
function makeKey(rule: Rule): string {
  const basics: string[][] = [];
  const matches: string[][] = [];
  const ofProtocol: string[] = [];
  let open: string[] = ofProtocol;
  let negated = false;
  for (let at = 2; at < rule.length; at++) {
    const word = rule[at] ?? "";
    if (word === "!" && !negated) {
      negated = true;
      continue;
    }
    const said = negated ? ["!", word] : [word];
    negated = false;
    if (BASIC.test(word) || /^(-j|-g|-m|--jump|--goto|--match)$/.test(word)) {
      open = [...said, ...spelledValue(word, rule[++at])];
      if (!/^(-m|--match)$/.test(word)) basics.push(open);
      else if (OF_PROTOCOL.test(rule[at] ?? "")) open = ofProtocol;
      else matches.push(open);
      // What a basic option is followed by, without a match of its own, is of its protocol.
      if (BASIC.test(word)) open = ofProtocol;
    } else {
      open.push(...said);
      // A comment may look like anything.
      if (word === "--comment" && at + 1 < rule.length) open.push(rule[++at] ?? "");
    }
  }
  if (negated) open.push("!");
  if (ofProtocol.length > 0) basics.push(ofProtocol);
  const spelt = (groups: readonly string[][]) => groups.map((group) => JSON.stringify(group));
  // Matches are asked in their order, and some count.
  return [rule[1], ...spelt(basics).sort(), ...spelt(matches)].join("\n");
}

function spelledValue(option: string, value: string | undefined): string[] {
  if (value === undefined) return [];
  if ((option !== "-s" && option !== "-d") || value.includes("/")) return [value];
  return [`${value}/${value.includes(":") ? 128 : 32}`];
}
