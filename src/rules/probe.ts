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

/** Who tries, and the connection that they open. */
export interface Probe {
  from: ProbeOrigin;
  trip: Trip;
}

/** Example addresses of machines elsewhere (RFC 5737, RFC 3849). */
const ELSEWHERE: Record<Family, string> = { ipv4: "203.0.113.9", ipv6: "2001:db8:ffff::9" };
const LOOPBACK: Record<Family, string> = { ipv4: "127.0.0.1", ipv6: "::1" };

/** Every vantage point from which one published port is worth looking at; `networks` are all of the daemon's. */
export function probesOf(
  publish: PortMapping,
  target: PublishedContainer,
  networks: readonly Network[],
  host: Surroundings,
): Probe[] {
  const { family, protocol, hostPort, containerPort } = publish;
  const bridges = new Set(networks.flatMap(({ bridge }) => bridge ?? []));
  const outside = outsideOf(publish, bridges, host);
  const to = publish.hostAddress ?? outside?.address;
  const own = target.publishing[family] ?? target.endpoints.find((one) => one.family === family);
  const trip = (from: string | undefined, source: string, destination: string, port = hostPort): Trip => ({
    ...{ family, from, source, destination, protocol, port },
  });
  const found: Probe[] = [];
  if (outside !== undefined && to !== undefined && !isLoopback(to)) {
    found.push({ from: { kind: "machine" }, trip: trip(outside.name, ELSEWHERE[family], to) });
  }
  if (outside !== undefined && to !== undefined && isLoopback(to)) {
    found.push({ from: { kind: "loopback_router", address: to }, trip: trip(outside.name, ELSEWHERE[family], to) });
  }
  const local = publish.hostAddress === undefined ? [LOOPBACK[family], to] : [to];
  for (const address of local) {
    if (address !== undefined) found.push({ from: { kind: "host" }, trip: trip(undefined, address, address) });
  }
  if (own !== undefined && to !== undefined && !isLoopback(to)) {
    found.push({ from: { kind: "container" }, trip: trip(own.bridge, own.address, to) });
    const peer = neighbourOf(own, host);
    if (peer !== undefined)
      found.push({ from: { kind: "bridge_peer", bridge: own.bridge }, trip: trip(own.bridge, peer, to) });
  }
  const far = networks.find(
    ({ bridge, internal, subnets }) =>
      bridge !== undefined &&
      !internal &&
      subnets[family].length > 0 &&
      !target.endpoints.some((one) => one.bridge === bridge),
  );
  if (far?.bridge !== undefined && to !== undefined && !isLoopback(to)) {
    const source = lastOf(far.subnets[family][0] ?? "");
    if (source !== undefined) {
      found.push({ from: { kind: "other_bridge", bridge: far.bridge }, trip: trip(far.bridge, source, to) });
    }
  }
  if (own !== undefined && outside !== undefined) {
    const straight = trip(outside.name, ELSEWHERE[family], own.address, containerPort);
    found.push({ from: { kind: "container_router" }, trip: straight });
  }
  return found;
}

/** The interface by which others come, and its address: the one that has the published address, else the first. */
function outsideOf({ family, hostAddress }: PortMapping, bridges: ReadonlySet<string>, { subnets }: Surroundings) {
  const candidates = subnets
    .map(({ name, cidr }) => ({ name, address: withoutPrefix(cidr) }))
    .filter(({ name, address }) => {
      const isOurs = name === "lo" || bridges.has(name) || isLoopback(address) || address.startsWith("fe80:");
      return !isOurs && address.includes(":") === (family === "ipv6");
    });
  return candidates.find(({ address }) => address === hostAddress) ?? candidates[0];
}

/** An address that another container of the same bridge could have. */
function neighbourOf({ bridge, address, family }: Endpoint, { subnets }: Surroundings): string | undefined {
  const subnet = subnets.find(
    ({ name, cidr }) => name === bridge && cidr.includes(":") === (family === "ipv6") && !cidr.startsWith("fe80:"),
  );
  const last = subnet && lastOf(subnet.cidr);
  return last === address ? undefined : last;
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
