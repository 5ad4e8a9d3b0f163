// What a container's rules publish, for a person: the host's address and ports, and where they lead. Pure.

import { FAMILIES, type Family } from "../model/family.ts";
import { bracketed, spellPublish } from "../model/port-mapping.ts";
import type { ContainerFragment } from "./desired-fragment.ts";
import { type Dnat, portAt } from "./model.ts";

export interface PublishedPorts {
  container: string;
  /** As 0.0.0.0:8080/tcp. */
  publish: string;
  /** The container's address and ports, as 172.17.0.2:80. */
  to: string;
  /** Who may connect: nobody but this host, where the address is one of its loopback's. */
  from: "everyone" | "this host";
}

/** In the order of the rules; a range of ports is one. */
export function publishedPorts({ owner, meaning }: ContainerFragment): PublishedPorts[] {
  return FAMILIES.flatMap((family) =>
    meaning[family].flatMap((rule) => (rule.kind === "dnat" ? [describe(owner.name, family, rule)] : [])),
  );
}

function describe(container: string, family: Family, { hostAddress, ports, to }: Dnat): PublishedPorts {
  const { protocol, first, last } = ports;
  const [start, end] = [portAt(to, first), portAt(to, last)];
  return {
    container,
    publish: spellPublish({ family, hostAddress, hostPort: first, protocol }, last - first + 1),
    to: `${bracketed(to.address)}:${start === end ? start : `${start}-${end}`}`,
    from: hostAddress !== undefined && /^(127\.|::1$)/.test(hostAddress) ? "this host" : "everyone",
  };
}
