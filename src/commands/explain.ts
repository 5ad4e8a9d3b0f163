// explain: who reaches a container's published ports, from where, seen as whom, and which rule decides. It follows packets
// through the rules that the kernel has now; it reads, and changes nothing.

import type { Container } from "../docker/container.ts";
import { forwardingWarnings } from "../docker/daemon.ts";
import { findNetworks, findPublished, type Networks } from "../docker/find.ts";
import type { Network } from "../docker/network.ts";
import type { NothingPublished } from "../docker/nothing-published.ts";
import { warnOfUntrusted } from "../docker/proxy.ts";
import type { PublishedContainer } from "../docker/published.ts";
import { liveOwners, readLive } from "../iptables/live.ts";
import { type PacketHost, type TraceResult, trace } from "../iptables/trace.ts";
import { Failure, orElse } from "../model/errors.ts";
import { FAMILIES, type Family } from "../model/family.ts";
import { containersAmong } from "../model/owner.ts";
import type { PortMapping } from "../model/port-mapping.ts";
import { foreignTables, otherBackend } from "../netfilter/foreign-firewalls.ts";
import { decides } from "../netfilter/nft-tables.ts";
import type { HostRequest } from "../plan/backend.ts";
import { optionsOf } from "../plan/desired.ts";
import { readDirectories } from "../plan/directories.ts";
import type { Kernel } from "../plan/item.ts";
import { rangesOf } from "../rules/container-rules.ts";
import { type ProbeOrigin, probesOf, type Trip } from "../rules/probe.ts";
import { readHost } from "./host.ts";

/** One published port, or a range, represented by its first one. */
export interface Explained {
  container: string;
  publish: PortMapping;
  /** How many ports the range has. */
  count: number;
  /** The container's own addresses. */
  addresses: string[];
  views: { from: ProbeOrigin; trip: Trip; arrival: TraceResult }[];
}

export interface Explanation {
  explained: Explained[];
  /** Containers that publish nothing, and why. */
  notPublished: { name: string; nothingPublished: NothingPublished }[];
  warnings: string[];
}

type ExplainRequest = Pick<HostRequest, "subject" | "host" | "client" | "defaults" | "options">;

/** Throws Failure: `container_missing`, `container_not_running`, and those of the client and of iptables-save. */
export async function explain(request: ExplainRequest, signal: AbortSignal): Promise<Explanation> {
  const observed = await observe(request, signal);
  const { targets, networks, live } = observed;
  const bridges = networks.networks.flatMap(({ bridge }) => bridge ?? []);
  const host = await readHost(live, bridges);
  const explained = targets.flatMap((target) => follow(target, networks.networks, host));
  const inUse = FAMILIES.filter((family) => explained.some(({ publish }) => publish.family === family));
  return {
    explained,
    notPublished: targets.flatMap(({ name, nothingPublished }) =>
      nothingPublished === undefined ? [] : [{ name, nothingPublished }],
    ),
    warnings: [
      ...networks.unusable.map(({ msg }) => `${msg}; it is skipped`),
      ...new Set(targets.flatMap(({ warnings }) => warnings)),
      ...warnOfUntrusted(host.untrusted),
      ...(await forwardingWarnings(forwardedOf(inUse, observed))),
      ...(await othersWarnings(inUse, request.host.timeout)),
    ],
  };
}

interface Observed {
  targets: PublishedContainer[];
  networks: Networks;
  live: Kernel;
}

/** This is about the kernel, whatever `reload` is. */
async function observe(request: ExplainRequest, signal: AbortSignal): Promise<Observed> {
  const { subject, host, client, defaults, options } = request;
  const here = await readDirectories(host.directories).catch(orElse({}));
  const kept = (container: Container) => ({ ...optionsOf(container, here, defaults), ...options });
  const [{ targets }, networks, live] = await Promise.all([
    findPublished(subject.containers, client, kept, { wait: 0, signal, network: defaults.network }),
    findNetworks(client),
    host.backend.read(FAMILIES, host),
  ]);
  return { targets, networks, live };
}

/** Each of a container's ports, from everywhere. */
function follow(target: PublishedContainer, networks: readonly Network[], host: PacketHost): Explained[] {
  return publishesOf(target).map(({ publish, count }) => ({
    container: target.name,
    publish,
    count,
    addresses: target.endpoints.map(({ address }) => address),
    views: probesOf(publish, target, networks, host).map(({ from, trip }) => ({
      from,
      trip,
      arrival: trace(host, trip),
    })),
  }));
}

/** IPv6 that docker-proxy alone answers, because no rules were requested, need not be forwarded. */
function forwardedOf(inUse: readonly Family[], { targets, live }: Observed): Family[] {
  const owners = new Set(containersAmong(liveOwners(live.ipv6 ?? readLive(""))));
  return inUse.filter((family) => family === "ipv4" || targets.some(({ name }) => owners.has(name)));
}

/** Contiguous ports as one: their rules are one, too. */
function publishesOf({ publishes, nothingPublished }: PublishedContainer): { publish: PortMapping; count: number }[] {
  if (nothingPublished !== undefined) return [];
  return FAMILIES.flatMap((family) =>
    rangesOf(publishes.filter((publish) => publish.family === family)).map(({ count, ...range }) => ({
      publish: { family, ...range },
      count,
    })),
  );
}

/** Who else decides about packets, and is not looked at. */
async function othersWarnings(families: readonly Family[], timeoutSeconds: number): Promise<string[]> {
  const tables = (await foreignTables(timeoutSeconds)).filter(decides).map(({ name }) => name);
  const others = await Promise.all(families.map((family) => otherBackend(family, timeoutSeconds).catch(nothingOf)));
  return [
    ...(tables.length > 0
      ? [`nftables tables of other programs also filter packets, and are not followed here: ${tables.join(", ")}`]
      : []),
    ...others.flatMap((other) =>
      other ? [`the ${other.backend} backend holds rules that also filter packets, and are not followed here`] : [],
    ),
  ];
}

function nothingOf(error: unknown): undefined {
  if (!(error instanceof Failure)) throw error;
}
