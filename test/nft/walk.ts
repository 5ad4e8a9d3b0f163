/*
 * What chains of our table do with the first packet of a connection: an interpreter of just the words that our rules have, which throws for
 * any other. It knows nothing of what the rules mean.
 */

import { isWithin } from "../../src/model/addresses.ts";
import { PROTOCOLS } from "../../src/model/family.ts";
import type { NftTable } from "../../src/nft/table.ts";

export interface NftPacket {
  family: "ipv4" | "ipv6";
  iifname: string;
  oifname: string;
  source: string;
  destination: string;
  protocol: string;
  sport: number;
  dport: number;
  /** conntrack's. */
  translated: boolean;
  original: { destination: string; port: number };
  isLocal: (address: string) => boolean;
}

/** "accept", "drop", "masquerade", "dnat ADDRESS[ . PORT]", "snat ADDRESS"; undefined where the chain ends without one. */
export type NftVerdict = string | undefined;

export function walkChain(table: NftTable, chain: string, packet: NftPacket): NftVerdict {
  const found = table.chains.get(chain);
  if (found === undefined) throw new Error(`no chain ${chain}`);
  for (const { text } of found.rules) {
    const verdict = follow(table, text, packet);
    if (verdict === "return") return undefined;
    if (verdict !== undefined) return verdict;
  }
  return undefined;
}

/** A rule's words from the left; undefined where it does not match, or lets the packet go on. */
function follow(table: NftTable, text: string, packet: NftPacket): NftVerdict {
  let rest = text.replace(/ ?comment "[^"]*"$/, "");
  const take = (pattern: RegExp) => {
    const match = pattern.exec(rest);
    if (match === null || match.index !== 0) return undefined;
    rest = rest.slice(match[0].length).trimStart();
    return match;
  };
  while (rest !== "") {
    const ends = take(/(accept|drop|return|masquerade)$/);
    if (ends) return ends[1];
    const jump = take(/jump (\S+)$/);
    if (jump) return walkChain(table, jump[1] ?? "", packet);
    const nat = take(/(dnat|snat) (ip6?) to (.+) map @(\S+)$/);
    if (nat) {
      // `ip` is a match of the family, too.
      if ((nat[2] === "ip") !== (packet.family === "ipv4")) return undefined;
      const to = lookUp(table, nat[4] ?? "", fieldsOf(nat[3] ?? "", packet));
      return to === undefined ? undefined : `${nat[1]} ${to.value}`;
    }
    const vmap = take(VMAP);
    if (vmap) {
      const verdict = lookUp(table, vmap[2] ?? "", fieldsOf(vmap[1] ?? "", packet))?.value;
      return verdict?.startsWith("jump ") ? walkChain(table, verdict.slice(5), packet) : verdict;
    }
    if (!takeMatch(take, table, packet)) return undefined;
  }
  return undefined;
}

type Take = (pattern: RegExp) => RegExpExecArray | undefined;

const FIELD = `(?:iifname|oifname|ip6? [sd]addr|meta l4proto|th [sd]port|(?:tcp|udp|sctp) dport|ct original (?:ip6? daddr|proto-dst))`;
const FIELDS = String.raw`(${FIELD}(?: \. ${FIELD})*)`;

const VMAP = new RegExp(`${FIELDS} vmap @(\\S+)$`);

/** Whether the next match holds. */
function takeMatch(take: Take, table: NftTable, packet: NftPacket): boolean {
  const family = take(/meta nfproto (\S+)/);
  if (family) return family[1] === packet.family;
  const status = take(/ct status (! )?dnat/);
  if (status) return packet.translated === (status[1] === undefined);
  // It is the first packet.
  const direction = take(/ct direction (original|reply)/);
  if (direction) return direction[1] === "original";
  if (take(/ct state established,related/)) return false;
  const fib = take(/fib (daddr|saddr) type local/);
  if (fib) return packet.isLocal(fib[1] === "daddr" ? packet.destination : packet.source);
  const set = take(new RegExp(`${FIELDS} (!= )?@(\\S+)`));
  if (set)
    return (lookUp(table, set[3] ?? "", fieldsOf(set[1] ?? "", packet)) !== undefined) === (set[2] === undefined);
  const value = take(new RegExp(`(${FIELD}) (!= )?("[^"]*"|[^\\s.@]\\S*)`));
  if (value) {
    const [is] = fieldsOf(value[1] ?? "", packet);
    return holds(is, value[3] ?? "") === (value[2] === undefined);
  }
  throw new Error("a word of a rule is not known");
}

/** The words of each; undefined where the packet has no such field. */
function fieldsOf(text: string, packet: NftPacket): (string | undefined)[] {
  return text.split(" . ").map((field) => {
    const hasPorts = PROTOCOLS.some((one) => one === packet.protocol);
    switch (field) {
      case "iifname":
        return `"${packet.iifname}"`;
      case "oifname":
        return `"${packet.oifname}"`;
      case "meta l4proto":
        return packet.protocol;
      case "th dport":
        return hasPorts ? String(packet.dport) : undefined;
      case "th sport":
        return hasPorts ? String(packet.sport) : undefined;
      case "ct original proto-dst":
        return String(packet.original.port);
    }
    const [, original, ip, which] = /^(ct original )?(ip6?) ([sd])addr$/.exec(field) ?? [];
    if (ip !== undefined) {
      if ((ip === "ip") !== (packet.family === "ipv4")) return undefined;
      if (original !== undefined) return packet.original.destination;
      return which === "s" ? packet.source : packet.destination;
    }
    const [, protocol] = /^(tcp|udp|sctp) dport$/.exec(field) ?? [];
    if (protocol !== undefined) return packet.protocol === protocol ? String(packet.dport) : undefined;
    throw new Error(`the field ${field} is not known`);
  });
}

function lookUp(table: NftTable, name: string, fields: readonly (string | undefined)[]) {
  const set = table.sets.get(name);
  if (set === undefined) throw new Error(`no set ${name}`);
  if (fields.includes(undefined)) return undefined;
  if (!set.type.includes("flags interval")) return set.elements.get(fields.join(" . "));
  for (const [key, entry] of set.elements) {
    const parts = key.split(" . ");
    if (parts.length !== fields.length) throw new Error(`the key ${key} has not as many fields as it is asked for`);
    if (parts.every((part, at) => holds(fields[at], part))) return entry;
  }
  return undefined;
}

/** Whether a value is the one, or in the range or the subnet. */
function holds(value: string | undefined, words: string): boolean {
  if (value === undefined) return false;
  if (value === words) return true;
  const range = /^(\d+)-(\d+)$/.exec(words);
  if (range) return Number(value) >= Number(range[1]) && Number(value) <= Number(range[2]);
  return words.includes("/") && isWithin(value, words) === true;
}
