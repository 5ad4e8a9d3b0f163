// Who tries a published port, in words. Pure.

import type { ProbeOrigin } from "../rules/probe.ts";

/** `container` is the one whose port it is. */
export function describeOrigin(from: ProbeOrigin, container: string): string {
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
