// What the rules mean, for any backend: those of a container's published ports, and those of the host. A backend renders them
// (iptables/render.ts, nft/elements.ts) and reads its own back (iptables/read.ts). Pure.

import type { Family } from "../model/family.ts";
import type { Source } from "../model/sources.ts";

/** Ports of one protocol, from the first to the last. */
export interface PortRange {
  protocol: string;
  first: number;
  last: number;
}

/** Where a DNAT sends packets. */
export interface Destination {
  address: string;
  /** The port; undefined: the packet's own. With `base` it is the one for that port of the packet, and the others follow. */
  port: number | undefined;
  base: number | undefined;
}

/** The port to which a packet for `asked` is sent. */
export function portAt({ port, base }: Destination, asked: number): number {
  if (port === undefined) return asked;
  return base === undefined ? port : port + asked - base;
}

/** Packets for ports of this host are sent to a container. */
export interface Dnat {
  kind: "dnat";
  /** In its canonical spelling; undefined for every address of the family. */
  hostAddress: string | undefined;
  ports: PortRange;
  to: Destination;
  /** The bridge whose own containers are left to docker-proxy; undefined: it takes theirs, too. */
  exceptFrom: string | undefined;
}

/** Packets to container ports pass to the bridge, as the DNAT sends them, or as they come where the network routes. */
export interface Accept {
  kind: "accept";
  address: string;
  bridge: string;
  ports: PortRange;
}

/** What a container sends to itself, or to its peer on the bridge, through a published port is masqueraded. */
export interface Hairpin {
  kind: "hairpin";
  /** An address or a subnet, with its mask. */
  source: string;
  address: string;
  ports: PortRange;
}

/** Drops what comes to the container's own address from another interface than its bridge. */
export interface DirectAccessFilter {
  kind: "direct-access-filter";
  address: string;
  bridge: string;
}

/** What comes to the container's own address by an interface that its network trusts is not dropped by the next kind. */
export interface DirectAccessAccept {
  kind: "direct-access-accept";
  address: string;
  /** The interface. */
  by: string;
}

/** Drops what comes from outside to a port that is published on 127.x. */
export interface LoopbackFilter {
  kind: "loopback-filter";
  hostAddress: string;
  ports: PortRange;
}

/**
 * What the DNAT of host ports sends to a container passes from these sources alone, at each of its packets: what stands already, too.
 * The host itself and the container's own network are not asked.
 */
export interface AllowForwarded {
  kind: "allow-forwarded";
  /** "out": the answers, to these sources alone. */
  direction: "in" | "out";
  hostAddress: string | undefined;
  /** Those of the host to which the connection came. */
  ports: PortRange;
  address: string;
  bridge: string;
  /** Of the rule's family; none: no other machine. */
  sources: readonly Source[];
}

/**
 * The same for what no DNAT takes: it comes to docker-proxy, which has a socket for what is published on IPv6 without `ipv6`, or holds a
 * flow from before the rules.
 */
export interface AllowDelivered {
  kind: "allow-delivered";
  /** "out": the answers, to these sources alone. */
  direction: "in" | "out";
  hostAddress: string | undefined;
  ports: PortRange;
  /** The container's own, which is not asked; undefined where no bridge is known. */
  bridge: string | undefined;
  /** Of the rule's family; none: no other machine. */
  sources: readonly Source[];
}

/** The same for ports of the container that others connect to at its own address, without a DNAT (gateway mode routed). */
export interface AllowDirect {
  kind: "allow-direct";
  /** "out": the answers, to these sources alone. */
  direction: "in" | "out";
  address: string;
  bridge: string;
  /** The container's. */
  ports: PortRange;
  /** Of the rule's family; none: no other machine. */
  sources: readonly Source[];
}

/** Drops what comes to the container's ports from another interface without a DNAT. */
export interface DirectPortFilter {
  kind: "direct-port-filter";
  address: string;
  bridge: string;
  ports: PortRange;
}

export type ContainerRule =
  | LoopbackFilter
  | DirectAccessAccept
  | DirectAccessFilter
  | AllowForwarded
  | AllowDelivered
  | AllowDirect
  | DirectPortFilter
  | Dnat
  | Hairpin
  | Accept;

/** A container's, by family, in the order in which they take effect. */
export type ContainerRules = Record<Family, readonly ContainerRule[]>;

export const NO_RULES: ContainerRules = { ipv4: [], ipv6: [] };

export type HostRule =
  /** What comes in for an address of this host, or what it sends there itself, is looked up among the published ports. */
  | { kind: "published-ports"; from: "others" }
  /** `exceptLoopback`: packets to a loopback address are docker-proxy's. */
  | { kind: "published-ports"; from: "host"; exceptLoopback: boolean }
  /** What a network's containers send to others leaves with the host's address, or with the one that the network's options name. */
  | { kind: "masquerade"; subnet: string; bridge: string; hostAddress: string | undefined }
  /** What the host sends to a container from its loopback address leaves with the bridge's, or with that one. */
  | { kind: "masquerade-host"; bridge: string; hostAddress: string | undefined }
  /** The user's own rules are asked, before everything else. */
  | { kind: "user-rules" }
  /** Nothing crosses the border of an internal network. */
  | { kind: "internal"; bridge: string; direction: "in" | "out" }
  /** Answers to what a network's containers have sent. */
  | { kind: "replies"; bridge: string }
  /** ICMP enters a network that routes. */
  | { kind: "icmp"; bridge: string }
  /** What enters a network though no port is published for it. */
  | { kind: "unpublished"; bridge: string; verdict: "accept" | "drop" }
  /** A network whose containers do not reach each other (com.docker.network.bridge.enable_icc=false). */
  | { kind: "isolated"; bridge: string }
  /** What a network's containers send. */
  | { kind: "outgoing"; bridge: string };

/** The host's, of one family: those before all containers' rules, and those behind. */
export interface HostRules {
  first: readonly HostRule[];
  last: readonly HostRule[];
}
