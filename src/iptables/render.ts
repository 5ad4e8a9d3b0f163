// Rules as iptables' argument vectors: the one place that knows how each kind is written. Pure.
//
//   raw     PREROUTING   loopback-filter, direct-access-accept, direct-access-filter
//   mangle  FORWARD      allow-forwarded, allow-direct, direct-port-filter
//           INPUT        allow-delivered
//           OUTPUT       allow-delivered, the answers
//           ALLOW-…      the sources of one list, each a return, then a drop
//   nat     the chain    dnat
//           PREROUTING   published-ports, from others
//           OUTPUT       published-ports, from the host
//           POSTROUTING  hairpin, masquerade, masquerade-host
//   filter  FORWARD      user-rules (inserted), internal, replies; accept; icmp, unpublished, isolated, outgoing
//
// They are Docker's own (docker 29, iptables backend), in the chain that `--iptables=false` leaves to us.

import { withHostMask } from "../model/addresses.ts";
import type { Family } from "../model/family.ts";
import { bracketed } from "../model/port-mapping.ts";
import type { Source } from "../model/sources.ts";
import type {
  AllowDelivered,
  AllowDirect,
  AllowForwarded,
  ContainerRule,
  Destination,
  Dnat,
  HostRule,
  PortRange,
} from "../rules/model.ts";
import { DOCKER_USER } from "./docker-rules.ts";
import { listChainOf } from "./list-chains.ts";
import { commentOf, type Rule, type Ruleset, TABLES, type Table } from "./rule.ts";

/** What iptables' rules have besides their meaning. */
export interface Rendering {
  /** Whose rules they are, in the comment of each. */
  owner: string;
  /** The chain of the nat table that gets the DNATs. */
  chain: string;
}

/** By table, in the order in which they are given. */
export function renderRules(
  rules: readonly (ContainerRule | HostRule)[],
  family: Family,
  rendering: Rendering,
): Ruleset[Family] {
  const tables: Partial<Record<Table, Rule[]>> = {};
  const lists = new Map<string, List>();
  // Many rules share a list, which may be long.
  const names = { in: new Map<readonly Source[], string>(), out: new Map<readonly Source[], string>() };
  const chainOf = (list: List): string => {
    const known = names[list.direction];
    const name = known.get(list.sources) ?? listChain(rendering.owner, list);
    known.set(list.sources, name);
    lists.set(name, list);
    return name;
  };
  const add = ({ table, match, target }: Rendered) => {
    tables[table] ??= [];
    // The comment is before the target, where iptables-save prints it.
    tables[table].push([...match, "-m", "comment", "--comment", commentOf(rendering.owner), ...target]);
  };
  for (const rule of rules) add(render(rule, family, rendering.chain, chainOf));
  for (const [chain, list] of lists) for (const one of renderList(chain, list)) add(one);
  return Object.fromEntries(TABLES.flatMap((table) => (tables[table] ? [[table, tables[table]]] : [])));
}

type List = Pick<AllowForwarded, "direction" | "sources">;

interface Rendered {
  table: Table;
  /** The command, the chain and the matches. */
  match: Rule;
  target: Rule;
}

const LOOPBACK: Record<Family, string> = { ipv4: "127.0.0.0/8", ipv6: "::1/128" };
/** As iptables-save prints them. */
const ICMP: Record<Family, string> = { ipv4: "icmp", ipv6: "ipv6-icmp" };
const LOCAL_DESTINATION = ["-m", "addrtype", "--dst-type", "LOCAL"];

