/*
 * Docker 29 as the matrix has it: the rules that it makes with its iptables backend, written out for iptables-restore,
 * and in words of their own what must come of every probe. The two are independent: the story measures the rules and
 * compares with the words. Both follow moby's own code (libnetwork/drivers/bridge, docker-v29).
 *
 * docker-proxy is the host's own.
 */

import {
  bracketed,
  CONTAINERS,
  type Container,
  type Family,
  type HostAddress,
  NETWORKS,
  type Place,
  type PortMapping,
  type Protocol,
} from "./place.ts";
import type { Outcome, Probe } from "./probes.ts";

export interface Setting {
  userlandProxy: boolean;
  /** net.bridge.bridge-nf-call-iptables and -ip6tables: whether packets between a bridge's ports pass iptables. */
  bridgeNf: boolean;
  /** The major version of the host's own daemon and docker-proxy. */
  docker: number;
}

/** The text for iptables-restore or ip6tables-restore. */
export function docker29Rules(place: Place, family: Family, { userlandProxy }: Setting): string {
  const raw: string[] = [];
  const nat: string[] = [];
  const masquerades: string[] = [];
  const ports: string[] = [];
  const established: string[] = [];
  const internal: string[] = [];
  const enter: string[] = [];
  const leave: string[] = [];
  const drops: string[] = [];
  for (const [name, { subnets, ...network }] of Object.entries(NETWORKS)) {
    const [bridge, subnet] = [place.bridges[name], subnets[family]];
    if (subnet === undefined) continue;
    if (network.internal) {
      internal.push(`! -s ${subnet} -o ${bridge} -j DROP`, `! -d ${subnet} -i ${bridge} -j DROP`);
      continue;
    }
    established.push(`-o ${bridge} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`);
    enter.push(`-o ${bridge} -j DOCKER`);
    drops.push(`! -i ${bridge} -o ${bridge} -j DROP`);
    leave.push(`-i ${bridge} -j ACCEPT`);
    masquerades.push(`-s ${subnet} ! -o ${bridge} -j MASQUERADE`);
    if (!userlandProxy) masquerades.push(`-o ${bridge} -m addrtype --src-type LOCAL -j MASQUERADE`);
  }
  for (const [name, container] of Object.entries(CONTAINERS)) {
    for (const network of container.networks) {
      const address = place.addresses[name]?.[network]?.[family];
      const bridge = place.bridges[network];
      if (address === undefined || bridge === undefined || NETWORKS[network]?.internal) continue;
      raw.push(`-d ${address} ! -i ${bridge} -j DROP`);
      if (network !== container.publishing) continue;
      for (const publish of container.publishes) {
        const on = hostAddressOf(publish, family, place);
        if (on === undefined) continue;
        for (const [port, to] of portPairs(publish)) {
          const protocol = publish.protocol ?? "tcp";
          const match = `-p ${protocol} -m ${protocol} --dport`;
          if (on.startsWith("127.")) raw.push(`-d ${on} ! -i lo ${match} ${port} -j DROP`);
          const source = family === "ipv6" ? "! -s fe80::/10 " : "";
          const destination = on === "every" ? "" : `-d ${on} `;
          const from = userlandProxy ? `! -i ${bridge} ` : "";
          nat.push(
            `${source}${destination}${from}${match} ${port} -j DNAT --to-destination ${bracketed(address)}:${to}`,
          );
          ports.push(`-d ${address} ! -i ${bridge} -o ${bridge} ${match} ${to} -j ACCEPT`);
          if (!userlandProxy) masquerades.push(`-s ${address} -d ${address} ${match} ${to} -j MASQUERADE`);
        }
      }
    }
  }
  const local = "-m addrtype --dst-type LOCAL -j DOCKER";
  const loopback = family === "ipv4" ? "127.0.0.0/8" : "::1/128";
  const in_ = (chain: string, rules: readonly string[]) => rules.map((rule) => `-A ${chain} ${rule}`);
  const forwards = ["DOCKER-USER", "DOCKER-FORWARD"].map((chain) => `-A FORWARD -j ${chain}`);
  const parts = ["DOCKER-CT", "DOCKER-INTERNAL", "DOCKER-BRIDGE"];
  return [
    "*raw",
    ...in_("PREROUTING", raw),
    "COMMIT",
    "*nat",
    ":DOCKER - [0:0]",
    `-A PREROUTING ${local}`,
    `-A OUTPUT ${userlandProxy ? `! -d ${loopback} ` : ""}${local}`,
    ...in_("POSTROUTING", masquerades),
    ...in_("DOCKER", nat),
    "COMMIT",
    "*filter",
    ":FORWARD DROP [0:0]",
    ...["DOCKER", "DOCKER-USER", "DOCKER-FORWARD", ...parts].map((chain) => `:${chain} - [0:0]`),
    ...forwards,
    ...parts.map((chain) => `-A DOCKER-FORWARD -j ${chain}`),
    ...in_("DOCKER-FORWARD", leave),
    ...in_("DOCKER-CT", established),
    ...in_("DOCKER-INTERNAL", internal),
    ...in_("DOCKER-BRIDGE", enter),
    ...in_("DOCKER", [...ports, ...drops]),
    "COMMIT",
    "",
  ].join("\n");
}

