// Target -> Ruleset: the rules that publish one container's ports. Pure, and the heart of it.
//
//   raw     PREROUTING   drop what comes to a port published on 127.x from another interface than lo
//   raw     PREROUTING   drop what comes to the container's own address from another interface than its bridge
//   nat     the chain    DNAT of each published port
//   nat     POSTROUTING  without docker-proxy: masquerade what a container sends to itself, or to its neighbour, through
//                        a published port, so that the answer takes the same way back
//   filter  FORWARD      accept what the DNAT let through to the container's port
//
// They are Docker's own (docker 29, iptables backend), in the chain that `--iptables=false` leaves to us; but contiguous
// ports are one rule, however many they are.

import type { Endpoint, PublishedContainer } from "../docker/published.ts";
import { FAMILIES, FAMILY_WORDS, type Family, PROTOCOLS, type Protocol } from "../model/family.ts";
import { bracketed, type PortMapping, spellPublish } from "../model/port-mapping.ts";
import { commentOf, type Rule, type Ruleset, TABLES } from "./rule.ts";

export interface Made {
  rules: Ruleset;
  /** Why there is no rule at all, in a person's words; undefined when there is one. */
  none: string | undefined;
  warnings: string[];
}

const NOT_ALONE = "has an address to which another interface of this host leads, too";

export interface RuleOptions {
  chain: string;
  ipv6: boolean;
  guards: boolean;
}

/** The rules of one container, in their order; none for a family that is not wished for or not there. */
export function makeContainerRules(target: PublishedContainer, { chain, ipv6, guards }: RuleOptions): Made {
  const rules: Ruleset = { ipv4: {}, ipv6: {} };
  const warnings: string[] = [];
  const lacking: string[] = [];
  if (!ipv6 && target.idle === undefined) {
    warnings.push(...onlyIpv6(target));
    if (warnings.length > 0) lacking.push("publishes on IPv6 only, and ipv6 is not asked for");
  }
  for (const family of FAMILIES) {
    if (family === "ipv6" && !ipv6) continue;
    const publishes = target.idle === undefined ? target.publishes.filter((publish) => publish.family === family) : [];
    const endpoint = target.publishing[family];
    if (publishes.length === 0) continue;
    if (endpoint === undefined) {
      // Of an address that is not to be used, and where no family has one, the target itself says so.
      const isAstray = target.astray.includes(family);
      if (target.nowhere === undefined && !isAstray) warnings.push(withoutAddress(target, family, publishes));
      lacking.push(target.nowhere ?? (isAstray ? NOT_ALONE : `has no ${FAMILY_WORDS[family]} address`));
      continue;
    }
    const comment = ["-m", "comment", "--comment", commentOf(target.name)];
    const ranges = rangesOf(publishes);
    const ports = portsOf(publishes);
    const endpoints = target.endpoints.filter((one) => one.family === family);
    const made: Record<(typeof TABLES)[number], Rule[]> = {
      raw: [
        ...ranges.filter(isLoopback).map((range) => loopbackGuard(range, comment)),
        ...(guards ? endpoints.map((one) => directGuard(one, comment)) : []),
      ],
      nat: [
        ...ranges.map((range) => dnat(chain, range, endpoint, comment)),
        ...ports.flatMap((some) => hairpins(some, endpoint, comment)),
      ],
      filter: ports.map((some) => accept(some, endpoint, comment)),
    };
    for (const table of TABLES) if (made[table].length > 0) rules[family][table] = made[table];
  }
  const isEmpty = FAMILIES.every((family) => Object.keys(rules[family]).length === 0);
  const none = target.idle ?? (isEmpty ? `${target.name} gets no rule: it ${lacking.at(-1)}` : undefined);
  return { rules, none, warnings };
}

/** Publishes on one host address whose ports follow each other on both sides. */
export interface Range {
  hostAddress: string | undefined;
  protocol: Protocol;
  hostPort: number;
  containerPort: number;
  count: number;
}

/** As few as they can be. Those on one address come first: one on every address would take their packets. */
export function rangesOf(publishes: readonly PortMapping[]): Range[] {
  const ranges: Range[] = [];
  const open = new Map<string, Range>();
  for (const { hostAddress, protocol, hostPort, containerPort } of publishes) {
    const key = `${hostAddress} ${protocol} ${hostPort - containerPort}`;
    const last = open.get(key);
    if (last !== undefined && hostPort === last.hostPort + last.count) last.count++;
    else {
      const range = { hostAddress, protocol, hostPort, containerPort, count: 1 };
      ranges.push(range);
      open.set(key, range);
    }
  }
  return [
    ...ranges.filter(({ hostAddress }) => hostAddress !== undefined),
    ...ranges.filter(({ hostAddress }) => hostAddress === undefined),
  ];
}

/** Container ports that follow each other. */
interface Ports {
  protocol: Protocol;
  first: number;
  last: number;
}

/** Several host ports may lead to one container port. */
function portsOf(publishes: readonly PortMapping[]): Ports[] {
  return PROTOCOLS.flatMap((protocol) => {
    const numbers = publishes.filter((one) => one.protocol === protocol).map((one) => one.containerPort);
    const ports: Ports[] = [];
    for (const number of numbers.sort((a, b) => a - b)) {
      const last = ports.at(-1);
      if (last !== undefined && number <= last.last + 1) last.last = number;
      else ports.push({ protocol, first: number, last: number });
    }
    return ports;
  });
}

