// One new connection's first packet, and what a chain of the kernel's rules does with it. Pure.
//
// It knows the matches that firewalls decide by: addresses, interfaces, protocol, ports, connection state, address types. Of any
// other match (a set, a mark, a limit, an owner) it cannot say whether it holds: such a rule is listed as a doubt, and the walk
// continues as if it did not match. A target that it does not know, and one that leaves the packet to a program, are doubts, too.

import { bitsOf } from "../model/addresses.ts";
import type { Family } from "../model/family.ts";
import type { Live } from "./live.ts";
import { type Clause, type ParsedRule, parseRule } from "./parse.ts";
import { byChain, mayBeOurs, readWords } from "./rule.ts";

export interface Packet {
  family: Family;
  /** The interface it came in by; undefined for what the host itself sends. */
  from: string | undefined;
  /** The interface it leaves by; undefined before it is routed. */
  to: string | undefined;
  source: string;
  destination: string;
  protocol: string;
  /** The destination's port. */
  port: number;
  /** Whether a DNAT changed its destination (conntrack's state DNAT). */
  translated: boolean;
  /** Where it was sent, before a DNAT changed its destination (conntrack's original tuple). */
  original: { destination: string; port: number };
  /** What conntrack knows of it, NEW if it is not said: UNTRACKED after a NOTRACK, INVALID before conntrack has seen it. */
  state?: "NEW" | "UNTRACKED" | "INVALID";
}

/** What a rule or a policy does with a packet: `target` as iptables names it, "ACCEPT" or "DNAT". */
export interface Verdict {
  target: string;
  /** The rule as iptables-save prints it, or the policy as `:FORWARD DROP`. */
  rule: string;
  /** What follows the target: `--to-destination 172.17.0.2:80`. */
  options: readonly string[];
}

/** A rule that would decide otherwise if it does what is unknown. */
export interface Doubt {
  rule: string;
  /** What it does then: the packet ends, passes the table, or anything. */
  may: "end" | "pass" | "anything";
}

export interface Walk {
  /** Undefined where the table is not there. */
  verdict: Verdict | undefined;
  doubts: Doubt[];
  /** Whether a rule on the way takes the packet from conntrack. */
  untracked: boolean;
  /** The subnets by which rules on the way tell sources apart, in order. */
  asked: string[];
}

interface LineRule extends ParsedRule {
  line: string;
  /** Of its matches, those of the source. */
  ofSource: readonly Clause[];
  others: readonly Clause[];
  /** Whether one of them is about conntrack's state. */
  hasState: boolean;
  /** One of ours about what docker-proxy answers, which is no new connection. */
  isOfAnswers: boolean;
}

/** One family's rules, read once for many packets. */
export interface Ruling {
  tables: ReadonlyMap<string, { policies: ReadonlyMap<string, string>; chains: ReadonlyMap<string, LineRule[]> }>;
  /** Whether an address is one of this host's own. */
  isLocal: (address: string) => boolean;
}

/** `isLocal` recognises the host's own addresses. */
export function ruleWith(live: Live, isLocal: (address: string) => boolean): Ruling {
  const tables = new Map<string, { policies: ReadonlyMap<string, string>; chains: Map<string, LineRule[]> }>();
  for (const [name, { chains, lines }] of live.tables) {
    const parsed = [...byChain(lines)].map(([chain, rules]) => [chain, rules.map(readLine)] as const);
    tables.set(name, { policies: chains, chains: new Map(parsed) });
  }
  return { tables, isLocal };
}

/** The same rules, as if one chain were empty. */
export function withoutChain({ tables, isLocal }: Ruling, table: string, chain: string): Ruling {
  const found = tables.get(table);
  if (found === undefined) return { tables, isLocal };
  const chains = new Map([...found.chains].filter(([name]) => name !== chain));
  return { tables: new Map([...tables, [table, { ...found, chains }]]), isLocal };
}

function readLine(line: string): LineRule {
  const parsed = parseRule(readWords(line));
  const isOfSource = ({ option }: Clause) => option === "-s" || option === "--ctorigsrc";
  const others = parsed.clauses.filter((one) => !isOfSource(one));
  const hasState = others.some(({ option }) => /^--(ct)?state$/.test(option));
  const isOfAnswers = mayBeOurs(line) && others.some(({ option }) => option === "--sport");
  return { line, ...parsed, ofSource: parsed.clauses.filter(isOfSource), others, hasState, isOfAnswers };
}

