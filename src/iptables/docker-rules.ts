// Rules that Docker is known to make where it manages iptables itself: what such a daemon leaves behind. Pure.

import ipaddr from "ipaddr.js";
import { canonicalSubnet, withoutHostMask } from "../model/addresses.ts";
import type { Live } from "./live.ts";
import { INGRESS_CHAIN } from "./mesh.ts";
import { argumentOf, keyOf, type Rule, readWords, uncounted } from "./rule.ts";

/** A bridge network of Docker's. */
export interface BridgeNetwork {
  bridge: string;
  /** Of either family: 172.17.0.0/16. */
  subnets: readonly string[];
  /** Addresses of the host's that what leaves it gets, where it is not masqueraded. */
  sources?: readonly string[];
  /** Interfaces of the host by which its containers may be addressed directly. */
  trustedInterfaces?: readonly string[];
}

/** Docker's chains of all versions (moby: libnetwork, drivers/bridge and the ingress), save the one for the user. */
export const DOCKER_CHAINS: ReadonlySet<string> = new Set([
  "DOCKER",
  "DOCKER-BRIDGE",
  "DOCKER-CT",
  "DOCKER-FORWARD",
  INGRESS_CHAIN,
  "DOCKER-INTERNAL",
  "DOCKER-ISOLATION",
  "DOCKER-ISOLATION-STAGE-1",
  "DOCKER-ISOLATION-STAGE-2",
]);

/** The tables of Docker's nftables backend (29 and later), which stay when the daemon is set to make no rules (tried, 29.7). */
export const DOCKER_TABLES: readonly string[] = ["ip docker-bridges", "ip6 docker-bridges"];

/** The chain that Docker makes for the user's rules, which are asked before its own. */
export const DOCKER_USER = "DOCKER-USER";

/** For a table: whether a rule is one that Docker makes outside its own chains. */
export type DockerRules = (table: string) => (rule: Rule, key: string) => boolean;

/** Docker's own rules for these networks, and for the containers of which the kernel still has some. */
export function dockerRulesOf(networks: readonly BridgeNetwork[], live: Live): DockerRules {
  // Read once, not with isWithin: what is left over may be thousands of rules, each asked of each subnet.
  const ranges = networks.flatMap(({ bridge, subnets }) =>
    subnets
      .filter((subnet) => ipaddr.isValidCIDR(subnet))
      .map((subnet) => ({ bridge, range: ipaddr.parseCIDR(subnet) })),
  );
  const contains = (text: string, bridge?: string) => {
    if (!ipaddr.isValid(text)) return false;
    const address = ipaddr.parse(text);
    return ranges.some(
      (one) =>
        (bridge === undefined || bridge === one.bridge) &&
        one.range[0].kind() === address.kind() &&
        address.match(one.range),
    );
  };
  const known = new Map([
    ["filter", filterRules(networks)],
    ["nat", natRules(networks)],
    ["raw", rawRules(networks, live)],
  ]);
  const ofContainer = new Map([
    ["nat", (rule: Rule) => hairpinLike(rule, contains)],
    ["raw", (rule: Rule) => directGuardLike(rule, contains) ?? trustedLike(rule, networks, contains)],
  ]);
  return (table) => {
    const keys = new Set((known.get(table) ?? []).map((line) => keyOf(readWords(line))));
    const like = ofContainer.get(table);
    return (rule, key) => {
      const made = keys.has(key) ? undefined : like?.(rule);
      return keys.has(key) || (made !== undefined && keyOf(made) === key);
    };
  };
}

type Contains = (address: string, bridge?: string) => boolean;

