// The way of a new connection through this host, from where it comes to the container that answers: hooks of netfilter in
// the kernel's order, routing, docker-proxy. Pure.

import type { DockerProxy } from "../docker/proxy.ts";
import {
  bitsOf,
  interfaceTowards,
  isLoopback,
  isWithin,
  subnetOf,
  withoutHostMask,
  withoutPrefix,
} from "../model/addresses.ts";
import type { Family } from "../model/family.ts";
import { portAt } from "../rules/model.ts";
import type { Trip } from "../rules/probe.ts";
import { type Doubt, type Packet, type Ruling, type Verdict, walk } from "./packet.ts";
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
  /** The subnets by which rules on the way tell sources apart, in order. */
  asked: string[];
}

/** Follows one connection. A family without rules at hand is as one without rules. */
export function trace(host: PacketHost, trip: Trip): TraceResult {
  const way = new Way(host, trip);
  const end: Pick<TraceResult, "reached" | "why"> = { reached: undefined, why: "", ...(way.arrive() ?? way.goOn()) };
  // One more rule that only drops changes nothing of what does not arrive.
  const doubts = way.doubts.filter(({ may }) => end.reached !== undefined || may !== "end").map(({ rule }) => rule);
  return { ...end, by: way.by, doubts: [...new Set(doubts)], asked: [...way.asked] };
}

type Stop = Pick<TraceResult, "reached"> | Pick<TraceResult, "why">;

class Way {
  readonly by: string[] = [];
  readonly doubts: Doubt[] = [];
  readonly asked = new Set<string>();
  readonly #host: PacketHost;
  readonly #trip: Trip;
  readonly #packet: Packet;
  #isUntracked = false;

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
    const stop = this.#first(hook) ?? this.#translate(hook);
    if (stop) return stop;
    if (from !== undefined && isLoopback(packet.destination)) {
      return { why: "the kernel accepts no packet to a loopback address from outside" };
    }
    // What a DNAT sends elsewhere leaves by another interface, of which this hook is not told (tried, 6.18).
    return from === undefined
      ? (this.#refusedBy("filter", "OUTPUT") ?? this.#refusedBy("security", "OUTPUT"))
      : undefined;
  }

