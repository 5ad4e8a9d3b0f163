// From where a published port may be tried: other machines, this host, containers on the same and on other networks, and on-link
// hosts that route foreign addresses to this host. Pure.

import ipaddr from "ipaddr.js";
import type { Network } from "../docker/network.ts";
import type { Endpoint, PublishedContainer } from "../docker/published.ts";
import { isLoopback, withoutPrefix } from "../model/addresses.ts";
import type { Family } from "../model/family.ts";
import type { PortMapping } from "../model/port-mapping.ts";

/** Who asks whom. */
export interface Trip {
  family: Family;
  /** The interface it comes in by; undefined for the host itself. */
  from: string | undefined;
  source: string;
  destination: string;
  protocol: string;
  port: number;
}

/** Interfaces of the host with their addresses, as `address/prefix`. */
interface Surroundings {
  subnets: readonly { name: string; cidr: string }[];
}

/** Who tries a published port. */
export type ProbeOrigin =
  /** A machine elsewhere; this host itself; the container itself. */
  | { kind: "machine" | "host" | "container" }
  /** One on the same wire that routes the host's loopback address here, or the container's own. */
  | { kind: "loopback_router"; address: string }
  | { kind: "container_router" }
  /** Another container: on the same bridge, or on another. */
  | { kind: "bridge_peer" | "other_bridge"; bridge: string };

/** A place from which one kind of client tries, and the connection that one of them opens. */
export interface Vantage {
  trip: Trip;
  /** The subnet that its clients' addresses are in; undefined: anywhere. */
  within: string | undefined;
}

/** Who tries, from where. */
export interface Probe {
  from: ProbeOrigin;
  /** The connection of the first place. */
  trip: Trip;
  /** More than one where they come by several interfaces. */
  vantages: readonly Vantage[];
  /** Whose clients are many: addresses and subnets that none of them has. Undefined for a single client. */
  except: readonly string[] | undefined;
}

/** Example addresses of machines elsewhere (RFC 5737, RFC 3849). */
const ELSEWHERE: Record<Family, string> = { ipv4: "203.0.113.9", ipv6: "2001:db8:ffff::9" };
const LOOPBACK: Record<Family, string> = { ipv4: "127.0.0.1", ipv6: "::1" };
/** What no machine has as its address; a link-local one does not connect to an address that is none. */
const NOBODY: Record<Family, readonly string[]> = {
  ipv4: ["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"],
  ipv6: ["::/127", "fe80::/10", "ff00::/8"],
};

/**
 * Every vantage point from which one published port is worth looking at; one that is reached at the container's own address has that as the
 * host's. `networks` are all of the daemon's, `by` interfaces by which
 * others may come, besides those that have addresses.
 */
