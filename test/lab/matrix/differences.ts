/*
 * Where a regime ends otherwise than Docker 29, on purpose or by what it is: the one list. The story holds every regime to
 * Docker 29 and this list, both ways: what is not listed must not differ, and what is listed must.
 */

import { docker29, networksOf, ownAddress, type Published, publishedAt, type Setting, wayOut } from "./docker29.ts";
import { CONTAINERS, NETWORKS, type Place } from "./place.ts";
import type { Outcome, Probe } from "./probes.ts";
import { withoutRules } from "./without.ts";

/** Whose rules the host has; see regimes.ts. */
export type Regime = "docker29" | "ours" | "byhand" | "own" | "original" | "none";

export interface Difference {
  regime: Regime;
  /** In every setting by default. */
  when?: (setting: Setting) => boolean;
  /** For people: which probes, how they end with Docker 29, how they end here, and why. */
  probes: string;
  docker: string;
  here: string;
  why: string;
  /** How a probe ends here; undefined where this difference is not about it. */
  outcome: (probe: Probe, place: Place, setting: Setting) => Outcome | undefined;
}

/** Where a probe of the host leads to, and whether it comes from another bridge. */
function crossing({ from, to, family, port, protocol }: Probe): Published | undefined {
  if (!("host" in to)) return undefined;
  const published = publishedAt(to.host, port, protocol);
  if (published === undefined || NETWORKS[published.network]?.gateways[family] === undefined) return undefined;
  const isContainer = networksOf(from).length > 0 && from !== "inner";
  return isContainer && wayOut(from) !== published.network ? published : undefined;
}

function published({ to, port, protocol }: Probe): Published | undefined {
  return "host" in to ? publishedAt(to.host, port, protocol) : undefined;
}

