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

/** In the order of the rules; a range of ports is one, but for lists of its own. */
export function publishedPorts({ owner, meaning }: ContainerFragment): PublishedPorts[] {
  return FAMILIES.flatMap((family) => {
    const lists = meaning[family].filter((rule) => rule.kind === "allow-forwarded").filter(isIn);
    return meaning[family].flatMap((rule) =>
      rule.kind === "dnat" ? partsOf(rule, lists).map((part) => describe(owner.name, family, part)) : [],
    );
  });
}

/** The ports that have a list, as 0.0.0.0:8080/tcp, and who may connect to them from another machine. */
export function listedPorts(
  family: Family,
  rules: readonly ContainerRule[],
): Pick<PublishedPorts, "publish" | "from">[] {
  return rules.flatMap((rule) => {
    if (rule.kind !== "allow-delivered" || rule.direction !== "in") return [];
    const { hostAddress, ports, sources } = rule;
    const count = ports.last - ports.first + 1;
    const publish = spellPublish({ family, hostAddress, hostPort: ports.first, protocol: ports.protocol }, count);
    return [{ publish, from: spellSources(sources) }];
  });
}

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
function partsOf(dnat: Dnat, lists: readonly AllowForwarded[]): Part[] {
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
