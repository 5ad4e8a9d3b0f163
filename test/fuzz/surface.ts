// What a fuzzer attacks: each reader of text from outside is a surface, with hostile input and what must hold for all of it.

import type fc from "fast-check";

export interface Surface {
  name: string;
  /** Throws, or is false, for an input with which something does not hold. */
  property: fc.IProperty<unknown>;
  /** How many inputs a run of the tests tries; they have the same seed each time. */
  runs: number;
}

/** The common shape of a property of one input or several. */
export function surface<T>(name: string, runs: number, property: fc.IProperty<T>): Surface {
  return { name, runs, property: property as fc.IProperty<unknown> };
}
