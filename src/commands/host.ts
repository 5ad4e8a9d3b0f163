// This host as packets meet it: the rules that run, its addresses, who listens for whom. Reads only.

import { filteredFamilies, findProxies, routingLoopback } from "../docker/proxy.ts";
import { ruleWith } from "../iptables/packet.ts";
import type { PacketHost } from "../iptables/trace.ts";
import { isLoopback, withoutPrefix } from "../model/addresses.ts";
import type { Kernel } from "../plan/item.ts";
import { readInterfaces } from "../system/interfaces.ts";

/** Processes that are not believed: see `findProxies`. */
type Seen = PacketHost & { untrusted: string[] };

/** `bridges` are those of the daemon's networks. Never throws. */
export async function readHost(live: Kernel, bridges: readonly string[]): Promise<Seen> {
  const { subnets } = await readInterfaces();
  const own = new Set(subnets.map(({ cidr }) => withoutPrefix(cidr)));
  const isLocal = (address: string) => own.has(address) || isLoopback(address);
  const rulings = Object.fromEntries(Object.entries(live).map(([family, rules]) => [family, ruleWith(rules, isLocal)]));
  const [{ proxies, untrusted }, routed, filtered] = await Promise.all([
    findProxies(),
    routingLoopback(bridges),
    filteredFamilies(),
  ]);
  return { rulings, subnets, proxies, routed, filtered, untrusted };
}
