// PublishedContainer -> ContainerRules: the rules that publish one container's ports. Pure, and the heart of it.
//
// First the filters and the lists of who may connect, so that nothing is open in between that is closed at the end; then the DNAT of
// each published port; without docker-proxy the masquerade of what a container sends to itself, or to its peer on the bridge, so that replies return the same
// way; at last the accepts of what the DNAT redirects. Contiguous ports are one rule, however many they are. Where a network routes, there
// is no DNAT: others connect to the container's own address, and its ports are accepted there.

import type { NothingPublished, Nowhere } from "../docker/nothing-published.ts";
import { type Endpoint, mappingsOf, type PublishedContainer } from "../docker/published.ts";
import { isLoopback, withHostMask } from "../model/addresses.ts";
import { FAMILIES, FAMILY_WORDS, type Family, PROTOCOLS, type Protocol } from "../model/family.ts";
import { type DirectPort, mappingOf, type PortMapping, spellDirectPort, spellPublish } from "../model/port-mapping.ts";
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
    warnings.push(...unservedIpv6(target));
  }
  for (const family of FAMILIES) {
    if (target.nothingPublished !== undefined) continue;
    const publishes = target.publishes.filter((publish) => publish.family === family);
    const direct = target.directPorts.filter((port) => port.family === family).map(mappingOf);
    const endpoint = family === "ipv6" && !ipv6 ? undefined : target.publishing[family];
    const listOf = listIn(family, allowedTo);
    const endpoints = target.endpoints.filter((one) => one.family === family);
    const closing = closingRules(target, family, allowedTo, listOf);
    rules[family] = closing;
    if (publishes.length + direct.length === 0 || (family === "ipv6" && !ipv6)) continue;
    const isWithoutEndpoint = publishes.length > 0 && endpoint === undefined;
    if (isWithoutEndpoint) {
      // Of an address that is not to be used, and where no family has one, the target itself says so.
      const isAstray = target.astray.includes(family);
      if (target.nowhere === undefined && !isAstray) warnings.push(withoutAddress(target, family, publishes));
      if (target.nowhere !== undefined) lacking.push({ kind: "nowhere", nowhere: target.nowhere });
      else lacking.push(isAstray ? { kind: "overlap" } : { kind: "no_address", family });
    }
    const translated = endpoint === undefined ? NOT_TRANSLATED : translating(publishes, endpoint, listOf);
    const accepts = acceptsOf({ publishes, direct }, endpoint, endpoints);
    if (accepts.length === 0) {
      if (direct.length > 0) lacking.push({ kind: "overlap" });
      continue;
    }
    rules[family] = [
      ...translated.loopback,
      ...(guards ? endpoints : []).flatMap(directAccess),
      ...translated.lists,
      ...closing,
      ...translated.dnats,
      ...translated.hairpins,
      ...accepts,
    ];
  }
  const isEmpty = FAMILIES.every((family) => !rules[family].some(({ kind }) => kind === "dnat" || kind === "accept"));
  if (target.nothingPublished !== undefined)
    return { rules, none: { kind: "nothing_published", nothingPublished: target.nothingPublished }, warnings };
  return { rules, none: isEmpty ? lacking.at(-1) : undefined, warnings };
}

/** The rules of what is published at ports of the host, by what they do. */
type Translated = Record<"loopback" | "lists" | "dnats" | "hairpins", readonly ContainerRule[]>;

const NOT_TRANSLATED: Translated = { loopback: [], lists: [], dnats: [], hairpins: [] };

function translating(publishes: readonly PortMapping[], endpoint: Endpoint, listOf: ListOf): Translated {
  return {
    loopback: rangesOf(publishes).flatMap(loopbackFilters),
    lists: listsOf(publishes, listOf).flatMap((list) => forwardedLists(list, endpoint)),
    // Where a flow's way is taken the kernel takes another port of the DNAT's range (tried, 6.18): each of them has the same list.
    dnats: rangesOf(publishes, (one) => listOf(one)?.key ?? "").map((range) => dnatOf(range, endpoint)),
    hairpins: portsOf(publishes).flatMap((some) => hairpins(some, endpoint)),
  };
}

function isRouted({ gatewayMode }: Endpoint): boolean {
  return gatewayMode === "routed";
}

/** At the endpoint that publishes what the DNAT sends there; at each that is routed the container's own ports. */
function acceptsOf(
  { publishes, direct }: Record<"publishes" | "direct", readonly PortMapping[]>,
  publishing: Endpoint | undefined,
  endpoints: readonly Endpoint[],
): ContainerRule[] {
  const isPublishing = ({ address }: Endpoint) => address === publishing?.address;
  const others = endpoints.filter((one) => isRouted(one) && !isPublishing(one));
  return [...(publishing === undefined ? [] : [publishing]), ...others].flatMap((one) => {
    const ports = portsOf([...(isPublishing(one) ? publishes : []), ...(isRouted(one) ? direct : [])]);
    const { address, bridge } = one;
    return ports.map((some) => ({ kind: "accept", address, bridge, ports: some }) as const);
  });
}

