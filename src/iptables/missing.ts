// What becomes of a rule that cannot be loaded at a boot, so that the host is never open for it. Pure.
//
// What is missing is taken as empty, and in doubt as closed:
//   a rule that depends on a set that is not there, or on a host name without an address, matches nothing, so it is left out; of a
//   list of addresses those that are known stay; one that depends on not being in it matches all that it says besides, so it is
//   loaded without that match, unless it accepts: then it is left out, too;
//   of any other rule that iptables refuses nobody knows what it matches: it is left out, but where it would have led packets
//   past what follows in its chain, and that accepts something, nothing gets past it: it becomes a DROP, of the packets that it is
//   for where its matches are plain ones, else of all. In nat, where no rule may drop, it becomes an ACCEPT: nothing is led elsewhere.

import { type Rule, readChain, readRule, readTarget, readWords, spell } from "./rule.ts";

/** What is loaded in a rule's place; undefined leaves it out. */
export interface Substitute {
  line: string | undefined;
  /** Whether it blocked packets that now pass. */
  denied: boolean;
  /** Whether it is there for what follows in its chain. */
  closes?: boolean;
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

/** In the place of a rule that depends on what is missing; undefined where it does not. `table` are all lines of its table. */
export function withoutMissing(
  line: string,
  { sets, names }: Missing,
  table: readonly string[],
): Substitute | undefined {
  const rule = readRule(line);
  const bySets = withoutSets(rule, sets);
  const left = bySets && withoutNames(bySets, names);
  if (left === rule) return undefined;
  const target = readTarget(rule) ?? "";
  if (left === undefined) return { line: undefined, denied: mayDeny(target, table) };
  // In nat an ACCEPT takes packets past a DNAT.
  const opens = target === "ACCEPT" && table[0] !== "*nat" && negations(left) < negations(rule);
  return { line: opens ? undefined : spell(left), denied: false };
}

function negations(rule: Rule): number {
  return rule.filter((word) => word === "!").length;
}

/** Options of a set match besides the set. */
const SET_OPTION = /^--(return-nomatch|update-(sub)?counters|(packets|bytes)-\w+)$/;

/** The rule without `-m set ! --match-set NAME FLAGS`; itself where it depends on no such set; undefined where it matches nothing. */
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
  // Options may also come before the set.
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
export function withoutRule(table: readonly string[], at: number): Substitute {
  const rule = readRule(table[at] ?? "");
  const target = readTarget(rule);
  const chain = readChain(rule);
  const isClosed =
    chain !== undefined && target !== undefined && leadsPast(rule, target, table) && hasFollower(table, at, chain);
  if (!isClosed) return { line: undefined, denied: mayDeny(target ?? "", table) };
  const matches = plainMatches(rule);
  return { line: spell([...(matches ?? ["-A", chain]), "-j", closing(table)]), denied: false, closes: true };
}

/** Replaces a replacement line that iptables refuses itself: it matches all packets. After it there is none. */
export function withoutStandIn(line: string, former: Rule, table: readonly string[]): Substitute {
  const chain = readChain(readRule(line)) ?? "";
  const broad = spell(["-A", chain, "-j", closing(table)]);
  if (line === broad) return { line: undefined, denied: mayDeny(readTarget(former) ?? "", table) };
  return { line: broad, denied: false, closes: true };
}

/** Whether a rule's replacement is still needed: there may be no rule left behind it that it protects from. */
export function isNeeded(table: readonly string[], at: number, { closes }: Substitute): boolean {
  return closes !== true || hasFollower(table, at, readChain(readRule(table[at] ?? "")) ?? "");
}

/** In nat no rule may drop: there packets are taken past what would lead them elsewhere. */
function closing(table: readonly string[]): string {
  return table[0] === "*nat" ? "ACCEPT" : "DROP";
}

function hasFollower(table: readonly string[], at: number, chain: string): boolean {
  return table.slice(at + 1).some((other) => accepts(other, chain, table[0] === "*nat"));
}

const PLAIN = /^(-[sdiop]|--[sd]ports?|--comment)$/;
const PLAIN_MODULE = /^(tcp|udp|sctp|dccp|multiport|comment)$/;

/** What a rule says before its target, where every iptables knows it; undefined where it may be what is refused. */
function plainMatches(rule: Rule): Rule | undefined {
  const end = rule.findIndex((word, at) => (word === "-j" || word === "-g") && !isText(rule, at));
  for (let at = 2; at < end; at += 2) {
    const option = rule[at] === "!" ? rule[++at] : rule[at];
    const isPlain = PLAIN.test(option ?? "") || (option === "-m" && PLAIN_MODULE.test(rule[at + 1] ?? ""));
    if (!isPlain) return undefined;
  }
  return rule.slice(0, end);
}

/**
 * Whether a packet that this rule takes may be kept from what follows: by a RETURN, in a chain, by a target that is not known; in nat
 * by an ACCEPT.
 */
function leadsPast(rule: Rule, target: string, table: readonly string[]): boolean {
  if (target === "RETURN") return true;
  if (table[0] === "*nat") return target === "ACCEPT" || rule.includes("-g") || mayPass(target, table);
  if (target === "ACCEPT" || HARMLESS.test(target)) return false;
  return rule.includes("-g") || !isChain(target, table) || mayDeny(target, table);
}

/** Whether a chain of nat's takes packets past what follows the jump. */
function mayPass(chain: string, table: readonly string[]): boolean {
  return table.some((line) => {
    const rule = readRule(line);
    return readChain(rule) === chain && readTarget(rule) !== undefined && readTarget(rule) !== "RETURN";
  });
}

/** Rules of nat that let nothing in. */
const OUTWARD = /^(ACCEPT|MASQUERADE|SNAT)$/;

/** Whether a rule of this chain may let a packet through, or in nat lead it elsewhere; another chain that it leads to may. */
function accepts(line: string, chain: string, isNat: boolean): boolean {
  const rule = readRule(line);
  const target = readTarget(rule);
  if (readChain(rule) !== chain || target === undefined || HARMLESS.test(target)) return false;
  return !(isNat && OUTWARD.test(target));
}

function isChain(name: string, table: readonly string[]): boolean {
  return table.some((line) => line.startsWith(`:${name} `) || readChain(readWords(line)) === name);
}

/** Whether a target keeps packets out: itself, or a rule of the chain that it is, however deep. */
export function mayDeny(target: string, table: readonly string[], seen: ReadonlySet<string> = new Set()): boolean {
  if (DENIES.test(target)) return true;
  if (seen.has(target)) return false;
  const deeper = new Set([...seen, target]);
  return table.some((line) => {
    const rule = readRule(line);
    return readChain(rule) === target && mayDeny(readTarget(rule) ?? "", table, deeper);
  });
}
