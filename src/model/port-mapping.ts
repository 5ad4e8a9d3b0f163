// A published port, and its text for a person. Pure.

import type { Family, Protocol } from "./family.ts";

/** One host address, port and protocol mapped to one container port. */
export interface PortMapping {
  family: Family;
  /** In its canonical spelling; undefined for every address of the family. */
  hostAddress: string | undefined;
  hostPort: number;
  containerPort: number;
  protocol: Protocol;
}

/** A container's port that others connect to at the container's own address: its network routes, and translates nothing. */
export type DirectPort = Pick<PortMapping, "family" | "containerPort" | "protocol">;

/** As 80/tcp. */
export function spellDirectPort({ containerPort, protocol }: Pick<DirectPort, "containerPort" | "protocol">): string {
  return `${containerPort}/${protocol}`;
}

/** The same as a mapping, for what asks who may connect to a port: there its number is the container's. */
export function mappingOf({ family, containerPort, protocol }: DirectPort): PortMapping {
  return { family, hostAddress: undefined, hostPort: containerPort, containerPort, protocol };
}

/** As 0.0.0.0:8080/tcp, or [::]:8080-8089/tcp for `count` ports. */
export function spellPublish(
  {
    family,
    hostAddress,
    hostPort,
    protocol,
  }: Pick<PortMapping, "family" | "hostAddress" | "hostPort"> & { protocol: string },
  count = 1,
): string {
  const ports = count === 1 ? String(hostPort) : `${hostPort}-${hostPort + count - 1}`;
  return `${bracketed(anyOr(hostAddress, family))}:${ports}/${protocol}`;
}

/** A published address in words; undefined is every address of the family. */
export function anyOr(hostAddress: string | undefined, family: Family): string {
  return hostAddress ?? (family === "ipv4" ? "0.0.0.0" : "::");
}

/** An address as written before a port. */
export function bracketed(address: string): string {
  return address.includes(":") ? `[${address}]` : address;
}
