// Container, its networks and this host's interfaces -> Target: all that the rules need. Pure.

import { isWithin } from "../model/addresses.ts";
import type { Allow } from "../model/allow.ts";
import { Failure } from "../model/errors.ts";
import { FAMILIES, type Family } from "../model/family.ts";
import type { Options } from "../model/options.ts";
import { type DirectPort, mappingOf, type PortMapping, spellDirectPort } from "../model/port-mapping.ts";
import type { Interfaces } from "../system/interfaces.ts";
import type { Attachment, Container } from "./container.ts";
import { bridgeOfId, choosePlaces, GATEWAY_BRIDGE, type Network, type Place } from "./network.ts";
import { describeNowhere, type NothingPublished, type Nowhere } from "./nothing-published.ts";
import { describeOverlap, type Overlap, overlapOf, ownSubnet } from "./overlaps.ts";

/** The container's address behind one bridge of this host. */
export interface Endpoint {
  family: Family;
  address: string;
  bridge: string;
  /** Undefined where docker-proxy answers the bridge's own containers and the host's loopback. */
  hairpin?: Hairpin | undefined;
  /** How others reach it otherwise than by published ports alone; undefined: not at all. */
  gatewayMode?: "nat-unprotected" | "routed";
  /** Interfaces of the host by which others may address it directly; undefined: none. */
  trustedInterfaces?: readonly string[];
}

/** The daemon runs without docker-proxy: our rules serve the bridge's own containers and the host's loopback, too. */
export interface Hairpin {
  /** Subnets of the bridge whose packets between each other bypass iptables; none where they pass it. */
  bridgePeers: readonly string[];
}

/** An address that is a container's own. */
export interface Holding {
  address: string;
  /** The bridge behind which it is; undefined where that is unknown. */
  bridge: string | undefined;
}

/** What shows where a container is. */
export type Placed = Pick<Container, "name" | "id"> & {
  attachments: readonly Attachment[];
  directPorts?: readonly DirectPort[];
};

export interface PublishedContainer {
  name: string;
  /** Names change (docker rename). */
  id: string;
  /** False where its label leaves it alone. */
  enabled: boolean;
  /** Whether docker-proxy may answer IPv6: the host has it. */
  hearsIpv6: boolean;
  /** Who may connect, as its own labels say. */
  allow: Allow;
  /** The same of its image's labels. */
  imageAllow: Allow;
  /** What it is published with, besides a call's own arguments. */
  options: Options;
  publishes: PortMapping[];
  /** What others connect to at its own addresses, in networks that route. */
  directPorts: DirectPort[];
  /** The endpoint that publishes, by family. */
  publishing: Partial<Record<Family, Endpoint>>;
  /** Families whose address that publishes is in another interface's subnet, too: no rule leads there. */
  astray: Family[];
  /** Every endpoint of the container on a bridge, those that publish first. */
  endpoints: Endpoint[];
  /** All addresses of the container, whether or not something is published there. */
  addresses: Record<Family, readonly string[]>;
  /** Why nothing is published; undefined when something is. */
  nothingPublished: NothingPublished | undefined;
  /** Why what it publishes leads nowhere; undefined when it leads somewhere, or astray. */
  nowhere: Nowhere | undefined;
  warnings: string[];
}

/** All that lists may be about: what it publishes at ports of the host, and at its own. */
export function mappingsOf({ publishes, directPorts }: PublishedContainer): PortMapping[] {
  return [...publishes, ...directPorts.map(mappingOf)];
}

/** All that others connect to in one family: what it publishes at ports of the host, and its own ports at each address that is routed. */
export function reachableOf({ publishes, directPorts, endpoints }: PublishedContainer, family: Family): PortMapping[] {
  const routed = endpoints.filter((one) => one.family === family && one.gatewayMode === "routed");
  const direct = directPorts.filter((port) => port.family === family).map(mappingOf);
  return [
    ...publishes.filter((one) => one.family === family),
    ...routed.flatMap(({ address }) => direct.map((one) => ({ ...one, hostAddress: address }))),
  ];
}

/**
 * Throws Failure `network_unknown` (the requested network is not one of the container's), `bridge_missing` (the bridge is not an
 * interface of this host).
 */
