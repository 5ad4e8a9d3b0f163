// What a container's fragment claims: ports of the host, and the container's own addresses. Whether two claim the same. Pure.
//
// A port on every address and the same port on one address are one claim made twice: the daemon cannot listen on both,
// and of two such rules the first takes the other's packets.

import ipaddr from "ipaddr.js";
import { withoutHostMask } from "../model/addresses.ts";
import { readDestination } from "./dnat.ts";
import type { Tables } from "./live.ts";
import { argumentOf, type Rule, readTarget } from "./rule.ts";

/** Host ports, from the first to the last. */
export interface Ports {
  /** In its canonical spelling; undefined for every address of the family. */
  hostAddress: string | undefined;
  protocol: string;
  first: number;
  last: number;
}

/** What one fragment claims, in one family. */
export interface Claims {
  ports: readonly Ports[];
  /** The container's addresses that it names. */
  addresses: ReadonlySet<string>;
}

/** Of a fragment of ours, or of the original script's. A rule that neither would write claims nothing. */
export function readClaims(rules: Tables): Claims {
  const dnats = (rules.get("nat") ?? []).filter((rule) => readTarget(rule) === "DNAT");
  const addresses = readLeads(rules).flatMap(({ address }) => address ?? []);
  return { ports: dnats.flatMap(portsOf), addresses: new Set(addresses) };
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
  const having = (table: string, isLeading: (rule: Rule) => boolean) => (rules.get(table) ?? []).filter(isLeading);
  const towards = [
    ...having("nat", (rule) => rule[1] === "POSTROUTING" && rule.includes("-d")),
    ...having("filter", (rule) => rule.includes("-d")),
    // With a port it is the guard of a port on 127.x: that is the host's address.
    ...having("raw", (rule) => isDirectGuard(rule) && rule.includes("-d")),
  ];
  return [
    ...having("nat", (rule) => readTarget(rule) === "DNAT").map((rule) => ({
      address: readHost(readDestination(argumentOf(rule, "--to-destination"))?.address ?? ""),
      bridge: bridgeIn(rule),
    })),
    ...towards.map((rule) => ({ address: readHost(argumentOf(rule, "-d")), bridge: bridgeIn(rule) })),
  ];
}

/** What leaves by it, or does not come from it. */
function bridgeIn(rule: Rule): string | undefined {
  const from = rule.findIndex((word, at) => word === "!" && rule[at + 1] === "-i");
  return argumentOf(rule, "-o") || (from < 0 ? undefined : rule[from + 2]);
}

/** Whether a rule of the raw table closes a container's address, not a port of the host. */
export function isDirectGuard(rule: Rule): boolean {
  return !rule.includes("--dport");
}

/** The ports that both are, or undefined. */
export function sharedRange(mine: Ports, theirs: Ports): Ports | undefined {
  if (mine.protocol !== theirs.protocol) return undefined;
  const first = Math.max(mine.first, theirs.first);
  const last = Math.min(mine.last, theirs.last);
  if (first > last) return undefined;
  const [one, other] = [mine.hostAddress, theirs.hostAddress];
  if (one !== undefined && other !== undefined && one !== other) return undefined;
  return { hostAddress: one ?? other, protocol: mine.protocol, first, last };
}

function portsOf(rule: Rule): Ports[] {
  const [, first, last = first] = /^(\d+)(?::(\d+))?$/.exec(argumentOf(rule, "--dport")) ?? [];
  const range = { first: Number(first), last: Number(last) };
  if (!isRange(range)) return [];
  const hostAddress = rule.includes("-d") ? readHost(argumentOf(rule, "-d")) : undefined;
  if (rule.includes("-d") && hostAddress === undefined) return [];
  return [{ hostAddress, protocol: argumentOf(rule, "-p"), ...range }];
}

/** Whether these are ports at all, in their order: a file of another hand may say anything. */
export function isRange({ first, last }: Pick<Ports, "first" | "last">): boolean {
  return 0 <= first && first <= last && last <= 65_535;
}

/** One address, in its canonical spelling; undefined for a subnet and for what is none. */
function readHost(text: string): string | undefined {
  const bare = withoutHostMask(text);
  if (ipaddr.IPv4.isValidFourPartDecimal(bare)) return ipaddr.IPv4.parse(bare).toString();
  return ipaddr.IPv6.isValid(bare) ? ipaddr.IPv6.parse(bare).toRFC5952String() : undefined;
}
