// explain: who reaches a container's published ports, from where, seen as whom, and which rule decides. It follows packets
// through the rules that the kernel has now; it reads, and changes nothing.

import type { Container } from "../docker/container.ts";
import { forwardingWarnings } from "../docker/daemon.ts";
import { findNetworks, findPublished, type Networks } from "../docker/find.ts";
import type { Network } from "../docker/network.ts";
import type { NothingPublished } from "../docker/nothing-published.ts";
import { warnOfUntrusted } from "../docker/proxy.ts";
import { type PublishedContainer, reachableOf } from "../docker/published.ts";
import { type Live, liveOwners } from "../iptables/live.ts";
import { readMeaning } from "../iptables/read.ts";
import { mayBeOurs, readWords, uncounted } from "../iptables/rule.ts";
import type { PacketHost } from "../iptables/trace.ts";
import { type View, viewsOf } from "../iptables/views.ts";
import { orElse } from "../model/errors.ts";
import { FAMILIES, type Family } from "../model/family.ts";
import { containersAmong } from "../model/owner.ts";
import { type PortMapping, spellPublish } from "../model/port-mapping.ts";
import type { Source } from "../model/sources.ts";
import type { OtherFirewalls } from "../netfilter/foreign-firewalls.ts";
import { decides } from "../netfilter/nft-tables.ts";
import { namesInComments } from "../nft/elements.ts";
import type { Backend, HostRequest } from "../plan/backend.ts";
import { optionsOf } from "../plan/desired.ts";
import { readDirectories } from "../plan/directories.ts";
import { firewallsOf } from "../plan/firewalls.ts";
import type { Kernel } from "../plan/item.ts";
import { rangesOf } from "../rules/container-rules.ts";
import type { AllowDelivered, AllowDirect, AllowForwarded } from "../rules/model.ts";
import { probesOf } from "../rules/probe.ts";
import { readHost } from "./host.ts";

