// Rules as elements of the table's sets and maps: the one place that knows what each kind puts where. Pure.

import { commentOf } from "../iptables/rule.ts";
import { withoutHostMask } from "../model/addresses.ts";
import type { Family } from "../model/family.ts";
import { HASH_LENGTH, hashOf } from "../model/hash.ts";
import type { Source } from "../model/sources.ts";
import {
  type AllowDelivered,
  type AllowDirect,
  type AllowForwarded,
  type ContainerRule,
  type Dnat,
  type HostRule,
  type PortRange,
  portAt,
} from "../rules/model.ts";
import { listName, type ObjectName } from "./layout.ts";

/** One element, in the words of nft. */
export interface NftElement {
  object: ObjectName;
  family: Family;
  /** `tcp . 8080`. */
  key: string;
  /** Of a map: `172.17.0.2 . 80`, `jump allow_…`. */
  value?: string;
}

/** The chain of a list: it returns what may pass, and drops the rest. */
export interface NftList {
  chain: string;
  family: Family;
  /** Whose addresses are asked: who sends, or, of an answer, who gets it. */
  direction: "in" | "out";
  sources: readonly Source[];
}

export interface Rendered {
  elements: readonly NftElement[];
  /** Each once. */
  lists: readonly NftList[];
}

/** Bytes; nft takes no longer comment (1.0.6). */
const LONGEST_COMMENT = 128;

/** What each element and rule of an owner carries. Of a name that is too long it has as much as fits, and a hash. */
export function commentFor(owner: string): string {
  const comment = commentOf(owner);
  if (comment.length <= LONGEST_COMMENT) return comment;
  const hash = hashOf(owner);
  return `${comment.slice(0, LONGEST_COMMENT - hash.length - 1)}~${hash}`;
}

/** The names of owners, and what comments have in the place of those that are too long: as live elements name them. */
export function namesInComments(owners: Iterable<string>): Set<string> {
  return new Set([...owners].flatMap((owner) => [owner, commentFor(owner).slice(commentOf("").length)]));
}

