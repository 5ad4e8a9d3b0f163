// Who tries a published port, in words. Pure.

import type { View } from "../iptables/views.ts";
import { withoutHostMask } from "../model/addresses.ts";
import type { ProbeOrigin } from "../rules/probe.ts";

/** How many subnets a line names. */
const NAMED = 3;

/** Which clients a view is of: those of their kind, or of some sources and interfaces alone. `container` is the one whose port it is. */
export function describeClients({ from, sources, interfaces }: View, container: string): string {
  const { subnets = [], rest } = sources ?? {};
  const more = subnets.length - NAMED;
  const named = subnets.slice(0, NAMED).map(withoutHostMask).join(", ");
  const parts = [named, more > 0 ? `${more} more` : "", rest === undefined ? "" : "elsewhere"].filter(Boolean);
  const last = parts.length > 1 ? ` and ${parts.at(-1)}` : "";
  const first = last === "" ? parts : parts.slice(0, -1);
  const by = interfaces === undefined || from.kind === "other_bridge" ? "" : ` by ${interfaces.join(", ")}`;
  return `${describeOrigin(from, container)}${parts.length > 0 ? ` from ${first.join(", ")}${last}` : ""}${by}`;
}

function describeOrigin(from: ProbeOrigin, container: string): string {
  switch (from.kind) {
    case "machine":
      return "another machine";
    case "host":
      return "this host";
    case "container":
      return `${container} itself`;
    case "loopback_router":
      return `an on-link host that routes ${from.address} to this host`;
    case "container_router":
      return "an on-link host that routes the container's address to this host";
    case "bridge_peer":
      return `a container on the same network (${from.bridge})`;
    case "other_bridge":
      return `a container on another network (${from.bridge})`;
  }
}