/** Whose network lets others in by itself has no filter (moby 29.7, iptabler: filterDirectAccess). */
function directAccess({ address, bridge, gatewayMode, trustedInterfaces = [] }: Endpoint): ContainerRule[] {
  if (gatewayMode !== undefined) return [];
  return [
    ...trustedInterfaces.map((by) => ({ kind: "direct-access-accept", address, by }) as const),
    { kind: "direct-access-filter", address, bridge },
  ];
}

/** Of one that is not published: what closes its ports to those who are not on their lists. */
export function makeClosingRules(target: PublishedContainer, allowedTo: AllowedTo): ContainerRules {
  const ofFamily = (family: Family) => closingRules(target, family, allowedTo, listIn(family, allowedTo));
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
  allowedTo: AllowedTo,
  listOf: ListOf,
): ContainerRule[] {
  const { publishes, publishing, endpoints, hearsIpv6 } = target;
  if (family === "ipv6" && !hearsIpv6) return [];
  // A port with a list is closed where it is not published, too.
  const listed = mappingsOf(target).filter((publish) => allowedTo(publish) !== undefined);
  const direct = target.directPorts.filter((port) => port.family === family).map(mappingOf);
  const decided = direct.filter((port) => allowedTo(port) !== undefined);
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
      .flatMap((one) => directClosing(one, isRouted(one) ? decided : [], listed, listOf)),
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

/**
 * At an address whose network routes, a list about the container's own port decides (`decided`). Every other way to a port that has a list
 * is closed, whatever the network's gateway mode and its trusted interfaces are.
 */
function directClosing(
  { address, bridge }: Endpoint,
  decided: readonly PortMapping[],
  listed: readonly PortMapping[],
  listOf: ListOf,
): ContainerRule[] {
  const insideOf = ({ protocol, containerPort }: DirectPort) => `${protocol} ${containerPort}`;
  const isDecided = new Set(decided.map(insideOf));
  return [
    ...listsOf(decided, listOf).flatMap(({ range, sources }) =>
      directionsOf(range, sources).map(
        (direction): ContainerRule => ({
          kind: "allow-direct",
          ...{ direction, address, bridge, ports: hostPortsOf(range), sources },
        }),
      ),
    ),
    ...portsOf(listed.filter((publish) => !isDecided.has(insideOf(publish)))).map(
      (ports): ContainerRule => ({ kind: "direct-port-filter", address, bridge, ports }),
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
 * What is published on IPv6 alone gets no rule without `ipv6`; nothing else would say so. Where the network routes no docker-proxy
 * answers, also not for what is published on IPv4, too.
 */
function onlyIpv6({ name, publishes, directPorts }: PublishedContainer): string[] {
  const { alone } = ipv6Of(publishes);
  const direct = directPorts.filter(({ family }) => family === "ipv6").map(spellDirectPort);
  return [
    ...(alone.length === 0 ? [] : [`${name} publishes on ${listed(alone)} only: it gets no rule without ipv6`]),
    ...(direct.length === 0 ? [] : [`${name}: nobody reaches ${someOf(direct)} at its IPv6 address without ipv6`]),
  ];
}

/** The same of what is published on both, where no docker-proxy answers IPv6: with podman, and with a daemon without it. */
function unservedIpv6({ name, publishes, publishing }: PublishedContainer): string[] {
  const { twins } = ipv6Of(publishes);
  if (twins.length === 0 || publishing.ipv6?.hairpin === undefined) return [];
  return [`${name} publishes on ${listed(twins)}, too, where no docker-proxy answers: it gets no rule without ipv6`];
}

/**
 * What is published on IPv6: alone, or as a twin of IPv4's. `[::]:N` with `0.0.0.0:M` is one publish, also where the two ephemeral
 * ports differ (Docker before 27).
 */
function ipv6Of(publishes: readonly PortMapping[]): { alone: PortMapping[]; twins: PortMapping[] } {
  const ipv6 = publishes.filter(({ family }) => family === "ipv6");
  if (ipv6.length === 0) return { alone: [], twins: [] };
  const ipv4 = publishes.filter(({ family }) => family === "ipv4");
  const inside = new Set(ipv4.map(({ protocol, containerPort }) => `${containerPort}/${protocol}`));
  const outside = new Set(ipv4.map(({ protocol, hostPort }) => `${hostPort}/${protocol}`));
  const hasTwin = ({ hostAddress, hostPort, containerPort, protocol }: PortMapping) =>
    hostAddress === undefined ? inside.has(`${containerPort}/${protocol}`) : outside.has(`${hostPort}/${protocol}`);
  return { alone: ipv6.filter((one) => !hasTwin(one)), twins: ipv6.filter(hasTwin) };
}

function withoutAddress({ name }: PublishedContainer, family: Family, publishes: readonly PortMapping[]): string {
  const word = FAMILY_WORDS[family];
  return `${name} has no ${word} address, so what it publishes on ${listed(publishes)} gets no ${word} rule`;
}

/** Some publishes in words; of many the first three. */
function listed(publishes: readonly PortMapping[]): string {
  return someOf(publishes.map((publish) => spellPublish(publish)));
}

function someOf(all: readonly string[]): string {
  const more = all.length - 3;
  return `${all.slice(0, 3).join(", ")}${more > 0 ? ` and ${more} more` : ""}`;
}
