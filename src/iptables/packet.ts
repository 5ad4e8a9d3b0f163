// One new connection's first packet, and what a chain of the kernel's rules does with it. Pure.
//
// It knows the matches that firewalls decide by: addresses, interfaces, protocol, ports, connection state, address types. Of any
// other match (a set, a mark, a limit, an owner) it cannot say whether it holds: such a rule is listed as a doubt, and the walk
// continues as if it did not match.

import ipaddr from "ipaddr.js";
import { isWithin } from "../model/addresses.ts";
import type { Family } from "../model/family.ts";
import type { Live } from "./live.ts";
import { type ParsedRule, parseRule } from "./parse.ts";
import { byChain, readWords } from "./rule.ts";

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
}

/** What a rule or a policy does with a packet: `target` as iptables names it, "ACCEPT" or "DNAT". */
export interface Verdict {
  target: string;
  /** The rule as iptables-save prints it, or the policy as `:FORWARD DROP`. */
  rule: string;
  /** What follows the target: `--to-destination 172.17.0.2:80`. */
  options: readonly string[];
}

export interface Walk {
  /** Undefined where the table is not there. */
  verdict: Verdict | undefined;
  /** Rules that would decide otherwise if they match, which is unknown. */
  doubts: string[];
}

interface LineRule extends ParsedRule {
  line: string;
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
  return { line, ...parseRule(readWords(line)) };
}

/** What a built-in chain does with a packet. */
export function walk(ruling: Ruling, table: string, chain: string, packet: Packet): Walk {
  const doubts: string[] = [];
  const found = ruling.tables.get(table);
  if (found === undefined) return { verdict: undefined, doubts };
  const policy = found.policies.get(chain) ?? "ACCEPT";
  const verdict = walkChain(found.chains, chain, packet, ruling.isLocal, doubts, 0);
  const byPolicy = { target: policy, rule: `:${chain} ${policy}`, options: [] };
  return { verdict: verdict === undefined || verdict === "return" ? byPolicy : verdict, doubts };
}

/** Deeper than any ruleset that the kernel takes. */
const DEEPEST = 64;
const ENDS = /^(ACCEPT|DROP|REJECT|QUEUE|NFQUEUE|DNAT|SNAT|MASQUERADE|REDIRECT|NETMAP)$/;

function walkChain(
  chains: ReadonlyMap<string, LineRule[]>,
  chain: string,
  packet: Packet,
  isLocal: (address: string) => boolean,
  doubts: string[],
  depth: number,
): Verdict | "return" | undefined {
  if (depth > DEEPEST) return undefined;
  for (const rule of chains.get(chain) ?? []) {
    const matches = matchesAll(rule, packet, isLocal);
    if (matches === false) continue;
    if (rule.target === "RETURN") {
      if (matches === true) return "return";
      doubts.push(rule.line);
    } else if (ENDS.test(rule.target)) {
      if (matches === true) return { target: rule.target, rule: rule.line, options: rule.targetOptions };
      doubts.push(rule.line);
    } else if (chains.has(rule.target)) {
      const inner: string[] = [];
      const verdict = walkChain(chains, rule.target, packet, isLocal, inner, depth + 1);
      const decides = verdict !== undefined && verdict !== "return";
      if (matches !== true) {
        if (decides || inner.length > 0) doubts.push(rule.line);
        continue;
      }
      doubts.push(...inner);
      if (decides) return verdict;
      if (rule.isGoto) return "return";
    }
  }
  return undefined;
}

/** True, false, or undefined where it is unknown. */
type Answer = boolean | undefined;

function matchesAll({ clauses }: LineRule, packet: Packet, isLocal: (address: string) => boolean): Answer {
  let answer: Answer = true;
  for (const { negated, option, values } of clauses) {
    const plain = matchesOne(option, values, packet, isLocal);
    const one = plain === undefined ? undefined : plain !== negated;
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
      return value.split(",").some((state) => state === "NEW" || (state === "DNAT" && packet.translated));
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
    case "--tcp-flags":
      return values.join(" ") === "FIN,SYN,RST,ACK SYN" ? true : undefined;
    default:
      return undefined;
  }
}

function within(address: string, subnet: string): Answer {
  if (!/\/\d+$/.test(subnet)) return ipaddr.isValid(subnet) ? address === subnet : undefined;
  return isWithin(address, subnet);
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
