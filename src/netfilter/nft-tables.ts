// Tables of nftables, as nft's JSON has them (libnftables-json(5)): whether one can refuse packets, and whether packets to a
// published port can pass. Pure.
//
// In doubt a packet passes: a match that is not known here may hold.

import type { Live, LiveTable } from "../iptables/live.ts";
import { byChain, readTarget, readWords } from "../iptables/rule.ts";
import type { Family } from "../model/family.ts";

export interface NftTable {
  /** "inet fw" */
  name: string;
  /** The table's base chains, those of iptables-nft's own left out. */
  bases: readonly BaseChain[];
  /** Its rules by chain; undefined where nft does not print them. */
  rules: ReadonlyMap<string, readonly Statements[]> | undefined;
}

export interface BaseChain {
  name: string;
  hook: string;
  /** "filter", "nat", "route" */
  type: string;
  policy: string;
}

/** The statements of one rule. */
export type Statements = readonly Readonly<Record<string, unknown>>[];

/** The hooks of our rules. */
const OUR_HOOKS: readonly string[] = ["prerouting", "forward", "output", "postrouting"];

/** Whether any of these chains is asked about the packets that ours are asked about. */
export function isAtOurHooks(bases: readonly BaseChain[]): boolean {
  return bases.some(({ hook }) => OUR_HOOKS.includes(hook));
}

/** Whether a table filters at the hooks of our rules, and does more than accept. */
export function decides({ bases, rules }: NftTable): boolean {
  const ours = bases.filter(({ hook }) => OUR_HOOKS.includes(hook));
  if (ours.length === 0) return false;
  if (rules === undefined || ours.some(({ policy }) => policy !== "accept")) return true;
  return [...rules.values()].flat().some((rule) => rule.some(isDecisive));
}

/** What else a rule may do (count, log, mark, masquerade) keeps no packet from its way. */
const DECISIVE: readonly string[] = ["drop", "reject", "queue", "dnat", "redirect", "tproxy", "synproxy", "fwd", "xt"];

