/*
 * What must come of every probe, from the table of the place and in words of their own: who is asked for, who is let in, and who serves.
 */

import { BlockList } from "node:net";
import { familyOf } from "../matrix/place.ts";
import {
  CONTAINERS,
  type ContainerName,
  type Family,
  HOST_ADDRESSES,
  NETWORKS,
  OTHER_INTERFACE,
  type Place,
  PORTS,
  type Port,
  type Vantage,
} from "./place.ts";
import type { Probe } from "./probes.ts";

export interface Setting {
  userlandProxy: boolean;
  bridgeNf: boolean;
  /** Ours, for both families; or host rules that a person wrote, which accept established connections before anything else. */
  base: "ours" | "by hand";
  /** Arguments of the calls. */
  ipv6: boolean;
  guards: boolean;
}

/** "web:80": who answers. "closed": a list or a guard keeps it from there. "unserved": nobody would answer, whatever the lists say. */
export type Expected = string;

/** How a probe must end. */
export function expectedOf(probe: Probe, place: Place, setting: Setting): Expected {
  if ("container" in probe.to) return direct(probe, probe.to.container, setting);
  const port = portAt(probe);
  if (port === undefined) return "unserved";
  if (!isAllowed(probe, port, place)) return "closed";
  return isServed(probe, port, place, setting) ? `${port.container}:${port.to}` : "unserved";
}

/** The row of the table that a probe of a host address is about. */
export function portAt({ to, family, port, protocol }: Probe): Port | undefined {
  if (!("host" in to)) return undefined;
  const isOn = (on: Port["on"]) => on === "every" || on === to.host || (on === "every6" && family === "ipv6");
  return PORTS.find((one) => one.port === port && one.protocol === protocol && isOn(one.on));
}

function networkOf(vantage: Vantage): string | undefined {
  return vantage in CONTAINERS ? CONTAINERS[vantage as ContainerName].network : undefined;
}

/** On the container's own bridge, or the container itself. */
function isNear(from: Vantage, container: ContainerName): boolean {
  return networkOf(from) === CONTAINERS[container].network;
}

/** The interface of the host by which a vantage point's packets come. */
function cameBy(from: Vantage): string {
  const network = networkOf(from);
  if (network !== undefined) return NETWORKS[network as keyof typeof NETWORKS].bridge;
  return from === "side" ? OTHER_INTERFACE : "eth0";
}

/** The host itself and the container's own network are never restricted. What is published on loopback no other machine reaches. */
function isAllowed({ from, family }: Probe, { container, on, from: list }: Port, place: Place): boolean {
  if (from === "host" || isNear(from, container)) return true;
  if (on === "loopback") return false;
  if (list === undefined) return true;
  return list.some((source) => source.split(" ").every((word) => holds(word, place.addresses[from][family], from)));
}

function holds(word: string, address: string, from: Vantage): boolean {
  const [net = "", bits] = word.split("/");
  if (bits === undefined) return word === cameBy(from);
  if (familyOf(net) !== familyOf(address)) return false;
  const list = new BlockList();
  list.addSubnet(net, Number(bits), familyOf(net));
  return list.check(address, familyOf(address));
}

/** Whether somebody answers who is let in: the container behind a DNAT, or docker-proxy. */
function isServed(probe: Probe, port: Port, { docker }: Place, { userlandProxy, ipv6 }: Setting): boolean {
  const { from, to, family } = probe;
  const isLoopback = "host" in to && to.host.startsWith("loopback");
  const hasDnat = family === "ipv4" || ipv6;
  if (!userlandProxy) {
    // IPv6 has no route_localnet: what the DNAT sends off from ::1 stays in the host.
    return hasDnat && !(from === "host" && isLoopback && family === "ipv6");
  }
  const isProxied = !hasDnat || isNear(from, port.container) || (from === "host" && isLoopback);
  return !isProxied || port.protocol === "tcp" || port.on !== "every" || docker >= 28 || isPreferred(probe);
}

/**
 * Before Docker 28 a docker-proxy that listens on every address answers a datagram from the address that the route to the client
 * prefers; the client takes that of no other than it asked.
 */
function isPreferred({ from, to }: Probe): boolean {
  if (!("host" in to)) return false;
  if (from === "host") return true;
  if (from === "side") return to.host.startsWith("other");
  return (from === "friend" || from === "stranger") && to.host.startsWith("first");
}

/** Without the host's address: a port with a list is closed to all others, guards or not. */
function direct(
  { from, family, port, protocol }: Probe,
  container: ContainerName,
  { guards, ipv6, base }: Setting,
): Expected {
  const reached = `${container}:${port}`;
  if (from === "host" || isNear(from, container)) return reached;
  if (guards && (family === "ipv4" || ipv6 || base === "ours")) return "closed";
  return hasList(container, port, protocol, family) ? "closed" : reached;
}

function hasList(container: ContainerName, port: number, protocol: string, family: Family): boolean {
  const own = PORTS.filter((one) => one.container === container && one.to === port && one.protocol === protocol);
  const isOf = ({ on }: Port) => on === "every" || (on === "every6" ? "ipv6" : familyOf(HOST_ADDRESSES[on])) === family;
  return own.filter(isOf).some(({ from, on }) => from !== undefined && on !== "loopback");
}