function render(
  rule: ContainerRule | HostRule,
  family: Family,
  chain: string,
  chainOf: (list: List) => string,
): Rendered {
  switch (rule.kind) {
    case "loopback-filter":
      return raw(["-d", withHostMask(rule.hostAddress), "!", "-i", "lo", ...portMatch(rule.ports)]);
    case "direct-access-filter":
      return raw(["-d", withHostMask(rule.address), "!", "-i", rule.bridge]);
    case "direct-access-accept":
      return raw(["-d", withHostMask(rule.address), "-i", rule.by], "ACCEPT");
    case "allow-forwarded":
      return mangle("FORWARD", forwardedMatch(rule), chainOf(rule));
    case "allow-delivered":
      return mangle(rule.direction === "in" ? "INPUT" : "OUTPUT", deliveredMatch(rule), chainOf(rule));
    case "allow-direct":
      return mangle("FORWARD", directMatch(rule), chainOf(rule));
    case "direct-port-filter":
      return mangle("FORWARD", directMatch({ ...rule, direction: "in" }), "DROP");
    case "dnat":
      return dnat(rule, family, chain);
    case "hairpin":
      return masquerade(["-s", rule.source, "-d", withHostMask(rule.address), ...portMatch(rule.ports)]);
    case "accept": {
      const { address, bridge, ports } = rule;
      return forward(["-d", withHostMask(address), "!", "-i", bridge, "-o", bridge, ...portMatch(ports)], "ACCEPT");
    }
    case "published-ports": {
      const hook = rule.from === "host" ? "OUTPUT" : "PREROUTING";
      const except = rule.from === "host" && rule.exceptLoopback ? ["!", "-d", LOOPBACK[family]] : [];
      return { table: "nat", match: ["-A", hook, ...except, ...LOCAL_DESTINATION], target: ["-j", chain] };
    }
    case "masquerade":
      return masquerade(["-s", rule.subnet, "!", "-o", rule.bridge], rule.hostAddress);
    case "masquerade-host":
      return masquerade(["-o", rule.bridge, "-m", "addrtype", "--src-type", "LOCAL"], rule.hostAddress);
    case "user-rules":
      return { table: "filter", match: ["-I", "FORWARD"], target: ["-j", DOCKER_USER] };
    case "internal": {
      const crossing = rule.direction === "in" ? entering(rule.bridge) : ["-i", rule.bridge, "!", "-o", rule.bridge];
      return forward(crossing, "DROP");
    }
    case "replies":
      return forward(["-o", rule.bridge, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED"], "ACCEPT");
    case "icmp":
      return forward(["-o", rule.bridge, "-p", ICMP[family]], "ACCEPT");
    case "unpublished":
      return forward(entering(rule.bridge), rule.verdict === "accept" ? "ACCEPT" : "DROP");
    case "isolated":
      return forward(["-i", rule.bridge, "-o", rule.bridge], "DROP");
    case "outgoing":
      return forward(["-i", rule.bridge], "ACCEPT");
  }
}

function raw(matches: Rule, target: "ACCEPT" | "DROP" = "DROP"): Rendered {
  return { table: "raw", match: ["-A", "PREROUTING", ...matches], target: ["-j", target] };
}

function mangle(hook: "FORWARD" | "INPUT" | "OUTPUT", matches: Rule, target: string): Rendered {
  return { table: "mangle", match: ["-A", hook, ...matches], target: ["-j", target] };
}

/**
 * Two host ports may lead to one container port, and the kernel may take another one of a DNAT's range: conntrack knows to which port a
 * connection came, and which way a packet goes.
 */
function forwardedMatch({ direction, hostAddress, ports, address, bridge }: AllowForwarded): Rule {
  const crossing =
    direction === "in"
      ? ["-d", withHostMask(address), ...entering(bridge)]
      : ["-s", withHostMask(address), "-i", bridge, "!", "-o", bridge];
  return [
    ...[...crossing, "-p", ports.protocol, "-m", "conntrack", "--ctstate", "DNAT"],
    ...(hostAddress === undefined ? [] : ["--ctorigdst", hostAddress]),
    ...["--ctorigdstport", spellPorts(ports), "--ctdir", direction === "in" ? "ORIGINAL" : "REPLY"],
  ];
}

/** What comes to the container's own address; not the answers to what it sends from such a port itself. */
function directMatch({ direction, address, bridge, ports }: Omit<AllowDirect, "kind" | "sources">): Rule {
  const crossing =
    direction === "in"
      ? ["-d", withHostMask(address), ...entering(bridge), ...portMatch(ports)]
      : ["-s", withHostMask(address), "-i", bridge, "!", "-o", bridge, ...sourcePortMatch(ports)];
  const ctdir = direction === "in" ? "ORIGINAL" : "REPLY";
  return [...crossing, "-m", "conntrack", "!", "--ctstate", "DNAT", "--ctdir", ctdir];
}

function deliveredMatch({ direction, hostAddress, ports, bridge }: AllowDelivered): Rule {
  const host = hostAddress === undefined ? [] : [direction === "in" ? "-d" : "-s", withHostMask(hostAddress)];
  const others = bridge === undefined ? [] : ["!", direction === "in" ? "-i" : "-o", bridge];
  // Conntrack takes what it sees of a standing flow first for its first packet, and that may be an answer (tried, 6.18).
  return [...host, ...others, ...(direction === "in" ? portMatch(ports) : sourcePortMatch(ports))];
}

/** The sources of a list, each a return; what has come from none of them is dropped. What the host sends to itself goes by lo. */
function renderList(chain: string, { direction, sources }: List): Rendered[] {
  const rule = (match: Rule, target: string): Rendered => ({
    table: "mangle",
    match: ["-A", chain, ...match],
    target: ["-j", target],
  });
  const [other, interfaceOf] = direction === "in" ? ["-s", "-i"] : ["-d", "-o"];
  const matches = [{ subnet: undefined, by: "lo" }, ...sources].map(({ subnet, by }) => [
    ...(subnet === undefined ? [] : [other, subnet]),
    ...(by === undefined ? [] : [interfaceOf, by]),
  ]);
  return [...matches.map((match) => rule(match, "RETURN")), rule([], "DROP")];
}

/** Of an owner and a list: the same list of the same owner is one chain, and no other's is. */
function listChain(owner: string, { direction, sources }: List): string {
  return listChainOf(JSON.stringify([owner, direction, ...sources.map(({ subnet, by }) => [subnet ?? "", by ?? ""])]));
}

/** With an address of the host's that is given, it is not the kernel's choice. */
function masquerade(matches: Rule, hostAddress?: string): Rendered {
  const target = hostAddress === undefined ? ["MASQUERADE"] : ["SNAT", "--to-source", hostAddress];
  return { table: "nat", match: ["-A", "POSTROUTING", ...matches], target: ["-j", ...target] };
}

function forward(matches: Rule, target: "ACCEPT" | "DROP"): Rendered {
  return { table: "filter", match: ["-A", "FORWARD", ...matches], target: ["-j", target] };
}

function entering(bridge: string): Rule {
  return ["!", "-i", bridge, "-o", bridge];
}

function dnat({ hostAddress, ports, to, exceptFrom }: Dnat, family: Family, chain: string): Rendered {
  const matches = [
    // Link-local clients cannot be answered through a DNAT: the reply would leave by another interface (Docker's rule).
    ...(family === "ipv6" ? ["!", "-s", "fe80::/10"] : []),
    ...(hostAddress === undefined ? [] : ["-d", withHostMask(hostAddress)]),
    ...(exceptFrom === undefined ? [] : ["!", "-i", exceptFrom]),
    ...portMatch(ports),
  ];
  return {
    table: "nat",
    match: ["-A", chain, ...matches],
    target: ["-j", "DNAT", "--to-destination", destination(to, ports)],
  };
}

/**
 * iptables-extensions(8), DNAT: a bare address keeps the port; `first-last/base` maps one to one, which `first-last` alone
 * does not (tried, 1.8.9). An IPv6 address without a port lists without brackets.
 */
function destination({ address, port, base }: Destination, { first, last }: PortRange): string {
  if (port === undefined) return address;
  const ports = base === undefined ? port : `${port}-${port + last - first}/${base}`;
  return `${bracketed(address)}:${ports}`;
}

function portMatch(ports: PortRange): Rule {
  return ["-p", ports.protocol, "-m", ports.protocol, "--dport", spellPorts(ports)];
}

function sourcePortMatch(ports: PortRange): Rule {
  return ["-p", ports.protocol, "-m", ports.protocol, "--sport", spellPorts(ports)];
}

function spellPorts({ first, last }: PortRange): string {
  return first === last ? String(first) : `${first}:${last}`;
}