function isDecisive(statement: Readonly<Record<string, unknown>>): boolean {
  return (
    DECISIVE.some((kind) => kind in statement) || ("vmap" in statement && /drop|"@/.test(JSON.stringify(statement)))
  );
}

/** An iptables backend's rules as such tables: what they do with every packet, protocols, ports, states and interfaces. */
export function tablesOf({ tables }: Live, family: Family): NftTable[] {
  return [...tables].map(([table, { chains, lines }]) => {
    const bases = [...chains].filter(([, policy]) => policy !== "-");
    const rules = [...byChain(lines)].map(
      ([chain, own]) => [chain, own.map((line) => statementsOf(line, chains))] as const,
    );
    return {
      name: `${family === "ipv4" ? "ip" : "ip6"} ${table}`,
      bases: bases.map(([name, policy]) => ({
        name,
        hook: name.toLowerCase(),
        type: table === "nat" ? "nat" : "filter",
        policy: policy.toLowerCase(),
      })),
      rules: new Map(rules),
    };
  });
}

const VERDICTS: ReadonlyMap<string, string> = new Map([
  ["ACCEPT", "accept"],
  ["DROP", "drop"],
  ["REJECT", "reject"],
  ["RETURN", "return"],
  ["QUEUE", "queue"],
  ["NFQUEUE", "queue"],
]);
/** Targets after which a packet continues. */
const PASSING = /^(LOG|NFLOG|MARK|CONNMARK|TCPMSS|CT|NOTRACK|TTL|HL|DSCP|SET|TRACE|CLASSIFY|CHECKSUM)$/;

const LEFT: ReadonlyMap<string, Record<string, unknown>> = new Map([
  ["-p", { meta: { key: "l4proto" } }],
  ["--dport", { payload: { protocol: "th", field: "dport" } }],
  ["--dports", { payload: { protocol: "th", field: "dport" } }],
  ["--state", { ct: { key: "state" } }],
  ["--ctstate", { ct: { key: "state" } }],
  ["-i", { meta: { key: "iifname" } }],
  ["-o", { meta: { key: "oifname" } }],
]);

function statementsOf(line: string, chains: LiveTable["chains"]): Statements {
  const words = readWords(line);
  const target = readTarget(words) ?? "";
  const end = words.lastIndexOf(target) - 1;
  const matches = words.slice(2, target === "" ? undefined : end).flatMap((word, index) => {
    if (!word.startsWith("-") || word === "-m" || word === "--comment" || words[index + 1] === "--comment") return [];
    const value = words[index + 3] ?? "";
    const right = (/state$/.test(word) ? value.toLowerCase() : value).split(",").map(spelt);
    return [{ match: { op: words[index + 1] === "!" ? "!=" : "==", left: LEFT.get(word) ?? {}, right } }];
  });
  const verdict = VERDICTS.get(target);
  if (verdict !== undefined) return [...matches, { [verdict]: null }];
  if (target === "" || PASSING.test(target)) return matches;
  // After any other target the packet may continue.
  if (!chains.has(target)) return [...matches, { accept: null }];
  return [...matches, { [words[end] === "-g" ? "goto" : "jump"]: { target } }];
}

/** "8000:8010", "br-+", "443" */
function spelt(word: string): unknown {
  const range = /^(\d+):(\d+)$/.exec(word);
  if (range !== null) return { range: [Number(range[1]), Number(range[2])] };
  return /^\d+$/.test(word) ? Number(word) : word.replace(/\+$/, "*");
}

/** The first packet of a connection from another machine to a published port, behind the DNAT or before it. */
export interface Arriving {
  family: Family;
  protocol: string;
  /** The host's port, and the container's. */
  ports: readonly number[];
  bridge: string;
}

/** Whether any rule of a table asks for a packet's port: where none does, packets to two ports of one bridge fare alike. */
export function asksForPorts({ rules }: NftTable): boolean {
  return [...(rules?.values() ?? [])].some((some) => some.some((rule) => rule.some(namesPort)));
}

function namesPort(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return false;
  return Object.entries(value).some(([key, one]) => (key === "field" && one === "dport") || namesPort(one));
}

/** The base chain that lets none of them through, as "forward"; undefined where there is none. */
export function barrierIn(table: NftTable, packet: Arriving): BaseChain | undefined {
  const family = table.name.split(" ")[0] ?? "";
  if (table.rules === undefined || ![packet.family === "ipv4" ? "ip" : "ip6", "inet"].includes(family))
    return undefined;
  const rules = table.rules;
  return table.bases.find(
    ({ name, hook, type, policy }) =>
      type === "filter" &&
      (hook === "forward" || hook === "prerouting") &&
      (walkChain(name, packet, rules, []) ?? policy) === "drop",
  );
}

/** What becomes of it: undefined means that it returns to the caller. */
type End = "accept" | "drop" | undefined;

function walkChain(
  chain: string,
  packet: Arriving,
  rules: ReadonlyMap<string, readonly Statements[]>,
  way: readonly string[],
): End {
  // A loop, which no kernel takes.
  if (way.includes(chain)) return "accept";
  let mayReturn = false;
  for (const rule of rules.get(chain) ?? []) {
    const matches = rule.filter((statement) => "match" in statement);
    if (matches.some(({ match }) => excludes(record(match), packet))) continue;
    const always = matches.length === 0 && !rule.some((statement) => "limit" in statement || "xt" in statement);
    for (const end of rule.flatMap((statement) => endsOf(statement, packet))) {
      const ended = end.chain === undefined ? end.verdict : walkChain(end.chain, packet, rules, [...way, chain]);
      if (ended === "accept") return "accept";
      const isSure = always && !end.perhaps && !mayReturn;
      if (ended === "drop" && isSure) return "drop";
      if (ended === undefined && end.leaves) {
        if (always && !end.perhaps) return undefined;
        mayReturn = true;
      }
    }
  }
  return undefined;
}

interface Verdict {
  verdict?: End;
  /** The chain that is asked. */
  chain?: string;
  /** Whether the packet does not return here from there. */
  leaves?: boolean;
  /** One of several. */
  perhaps?: boolean;
}

function endsOf(statement: Readonly<Record<string, unknown>>, packet: Arriving): Verdict[] {
  if ("accept" in statement || "queue" in statement) return [{ verdict: "accept" }];
  // What iptables-nft writes and nft cannot spell: a match, or a target that may be anything.
  if ("xt" in statement) return record(statement["xt"])["type"] === "match" ? [] : [{ verdict: "accept" }];
  if ("drop" in statement || "reject" in statement) return [{ verdict: "drop" }];
  if ("return" in statement) return [{ leaves: true }];
  for (const kind of ["jump", "goto"] as const) {
    if (kind in statement) return [{ chain: String(record(statement[kind])["target"]), leaves: kind === "goto" }];
  }
  if (!("vmap" in statement)) return [];
  const { key, data } = record(statement["vmap"]);
  const elements = record(data)["set"];
  // A map with a name may hold anything by the time that the packet comes.
  if (!Array.isArray(elements)) return [{ verdict: "accept" }];
  return elements.flatMap((element) => {
    const [value, verdict] = Array.isArray(element) ? element : [];
    if (excludes({ op: "==", left: key, right: value }, packet)) return [];
    return endsOf(record(verdict), packet).map((end) => ({ ...end, perhaps: true }));
  });
}

const PROTOCOLS = ["tcp", "udp", "sctp", "dccp", "icmp", "icmpv6", "igmp", "ah", "esp", "comp"];

/** Whether a match surely does not hold for such a packet. */
function excludes({ op, left, right }: Record<string, unknown>, packet: Arriving): boolean {
  const { payload, meta, ct } = record(left);
  const { protocol, field } = record(payload);
  if (typeof protocol === "string" && PROTOCOLS.includes(protocol) && protocol !== packet.protocol) return true;
  if (protocol === "ip" && packet.family === "ipv6") return true;
  if (protocol === "ip6" && packet.family === "ipv4") return true;
  const isOneOf = (...values: (string | number)[]) => lacks(op, right, values);
  if (field === "dport") return isOneOf(...packet.ports);
  if (field === "protocol" || field === "nexthdr") return isOneOf(packet.protocol);
  // iptables' word has conntrack's states and whether a DNAT has translated the packet.
  if (record(ct)["key"] === "state") return isOneOf("new", "dnat");
  const key = record(meta)["key"];
  if (key === "l4proto") return isOneOf(packet.protocol);
  if (key === "nfproto") return isOneOf(packet.family);
  if (key === "oifname" || key === "oif") return isOneOf(packet.bridge);
  // Other origins are unknown.
  if (key === "iifname" || key === "iif") {
    return op !== "!=" && valuesOf(right)?.every((value) => value === "lo" || value === packet.bridge) === true;
  }
  return false;
}

/** Whether none of these values can be among those that a match names. */
function lacks(op: unknown, right: unknown, values: readonly (string | number)[]): boolean {
  const named = valuesOf(right);
  if (named === undefined || !["==", "in", "!="].includes(String(op))) return false;
  const holds = (value: string | number) => named.some((one) => includes(one, value));
  return op === "!=" ? values.every(holds) : !values.some(holds);
}

/** Undefined where they are elsewhere: in a named set. */
function valuesOf(right: unknown): unknown[] | undefined {
  if (Array.isArray(right)) return right;
  const { set } = record(right);
  if (Array.isArray(set)) return set;
  return typeof right === "string" && right.startsWith("@") ? undefined : [right];
}

function includes(one: unknown, value: string | number): boolean {
  if (one === value) return true;
  if (typeof one === "string" && typeof value === "string" && one.endsWith("*"))
    return value.startsWith(one.slice(0, -1));
  const { range, elem } = record(one);
  if (elem !== undefined) return includes(record(elem)["val"], value);
  if (Array.isArray(range)) return !(Number(value) < Number(range[0]) || Number(value) > Number(range[1]));
  // What is written otherwise may mean anything.
  return typeof one === "object";
}

function record(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? { ...value } : {};
}
