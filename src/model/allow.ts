// Who may connect to a published port: lists of sources, each under the ports that it is about. Pure.
//
// A key names ports of the host: `8080`, `8000-8099/udp`, `192.0.2.1:8080/tcp`, `[2001:db8::1]:8080`, or `*` for all. Of the keys that
// fit a publish the most exact decides: one with an address before one without, then the one with fewer ports, then one with a protocol.

import ipaddr from "ipaddr.js";
import type { Advice } from "../text/advice.ts";
import { bitsOf, canonicalSubnet, isWithin } from "./addresses.ts";
import { excerpt, Failure } from "./errors.ts";
import type { Family, Protocol } from "./family.ts";
import type { PortMapping } from "./port-mapping.ts";

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

/** From where packets come; with both, what comes from there by it. */
export interface Source {
  /** In canonical spelling, with its mask; undefined for every address of both families. */
  subnet: string | undefined;
  /** By which they come; undefined for every interface. */
  by: string | undefined;
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

/** The keys that are about none of these publishes; `*` is about whatever there is. */
export function keysWithout(publishes: readonly PortMapping[], lists: readonly AllowList[]): string[] {
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
  if (ipaddr.IPv4.isValidFourPartDecimal(word)) return canonicalSubnet(`${word}/32`);
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

function familyOf(text: string): Family {
  return text.includes(":") ? "ipv6" : "ipv4";
}

function invalid(message: string): Failure {
  return new Failure("arguments_invalid", `allow: ${message}`);
}

/**
 * Those of one family, each once, and none that another holds; the same ones in the same order, however they were written. What comes by
 * the loopback interface is the host's own, which no list is about.
 */
export function sourcesIn(sources: readonly Source[], family: Family): Source[] {
  const own = sources
    .filter(({ subnet, by }) => by !== "lo" && (subnet === undefined || familyOf(subnet) === family))
    // As iptables prints it, which leaves out what matches all.
    .map(({ subnet, by }) => ({ subnet: subnet?.endsWith("/0") ? undefined : subnet, by }));
  const all = new SourceIndex(own);
  const once = new Map(own.map((one) => [keyOf(one), one]));
  return [...once.values()]
    .filter((one) => all.holdersOf(one).every((other) => keyOf(other) === keyOf(one)))
    .sort((a, b) => compare(a.by, b.by) || compare(a.subnet, b.subnet));
}

function keyOf({ subnet = "", by = "" }: Source): string {
  return `${by} ${subnet}`;
}

function compare(a = "", b = ""): number {
  return a < b ? -1 : Number(a > b);
}

/** More pairs of a subnet and an interface are not made of a label and what narrows it, unless both have as many. */
const MOST_NARROWED = 10_000;

/** What comes from both; and of the first list those of which something does not. Of too many nothing comes. */
export function narrowed(list: readonly Source[], within: readonly Source[]): { sources: Source[]; beyond: Source[] } {
  const [inner, outer] = [new SourceIndex(list), new SourceIndex(within)];
  const meet = (one: Source, { by }: Source): Source => ({ subnet: one.subnet, by: one.by ?? by });
  const sources = new Map<string, Source>();
  const most = Math.max(MOST_NARROWED, list.length + within.length);
  for (const [some, others] of [
    [list, outer],
    [within, inner],
  ] as const)
    for (const one of some) {
      for (const other of others.around(one)) {
        const both = meet(one, other);
        sources.set(keyOf(both), both);
      }
      if (sources.size > most) return { sources: [], beyond: [...list] };
    }
  return { sources: [...sources.values()], beyond: list.filter((one) => outer.holdersOf(one).length === 0) };
}

/** Sources by interface and by the bits with which their addresses begin: none asks all others. */
class SourceIndex {
  /** By interface, "" for every one; then by the bits, "" for every address. */
  readonly #places = new Map<string, Map<string, Source>>();
  readonly #lengths: readonly number[];

  constructor(sources: readonly Source[]) {
    const lengths = new Set<number>();
    for (const one of sources) {
      const bits = firstBits(one);
      const place = this.#places.get(one.by ?? "") ?? new Map<string, Source>();
      this.#places.set(one.by ?? "", place);
      place.set(bits, one);
      lengths.add(bits.length);
    }
    this.#lengths = [...lengths].sort((a, b) => a - b);
  }

  /** From which comes whatever comes from this one. */
  holdersOf(one: Source): Source[] {
    return this.#in(one.by === undefined ? [""] : ["", one.by], firstBits(one));
  }

  /** Whose addresses are at least those of this one, and from which something comes by the same interface. */
  around(one: Source): Source[] {
    return this.#in(one.by === undefined ? this.#places.keys() : ["", one.by], firstBits(one));
  }

  #in(places: Iterable<string>, bits: string): Source[] {
    return [...places].flatMap((place) =>
      this.#lengths
        .filter((length) => length <= bits.length)
        .flatMap((length) => this.#places.get(place)?.get(bits.slice(0, length)) ?? []),
    );
  }
}

/** With which the addresses of a source begin, the family's digit first. */
function firstBits({ subnet }: Source): string {
  return subnet === undefined ? "" : (bitsOf(subnet) ?? `none ${subnet}`);
}

/** Whether what comes from an address, by an interface, is on a list. */
export function allows(sources: readonly Source[], address: string, by: string | undefined): boolean {
  return sources.some(
    (one) => (one.by === undefined || one.by === by) && (one.subnet === undefined || isWithin(address, one.subnet)),
  );
}

/** Whether a list of one family's sources keeps nobody out. */
export function isForEveryone(sources: readonly Source[]): boolean {
  return sources.some(({ subnet, by }) => subnet === undefined && by === undefined);
}

export function spellSource({ subnet, by }: Source): string {
  if (by === undefined) return subnet ?? "everyone";
  return subnet === undefined ? by : `${subnet} by ${by}`;
}

/** More are only counted: an answer has them for each port. */
const MOST_SPELLED = 20;

/** A list of one family in words: "10.0.0.0/8, wg0", or "this host". */
export function spellSources(sources: readonly Source[]): string {
  const more = sources.length - MOST_SPELLED;
  const words = sources.slice(0, MOST_SPELLED).map(spellSource);
  return [...words, ...(more > 0 ? [`${more} more`] : [])].join(", ") || "this host";
}

/** What is said of who may connect to a container's ports, by whom. */
export interface Said {
  /** The call that names the container, or its last call by name. */
  own?: Allow | undefined;
  /** Its labels. */
  label?: Allow | undefined;
  /** Those among its labels that its image carries: who makes an image may write into it what he likes. */
  image?: Allow | undefined;
  /** The host's settings. */
  host?: Allow | undefined;
  /** Whether the label decides in the place of the settings, instead of narrowing them; of an image it never does. */
  trustsLabels?: boolean | undefined;
}

/** Which of a container's labels are its image's: all of them where that cannot be known. */
export function apartFromImage(labels: Allow, image: Allow | undefined): { label: Allow; image: Allow } {
  const isImages = ([key, words]: [string, Allow[string]]) =>
    image === undefined || (Object.hasOwn(image, key) && image[key]?.join() === words?.join());
  const all = Object.entries(labels);
  return {
    label: Object.fromEntries(all.filter((one) => !isImages(one))),
    image: Object.fromEntries(all.filter(isImages)),
  };
}

export interface Decided {
  /** Undefined: everyone. */
  allowedTo: (publish: Publish) => readonly Source[] | undefined;
  /** Which ports are closed to other machines because what is said of them cannot be read, and why. */
  closed: Advice | undefined;
  /** What a label allows beyond the settings, and which of its keys is about no port. */
  told: string[];
  /** Keys of its own lists that are about none of its ports: what they were to keep out of another one comes in. */
  unused: string[];
}

/** What the labels allow, of that what narrows them does, too; and what it does not. */
interface Labelled {
  /** Which label, and what narrows it, for a message. */
  whose: string;
  within: string;
  key: string;
  sources: readonly Source[];
  beyond: readonly Source[];
}

type Publish = Pick<PortMapping, "hostAddress" | "hostPort" | "protocol">;

const OWN = {
  whose: "its own lists",
  remedy: "correct the settings, then 'docker_iptables sync'; or give it new lists",
};
/** What others may choose has a limit. */
const LABEL = { whose: "its label", remedy: "correct the label, and recreate the container", most: 2000 };
const IMAGE = {
  ...LABEL,
  whose: "its image's label",
  remedy: "give the container a label of that name, and recreate it",
};
const HOST = { whose: "the settings", remedy: "correct them" };

/**
 * For each publish the first with a list about it decides: the own, the label, the settings. A label only narrows the settings, unless they
 * trust it; the label of an image only narrows whatever else there is. What cannot be read closes all ports of the container to other machines
 * but those that a list of its own decides about: whom it was to keep out is not let in.
 */
export function decide(said: Said, groups: Groups, publishes: readonly PortMapping[]): Decided {
  const own = readOf(OWN, said.own, groups);
  const host = readOf(HOST, said.host, groups);
  if (isUnreadable(own)) return closedAll(own);
  if (isUnreadable(host)) return closedAll(host);
  const isOwn = (publish: Publish) => listFor(publish, own) !== undefined;
  const label = readOf(LABEL, said.label, groups);
  const image = readOf(IMAGE, said.image, groups);
  if (isUnreadable(label) || isUnreadable(image)) {
    const why = [label, image].find(isUnreadable) as Unreadable;
    if (!publishes.some(isOwn)) return closedAll(why);
    const allowedTo = (publish: Publish) => listFor(publish, own)?.sources ?? [];
    const closed = publishes.every(isOwn) ? undefined : adviseClosed("the ports without a list of its own", why);
    return { allowedTo, closed, told: [], unused: keysWithout(publishes, own) };
  }
  const labelled = labelledBy({ label, image, host }, said.trustsLabels ?? false);
  const told = new Set<string>();
  for (const one of new Set(publishes.filter((publish) => !isOwn(publish)).map(labelled))) {
    if (one === undefined || one.beyond.length === 0) continue;
    told.add(`${one.whose} for ${one.key} allows ${spellSources(one.beyond)}, which ${one.within} do not`);
  }
  const idle = keysWithout(publishes, [...label, ...image]);
  if (idle.length > 0) told.add(`its label for ${someKeys(idle)} is about none of its ports`);
  return {
    allowedTo: (publish) =>
      listFor(publish, own)?.sources ?? labelled(publish)?.sources ?? listFor(publish, host)?.sources,
    closed: undefined,
    told: [...told],
    unused: keysWithout(publishes, own),
  };
}

type Lists = Record<"label" | "image" | "host", readonly AllowList[]>;

/** What a publish's labels allow; undefined where none is about it. */
function labelledBy({ label, image, host }: Lists, trusts: boolean): (publish: Publish) => Labelled | undefined {
  // Many ports share their lists, which may be long.
  const known = new Map<string, Labelled>();
  return (publish) => {
    const [own, images] = [listFor(publish, label), listFor(publish, image)];
    const list = own ?? images;
    if (list === undefined) return undefined;
    const limits = [own && images, trusts && own ? undefined : listFor(publish, host)];
    const key = [list, ...limits].map((one) => one?.key ?? "").join("\n");
    const made =
      known.get(key) ??
      limits.reduce(narrowedBy, {
        whose: own ? "its label" : "its image's label",
        within: own && images ? "the settings, or its image's label," : "the settings",
        ...{ key: list.key, sources: list.sources, beyond: [] },
      });
    known.set(key, made);
    return made;
  };
}

function narrowedBy(labelled: Labelled, within: AllowList | undefined): Labelled {
  if (within === undefined) return labelled;
  const { sources, beyond } = narrowed(labelled.sources, within.sources);
  return { ...labelled, sources, beyond: [...labelled.beyond, ...beyond] };
}

function someKeys(keys: readonly string[]): string {
  const more = keys.length - MOST_SPELLED;
  return [...keys.slice(0, MOST_SPELLED), ...(more > 0 ? [`${more} more`] : [])].join(", ");
}

function closedAll(why: Unreadable): Decided {
  return { allowedTo: () => [], closed: adviseClosed("all ports", why), told: [], unused: [] };
}

function adviseClosed(ports: string, { whose, message, remedy }: Unreadable): Advice {
  return { what: `${ports} are closed to other machines: in ${whose}, ${message}`, hint: remedy };
}

/** Lists that cannot be read. */
interface Unreadable {
  whose: string;
  message: string;
  /** What puts that right. */
  remedy: string;
}

function readOf(
  { whose, remedy, most }: Omit<Unreadable, "message"> & { most?: number },
  allow: Allow = {},
  groups: Groups,
): AllowList[] | Unreadable {
  const words = Object.values(allow).reduce((sum, sources = []) => sum + 1 + sources.length, 0);
  if (most !== undefined && words > most)
    return { whose, remedy, message: `there are more than ${most} ports and sources` };
  try {
    return readAllow(allow, groups);
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    return { whose, remedy, message: error.message.replace(/^allow: /, "") };
  }
}

function isUnreadable(one: AllowList[] | Unreadable): one is Unreadable {
  return !Array.isArray(one);
}
