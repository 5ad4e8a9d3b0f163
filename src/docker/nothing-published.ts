// Why a container publishes nothing, or leads nowhere with what it publishes: the facts, and their words. Pure.

import { GATEWAY_BRIDGE } from "./network.ts";

/** Why a container publishes nothing. */
export type NothingPublished =
  | { kind: "host_network" | "no_network" | "no_port" }
  /** It uses another container's network. */
  | { kind: "shared_network"; of: string };

/** Why what a container publishes leads nowhere: it is in overlay networks only, or in no bridged network. */
export type Nowhere = "overlay" | "no_address";

export function describeNothingPublished(name: string, nothingPublished: NothingPublished): string {
  switch (nothingPublished.kind) {
    case "host_network":
      return `${name} uses the host's own network and publishes nothing`;
    case "no_network":
      return `${name} has no network and publishes nothing`;
    case "shared_network":
      return `${name} shares the network of container ${nothingPublished.of} and publishes nothing itself`;
    case "no_port":
      return `${name} publishes no port`;
  }
}

/** What is said after the container's name. */
export function describeNowhere(nowhere: Nowhere): string {
  return nowhere === "overlay"
    ? `is in overlay networks only, without an address in ${GATEWAY_BRIDGE}`
    : "has no address in any bridged network (rootless?)";
}

/** Why no rules are made of a container that runs. */
export type SkipReason = "disabled" | "unusable" | "not_located";

const SKIPPED: Record<SkipReason, string> = {
  disabled: "is disabled by its label",
  unusable: "cannot be used",
  not_located: "cannot be located",
};

/** What is said after the container's name. */
export function describeSkipped(why: SkipReason): string {
  return SKIPPED[why];
}