/** "every", one address of the family, or undefined where the publish is the other family's. */
function hostAddressOf({ on }: PortMapping, family: Family, { hostAddresses }: Place): string | undefined {
  if (on === "every") return on;
  if (on === "every6") return family === "ipv6" ? "every" : undefined;
  const address = hostAddresses[on];
  return (address.includes(":") ? "ipv6" : "ipv4") === family ? address : undefined;
}

function portPairs({ port, to, count = 1 }: PortMapping): [port: number, to: number][] {
  return Array.from({ length: count }, (_, index) => [port + index, to + index]);
}

/** What Docker 29 makes of a probe. */
export function docker29(probe: Probe, place: Place, setting: Setting): Outcome {
  return "host" in probe.to ? toHost(probe, probe.to.host, place, setting) : toContainer(probe, probe.to, place);
}

/** The networks that a vantage point is in; none for those that are no container. */
export function networksOf(from: Probe["from"]): readonly string[] {
  return CONTAINERS[from]?.networks ?? [];
}

/** The address that a vantage point has towards a network that it is in, or towards the host. */
export function ownAddress(from: Probe["from"], family: Family, place: Place, network?: string): string | undefined {
  if (from === "host") return undefined;
  if (from === "remote" || from === "routed") {
    const client = place.clients[from];
    return family === "ipv4" ? client.address : client.address6;
  }
  return place.addresses[from]?.[network ?? wayOut(from)]?.[family];
}

/** The network through which a container leaves for elsewhere. */
export function wayOut(from: Probe["from"]): string {
  return CONTAINERS[from]?.publishing ?? networksOf(from)[0] ?? "";
}

export interface Published {
  name: string;
  network: string;
  to: number;
  publish: PortMapping;
}

/** The container that a port of the host's address leads to. */
export function publishedAt(host: HostAddress, port: number, protocol: Protocol): Published | undefined {
  const all = Object.entries(CONTAINERS).flatMap(([name, container]) => publishesOf(name, container));
  const is6 = host.endsWith("6");
  return all.find(({ publish }) => {
    const { on, count = 1, protocol: own = "tcp" } = publish;
    const here = on === host || on === "every" || (on === "every6" && is6);
    return here && own === protocol && port >= publish.port && port < publish.port + count;
  });

  function publishesOf(name: string, { publishing: network, publishes }: Container): Published[] {
    if (network === undefined) return [];
    return publishes.map((publish) => ({ name, network, to: publish.to + port - publish.port, publish }));
  }
}

function toHost(probe: Probe, host: HostAddress, place: Place, setting: Setting): Outcome {
  const { from, family, port, protocol } = probe;
  // To its second IPv4 address the host talks from the first one: both are in one subnet.
  const ofHost = host === "second" ? place.hostAddresses.first : probe.address;
  const own = ownAddress(from, family, place) ?? ofHost;
  const onWire = from === "routed" && host === "loopback";
  if (port === 8680) return onWire ? "timeout" : `hosted:8680 sees ${own}`;
  const published = publishedAt(host, port, protocol);
  // What comes from the wire for a loopback address that no rule takes is no packet to the kernel.
  if (published === undefined) return onWire ? "timeout" : "refused";
  const { name, network, to, publish } = published;
  const gateways = NETWORKS[network]?.gateways ?? {};
  const sees = (peer: string | undefined) => `${name}:${to} sees ${peer}`;
  // No address to send it to: what is left is docker-proxy, which comes over IPv4.
  if (gateways[family] === undefined) {
    return setting.userlandProxy ? sees(gateways.ipv4) : "refused";
  }
  // The DNAT leads out of the internal network.
  if (from === "inner") return "timeout";
  if (from === "remote" || from === "routed") return onWire && publish.on === "loopback" ? "timeout" : sees(own);
  if (from === "host") {
    // IPv6 has no route_localnet: what the DNAT sends off from ::1 stays in the host.
    if (!setting.userlandProxy) return host === "loopback6" ? "timeout" : sees(gateways[family]);
    return sees(host.startsWith("loopback") ? gateways[family] : own);
  }
  if (wayOut(from) !== network) return sees(gateways[family]);
  if (setting.userlandProxy) return answersElsewhere(publish, setting) ? "timeout" : sees(gateways[family]);
  if (from === name) return sees(gateways[family]);
  return setting.bridgeNf ? sees(ownAddress(from, family, place, network)) : "timeout";
}

/**
 * Before Docker 28 a docker-proxy that listens on every address answers a datagram from the address that the route to the client
 * prefers, here the bridge's own. The client asked another one, and takes no answer from this one (tried, 20.10 and 26.1; 28.5).
 */
export function answersElsewhere({ on, protocol }: PortMapping, { docker }: Setting): boolean {
  return docker < 28 && protocol === "udp" && on.startsWith("every");
}

function toContainer(
  { from, family, port }: Probe,
  { container, network }: { container: string; network: string },
  place: Place,
): Outcome {
  const answer = (peer: string | undefined) => (port === 83 ? "refused" : `${container}:${port} sees ${peer}`);
  if (network === "macvlan") return answer(ownAddress(from, family, place));
  if (from === "host") return answer(NETWORKS[network]?.gateways[family]);
  if (networksOf(from).includes(network)) return answer(ownAddress(from, family, place, network));
  return from === "remote" ? "unreachable" : "timeout";
}
