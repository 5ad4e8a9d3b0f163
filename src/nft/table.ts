// Our table as it should be, as it is, and what makes one the other. Pure.
//
// As it should be it is the lines of all fragments together: an element that two of them state is there once, and goes with the last. As it
// is it is what `nft --json list table` prints, read tolerantly: its words differ from version to version (1.1.4 changed some).

import ipaddr from "ipaddr.js";
import {
  ADD_TABLE,
  addChain,
  addRule,
  addSet,
  DELETE_TABLE,
  elementsCommand,
  emptyOrDelete,
  readCommand,
  spellElement,
} from "./commands.ts";

/** A set or a map, with what is in it. */
export interface NftSet {
  kind: "set" | "map";
  /** `inet_proto . inet_service : ipv4_addr; flags interval`, in one spelling. */
  type: string;
  /** By key, in the words of elements.ts. */
  elements: ReadonlyMap<string, NftEntry>;
}

export interface NftEntry {
  /** Of a map. */
  value: string | undefined;
  comment: string | undefined;
}

export interface NftChain {
  /** `filter forward -150 accept`; undefined where no hook leads to it. */
  hook: string | undefined;
  rules: readonly NftRule[];
}

export interface NftRule {
  /** By which it is known again (`ruleComment`); "" of one that is not ours. */
  hash: string;
  /** Its owner's, without the hash: of a long one as much as fits. */
  comment: string;
  /** As it is written; "" of what runs. */
  text: string;
}

export interface NftTable {
  sets: ReadonlyMap<string, NftSet>;
  chains: ReadonlyMap<string, NftChain>;
}

/** What `nft --json list table` prints; undefined for what it does not. */
export function readTable(json: string): NftTable | undefined {
  const listed = objectsIn(json);
  if (listed === undefined) return undefined;
  const sets = new Map<string, NftSet>();
  const chains = new Map<string, { hook: string | undefined; rules: NftRule[] }>();
  for (const object of listed) {
    for (const kind of ["set", "map"] as const) {
      const one = object[kind];
      if (isRecord(one)) sets.set(String(one["name"]), readSet(kind, one));
    }
    const { chain, rule } = object;
    if (isRecord(chain)) chains.set(String(chain["name"]), { hook: readHook(chain), rules: [] });
    if (isRecord(rule)) chains.get(String(rule["chain"]))?.rules.push({ ...readComment(rule["comment"]), text: "" });
  }
  return { sets, chains };
}

/** Whose a rule is, and with what its comment ends; "" for one that is not ours. */
function readComment(comment: unknown): Pick<NftRule, "hash" | "comment"> {
  const [, owner = "", hash = ""] =
    (typeof comment === "string" && /^(docker_iptables: .*) ([\da-f]{8})$/.exec(comment)) || [];
  return { hash, comment: owner };
}

