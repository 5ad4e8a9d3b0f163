// What the rules of a container's fragment mean: those that we write, and what is known of foreign ones, such as the original
// script's. Pure.

import ipaddr from "ipaddr.js";
import { withoutHostMask } from "../model/addresses.ts";
import type { Claims, Ports } from "../rules/claims.ts";
import { isRange } from "../rules/claims.ts";
import type { AllowForwarded, ContainerRule, Destination, Dnat, PortRange } from "../rules/model.ts";
import { isListChain } from "./list-chains.ts";
import type { Tables } from "./live.ts";
import { matchOf, type ParsedRule, parseRule, targetOptionOf } from "./parse.ts";
import { type Rule, TABLES, type Table } from "./rule.ts";

/** Reads a DNAT rule; undefined for any other, and for one with a match that none of ours has. */
export function readDnat(rule: Rule): Dnat | undefined {
  const parsed = parseRule(rule);
  if (parsed.target !== "DNAT" || !parsed.clauses.every(isOurMatch)) return undefined;
  const to = destinationOf(parsed);
  const [ports] = portsOf(parsed);
  if (to === undefined || ports === undefined || parsed.targetOptions.length !== 2) return undefined;
  return {
    kind: "dnat",
    hostAddress: ports.hostAddress,
    ports: rangeOf(ports),
    to,
    exceptFrom: matchOf(parsed, "-i", true),
  };
}

/** Each takes one value, and no match but the comment's and the protocol's has options. */
function isOurMatch({ negated, option, values }: ParsedRule["clauses"][number]): boolean {
  return values.length === 1 && (negated ? /^-[is]$/ : /^(-[dpm]|--dport|--comment)$/).test(option);
}

/** What a fragment claims; a rule that is no DNAT of ports claims none. */
export function readClaims(rules: Tables): Claims {
  const dnats = rulesOf(rules, "nat").filter(({ target }) => target === "DNAT");
  return {
    ports: dnats.flatMap(portsOf),
    addresses: new Set(readLeads(rules).flatMap(({ address }) => address ?? [])),
  };
}

/** Where a rule leads: to a container, or to what it says of one. */
export interface Lead {
  /** Undefined where it names none, several, or what cannot be read. */
  address: string | undefined;
  /** Undefined where the rule names none. */
  bridge: string | undefined;
}

/** All that a container's fragment says about where the container is, whoever wrote it. */
export function readLeads(rules: Tables): Lead[] {
  const leading = (table: string, leads: (rule: ParsedRule) => boolean) =>
    rulesOf(rules, table).filter((rule) => namesDestination(rule) && leads(rule));
  const towards = [
    ...leading("nat", ({ chain }) => chain === "POSTROUTING"),
    ...leading("filter", () => true),
    // In INPUT it is the host's address.
    ...leading("mangle", ({ chain }) => chain === "FORWARD"),
    // With a port it is the filter of a port on 127.x: that is the host's address.
    ...leading("raw", (rule) => !hasPort(rule)),
  ];
  return [...dnatLeads(rules), ...towards.map((rule) => ({ address: hostOf(rule), bridge: bridgeIn(rule) }))];
}

/** Where the DNATs of a fragment lead. */
export function dnatLeads(rules: Tables): Lead[] {
  return rulesOf(rules, "nat")
    .filter(({ target }) => target === "DNAT")
    .map((rule) => ({ address: canonicalHost(destinationOf(rule)?.address ?? ""), bridge: bridgeIn(rule) }));
}

/** The chain that has a fragment's DNATs; undefined where it has none. */
export function dnatChain(rules: Tables): string | undefined {
  return rulesOf(rules, "nat").find(({ target }) => target === "DNAT")?.chain;
}

/** Whether a fragment lets something in, by a DNAT or at the container's own address. */
export function letsIn(rules: Tables): boolean {
  return dnatChain(rules) !== undefined || rulesOf(rules, "filter").some(({ target }) => target === "ACCEPT");
}

