/*
 * The probes of the matrix of sources, and how each of them ends.
 */

import { familyOf } from "../matrix/place.ts";
import type { ProbeResult } from "../probe.ts";
import { type Expected, portAt } from "./expected.ts";
import {
  type ContainerName,
  type Family,
  HOST_ADDRESSES,
  type HostAddress,
  type Place,
  PORTS,
  type Protocol,
  VANTAGES,
  type Vantage,
} from "./place.ts";

export interface Probe {
  from: Vantage;
  to: { host: HostAddress } | { container: ContainerName };
  family: Family;
  address: string;
  port: number;
  protocol: Protocol;
}

const DIRECT: readonly [ContainerName, number, Protocol][] = [
  ["web", 80, "tcp"],
  ["web", 80, "udp"],
  ["web", 81, "tcp"],
  ["web", 82, "tcp"],
  ["web", 8104, "tcp"],
  ["web", 8302, "tcp"],
  ["app", 80, "tcp"],
  ["app", 80, "udp"],
  ["labelled", 80, "tcp"],
  ["labelled", 81, "tcp"],
  ["far", 80, "tcp"],
];

/** Which of the host's addresses a vantage point tries. From elsewhere, loopback is not the host's, unless it is routed there. */
function addressesFor(from: Vantage): readonly HostAddress[] {
  if (from === "host") return Object.keys(HOST_ADDRESSES) as HostAddress[];
  const lan: HostAddress[] = ["first", "first6", "other", "other6"];
  return from === "stranger" ? [...lan, "loopback"] : lan;
}

/** Every probe of a place; the order means nothing. */
export function listProbes({ addresses }: Place): Probe[] {
  const ports = new Map(PORTS.map(({ port, protocol }) => [`${port}/${protocol}`, { port, protocol }]));
  return VANTAGES.flatMap((from) => [
    ...addressesFor(from).flatMap((host) => {
      const address = HOST_ADDRESSES[host];
      return [...ports.values()].map(
        (port): Probe => ({ from, to: { host }, family: familyOf(address), address, ...port }),
      );
    }),
    ...DIRECT.flatMap(([container, port, protocol]) =>
      (["ipv4", "ipv6"] as const).map(
        (family): Probe => ({ from, to: { container }, family, address: addresses[container][family], port, protocol }),
      ),
    ),
  ]);
}

/** For people: who to what. Unique in a list of probes. */
export function nameOf({ from, to, family, port, protocol }: Probe): string {
  const target = "host" in to ? `the host's ${to.host}` : `${to.container} itself (${family})`;
  return `${from} to ${target}, port ${port}/${protocol}`;
}

/**
 * The probes that end otherwise than they must, a line each. Who expects an answer and gets none asks again: a busy machine answers late.
 * What should get none is asked once; what a list closes must not have been let through either, though nobody answered.
 */
export async function deviations(
  place: Place,
  probes: readonly Probe[],
  expected: (probe: Probe) => Expected,
): Promise<string[]> {
  for (const family of ["ipv4", "ipv6"]) await place.host.run("conntrack", ["--flush", "--family", family]);
  const outcomes = new Map<Probe, string>();
  let open = probes;
  for (const timeoutMs of [1000, 3000, 8000]) {
    const answers = await Promise.all(
      open.map(({ from, address, port, protocol }) =>
        place.probers[from].connect(address, port, { protocol, timeoutMs }),
      ),
    );
    for (const [index, probe] of open.entries()) outcomes.set(probe, outcomeOf(answers[index] as ProbeResult));
    open = open.filter((probe) => isReached(expected(probe)) && outcomes.get(probe) !== expected(probe));
    if (open.length === 0) break;
  }
  const tracked = await trackedIn(place);
  return probes.flatMap((probe) => {
    const [must, is] = [expected(probe), outcomes.get(probe)];
    const isSo = isReached(must) ? is === must : isEnd(is);
    if (!isSo) return [`${nameOf(probe)}: ${is}, and should be: ${must}`];
    return must === "closed" && tracked.has(flowOf(probe, place)) ? [`${nameOf(probe)}: let through unanswered`] : [];
  });
}

export function isReached(expected: Expected): boolean {
  return expected.includes(":");
}

/** What the container's own port does not say. */
function isEnd(outcome: string | undefined): boolean {
  return outcome === "timeout" || outcome === "refused" || outcome === "unreachable";
}

function outcomeOf(result: ProbeResult): string {
  return result.reached ? `${result.server}:${result.port}` : result.why;
}

/** What passed the host: a flow that was dropped is not in conntrack's table. */
async function trackedIn({ host }: Place): Promise<Set<string>> {
  const lists = await Promise.all(
    ["ipv4", "ipv6"].map((family) => host.run("conntrack", ["--dump", "--family", family])),
  );
  const flows = lists.flatMap(({ stdout }) => [
    ...stdout.matchAll(/^(tcp|udp) .*?src=(\S+) dst=(\S+) sport=\d+ dport=(\d+) /gm),
  ]);
  return new Set(flows.map(([, protocol, source, address, port]) => `${protocol} ${source} ${address} ${port}`));
}

function flowOf({ from, family, address, port, protocol }: Probe, place: Place): string {
  const source = from === "host" ? address : place.addresses[from][family];
  return `${protocol} ${source} ${address} ${port}`;
}

/** Whether a probe goes to the host's address for a port of this container. */
export function isAbout(probe: Probe, container: ContainerName): boolean {
  return "host" in probe.to ? portAt(probe)?.container === container : probe.to.container === container;
}