export function probesOf(
  publish: PortMapping,
  target: PublishedContainer,
  networks: readonly Network[],
  host: Surroundings,
  by: readonly string[] = [],
): Probe[] {
  const { family, protocol, hostPort, containerPort } = publish;
  const bridges = new Set(networks.flatMap(({ bridge }) => bridge ?? []));
  const outsides = outsidesOf(publish, bridges, host);
  const outside = outsides[0];
  const to = publish.hostAddress ?? outside?.address;
  const direct = target.endpoints.find(({ address }) => address === publish.hostAddress);
  const own = direct ?? target.publishing[family] ?? target.endpoints.find((one) => one.family === family);
  const trip = (from: string | undefined, source: string, destination: string, port = hostPort): Trip => ({
    ...{ family, from, source, destination, protocol, port },
  });
  const isOfFamily = ({ cidr }: { cidr: string }) => cidr.includes(":") === (family === "ipv6");
  const locals = host.subnets.filter(isOfFamily).map(({ cidr }) => withoutPrefix(cidr));
  const inside = host.subnets.filter((one) => isOfFamily(one) && bridges.has(one.name)).map(({ cidr }) => cidr);
  const notOutside = [...NOBODY[family], ...locals, ...inside];
  const mine = target.endpoints.filter((one) => one.family === family).map(({ address }) => address);
  const single = (from: ProbeOrigin, one: Trip): Probe => ({
    ...{ from, trip: one, vantages: [{ trip: one, within: undefined }], except: undefined },
  });
  const many = (from: ProbeOrigin, vantages: Vantage[], except: readonly string[]): Probe[] =>
    vantages.slice(0, 1).map((first) => ({ from, trip: first.trip, vantages, except }));
  const ways = [
    ...outsides,
    ...by
      .filter((name) => name !== "lo" && !bridges.has(name) && !outsides.some((one) => one.name === name))
      .flatMap((name) => (outside === undefined ? [] : [{ name, address: outside.address }])),
  ];
  const fromOutside = (destination?: string, port?: number): Vantage[] =>
    ways.map(({ name, address }) => ({
      trip: trip(name, ELSEWHERE[family], destination ?? publish.hostAddress ?? address, port),
      within: undefined,
    }));
  const found: Probe[] = [];
  if (to !== undefined && !isLoopback(to)) found.push(...many({ kind: "machine" }, fromOutside(), notOutside));
  if (to !== undefined && isLoopback(to))
    found.push(...many({ kind: "loopback_router", address: to }, fromOutside(), notOutside));
  const local = publish.hostAddress === undefined ? [LOOPBACK[family], to] : [to];
  for (const address of local) {
    const source = direct === undefined ? address : withoutPrefix(subnetOf(direct, host) ?? "");
    if (address !== undefined && source) found.push(single({ kind: "host" }, trip(undefined, source, address)));
  }
  if (own !== undefined && to !== undefined && !isLoopback(to)) {
    if (direct === undefined) found.push(single({ kind: "container" }, trip(own.bridge, own.address, to)));
    const peer = neighbourOf(own, host);
    const subnet = subnetOf(own, host);
    if (peer !== undefined) {
      const among = { trip: trip(own.bridge, peer, to), within: subnet };
      found.push(...many({ kind: "bridge_peer", bridge: own.bridge }, [among], [...mine, ...locals]));
    }
  }
  if (to !== undefined && !isLoopback(to)) {
    const far = networks.flatMap(({ bridge, internal, subnets }): Vantage[] => {
      const [within = ""] = subnets[family];
      const source = lastOf(within);
      if (bridge === undefined || internal || source === undefined) return [];
      if (target.endpoints.some((one) => one.bridge === bridge)) return [];
      return [{ trip: trip(bridge, source, to), within }];
    });
    const bridge = far[0]?.trip.from;
    if (bridge !== undefined) found.push(...many({ kind: "other_bridge", bridge }, far, locals));
  }
  // Of a port that is reached at the container's own address that is the same as a machine elsewhere.
  if (own !== undefined && direct === undefined)
    found.push(...many({ kind: "container_router" }, fromOutside(own.address, containerPort), notOutside));
  return found;
}

/** The interfaces by which others come, with their addresses: first the one that has the published address. */
function outsidesOf({ family, hostAddress }: PortMapping, bridges: ReadonlySet<string>, { subnets }: Surroundings) {
  const candidates = subnets
    .map(({ name, cidr }) => ({ name, address: withoutPrefix(cidr) }))
    .filter(({ name, address }) => {
      const isOurs = name === "lo" || bridges.has(name) || isLoopback(address) || address.startsWith("fe80:");
      return !isOurs && address.includes(":") === (family === "ipv6");
    });
  const named = candidates.filter(({ address }) => address === hostAddress);
  const all = [...named, ...candidates];
  return all.filter(({ name }, index) => all.findIndex((one) => one.name === name) === index);
}

/** An address that another container of the same bridge could have. */
function neighbourOf(own: Endpoint, host: Surroundings): string | undefined {
  const last = lastOf(subnetOf(own, host) ?? "");
  return last === own.address ? undefined : last;
}

function subnetOf({ bridge, family }: Endpoint, { subnets }: Surroundings): string | undefined {
  return subnets.find(
    ({ name, cidr }) => name === bridge && cidr.includes(":") === (family === "ipv6") && !cidr.startsWith("fe80:"),
  )?.cidr;
}

/** The last address of a subnet that a host may have. */
function lastOf(cidr: string): string | undefined {
  if (ipaddr.IPv4.isValidCIDR(cidr)) {
    const bytes = ipaddr.IPv4.broadcastAddressFromCIDR(cidr).toByteArray();
    return new ipaddr.IPv4([...bytes.slice(0, 3), (bytes[3] ?? 1) - 1]).toString();
  }
  if (!ipaddr.IPv6.isValidCIDR(cidr)) return undefined;
  return ipaddr.IPv6.broadcastAddressFromCIDR(cidr).toRFC5952String();
}
