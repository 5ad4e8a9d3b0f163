// Ranges of ports, and who came first to some of them: a segment tree over all ports. Pure.

import type { Ports } from "./claims.ts";

type Range = Pick<Ports, "first" | "last">;

/** Ports are the leaves 65,536 to 131,071; node n has the children 2n and 2n + 1. */
const LEAVES = 65_536;

/** An addition and a lookup take some dozen steps each, however many ranges there are and however long. */
export class Ranges<T> {
  /** Node -> the first that has all of its ports. */
  readonly #whole = new Map<number, Came<T>>();
  /** Node -> the first that has some of its ports, save those that have more than all of them. */
  readonly #partly = new Map<number, Came<T>>();
  #count = 0;

  add(range: Range, value: T): void {
    const came = { place: this.#count++, value };
    for (const node of nodesOf(range)) {
      if (!this.#whole.has(node)) this.#whole.set(node, came);
      for (let up = node; up > 0 && !this.#partly.has(up); up >>= 1) this.#partly.set(up, came);
    }
  }

  /** Of those that have some port of the range, the one that was added first. */
  first(range: Range): T | undefined {
    let first: Came<T> | undefined;
    const meet = (came: Came<T> | undefined) => {
      if (came !== undefined && (first === undefined || came.place < first.place)) first = came;
    };
    for (const node of nodesOf(range)) {
      meet(this.#partly.get(node));
      for (let up = node >> 1; up > 0; up >>= 1) meet(this.#whole.get(up));
    }
    return first?.value;
  }
}

interface Came<T> {
  place: number;
  value: T;
}

/** The fewest nodes that have these ports and no others: two of each height at most. */
function* nodesOf({ first, last }: Range): Iterable<number> {
  let low = first + LEAVES;
  let high = last + LEAVES + 1;
  for (; low < high; low >>= 1, high >>= 1) {
    if (low & 1) yield low++;
    if (high & 1) yield --high;
  }
}
