// What becomes of a rule that cannot be loaded at a boot, so that the host is never open for it. Pure.
//
// What is missing is taken as empty, and in doubt as closed:
//   a rule that leans on a set that is not there, or on a host name without an address, matches nothing, so it is left out; one
//   that leans on not being in it matches all that it says besides, so it is loaded without that match, unless it accepts: then
//   it is left out, too;
//   of any other rule that iptables refuses nobody knows what it matches: it is left out, but where it would have led packets
//   past what follows in its chain, and that accepts something, nothing gets past it: it becomes a DROP.

import { type Rule, readChain, readTarget, readWords, spell, uncounted } from "./rule.ts";

/** What is loaded in a rule's place; undefined leaves it out. */
export interface Stead {
  line: string | undefined;
  /** Whether it kept somebody out who is let in now. */
  denied: boolean;
}

/** Targets that decide nothing in favour of a packet. */
const HARMLESS = /^(DROP|REJECT|LOG|NFLOG|ULOG|MARK|CONNMARK|CLASSIFY|TCPMSS|DSCP|TOS|TRACE|SET|NOTRACK|CT|RETURN)$/;
const DENIES = /^(DROP|REJECT|TARPIT)$/;

/** Sets that are not there, and host names that have no address. */
export interface Missing {
  sets: ReadonlySet<string>;
  names: ReadonlySet<string>;
}

/** In the place of a rule that leans on what is missing; undefined where it does not. */
export function withoutMissing(line: string, { sets, names }: Missing): Stead | undefined {
  const rule = readWords(uncounted(line));
  const kept: string[] = [];
  let isEmpty = rule.some((word, at) => /^--(add|del|map)-set$/.test(rule[at - 1] ?? "") && sets.has(word));
  const denied = DENIES.test(readTarget(rule) ?? "");
  let negated = false;
  for (let at = 0; at < rule.length; at++) {
    const match = setMatch(rule, at) ?? addressMatch(rule, at);
    if (match === undefined || !(match.kind === "set" ? sets : names).has(match.name)) {
      kept.push(rule[at] ?? "");
      continue;
    }
    if (match.negated) negated = true;
    else isEmpty = true;
    at += match.length - 1;
  }
  if (!isEmpty && !negated) return undefined;
  if (isEmpty || readTarget(rule) === "ACCEPT") return { line: undefined, denied: denied && isEmpty };
  return { line: spell(kept), denied: false };
}

interface Match {
  kind: "set" | "name";
  name: string;
  negated: boolean;
  /** Words. */
  length: number;
}

/** An address that begins there: `[!] -s NAME[/MASK]`. Of a list the first name stands for all: iptables refuses them together. */
function addressMatch(rule: Rule, at: number): Match | undefined {
  const negated = rule[at] === "!";
  const option = at + (negated ? 1 : 0);
  if (!/^(-s|-d|--src|--dst|--source|--destination)$/.test(rule[option] ?? "") || rule[at - 1] === "--comment")
    return undefined;
  const name = rule[option + 1]?.split(/[,/]/)[0];
  return name === undefined ? undefined : { kind: "name", name, negated, length: option + 2 - at };
}

/** A match of a set that begins there: `-m set [!] --match-set NAME FLAGS` and its options. */
function setMatch(rule: Rule, at: number): Match | undefined {
  if (!/^(-m|--match)$/.test(rule[at] ?? "") || rule[at + 1] !== "set" || rule[at - 1] === "--comment")
    return undefined;
  const negated = rule[at + 2] === "!";
  const option = at + 2 + (negated ? 1 : 0);
  const name = rule[option + 1];
  if (rule[option] !== "--match-set" || name === undefined) return undefined;
  let end = option + 3;
  while (isMore(rule[end]) || (rule[end] === "!" && isMore(rule[end + 1]))) {
    end += /^--(packets|bytes)-/.test(rule[end] ?? "") ? 2 : 1;
  }
  return { kind: "set", name, negated, length: end - at };
}

function isMore(word: string | undefined): boolean {
  return /^--(return-nomatch|(packets|bytes)-\w+|update-(sub)?counters)$/.test(word ?? "");
}

/** In the place of a rule that iptables refuses. `following` are the lines of its table behind it. */
export function withoutRule(line: string, following: readonly string[]): Stead {
  const rule = readWords(uncounted(line));
  const target = readTarget(rule);
  const chain = readChain(rule);
  const denied = DENIES.test(target ?? "");
  const leadsPast =
    target === "RETURN" || (target !== undefined && !denied && target !== "ACCEPT" && !HARMLESS.test(target));
  if (chain === undefined || !leadsPast || !following.some((other) => accepts(other, chain)))
    return { line: undefined, denied };
  return { line: spell(["-A", chain, "-j", "DROP"]), denied: false };
}

/** Whether a rule of this chain may let a packet through; another chain that it leads to may. */
function accepts(line: string, chain: string): boolean {
  const rule = readWords(uncounted(line));
  const target = readTarget(rule);
  return readChain(rule) === chain && target !== undefined && !HARMLESS.test(target);
}
