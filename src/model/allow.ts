// Who may connect to a published port: lists of sources, each under the ports that it is about. Pure.
//
// A key names ports of the host: `8080`, `8000-8099/udp`, `192.0.2.1:8080/tcp`, `[2001:db8::1]:8080`, or `*` for all. Of the keys that
// fit a publish the most exact decides: one with an address before one without, then the one with fewer ports, then one with a protocol.

import ipaddr from "ipaddr.js";
import { bitsOf, canonicalSubnet } from "./addresses.ts";
import { excerpt, Failure } from "./errors.ts";
import type { Family, Protocol } from "./family.ts";
import type { PortMapping } from "./port-mapping.ts";
import { familyOf, type Source } from "./sources.ts";

/** As it is written, in arguments, labels and settings: key -> sources. */
export type Allow = Readonly<Record<string, readonly string[] | undefined>>;

/** Groups of sources, by name. */
export type Groups = Readonly<Record<string, readonly string[]>>;

/** The ports that a list is about. */
export interface Ports {
  /** In its canonical spelling; undefined for every address. */
  hostAddress: string | undefined;
  first: number;
  last: number;
  /** Undefined for every protocol. */
  protocol: Protocol | undefined;
}

/** One list: under its key, as it was written. An empty one is for no other machine. */
export interface AllowList {
  key: string;
  ports: Ports;
  sources: readonly Source[];
}

const ALL: Ports = { hostAddress: undefined, first: 0, last: 65_535, protocol: undefined };

/**
 * The lists of a dictionary, its groups resolved. Throws Failure `arguments_invalid` for what cannot be read, and for two keys of
 * which neither is more exact than the other though a port has both.
 */
export function readAllow(allow: Allow, groups: Groups): AllowList[] {
  // A label may name a large group in each of its lists, and often.
  const known = new Map<string, readonly Source[]>();
  const read = (word: string, key: string) => {
    const sources = known.get(word) ?? readSource(word, key, groups);
    known.set(word, sources);
    return sources;
  };
  const lists = Object.entries(allow).map(([key, words = []]): AllowList => {
    const ports = readKey(key);
    const sources = [...new Set(words)].flatMap((word) => read(word, key));
    refuseFamily(key, ports, words);
    return { key, ports, sources };
  });
  const [one, other] = rivalsAmong(lists) ?? [];
  if (one !== undefined && other !== undefined)
    throw invalid(
      `'${excerpt(one.key, 80)}' and '${excerpt(other.key, 80)}' are about the same ports, and neither is more exact than the other`,
    );
  return lists;
}

/** Of the lists the one that decides about a publish; undefined where none is about it. */
export function listFor(
  publish: Pick<PortMapping, "hostAddress" | "hostPort" | "protocol">,
  lists: readonly AllowList[],
) {
  let most: AllowList | undefined;
  for (const one of lists)
    if (isAbout(one.ports, publish) && (most === undefined || exactness(one, most) < 0)) most = one;
  return most;
}

/** The ports of each list of a dictionary, whatever it allows. Throws likewise for a key that cannot be read. */
export function readKeys(allow: Allow): Pick<AllowList, "key" | "ports">[] {
  return Object.keys(allow).map((key) => ({ key, ports: readKey(key) }));
}

/** The keys that are about none of these publishes; `*` is about whatever there is. */
export function keysWithout(
  publishes: readonly PortMapping[],
  lists: readonly Pick<AllowList, "key" | "ports">[],
): string[] {
  const without = lists.filter(
    ({ key, ports }) => key !== "*" && !publishes.some((publish) => isAbout(ports, publish)),
  );
  return without.map(({ key }) => key);
}

function isAbout(
  { hostAddress, first, last, protocol }: Ports,
  publish: Pick<PortMapping, "hostAddress" | "hostPort" | "protocol">,
) {
  if (hostAddress !== undefined && hostAddress !== publish.hostAddress) return false;
  if (protocol !== undefined && protocol !== publish.protocol) return false;
  return first <= publish.hostPort && publish.hostPort <= last;
}

/** Less than 0 where the first is more exact; 0 where neither is. */
function exactness({ ports: a }: Pick<AllowList, "ports">, { ports: b }: Pick<AllowList, "ports">): number {
  const wide = (value: unknown) => (value === undefined ? 1 : 0);
  return (
    wide(a.hostAddress) - wide(b.hostAddress) ||
    a.last - a.first - (b.last - b.first) ||
    wide(a.protocol) - wide(b.protocol)
  );
}

/**
 * Two of which neither is more exact, though there may be a publish that both are about: they have as many ports, and the same address and
 * protocol, if any. So in the order of their ports they are neighbours.
 */
function rivalsAmong(lists: readonly AllowList[]): [AllowList, AllowList] | undefined {
  const alike = new Map<string, AllowList[]>();
  for (const list of lists) {
    const { hostAddress, first, last, protocol } = list.ports;
    const kind = `${hostAddress} ${protocol} ${last - first}`;
    const known = alike.get(kind);
    if (known === undefined) alike.set(kind, [list]);
    else known.push(list);
  }
  for (const some of alike.values()) {
    some.sort((a, b) => a.ports.first - b.ports.first);
    for (const [at, one] of some.entries()) {
      const next = some[at + 1];
      if (next !== undefined && next.ports.first <= one.ports.last) return [one, next];
    }
  }
  return undefined;
}

