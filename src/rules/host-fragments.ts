// The host's rules as fragments: 10_docker before all containers' fragments, 90_docker behind them. Pure.

import type { Network } from "../docker/network.ts";
import { FAMILIES, type Family } from "../model/family.ts";
import { HOST_FILES } from "../model/owner.ts";
import { type HostFragment, noHostFragment } from "./desired-fragment.ts";
import { type Bridged, bridgedOf, type HostOptions, makeHostRules } from "./host-rules.ts";

/** Both fragments for these families; `chain` gets the DNATs. */
export function hostFragments(
  networks: readonly Network[],
  families: readonly Family[],
  { chain, ...options }: HostOptions & { chain: string },
): HostFragment[] {
  const [first, last] = HOST_FILES.map((file) => ({ ...noHostFragment(file), chain }));
  if (first === undefined || last === undefined) throw new Error("the host has two files");
  for (const family of FAMILIES.filter((one) => families.includes(one))) {
    const rules = makeHostRules(networks, family, options);
    first.meaning[family] = rules.first;
    last.meaning[family] = rules.last;
    first.notes[family] = bridgedOf(networks, family).map((network) => noteOf(network, family));
  }
  return [first, last];
}

/** For who reads the file: which network a bridge is. */
function noteOf({ name, bridge, subnets, internal }: Bridged, family: Family): string {
  const shown = name.replace(/[^\w.-]/g, "?").slice(0, 64);
  return `network ${shown}: ${bridge}, ${subnets[family].join(", ")}${internal ? ", internal" : ""}`;
}
