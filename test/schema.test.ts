// The closed sets of the result's schema: a code or a kind without its meaning would be missing from the reference.

import { expect, test } from "vitest";
import schema from "../schema/result.schema.json" with { type: "json" };

const { error, problems } = schema.properties;

test("each kind of problem says what to do", () => {
  const { enum: kinds, "x-remedies": remedies } = problems.items.properties.kind;
  expect(Object.keys(remedies)).toEqual(kinds);
});

test.each([
  ["error code", error.properties.code],
  ["kind of problem", problems.items.properties.kind],
] as const)("each %s has a meaning, and stands in its place by name", (_, { enum: words, "x-means": meanings }) => {
  expect(Object.keys(meanings)).toEqual(words);
  expect(words).toEqual([...words].sort());
});
