// The way of a new connection through this host, from where it comes to the container that answers: hooks of netfilter in
// the kernel's order, routing, docker-proxy. Pure.

import type { DockerProxy } from "../docker/proxy.ts";
import { interfaceTowards, isLoopback, isWithin, withoutPrefix } from "../model/addresses.ts";
import type { Family } from "../model/family.ts";
import { portAt } from "../rules/model.ts";
import type { Trip } from "../rules/probe.ts";
import { type Packet, type Ruling, type Verdict, walk } from "./packet.ts";
import { readDestination } from "./read.ts";

/** What of this host decides. */
export interface PacketHost {
  /** A family whose rules could not be read is not there. */
  rulings: Partial<Record<Family, Ruling>>;
  /** Interfaces with their addresses, as `address/prefix`. */
  subnets: readonly { name: string; cidr: string }[];
  proxies: readonly DockerProxy[];
  /** Bridges to which loopback addresses are routed (route_localnet). */
  routed: ReadonlySet<string>;
  /** Families whose packets between the ports of one bridge pass iptables. */
  filtered: ReadonlySet<Family>;
}

/** How docker-proxy is called among what decides. */
export const PROXY = "docker-proxy";

export interface TraceResult {
  /** Where it ended: a container's address and port, and who it seems to come from. Undefined where it did not arrive. */
  reached: { address: string; port: number; seenAs: string } | undefined;
  /** Why not, in a person's words; "" where it arrived. */
  why: string;
  /** What decided, in order: rules, or PROXY. */
  by: string[];
  /** Rules that may decide otherwise. */
  doubts: string[];
}

/** Follows one connection. A family without rules at hand is as one without rules. */
export function trace(host: PacketHost, trip: Trip): TraceResult {
  const way = new Way(host, trip);
  const stop = way.arrive() ?? way.goOn();
  return { reached: undefined, why: "", ...stop, by: way.by, doubts: [...new Set(way.doubts)] };
}

type Stop = Pick<TraceResult, "reached"> | Pick<TraceResult, "why">;

class Way {
  readonly by: string[] = [];
  readonly doubts: string[] = [];
  readonly #host: PacketHost;
  readonly #trip: Trip;
  readonly #packet: Packet;