/** Whether a fragment closes a container's address, not only a port of the host. */
export function filtersDirectAccess(rules: Tables): boolean {
  return rulesOf(rules, "raw").some((rule) => !hasPort(rule));
}

function rulesOf(rules: Tables, table: string): ParsedRule[] {
  return (rules.get(table) ?? []).map(parseRule);
}

function namesDestination({ clauses }: ParsedRule): boolean {
  return clauses.some(({ option }) => option === "-d");
}

function hasPort({ clauses }: ParsedRule): boolean {
  return clauses.some(({ option }) => option === "--dport");
}

/** What leaves by it, or does not come from it. */
function bridgeIn(rule: ParsedRule): string | undefined {
  return matchOf(rule, "-o") ?? matchOf(rule, "-i", true);
}

function hostOf({ clauses }: ParsedRule): string | undefined {
  return canonicalHost(clauses.find(({ option }) => option === "-d")?.values[0] ?? "");
}

function portsOf(rule: ParsedRule): Ports[] {
  const range = readPorts(matchOf(rule, "--dport") ?? "");
  if (range === undefined) return [];
  const hostAddress = namesDestination(rule) ? hostOf(rule) : undefined;
  if (namesDestination(rule) && hostAddress === undefined) return [];
  return [{ hostAddress, protocol: matchOf(rule, "-p") ?? "", ...range }];
}

/** "80" or "80:89". */
function readPorts(text: string): Pick<PortRange, "first" | "last"> | undefined {
  const [, first, last = first] = /^(\d+)(?::(\d+))?$/.exec(text) ?? [];
  const range = { first: Number(first), last: Number(last) };
  return isRange(range) ? range : undefined;
}

/** One address, in its canonical spelling; undefined for a subnet and for what is none. */
function canonicalHost(text: string): string | undefined {
  const bare = withoutHostMask(text);
  if (ipaddr.IPv4.isValidFourPartDecimal(bare)) return ipaddr.IPv4.parse(bare).toString();
  return ipaddr.IPv6.isValid(bare) ? ipaddr.IPv6.parse(bare).toRFC5952String() : undefined;
}

function destinationOf(rule: ParsedRule): Destination | undefined {
  return readDestination(targetOptionOf(rule, "--to-destination") ?? "");
}

/**
 * Reads the value of --to-destination: `ADDRESS`, `ADDRESS:port`, `ADDRESS:first-last/base`; an IPv6 address with a port is in
 * brackets (iptables-extensions(8)). Undefined for any other text.
 */
export function readDestination(text: string): Destination | undefined {
  const parts = /^(?:\[([\da-f:]+)\]|([\d.]+))(?::(\d+)(?:-\d+(?:\/(\d+))?)?)?$/i.exec(text);
  // With a port after it, it would cost an exception to be found no IPv6 address.
  if (parts === null)
    return ipaddr.IPv6.isValid(text) ? { address: text, port: undefined, base: undefined } : undefined;
  const address = parts[1] ?? parts[2];
  if (address === undefined || !ipaddr.isValid(address)) return undefined;
  const [port, base] = [parts[3], parts[4]].map((part) => (part === undefined ? undefined : Number(part)));
  return { address, port, base };
}

/** The rules that we write, as what they mean; any other is left out. */
export function readMeaning(rules: Tables): ContainerRule[] {
  const lists = readLists(rules.get("mangle") ?? []);
  return TABLES.flatMap((table) =>
    (rules.get(table) ?? []).flatMap(
      (rule) => (table === "mangle" ? listedMeaning(rule, lists) : meaningOf(table, rule)) ?? [],
    ),
  );
}

/** A list, by the chain that has it. */
type Lists = ReadonlyMap<string, Pick<AllowForwarded, "direction" | "sources">>;

/** The chains of lists: returns for single sources, then a drop; one with anything else is none. */
function readLists(rules: readonly Rule[]): Lists {
  const chains = new Map<string, ParsedRule[]>();
  for (const parsed of rules.map(parseRule)) {
    const { chain } = parsed;
    if (chain === undefined || !isListChain(chain)) continue;
    const known = chains.get(chain);
    if (known === undefined) chains.set(chain, [parsed]);
    else known.push(parsed);
  }
  const lists = [...chains].flatMap(([chain, parsed]) => {
    const list = listIn(parsed);
    return list === undefined ? [] : [[chain, list] as const];
  });
  return new Map(lists);
}

