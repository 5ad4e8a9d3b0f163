// What a container's rules publish, for a person: the host's address and ports, and where they lead. Pure.

import { isLoopback } from "../model/addresses.ts";
import { FAMILIES, type Family } from "../model/family.ts";
import { bracketed, spellPublish } from "../model/port-mapping.ts";
import { type Source, spellSources } from "../model/sources.ts";
import type { ContainerFragment } from "./desired-fragment.ts";
import { type AllowForwarded, type ContainerRule, type Dnat, portAt } from "./model.ts";

export interface PublishedPorts {
  container: string;
  /** As 0.0.0.0:8080/tcp. */
  publish: string;
  /** The container's address and ports, as 172.17.0.2:80. */
  to: string;
  /** Who may connect from another machine: "everyone", the sources of its list, or "this host" alone. */
  from: string;
}

/**
 * In the order of the rules; a range of ports is one, but for lists of its own. What is accepted and no DNAT leads to is reached at the
 * container's own address: its network routes.
 */
export function publishedPorts({ owner, meaning }: ContainerFragment): PublishedPorts[] {
  return FAMILIES.flatMap((family) => {
    const rules = meaning[family];
    const lists = rules.filter((rule) => rule.kind === "allow-forwarded").filter(isIn);
    const direct = directParts(rules);
    return [
      ...rules.flatMap((rule) => (rule.kind === "dnat" ? partsOf(rule, lists) : [])),
      ...direct.flatMap((one) => partsOf(one, listsOfDirect(one, rules))),
    ].map((part) => describe(owner.name, family, part));
  });
}

/** The ports that have a list, as 0.0.0.0:8080/tcp, and who may connect to them from another machine. */
export function listedPorts(
  family: Family,
  rules: readonly ContainerRule[],
): Pick<PublishedPorts, "publish" | "from">[] {
  return rules.flatMap((rule) => {
    if ((rule.kind !== "allow-delivered" && rule.kind !== "allow-direct") || rule.direction !== "in") return [];
    const { ports, sources } = rule;
    const hostAddress = rule.kind === "allow-direct" ? rule.address : rule.hostAddress;
    const count = ports.last - ports.first + 1;
    const publish = spellPublish({ family, hostAddress, hostPort: ports.first, protocol: ports.protocol }, count);
    return [{ publish, from: spellSources(sources) }];
  });
}

/** Accepted ports to which no DNAT leads, as if one led from them to themselves. */
function directParts(rules: readonly ContainerRule[]): Dnat[] {
  const translated = translatedBy(rules);
  return rules.flatMap((rule) => {
    if (rule.kind !== "accept") return [];
    const { address, ports } = rule;
    return without(ports, translated.get(`${ports.protocol} ${address}`) ?? []).map((left) => ({
      ...({ kind: "dnat", hostAddress: address, exceptFrom: undefined } as const),
      ...{ ports: { protocol: ports.protocol, ...left }, to: { address, port: undefined, base: undefined } },
    }));
  });
}

type Interval = Pick<Dnat["ports"], "first" | "last">;

/** The container's ports to which DNATs lead, by protocol and address: in their order, and none twice. */
function translatedBy(rules: readonly ContainerRule[]): Map<string, Interval[]> {
  const all = new Map<string, Interval[]>();
  for (const rule of rules) {
    if (rule.kind !== "dnat") continue;
    const { to, ports } = rule;
    const key = `${ports.protocol} ${to.address}`;
    const known = all.get(key) ?? [];
    all.set(key, known);
    known.push({ first: portAt(to, ports.first), last: portAt(to, ports.last) });
  }
  for (const [key, some] of all) {
    const apart: Interval[] = [];
    for (const one of some.sort((a, b) => a.first - b.first)) {
      const last = apart.at(-1);
      if (last === undefined || one.first > last.last) apart.push({ ...one });
      else last.last = Math.max(last.last, one.last);
    }
    all.set(key, apart);
  }
  return all;
}

/** What is left of some ports without others, which are in their order. */
function without({ first, last }: Interval, others: readonly Interval[]): Interval[] {
  const left: Interval[] = [];
  let next = first;
  for (let at = firstReaching(others, first); at < others.length; at++) {
    const one = others[at];
    if (one === undefined || one.first > last) break;
    if (one.first > next) left.push({ first: next, last: one.first - 1 });
    next = one.last + 1;
  }
  if (next <= last) left.push({ first: next, last });
  return left;
}

/** The place of the first that does not end before a port; by halves. */
function firstReaching(others: readonly Interval[], port: number): number {
  let [low, high] = [0, others.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((others[middle]?.last ?? 0) < port) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The lists of ports that are reached at the container's own address; a filter there lets nobody in. */
function listsOfDirect({ to: { address } }: Dnat, rules: readonly ContainerRule[]): Listing[] {
  return rules.flatMap((rule) => {
    if (rule.kind === "allow-direct" && rule.direction === "in" && rule.address === address)
      return [{ hostAddress: address, ports: rule.ports, sources: rule.sources }];
    if (rule.kind === "direct-port-filter" && rule.address === address)
      return [{ hostAddress: address, ports: rule.ports, sources: [] }];
    return [];
  });
}

/** A list, and the ports that it is about. */
type Listing = Pick<AllowForwarded, "hostAddress" | "ports" | "sources">;

function isIn({ direction }: AllowForwarded): boolean {
  return direction === "in";
}

interface Part {
  dnat: Dnat;
  first: number;
  last: number;
  sources: readonly Source[] | undefined;
}

/** The ports of a DNAT, those with a list apart from each other and from those without. */
function partsOf(dnat: Dnat, lists: readonly Listing[]): Part[] {
  const { protocol, first, last } = dnat.ports;
  const own = lists
    .filter(({ hostAddress, ports }) => hostAddress === dnat.hostAddress && ports.protocol === protocol)
    .map(({ ports, sources }) => ({
      first: Math.max(first, ports.first),
      last: Math.min(last, ports.last),
      sources,
    }))
    .filter((one) => one.first <= one.last)
    .sort((a, b) => a.first - b.first);
  const parts: Part[] = [];
  let next = first;
  for (const one of own) {
    if (next < one.first) parts.push({ dnat, first: next, last: one.first - 1, sources: undefined });
    parts.push({ dnat, ...one });
    next = one.last + 1;
  }
  if (next <= last) parts.push({ dnat, first: next, last, sources: undefined });
  return parts;
}

function describe(container: string, family: Family, { dnat, first, last, sources }: Part): PublishedPorts {
  const { hostAddress, ports, to } = dnat;
  const [start, end] = [portAt(to, first), portAt(to, last)];
  const isLocal = hostAddress !== undefined && isLoopback(hostAddress);
  return {
    container,
    publish: spellPublish({ family, hostAddress, hostPort: first, protocol: ports.protocol }, last - first + 1),
    to: `${bracketed(to.address)}:${start === end ? start : `${start}-${end}`}`,
    from: isLocal ? "this host" : sources === undefined ? "everyone" : spellSources(sources),
  };
}