export const DIFFERENCES: readonly Difference[] = [
  {
    regime: "ours",
    when: ({ userlandProxy, bridgeNf }) => !userlandProxy && !bridgeNf,
    probes:
      "a container to a port that another container of its bridge publishes, without docker-proxy and with bridge-nf-call-iptables off",
    docker: "no answer",
    here: "reached; the container sees the bridge's gateway",
    why: "the reply bypasses iptables, so Docker's DNAT is never undone; we masquerade what containers of the same bridge send",
    outcome: (probe, place, setting) => {
      const to = published(probe);
      if (to === undefined || probe.from === to.name || wayOut(probe.from) !== to.network) return undefined;
      if (docker29(probe, place, setting) !== "timeout") return undefined;
      return `${to.name}:${to.to} sees ${NETWORKS[to.network]?.gateways[probe.family]}`;
    },
  },
  {
    regime: "byhand",
    probes: "IPv6",
    docker: "as IPv4",
    here: "as without rules: docker-proxy serves it, and whoever has a route reaches every port",
    why: "the original's host rules are IPv4 only",
    outcome: (probe, place, setting) =>
      probe.family === "ipv6" ? otherwise(withoutRules(probe, place, setting), probe, place, setting) : undefined,
  },
  {
    regime: "byhand",
    probes: "clients and other bridges to what is published by a container outside docker0",
    docker: "reached",
    here: "no answer",
    why: "the original's host rules accept replies from docker0 only",
    outcome: (probe, place, setting) => {
      const to = published(probe);
      if (probe.family === "ipv6" || to === undefined || to.network === "bridge" || probe.from === "host")
        return undefined;
      // Replies to docker0 are accepted; packets to docker-proxy are not forwarded.
      if (wayOut(probe.from) === "bridge" || wayOut(probe.from) === to.network) return undefined;
      return otherwise("timeout", probe, place, setting);
    },
  },
  {
    regime: "byhand",
    when: ({ bridgeNf }) => bridgeNf,
    probes: "a container to another one on its bridge, unless that is docker0, with bridge-nf-call-iptables on",
    docker: "reached",
    here: "no answer",
    why: "the original's host rules accept docker0's own packets only, and FORWARD's policy drops the others",
    outcome: ({ from, to, family }) => {
      if (family === "ipv6" || !("container" in to) || to.network === "bridge") return undefined;
      return from !== to.container && networksOf(from).includes(to.network) ? "timeout" : undefined;
    },
  },
  {
    regime: "byhand",
    probes: "a container that publishes, on another bridge, to what is published by a container on docker0",
    docker: "reached",
    here: "no answer",
    why: "the original's host rules do not masquerade its network, and its own guard drops the reply",
    outcome: (probe) => {
      if (probe.family === "ipv6" || (probe.from !== "app" && probe.from !== "both")) return undefined;
      return crossing(probe)?.network === "bridge" ? "timeout" : undefined;
    },
  },
  {
    regime: "byhand",
    probes:
      "a container that publishes nothing, on another bridge or an internal one, to what is published by a container on docker0",
    docker: "reached, sees the gateway; no answer to the internal one",
    here: "reached, and the container sees the other container's own address",
    why: "the original's host rules masquerade docker0's network only, and close no internal network",
    outcome: (probe, place) => {
      const to = published(probe);
      if (probe.family === "ipv6" || to?.network !== "bridge") return undefined;
      if (probe.from !== "other" && probe.from !== "inner") return undefined;
      return `${to.name}:${to.to} sees ${ownAddress(probe.from, probe.family, place)}`;
    },
  },
  {
    regime: "byhand",
    probes: "a container on docker0 to any port of one that publishes nothing, on another bridge or an internal one",
    docker: "no answer",
    here: "reached, sees the gateway",
    why: "the original's host rules accept all that docker0 sends elsewhere, and only a container that publishes has a guard of its own",
    outcome: ({ from, to, family, port }) => {
      if (family === "ipv6" || wayOut(from) !== "bridge" || !("container" in to)) return undefined;
      if (to.container !== "other" && to.container !== "inner") return undefined;
      return port === 83 ? "refused" : `${to.container}:${port} sees ${NETWORKS[to.network]?.gateways[family]}`;
    },
  },
  {
    regime: "own",
    when: ({ docker }) => docker < 28,
    probes: "an on-link host that routes 127.0.0.1 to the host, to a port published there",
    docker: "no answer",
    here: "reached",
    why: "Docker before 28 has no guard for it",
    outcome: (probe, place) => {
      const to = published(probe);
      if (probe.from !== "routed" || to?.publish.on !== "loopback") return undefined;
      return `${to.name}:${to.to} sees ${ownAddress("routed", "ipv4", place)}`;
    },
  },
  {
    regime: "own",
    when: ({ docker }) => docker < 28,
    probes: "an on-link host with a route to the containers, to the container's side of a published port",
    docker: "no answer",
    here: "reached",
    why: "Docker before 28 has no guard for it",
    outcome: ({ from, to, family, port, protocol }, place) => {
      if (from !== "routed" || !("container" in to) || !isPublishedSide(to, port, protocol)) return undefined;
      return `${to.container}:${port} sees ${ownAddress(from, family, place)}`;
    },
  },
  {
    regime: "own",
    when: ({ userlandProxy, docker }) => userlandProxy && docker < 28,
    probes: "a container to a UDP port published on every address by one on another bridge",
    docker: "reached",
    here: "no answer",
    why: "Docker before 28 leaves it to docker-proxy, which replies from another address",
    outcome: (probe) => {
      const to = crossing(probe);
      return to?.publish.protocol === "udp" && to.publish.on === "every" ? "timeout" : undefined;
    },
  },
  {
    regime: "own",
    when: ({ userlandProxy, docker }) => !userlandProxy && docker < 29,
    probes: "a container to a port published by one on another bridge, without docker-proxy",
    docker: "reached",
    here: "no answer",
    why: "Docker before 29 drops between bridges behind the DNAT",
    outcome: (probe) => (crossing(probe) ? "timeout" : undefined),
  },
  {
    regime: "original",
    probes: "a container on docker0 to any port of a container on another bridge",
    docker: "no answer",
    here: "reached, sees the gateway",
    why: "the host rules are loaded, which masquerade docker0; the script's own rules are rejected, and it has no guards",
    outcome: ({ from, to, family, port }) => {
      if (family === "ipv6" || !networksOf(from).includes("bridge") || !("container" in to)) return undefined;
      if (to.network === "bridge" || port === 83) return undefined;
      return `${to.container}:${port} sees ${NETWORKS[to.network]?.gateways[family]}`;
    },
  },
  ...(["original", "none"] as const).map(
    (regime): Difference => ({
      regime,
      probes: "all",
      docker: "published ports only, and the client's address",
      here: "docker-proxy serves what is published, and the container sees the gateway; whoever has a route reaches every port",
      why: regime === "none" ? "there are no rules" : "the script's own rules are rejected",
      outcome: (probe, place, setting) => otherwise(withoutRules(probe, place, setting), probe, place, setting),
    }),
  ),
];

function otherwise(outcome: Outcome, probe: Probe, place: Place, setting: Setting): Outcome | undefined {
  return outcome === docker29(probe, place, setting) ? undefined : outcome;
}

/** Whether a container's port is one that some publish leads to. */
function isPublishedSide(
  { container, network }: { container: string; network: string },
  port: number,
  protocol: string,
) {
  const { publishing, publishes = [] } = CONTAINERS[container] ?? {};
  return publishing === network && publishes.some((one) => one.to === port && (one.protocol ?? "tcp") === protocol);
}

/** The differences of a regime in a setting. */
export function differencesOf(regime: Regime, setting: Setting): Difference[] {
  return DIFFERENCES.filter((one) => one.regime === regime && (one.when?.(setting) ?? true));
}

/** How a probe must end under a regime. */
export function expectedIn(regime: Regime, probe: Probe, place: Place, setting: Setting): Outcome {
  for (const { outcome } of differencesOf(regime, setting)) {
    const here = outcome(probe, place, setting);
    if (here !== undefined) return here;
  }
  return docker29(probe, place, setting);
}

/** A regime's differences as a table's lines in Markdown. */
export function differencesTable(regime: Regime): string[] {
  const rows = DIFFERENCES.filter((one) => one.regime === regime);
  return [
    "| who to what | Docker 29 | here | why |",
    "| --- | --- | --- | --- |",
    ...rows.map(({ probes, docker, here, why }) => `| ${probes} | ${docker} | ${here} | ${why} |`),
  ];
}