export function locate(
  container: Container,
  networks: readonly Network[],
  interfaces: Interfaces,
  { asked, options = {} }: { asked?: string | undefined; options?: Options } = {},
): PublishedContainer {
  const places = placesOf(container, networks, interfaces);
  const chosen = choosePlaces(container, places, asked);
  const target = withoutEndpoints(container, places, interfaces, options);
  if (target.nothingPublished !== undefined) return target;
  const publishing = FAMILIES.flatMap((family) => {
    const place = chosen[family];
    return (place && standOf(container, place, family, interfaces)) ?? [];
  });
  const stands = [...publishing, ...standsOf(container, places, interfaces)];
  const endpoints = publishing.filter((stand) => !isAstray(stand)).map(({ endpoint }) => endpoint);
  const nowhere = publishing.length === 0 ? whyNowhere(places) : undefined;
  const isRouted = ({ family }: DirectPort) =>
    stands.some(({ endpoint }) => endpoint.family === family && endpoint.gatewayMode === "routed");
  const directPorts = container.directPorts.filter(isRouted);
  return {
    ...target,
    publishing: Object.fromEntries(endpoints.map((endpoint) => [endpoint.family, endpoint])),
    astray: publishing.filter(isAstray).map(({ endpoint }) => endpoint.family),
    endpoints: onceEach(stands.filter((stand) => !isAstray(stand)).map(({ endpoint }) => endpoint)),
    nowhere,
    directPorts,
    nothingPublished: container.publishes.length + directPorts.length === 0 ? { kind: "no_port" } : undefined,
    warnings: [
      ...places.flatMap(({ network }) => network?.unreadOptions ?? []),
      ...warnOfDirectPorts(container, isRouted),
      ...warnOfOverlaps(container, stands),
      ...warnOfNowhere(container, nowhere),
    ],
  };
}

/** One that cannot be located: nothing leads to it, and its ports can be closed. */
export function unlocated(container: Container, interfaces: Interfaces, options: Options): PublishedContainer {
  return withoutEndpoints(container, [], interfaces, options);
}

function withoutEndpoints(
  container: Container,
  places: readonly Place[],
  { hasIpv6 }: Interfaces,
  options: Options,
): PublishedContainer {
  return {
    name: container.name,
    id: container.id,
    enabled: container.enabled,
    hearsIpv6: hasIpv6,
    allow: container.allow,
    imageAllow: container.imageAllow,
    options,
    publishes: container.publishes,
    directPorts: [],
    publishing: {},
    astray: [],
    endpoints: [],
    addresses: { ipv4: addressesIn("ipv4", places), ipv6: addressesIn("ipv6", places) },
    nothingPublished: whyNothingPublished(container),
    nowhere: undefined,
    warnings: [],
  };
}

/** What inspect says of a port is Docker's own choice; without a routed network of that family there is no rule to make of it. */
function warnOfDirectPorts({ name, directPorts }: Container, isRouted: (port: DirectPort) => boolean): string[] {
  const left = new Set(directPorts.filter((port) => !isRouted(port)).map(spellDirectPort));
  return [...left].map(
    (port) =>
      `${name}: port ${port} has no host port, and no network of its routes (gateway mode routed); it gets no rule`,
  );
}

function warnOfNowhere({ name }: Container, nowhere: Nowhere | undefined): string[] {
  if (nowhere === undefined) return [];
  return [`${name} publishes ports and ${describeNowhere(nowhere)}: there is nothing to send packets to`];
}

function addressesIn(family: Family, places: readonly Place[]): string[] {
  return places.flatMap(({ attachment }) => attachment.address[family] ?? []);
}

function whyNothingPublished({ mode, publishes, directPorts }: Container): NothingPublished | undefined {
  if (mode.kind === "host") return { kind: "host_network" };
  if (mode.kind === "none") return { kind: "no_network" };
  if (mode.kind === "container") return { kind: "shared_network", of: mode.of };
  return publishes.length + directPorts.length === 0 ? { kind: "no_port" } : undefined;
}

function whyNowhere(places: readonly Place[]): Nowhere {
  const addressed = places.filter(({ attachment }) => FAMILIES.some((family) => attachment.address[family]));
  const isOverlay = addressed.length > 0 && addressed.every(({ network }) => network?.driver === "overlay");
  return isOverlay ? "overlay" : "no_address";
}

/** A container's addresses, whether or not it publishes and its bridges are here. Never throws. */
export function holdingsOf(container: Placed, networks: readonly Network[], interfaces: Interfaces): Holding[] {
  return placesOf(container, networks, interfaces).flatMap((place) =>
    FAMILIES.flatMap((family): Holding[] => {
      const address = place.attachment.address[family];
      if (address === undefined) return [];
      const bridge = bridgeOf(place, address, interfaces);
      if (bridge === undefined) return [{ address, bridge }];
      const endpoint = { family, address, bridge };
      return isAstray(standAt(endpoint, place, interfaces)) ? [] : [{ address, bridge }];
    }),
  );
}