/** From 28.0.1 on they are in DOCKER-FORWARD; the sets are those of 28.0.0. */
function filterRules(networks: readonly BridgeNetwork[]): string[] {
  const answers = "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT";
  return [
    ...["v4", "v6"].map((version) => `-A FORWARD -m set --match-set docker-ext-bridges-${version} dst ${answers}`),
    ...networks.flatMap(({ bridge }) => [
      `-A FORWARD -o ${bridge} ${answers}`,
      `-A FORWARD -i ${bridge} ! -o ${bridge} -j ACCEPT`,
      `-A FORWARD -i ${bridge} -o ${bridge} -j ACCEPT`,
      `-A FORWARD -i ${bridge} -o ${bridge} -j DROP`,
    ]),
  ];
}

function natRules(networks: readonly BridgeNetwork[]): string[] {
  return networks.flatMap(({ bridge, subnets, sources = [] }) => {
    const targets = ["MASQUERADE", ...sources.map((source) => `SNAT --to-source ${source}`)];
    const outward = [
      ...subnets.flatMap((subnet) => canonicalSubnet(subnet) ?? []).map((subnet) => `-s ${subnet} ! -o ${bridge}`),
      `-o ${bridge} -m addrtype --src-type LOCAL`,
    ];
    return outward.flatMap((match) => targets.map((target) => `-A POSTROUTING ${match} -j ${target}`));
  });
}

/** The guard of a port that is published on 127.x is Docker's where the DNAT of that port is in its chain (28 and later). */
function rawRules(networks: readonly BridgeNetwork[], live: Live): string[] {
  const published = (live.tables.get("nat")?.lines ?? [])
    .map(uncounted)
    .filter((line) => /^-A DOCKER -d 127\..* -j DNAT /.test(line));
  return [
    ...networks.flatMap(({ bridge, subnets }) =>
      subnets
        .flatMap((subnet) => canonicalSubnet(subnet) ?? [])
        .flatMap((subnet) => [
          `-A PREROUTING -d ${subnet} -i lo -j ACCEPT`,
          `-A PREROUTING -d ${subnet} ! -i ${bridge} -j DROP`,
        ]),
    ),
    ...published.map((line) => {
      const rule = readWords(line);
      return `-A PREROUTING -d ${argumentOf(rule, "-d")} ! -i lo ${portOf(rule).join(" ")} -j DROP`;
    }),
  ];
}

/** As Docker lets a container reach its own published port (`userland-proxy: false`), with a rule's own values. */
function hairpinLike(rule: Rule, contains: Contains): Rule | undefined {
  const address = hostOf(rule);
  if (!contains(address)) return undefined;
  return ["-A", "POSTROUTING", "-s", address, "-d", address, ...portOf(rule), "-j", "MASQUERADE"];
}

/**
 * As Docker lets nothing but the bridge reach a container's own address (28.0.2 and later; before, for each published
 * port), with a rule's own values.
 */
function directGuardLike(rule: Rule, contains: Contains): Rule | undefined {
  const address = hostOf(rule);
  const bridge = argumentOf(rule, "-i");
  if (!contains(address, bridge)) return undefined;
  const port = rule.includes("--dport") ? portOf(rule) : [];
  return ["-A", "PREROUTING", "-d", address, "!", "-i", bridge, ...port, "-j", "DROP"];
}

/** As Docker lets an interface that the network trusts past that guard (28.2 and later), with a rule's own values. */
function trustedLike(rule: Rule, networks: readonly BridgeNetwork[], contains: Contains): Rule | undefined {
  const [address, by] = [hostOf(rule), argumentOf(rule, "-i")];
  const trusts = ({ bridge, trustedInterfaces = [] }: BridgeNetwork) =>
    trustedInterfaces.includes(by) && contains(address, bridge);
  return networks.some(trusts) ? ["-A", "PREROUTING", "-d", address, "-i", by, "-j", "ACCEPT"] : undefined;
}

function hostOf(rule: Rule): string {
  return withoutHostMask(argumentOf(rule, "-d"));
}

function portOf(rule: Rule): string[] {
  const protocol = argumentOf(rule, "-p");
  return ["-p", protocol, "-m", protocol, "--dport", argumentOf(rule, "--dport")];
}
