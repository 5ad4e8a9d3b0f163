// Container, its networks and this host's interfaces -> Target: all that the rules need. Pure.

import { interfaceTowards } from "../addresses.ts";
import { Failure } from "../errors.ts";
import type { Interfaces } from "../kernel/interfaces.ts";
import { type Attachment, type Container, FAMILIES, type Family, type Publish } from "./container.ts";
import { choosePlaces, GATEWAY_BRIDGE, type Network, type Place } from "./network.ts";

/** The container's address behind one bridge of this host. */
export interface Endpoint {
  family: Family;
  address: string;
  bridge: string;
  /** Undefined where docker-proxy answers the bridge's own containers and the host's loopback. */
  hairpin?: Hairpin | undefined;
}

/** The daemon runs without docker-proxy: our rules serve the bridge's own containers and the host's loopback, too. */
export interface Hairpin {
  /** Subnets of the bridge whose packets between each other bypass iptables; none where they pass it. */
  neighbours: readonly string[];
}

export interface Target {
  name: string;
  publishes: Publish[];
  /** The endpoint that publishes, by family. */
  publishing: Partial<Record<Family, Endpoint>>;
  /** Every endpoint of the container on a bridge, those that publish first. */
  endpoints: Endpoint[];
  /** Why nothing is published, in a person's words; undefined when something is. */
  idle: string | undefined;
  warnings: string[];
}

/**
 * Throws Failure `network_unknown` (asked for a network that the container is not in), `bridge_missing` (the bridge
 * is not an interface of this host).
 */
export function locate(
  container: Container,
  networks: readonly Network[],
  interfaces: Interfaces,
  asked: string | undefined,
): Target {
  const places = placesOf(container, networks);
  const chosen = choosePlaces(container, places, asked);
  const target: Target = {
    name: container.name,
    publishes: container.publishes,
    publishing: {},
    endpoints: [],
    idle: whyIdle(container),
    warnings: container.withoutHostPort.map(
      (port) => `${container.name}: port ${port} has no host port (a network in routed mode); it gets no rule`,
    ),
  };
  if (target.idle !== undefined) return target;
  for (const family of FAMILIES) {
    const place = chosen[family];
    const endpoint = place && endpointOf(container, place, family, interfaces);
    if (endpoint) target.publishing[family] = endpoint;
  }
  target.endpoints = endpointsOf(container, places, Object.values(target.publishing), interfaces);
  if (Object.keys(target.publishing).length === 0) {
    target.warnings.push(
      `${container.name} publishes ports and has no address in any bridged network (rootless?): there is nothing to send packets to`,
    );
  }
  return target;
}

function whyIdle({ name, mode, publishes }: Container): string | undefined {
  if (mode.kind === "host") return `${name} uses the host's own network and publishes nothing`;
  if (mode.kind === "none") return `${name} has no network and publishes nothing`;
  if (mode.kind === "container") {
    return `${name} shares the network of container ${mode.of} and publishes nothing itself`;
  }
  return publishes.length === 0 ? `${name} publishes no port` : undefined;
}

/** The container's attachments with their networks; on an overlay network also its place in docker_gwbridge. */
function placesOf(container: Container, networks: readonly Network[]): Place[] {
  const places: Place[] = container.attachments.map((attachment) => ({
    attachment,
    // Two networks may have one name.
    network:
      networks.find(({ id }) => id === attachment.networkId) ??
      networks.find(({ name }) => name === attachment.network),
  }));
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

/** The publishing endpoints, then the container's other ones on bridges of this host. */
function endpointsOf(
  container: Container,
  places: Place[],
  publishing: Endpoint[],
  interfaces: Interfaces,
): Endpoint[] {
  const others = places
    .filter(({ network }) => network === undefined || network.bridge !== undefined)
    .flatMap((place) => FAMILIES.map((family) => endpointOf(container, place, family, interfaces)))
    .filter((endpoint) => endpoint !== undefined);
  const byKey = new Map(
    [...publishing, ...others.sort(byEndpoint)].map((endpoint) => [JSON.stringify(endpoint), endpoint]),
  );
  return [...byKey.values()];
}

function byEndpoint(a: Endpoint, b: Endpoint): number {
  return JSON.stringify(a) < JSON.stringify(b) ? -1 : 1;
}

function endpointOf(container: Container, place: Place, family: Family, interfaces: Interfaces): Endpoint | undefined {
  const address = place.attachment.address[family];
  if (address === undefined) return undefined;
  const named = place.network ? place.network.bridge : place.attachment.bridge;
  // A macvlan shares its parent's subnet: that interface is no bridge of the container's.
  const bridged = place.network === undefined || place.network.driver === "bridge" || place.network.driver === "";
  // Some clients' networks do not name their bridge.
  const found = () =>
    bridgeWithGateway(place.attachment, family, interfaces) ?? interfaceTowards(address, interfaces.subnets);
  const bridge = named ?? (bridged ? found() : undefined);
  if (bridge !== undefined && interfaces.names.has(bridge)) return { family, address, bridge };
  const network = place.attachment.network;
  throw new Failure(
    "bridge_missing",
    `the bridge ${bridge === undefined ? "" : `${bridge} `}of ${container.name}'s network ${network} is no interface of this host; ` +
      "run docker_iptables on the daemon's own host and in its network namespace",
    { container: container.name, network, bridge: bridge ?? null, address },
  );
}

/**
 * Whether a container's one network needs no asking for: the interface that has its gateway's address is its bridge. An
 * internal network has no gateway, and one without a bridge (macvlan) publishes nothing.
 */
export function isOnKnownBridge({ attachments }: Container, interfaces: Interfaces): boolean {
  const [only, ...others] = attachments;
  if (only === undefined || others.length > 0) return false;
  const bridges = FAMILIES.filter((family) => only.address[family]).map((family) =>
    bridgeWithGateway(only, family, interfaces),
  );
  return bridges.length > 0 && bridges.every((bridge) => bridge !== undefined && bridge === bridges[0]);
}

function bridgeWithGateway({ gateway }: Attachment, family: Family, { subnets }: Interfaces): string | undefined {
  const address = gateway[family];
  return address && subnets.find(({ cidr }) => cidr.startsWith(`${address}/`))?.name;
}
