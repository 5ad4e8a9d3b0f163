// The host's rules as fragments: 10_docker before all containers' fragments, 90_docker behind them. Pure.
//
// 10_docker declares the chain of the DNATs, and the one for the user's own rules.

import type { Network } from "../docker/network.ts";
import { FAMILIES, type Family } from "../model/family.ts";
import { HOST_FILES, hostOwner, spellOwner } from "../model/owner.ts";
import { type Bridged, bridgedOf, type HostOptions, makeHostRules } from "../rules/host-rules.ts";
import type { HostRule } from "../rules/model.ts";
import { DOCKER_USER } from "./docker-rules.ts";
import { type DesiredFragment, fragmentText, NOTHING_DESIRED } from "./fragment-text.ts";
import { renderRules } from "./render.ts";
import type { Table } from "./rule.ts";

/** Both fragments for these families; `chain` gets the DNATs. */
export function hostFragments(
  networks: readonly Network[],
  families: readonly Family[],
  { chain, ...options }: HostOptions & { chain: string },
): DesiredFragment[] {
  const [first, last] = HOST_FILES;
  const wanted = [noHostFragment(first), noHostFragment(last)] as const;
  for (const family of FAMILIES.filter((one) => families.includes(one))) {
    const rules = makeHostRules(networks, family, options);
    const notes = bridgedOf(networks, family).map((network) => noteOf(network, family));
    fill(wanted[0], family, rules.first, { chain, chains: { nat: chain, filter: DOCKER_USER }, notes });
    fill(wanted[1], family, rules.last, { chain });
  }
  return [...wanted];
}

/** A host's file that is to be removed. */
export function noHostFragment(file: string): DesiredFragment {
  return { ...NOTHING_DESIRED, owner: hostOwner(file), rules: { ipv4: {}, ipv6: {} }, texts: {} };
}

interface Besides {
  chain: string;
  chains?: Partial<Record<Table, string>>;
  notes?: readonly string[];
}

function fill(one: DesiredFragment, family: Family, rules: readonly HostRule[], { chain, ...besides }: Besides): void {
  one.rules[family] = renderRules(rules, family, { owner: spellOwner(one.owner), chain });
  one.texts[family] = fragmentText(spellOwner(one.owner), one.rules[family], besides);
}

/** For who reads the file: which network a bridge is. */
function noteOf({ name, bridge, subnets, internal }: Bridged, family: Family): string {
  const shown = name.replace(/[^\w.-]/g, "?").slice(0, 64);
  return `network ${shown}: ${bridge}, ${subnets[family].join(", ")}${internal ? ", internal" : ""}`;
}