const KEY = /^(?:(?:\[([\da-f:.]+)\]|([\d.]+)):)?(\d{1,5})(?:-(\d{1,5}))?(?:\/(tcp|udp|sctp))?$/i;

function readKey(key: string): Ports {
  if (key === "*") return ALL;
  const [, address6, address4, from = "", to = from, protocol] = KEY.exec(key) ?? [];
  const [first, last] = [Number(from), Number(to)];
  const hostAddress = canonicalAddress(address6, "ipv6") ?? canonicalAddress(address4, "ipv4");
  const isAddressed = address6 !== undefined || address4 !== undefined;
  if (from === "" || first < 1 || last > 65_535 || last < first || (isAddressed && hostAddress === undefined)) {
    const forms =
      "a port or a range (8080, 8000-8099), with a protocol (8080/tcp) and the host address (192.0.2.1:8080, [2001:db8::1]:8080), or *";
    throw invalid(`'${excerpt(key, 80)}' names no ports: it must be ${forms}`);
  }
  return { hostAddress, first, last, protocol: protocol?.toLowerCase() as Protocol | undefined };
}

function canonicalAddress(text: string | undefined, family: Family): string | undefined {
  if (text === undefined) return undefined;
  const address =
    family === "ipv4"
      ? ipaddr.IPv4.isValidFourPartDecimal(text) && ipaddr.IPv4.parse(text)
      : ipaddr.IPv6.isValid(text) && ipaddr.IPv6.parse(text);
  // Docker's publishes on every address have none, and those on IPv4 are not written as IPv6: such a key would be about nothing.
  if (!address || /^(unspecified|ipv4Mapped)$/.test(address.range())) return undefined;
  return "toRFC5952String" in address ? address.toRFC5952String() : address.toString();
}

/** A group names no other group. */
function readSource(word: string, key: string, groups: Groups): Source[] {
  if (!word.startsWith("@")) return [readPlain(word, key)];
  const name = word.slice(1);
  const group = Object.hasOwn(groups, name) ? groups[name] : undefined;
  if (group !== undefined) return group.map((one) => readPlain(one, word));
  const known = Object.keys(groups).map((one) => `@${one}`);
  const others =
    known.length === 0 ? "the settings have none under 'sources'" : `the settings have ${known.join(", ")}`;
  throw invalid(`'${excerpt(key, 80)}' allows ${excerpt(word, 80)}, which is no group: ${others}`);
}

/** The kernel's names of interfaces (IFNAMSIZ) but for those with a dot, which a mistyped address has, too. */
const INTERFACE = /^[a-z_][\w-]{0,14}$/i;

function readPlain(word: string, where: string): Source {
  const subnet = subnetOf(word);
  if (subnet !== undefined) return { subnet, by: undefined };
  if (INTERFACE.test(word)) return { subnet: undefined, by: word };
  const what =
    "an address, a subnet, a network interface of this host (without a dot, at most 15 characters), or @NAME for a group of the settings";
  throw invalid(`'${excerpt(where, 80)}' allows '${excerpt(word, 80)}', which is no source: it must be ${what}`);
}

/** No packet comes from IPv4 as IPv6 writes it (::ffff:192.0.2.1), and an interface beside an address (fe80::1%eth0) would be lost. */
function subnetOf(word: string): string | undefined {
  if (ipaddr.IPv4.isValidFourPartDecimal(word)) return `${word}/32`;
  if (ipaddr.IPv4.isValidCIDRFourPartDecimal(word)) return canonicalSubnet(word);
  if (!word.includes(":") || word.includes("%")) return undefined;
  const subnet = canonicalSubnet(ipaddr.IPv6.isValid(word) ? `${word}/128` : word);
  const bits = subnet === undefined ? undefined : bitsOf(subnet);
  if (bits === undefined || bits.startsWith(MAPPED)) return undefined;
  return bits.length > COMPATIBLE.length && bits.startsWith(COMPATIBLE) ? undefined : subnet;
}

/** ::/96, RFC 4291's deprecated IPv4-compatible addresses: no packet comes from there, and iptables prints them as ::192.0.2.1. */
const COMPATIBLE = `6${"0".repeat(96)}`;
/** ::ffff:0:0/96 */
const MAPPED = `6${"0".repeat(80)}${"1".repeat(16)}`;

/** Of a group both families are good: what a publish cannot have is left out. */
function refuseFamily(key: string, { hostAddress }: Ports, words: readonly string[]): void {
  if (hostAddress === undefined) return;
  const family = familyOf(hostAddress);
  const subnets = words.filter((word) => !word.startsWith("@")).flatMap((word) => readPlain(word, key).subnet ?? []);
  const other = subnets.find((subnet) => familyOf(subnet) !== family);
  if (other !== undefined) throw invalid(`'${excerpt(key, 80)}' allows ${other}, whose family its address has not`);
}

function invalid(message: string): Failure {
  return new Failure("arguments_invalid", `allow: ${message}`);
}
