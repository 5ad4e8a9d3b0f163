// The daemon's networks -> HostRules: what the host needs besides the containers' own rules. Pure.
//
// Before the containers' rules: what is published is looked up; each network is masqueraded, and without docker-proxy what
// the host itself sends to a container from its loopback address; the user's own rules are asked first, then what crosses an
// internal network's border is dropped, then the answers to the others are accepted. Behind them: first drop what may not
// enter a network, whoever sends it, then accept what comes from one.
//
// They are Docker's own (docker 29). Every bridge's drops come before any bridge's accept, or one network's containers would
// reach the unpublished ports of another's.

import type { Network } from "../docker/network.ts";
import { ownPart } from "../docker/overlaps.ts";
import type { Family } from "../model/family.ts";
import type { Route } from "../system/routes.ts";
import type { HostRule, HostRules } from "./model.ts";

export interface HostOptions {
  guards: boolean;
  /** Whether docker-proxy serves the host's loopback address. */
  proxy: boolean;
  /** The host's, which may have a part of a network's subnet: no other machines are masqueraded. */
  routes: readonly Route[];
}

/** A network with a bridge on this host. */
export type Bridged = Network & { bridge: string };

/** Networks without one (macvlan, overlay) need nothing. */
export function bridgedOf(networks: readonly Network[], family: Family): Bridged[] {
  return networks.filter(hasBridge).filter(({ subnets }) => subnets[family].length > 0);
}

function hasBridge(network: Network): network is Bridged {
  return network.bridge !== undefined;
}

/** The rules of one family, in the order of the networks. */
export function makeHostRules(networks: readonly Network[], family: Family, options: HostOptions): HostRules {
  const bridged = bridgedOf(networks, family);
  return { first: firstRules(bridged, family, options), last: lastRules(bridged, family, options.guards) };
}

function firstRules(networks: readonly Bridged[], family: Family, { proxy, routes }: HostOptions): HostRule[] {
  const outward = networks.filter(({ internal }) => !internal);
  return [
    { kind: "published-ports", from: "others" },
    // Packets to the loopback address are docker-proxy's, where it runs.
    { kind: "published-ports", from: "host", exceptLoopback: proxy },
    ...outward
      .filter(({ masquerade }) => masquerade[family])
      .flatMap((network) => masquerades(network, family, routes)),
    ...(proxy ? [] : outward).map(
      ({ bridge, hostAddress }): HostRule => ({ kind: "masquerade-host", bridge, hostAddress: hostAddress[family] }),
    ),
    // Before everything in the host's fragments; and before the replies, so that a ban cuts an established flow.
    { kind: "user-rules" },
    // Before the containers' accepts, or an internal network's containers would get in at what others publish.
    ...networks
      .filter(({ internal }) => internal)
      .flatMap(({ bridge }): HostRule[] => [
        { kind: "internal", bridge, direction: "in" },
        { kind: "internal", bridge, direction: "out" },
      ]),
    ...outward.map(({ bridge }): HostRule => ({ kind: "replies", bridge })),
  ];
}

function masquerades(network: Bridged, family: Family, routes: readonly Route[]): HostRule[] {
  const { name, bridge, subnets, hostAddress } = network;
  return subnets[family]
    .flatMap((subnet) => ownPart({ network: name, bridge, subnet }, routes))
    .map((subnet) => ({ kind: "masquerade", subnet, bridge, hostAddress: hostAddress[family] }));
}

/** icc=false applies with and without guards, as an internal network's border does: it was requested. */
function lastRules(networks: readonly Bridged[], family: Family, guards: boolean): HostRule[] {
  return [
    ...networks
      .filter(({ internal }) => !internal)
      .flatMap(({ bridge, gatewayMode }): HostRule[] => {
        const mode = gatewayMode[family];
        if (mode === "nat-unprotected") return [{ kind: "unpublished", bridge, verdict: "accept" }];
        return [
          // All types, also between its own containers with icc=false, as Docker does (29.7, iptabler: setICMP).
          ...(mode === "routed" ? [{ kind: "icmp", bridge } as const] : []),
          ...(guards ? [{ kind: "unpublished", bridge, verdict: "drop" } as const] : []),
        ];
      }),
    ...networks.filter(({ icc }) => !icc).map(({ bridge }): HostRule => ({ kind: "isolated", bridge })),
    ...networks.map(({ bridge }): HostRule => ({ kind: "outgoing", bridge })),
  ];
}
