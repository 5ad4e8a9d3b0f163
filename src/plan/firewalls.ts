// Who else decides about the packets of published ports, and what to do about it: for status, and for what a call changes.

import type { Problem } from "../generated/result.ts";
import { DOCKER_TABLES } from "../iptables/docker-rules.ts";
import { builtInChains } from "../iptables/table-text.ts";
import type { Family } from "../model/family.ts";
import { spellOwner } from "../model/owner.ts";
import type { Loading } from "../model/request.ts";
import type { BackendRules, OtherFirewalls, Variant } from "../netfilter/foreign-firewalls.ts";
import { adviseNetavark, adviseNetworks, servesAddress } from "../netfilter/netavark.ts";
import {
  type Arriving,
  asksForPorts,
  type BaseChain,
  barrierIn,
  decides,
  type NftTable,
  tablesOf,
} from "../netfilter/nft-tables.ts";
import { portAt } from "../rules/model.ts";
import { type Advice, adviceSentence } from "../text/advice.ts";
import type { Item } from "./item.ts";
import { adviseUnzoned, listOther, type PreflightFindings, withoutNetavark } from "./preflight.ts";

/** A table of another firewall. */
export interface Firewall {
  table: NftTable;
  /** As a sentence names it. */
  what: string;
  /** The command that shows it. */
  look: string;
  /** The command that lets pass, at this base chain, what a DNAT has translated, in both directions. */
  admit: (chain: string) => string;
}

/**
 * Of firewalls that let no packet pass to the ports that these rules publish, and of podman's own, which publishes some of them, too.
 * They are only looked at where something is published.
 */
export async function warnOfFirewalls(items: readonly Item[], look: () => Promise<OtherFirewalls>): Promise<string[]> {
  if (!items.some(({ meaning }) => meaning.some(({ kind }) => kind === "accept"))) return [];
  return warnOfOthers(await look(), items);
}

/** The same, of what is at hand. Pure. */
export function warnOfOthers(others: OtherFirewalls, items: readonly Item[]): string[] {
  const ports = items.flatMap(portsOf);
  const closed = barriers(firewallsOf(others), ports).map(({ advice }) => advice);
  return [...adviseOfPodman(others.tables, ports), ...closed].map(adviceSentence);
}

function adviseOfPodman(tables: readonly NftTable[], ports: readonly Port[]): Advice[] {
  // A container has few addresses, and perhaps thousands of ports.
  const addresses = [...new Set(ports.map(({ address }) => address))];
  const served = new Set(addresses.filter((address) => servesAddress(tables, address)));
  const owners = ports.filter(({ address }) => served.has(address)).map(({ owner }) => owner);
  return owners.length === 0 ? [] : [adviseNetavark([...new Set(owners)].join(", "), "nftables")];
}

/** What status reports of other firewalls: problems, and tables that only filter, too. `isOff`: the daemon makes no rules. */
export function firewallProblems(
  { families, tables, firewalld, unzoned, netavark, iptables }: PreflightFindings,
  items: readonly Item[],
  isOff: boolean,
  { reload }: Loading,
): { problems: Problem[]; warnings: string[] } {
  const left = isOff ? tables.filter(({ name }) => DOCKER_TABLES.includes(name)) : [];
  const others = firewallsOf({
    tables: withoutNetavark(tables, netavark).filter((table) => !left.includes(table)),
    iptables,
  });
  // Of these alone is said that they are there.
  const known = families.flatMap(({ family, other }) =>
    other === undefined ? [] : backendFirewalls({ family, ...other }),
  );
  const closed = barriers([...others, ...known], items.flatMap(portsOf));
  const unblocked = others.filter(
    ({ table }) => decides(table) && !closed.some(({ firewall }) => firewall.table === table),
  );
  const found = [
    ...left.map(adviseLeft),
    ...(netavark === undefined ? [] : [adviseNetworks(netavark)]),
    ...families.flatMap(adviseOther),
    ...(firewalld && reload === "systemd" ? [FIREWALLD] : adviseUnzoned(unzoned)),
    ...closed.map(({ advice }) => advice),
  ];
  return {
    problems: found.map(({ what, hint }) => ({ kind: "firewall_foreign", msg: what, hint })),
    warnings: unblocked.map(({ what, look }) => `${what} also filters packets: '${look}' shows its rules`),
  };
}

const FIREWALLD: Advice = {
  what: "firewalld is running, and systemd stops iptables.service when firewalld starts, and firewalld when iptables.service starts",
  hint: "'systemctl disable --now firewalld', or, to keep it, 'docker_iptables setup --reload patch'",
};

function adviseLeft({ name }: NftTable): Advice {
  const what = `Docker's nftables table ${name} remains from before its daemon was told to make no rules, and still drops packets`;
  return { what, hint: "'docker_iptables setup' removes it" };
}