/** The container's attachments with their networks; on an overlay network also its place in docker_gwbridge. */
function placesOf(container: Placed, networks: readonly Network[], interfaces: Interfaces): Place[] {
  const places = container.attachments.map((attachment) => placeOf(attachment, networks, interfaces));
  const gateway = networks.find(({ name }) => name === GATEWAY_BRIDGE);
  const address = gateway?.members.get(container.id);
  if (gateway && address && !places.some(({ network }) => network === gateway)) {
    const attachment = {
      network: GATEWAY_BRIDGE,
      networkId: gateway.id,
      address,
      gateway: {},
      gatewayPriority: undefined,
      bridge: undefined,
    };
    places.push({ attachment, network: gateway });
  }
  return places;
}

/** Of a network of Docker's. */
const ID = /^[0-9a-f]{64}$/;

/** Two networks may have one name. Where the attachment names none (nerdctl), it is the only one with its addresses. */
function placeOf(attachment: Attachment, networks: readonly Network[], interfaces: Interfaces): Place {
  const { networkId, address, bridge } = attachment;
  if (networkId !== undefined) {
    // podman gives the name. Another network may be called as this one's id.
    const isIt = ({ id, name }: Network) => id === networkId || (name === networkId && !ID.test(networkId));
    return { attachment, network: networks.find(isIt) };
  }
  if (bridge !== undefined) return { attachment, network: undefined };
  if (networks.length === 0) return { attachment: onNerdctls(attachment, interfaces), network: undefined };
  const holding = networks.filter(({ subnets }) =>
    FAMILIES.some((family) => subnets[family].some((subnet) => isWithin(address[family] ?? "", subnet))),
  );
  const [network, ...others] = holding;
  if (network === undefined || others.length > 0) return { attachment, network: undefined };
  // nerdctl's documents name neither driver nor bridge.
  if (network.driver !== "") return { attachment, network };
  return {
    attachment: { ...attachment, bridge: bridgeOfId(network.name, network.id, NERDCTLS) },
    network: undefined,
  };
}

/**
 * Of a client that shows no network at all: nerdctl gives its default network a bridge of this name, which no other network has;
 * what is in its subnet is behind it.
 */
function onNerdctls(attachment: Attachment, interfaces: Interfaces): Attachment {
  const addresses = Object.values(attachment.address);
  const isBehind = addresses.every((address) => ownSubnet(address, NERDCTLS, interfaces) !== undefined);
  return addresses.length > 0 && isBehind ? { ...attachment, bridge: NERDCTLS } : attachment;
}

const NERDCTLS = "nerdctl0";

/** An endpoint, and where its subnet is another interface's, too. */
interface Stand {
  endpoint: Endpoint;
  overlap: Overlap | undefined;
}

/** Whether the kernel may send packets for this address to another interface than the bridge. */
function isAstray({ endpoint, overlap }: Stand): boolean {
  return overlap?.others.some(({ cidr }) => isWithin(endpoint.address, cidr)) ?? false;
}

/** The container's attachments to bridges of this host, in an order that does not depend on the client's. */
function standsOf(container: Container, places: Place[], interfaces: Interfaces): Stand[] {
  return places
    .filter(({ network }) => network === undefined || network.bridge !== undefined)
    .flatMap((place) => FAMILIES.map((family) => standOf(container, place, family, interfaces)))
    .filter((stand) => stand !== undefined)
    .sort(byEndpoint);
}

function byEndpoint({ endpoint: a }: Stand, { endpoint: b }: Stand): number {
  return JSON.stringify(a) < JSON.stringify(b) ? -1 : 1;
}

function onceEach(endpoints: readonly Endpoint[]): Endpoint[] {
  return [...new Map(endpoints.map((endpoint) => [JSON.stringify(endpoint), endpoint])).values()];
}

function warnOfOverlaps({ name }: Container, stands: readonly Stand[]): string[] {
  const overlaps = stands.flatMap(({ overlap }) => overlap ?? []);
  const astray = stands.filter(isAstray).map(({ endpoint }) => endpoint);
  const messages = [
    ...overlaps.map(describeOverlap),
    ...astray.map(({ address, bridge }) => `${name} gets no rules for ${address}, which is not behind ${bridge} only`),
  ];
  return [...new Set(messages)];
}

