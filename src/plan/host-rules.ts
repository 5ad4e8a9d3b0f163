// The host's own rules as they should be, and what is to be said of the daemon. Reads, and changes nothing.

import { askVersion } from "../docker/client.ts";
import { adviseDaemon, type Daemon, findDaemon, forwardingWarnings, managingDaemon } from "../docker/daemon.ts";
import type { Network } from "../docker/network.ts";
import { describeOverlap, overlapsOf } from "../docker/overlaps.ts";
import { usesProxy } from "../docker/proxy.ts";
import type { Fragments } from "../fragments/by-family.ts";
import { isManaged, readFragment } from "../iptables/fragment-text.ts";
import { Failure, orElse } from "../model/errors.ts";
import { FAMILIES, type Family } from "../model/family.ts";
import { HOST_FILES, ownerOf } from "../model/owner.ts";
import type { Client, Defaults } from "../model/request.ts";
import { type DesiredFragment, noHostFragment } from "../rules/desired-fragment.ts";
import { hostFragments } from "../rules/host-fragments.ts";
import { readInterfaces } from "../system/interfaces.ts";
import type { HostRequest } from "./backend.ts";
import { type Item, isContainers, type Kernel } from "./item.ts";
import { findMove, type Move } from "./moving.ts";

/** The host rules, as far as the client's answer allows. */
export interface DesiredHostRules {
  wanted: DesiredFragment[];
  networks: readonly Network[];
  daemon: Daemon | undefined;
  /** That the daemon manages iptables itself, and what to do. */
  managing: string | undefined;
  /** Where the host changes its backend. */
  move?: Move;
  warnings: string[];
}

/**
 * The host rules as they should be; for `absent` their files without a rule. Throws Failure `bridge_missing` where the networks are
 * those of another host.
 */
export async function desiredHostRules(
  networks: readonly Network[],
  families: readonly Family[],
  { subject, client, host, defaults }: Pick<HostRequest, "subject" | "client" | "host" | "defaults">,
): Promise<DesiredHostRules> {
  if (subject.state === "absent")
    return {
      wanted: HOST_FILES.map(noHostFragment),
      networks: [],
      daemon: undefined,
      managing: undefined,
      warnings: [],
    };
  const advice = await adviseHost(networks, families, client);
  const overlaps = overlapsOf(networks, await readInterfaces()).map(describeOverlap);
  const base = await wantBase(networks, families, advice.daemon, defaults);
  const unread = networks.flatMap(({ unreadOptions }) => unreadOptions);
  const warnings = [...advice.warnings, ...unread, ...base.warnings, ...overlaps];
  const move = await findMove({ subject, host, defaults });
  return { ...advice, wanted: base.wanted, networks, warnings, ...(move === undefined ? {} : { move }) };
}

/** The host rules' files as these networks need them. Throws Failure `bridge_missing`. */
export async function wantBase(
  networks: readonly Network[],
  families: readonly Family[],
  daemon: Daemon | undefined,
  { chain, guards }: Pick<Defaults, "chain" | "guards">,
): Promise<Pick<DesiredHostRules, "wanted" | "warnings">> {
  const { names, routes } = await readInterfaces();
  const missing = networks.find(({ isDefault, bridge }) => isDefault && bridge !== undefined && !names.has(bridge));
  if (missing !== undefined) {
    const message = `the bridge ${missing.bridge} of Docker's network ${missing.name} is not an interface of this host; run docker_iptables on the daemon's own host and in its network namespace`;
    throw new Failure("bridge_missing", message, { network: missing.name, bridge: missing.bridge });
  }
  const { proxy, warnings } = await usesProxy(daemon, networks);
  return { wanted: hostFragments(networks, families, { chain, guards, proxy, routes }), warnings };
}

/**
 * The daemon of this host, and what to change about it or about the host. A client that cannot say its version costs no
 * answer.
 */
export async function adviseHost(
  networks: readonly Network[],
  families: readonly Family[],
  client: Client,
): Promise<Pick<DesiredHostRules, "daemon" | "managing" | "warnings">> {
  const daemon = await findDaemon();
  const isUnsure = daemon !== undefined && daemon.ip6tables === undefined;
  const version = isUnsure ? await askVersion(client).catch(orElse(undefined)) : undefined;
  const ready = await withoutAbsent(networks);
  const inUse = families.filter((family) => ready.some(({ subnets }) => subnets[family].length > 0));
  const managing = daemon && managingDaemon(daemon, version);
  return { daemon, managing, warnings: [...adviseDaemon(daemon, version), ...(await forwardingWarnings(inUse))] };
}

/** netavark has the host forward packets when it makes a network's bridge, which it does with the first container (tried, 1.14). */
async function withoutAbsent(networks: readonly Network[]): Promise<readonly Network[]> {
  if (!networks.some(({ isPodmans }) => isPodmans)) return networks;
  const { names } = await readInterfaces();
  return networks.filter(({ isPodmans, bridge }) => !isPodmans || bridge === undefined || names.has(bridge));
}

/** Foreign files at the host rules' paths are not removed either; they are reported. */
export function keepForeignFiles(items: readonly Item[]): { items: Item[]; warnings: string[] } {
  const stays = (item: Item) => !isContainers(item) && item.after === undefined && isForeign(item);
  return {
    items: items.filter((item) => !stays(item)),
    warnings: items.filter(stays).map(({ path }) => `${path} was not written by docker_iptables; it is kept`),
  };
}

/** Of our host rules that are not live, where a call is about containers alone and loads nothing else. */
export function warnOfHostRules(
  now: Fragments,
  live: Kernel,
  { subject, loading, host }: Pick<HostRequest, "subject" | "loading" | "host">,
): string[] {
  if (subject.base || subject.state === "absent" || loading.reload === "none") return [];
  return FAMILIES.flatMap((family) => {
    const running = live[family];
    if (running === undefined) return [];
    return (now[family] ?? []).flatMap((one) => {
      const owner = ownerOf(one);
      if (owner?.kind !== "host" || !isManaged(one.text)) return [];
      const wanted = readFragment(one.text);
      const compared = { owner, family, wanted, former: wanted, text: one.file ?? one.text };
      const [first, ...more] = host.backend.compare(compared, running).missing;
      if (first === undefined) return [];
      const rules = `'${first}'${more.length > 0 ? ` and ${more.length} more` : ""}`;
      return [`the kernel lacks host rules of ${one.path}: ${rules}; 'docker_iptables setup' restores them`];
    });
  });
}

/** Whether it is a foreign file. */
function isForeign({ before }: Item): boolean {
  return before !== undefined && !isManaged(before.text);
}

/** Throws Failure `fragment_foreign` for a foreign file at the path of one of the host's. */
export function refuseForeignFiles(items: readonly Item[]): void {
  const foreign = items.find((item) => !isContainers(item) && isForeign(item));
  if (foreign === undefined) return;
  const { path } = foreign;
  throw new Failure(
    "fragment_foreign",
    `${path} was not written by docker_iptables, and is not overwritten: keep it and do not use setup, or move it away ` +
      `(mv ${path} ${path}.orig: that name is not loaded) and run setup again; put any other rules in it into a fragment of another name`,
    { path },
  );
}
