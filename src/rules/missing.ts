// What becomes of a rule that cannot be loaded at a boot, so that the host is never open for it. Pure.
//
// What is missing is taken as empty, and in doubt as closed:
//   a rule that leans on a set that is not there, or on a host name without an address, matches nothing, so it is left out; of a
//   list of addresses those that are known stay; one that leans on not being in it matches all that it says besides, so it is
//   loaded without that match, unless it accepts: then it is left out, too;
//   of any other rule that iptables refuses nobody knows what it matches: it is left out, but where it would have led packets
//   past what follows in its chain, and that accepts something, nothing gets past it: it becomes a DROP.

import { type Rule, readChain, readRule, readTarget, readWords, spell } from "./rule.ts";

/** What is loaded in a rule's place; undefined leaves it out. */
export interface Stead {
  line: string | undefined;
  /** Whether it kept somebody out who is let in now. */
  denied: boolean;
}

/** Targets that decide nothing in favour of a packet. */
const HARMLESS =
  /^(DROP|REJECT|TARPIT|RETURN|LOG|NFLOG|ULOG|AUDIT|TRACE|MARK|CONNMARK|SECMARK|CONNSECMARK|HMARK|CLASSIFY|TCPMSS|TCPOPTSTRIP|DSCP|TOS|ECN|TTL|HL|CHECKSUM|TEE|SET|CT|NOTRACK|RATEEST|IDLETIMER|LED)$/;
const DENIES = /^(DROP|REJECT|TARPIT)$/;

/** Sets that are not there, and host names that have no address. */
export interface Missing {
  sets: ReadonlySet<string>;
  names: ReadonlySet<string>;
}

/** In the place of a rule that leans on what is missing; undefined where it does not. `table` are all lines of its table. */
export function withoutMissing(line: string, { sets, names }: Missing, table: readonly string[]): Stead | undefined {
  const rule = readRule(line);
  const bySets = withoutSets(rule, sets);
  const left = bySets && withoutNames(bySets, names);
  if (left === rule) return undefined;
  const target = readTarget(rule) ?? "";
  if (left === undefined) return { line: undefined, denied: mayDeny(target, table) };
  return { line: target === "ACCEPT" && negations(left) < negations(rule) ? undefined : spell(left), denied: false };
}

function negations(rule: Rule): number {
  return rule.filter((word) => word === "!").length;
}

/** Options of a set match besides the set. */
const SET_OPTION = /^--(return-nomatch|update-(sub)?counters|(packets|bytes)-\w+)$/;

/** The rule without `-m set ! --match-set NAME FLAGS`; itself where it leans on no such set; undefined where it matches nothing. */
function withoutSets(rule: Rule, sets: ReadonlySet<string>): Rule | undefined {
  const isMissing = (at: number) => sets.has(rule[at + 1] ?? "") && !isText(rule, at);
  if (rule.some((word, at) => /^--(add|del|map)-set$/.test(word) && isMissing(at))) return undefined;
  const matches = rule.flatMap((word, at) => (word === "--match-set" && isMissing(at) ? [at] : []));
  if (matches.length === 0) return rule;
  if (matches.some((at) => rule[at - 1] !== "!")) return undefined;
  const gone = new Set<number>();
  for (const at of matches) {
    for (const index of [at - 1, at, at + 1, at + 2]) gone.add(index);
    takeOptions(rule, at + 3, gone);
    const module =
      rule
        .flatMap((_, index) => (index < at && !gone.has(index) && isModule(rule, index, "set") ? [index] : []))
        .at(-1) ?? at;
    gone.add(module).add(module + 1);
  }
  // Options may stand before the set, too.
  if (!rule.some((_, at) => !gone.has(at) && isModule(rule, at, "set"))) {
    for (const at of rule.keys()) if (!isText(rule, at)) takeOptions(rule, at, gone);
  }
  return rule.filter((_, at) => !gone.has(at));
}

