// The daemon's networks -> the base: what the host needs besides the containers' own rules. Pure.
//
//   10_docker  nat     the chain; PREROUTING and OUTPUT jump to it; POSTROUTING masquerades each network, and without
//                      docker-proxy what the host itself sends to a container from its loopback address
//              filter  the chain for the user's own rules; FORWARD asks it first, then drops what crosses an internal
//                      network's border, then accepts the answers to the others
//   90_docker  filter  FORWARD, behind the containers' accepts: first drop what may not enter a network, whoever sends
//                      it, then accept what comes from one
//
// They are Docker's own (docker 29, iptables backend). Every bridge's drops come before any bridge's accept, or one
// network's containers would reach the unpublished ports of another's.

import { basename } from "node:path/posix";
import type { Network } from "../docker/network.ts";
import { ownPart } from "../docker/overlaps.ts";
import { FAMILIES, type Family } from "../model/family.ts";
import type { Route } from "../system/routes.ts";
import { DOCKER_USER } from "./docker-rules.ts";
import { type DesiredFragment, fragmentText } from "./fragment-text.ts";
import { commentOf, type Rule, type Ruleset, type Table } from "./rule.ts";

/** The base's files, in both directories. No container can have these names. */
export const HOST_FILES = ["10_docker", "90_docker"] as const;

/** Whether a file of this path is one of them. */
export function isHostFile(path: string): boolean {
  return HOST_FILES.some((file) => file === basename(path));
}

interface Wishes {
  chain: string;
  guards: boolean;
  /** Whether docker-proxy answers what goes to the host's loopback address. */
  proxy: boolean;
  /** The host's, which may have a part of a network's subnet: nobody else's machines are masqueraded. */
  routes: readonly Route[];
}

/** Whose the rules of a base file are, as their comment has it. */
export function ownerOf(file: string): string {
  return `(${file})`;
}

/** Both fragments of the base for these families, their rules in the order of the networks. Networks without a bridge on this host (macvlan, overlay) need nothing. */
export function makeHostRules(
  networks: readonly Network[],
  families: readonly Family[],
  wishes: Wishes,
): DesiredFragment[] {
  const bridged = networks.filter(hasBridge);
  const [first, last] = HOST_FILES;
  return [
    fragmentOf(
      first,
      families,
      (family) => firstRules(reaching(bridged, family), family, wishes),
      { nat: wishes.chain, filter: DOCKER_USER },
      bridged,
    ),
    fragmentOf(last, families, (family) => lastRules(reaching(bridged, family), family, wishes.guards)),
  ];
}

type Bridged = Network & { bridge: string };

function hasBridge(network: Network): network is Bridged {
  return network.bridge !== undefined;
}

function reaching(networks: readonly Bridged[], family: Family): Bridged[] {
  return networks.filter(({ subnets }) => subnets[family].length > 0);
}

type Rules = Ruleset[Family];

function fragmentOf(
  file: string,
  families: readonly Family[],
  rulesOf: (family: Family) => Rules,
  chains: Partial<Record<Table, string>> = {},
  networks: readonly Bridged[] = [],
): DesiredFragment {
  const owner = ownerOf(file);
  const rules: Ruleset = { ipv4: {}, ipv6: {} };
  const texts: DesiredFragment["texts"] = {};
  for (const family of FAMILIES.filter((one) => families.includes(one))) {
    rules[family] = commented(rulesOf(family), owner);
    const notes = reaching(networks, family).map((network) => noteOf(network, family));
    texts[family] = fragmentText(owner, rules[family], { chains, notes });
  }
  return { owner, file, rules, options: {}, texts };
}

function firstRules(networks: readonly Bridged[], family: Family, { chain, proxy, routes }: Wishes): Rules {
  const toHost = ["-m", "addrtype", "--dst-type", "LOCAL"];
  const loopback = family === "ipv4" ? "127.0.0.0/8" : "::1/128";
  const outward = networks.filter(({ internal }) => !internal);
  // Inserted, so that nothing of the host's fragments comes before; and before the answers, so that a ban cuts a flow that stands.
  const usersFirst = ["-I", "FORWARD", "-j", DOCKER_USER];
  // Before the containers' accepts, or an internal network's containers would get in at what others publish.
  const borders = networks
    .filter(({ internal }) => internal)
    .flatMap(({ bridge }) => [
      ["-A", "FORWARD", "!", "-i", bridge, "-o", bridge, "-j", "DROP"],
      ["-A", "FORWARD", "-i", bridge, "!", "-o", bridge, "-j", "DROP"],
    ]);
  const answers = outward.map(({ bridge }) => [
    ...["-A", "FORWARD", "-o", bridge],
    ...["-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT"],
  ]);
  return {
    nat: [
      ["-A", "PREROUTING", ...toHost, "-j", chain],
      // What goes to the loopback address is docker-proxy's, where there is one.
      ["-A", "OUTPUT", ...(proxy ? ["!", "-d", loopback] : []), ...toHost, "-j", chain],
      ...outward
        .filter(({ masquerade }) => masquerade[family])
        .flatMap(({ name, bridge, subnets }) =>
          subnets[family]
            .flatMap((subnet) => ownPart({ network: name, bridge, subnet }, routes))
            .map((subnet) => ["-A", "POSTROUTING", "-s", subnet, "!", "-o", bridge, "-j", "MASQUERADE"]),
        ),
      ...(proxy ? [] : outward).map(({ bridge }) => [
        ...["-A", "POSTROUTING", "-o", bridge, "-m", "addrtype", "--src-type", "LOCAL", "-j", "MASQUERADE"],
      ]),
    ],
    filter: [usersFirst, ...borders, ...answers],
  };
}

/** icc=false holds whether or not there are guards, as an internal network's border does: somebody asked for that. */
function lastRules(networks: readonly Bridged[], family: Family, guards: boolean): Rules {
  const filter = [
    ...networks.flatMap(({ bridge, internal, unprotected }): Rule[] => {
      const enter = ["-A", "FORWARD", "!", "-i", bridge, "-o", bridge];
      if (internal) return [];
      if (unprotected[family]) return [[...enter, "-j", "ACCEPT"]];
      return guards ? [[...enter, "-j", "DROP"]] : [];
    }),
    ...networks
      .filter(({ icc }) => !icc)
      .map(({ bridge }) => ["-A", "FORWARD", "-i", bridge, "-o", bridge, "-j", "DROP"]),
    ...networks.map(({ bridge }) => ["-A", "FORWARD", "-i", bridge, "-j", "ACCEPT"]),
  ];
  return filter.length > 0 ? { filter } : {};
}

/** The comment stands before the target, where iptables-save prints it. */
function commented(rules: Rules, owner: string): Rules {
  const withComment = (rule: Rule) => [
    ...rule.slice(0, -2),
    "-m",
    "comment",
    "--comment",
    commentOf(owner),
    ...rule.slice(-2),
  ];
  return Object.fromEntries(Object.entries(rules).map(([table, lines]) => [table, lines.map(withComment)]));
}

/** For who reads the file: which network a bridge is. */
function noteOf({ name, bridge, subnets, internal }: Bridged, family: Family): string {
  const shown = name.replace(/[^\w.-]/g, "?").slice(0, 64);
  return `network ${shown}: ${bridge}, ${subnets[family].join(", ")}${internal ? ", internal" : ""}`;
}
