// Every surface with hostile input of a fixed seed; `npm run fuzz` continues with others until it is stopped.

import fc from "fast-check";
import { expect, test } from "vitest";
import { SURFACES } from "./surfaces.ts";

test.each(SURFACES)("$name", ({ property, runs }) => {
  fc.assert(property, { seed: 13, numRuns: runs });
});

test("no two surfaces have one name, by which a person picks one", () => {
  expect(new Set(SURFACES.map(({ name }) => name)).size).toBe(SURFACES.length);
});