function dnat(chain: string, range: Range, { family, address, bridge, hairpin }: Endpoint, comment: Rule): Rule {
  return [
    ...["-A", chain],
    // Link-local clients cannot be answered through a DNAT: the reply would leave by another interface (Docker's rule).
    ...(family === "ipv6" ? ["!", "-s", "fe80::/10"] : []),
    ...(range.hostAddress === undefined ? [] : ["-d", host(range.hostAddress)]),
    // The bridge's own containers reach the port through docker-proxy, where there is one.
    ...(hairpin === undefined ? ["!", "-i", bridge] : []),
    ...hostPorts(range),
    ...comment,
    ...["-j", "DNAT", "--to-destination", destination(range, address)],
  ];
}

/**
 * iptables-extensions(8), DNAT: a bare address keeps the port; `first-last/base` maps one to one, which `first-last` alone
 * does not (tried, 1.8.9). An IPv6 address without a port lists without brackets.
 */
function destination({ hostPort, containerPort, count }: Range, address: string): string {
  if (count === 1) return `${bracketed(address)}:${containerPort}`;
  if (hostPort === containerPort) return address;
  return `${bracketed(address)}:${containerPort}-${containerPort + count - 1}/${hostPort}`;
}

function accept(ports: Ports, { address, bridge }: Endpoint, comment: Rule): Rule {
  return [
    ...["-A", "FORWARD", "-d", host(address), "!", "-i", bridge, "-o", bridge],
    ...containerPorts(ports),
    ...comment,
    ...["-j", "ACCEPT"],
  ];
}

/**
 * Without docker-proxy, what a container sends to itself through a published port must not look as if it came from
 * itself. Where packets between a bridge's ports bypass iptables, a neighbour's answer would go to the container that
 * asked, past the address that it asked: there all neighbours are masqueraded.
 */
function hairpins(ports: Ports, { address, hairpin }: Endpoint, comment: Rule): Rule[] {
  if (hairpin === undefined) return [];
  const sources = hairpin.neighbours.length > 0 ? hairpin.neighbours : [host(address)];
  return sources.map((source) => [
    ...["-A", "POSTROUTING", "-s", source, "-d", host(address)],
    ...containerPorts(ports),
    ...comment,
    ...["-j", "MASQUERADE"],
  ]);
}

function isLoopback({ hostAddress }: Range): boolean {
  return hostAddress?.startsWith("127.") ?? false;
}

/** PREROUTING comes before the kernel's martian check: a neighbour who routes 127.0.0.1 to us would reach the DNAT. */
function loopbackGuard(range: Range, comment: Rule): Rule {
  return [
    ...["-A", "PREROUTING", "-d", host(range.hostAddress ?? ""), "!", "-i", "lo"],
    ...hostPorts(range),
    ...comment,
    ...["-j", "DROP"],
  ];
}

function directGuard({ address, bridge }: Endpoint, comment: Rule): Rule {
  return ["-A", "PREROUTING", "-d", host(address), "!", "-i", bridge, ...comment, "-j", "DROP"];
}

function host(address: string): string {
  return `${address}/${address.includes(":") ? 128 : 32}`;
}

function hostPorts({ protocol, hostPort, count }: Range): Rule {
  return portMatch(protocol, hostPort, hostPort + count - 1);
}

function containerPorts({ protocol, first, last }: Ports): Rule {
  return portMatch(protocol, first, last);
}

function portMatch(protocol: Protocol, first: number, last: number): Rule {
  return ["-p", protocol, "-m", protocol, "--dport", first === last ? String(first) : `${first}:${last}`];
}

/**
 * What is published on IPv6 alone gets no rule without `ipv6`; nothing else would say so. `[::]:N` beside `0.0.0.0:M` is
 * one publish, also where the two ephemeral ports differ (Docker before 27).
 */
function onlyIpv6({ name, publishes }: PublishedContainer): string[] {
  const ipv6 = publishes.filter(({ family }) => family === "ipv6");
  if (ipv6.length === 0) return [];
  const ipv4 = publishes.filter(({ family }) => family === "ipv4");
  const inside = new Set(ipv4.map(({ protocol, containerPort }) => `${containerPort}/${protocol}`));
  const outside = new Set(ipv4.map(({ protocol, hostPort }) => `${hostPort}/${protocol}`));
  const hasTwin = ({ hostAddress, hostPort, containerPort, protocol }: PortMapping) =>
    hostAddress === undefined ? inside.has(`${containerPort}/${protocol}`) : outside.has(`${hostPort}/${protocol}`);
  const alone = ipv6.filter((one) => !hasTwin(one));
  return alone.length === 0 ? [] : [`${name} publishes on ${listed(alone)} only: it gets no rule without ipv6`];
}

function withoutAddress({ name }: PublishedContainer, family: Family, publishes: readonly PortMapping[]): string {
  const word = FAMILY_WORDS[family];
  return `${name} has no ${word} address, so what it publishes on ${listed(publishes)} gets no ${word} rule`;
}

/** Some publishes in words; of many the first three. */
function listed(publishes: readonly PortMapping[]): string {
  const told = publishes.slice(0, 3).map((publish) => spellPublish(publish));
  const more = publishes.length - told.length;
  return `${told.join(", ")}${more > 0 ? ` and ${more} more` : ""}`;
}