function listIn(chain: readonly ParsedRule[]): Pick<AllowForwarded, "direction" | "sources"> | undefined {
  const own = chain.map((rule) => ({
    ...rule,
    clauses: rule.clauses.filter(({ option }) => !OF_COMMENT.test(option)),
  }));
  const last = own.at(-1);
  const returns = own.slice(0, -1);
  if (last?.target !== "DROP" || last.clauses.length > 0) return undefined;
  for (const direction of ["in", "out"] as const) {
    const [other, interfaceOf] = direction === "in" ? ["-s", "-i"] : ["-d", "-o"];
    const sources = returns.map((rule) => ({ subnet: matchOf(rule, other), by: matchOf(rule, interfaceOf) }));
    const [first, ...rest] = sources;
    const isWhole = returns.every((rule) => isReturn(rule, [other, interfaceOf]));
    if (isWhole && first?.by === "lo" && first.subnet === undefined) return { direction, sources: rest };
  }
  return undefined;
}

function isReturn({ target, clauses }: ParsedRule, options: readonly string[]): boolean {
  const isPlain = clauses.every((one) => !one.negated && one.values.length === 1 && options.includes(one.option));
  return target === "RETURN" && clauses.length > 0 && isPlain;
}

const OF_COMMENT = /^(-m|--comment)$/;

/** In the mangle table a container has its lists. */
function listedMeaning(rule: Rule, lists: Lists): ContainerRule | undefined {
  const parsed = parseRule(rule);
  if (!parsed.clauses.every(isListed)) return undefined;
  const list = lists.get(parsed.target);
  switch (parsed.chain) {
    case "INPUT":
      return list?.direction === "in" ? deliveredMeaning(parsed, list) : undefined;
    case "OUTPUT":
      return list?.direction === "out" ? deliveredMeaning(parsed, list) : undefined;
    case "FORWARD":
      return list === undefined
        ? directPortMeaning(parsed)
        : (forwardedMeaning(parsed, list) ?? allowDirectMeaning(parsed, list));
    default:
      return undefined;
  }
}

/** How a packet of one direction names the container's side, and the others'. */
const SIDES = {
  in: { own: "-d", port: "--dport", notBy: "-i", by: "-o", ctdir: "ORIGINAL" },
  out: { own: "-s", port: "--sport", notBy: "-o", by: "-i", ctdir: "REPLY" },
} as const;

function deliveredMeaning(parsed: ParsedRule, list: Pick<AllowForwarded, "direction" | "sources">) {
  const side = SIDES[list.direction];
  const ports = rangeAt(parsed, side.port);
  const to = matchOf(parsed, side.own);
  const hostAddress = to === undefined ? undefined : canonicalHost(to);
  if (ports === undefined || (to !== undefined && hostAddress === undefined)) return undefined;
  const bridge = matchOf(parsed, side.notBy, true);
  return { kind: "allow-delivered" as const, ...list, hostAddress, ports, bridge };
}

function forwardedMeaning(parsed: ParsedRule, list: Pick<AllowForwarded, "direction" | "sources">) {
  const side = SIDES[list.direction];
  const bridge = matchOf(parsed, side.by);
  const address = canonicalHost(matchOf(parsed, side.own) ?? "");
  const range = readPorts(matchOf(parsed, "--ctorigdstport") ?? "");
  if (bridge === undefined || matchOf(parsed, side.notBy, true) !== bridge) return undefined;
  if (address === undefined || range === undefined || matchOf(parsed, "--ctdir") !== side.ctdir) return undefined;
  const to = matchOf(parsed, "--ctorigdst");
  const hostAddress = to === undefined ? undefined : canonicalHost(to);
  if ((to !== undefined && hostAddress === undefined) || matchOf(parsed, "--ctstate") !== "DNAT") return undefined;
  const ports = { protocol: matchOf(parsed, "-p") ?? "", ...range };
  return { kind: "allow-forwarded" as const, ...list, hostAddress, ports, address, bridge };
}

