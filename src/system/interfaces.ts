// The network interfaces of this host, as seen from the caller's own network namespace.

import { readFile } from "node:fs/promises";
import { networkInterfaces } from "node:os";
import { type Route, readRoutes } from "./routes.ts";

export interface Interfaces {
  /** Every interface, up or down. */
  names: ReadonlySet<string>;
  /** The subnets of those that are up and have addresses, as `address/prefix`. */
  subnets: readonly { name: string; cidr: string }[];
  routes: readonly Route[];
}

/**
 * /proc/net/dev lists interfaces that are down too; /sys/class/net would show the namespace that mounted it,
 * not the caller's (sysfs(5), network_namespaces(7)).
 */
export async function readInterfaces(): Promise<Interfaces> {
  const [text, routes] = await Promise.all([readFile("/proc/net/dev", "utf8"), readRoutes()]);
  const lines = text.split("\n").slice(2);
  const names = lines.map((line) => line.slice(0, line.lastIndexOf(":")).trim()).filter((name) => name !== "");
  const subnets = Object.entries(networkInterfaces()).flatMap(([name, addresses]) =>
    (addresses ?? []).flatMap(({ cidr }) => (cidr ? [{ name, cidr }] : [])),
  );
  return { names: new Set(names), subnets, routes };
}
