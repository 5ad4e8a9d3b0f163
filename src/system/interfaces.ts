// The network interfaces of this host, as seen from the caller's own network namespace.

import { access, readFile, readlink } from "node:fs/promises";
import { networkInterfaces } from "node:os";
import { basename } from "node:path";
import { type Route, readRoutes } from "./routes.ts";

export interface Interfaces {
  /** Every interface, up or down. */
  names: ReadonlySet<string>;
  /** The subnets of those that are up and have addresses, as `address/prefix`. */
  subnets: readonly { name: string; cidr: string }[];
  routes: readonly Route[];
  /** Whether the kernel has IPv6 at all (not with ipv6.disable=1). */
  hasIpv6: boolean;
}

/**
 * /proc/net/dev lists interfaces that are down too; /sys/class/net would show the namespace that mounted it,
 * not the caller's (sysfs(5), network_namespaces(7)).
 */
export async function readInterfaces(): Promise<Interfaces> {
  const [text, routes, hasIpv6] = await Promise.all([
    readFile("/proc/net/dev", "utf8"),
    readRoutes(),
    access("/proc/net/if_inet6").then(
      () => true,
      () => false,
    ),
  ]);
  const lines = text.split("\n").slice(2);
  const names = lines.map((line) => line.slice(0, line.lastIndexOf(":")).trim()).filter((name) => name !== "");
  const subnets = Object.entries(networkInterfaces()).flatMap(([name, addresses]) =>
    (addresses ?? []).flatMap(({ cidr }) => (cidr ? [{ name, cidr }] : [])),
  );
  return { names: new Set(names), subnets, routes, hasIpv6 };
}

/**
 * The interface as whose the kernel's rules see what comes by this one, where it is another: a bridge for its port, likewise a bond or a
 * VRF. Undefined also where that cannot be read.
 */
export async function masterOf(name: string): Promise<string | undefined> {
  const target = await readlink(`/sys/class/net/${name}/master`).catch(() => undefined);
  return target && basename(target);
}