function directPortMeaning(parsed: ParsedRule) {
  const direct = parsed.target === "DROP" ? directIn(parsed, "in") : undefined;
  return direct && { kind: "direct-port-filter" as const, ...direct };
}

function allowDirectMeaning(parsed: ParsedRule, list: Pick<AllowForwarded, "direction" | "sources">) {
  const direct = directIn(parsed, list.direction);
  return direct && { kind: "allow-direct" as const, ...list, ...direct };
}

/** Packets of a connection to a container's own port. */
function directIn(parsed: ParsedRule, direction: "in" | "out") {
  const side = SIDES[direction];
  const [ports, bridge] = [rangeAt(parsed, side.port), matchOf(parsed, side.by)];
  const address = canonicalHost(matchOf(parsed, side.own) ?? "");
  const isDirect = matchOf(parsed, "--ctstate", true) === "DNAT" && matchOf(parsed, "--ctdir") === side.ctdir;
  if (!isDirect || ports === undefined || address === undefined || bridge === undefined) return undefined;
  return matchOf(parsed, side.notBy, true) === bridge ? { address, bridge, ports } : undefined;
}

function rangeAt(parsed: ParsedRule, option: "--dport" | "--sport"): PortRange | undefined {
  const range = readPorts(matchOf(parsed, option) ?? "");
  return range && { protocol: matchOf(parsed, "-p") ?? "", ...range };
}

function isListed({ negated, option, values }: ParsedRule["clauses"][number]): boolean {
  const known = negated
    ? /^(-[io]|--ctstate)$/
    : /^(-[sdpmio]|--[sd]port|--comment|--ctstate|--ctorigdst|--ctorigdstport|--ctdir)$/;
  return values.length === 1 && known.test(option);
}

function meaningOf(table: Table, rule: Rule): ContainerRule | undefined {
  const parsed = parseRule(rule);
  const [ports] = portsOf(parsed);
  const address = matchOf(parsed, "-d") && hostOf(parsed);
  const notFrom = matchOf(parsed, "-i", true);
  const bridge = matchOf(parsed, "-o");
  const kind = `${table} ${parsed.target}`;
  if (kind === "nat DNAT") return readDnat(rule);
  if (kind === "raw ACCEPT") return directAcceptMeaning(parsed, address);
  if (!address || !parsed.clauses.every(isWritten)) return undefined;
  if (kind === "raw DROP" && notFrom === "lo" && ports) {
    return { kind: "loopback-filter", hostAddress: address, ports: rangeOf(ports) };
  }
  if (kind === "raw DROP" && notFrom && !hasPort(parsed)) {
    return { kind: "direct-access-filter", address, bridge: notFrom };
  }
  const source = matchOf(parsed, "-s");
  if (kind === "nat MASQUERADE" && source && ports) {
    return { kind: "hairpin", source, address, ports: rangeOf(ports) };
  }
  if (kind === "filter ACCEPT" && bridge && notFrom === bridge && ports) {
    return { kind: "accept", address, bridge, ports: rangeOf(ports) };
  }
  return undefined;
}

function directAcceptMeaning(parsed: ParsedRule, address: string | undefined): ContainerRule | undefined {
  const by = matchOf(parsed, "-i");
  const isWhole = parsed.clauses.every(
    ({ negated, option, values }) => values.length === 1 && !negated && /^(-[dim]|--comment)$/.test(option),
  );
  return address && by && isWhole ? { kind: "direct-access-accept", address, by } : undefined;
}

/** As `isOurMatch`, of any rule of ours but that. */
function isWritten({ negated, option, values }: ParsedRule["clauses"][number]): boolean {
  return values.length === 1 && (negated ? option === "-i" : /^(-[sdpmo]|--dport|--comment)$/.test(option));
}

function rangeOf({ protocol, first, last }: Ports): PortRange {
  return { protocol, first, last };
}
