// Addresses and subnets of both families, as texts: "172.17.0.2", "fd00::/64". Pure.

import ipaddr from "ipaddr.js";

/** Whether an address is one of the kernel's loopback addresses. */
export function isLoopback(address: string): boolean {
  return address === "::1" || address.startsWith("127.");
}

/** Whether a subnet holds an address; of the other family it holds none. Undefined where one of the two is not what it should be. */
export function isWithin(address: string, cidr: string): boolean | undefined {
  if (!ipaddr.isValid(address) || !ipaddr.isValidCIDR(cidr)) return undefined;
  const one = ipaddr.parse(address);
  const [network, prefix] = ipaddr.parseCIDR(cidr);
  return one.kind() === network.kind() && one.match(network, prefix);
}

/** The interface in the narrowest subnet that holds an address; of equal ones the first. */
export function interfaceTowards(
  address: string,
  subnets: readonly { name: string; cidr: string }[],
): string | undefined {
  const matching = subnets.filter(({ cidr }) => isWithin(address, cidr));
  return matching.sort((a, b) => prefixOf(b.cidr) - prefixOf(a.cidr))[0]?.name;
}

function prefixOf(cidr: string): number {
  return Number(cidr.slice(cidr.indexOf("/") + 1));
}

/** A subnet as iptables-save spells it: 172.17.0.0/16 for 172.17.0.1/16. Undefined for what is none. */
export function canonicalSubnet(cidr: string): string | undefined {
  const [address, prefix] = parsed(cidr) ?? [];
  if (address === undefined || prefix === undefined) return undefined;
  const bytes = address.toByteArray().map((byte, at) => byte & -(2 ** (8 - Math.min(8, Math.max(0, prefix - 8 * at)))));
  return `${spellBytes(bytes)}/${prefix}`;
}

/**
 * The bits that all addresses of a subnet begin with, after the family's digit: "410101100" for 172.0.0.0/8. What holds what,
 * and which is narrower, is then seen on the texts. An address is the subnet that holds it alone. Undefined for what is neither.
 */
export function bitsOf(text: string): string | undefined {
  const [address, prefix] = parsed(text) ?? [];
  if (address === undefined) return undefined;
  const bits = address.toByteArray().map((byte) => BITS[byte]);
  return (address.kind() === "ipv4" ? "4" : "6") + bits.join("").slice(0, prefix);
}

/** Of each byte. */
const BITS = Array.from({ length: 256 }, (_, byte) => byte.toString(2).padStart(8, "0"));

/** Parses once, which matters for lists of thousands: each question that ipaddr.js answers parses anew. */
function parsed(text: string): [ipaddr.IPv4 | ipaddr.IPv6, number | undefined] | undefined {
  const family = text.includes(":") ? ipaddr.IPv6 : ipaddr.IPv4;
  try {
    return text.includes("/") ? family.parseCIDR(text) : [family.parse(text), undefined];
  } catch {
    return undefined;
  }
}

/** The subnet of which `bitsOf` gives these bits, in canonical spelling. */
export function subnetOf(bits: string): string {
  const [family, prefix] = [bits.slice(0, 1), bits.slice(1)];
  const bytes = prefix.padEnd(family === "4" ? 32 : 128, "0").match(/.{8}/g) ?? [];
  return `${spellBytes(bytes.map((byte) => Number.parseInt(byte, 2)))}/${prefix.length}`;
}

function spellBytes(bytes: number[]): string {
  const address = ipaddr.fromByteArray(bytes);
  return "toRFC5952String" in address ? address.toRFC5952String() : address.toString();
}

/** What of a subnet is in none of the holes, as few subnets in the order of their addresses. */
export function without(subnet: string, holes: readonly string[]): string[] {
  const gone = holes.flatMap((hole) => bitsOf(hole) ?? []);
  const left = (bits: string): string[] => {
    if (gone.some((hole) => bits.startsWith(hole))) return [];
    if (!gone.some((hole) => hole.startsWith(bits))) return [subnetOf(bits)];
    return [...left(`${bits}0`), ...left(`${bits}1`)];
  };
  const bits = bitsOf(subnet);
  return bits === undefined ? [] : left(bits);
}

/** 172.17.0.1 of 172.17.0.1/16. */
export function withoutPrefix(cidr: string): string {
  return cidr.replace(/\/\d+$/, "");
}

/** A single address without the mask that iptables-save gives it: 172.17.0.2 for 172.17.0.2/32. A subnet stays as it is. */
export function withoutHostMask(text: string): string {
  return text.replace(text.includes(":") ? /\/128$/ : /\/32$/, "");
}

/** The opposite: 172.17.0.2/32. */
export function withHostMask(address: string): string {
  return `${address}/${address.includes(":") ? 128 : 32}`;
}
