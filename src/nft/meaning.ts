// What the table means: its elements read back as the rules that they were made of, by owner (elements.ts, backwards). Pure.
//
// What is not in the table is not in what it means, and what is nobody's of ours is left out.

import { withHostMask } from "../model/addresses.ts";
import { FAMILIES, type Family } from "../model/family.ts";
import { HOST_FILES, hostOwner, spellOwner } from "../model/owner.ts";
import type { Source } from "../model/sources.ts";
import type { AllowForwarded, ContainerRule, Dnat, HostRule, PortRange } from "../rules/model.ts";
import { commentFor, listRules, ruleHash } from "./elements.ts";
import { chainsOf, familyOfName, nameOf, type ObjectName } from "./layout.ts";
import type { NftEntry, NftTable } from "./table.ts";

/** An element of an owner: its key's fields, an interface without quotes. */
interface Entry {
  fields: readonly string[];
  value: string;
}

/** The elements of one owner in one family, as they are asked for. */
class Elements {
  readonly #table: NftTable;
  readonly #family: Family;
  readonly #comment: string;

  constructor(table: NftTable, family: Family, comment: string) {
    this.#table = table;
    this.#family = family;
    this.#comment = comment;
  }

  of(...objects: ObjectName[]): Entry[] {
    return objects.flatMap((object) => {
      const own = ownedIn(this.#table).get(this.#comment)?.get(nameOf(object, this.#family)) ?? [];
      return own.map(([key, { value = "" }]) => ({ fields: fieldsOf(key), value }));
    });
  }

  /** The list to which an element leads; undefined for what is none of ours. */
  listAt(value: string): Pick<AllowForwarded, "direction" | "sources"> | undefined {
    const chain = /^jump (\S+)$/.exec(value)?.[1];
    return chain === undefined ? undefined : readList(this.#table, chain, this.#family);
  }
}

type Owned = ReadonlyMap<string, ReadonlyMap<string, readonly (readonly [string, NftEntry])[]>>;

const OWNED = new WeakMap<NftTable, Owned>();

/** A table's elements by their owner's comment and by set; sorted once, because every owner is asked for. */
function ownedIn(table: NftTable): Owned {
  const known = OWNED.get(table);
  if (known !== undefined) return known;
  const owned = new Map<string, Map<string, (readonly [string, NftEntry])[]>>();
  for (const [name, { elements }] of table.sets) {
    for (const one of elements) {
      const comment = one[1].comment ?? "";
      const sets = owned.get(comment) ?? new Map<string, (readonly [string, NftEntry])[]>();
      owned.set(comment, sets);
      const own = sets.get(name);
      if (own === undefined) sets.set(name, [one]);
      else own.push(one);
    }
  }
  OWNED.set(table, owned);
  return owned;
}

/** The owners' comments that the elements of a table carry. */
export function commentsIn(table: NftTable): Set<string> {
  return new Set([...ownedIn(table).keys()].filter((comment) => comment !== ""));
}

/** A container's rules, in the order in which they take effect. */
export function containerMeaning(table: NftTable, family: Family, comment: string): ContainerRule[] {
  const elements = new Elements(table, family, comment);
  return [
    ...elements.of("loopback", "loopback_range").map(
      ({ fields: [hostAddress = "", ...ports] }): ContainerRule => ({
        kind: "loopback-filter",
        hostAddress,
        ports: portsIn(ports),
      }),
    ),
    ...directAccess(elements),
    ...allowForwarded(elements),
    ...allowDirect(elements),
    ...allowDelivered(elements),
    ...dnats(elements),
    ...elements.of("hairpin", "hairpin_range").map(
      ({ fields: [source = "", address = "", ...ports] }): ContainerRule => ({
        kind: "hairpin",
        source: withMask(source),
        address,
        ports: portsIn(ports),
      }),
    ),
    ...elements.of("open", "open_range").map(
      ({ fields: [bridge = "", address = "", ...ports] }): ContainerRule => ({
        kind: "accept",
        address,
        bridge,
        ports: portsIn(ports),
      }),
    ),
  ];
}

/** Which of the interfaces is the bridge says nothing of what is dropped: the one behind which something is open. */
function directAccess(elements: Elements): ContainerRule[] {
  const behind = new Set(
    [...elements.of("open", "open_range"), ...elements.of("same")].map(({ fields: [bridge = ""] }) => bridge),
  );
  const near = elements.of("near");
  return elements.of("guarded").flatMap(({ fields: [address = ""] }) => {
    const by = near.filter(({ fields }) => fields[1] === address).map(({ fields: [name = ""] }) => name);
    const bridge = by.find((name) => behind.has(name)) ?? by.at(-1) ?? "";
    return [
      ...by
        .filter((name) => name !== bridge)
        .map((name): ContainerRule => ({ kind: "direct-access-accept", address, by: name })),
      { kind: "direct-access-filter", address, bridge },
    ];
  });
}

/** One port before ranges, and an address of the host before all: the first that matches decides. */
function dnats(elements: Elements): Dnat[] {
  const read = (name: "publish" | "publish_at", range: "" | "_range"): Dnat[] => {
    const proxied = new Map(
      elements
        .of(`${name === "publish" ? "proxied" : "proxied_at"}${range}`)
        .map(({ fields: [by = "", ...key] }) => [key.join(" "), by]),
    );
    return elements.of(`${name}${range}`).map(({ fields, value }) => {
      const [hostAddress, ports] = name === "publish" ? [undefined, fields] : [fields[0], fields.slice(1)];
      const [address = "", port] = fieldsOf(value);
      return {
        kind: "dnat",
        hostAddress,
        ports: portsIn(ports),
        to: { address, port: port === undefined ? undefined : Number(port), base: undefined },
        exceptFrom: proxied.get(fields.join(" ")),
      };
    });
  };
  return [
    ...movedRanges(read("publish_at", "")),
    ...read("publish_at", "_range"),
    ...movedRanges(read("publish", "")),
    ...read("publish", "_range"),
  ];
}

/** Ports that move together are an element each, and one rule. */
function movedRanges(dnats: readonly Dnat[]): Dnat[] {
  const shift = ({ ports, to }: Dnat) => (to.port ?? ports.first) - ports.first;
  const kind = ({ hostAddress, ports, to, exceptFrom }: Dnat) =>
    [ports.protocol, hostAddress, to.address, exceptFrom].join(" ");
  const sorted = [...dnats].sort((a, b) => compare(kind(a), kind(b)) || a.ports.first - b.ports.first);
  const merged: Dnat[] = [];
  for (const one of sorted) {
    const last = merged.at(-1);
    const follows = last !== undefined && kind(last) === kind(one) && last.ports.last + 1 === one.ports.first;
    if (!follows || shift(one) === 0 || shift(last) !== shift(one)) merged.push(one);
    else {
      const ports = { ...last.ports, last: one.ports.last };
      merged[merged.length - 1] = { ...last, ports, to: { ...last.to, base: last.ports.first } };
    }
  }
  return merged;
}

function allowForwarded(elements: Elements): ContainerRule[] {
  return elements.of("listed", "listed_reply", "listed_at", "listed_at_reply").flatMap(({ fields, value }) => {
    const list = elements.listAt(value);
    const [bridge = "", ...rest] = fields;
    const [hostAddress, address = "", protocol = "", port = ""] = rest.length === 4 ? rest : [undefined, ...rest];
    return list === undefined
      ? []
      : [{ kind: "allow-forwarded", ...list, hostAddress, ports: portsIn([protocol, port]), address, bridge } as const];
  });
}

function allowDelivered(elements: Elements): ContainerRule[] {
  return (["", "_at"] as const).flatMap((at) => {
    const inside = new Map(elements.of(`inside${at}`).map(({ fields: [by = "", ...key] }) => [key.join(" "), by]));
    return elements.of(`delivered${at}`, `sent${at}`).flatMap(({ fields, value }) => {
      const list = elements.listAt(value);
      const [hostAddress, ports] = at === "" ? [undefined, fields] : [fields[0], fields.slice(1)];
      const bridge = inside.get(fields.join(" "));
      return list === undefined
        ? []
        : [{ kind: "allow-delivered", ...list, hostAddress, ports: portsIn(ports), bridge } as const];
    });
  });
}

function allowDirect(elements: Elements): ContainerRule[] {
  const all = elements.of("direct", "direct_reply");
  const isDrop = ({ value }: Entry) => value === "drop";
  const sorted = [...all.filter((one) => !isDrop(one)), ...all.filter(isDrop)];
  return sorted.flatMap(({ fields, value }): ContainerRule[] => {
    const [bridge = "", address = "", ...ports] = fields;
    const place = { address, bridge, ports: portsIn(ports) };
    if (value === "drop") return [{ kind: "direct-port-filter", ...place }];
    const list = elements.listAt(value);
    return list === undefined ? [] : [{ kind: "allow-direct", ...list, ...place }];
  });
}

/** The host's rules: those of its first file and those of its last, which each have the comment of their file. */
export function hostMeaning(table: NftTable, family: Family, file: string): HostRule[] {
  const elements = new Elements(table, family, commentOfFile(file));
  const bridgesIn = (object: ObjectName) => elements.of(object).map(({ fields: [bridge = ""] }) => bridge);
  const within = new Map(elements.of("within").map(({ fields: [subnet = "", bridge = ""] }) => [subnet, bridge]));
  const masquerade = (subnet: string, hostAddress: string | undefined): HostRule[] => {
    const bridge = within.get(subnet);
    return bridge === undefined ? [] : [{ kind: "masquerade", subnet: withMask(subnet), bridge, hostAddress }];
  };
  return [
    ...publishedPorts(table, family, file),
    ...elements.of("masquerade").flatMap(({ fields: [subnet = ""] }) => masquerade(subnet, undefined)),
    ...elements.of("source").flatMap(({ fields: [subnet = ""], value }) => masquerade(subnet, value)),
    ...bridgesIn("masquerade_host").map(
      (bridge): HostRule => ({ kind: "masquerade-host", bridge, hostAddress: undefined }),
    ),
    ...elements
      .of("source_host")
      .map(({ fields: [bridge = ""], value }): HostRule => ({ kind: "masquerade-host", bridge, hostAddress: value })),
    ...bridgesIn("internal").flatMap((bridge): HostRule[] => [
      { kind: "internal", bridge, direction: "in" },
      { kind: "internal", bridge, direction: "out" },
    ]),
    ...bridgesIn("replies").map((bridge): HostRule => ({ kind: "replies", bridge })),
    ...bridgesIn("icmp").map((bridge): HostRule => ({ kind: "icmp", bridge })),
    ...bridgesIn("unprotected").map((bridge): HostRule => ({ kind: "unpublished", bridge, verdict: "accept" })),
    ...bridgesIn("closed").map((bridge): HostRule => ({ kind: "unpublished", bridge, verdict: "drop" })),
    ...bridgesIn("isolated").map((bridge): HostRule => ({ kind: "isolated", bridge })),
    ...bridgesIn("outgoing").map((bridge): HostRule => ({ kind: "outgoing", bridge })),
  ];
}

function commentOfFile(file: string): string {
  return commentFor(spellOwner(hostOwner(file)));
}

/** The chains are the first file's; they count where all of a family are as they were written. */
function publishedPorts(table: NftTable, family: Family, file: string): HostRule[] {
  if (file !== HOST_FILES[0]) return [];
  const proxy = [true, false].find((one) => hasChains(table, family, one));
  if (proxy === undefined) return [];
  return [
    { kind: "published-ports", from: "others" },
    { kind: "published-ports", from: "host", exceptLoopback: proxy },
  ];
}

function hasChains({ chains }: NftTable, family: Family, proxy: boolean): boolean {
  const other = FAMILIES.find((one) => one !== family) ?? family;
  return chainsOf(FAMILIES, { proxy })
    .filter(({ name }) => familyOfName(name) !== other)
    .every(({ name, hook, rules }) => {
      const running = chains.get(name);
      const hashes = running?.rules.map(({ hash }) => hash).join(" ");
      const isHooked = hook === undefined || running?.hook !== undefined;
      return isHooked && hashes === rules.map((rule) => ruleHash(rule)).join(" ");
    });
}

/** A list's chain, where it is as it was written: its sources are those in its sets. */
function readList(
  table: NftTable,
  chain: string,
  family: Family,
): Pick<AllowForwarded, "direction" | "sources"> | undefined {
  const keysOf = (suffix: string) => [...(table.sets.get(`${chain}_${suffix}`)?.elements.keys() ?? [])].map(fieldsOf);
  const sources: Source[] = [
    ...keysOf("from").map(([subnet = ""]) => ({ subnet: withMask(subnet), by: undefined })),
    ...keysOf("by").map(([by]) => ({ subnet: undefined, by })),
    ...keysOf("both").map(([by, subnet = ""]) => ({ subnet: withMask(subnet), by })),
  ].sort((a, b) => compare(a.by, b.by) || compare(a.subnet, b.subnet));
  const running = table.chains
    .get(chain)
    ?.rules.map(({ hash }) => hash)
    .join(" ");
  const direction = (["in", "out"] as const).find((one) => {
    const rules = listRules({ chain, family, direction: one, sources });
    return rules.map((rule) => ruleHash(rule)).join(" ") === running;
  });
  return direction === undefined ? undefined : { direction, sources };
}

function compare(a = "", b = ""): number {
  return a < b ? -1 : Number(a > b);
}

function portsIn([protocol = "", text = ""]: readonly string[]): PortRange {
  const [first = "", last = first] = text.split("-");
  return { protocol, first: Number(first), last: Number(last) };
}

function withMask(text: string): string {
  return text.includes("/") ? text : withHostMask(text);
}

function fieldsOf(key: string): string[] {
  return key.split(" . ").map((field) => field.replace(/^"(.*)"$/, "$1"));
}