/** What a built-in chain does with a packet. */
export function walk(ruling: Ruling, table: string, chain: string, packet: Packet): Walk {
  const found = ruling.tables.get(table);
  if (found === undefined) return { verdict: undefined, doubts: [], untracked: false, asked: [] };
  const walker = new Walker(found, packet, ruling.isLocal);
  const policy = found.policies.get(chain) ?? "ACCEPT";
  const decided = walker.follow(chain, 0);
  const verdict = typeof decided === "object" ? decided : { target: policy, rule: `:${chain} ${policy}`, options: [] };
  const { untracked, asked } = walker;
  // To pass the table early changes nothing where it is passed anyway.
  const changesNothing = table !== "nat" && verdict.target === "ACCEPT" && !untracked;
  const doubts = changesNothing ? walker.doubts.filter(({ may }) => may !== "pass") : walker.doubts;
  return { verdict, doubts, untracked, asked: [...asked] };
}

/** Deeper than any ruleset that the kernel takes. */
const DEEPEST = 64;
const ENDS = /^(ACCEPT|DROP|REJECT|QUEUE|NFQUEUE|TPROXY|DNAT|SNAT|MASQUERADE|REDIRECT|NETMAP)$/;
/** What becomes of it is a program's to say. */
const LEAVES_IT = /^(QUEUE|NFQUEUE|TPROXY)$/;
/** After these the walk goes on, and nothing is decided. */
const GOES_ON =
  /^(|LOG|NFLOG|ULOG|MARK|CONNMARK|SECMARK|CONNSECMARK|CLASSIFY|DSCP|TOS|TTL|HL|ECN|SET|AUDIT|CHECKSUM|TCPMSS|TCPOPTSTRIP|TEE|TRACE|LED|IDLETIMER|RATEEST|HMARK|CT)$/;

class Walker {
  readonly asked = new Set<string>();
  doubts: Doubt[] = [];
  untracked = false;
  readonly #table: { policies: ReadonlyMap<string, string>; chains: ReadonlyMap<string, LineRule[]> };
  readonly #packet: Packet;
  readonly #isLocal: (address: string) => boolean;

  constructor(
    table: Ruling["tables"] extends ReadonlyMap<string, infer T> ? T : never,
    packet: Packet,
    isLocal: Ruling["isLocal"],
  ) {
    this.#table = table;
    this.#packet = { ...packet };
    this.#isLocal = isLocal;
  }

  /** "return": a RETURN, or the end of a chain that was gone to: the caller of the chain goes on. */
  follow(chain: string, depth: number): Verdict | "return" | undefined {
    if (depth > DEEPEST) return undefined;
    for (const rule of this.#table.chains.get(chain) ?? []) {
      const matches = rule.isOfAnswers ? false : this.#matches(rule);
      if (matches === false) continue;
      const end = this.#isChain(rule.target) ? this.#enter(rule, matches, depth) : this.#obey(rule, matches);
      if (end !== undefined) return end;
    }
    return undefined;
  }

  /** iptables-save declares chains that have no rule, too. */
  #isChain(name: string): boolean {
    return this.#table.chains.has(name) || this.#table.policies.get(name) === "-";
  }

  #obey(rule: LineRule, matches: Answer): Verdict | "return" | undefined {
    const { target, targetOptions: options, line } = rule;
    if (target === "RETURN") {
      if (matches === true) return "return";
      this.#doubt(line);
    } else if (ENDS.test(target)) {
      if (matches !== true || LEAVES_IT.test(target)) this.#doubt(line, target);
      if (matches === true) return { target, rule: line, options };
    } else if (target === "NOTRACK" || (target === "CT" && options.includes("--notrack"))) {
      if (matches !== true) this.#doubt(line);
      else {
        this.untracked = true;
        this.#packet.state = "UNTRACKED";
      }
    } else if (!GOES_ON.test(target)) this.#doubt(line);
    return undefined;
  }

  #enter(rule: LineRule, matches: Answer, depth: number): Verdict | "return" | undefined {
    const [before, wasUntracked] = [this.doubts, this.untracked];
    const state = this.#packet.state;
    this.doubts = [];
    const verdict = this.follow(rule.target, depth + 1);
    const inner = this.doubts;
    this.doubts = before;
    const decides = typeof verdict === "object";
    if (matches !== true) {
      const isUntracked = this.untracked !== wasUntracked;
      this.untracked = wasUntracked;
      if (state === undefined) delete this.#packet.state;
      else this.#packet.state = state;
      // What a chain does that was gone to, or what it does not, ends this one.
      if (decides && inner.length === 0 && !isUntracked) this.#doubt(rule.line, verdict.target);
      else if (decides || inner.length > 0 || isUntracked || rule.isGoto) this.#doubt(rule.line);
      return undefined;
    }
    this.doubts.push(...inner);
    if (decides) return verdict;
    return rule.isGoto ? "return" : undefined;
  }

  #doubt(rule: string, target = ""): void {
    const may = /^(DROP|REJECT)$/.test(target) ? "end" : target === "ACCEPT" ? "pass" : "anything";
    this.doubts.push({ rule, may });
  }

  #matches({ ofSource, others, hasState }: LineRule): Answer {
    const packet = this.#packet;
    const isKnown = (packet.state ?? "NEW") === "NEW";
    const ask = ({ negated, option, values }: Clause): Answer => {
      // Of what conntrack does not know it matches the state alone (xt_conntrack.c).
      if (!isKnown && /^--ct(?!state)/.test(option)) return hasState;
      const plain = matchesOne(option, values, packet, this.#isLocal);
      return plain === undefined ? undefined : plain !== negated;
    };
    const answer = allOf(others, ask);
    if (answer === false || ofSource.length === 0) return answer;
    for (const { values } of ofSource) this.asked.add(values[0] ?? "");
    const from = allOf(ofSource, ask);
    return from === true ? answer : from;
  }
}