function standOf(container: Container, place: Place, family: Family, interfaces: Interfaces): Stand | undefined {
  const address = place.attachment.address[family];
  if (address === undefined) return undefined;
  const bridge = bridgeOf(place, address, interfaces);
  if (bridge === undefined || !interfaces.names.has(bridge)) throw bridgeMissing(container, place, bridge, address);
  return standAt({ family, address, bridge, ...accessOf(place, family) }, place, interfaces);
}

/** What the network's options say of how others reach its containers; into an internal network nobody comes. */
function accessOf({ network }: Place, family: Family): Pick<Endpoint, "gatewayMode" | "trustedInterfaces"> {
  if (network === undefined || network.internal) return {};
  const { trustedInterfaces } = network;
  const mode = network.gatewayMode[family];
  return {
    ...(mode === "routed" || mode === "nat-unprotected" ? { gatewayMode: mode } : {}),
    ...(trustedInterfaces.length > 0 ? { trustedInterfaces } : {}),
  };
}

/** Of a bridge that no network's document names, the kernel must say that the address is behind it. */
function bridgeOf({ attachment, network }: Place, address: string, interfaces: Interfaces): string | undefined {
  if (network !== undefined) return network.bridge;
  const bridge = attachment.bridge ?? bridgeWithGateway(attachment, interfaces);
  const isElsewhere = bridge !== undefined && interfaces.names.has(bridge) && !ownSubnet(address, bridge, interfaces);
  return isElsewhere ? undefined : bridge;
}

function standAt(endpoint: Endpoint, { attachment, network }: Place, interfaces: Interfaces): Stand {
  const { family, address, bridge } = endpoint;
  const subnet =
    ownSubnet(address, bridge, interfaces) ?? network?.subnets[family].find((one) => isWithin(address, one));
  const about = { network: network?.name ?? attachment.network, bridge };
  const overlap = subnet === undefined ? undefined : overlapOf({ ...about, subnet }, interfaces.routes);
  return { endpoint, overlap };
}

function bridgeMissing(
  { name }: Container,
  { attachment, network }: Place,
  bridge: string | undefined,
  address: string,
) {
  const about = `${name}'s network ${attachment.network}`;
  const why =
    bridge !== undefined
      ? `the bridge ${bridge} of ${about} is not an interface of this host; run docker_iptables on the daemon's own host and in its network namespace`
      : network !== undefined
        ? `${about} has no bridge on this host (driver ${network.driver || "unknown"}), so no port can be published on it`
        : `the bridge of ${about} (${address}) is not known: no network document that the client shows has a bridge with that address; connect ${name} to a network that the client's 'network inspect' lists`;
  const details = { container: name, network: attachment.network, bridge: bridge ?? null, address };
  return new Failure("bridge_missing", why, details);
}

/**
 * Whether a container's one network needs no asking for: its bridge is known by its id, no other interface has a part
 * of its subnet, and no option of it lets others in otherwise. An internal network has no gateway, and one without a bridge (macvlan)
 * publishes nothing.
 */
export function isOnKnownBridge({ attachments, directPorts = [] }: Placed, interfaces: Interfaces): boolean {
  const [only, ...others] = attachments;
  if (only === undefined || others.length > 0) return false;
  // Gateway modes are of 27.0 (routed) and 28.0, trusted interfaces of 28.2; Docker's default network cannot be given either (29.7,
  // daemon_unix.go: initBridgeDriver).
  const mayHaveOptions = only.gatewayPriority !== undefined || directPorts.length > 0;
  if (mayHaveOptions && only.network !== "bridge") return false;
  const bridge = bridgeWithGateway(only, interfaces);
  if (bridge === undefined) return false;
  return Object.values(only.address).every((address) => {
    const subnet = ownSubnet(address, bridge, interfaces);
    return (
      subnet !== undefined && overlapOf({ network: only.network, bridge, subnet }, interfaces.routes) === undefined
    );
  });
}

/**
 * The bridge that Docker gives a network of this id unless configured otherwise, if it exists and has the gateway's address: what
 * the network's document would say. Another interface with that address does not count.
 */
function bridgeWithGateway(attachment: Attachment, { subnets }: Interfaces): string | undefined {
  const { network, networkId = "", address, gateway } = attachment;
  const families = FAMILIES.filter((family) => address[family] !== undefined);
  const name = ID.test(networkId) ? bridgeOfId(network, networkId, "docker0") : undefined;
  const has = (family: Family) =>
    gateway[family] !== undefined &&
    subnets.some((one) => one.name === name && one.cidr.startsWith(`${gateway[family]}/`));
  return families.length > 0 && families.every(has) ? name : undefined;
}
