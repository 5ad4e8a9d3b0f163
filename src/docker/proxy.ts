// Detects whether docker-proxy serves a container: the daemon's userland-proxy is on by default.
//
// Without it dockerd sets route_localnet of the bridge, also with --iptables=false (tried, 20.10). A 1 may be left over
// from before a restart of the daemon (moby#45578), so it is confirmed by there being no docker-proxy for the container.

import { readFile } from "node:fs/promises";
import ipaddr from "ipaddr.js";
import { orElse } from "../model/errors.ts";
import { FAMILIES, type Family } from "../model/family.ts";
import type { Interfaces } from "../system/interfaces.ts";
import { inLanes } from "../system/lanes.ts";
import { findProcesses, nameOf, type Process, readProcessStatus } from "../system/processes.ts";
import { type Advice, adviceSentence } from "../text/advice.ts";
import type { Daemon } from "./daemon.ts";
import { type Network, readSubnet } from "./network.ts";
import type { Endpoint, PublishedContainer } from "./published.ts";

/** The targets, their endpoints with what hairpin needs where there is no docker-proxy. Throws Failure `resources_exhausted`. */
export async function findHairpins(
  targets: readonly PublishedContainer[],
  interfaces: Interfaces,
): Promise<{ targets: PublishedContainer[]; untrusted: string[] }> {
  const bridges = targets.flatMap(({ publishing }) => Object.values(publishing).map(({ bridge }) => bridge));
  const routed = await routingLoopback(bridges);
  if (routed.size === 0) return { targets: [...targets], untrusted: [] };
  const [{ proxies, untrusted }, filtered] = await Promise.all([findProxies(), filteredFamilies()]);
  const proxied = new Set(proxies.map(({ address }) => address));
  return {
    targets: targets.map((target) => withHairpins(target, { routed, proxied, filtered }, interfaces)),
    untrusted,
  };
}

/**
 * Whether containers on these networks are served by docker-proxy: as the daemon is configured, else, where it cannot be asked, as
 * the kernel and the processes show. podman has none, and its bridges are there only while a container runs on them. Throws Failure
 * `resources_exhausted`.
 */
export async function usesProxy(
  daemon: Daemon | undefined,
  networks: readonly Pick<Network, "bridge" | "isPodmans">[],
): Promise<{ proxy: boolean; warnings: string[] }> {
  if (networks.some(({ isPodmans }) => isPodmans)) return { proxy: false, warnings: [] };
  if (daemon !== undefined && !daemon.changedSince) return { proxy: daemon.userlandProxy !== false, warnings: [] };
  const routed = await routingLoopback(networks.flatMap(({ bridge }) => bridge ?? []));
  if (routed.size === 0) return { proxy: true, warnings: [] };
  const { proxies, untrusted } = await findProxies();
  return { proxy: proxies.length > 0, warnings: warnOfUntrusted(untrusted) };
}

/** Those of the bridges to which the host's loopback addresses are routed. Throws Failure `resources_exhausted`. */
export async function routingLoopback(bridges: readonly string[]): Promise<Set<string>> {
  const routed = new Set<string>();
  for (const bridge of new Set(bridges)) {
    if (await isSet(`/proc/sys/net/ipv4/conf/${bridge}/route_localnet`)) routed.add(bridge);
  }
  return routed;
}

/** One docker-proxy: where it listens, and the container's address and port behind it. */
export interface DockerProxy {
  protocol: string;
  hostAddress: string;
  hostPort: number;
  address: string;
  port: number;
  /** Whether it answers a datagram from the address that was asked, on whichever it listens: since Docker 28 (moby, cmd/docker-proxy). */
  answersAsAsked: boolean;
}

export interface Proxies {
  proxies: DockerProxy[];
  /** Process ids of those that call themselves so, and are not the daemon's. */
  untrusted: string[];
}

/**
 * The docker-proxies of this network namespace, and those of which it cannot be read; one process serves one published port on
 * one host address. Throws Failure `resources_exhausted`.
 *
 * Any user's process can have this name: the daemon's are root's, not a container's, and its children for as long as they live (it
 * has them killed with itself, Pdeathsig, with live-restore too; moby, portmapper/proxy_linux.go).
 */
export async function findProxies(): Promise<Proxies> {
  const found = await inLanes(await findProcesses("docker-proxy"), readIfDaemons);
  return {
    proxies: found.flatMap(({ proxy }) => proxy ?? []),
    untrusted: found.flatMap(({ untrusted }) => untrusted ?? []),
  };
}