/** One published port, or a range, represented by its first one. */
export interface Explained {
  container: string;
  publish: PortMapping;
  /** How many ports the range has. */
  count: number;
  /** The container's own addresses. */
  addresses: string[];
  /** Who may connect, as its live rules say; undefined: everyone. */
  allowed: readonly Source[] | undefined;
  views: View[];
  /** How many subnets that rules name were not asked for: they are too many. */
  left: number;
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
  const lists = { ipv4: listsIn(live.ipv4), ipv6: listsIn(live.ipv6) };
  const explained = targets.flatMap((target) => follow(target, networks.networks, host, lists));
  const named = explained.map((one) => withNames(one, live[one.publish.family], request.host.backend));
  const inUse = FAMILIES.filter((family) => explained.some(({ publish }) => publish.family === family));
  return {
    explained: named,
    notPublished: targets.flatMap(({ name, nothingPublished }) =>
      nothingPublished === undefined ? [] : [{ name, nothingPublished }],
    ),
    warnings: [
      ...networks.unusable.map(({ msg }) => `${msg}; it is skipped`),
      ...new Set(targets.flatMap(({ warnings }) => warnings)),
      ...warnOfUntrusted(host.untrusted),
      ...explained.flatMap(warnOfLeft),
      ...(await forwardingWarnings(forwardedOf(inUse, observed))),
      ...warnOfUnfollowed(await request.host.backend.otherFirewalls(live, request.host.timeout), inUse),
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
  const here = await readDirectories(host).catch(orElse({}));
  const kept = (container: Container) => ({ ...optionsOf(container, here, defaults), ...options });
  const [{ targets }, networks, live] = await Promise.all([
    findPublished(subject.containers, client, kept, { wait: 0, signal, network: defaults.network }),
    findNetworks(client),
    host.backend.read(FAMILIES, host),
  ]);
  return { targets, networks, live };
}

/** Each of a container's ports, from everywhere. */
function follow(target: PublishedContainer, networks: readonly Network[], host: PacketHost, lists: Lists): Explained[] {
  return publishesOf(target, lists).map(({ publish, count, allowed }) => {
    const by = allowed?.flatMap((one) => one.by ?? []);
    const found = probesOf(publish, target, networks, host, by).map((probe) => viewsOf(host, probe, allowed));
    return {
      ...{ container: target.name, publish, count, allowed },
      addresses: target.endpoints.map(({ address }) => address),
      views: found.flatMap(({ views }) => views),
      left: Math.max(0, ...found.map(({ left }) => left)),
    };
  });
}

/** The rules that decide as the kernel has them. */
function withNames(explained: Explained, live: Live | undefined, backend: Backend): Explained {
  if (live === undefined) return explained;
  const named = (rules: readonly string[]) => rules.map((rule) => backend.nameRule(rule, live));
  const views = explained.views.map((view) => {
    const { by, doubts } = view.arrival;
    return { ...view, arrival: { ...view.arrival, by: named(by), doubts: named(doubts) } };
  });
  return { ...explained, views };
}

function warnOfLeft({ publish, count, left }: Explained): string[] {
  if (left === 0) return [];
  return [
    `rules name too many sources on the way to ${spellPublish(publish, count)}: ${left} of them are not asked for`,
  ];
}

type List = AllowForwarded | AllowDelivered | AllowDirect;
type Lists = Record<Family, readonly List[]>;

/** Of the kernel's rules those of ours that ask for lists. */
function listsIn(live: Live | undefined): List[] {
  const lines = live?.tables.get("mangle")?.lines ?? [];
  const rules = lines.filter(mayBeOurs).map((line) => readWords(uncounted(line)));
  return readMeaning(new Map([["mangle", rules]])).flatMap((one) =>
    "sources" in one && one.direction === "in" ? [one] : [],
  );
}

/**
 * Who may connect to a port: by its DNAT, else through docker-proxy; what is about its address alone comes first. Of a port of the
 * container's own address: there.
 */
function allowedTo(
  publish: PortMapping,
  { endpoints }: PublishedContainer,
  lists: Lists,
): readonly Source[] | undefined {
  const { family, hostAddress, hostPort, protocol } = publish;
  const about = lists[family].filter(
    ({ ports, ...one }) =>
      ports.protocol === protocol &&
      ports.first <= hostPort &&
      hostPort <= ports.last &&
      (one.kind === "allow-delivered" || endpoints.some(({ address }) => address === one.address)),
  );
  const direct = about.find((one) => one.kind === "allow-direct" && one.address === hostAddress);
  if (endpoints.some(({ address }) => address === hostAddress)) return direct?.sources;
  const translated = about.filter((one) => one.kind !== "allow-direct");
  const fitting = [
    ...translated.filter((one) => one.hostAddress === hostAddress),
    ...translated.filter((one) => one.hostAddress === undefined),
  ];
  return (fitting.find(({ kind }) => kind === "allow-forwarded") ?? fitting[0])?.sources;
}

/** IPv6 that docker-proxy alone answers, because no rules were requested, need not be forwarded. */
function forwardedOf(inUse: readonly Family[], { targets, live }: Observed): Family[] {
  const published = new Map([...(live.ipv6?.tables ?? [])].filter(([table]) => table === "nat"));
  const owners = new Set(containersAmong(liveOwners({ tables: published })));
  const names = [...namesInComments(targets.map(({ name }) => name))];
  return inUse.filter((family) => family === "ipv4" || names.some((name) => owners.has(name)));
}

interface PublishedRange {
  publish: PortMapping;
  count: number;
  allowed: readonly Source[] | undefined;
}

/** Contiguous ports with one list as one: their rules are one, too. */
function publishesOf(target: PublishedContainer, lists: Lists): PublishedRange[] {
  if (target.nothingPublished !== undefined) return [];
  return FAMILIES.flatMap((family) => {
    const byList = new Map<string, { publishes: PortMapping[]; allowed: readonly Source[] | undefined }>();
    for (const publish of reachableOf(target, family)) {
      const allowed = allowedTo(publish, target, lists);
      const key = JSON.stringify(allowed ?? null);
      const same = byList.get(key) ?? { publishes: [], allowed };
      byList.set(key, same);
      same.publishes.push(publish);
    }
    const ranges = [...byList.values()].flatMap(({ publishes, allowed }) =>
      rangesOf(publishes).map(({ count, ...range }) => ({ publish: { family, ...range }, count, allowed })),
    );
    const isEverywhere = ({ publish }: PublishedRange) => Number(publish.hostAddress === undefined);
    return ranges.sort((a, b) => isEverywhere(a) - isEverywhere(b));
  });
}

/** Who else decides about packets, and is not looked at. */
function warnOfUnfollowed({ tables, iptables }: OtherFirewalls, families: readonly Family[]): string[] {
  const others = firewallsOf({ tables, iptables: iptables.filter(({ family }) => families.includes(family)) });
  return others
    .filter(({ table }) => decides(table))
    .map(({ what, look }) => `${what} also filters packets, and is not followed here: '${look}' shows its rules`);
}
