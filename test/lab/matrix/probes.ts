/*
 * The probes: who tries which address, port and protocol; and how each of them ends.
 */

import type { ProbeResult } from "../probe.ts";
import {
  CONTAINERS,
  type Family,
  familyOf,
  HOST_ADDRESSES,
  type HostAddress,
  NETWORKS,
  type Place,
  type Protocol,
  VANTAGES,
  type Vantage,
} from "./place.ts";

export interface Probe {
  from: Vantage;
  to: { host: HostAddress } | { container: string; network: string };
  family: Family;
  address: string;
  port: number;
  protocol: Protocol;
}

/** "web:80 sees 198.51.100.100", or why there was no answer: refused, timeout, unreachable. */
export type Outcome = string;

type Port = [number: number, protocol: Protocol];

/** Every published port, those of a range by its ends; the port of the container in host mode; two that are not published. */
function hostPorts(): Port[] {
  const ports = new Map<string, Port>();
  const publishes = Object.values(CONTAINERS).flatMap((one) => one.publishes);
  for (const { port, count = 1, protocol = "tcp" } of publishes) {
    for (const number of [port, port + count - 1]) ports.set(`${number}/${protocol}`, [number, protocol]);
  }
  return [...ports.values(), [8680, "tcp"], [8680, "udp"], [82, "tcp"], [8999, "tcp"], [8999, "udp"]];
}

/** Which of the host's addresses a vantage point tries. From elsewhere, loopback is not the host's. */
function addressesFor(from: Vantage): readonly HostAddress[] {
  if (from === "host") return HOST_ADDRESSES;
  const lan: HostAddress[] = ["first", "second", "first6", "second6"];
  return from === "routed" ? [...lan, "loopback"] : lan;
}

const DIRECT_PORTS: readonly Port[] = [
  [80, "tcp"],
  [82, "tcp"],
  [83, "tcp"],
  [80, "udp"],
];

/** Every probe of a place; the order means nothing. */
export function listProbes({ hostAddresses, addresses }: Place): Probe[] {
  const probes: Probe[] = [];
  for (const from of VANTAGES) {
    for (const host of addressesFor(from)) {
      const address = hostAddresses[host];
      for (const [port, protocol] of hostPorts()) {
        probes.push({ from, to: { host }, family: familyOf(address), address, port, protocol });
      }
    }
    for (const [container, endpoints] of Object.entries(addresses)) {
      for (const [network, pair] of Object.entries(endpoints)) {
        // For the macvlan there are no rules; one probe from outside shows that it stays so.
        if (!(network in NETWORKS) && !(network === "macvlan" && from === "remote")) continue;
        for (const [family, address] of Object.entries(pair) as [Family, string][]) {
          for (const [port, protocol] of DIRECT_PORTS) {
            probes.push({ from, to: { container, network }, family, address, port, protocol });
          }
        }
      }
    }
  }
  return probes;
}

/** For people: who to what. Unique in a list of probes. */
export function nameOf({ from, to, family, port, protocol }: Probe): string {
  const target = "host" in to ? `the host's ${to.host}` : `${to.container} in ${to.network} (${family})`;
  return `${from} to ${target}, port ${port}/${protocol}`;
}

/**
 * How every probe ends, by its name. A busy machine answers late, and where another connection still has a source port the kernel
 * takes another port of a range: who expects an answer and gets none, or another, asks again, and the last answer counts. What
 * should get none is asked once.
 */
export async function measure(
  place: Place,
  probes: readonly Probe[],
  expected: (probe: Probe) => Outcome,
): Promise<Map<string, Outcome>> {
  await place.host.run("conntrack", ["--flush"]);
  const outcomes = new Map<string, Outcome>();
  let open = probes;
  for (const timeoutMs of [1000, 2000, 4000]) {
    const answers = await Promise.all(
      open.map((probe) =>
        place.probers[probe.from].connect(probe.address, probe.port, { protocol: probe.protocol, timeoutMs }),
      ),
    );
    for (const [index, probe] of open.entries()) outcomes.set(nameOf(probe), outcomeOf(answers[index] as ProbeResult));
    open = open.filter((probe) => outcomes.get(nameOf(probe)) !== expected(probe) && expected(probe) !== "timeout");
    if (open.length === 0) break;
  }
  return outcomes;
}

/** The probes that end otherwise, a line each. */
export function deviations(
  probes: readonly Probe[],
  measured: ReadonlyMap<string, Outcome>,
  expected: (probe: Probe) => Outcome,
): string[] {
  return probes
    .filter((probe) => measured.get(nameOf(probe)) !== expected(probe))
    .map((probe) => `${nameOf(probe)}: ${measured.get(nameOf(probe))}, and should be: ${expected(probe)}`);
}

/** net.ipv4.ip_local_port_range, unless it was changed. */
const FIRST_EPHEMERAL_PORT = 32768;

/**
 * What the host has let through to containers since the last measurement began, answered or not: a probe without an answer
 * may have got in all the same. Answers that docker-proxy sends to a client's own port do not count. "udp 198.51.100.100 to 198.51.100.10:8080", sorted.
 */
export async function flowsInto({ host, addresses }: Place): Promise<string[]> {
  const inside = new Set(
    Object.values(addresses).flatMap((endpoints) => Object.values(endpoints).flatMap(Object.values)),
  );
  const lists = await Promise.all(
    ["ipv4", "ipv6"].map((family) => host.run("conntrack", ["--dump", "--family", family])),
  );
  const flows = lists.flatMap(({ stdout }) =>
    [...stdout.matchAll(/^(tcp|udp) .*?src=(\S+) dst=(\S+) sport=\d+ dport=(\d+) .*?src=(\S+) /gm)]
      .filter(([, , , , port, answering = ""]) => inside.has(answering) && Number(port) < FIRST_EPHEMERAL_PORT)
      .map(([, protocol, source, destination, port]) => `${protocol} ${source} to ${destination}:${port}`),
  );
  return [...new Set(flows)].sort();
}

function outcomeOf(result: ProbeResult): Outcome {
  return result.reached ? `${result.server}:${result.port} sees ${result.peer}` : result.why;
}