function adviseOther({ family, other }: PreflightFindings["families"][number]): Advice[] {
  if (other === undefined) return [];
  const command = commandFor(family, other.backend);
  const what = `the ${other.backend} backend of iptables also filters packets: ${listOther(other)}`;
  return [{ what, hint: `'${command}' shows its rules, and 'docker_iptables setup' says how to handle them` }];
}

/** Of iptables' tables it is iptables' own command that changes them. Pure. */
function nftFirewall(table: NftTable): Firewall {
  const { name } = table;
  const [family = "", words = ""] = name.split(" ");
  const isIptables = (chain: string) => ["ip", "ip6"].includes(family) && builtInChains(words).includes(chain);
  return {
    table,
    what: `the nftables table ${name}`,
    look: `nft list table ${name}`,
    admit: (chain) =>
      isIptables(chain)
        ? admitByIptables(family === "ip" ? "iptables" : "ip6tables", chain)
        : `nft insert rule ${name} ${chain} ct status dnat accept`,
  };
}

/** Pure. */
export function firewallsOf({ tables, iptables }: OtherFirewalls): Firewall[] {
  return [...tables.map(nftFirewall), ...iptables.flatMap(backendFirewalls)];
}

function backendFirewalls({ family, backend, live }: BackendRules): Firewall[] {
  const program = `${family === "ipv4" ? "iptables" : "ip6tables"}-${backend}`;
  return tablesOf(live, family).map((table) => ({
    table,
    what: `${program}'s table ${table.name}`,
    look: commandFor(family, backend),
    admit: (chain) => admitByIptables(program, chain),
  }));
}

function commandFor(family: Family, backend: Variant): string {
  return `${family === "ipv4" ? "iptables" : "ip6tables"}-${backend}-save`;
}

/** What lets pass, in both directions, what a DNAT has translated. */
export function admitByIptables(program: string, chain: string): string {
  return `${program} -I ${chain} -m conntrack --ctstate DNAT -j ACCEPT`;
}

interface Port {
  owner: string;
  /** The container's. */
  address: string;
  packet: Arriving;
}

/** What a fragment's rules let in: a container's port behind its bridge, and the host's ports that lead there. */
function portsOf({ owner, family, meaning }: Item): Port[] {
  const hostPorts = new Map<string, number[]>();
  for (const rule of meaning) {
    if (rule.kind !== "dnat") continue;
    const { protocol, first, last } = rule.ports;
    const place = `${protocol} ${rule.to.address} ${portAt(rule.to, first)}`;
    const ports = hostPorts.get(place) ?? [];
    ports.push(first, last);
    hostPorts.set(place, ports);
  }
  return meaning.flatMap((rule) => {
    if (rule.kind !== "accept") return [];
    const { protocol, first } = rule.ports;
    const ports = [first, ...(hostPorts.get(`${protocol} ${rule.address} ${first}`) ?? [])];
    return [
      { owner: spellOwner(owner), address: rule.address, packet: { family, protocol, ports, bridge: rule.bridge } },
    ];
  });
}

/** One for each chain that lets nothing through to some of these ports. */
function barriers(firewalls: readonly Firewall[], ports: readonly Port[]): { firewall: Firewall; advice: Advice }[] {
  return firewalls.flatMap((firewall) => {
    const barrierFor = barriersOf(firewall.table, ports.length);
    const closed = ports.flatMap(({ owner, packet }) => {
      const chain = barrierFor(packet);
      return chain === undefined ? [] : [{ owner, packet, chain: chain.name, hook: chain.hook }];
    });
    const [one] = closed;
    if (one === undefined) return [];
    const owners = [...new Set(closed.map(({ owner }) => owner))].join(", ");
    const what = `${firewall.what} drops all connections from other machines to ${owners}: its chain ${one.chain} ends in a drop, and none of its rules accepts the port`;
    const way =
      one.hook === "forward"
        ? `; '${firewall.admit(one.chain)}' lets what is published pass: add that where its rules come from`
        : ": add a rule that accepts what is published";
    const hint = `'${firewall.look}' shows it${way}`;
    return [{ firewall, advice: { what, hint } }];
  });
}

/** `barrierIn` of a table for so many packets: those that it cannot tell apart are walked through its rules once. */
function barriersOf(table: NftTable, count: number): (packet: Arriving) => BaseChain | undefined {
  if (count < 2 || asksForPorts(table)) return (packet) => barrierIn(table, packet);
  const known = new Map<string, BaseChain | undefined>();
  return (packet) => {
    const key = [packet.family, packet.protocol, packet.bridge].join(" ");
    if (!known.has(key)) known.set(key, barrierIn(table, packet));
    return known.get(key);
  };
}
