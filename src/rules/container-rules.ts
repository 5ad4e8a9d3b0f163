// PublishedContainer -> ContainerRules: the rules that publish one container's ports. Pure, and the heart of it.
//
// First the filters and the lists of who may connect, so that nothing is open in between that is closed at the end; then the DNAT of
// each published port; without docker-proxy the masquerade of what a container sends to itself, or to its peer on the bridge, so that replies return the same
// way; at last the accepts of what the DNAT redirects. Contiguous ports are one rule, however many they are.

import type { NothingPublished, Nowhere } from "../docker/nothing-published.ts";
import type { Endpoint, PublishedContainer } from "../docker/published.ts";
import { isLoopback, withHostMask } from "../model/addresses.ts";
import { FAMILIES, FAMILY_WORDS, type Family, PROTOCOLS, type Protocol } from "../model/family.ts";
import { type PortMapping, spellPublish } from "../model/port-mapping.ts";
import { isForEveryone, type Source, sourcesIn } from "../model/sources.ts";
import { type ContainerRule, type ContainerRules, type Destination, NO_RULES, type PortRange } from "./model.ts";

export interface Made {
  rules: ContainerRules;
  /** Why there is no rule at all; undefined when there is one. */
  none: NoRules | undefined;
  warnings: string[];
}

/** Why a container gets no rule. */
export type NoRules =
  | { kind: "nothing_published"; nothingPublished: NothingPublished }
  | { kind: "nowhere"; nowhere: Nowhere }
  /** It publishes on IPv6 only, without `ipv6`; or another interface has a part of its address's subnet, too. */
  | { kind: "ipv6_not_asked" | "overlap" }
  | { kind: "no_address"; family: Family };

export interface RuleOptions {
  chain: string;
  ipv6: boolean;
  guards: boolean;
}

/** Who may connect to a publish from another machine; undefined: everyone. */
export type AllowedTo = (publish: PortMapping) => readonly Source[] | undefined;

const EVERYONE: AllowedTo = () => undefined;

/** The rules of one container, in their order; none for a family that is not wished for or not there. */
export function makeContainerRules(
  target: PublishedContainer,
  { ipv6, guards }: Pick<RuleOptions, "ipv6" | "guards">,
  allowedTo: AllowedTo = EVERYONE,
): Made {
  const rules: Record<Family, readonly ContainerRule[]> = { ...NO_RULES };
  const warnings: string[] = [];
  const lacking: NoRules[] = [];
  if (!ipv6 && target.nothingPublished === undefined) {
    warnings.push(...onlyIpv6(target));
    if (warnings.length > 0) lacking.push({ kind: "ipv6_not_asked" });
  }
  // A port with a list is closed where it is not published, too.
  const listedPorts = portsOf(target.publishes.filter((publish) => allowedTo(publish) !== undefined));
  for (const family of FAMILIES) {
    if (target.nothingPublished !== undefined) continue;
    const publishes = target.publishes.filter((publish) => publish.family === family);
    const endpoint = family === "ipv6" && !ipv6 ? undefined : target.publishing[family];
    const listOf = listIn(family, allowedTo);
    const endpoints = target.endpoints.filter((one) => one.family === family);
    const closing = closingRules(target, family, listedPorts, listOf);
    rules[family] = closing;
    if (publishes.length === 0 || (family === "ipv6" && !ipv6)) continue;
    if (endpoint === undefined) {
      // Of an address that is not to be used, and where no family has one, the target itself says so.
      const isAstray = target.astray.includes(family);
      if (target.nowhere === undefined && !isAstray) warnings.push(withoutAddress(target, family, publishes));
      if (target.nowhere !== undefined) lacking.push({ kind: "nowhere", nowhere: target.nowhere });
      else lacking.push(isAstray ? { kind: "overlap" } : { kind: "no_address", family });
      continue;
    }
    const ranges = rangesOf(publishes);
    const ports = portsOf(publishes);
    rules[family] = [
      ...ranges.flatMap(loopbackFilters),
      ...(guards ? endpoints : []).map(
        ({ address, bridge }) => ({ kind: "direct-access-filter", address, bridge }) as const,
      ),
      ...listsOf(publishes, listOf).flatMap((list) => forwardedLists(list, endpoint)),
      ...closing,
      // Where a flow's way is taken the kernel takes another port of the DNAT's range (tried, 6.18): each of them has the same list.
      ...rangesOf(publishes, (one) => listOf(one)?.key ?? "").map((range) => dnatOf(range, endpoint)),
      ...ports.flatMap((some) => hairpins(some, endpoint)),
      ...ports.map(
        (some) => ({ kind: "accept", address: endpoint.address, bridge: endpoint.bridge, ports: some }) as const,
      ),
    ];
  }
  const isEmpty = FAMILIES.every((family) => !rules[family].some(({ kind }) => kind === "dnat"));
  if (target.nothingPublished !== undefined)
    return { rules, none: { kind: "nothing_published", nothingPublished: target.nothingPublished }, warnings };
  return { rules, none: isEmpty ? lacking.at(-1) : undefined, warnings };
}

