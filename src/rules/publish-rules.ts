// Target -> Ruleset: the rules that publish one container's ports. Pure, and the heart of it.
//
//   raw     PREROUTING  drop what comes to a port published on 127.x from another interface than lo
//   raw     PREROUTING  drop what comes to the container's own address from another interface than its bridge
//   nat     the chain   DNAT of each published port
//   filter  FORWARD     accept what the DNAT let through to the container's port
//
// They are Docker's own (docker 29, iptables backend), in the chain that `--iptables=false` leaves to us.

import { FAMILIES, type Family, type Publish } from "../docker/container.ts";
import type { Endpoint, Target } from "../docker/target.ts";
import { commentOf, keyOf, type Rule, type Ruleset, TABLES } from "./rule.ts";

export interface Made {
  rules: Ruleset;
  warnings: string[];
}

interface Wishes {
  chain: string;
  ipv6: boolean;
  guards: boolean;
}

/** The rules of one container, in their order; none for a family that is not wished for or not there. */
export function makeRules(target: Target, { chain, ipv6, guards }: Wishes): Made {
  const rules: Ruleset = { ipv4: {}, ipv6: {} };
  const warnings: string[] = [];
  if (!ipv6 && target.idle === undefined) warnings.push(...onlyIpv6(target));
  for (const family of FAMILIES) {
    if (family === "ipv6" && !ipv6) continue;
    const publishes = target.idle === undefined ? target.publishes.filter((publish) => publish.family === family) : [];
    const endpoint = target.publishing[family];
    if (publishes.length === 0) continue;
    if (endpoint === undefined) {
      // Where no family has an address, the target itself says so.
      if (Object.keys(target.publishing).length > 0) warnings.push(withoutAddress(target, family, publishes));
      continue;
    }
    const comment = ["-m", "comment", "--comment", commentOf(target.name)];
    const made = {
      raw: [
        ...publishes.flatMap((publish) => loopbackGuard(publish, comment)),
        ...(guards
          ? target.endpoints.filter((one) => one.family === family).map((one) => directGuard(one, comment))
          : []),
      ],
      nat: publishes.map((publish) => dnat(chain, publish, endpoint, comment)),
      filter: publishes.map((publish) => accept(publish, endpoint, comment)),
    };
    for (const table of TABLES) if (made[table].length > 0) rules[family][table] = withoutRepeats(made[table]);
  }
  return { rules, warnings };
}

function dnat(chain: string, publish: Publish, { family, address, bridge }: Endpoint, comment: Rule): Rule {
  const { hostAddress, hostPort, containerPort } = publish;
  const to = family === "ipv6" ? `[${address}]:${containerPort}` : `${address}:${containerPort}`;
  return [
    ...["-A", chain],
    // Link-local clients cannot be answered through a DNAT: the reply would leave by another interface (Docker's rule).
    ...(family === "ipv6" ? ["!", "-s", "fe80::/10"] : []),
    ...(hostAddress === undefined ? [] : ["-d", host(hostAddress)]),
    ...["!", "-i", bridge],
    ...port(publish, hostPort),
    ...comment,
    ...["-j", "DNAT", "--to-destination", to],
  ];
}

function accept(publish: Publish, { address, bridge }: Endpoint, comment: Rule): Rule {
  return [
    ...["-A", "FORWARD", "-d", host(address), "!", "-i", bridge, "-o", bridge],
    ...port(publish, publish.containerPort),
    ...comment,
    ...["-j", "ACCEPT"],
  ];
}

/** PREROUTING comes before the kernel's martian check: a neighbour who routes 127.0.0.1 to us would reach the DNAT. */
function loopbackGuard(publish: Publish, comment: Rule): Rule[] {
  const { family, hostAddress, hostPort } = publish;
  if (family !== "ipv4" || !hostAddress?.startsWith("127.")) return [];
  return [
    [
      "-A",
      "PREROUTING",
      "-d",
      host(hostAddress),
      "!",
      "-i",
      "lo",
      ...port(publish, hostPort),
      ...comment,
      "-j",
      "DROP",
    ],
  ];
}

function directGuard({ address, bridge }: Endpoint, comment: Rule): Rule {
  return ["-A", "PREROUTING", "-d", host(address), "!", "-i", bridge, ...comment, "-j", "DROP"];
}

function host(address: string): string {
  return `${address}/${address.includes(":") ? 128 : 32}`;
}

function port({ protocol }: Publish, number: number): Rule {
  return ["-p", protocol, "-m", protocol, "--dport", String(number)];
}

/** Two host ports may lead to one container port: one ACCEPT serves both. */
function withoutRepeats(rules: Rule[]): Rule[] {
  return [...new Map(rules.map((rule) => [keyOf(rule), rule])).values()];
}

/**
 * What is published on IPv6 alone gets no rule without `ipv6`; nothing else would say so. `[::]:N` beside `0.0.0.0:M` is
 * one publish, also where the two ephemeral ports differ (Docker before 27).
 */
function onlyIpv6({ name, publishes }: Target): string[] {
  const ipv4 = publishes.filter(({ family }) => family === "ipv4");
  const alone = publishes.filter((one) => {
    const isTwin = ({ protocol, hostPort, containerPort }: Publish) =>
      protocol === one.protocol &&
      (one.hostAddress === undefined ? containerPort === one.containerPort : hostPort === one.hostPort);
    return one.family === "ipv6" && !ipv4.some(isTwin);
  });
  return alone.length === 0 ? [] : [`${name} publishes on ${listed(alone)} only: it gets no rule without ipv6`];
}

function withoutAddress({ name }: Target, family: Family, publishes: readonly Publish[]): string {
  const word = family === "ipv4" ? "IPv4" : "IPv6";
  return `${name} has no ${word} address, so what it publishes on ${listed(publishes)} gets no ${word} rule`;
}

/** Some publishes in words; of many the first three. */
function listed(publishes: readonly Publish[]): string {
  const told = publishes.slice(0, 3).map(({ family, hostAddress, hostPort, protocol }) => {
    const address = hostAddress ?? (family === "ipv4" ? "0.0.0.0" : "::");
    return `${address.includes(":") ? `[${address}]` : address}:${hostPort}/${protocol}`;
  });
  const more = publishes.length - told.length;
  return `${told.join(", ")}${more > 0 ? ` and ${more} more` : ""}`;
}
