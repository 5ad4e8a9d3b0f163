// Where the kernel sends packets: its main table for IPv4, all tables for IPv6, in the caller's own network namespace. Unlike
// the addresses that node:os gives, these are also those of interfaces without a carrier (a bridge whose machines are off).

import { readFile } from "node:fs/promises";
import { endianness } from "node:os";
import { bitsOf, canonicalSubnet } from "../model/addresses.ts";
import { orElse } from "../model/errors.ts";

export interface Route {
  /** The interface by which they leave. */
  name: string;
  /** Whereto, e.g. "172.17.0.0/16". */
  cidr: string;
  /** The same in the words of `bitsOf`. */
  bits: string;
}

/** linux/route.h, linux/ipv6_route.h */
const UP = 0x1;
const REJECT = 0x200;
const NO_SUBNET = 0x00100000 | 0x01000000 | 0x80000000; // anycast, cache, local

/** All but default routes. Never throws. */
export async function readRoutes(): Promise<Route[]> {
  const read = (path: string) => readFile(path, "utf8").catch(orElse(""));
  const [ipv4, ipv6] = await Promise.all([read("/proc/net/route"), read("/proc/net/ipv6_route")]);
  return [...parseRoutes(ipv4), ...parseRoutes6(ipv6)];
}

/** Of /proc/net/route, whose addresses are in the byte order of the machine. Pure. */
export function parseRoutes(text: string, order = endianness()): Route[] {
  const bytesOf = (hex: string) => {
    const bytes = [...Buffer.from(hex, "hex")];
    return order === "LE" ? bytes.reverse() : bytes;
  };
  return text.split("\n").flatMap((line) => {
    const [name = "", destination = "", , flags = "", , , , mask = ""] = line.split(/\s+/);
    if (!isTaken(flags)) return [];
    const prefix = bytesOf(mask).map(ones).join("").length;
    return routeTo(name, `${bytesOf(destination).join(".")}/${prefix}`);
  });
}

/** Of /proc/net/ipv6_route. Pure. */
export function parseRoutes6(text: string): Route[] {
  return text.split("\n").flatMap((line) => {
    const [destination = "", prefix = "", , , , , , , flags = "", name = ""] = line.trim().split(/\s+/);
    if (!isTaken(flags)) return [];
    const subnet = canonicalSubnet(`${destination.match(/.{4}/g)?.join(":")}/${Number.parseInt(prefix, 16)}`);
    return routeTo(name, subnet ?? "");
  });
}

function isTaken(flags: string): boolean {
  const bits = Number.parseInt(flags, 16);
  return (bits & UP) !== 0 && (bits & (REJECT | NO_SUBNET)) === 0;
}

function ones(byte: number): string {
  return byte.toString(2).replaceAll("0", "");
}

/** None for what is no subnet, and for every address. */
export function routeTo(name: string, cidr: string): Route[] {
  const bits = bitsOf(cidr);
  return bits === undefined || bits.length < 2 ? [] : [{ name, cidr, bits }];
}