function takeOptions(rule: Rule, from: number, gone: Set<number>): void {
  const option = rule[from] === "!" ? from + 1 : from;
  const word = rule[option] ?? "";
  if (!SET_OPTION.test(word)) return;
  const end = option + (/^--(packets|bytes)-/.test(word) ? 2 : 1);
  for (let at = from; at < end; at++) gone.add(at);
  takeOptions(rule, end, gone);
}

/** The same for `[!] -s NAME[/MASK][,…]`, and for the addresses of a flow. */
function withoutNames(rule: Rule, names: ReadonlySet<string>): Rule | undefined {
  const left: string[] = [];
  for (let at = 0; at < rule.length; at++) {
    const isAddress = /^(-[sd]|--ct(orig|repl)(src|dst))$/.test(rule[at] ?? "") && !isText(rule, at);
    const all = isAddress ? (rule[at + 1] ?? "").split(",") : [];
    const known = all.filter((one) => !names.has(one.split("/")[0] ?? ""));
    if (known.length === all.length) {
      left.push(rule[at] ?? "");
      continue;
    }
    if (left.at(-1) === "!") left.pop();
    else if (known.length === 0) return undefined;
    else left.push(rule[at] ?? "", known.join(","));
    at++;
  }
  return left.length === rule.length && left.every((word, at) => word === rule[at]) ? rule : withoutBareConntrack(left);
}

/** A match without a condition is none: iptables refuses it. */
function withoutBareConntrack(rule: Rule): Rule {
  if (rule.some((word, at) => word.startsWith("--ct") && !isText(rule, at))) return rule;
  const at = rule.findIndex((_, index) => isModule(rule, index, "conntrack"));
  return at < 0 ? rule : [...rule.slice(0, at), ...rule.slice(at + 2)];
}

function isModule(rule: Rule, at: number, name: string): boolean {
  return rule[at] === "-m" && rule[at + 1] === name && !isText(rule, at);
}

/** Whether a word is what a comment says. */
function isText(rule: Rule, at: number): boolean {
  return rule[at - 1] === "--comment";
}

/** In the place of a rule that iptables refuses, the line at this place of its table. */
export function withoutRule(table: readonly string[], at: number): Stead {
  const rule = readRule(table[at] ?? "");
  const target = readTarget(rule);
  const chain = readChain(rule);
  if (
    chain === undefined ||
    target === undefined ||
    !leadsPast(rule, target, table) ||
    !table.slice(at + 1).some((other) => accepts(other, chain))
  )
    return { line: undefined, denied: mayDeny(target ?? "", table) };
  return { line: spell(["-A", chain, "-j", "DROP"]), denied: false };
}

/** Whether a packet that this rule takes may be kept from what follows: by a RETURN, in a chain, by a target that is not known. */
function leadsPast(rule: Rule, target: string, table: readonly string[]): boolean {
  if (target === "RETURN") return true;
  if (target === "ACCEPT" || HARMLESS.test(target)) return false;
  return rule.includes("-g") || !isChain(target, table) || mayDeny(target, table);
}

/** Whether a rule of this chain may let a packet through; another chain that it leads to may. */
function accepts(line: string, chain: string): boolean {
  const rule = readRule(line);
  const target = readTarget(rule);
  return readChain(rule) === chain && target !== undefined && !HARMLESS.test(target);
}

function isChain(name: string, table: readonly string[]): boolean {
  return table.some((line) => line.startsWith(`:${name} `) || readChain(readWords(line)) === name);
}

/** Whether a target keeps packets out: itself, or a rule of the chain that it is, however deep. */
function mayDeny(target: string, table: readonly string[], seen: ReadonlySet<string> = new Set()): boolean {
  if (DENIES.test(target)) return true;
  if (seen.has(target)) return false;
  const deeper = new Set([...seen, target]);
  return table.some((line) => {
    const rule = readRule(line);
    return readChain(rule) === target && mayDeny(readTarget(rule) ?? "", table, deeper);
  });
}
