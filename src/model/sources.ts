// Sources of a list, each a subnet, an interface, or both: what they hold, and what two lists have in common. Pure.

import { bitsOf, isWithin } from "./addresses.ts";
import type { Family } from "./family.ts";

/** From where packets come; with both, what comes from there by it. */
export interface Source {
  /** In canonical spelling, with its mask; undefined for every address of both families. */
  subnet: string | undefined;
  /** By which they come; undefined for every interface. */
  by: string | undefined;
}

/** Of an address or a subnet. */
export function familyOf(text: string): Family {
  return text.includes(":") ? "ipv6" : "ipv4";
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
    const found: Source[] = [];
    for (const place of places) {
      for (const length of this.#lengths) {
        if (length > bits.length) break;
        const one = this.#places.get(place)?.get(bits.slice(0, length));
        if (one !== undefined) found.push(one);
      }
    }
    return found;
  }
}

const BITS = new WeakMap<Source, string>();

/** With which the addresses of a source begin, the family's digit first. */
function firstBits(one: Source): string {
  const { subnet } = one;
  const bits = BITS.get(one) ?? (subnet === undefined ? "" : (bitsOf(subnet) ?? `none ${subnet}`));
  BITS.set(one, bits);
  return bits;
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
export const MOST_SPELLED = 20;

/** A list of one family in words: "10.0.0.0/8, wg0", or "this host". */
export function spellSources(sources: readonly Source[]): string {
  const more = sources.length - MOST_SPELLED;
  const words = sources.slice(0, MOST_SPELLED).map(spellSource);
  return [...words, ...(more > 0 ? [`${more} more`] : [])].join(", ") || "this host";
}
