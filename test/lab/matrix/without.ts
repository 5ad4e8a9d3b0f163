/*
 * What must come of every probe on a host that has no rules at all, in words of their own: docker-proxy alone.
 */

import { answersElsewhere, docker29, networksOf, ownAddress, publishedAt, type Setting } from "./docker29.ts";
import { type HostAddress, NETWORKS, type Place } from "./place.ts";
import type { Outcome, Probe } from "./probes.ts";

export function withoutRules(probe: Probe, place: Place, setting: Setting): Outcome {
  return "host" in probe.to
    ? toHost(probe, probe.to.host, place, setting)
    : toContainer(probe, probe.to, place, setting);
}

function toHost(probe: Probe, host: HostAddress, place: Place, setting: Setting): Outcome {
  const { from, family, port, protocol } = probe;
  const published = publishedAt(host, port, protocol);
  if (published === undefined || port === 8680) return docker29(probe, place, setting);
  if (from === "routed" && host === "loopback") return "timeout";
  const { name, network, to, publish } = published;
  // Without docker-proxy the daemon keeps the port for itself, and does not answer.
  if (!setting.userlandProxy) return NETWORKS[network]?.gateways[family] === undefined ? "refused" : "timeout";
  if (answersElsewhere(publish, setting) && !isPreferred(from, host)) return "timeout";
  const { ipv4, [family]: gateway = ipv4 } = NETWORKS[network]?.gateways ?? {};
  return `${name}:${to} sees ${gateway}`;
}

/** Whether the host talks to this vantage point from the address that it asks. */
function isPreferred(from: Probe["from"], host: HostAddress): boolean {
  if (from === "host") return host !== "second";
  // Of two IPv6 addresses that are equally near the kernel prefers the newer one.
  return (from === "remote" || from === "routed") && (host === "first" || host === "second6");
}

function toContainer(
  probe: Probe,
  { container, network }: { container: string; network: string },
  place: Place,
  setting: Setting,
): Outcome {
  const { from, family, port } = probe;
  const near = from === "host" || from === "remote" || network === "macvlan" || networksOf(from).includes(network);
  if (near) return docker29(probe, place, setting);
  return port === 83 ? "refused" : `${container}:${port} sees ${ownAddress(from, family, place)}`;
}
