// Who claims what: finds those in each other's way without comparing each with each. Pure.

import { FAMILIES, type Family } from "../docker/container.ts";
import { type Claims, type Ports, readClaims, sharedRange } from "./claims.ts";
import type { Wanted } from "./fragment-text.ts";

/** One container and what it claims. */
export interface Claimant {
  owner: string;
  claims: Record<Family, Claims>;
}

/** What a claimant shares with another: ports, or else a container's address. */
export interface Shared {
  claimant: Claimant;
  family: Family;
  ports: Ports | undefined;
  address: string | undefined;
}

export function claimantOf({ owner, rules }: Pick<Wanted, "owner" | "rules">): Claimant {
  const claims = (family: Family) => readClaims(new Map(Object.entries(rules[family])));
  return { owner, claims: { ipv4: claims("ipv4"), ipv6: claims("ipv6") } };
}

const NOTHING: Claims = { ports: [], addresses: new Set() };

/** Who claims these in one family, and nothing in the other. */
export function claimantIn(family: Family, owner: string, claims: Claims): Claimant {
  return { owner, claims: { ipv4: NOTHING, ipv6: NOTHING, [family]: claims } };
}

export class Register {
  /** By family and block of 64 ports. */
  readonly #ports: Record<Family, Map<number, { ports: Ports; claimant: Claimant }[]>> = {
    ipv4: new Map(),
    ipv6: new Map(),
  };
  readonly #addresses = new Map<string, Claimant[]>();
  readonly #places = new Map<Claimant, number>();

  constructor(claimants: readonly Claimant[] = []) {
    for (const claimant of claimants) this.add(claimant);
  }

  add(claimant: Claimant): void {
    this.#places.set(claimant, this.#places.size);
    for (const family of FAMILIES) {
      const { ports, addresses } = claimant.claims[family];
      for (const some of ports) {
        for (const block of blocksOf(some)) append(this.#ports[family], block, { ports: some, claimant });
      }
      for (const address of addresses) append(this.#addresses, address, claimant);
    }
  }

  /** Those who share something with these claims, each once a family, in the order in which they were added. */
  sharing({ claims }: Claimant): Shared[] {
    return FAMILIES.flatMap((family) => {
      const found = new Map<Claimant, Shared>();
      for (const mine of claims[family].ports) {
        for (const { ports: theirs, claimant } of this.#near(mine, family)) {
          const ports = found.has(claimant) ? undefined : sharedRange(mine, theirs);
          if (ports !== undefined) found.set(claimant, { claimant, family, ports, address: undefined });
        }
      }
      for (const address of claims[family].addresses) {
        for (const claimant of this.#addresses.get(address) ?? []) {
          const known = found.get(claimant) ?? { claimant, family, ports: undefined };
          found.set(claimant, { ...known, address });
        }
      }
      return [...found.values()];
    }).sort((a, b) => this.#placeOf(a) - this.#placeOf(b));
  }

  /**
   * Whether a fragment's text may share something with somebody, without reading all of it: a directory has many.
   * It never says no to one that does.
   */
  mayShare(text: string, family: Family): boolean {
    for (const [word] of text.matchAll(/\d+(?:\.\d+){3}|[\da-f]*:[\da-f:.]+/gi)) {
      if (this.#addresses.has(word.toLowerCase())) return true;
    }
    for (const [, from, to = from] of text.matchAll(/ --dport (\d+)(?::(\d+))? .*-j DNAT /g)) {
      const asked = { first: Number(from), last: Number(to) };
      for (const { ports } of this.#near(asked, family)) {
        if (ports.first <= asked.last && asked.first <= ports.last) return true;
      }
    }
    return false;
  }

  *#near(asked: Pick<Ports, "first" | "last">, family: Family) {
    for (const block of blocksOf(asked)) yield* this.#ports[family].get(block) ?? [];
  }

  #placeOf({ claimant }: Shared): number {
    return this.#places.get(claimant) ?? 0;
  }
}

function* blocksOf({ first, last }: Pick<Ports, "first" | "last">): Iterable<number> {
  for (let block = first >> 6; block <= last >> 6; block++) yield block;
}

function append<K, V>(lists: Map<K, V[]>, key: K, value: V): void {
  const known = lists.get(key);
  if (known) known.push(value);
  else lists.set(key, [value]);
}
