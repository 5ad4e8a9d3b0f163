// podman's own firewall, netavark: whether it makes rules for a network, and what to do about it. Pure.
//
// Its rules stay when it is switched off, and then lead to addresses that containers had before (tried, netavark 1.14 and 1.17).

import type { Network } from "../docker/network.ts";
import { isWithin } from "../model/addresses.ts";
import type { Advice } from "../text/advice.ts";
import type { NftTable, Statements } from "./nft-tables.ts";

/** The table of its nftables driver. */
export const NETAVARK_TABLE = "inet netavark";

/** Rules of its iptables driver: its chains, and the jumps to them. */
const NETAVARK_RULE = / NETAVARK[-_]/;

/** podman's networks for which its own firewall has rules. */
export interface Netavark {
  networks: string[];
  /** By which driver. */
  driver: "nftables" | "iptables";
}

/** By the tables of nftables, else by the iptables rules that no fragment declares; undefined where it has none. */
export function findNetavark(
  networks: readonly Network[],
  tables: readonly NftTable[],
  undeclared: readonly string[],
): Netavark | undefined {
  const podmans = networks.filter(({ isPodmans }) => isPodmans);
  const served = podmans.filter(({ subnets: { ipv4, ipv6 } }) =>
    [...ipv4, ...ipv6].some((subnet) => servesAddress(tables, subnet.replace(/\/.*/, ""))),
  );
  if (served.length > 0) return { networks: served.map(({ name }) => name), driver: "nftables" };
  if (podmans.length === 0 || !undeclared.some(isNetavarksRule)) return undefined;
  return { networks: podmans.map(({ name }) => name), driver: "iptables" };
}

export function isNetavarksRule(rule: string): boolean {
  return NETAVARK_RULE.test(rule);
}

/** Whether its table has a rule for a subnet that holds this address. */
export function servesAddress(tables: readonly NftTable[], address: string): boolean {
  const rules = tables.find(({ name }) => name === NETAVARK_TABLE)?.rules?.values() ?? [];
  return [...rules].some((some) => some.some((rule) => subnetsOf(rule).some((subnet) => isWithin(address, subnet))));
}

/** The subnets that a rule matches: libnftables-json(5), "prefix". */
function subnetsOf(rule: Statements): string[] {
  return rule.flatMap(({ match }) => {
    const { op, right } = fieldsOf(match);
    const { addr, len } = fieldsOf(fieldsOf(right)["prefix"]);
    return op === "==" && typeof addr === "string" ? [`${addr}/${len}`] : [];
  });
}

/** That both publish, and how to have one publish alone; `whose` as "web" or "the networks a, b". */
export function adviseNetavark(whose: string, driver: Netavark["driver"]): Advice {
  const where = driver === "nftables" ? `the nftables table ${NETAVARK_TABLE}` : "iptables' chains NETAVARK…";
  const rest =
    driver === "nftables" ? `'nft delete table ${NETAVARK_TABLE}' removes that table` : "replace: true removes them";
  return {
    what: `podman's own firewall also publishes the ports of ${whose} (${where}), and its rules can lead to addresses that containers had before`,
    hint: `put 'firewall_driver = "none"' below [network] in /etc/containers/containers.conf; then ${rest}`,
  };
}

/** The same for its networks. */
export function adviseNetworks({ networks, driver }: Netavark): Advice {
  return adviseNetavark(`podman's ${networks.length === 1 ? "network" : "networks"} ${networks.join(", ")}`, driver);
}

function fieldsOf(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? { ...value } : {};
}