  /** Before the destination is asked about: raw, then conntrack, unless raw takes the packet from it, then mangle. */
  #first(hook: "OUTPUT" | "PREROUTING"): Stop | undefined {
    const packet = this.#packet;
    packet.state = "INVALID";
    const stop = this.#refusedBy("raw", hook);
    packet.state = this.#isUntracked ? "UNTRACKED" : "NEW";
    return stop ?? this.#refusedBy("mangle", hook);
  }

  goOn(): Stop {
    return this.#isLocal(this.#packet.destination) ? this.#deliver() : this.#forward();
  }

  /** To a process of the host's: docker-proxy, if one listens there. */
  #deliver(): Stop {
    const packet = this.#packet;
    const stop = this.#loop() ?? this.#enter();
    if (stop) return stop;
    const proxy = this.#host.proxies.find(
      ({ protocol, hostAddress, hostPort }) =>
        protocol === packet.protocol && hostPort === packet.port && isFor(hostAddress, packet),
    );
    if (proxy === undefined) return { why: "no DNAT rule matches, and no docker-proxy listens there" };
    this.by.push(PROXY);
    const answers = this.#answersFrom(proxy);
    if (answers !== packet.destination) {
      return { why: `docker-proxy replies from ${answers}, not from the address that the client used` };
    }
    return this.#ask(proxy);
  }

  /** What the host sends to itself leaves by lo, and comes in by it. */
  #loop(): Stop | undefined {
    const packet = this.#packet;
    if (this.#trip.from !== undefined) return undefined;
    packet.to = "lo";
    const left = this.#refusedBy("mangle", "POSTROUTING") ?? this.#endedBy(this.#walkNat("POSTROUTING"));
    if (left) return left;
    packet.from = "lo";
    packet.to = undefined;
    return this.#refusedBy("raw", "PREROUTING") ?? this.#refusedBy("mangle", "PREROUTING");
  }

  #enter(): Stop | undefined {
    this.#packet.from = this.#trip.from ?? "lo";
    this.#packet.to = undefined;
    const tables = ["mangle", "filter", "security"];
    for (const table of tables) {
      const stop = this.#refusedBy(table, "INPUT");
      if (stop) return stop;
    }
    return this.#trip.from === undefined ? undefined : this.#endedBy(this.#walkNat("INPUT"));
  }

  /** docker-proxy has a connection of its own to the container. */
  #ask({ address, port, protocol }: DockerProxy): Stop {
    const bridge = this.#route(address);
    const source = this.#addressOf(bridge, address);
    if (bridge === undefined || source === "") return { reached: { address, port, seenAs: source } };
    const family = address.includes(":") ? "ipv6" : "ipv4";
    const way = new Way(this.#host, { family, from: undefined, source, destination: address, protocol, port });
    const end = way.arrive() ?? way.#forward();
    this.doubts.push(...way.doubts);
    if ("reached" in end) return end;
    this.by.push(...way.by);
    return { why: `docker-proxy does not reach the container: ${end.why}` };
  }

  /** A UDP socket on every address answers from the one that the kernel prefers towards the client (tried, 20.10 and 26.1). */
  #answersFrom({ protocol, hostAddress, answersAsAsked }: DockerProxy): string {
    const { from, source, destination } = this.#trip;
    const isAny = hostAddress === "0.0.0.0" || hostAddress === "::";
    return protocol === "udp" && isAny && !answersAsAsked && from !== undefined
      ? this.#addressOf(from, source)
      : destination;
  }

  #forward(): Stop {
    const packet = this.#packet;
    const { from, source } = this.#trip;
    const bridge = this.#route(packet.destination);
    if (bridge === undefined) return { why: `${packet.destination} is in no network of this host` };
    packet.to = bridge;
    // From one port of a bridge to another.
    if (from === bridge && !packet.translated && !this.#host.filtered.has(packet.family))
      return { reached: { address: packet.destination, port: packet.port, seenAs: source } };
    for (const table of from === undefined ? [] : ["mangle", "filter", "security"]) {
      const stop = this.#refusedBy(table, "FORWARD");
      if (stop) return stop;
    }
    packet.from = undefined;
    const left = this.#refusedBy("mangle", "POSTROUTING");
    if (left) return left;
    const verdict = this.#walkNat("POSTROUTING");
    const ended = this.#endedBy(verdict);
    if (ended) return ended;
    const seenAs = this.#sourceAfter(verdict, bridge);
    const masked = seenAs !== source;
    // IPv6 has no route_localnet: replies to ::1 never return (tried, 6.18).
    if (isLoopback(source) && !(packet.family === "ipv4" && masked && this.#host.routed.has(bridge))) {
      return { why: `the kernel sends no packet from a loopback address to ${bridge}` };
    }
    if (from === bridge && !masked && packet.translated) {
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
    const { verdict, doubts, untracked, asked } = walk(ruling, table, chain, this.#packet);
    this.doubts.push(...doubts);
    for (const one of asked) this.asked.add(one);
    this.#isUntracked ||= untracked;
    return verdict;
  }

  /** The nat table sees what conntrack knows. */
  #walkNat(chain: string): Verdict | undefined {
    return this.#isUntracked ? undefined : this.#walk("nat", chain);
  }

  #refusedBy(table: string, chain: string): Stop | undefined {
    const verdict = this.#walk(table, chain);
    if (verdict?.target === "ACCEPT" && !verdict.rule.startsWith(":")) this.by.push(verdict.rule);
    return this.#endedBy(verdict);
  }

  /** Undefined where the packet goes on. What becomes of it in a program is a doubt (packet.ts). */
  #endedBy(verdict: Verdict | undefined): Stop | undefined {
    const { target = "ACCEPT", rule = "", options = [] } = verdict ?? {};
    const isQueued = /^(NFQUEUE|QUEUE)$/.test(target);
    // iptables-extensions(8): where no program listens, it is as an ACCEPT.
    const passes = isQueued && options.includes("--queue-bypass");
    if (passes || !/^(DROP|REJECT|NFQUEUE|QUEUE|TPROXY)$/.test(target)) return undefined;
    this.by.push(rule);
    if (isQueued) return { why: "a rule leaves it to a program, and where none listens it is dropped" };
    if (target === "TPROXY") return { why: "a rule hands it to a program of this host" };
    return { why: target === "REJECT" ? "rejected by a rule" : "dropped by a rule" };
  }

  #translate(hook: "OUTPUT" | "PREROUTING"): Stop | undefined {
    const verdict = this.#walkNat(hook);
    const ended = this.#endedBy(verdict);
    if (ended || verdict === undefined || verdict.rule.startsWith(":")) return ended;
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
    if (verdict.target === "NETMAP") {
      packet.destination = mapped(packet.destination, option("--to"));
      packet.translated = true;
    }
    if (verdict.target !== "DNAT") return undefined;
    const text = option("--to-destination");
    const to = readDestination(text);
    const [, port] = /^(?:\[\])?:(\d+)$/.exec(text) ?? [];
    if (to === undefined && port === undefined) {
      this.doubts.push({ rule: verdict.rule, may: "anything" });
      return { why: `a rule sends it to ${text}` };
    }
    packet.port = to === undefined ? Number(port) : portAt(to, packet.port);
    packet.destination = to?.address ?? packet.destination;
    packet.translated = true;
    return undefined;
  }

  #sourceAfter(verdict: Verdict | undefined, bridge: string): string {
    const { source, destination } = this.#packet;
    const { target = "", options = [], rule = "" } = verdict ?? {};
    if (!/^(MASQUERADE|SNAT|NETMAP)$/.test(target)) return source;
    this.by.push(rule);
    const option = (name: string) => options[options.indexOf(name) + 1] ?? "";
    if (target === "NETMAP") return mapped(source, option("--to"));
    const text = option("--to-source");
    const given = target === "SNAT" ? (readDestination(text)?.address ?? text.split("-")[0]) : undefined;
    return given || this.#addressOf(bridge, destination);
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

/** NETMAP: the subnet of one address, the host in it of the other. */
function mapped(address: string, to: string): string {
  const [host, net] = [bitsOf(address), bitsOf(to)];
  if (host === undefined || net === undefined || host[0] !== net[0]) return address;
  return withoutHostMask(subnetOf(net + host.slice(net.length)));
}

function sameFamily(a: string, b: string): boolean {
  return a.includes(":") === b.includes(":");
}

function isFor(hostAddress: string, { family, destination }: Packet): boolean {
  return hostAddress === destination || hostAddress === (family === "ipv4" ? "0.0.0.0" : "::");
}