async function readIfDaemons({ pid, certain }: Process): Promise<{ proxy?: DockerProxy[]; untrusted?: string }> {
  const status = await readProcessStatus(pid);
  if (status === undefined) return {};
  // Before 1.12 the daemon is called docker.
  const isDaemons = status.isRoots && !status.isNested && /^docker(d|$)/.test(await nameOf(status.parent));
  // One of which the network namespace cannot be read may be another user's own daemon's.
  if (!isDaemons || !(await readProcessStatus(status.parent))?.isRoots) return certain ? { untrusted: pid } : {};
  return { proxy: readProxy(await readFile(`/proc/${pid}/cmdline`, "utf8").catch(orElse(""))) };
}

/** In a sentence for all, with what to do. */
export function warnOfUntrusted(pids: readonly string[]): string[] {
  return adviseUntrusted(pids).map(adviceSentence);
}

export function adviseUntrusted(pids: readonly string[]): Advice[] {
  if (pids.length === 0) return [];
  const [shown, more] = [pids.slice(0, 3), pids.length - 3];
  const which = `${shown.join(", ")}${more > 0 ? ` and ${more} more` : ""}`;
  const what =
    pids.length === 1
      ? `the process ${which} is named docker-proxy but was not started by the Docker daemon; it is ignored`
      : `the processes ${which} are named docker-proxy but were not started by the Docker daemon; they are ignored`;
  return [{ what, hint: `'ps -fp ${shown.join(",")}' shows whose` }];
}

/**
 * `docker-proxy -proto tcp -host-ip 0.0.0.0 -host-port 8080 -container-ip 172.17.0.2 -container-port 80`; since 28 with
 * `-use-listen-fd` (tried, 26.1 and 28.5). The daemon's version does not say it: with live-restore a proxy is of an older one.
 */
function readProxy(cmdline: string): DockerProxy[] {
  const words = cmdline.split("\0");
  const argument = (flag: string) => words[words.indexOf(flag) + 1] ?? "";
  const address = argument("-container-ip");
  if (!ipaddr.isValid(address)) return [];
  return [
    {
      protocol: argument("-proto"),
      hostAddress: argument("-host-ip"),
      hostPort: Number(argument("-host-port")),
      address,
      port: Number(argument("-container-port")),
      answersAsAsked: words.includes("-use-listen-fd"),
    },
  ];
}

const BRIDGED_CALLS: Record<Family, string> = {
  ipv4: "/proc/sys/net/bridge/bridge-nf-call-iptables",
  ipv6: "/proc/sys/net/bridge/bridge-nf-call-ip6tables",
};

/** Families whose packets between a bridge's ports pass iptables; none without the module br_netfilter. Throws Failure `resources_exhausted`. */
export async function filteredFamilies(): Promise<Set<Family>> {
  const filtered = new Set<Family>();
  for (const family of FAMILIES) if (await isSet(BRIDGED_CALLS[family])) filtered.add(family);
  return filtered;
}

async function isSet(path: string): Promise<boolean> {
  const text = await readFile(path, "utf8").catch(orElse(""));
  return text.trim() === "1";
}

/** What the host says of docker-proxy. */
export interface Proxying {
  /** Bridges to which loopback addresses are routed. */
  routed: ReadonlySet<string>;
  /** Addresses of containers that a docker-proxy serves. */
  proxied: ReadonlySet<string>;
  /** Families whose packets between the ports of a bridge pass iptables. */
  filtered: ReadonlySet<Family>;
}

/** Pure. Both families of a container are served alike. */
export function withHairpins(
  target: PublishedContainer,
  { routed, proxied, filtered }: Proxying,
  { subnets }: Interfaces,
): PublishedContainer {
  const isProxied = target.endpoints.some(({ address }) => proxied.has(address));
  const withHairpin = (endpoint: Endpoint): Endpoint => {
    const { family, bridge } = endpoint;
    if (isProxied || !routed.has(bridge)) return endpoint;
    const here = subnets
      .filter(({ name, cidr }) => name === bridge && cidr.includes(":") === (family === "ipv6"))
      .filter(({ cidr }) => !cidr.startsWith("fe80:"));
    return {
      ...endpoint,
      hairpin: { bridgePeers: filtered.has(family) ? [] : here.map(({ cidr }) => readSubnet(cidr)) },
    };
  };
  return {
    ...target,
    publishing: Object.fromEntries(
      Object.entries(target.publishing).map(([family, endpoint]) => [family, withHairpin(endpoint)]),
    ),
  };
}