function objectsIn(json: string): Record<string, unknown>[] | undefined {
  try {
    const read: unknown = JSON.parse(json);
    const listed = isRecord(read) ? read["nftables"] : undefined;
    return Array.isArray(listed) ? listed.filter(isRecord) : undefined;
  } catch {
    return undefined;
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function readSet(kind: "set" | "map", set: Record<string, unknown>): NftSet {
  const { elem, flags } = set;
  const types = typesIn(set["type"]);
  const leads = kind === "map" ? typesIn(set["map"]) : [];
  const elements = new Map<string, NftEntry>();
  for (const one of Array.isArray(elem) ? elem : []) {
    const [left, right] = kind === "map" && Array.isArray(one) ? one : [one, undefined];
    const { val, comment }: Record<string, unknown> =
      isRecord(left) && isRecord(left["elem"]) ? left["elem"] : { val: left };
    elements.set(readFields(val, types), {
      value: right === undefined ? undefined : readFields(right, leads),
      comment: typeof comment === "string" ? comment : undefined,
    });
  }
  const isInterval = [flags].flat().includes("interval");
  const type = leads.length === 0 ? types.join(" . ") : `${types.join(" . ")} : ${leads.join(" . ")}`;
  return { kind, type: `${type}${isInterval ? "; flags interval" : ""}`, elements };
}

/** "ipv4_addr . inet_service", or a list of them. */
function typesIn(types: unknown): string[] {
  return [types].flat().flatMap((one) => String(one).split(" . "));
}

/** A key or a value in the words of elements.ts. */
function readFields(value: unknown, types: readonly string[]): string {
  const fields = isRecord(value) && Array.isArray(value["concat"]) ? value["concat"] : [value];
  return fields.map((field, at) => readField(field, types[at] ?? "")).join(" . ");
}

function readField(field: unknown, type: string): string {
  if (!isRecord(field)) return spellWord(String(field), type);
  const { range, prefix, jump } = field;
  if (Array.isArray(range)) return range.map((one) => readField(one, type)).join("-");
  if (isRecord(prefix)) return `${readField(prefix["addr"], type)}/${prefix["len"]}`;
  return isRecord(jump) ? `jump ${jump["target"]}` : (Object.keys(field)[0] ?? "");
}

/** A host without /etc/protocols has no names of them. */
const PROTOCOLS = new Map([
  ["6", "tcp"],
  ["17", "udp"],
  ["132", "sctp"],
]);

function spellWord(word: string, type: string): string {
  switch (type) {
    case "ifname":
      return `"${word}"`;
    case "inet_proto":
      return PROTOCOLS.get(word) ?? word;
    case "ipv6_addr":
      return ipaddr.IPv6.isValid(word) ? ipaddr.IPv6.parse(word).toRFC5952String() : word;
    default:
      return word;
  }
}

function readHook({ type, hook, prio, policy }: Record<string, unknown>): string | undefined {
  return hook === undefined ? undefined : [type, hook, prio, policy].join(" ");
}

/**
 * What the lines of fragments make of a table that is not there; and which of them, by their place, are none of ours. `known` are sets
 * that other lines than these declare.
 */
export function readLines(
  lines: readonly string[],
  known: ReadonlyMap<string, Pick<NftSet, "kind" | "type">> = new Map(),
): { table: NftTable; strange: number[] } {
  const sets = new Map<string, { kind: "set" | "map"; type: string; elements: Map<string, NftEntry> }>();
  const chains = new Map<string, { hook: string | undefined; rules: NftRule[] }>();
  const take = (line: string): boolean => {
    const command = readCommand(line);
    switch (command?.kind) {
      case undefined:
        return false;
      case "add set":
      case "add map": {
        const { kind, name, type } = command;
        if (!sets.has(name)) sets.set(name, { kind: kind === "add set" ? "set" : "map", type, elements: new Map() });
        return true;
      }
      case "add element": {
        const { name, key, value, comment } = command;
        const declared = known.get(name);
        if (declared !== undefined && !sets.has(name)) sets.set(name, { ...declared, elements: new Map() });
        const into = sets.get(name)?.elements;
        if (into !== undefined && !into.has(key)) into.set(key, { value, comment });
        return into !== undefined;
      }
      case "add chain": {
        const { name, hook } = command;
        if (!chains.has(name)) chains.set(name, { hook, rules: [] });
        return true;
      }
      case "flush chain":
        chains.set(command.name, { hook: chains.get(command.name)?.hook, rules: [] });
        return true;
      case "add rule": {
        const { name, rule } = command;
        chains.get(name)?.rules.push({ ...readComment(/ comment "([^"]*)"$/.exec(rule)?.[1]), text: rule });
        return chains.has(name);
      }
      // Of what is read at once nothing is there twice.
      default:
        return true;
    }
  };
  const isSaid = (line: string) => line === "" || line.startsWith("#") || line.startsWith('include "') || take(line);
  const strange = lines.flatMap((line, at) => (isSaid(line) ? [] : [at]));
  return { table: { sets, chains }, strange };
}

/** The same of lines that are all ours; undefined where one is not. */
export function tableOf(lines: readonly string[]): NftTable | undefined {
  const { table, strange } = readLines(lines);
  return strange.length === 0 ? table : undefined;
}

/** The lines of one transaction after which the table is as it should be, whatever there is now; none where it is. */
export function changesFor(goal: NftTable, live: NftTable | undefined): string[] {
  if (goal.sets.size + goal.chains.size === 0) return live === undefined ? [] : [DELETE_TABLE];
  // A table that is not there cannot be deleted, and one that is added again stays as it is.
  return difference(goal, live) ?? [ADD_TABLE, DELETE_TABLE, ADD_TABLE, ...(difference(goal, NOTHING) ?? [])];
}

/** Of a table without anything in it, and of what is not there. */
export const NOTHING: NftTable = { sets: new Map(), chains: new Map() };

/**
 * The lines of one transaction that makes a live table the other: elements, and of chains those that differ. Undefined where the table must
 * be replaced as a whole: it is not there, or a set of it is of another type.
 */
export function difference(goal: NftTable, live: NftTable | undefined): string[] | undefined {
  if (live === undefined) return undefined;
  for (const [name, { kind, type }] of goal.sets) {
    const running = live.sets.get(name);
    if (running !== undefined && (running.kind !== kind || running.type !== type)) return undefined;
  }
  for (const [name, { hook }] of goal.chains)
    if (live.chains.has(name) && live.chains.get(name)?.hook !== hook) return undefined;
  const isSame = (name: string) => hashesOf(goal.chains.get(name)) === hashesOf(live.chains.get(name));
  const changed = [...goal.chains].filter(([name]) => !live.chains.has(name) || !isSame(name));
  const gone = { chains: lackingIn(goal.chains, live.chains), sets: lackingIn(goal.sets, live.sets) };
  const going = [...live.sets]
    .filter(([name]) => goal.sets.has(name))
    .map(
      ([name, { elements }]) => [name, [...elements].filter(([key, one]) => goesFrom(goal, name, key, one))] as const,
    );
  const coming = [...goal.sets].map(([name, { elements }]) => {
    const running = live.sets.get(name)?.elements;
    return [name, [...elements].filter(([key, entry]) => !isSameEntry(running?.get(key), entry))] as const;
  });
  return [
    ...[...goal.sets]
      .filter(([name]) => !live.sets.has(name))
      .map(([name, { kind, type }]) => addSet(kind, name, type)),
    ...changed.filter(([name]) => !live.chains.has(name)).map(([name, { hook }]) => addChain(name, hook)),
    ...changed.filter(([name]) => live.chains.has(name)).map(([name]) => emptyOrDelete("flush", "chain", name)),
    ...going.flatMap(([name, some]) =>
      elementsCommand(
        "delete",
        name,
        some.map(([key]) => key),
      ),
    ),
    // Nothing leads to them any more.
    ...gone.chains.map((name) => emptyOrDelete("flush", "chain", name)),
    ...gone.chains.map((name) => emptyOrDelete("delete", "chain", name)),
    ...gone.sets.map((name) => emptyOrDelete("delete", live.sets.get(name)?.kind ?? "set", name)),
    ...changed.flatMap(([name, { rules }]) => rules.map(({ text }) => addRule(name, text))),
    ...coming.flatMap(([name, some]) =>
      elementsCommand(
        "add",
        name,
        some.map(([key, { comment, value }]) => spellElement(key, comment, value)),
      ),
    ),
  ];
}

function hashesOf(chain: NftChain | undefined): string {
  // A rule that is not ours is like no other.
  return (chain?.rules ?? []).map(({ hash, text }) => hash || `foreign ${text}`).join(" ");
}

function lackingIn(goal: ReadonlyMap<string, unknown>, live: ReadonlyMap<string, unknown>): string[] {
  return [...live.keys()].filter((name) => !goal.has(name));
}

function goesFrom(goal: NftTable, name: string, key: string, entry: NftEntry): boolean {
  return !isSameEntry(goal.sets.get(name)?.elements.get(key), entry);
}

/** With the owner: an element that two fragments state is the other's once the first is gone. */
function isSameEntry(one: NftEntry | undefined, other: NftEntry): boolean {
  return one !== undefined && one.value === other.value && one.comment === other.comment;
}