/** Whether a comment has it in the place of a name that is too long. */
export function isShortened(name: string): boolean {
  return new RegExp(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*~[0-9a-f]{${HASH_LENGTH}}$`).test(name);
}

/**
 * What a rule carries: also a hash of it, so that it is known again, in its place, whatever words this version of nft prints it in.
 */
export function ruleComment(owner: string, rule: string): string {
  return `${ruleOwner(owner)} ${ruleHash(rule)}`;
}

/** With which the comments of an owner's rules begin. */
export function ruleOwner(owner: string): string {
  return commentFor(owner).slice(0, LONGEST_COMMENT - RULE_HASH - 1);
}

/** With which its comment ends. */
export function ruleHash(rule: string): string {
  return hashOf(rule).slice(0, RULE_HASH);
}

/** Characters. */
const RULE_HASH = 8;

/** Those of one owner's rules in one family; each element once, in the order of the rules. */
export function renderElements(rules: readonly (ContainerRule | HostRule)[], family: Family, owner: string): Rendered {
  const elements = new Map<string, NftElement>();
  const lists = new Map<string, NftList>();
  const known = { in: new Map<readonly Source[], string>(), out: new Map<readonly Source[], string>() };
  const toList: ToList = ({ direction, sources }) => {
    // Many rules share a list, which may be long.
    const chain = known[direction].get(sources) ?? listChain(owner, family, { direction, sources });
    known[direction].set(sources, chain);
    lists.set(chain, { chain, family, direction, sources });
    return `jump ${chain}`;
  };
  for (const rule of rules) {
    for (const one of elementsOf(rule, toList)) {
      const key = `${one.object} ${one.key}`;
      // Of two rules for one packet iptables takes the first; nft refuses two values of one key.
      if (!elements.has(key)) elements.set(key, { ...one, family });
    }
  }
  return { elements: [...elements.values()], lists: [...lists.values()] };
}

type ToList = (list: Pick<NftList, "direction" | "sources">) => string;
type Element = Omit<NftElement, "family">;

function elementsOf(rule: ContainerRule | HostRule, toList: ToList): Element[] {
  switch (rule.kind) {
    case "loopback-filter":
      return [ranged("loopback", [rule.hostAddress], rule.ports)];
    case "direct-access-filter":
      return [element("guarded", [rule.address]), element("near", [quoted(rule.bridge), rule.address])];
    case "direct-access-accept":
      return [element("near", [quoted(rule.by), rule.address])];
    case "dnat":
      return dnat(rule);
    case "hairpin":
      return [hairpin(withoutHostMask(rule.source), rule.address, rule.ports)];
    case "accept":
      return [...same(rule.bridge), ranged("open", [quoted(rule.bridge), rule.address], rule.ports)];
    case "allow-forwarded":
      return [...same(rule.bridge), forwarded(rule, toList(rule))];
    case "allow-delivered":
      return delivered(rule, toList(rule));
    case "allow-direct":
      return [...same(rule.bridge), direct(rule, toList(rule))];
    case "direct-port-filter":
      return [...same(rule.bridge), direct({ ...rule, direction: "in" }, "drop")];
    // They are chains of the layout.
    case "published-ports":
      return [];
    // A table of the user's own, asked earlier, has them.
    case "user-rules":
      return [];
    case "masquerade": {
      const { subnet, bridge, hostAddress } = rule;
      const target: Element =
        hostAddress === undefined
          ? element("masquerade", [subnet])
          : { ...element("source", [subnet]), value: hostAddress };
      return [element("within", [subnet, quoted(bridge)]), target];
    }
    case "masquerade-host": {
      const { bridge, hostAddress } = rule;
      if (hostAddress === undefined) return [element("masquerade_host", [quoted(bridge)])];
      return [{ ...element("source_host", [quoted(bridge)]), value: hostAddress }];
    }
    case "internal":
      return [...same(rule.bridge), element("internal", [quoted(rule.bridge)])];
    case "replies":
      return [element("replies", [quoted(rule.bridge)])];
    case "icmp":
      return [element("icmp", [quoted(rule.bridge)])];
    case "unpublished": {
      const object = rule.verdict === "accept" ? "unprotected" : "closed";
      return [...same(rule.bridge), element(object, [quoted(rule.bridge)])];
    }
    case "isolated":
      return [...same(rule.bridge), element("isolated", [quoted(rule.bridge)])];
    case "outgoing":
      return [element("outgoing", [quoted(rule.bridge)])];
  }
}

function element(object: ObjectName, key: readonly string[]): Element {
  return { object, key: key.join(" . ") };
}

/** As nft takes and prints it. The name of an interface has no sign that a quote would not hold (readInterface). */
function quoted(name: string): string {
  return `"${name}"`;
}

/** What makes of "comes in by another interface" one look-up. */
function same(bridge: string): Element[] {
  return [element("same", [quoted(bridge), quoted(bridge)])];
}

type Hashed = "loopback" | "open" | "hairpin" | "proxied" | "proxied_at" | "publish" | "publish_at";

/** One port is in the hash, more are an interval. */
function ranged(object: Hashed, key: readonly string[], ports: PortRange): Element {
  const name = ports.first === ports.last ? object : (`${object}_range` as const);
  return element(name, [...key, ports.protocol, spellPorts(ports)]);
}

function spellPorts({ first, last }: PortRange): string {
  return first === last ? String(first) : `${first}-${last}`;
}

/** A range that keeps its ports is one element; one that is moved is one for each port: nft has no other way to say it. */
function dnat({ hostAddress, ports, to, exceptFrom }: Dnat): Element[] {
  const at = hostAddress === undefined ? [] : [hostAddress];
  const [publish, proxied] = hostAddress === undefined ? PUBLISH : PUBLISH_AT;
  const parts = to.port === undefined ? [ports] : portsIn(ports);
  return parts.flatMap((part) => [
    ...(exceptFrom === undefined ? [] : [ranged(proxied, [quoted(exceptFrom), ...at], part)]),
    {
      ...ranged(publish, at, part),
      value: part.first < part.last ? to.address : `${to.address} . ${portAt(to, part.first)}`,
    },
  ]);
}

const PUBLISH = ["publish", "proxied"] as const;
const PUBLISH_AT = ["publish_at", "proxied_at"] as const;

function portsIn({ protocol, first, last }: PortRange): PortRange[] {
  return Array.from({ length: last - first + 1 }, (_, index) => ({
    protocol,
    first: first + index,
    last: first + index,
  }));
}

/** A subnet is an interval, too. */
function hairpin(source: string, address: string, ports: PortRange): Element {
  if (source.includes("/")) return element("hairpin_range", [source, address, ports.protocol, spellPorts(ports)]);
  return ranged("hairpin", [source, address], ports);
}

function forwarded({ direction, hostAddress, ports, address, bridge }: AllowForwarded, value: string): Element {
  const object = hostAddress === undefined ? "listed" : "listed_at";
  const at = hostAddress === undefined ? [] : [hostAddress];
  return {
    ...element(direction === "in" ? object : `${object}_reply`, [
      ...[quoted(bridge), ...at, address, ports.protocol, spellPorts(ports)],
    ]),
    value,
  };
}

function direct({ direction, address, bridge, ports }: Omit<AllowDirect, "kind" | "sources">, value: string): Element {
  const object = direction === "in" ? "direct" : "direct_reply";
  return { ...element(object, [quoted(bridge), address, ports.protocol, spellPorts(ports)]), value };
}

function delivered({ direction, hostAddress, ports, bridge }: AllowDelivered, value: string): Element[] {
  const [into, out, inside] =
    hostAddress === undefined
      ? (["delivered", "sent", "inside"] as const)
      : (["delivered_at", "sent_at", "inside_at"] as const);
  const key = [...(hostAddress === undefined ? [] : [hostAddress]), ports.protocol, spellPorts(ports)];
  return [
    ...(bridge === undefined ? [] : [element(inside, [quoted(bridge), ...key])]),
    { ...element(direction === "in" ? into : out, key), value },
  ];
}

/** Of an owner and a list: the same list of the same owner is one chain, and no other's is. */
function listChain(owner: string, family: Family, { direction, sources }: Pick<NftList, "direction" | "sources">) {
  const words = JSON.stringify([
    owner,
    family,
    direction,
    ...sources.map(({ subnet, by }) => [subnet ?? "", by ?? ""]),
  ]);
  return listName(family, hashOf(words));
}

/** The sets of a list's chain, by what it asks. */
export interface ListSet {
  name: string;
  type: string;
  /** `iifname . ip saddr`. */
  asks: string;
  keys: readonly string[];
}

/** Sources by subnet, by interface, by both: of each that a list has, one set. */
export function listSets({ chain, family, direction, sources }: NftList): ListSet[] {
  const ip = family === "ipv4" ? "ip" : "ip6";
  const [address, by] = direction === "in" ? [`${ip} saddr`, "iifname"] : [`${ip} daddr`, "oifname"];
  const type = family === "ipv4" ? "ipv4_addr" : "ipv6_addr";
  const all = [
    {
      ...{ name: `${chain}_from`, type: `${type}; flags interval`, asks: address },
      keys: sources.flatMap((one) =>
        one.subnet !== undefined && one.by === undefined ? [withoutHostMask(one.subnet)] : [],
      ),
    },
    {
      ...{ name: `${chain}_by`, type: "ifname", asks: by },
      keys: sources.flatMap((one) => (one.subnet === undefined && one.by !== undefined ? [quoted(one.by)] : [])),
    },
    {
      ...{ name: `${chain}_both`, type: `ifname . ${type}; flags interval`, asks: `${by} . ${address}` },
      keys: sources.flatMap((one) =>
        one.subnet !== undefined && one.by !== undefined ? [`${quoted(one.by)} . ${withoutHostMask(one.subnet)}`] : [],
      ),
    },
  ];
  return all.filter(({ keys }) => keys.length > 0);
}

/** The rules of a list's chain. What the host sends to itself goes by lo. */
export function listRules(list: NftList): string[] {
  const by = list.direction === "in" ? "iifname" : "oifname";
  return [`${by} "lo" return`, ...listSets(list).map(({ name, asks }) => `${asks} @${name} return`), "drop"];
}
