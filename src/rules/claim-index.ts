// Who claims what: finds those in each other's way without comparing each with each. Pure.

import { FAMILIES, type Family } from "../model/family.ts";
import type { ContainerOwner } from "../model/owner.ts";
import { type Claims, claimsOf, isRange, type Ports, sharedRange } from "./claims.ts";
import type { ContainerRules } from "./model.ts";
import { Ranges } from "./ranges.ts";

/** One container and what it claims. */
export interface Claimant {
  /** Its name. */
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

export function claimantOf({ owner, meaning }: { owner: ContainerOwner; meaning: ContainerRules }): Claimant {
  return { owner: owner.name, claims: { ipv4: claimsOf(meaning.ipv4), ipv6: claimsOf(meaning.ipv6) } };
}

/** Addresses of containers, by their names. */
export type Addresses = ReadonlyMap<string, Record<Family, readonly string[]>>;

/** The same with all of its addresses, also those to which no rule leads. */
export function withAddresses({ owner, claims }: Claimant, addresses: Addresses): Claimant {
  const all = ({ ports, addresses: named }: Claims, family: Family): Claims => ({
    ports,
    addresses: new Set([...named, ...(addresses.get(owner)?.[family] ?? [])]),
  });
  return { owner, claims: { ipv4: all(claims.ipv4, "ipv4"), ipv6: all(claims.ipv6, "ipv6") } };
}

const NOTHING: Claims = { ports: [], addresses: new Set() };

/** Who claims these in one family, and nothing in the other. */
export function claimantIn(family: Family, owner: string, claims: Claims): Claimant {
  return { owner, claims: { ipv4: NOTHING, ipv6: NOTHING, [family]: claims } };
}

/** A claim of a port on one address, or on every one. */
interface Held {
  ports: Ports;
  claimant: Claimant;
}

/** The cost of a lookup does not grow with the number of claimants, nor with how many of them share one claim. */
export class ClaimIndex {
  /** By family; by family and protocol; by family, protocol and host address. */
  readonly #ports = new Map<string, Ranges<Held>>();
  /** The first of each address. */
  readonly #addresses = new Map<string, Claimant>();
  readonly #places = new Map<Claimant, number>();

  constructor(claimants: readonly Claimant[] = []) {
    for (const claimant of claimants) this.add(claimant);
  }

  add(claimant: Claimant): void {
    this.#places.set(claimant, this.#places.size);
    for (const family of FAMILIES) {
      const { ports, addresses } = claimant.claims[family];
      for (const some of ports) {
        for (const key of [family, protocolOf(family, some), placeOf(family, some)]) {
          const known = this.#ports.get(key) ?? new Ranges();
          this.#ports.set(key, known);
          known.add(some, { ports: some, claimant });
        }
      }
      for (const address of addresses) {
        if (!this.#addresses.has(address)) this.#addresses.set(address, claimant);
      }
    }
  }

  /**
   * Of those who share something with these claims the first one for each port or range, and for each address: each once a
   * family, in the order in which they were added.
   */
  sharing({ claims }: Claimant): Shared[] {
    return FAMILIES.flatMap((family) => {
      const found = new Map<Claimant, Shared>();
      for (const mine of claims[family].ports) {
        for (const { ports: theirs, claimant } of this.#firstWith(mine, family)) {
          const ports = found.has(claimant) ? undefined : sharedRange(mine, theirs);
          if (ports !== undefined) found.set(claimant, { claimant, family, ports, address: undefined });
        }
      }
      for (const address of claims[family].addresses) {
        const claimant = this.#addresses.get(address);
        if (claimant === undefined) continue;
        const known = found.get(claimant) ?? { claimant, family, ports: undefined };
        found.set(claimant, { ...known, address });
      }
      return [...found.values()];
    }).sort((a, b) => this.#placeOf(a) - this.#placeOf(b));
  }

  /**
   * Whether a fragment's text may share a claim, without parsing all of it: a directory has many. Never false for one that does.
   */
  mayShare(text: string, family: Family): boolean {
    for (const [word] of text.matchAll(/\d+(?:\.\d+){3}|[\da-f]*:[\da-f:.]+/gi)) {
      if (this.#addresses.has(word.toLowerCase())) return true;
    }
    for (const [, from, to = from] of text.matchAll(/ --dport (\d+)(?::(\d+))? .*-j DNAT /g)) {
      const asked = { first: Number(from), last: Number(to) };
      if (isRange(asked) && this.#ports.get(family)?.first(asked) !== undefined) return true;
    }
    return false;
  }

  /** On one address: the first there, and the first of those on every address. */
  #firstWith(mine: Ports, family: Family): Held[] {
    const everywhere = { ...mine, hostAddress: undefined };
    const keys =
      mine.hostAddress === undefined
        ? [protocolOf(family, mine)]
        : [placeOf(family, mine), placeOf(family, everywhere)];
    return keys.flatMap((key) => this.#ports.get(key)?.first(mine) ?? []);
  }

  #placeOf({ claimant }: Shared): number {
    return this.#places.get(claimant) ?? 0;
  }
}

function protocolOf(family: Family, { protocol }: Ports): string {
  return `${family} ${protocol}`;
}

function placeOf(family: Family, ports: Ports): string {
  return `${protocolOf(family, ports)} ${ports.hostAddress ?? "*"}`;
}
