// The network interfaces of a fake host, as its kernel and Node.js show them.

import { endianness } from "node:os";
import ipaddr from "ipaddr.js";

/** Interface -> its addresses, as "172.17.0.1/16". */
export type Addresses = Record<string, string[]>;

/** Texts by their path: what the kernel says (proc(5)), and interfaces.json for what os.networkInterfaces() says. */
export function textsOf(all: Addresses): Record<string, string> {
  const found = Object.entries(all).map(([name, cidrs]) => [
    name,
    cidrs.map((cidr) => ({ address: cidr.split("/")[0], cidr, family: cidr.includes(":") ? "IPv6" : "IPv4" })),
  ]);
  const subnets = Object.entries(all).flatMap(([name, cidrs]) => cidrs.map((cidr) => [name, cidr] as const));
  const routes = subnets.filter(([name, cidr]) => name !== "lo" && !cidr.includes(":")).map(route);
  return {
    "/interfaces.json": JSON.stringify(Object.fromEntries(found)),
    "/proc/net/if_inet6": "",
    "/proc/net/dev": `\n\n${Object.keys(all)
      .map((name) => `${name}: 0\n`)
      .join("")}`,
    "/proc/net/route": `Iface Destination Gateway Flags RefCnt Use Metric Mask\n${routes.join("")}`,
  };
}

function route([name, cidr]: readonly [string, string]): string {
  const [, length] = ipaddr.IPv4.parseCIDR(cidr);
  const network = ipaddr.IPv4.networkAddressFromCIDR(cidr);
  const mask = ipaddr.IPv4.subnetMaskFromPrefixLength(length);
  return `${name} ${hex(network)} 00000000 0001 0 0 0 ${hex(mask)}\n`;
}

/** In the byte order of the machine. */
function hex({ octets }: ipaddr.IPv4): string {
  const bytes = endianness() === "LE" ? [...octets].reverse() : octets;
  return Buffer.from(bytes).toString("hex").toUpperCase();
}