/** Of one that is not published: what closes its ports to those who are not on their lists. */
export function makeClosingRules(target: PublishedContainer, allowedTo: AllowedTo): ContainerRules {
  const listedPorts = portsOf(target.publishes.filter((publish) => allowedTo(publish) !== undefined));
  const ofFamily = (family: Family) => closingRules(target, family, listedPorts, listIn(family, allowedTo));
  return { ipv4: ofFamily("ipv4"), ipv6: ofFamily("ipv6") };
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
export function rangesOf(
  publishes: readonly PortMapping[],
  apart: (publish: PortMapping) => string = () => "",
): Range[] {
  const ranges: Range[] = [];
  const open = new Map<string, Range>();
  for (const publish of publishes) {
    const { hostAddress, protocol, hostPort, containerPort } = publish;
    const key = `${hostAddress} ${protocol} ${hostPort - containerPort} ${apart(publish)}`;
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

/** Container ports that follow each other; several host ports may lead to one of them. */
function portsOf(publishes: readonly PortMapping[]): PortRange[] {
  return PROTOCOLS.flatMap((protocol) => {
    const numbers = publishes.filter((one) => one.protocol === protocol).map((one) => one.containerPort);
    const ports: PortRange[] = [];
    for (const number of numbers.sort((a, b) => a - b)) {
      const last = ports.at(-1);
      if (last !== undefined && number <= last.last + 1) last.last = number;
      else ports.push({ protocol, first: number, last: number });
    }
    return ports;
  });
}

/** Ports with the same sources. */
interface Listed {
  range: Range;
  sources: readonly Source[];
}

/** The list of a publish in one family, and what tells it from others; undefined where it keeps nobody out. */
type ListOf = (publish: PortMapping) => { sources: readonly Source[]; key: string } | undefined;

function listIn(family: Family, allowedTo: AllowedTo): ListOf {
  // Many ports share a list, which may be long.
  const known = new Map<readonly Source[], ReturnType<ListOf>>();
  return (publish) => {
    const allowed = allowedTo(publish);
    if (allowed === undefined) return undefined;
    if (!known.has(allowed)) {
      const sources = sourcesIn(allowed, family);
      known.set(allowed, isForEveryone(sources) ? undefined : { sources, key: JSON.stringify(sources) });
    }
    return known.get(allowed);
  };
}

/** Contiguous ports with the same list are one rule. What is published on a loopback address no other machine reaches. */
function listsOf(publishes: readonly PortMapping[], listOf: ListOf): Listed[] {
  const groups = new Map<string, { publishes: PortMapping[]; sources: readonly Source[] }>();
  for (const publish of publishes.filter(({ hostAddress }) => !isLoopback(hostAddress ?? ""))) {
    const list = listOf(publish);
    if (list === undefined) continue;
    const group = groups.get(list.key) ?? { publishes: [], sources: list.sources };
    groups.set(list.key, group);
    group.publishes.push(publish);
  }
  return [...groups.values()].flatMap(({ publishes, sources }) =>
    rangesOf(publishes).map((range) => ({ range, sources })),
  );
}

/**
 * Closes the ways past the DNAT of ports that have lists: straight to an address of the container's, and to docker-proxy. That one has a
 * socket at `[::]` also for what is published on every address of IPv4, which Docker before 20.10 lists alone.
 */
function closingRules(
  target: PublishedContainer,
  family: Family,
  listedPorts: readonly PortRange[],
  listOf: ListOf,
): ContainerRule[] {
  const { publishes, publishing, endpoints, hearsIpv6 } = target;
  if (family === "ipv6" && !hearsIpv6) return [];
  const own = publishes.filter((one) => one.family === family);
  const known = new Set(own.filter(({ hostAddress }) => hostAddress === undefined).map(portOf));
  const twins = publishes.filter(
    (one) => family === "ipv6" && one.family === "ipv4" && one.hostAddress === undefined && !known.has(portOf(one)),
  );
  const lists = listsOf([...own, ...twins], listOf);
  const { bridge, hairpin } = publishing[family] ?? publishing.ipv4 ?? publishing.ipv6 ?? endpoints[0] ?? {};
  // Without docker-proxy it is another program of this host that sends from such a port.
  const isAnswered = hairpin === undefined;
  return [
    ...endpoints
      .filter((one) => one.family === family)
      .flatMap(({ address, bridge }) =>
        listedPorts.map((ports): ContainerRule => ({ kind: "direct-port-filter", address, bridge, ports })),
      ),
    ...lists.flatMap(({ range, sources }) =>
      directionsOf(range, sources, isAnswered).map(
        (direction): ContainerRule => ({
          kind: "allow-delivered",
          ...{ direction, hostAddress: range.hostAddress, ports: hostPortsOf(range), bridge, sources },
        }),
      ),
    ),
  ];
}

function portOf({ protocol, hostPort }: PortMapping): string {
  return `${protocol} ${hostPort}`;
}

function forwardedLists({ range, sources }: Listed, { address, bridge }: Endpoint): ContainerRule[] {
  return directionsOf(range, sources).map((direction) => ({
    kind: "allow-forwarded",
    ...{ direction, hostAddress: range.hostAddress, ports: hostPortsOf(range), address, bridge, sources },
  }));
}

/**
 * TCP and SCTP end where no acknowledgement comes. Over UDP a container may go on sending to who was allowed before; by which interface
 * that one came its answers do not say.
 */
function directionsOf({ protocol }: Range, sources: readonly Source[], isAnswered = true): ("in" | "out")[] {
  return isAnswered && protocol === "udp" && sources.every(({ by }) => by === undefined) ? ["in", "out"] : ["in"];
}

/** PREROUTING comes before the kernel's martian check: an on-link host that routes 127.0.0.1 to us would reach the DNAT. */
function loopbackFilters(range: Range): ContainerRule[] {
  const { hostAddress } = range;
  if (!hostAddress?.startsWith("127.")) return [];
  return [{ kind: "loopback-filter", hostAddress, ports: hostPortsOf(range) }];
}

function dnatOf(range: Range, { address, bridge, hairpin }: Endpoint): ContainerRule {
  return {
    kind: "dnat",
    hostAddress: range.hostAddress,
    ports: hostPortsOf(range),
    to: destinationOf(range, address),
    // The bridge's own containers reach the port through docker-proxy, where there is one.
    exceptFrom: hairpin === undefined ? bridge : undefined,
  };
}

function destinationOf({ hostPort, containerPort, count }: Range, address: string): Destination {
  if (count === 1) return { address, port: containerPort, base: undefined };
  if (hostPort === containerPort) return { address, port: undefined, base: undefined };
  return { address, port: containerPort, base: hostPort };
}

/**
 * Without docker-proxy, what a container sends to itself through a published port must not look as if it came from itself. Where
 * packets between a bridge's ports bypass the firewall, a peer's reply would reach the client container from another address than
 * it connected to: there all peers are masqueraded.
 */
function hairpins(ports: PortRange, { address, hairpin }: Endpoint): ContainerRule[] {
  if (hairpin === undefined) return [];
  const sources = hairpin.bridgePeers.length > 0 ? hairpin.bridgePeers : [withHostMask(address)];
  return sources.map((source) => ({ kind: "hairpin", source, address, ports }));
}

function hostPortsOf({ protocol, hostPort, count }: Range): PortRange {
  return { protocol, first: hostPort, last: hostPort + count - 1 };
}

/**
 * What is published on IPv6 alone gets no rule without `ipv6`; nothing else would say so. `[::]:N` with `0.0.0.0:M` is one publish,
 * also where the two ephemeral ports differ (Docker before 27).
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
  const shown = publishes.slice(0, 3).map((publish) => spellPublish(publish));
  const more = publishes.length - shown.length;
  return `${shown.join(", ")}${more > 0 ? ` and ${more} more` : ""}`;
}