  constructor(host: PacketHost, trip: Trip) {
    this.#host = host;
    this.#trip = trip;
    this.#packet = {
      ...trip,
      to: undefined,
      translated: false,
      original: { destination: trip.destination, port: trip.port },
    };
  }

  /** Until its destination is settled; a Stop where it ends before. */
  arrive(): Stop | undefined {
    const packet = this.#packet;
    const { family, from, destination } = this.#trip;
    if (family === "ipv6" && destination === "::1" && from !== undefined)
      return { why: "the kernel accepts no packet to ::1 from outside" };
    const hook = from === undefined ? "OUTPUT" : "PREROUTING";
    if (from === undefined) packet.to = this.#route(destination);
    const stop = this.#refusedBy("raw", hook) ?? this.#refusedBy("mangle", hook);
    if (stop) return stop;
    this.#translate(this.#walk("nat", hook));
    if (from !== undefined && isLoopback(packet.destination)) {
      return { why: "the kernel accepts no packet to a loopback address from outside" };
    }
    if (from === undefined) {
      packet.to = this.#route(packet.destination);
      return this.#refusedBy("filter", "OUTPUT");
    }
    return undefined;
  }

  goOn(): Stop {
    return this.#isLocal(this.#packet.destination) ? this.#deliver() : this.#forward();
  }

  /** To a process of the host's: docker-proxy, if one listens there. */
  #deliver(): Stop {
    const packet = this.#packet;
    packet.from = this.#trip.from ?? "lo";
    packet.to = undefined;
    const stop = this.#refusedBy("mangle", "INPUT") ?? this.#refusedBy("filter", "INPUT");
    if (stop) return stop;
    const proxy = this.#host.proxies.find(
      ({ protocol, hostAddress, hostPort }) =>
        protocol === packet.protocol && hostPort === packet.port && isFor(hostAddress, packet),
    );
    if (proxy === undefined) return { why: "no DNAT rule matches, and no docker-proxy listens there" };
    this.by.push(PROXY);
    const { address, port } = proxy;
    const answers = this.#answersFrom(proxy);
    if (answers !== packet.destination) {
      return { why: `docker-proxy replies from ${answers}, not from the address that the client used` };
    }
    const bridge = this.#route(address);
    return { reached: { address, port, seenAs: this.#addressOf(bridge, address) } };
  }

  /** A UDP socket on every address answers from the one that the kernel prefers towards the client (tried, 20.10). */
  #answersFrom({ protocol, hostAddress }: DockerProxy): string {
    const { from, source, destination } = this.#trip;
    const isAny = hostAddress === "0.0.0.0" || hostAddress === "::";
    return protocol === "udp" && isAny && from !== undefined ? this.#addressOf(from, source) : destination;
  }

  #forward(): Stop {
    const packet = this.#packet;
    const { from, source } = this.#trip;
    const bridge = this.#route(packet.destination);
    if (bridge === undefined) return { why: `${packet.destination} is in no network of this host` };
    packet.to = bridge;
    if (from !== undefined) {
      const stop = this.#refusedBy("mangle", "FORWARD") ?? this.#refusedBy("filter", "FORWARD");
      if (stop) return stop;
    }
    packet.from = undefined;
    const seenAs = this.#sourceAfter(this.#walk("nat", "POSTROUTING"), bridge);
    const masked = seenAs !== source;
    // IPv6 has no route_localnet: replies to ::1 never return (tried, 6.18).
    if (isLoopback(source) && !(packet.family === "ipv4" && masked && this.#host.routed.has(bridge))) {
      return { why: `the kernel sends no packet from a loopback address to ${bridge}` };
    }
    if (from === bridge && !masked) {
      if (source === packet.destination)
        return { why: "the container would get its own packet back with its own source address" };
      if (!this.#host.filtered.has(packet.family)) {
        return { why: "the reply bypasses iptables, as packets between ports of the bridge do" };
      }
    }
    return { reached: { address: packet.destination, port: packet.port, seenAs } };
  }

  #walk(table: string, chain: string): Verdict | undefined {
    const ruling = this.#host.rulings[this.#packet.family];
    if (ruling === undefined) return undefined;
    const { verdict, doubts } = walk(ruling, table, chain, this.#packet);
    this.doubts.push(...doubts);
    return verdict;
  }

  #refusedBy(table: string, chain: string): Stop | undefined {
    const verdict = this.#walk(table, chain);
    if (verdict === undefined) return undefined;
    if (verdict.target === "ACCEPT") {
      if (table === "filter" && !verdict.rule.startsWith(":")) this.by.push(verdict.rule);
      return undefined;
    }
    this.by.push(verdict.rule);
    return { why: verdict.target === "REJECT" ? "rejected by a rule" : "dropped by a rule" };
  }

  #translate(verdict: Verdict | undefined): void {
    if (verdict === undefined || verdict.rule.startsWith(":")) return;
    const packet = this.#packet;
    const option = (name: string) => verdict.options[verdict.options.indexOf(name) + 1] ?? "";
    // ACCEPT ends the table, too: then nothing is translated.
    this.by.push(verdict.rule);
    if (verdict.target === "REDIRECT") {
      const { from, source, family } = this.#trip;
      const loopback = family === "ipv4" ? "127.0.0.1" : "::1";
      packet.port = Number.parseInt(option("--to-ports"), 10) || packet.port;
      packet.destination = from === undefined ? loopback : this.#addressOf(from, source);
      packet.translated = true;
    }
    if (verdict.target !== "DNAT") return;
    const to = readDestination(option("--to-destination"));
    if (to === undefined) return;
    packet.port = portAt(to, packet.port);
    packet.destination = to.address;
    packet.translated = true;
  }

  #sourceAfter(verdict: Verdict | undefined, bridge: string): string {
    const { source, destination } = this.#packet;
    if (verdict?.target !== "MASQUERADE" && verdict?.target !== "SNAT") return source;
    this.by.push(verdict.rule);
    const given = verdict.options[verdict.options.indexOf("--to-source") + 1]?.split(":")[0];
    return verdict.target === "SNAT" && given !== undefined ? given : this.#addressOf(bridge, destination);
  }

  /** The interface in the narrowest subnet that holds an address; lo for the host's own. */
  #route(address: string): string | undefined {
    return this.#isLocal(address) ? "lo" : interfaceTowards(address, this.#host.subnets);
  }

  /** The host's own address on an interface: in the subnet of an on-link host there, else the first of its family. */
  #addressOf(name: string | undefined, neighbour: string): string {
    const here = this.#host.subnets.filter((one) => one.name === name && sameFamily(one.cidr, neighbour));
    const own = here.find(({ cidr }) => isWithin(neighbour, cidr)) ?? here[0];
    return own === undefined ? "" : withoutPrefix(own.cidr);
  }

  #isLocal(address: string): boolean {
    return isLoopback(address) || this.#host.subnets.some(({ cidr }) => withoutPrefix(cidr) === address);
  }
}

function sameFamily(a: string, b: string): boolean {
  return a.includes(":") === b.includes(":");
}

function isFor(hostAddress: string, { family, destination }: Packet): boolean {
  return hostAddress === destination || hostAddress === (family === "ipv4" ? "0.0.0.0" : "::");
}
