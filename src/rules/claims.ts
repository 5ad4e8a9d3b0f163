// What a container's fragment claims: ports of the host, and the container's own addresses. Whether two claim the same. Pure.
//
// A port on every address and the same port on one address are one claim made twice: the daemon cannot listen on both,
// and of two such rules the first takes the other's packets.

import type { ContainerRule, PortRange } from "./model.ts";

/** Host ports, from the first to the last. */
export interface Ports extends PortRange {
  /** In its canonical spelling; undefined for every address of the family. */
  hostAddress: string | undefined;
}

/** What one fragment claims, in one family. */
export interface Claims {
  ports: readonly Ports[];
  /** The container's addresses that it names. */
  addresses: ReadonlySet<string>;
}

/** What these rules claim: the ports that they publish, and every address that they name. */
export function claimsOf(rules: readonly ContainerRule[]): Claims {
  const ports = rules.flatMap((rule) =>
    rule.kind === "dnat" ? [{ hostAddress: rule.hostAddress, ...rule.ports }] : [],
  );
  return { ports, addresses: new Set(leadsOf(rules).map(({ address }) => address)) };
}

/** Where these rules lead: to a container's address, and its bridge where they name it. */
export function leadsOf(rules: readonly ContainerRule[]): { address: string; bridge: string | undefined }[] {
  return rules.flatMap((rule) => leadOf(rule) ?? []);
}

function leadOf(rule: ContainerRule): { address: string; bridge: string | undefined } | undefined {
  switch (rule.kind) {
    case "dnat":
      return { address: rule.to.address, bridge: rule.exceptFrom };
    case "hairpin":
      return { address: rule.address, bridge: undefined };
    case "accept":
    case "direct-access-filter":
    case "direct-port-filter":
      return { address: rule.address, bridge: rule.bridge };
    case "direct-access-accept":
      return { address: rule.address, bridge: undefined };
    case "allow-forwarded":
    case "allow-direct":
      // Of the answers the container is the source.
      return rule.direction === "in" ? { address: rule.address, bridge: rule.bridge } : undefined;
    case "loopback-filter":
    case "allow-delivered":
      return undefined;
  }
}

/** The ports that both are, or undefined. */
export function sharedRange(mine: Ports, theirs: Ports): Ports | undefined {
  if (mine.protocol !== theirs.protocol) return undefined;
  const first = Math.max(mine.first, theirs.first);
  const last = Math.min(mine.last, theirs.last);
  if (first > last) return undefined;
  const [one, other] = [mine.hostAddress, theirs.hostAddress];
  if (one !== undefined && other !== undefined && one !== other) return undefined;
  return { hostAddress: one ?? other, protocol: mine.protocol, first, last };
}

/** Whether these are ports at all, in their order: a foreign file may say anything. */
export function isRange({ first, last }: Pick<Ports, "first" | "last">): boolean {
  return 0 <= first && first <= last && last <= 65_535;
}
