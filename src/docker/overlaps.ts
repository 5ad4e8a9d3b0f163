// Where a network's subnet is another interface's too: then packets to an address of it may be sent to that interface, whatever our
// rules say of the bridge, and an address there may be another machine's. The narrowest route decides, so a wider one does no harm;
// of two equal ones the kernel takes the older. Pure.

import { bitsOf, without } from "../model/addresses.ts";
import { FAMILIES } from "../model/family.ts";
import type { Interfaces } from "../system/interfaces.ts";
import type { Route } from "../system/routes.ts";
import { type Advice, adviceSentence } from "../text/advice.ts";
import type { Network } from "./network.ts";

/** A subnet of a network, and the bridge to which it should lead. */
export interface NetworkSubnet {
  network: string;
  bridge: string;
  subnet: string;
}

export interface Overlap extends NetworkSubnet {
  /** What other interfaces have of it; at least one. */
  others: Route[];
}

/** Undefined where no other interface has a part of the subnet. */
export function overlapOf(one: NetworkSubnet, routes: Interfaces["routes"]): Overlap | undefined {
  const bits = bitsOf(one.subnet);
  if (bits === undefined) return undefined;
  const others = routes.filter(({ name, bits: other }) => name !== one.bridge && other.startsWith(bits));
  return others.length === 0 ? undefined : { ...one, others };
}

/** Of all networks with a bridge on this host. */
export function overlapsOf(networks: readonly Network[], { names, routes }: Interfaces): Overlap[] {
  return networks.flatMap(({ name, bridge, subnets }) => {
    if (bridge === undefined || !names.has(bridge)) return [];
    const all = FAMILIES.flatMap((family) => subnets[family]);
    return all.flatMap((subnet) => overlapOf({ network: name, bridge, subnet }, routes) ?? []);
  });
}

/** What of a subnet no other interface has. */
export function ownPart(one: NetworkSubnet, routes: Interfaces["routes"]): string[] {
  const overlap = overlapOf(one, routes);
  if (overlap === undefined) return [one.subnet];
  return without(
    one.subnet,
    overlap.others.map(({ cidr }) => cidr),
  );
}

/** The narrowest subnet by which the kernel routes an address to a bridge; undefined where it has none. */
export function ownSubnet(address: string, bridge: string, { routes }: Interfaces): string | undefined {
  const bits = bitsOf(address) ?? "";
  const own = routes.filter((one) => one.name === bridge && bits.startsWith(one.bits));
  return own.sort((a, b) => b.bits.length - a.bits.length)[0]?.cidr;
}

export function describeOverlap(overlap: Overlap): string {
  return adviceSentence(adviseOverlap(overlap));
}

export function adviseOverlap({ network, bridge, subnet, others }: Overlap): Advice {
  const [first, ...more] = [...new Set(others.map(({ name, cidr }) => `${cidr} on ${name}`))];
  const what = `the subnet ${subnet} of the network ${network} (bridge ${bridge}) overlaps ${first}${more.length > 0 ? ` and ${more.length} more` : ""}: the kernel may route these addresses to either, so containers with such an address get no rules`;
  return { what, hint: "recreate the network with a subnet that no other interface has" };
}