/** True, false, or undefined where it is unknown. */
type Answer = boolean | undefined;

function allOf(clauses: readonly Clause[], ask: (clause: Clause) => Answer): Answer {
  let answer: Answer = true;
  for (const clause of clauses) {
    const one = ask(clause);
    if (one === false) return false;
    if (one === undefined) answer = undefined;
  }
  return answer;
}

/** Modules whose options say all that they match. */
const MODULES = /^(tcp|udp|sctp|comment|addrtype|conntrack|state|multiport)$/;

function matchesOne(
  option: string,
  values: readonly string[],
  packet: Packet,
  isLocal: (address: string) => boolean,
): Answer {
  const value = values[0] ?? "";
  switch (option) {
    case "-s":
    case "--ctorigsrc":
      return within(packet.source, value);
    case "-d":
      return within(packet.destination, value);
    case "-i":
      return isInterface(packet.from, value);
    case "-o":
      return isInterface(packet.to, value);
    case "-p":
      return isProtocol(packet.protocol, value);
    case "-m":
      return MODULES.test(value) ? true : undefined;
    case "--comment":
      return true;
    case "--dport":
    case "--dports":
      return value.split(",").some((range) => inRange(packet.port, range));
    case "--ctstate":
    case "--state":
      return value.split(",").some((one) => isInState(packet, one));
    case "--ctorigdst":
      return within(packet.original.destination, value);
    case "--ctorigdstport":
      return inRange(packet.original.port, value);
    case "--ctdir":
      return value === "ORIGINAL";
    case "--src-type":
      return isOfType(packet.source, value, isLocal);
    case "--dst-type":
      return isOfType(packet.destination, value, isLocal);
    case "--syn":
      return true;
    case "-f":
      return false;
    case "--tcp-flags":
      return values.join(" ") === "FIN,SYN,RST,ACK SYN" ? true : undefined;
    default:
      return undefined;
  }
}

function isInState({ state = "NEW", translated }: Packet, asked: string): boolean {
  return asked === state || (asked === "DNAT" && translated && state === "NEW");
}

/** Undefined for a name, and for a mask that is no prefix. */
function within(address: string, subnet: string): Answer {
  const [one, all] = [knownBits(address), knownBits(subnet)];
  return one === undefined || all === undefined ? undefined : one.startsWith(all);
}

/** The same few are asked for each rule and each source. */
const BITS = new Map<string, string | undefined>();

function knownBits(text: string): string | undefined {
  if (!BITS.has(text)) {
    if (BITS.size > 20_000) BITS.clear();
    BITS.set(text, bitsOf(text));
  }
  return BITS.get(text);
}

/** iptables(8): a trailing + matches any rest. */
function isInterface(name: string | undefined, pattern: string): boolean {
  if (name === undefined) return false;
  return pattern.endsWith("+") ? name.startsWith(pattern.slice(0, -1)) : name === pattern;
}

const NUMBERS: Record<string, string> = { tcp: "6", udp: "17", sctp: "132" };

function isProtocol(protocol: string, value: string): boolean {
  return value === "all" || value === "0" || value === protocol || value === NUMBERS[protocol];
}

function inRange(port: number, range: string): boolean {
  const [first, last = first] = range.split(":").map(Number);
  return port >= (first ?? 0) && port <= (last ?? 65535);
}

function isOfType(address: string, type: string, isLocal: (address: string) => boolean): Answer {
  const types = type.split(",");
  if (!types.every((one) => /^(LOCAL|UNICAST|BROADCAST|MULTICAST|ANYCAST)$/.test(one))) return undefined;
  return types.includes(isLocal(address) ? "LOCAL" : "UNICAST");
}
