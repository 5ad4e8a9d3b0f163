// The near word (src/suggest.ts).

import fc from "fast-check";
import { expect, test } from "vitest";
import { nearest, orNearest } from "../../src/text/suggest.ts";

test.each<[string, string[], string | undefined]>([
  ["crate", ["create", "delete"], "create"],
  ["wbe", ["web", "db"], "web"],
  ["webb", ["web", "db"], "web"],
  ["Web", ["web", "db"], "web"],
  ["hello-wrold", ["hello-world", "hello"], "hello-world"],
  ["web", ["db", "cache"], undefined],
  ["web", ["shop-web-1", "shop-db-1"], "shop-web-1"],
  ["web", ["shop-web-1", "shop-web-2"], undefined],
  ["web", [], undefined],
  ["", ["a", "web"], undefined],
  ["a", ["b"], undefined],
])("%s of %j", (word, candidates, near) => {
  expect(nearest(word, candidates)).toBe(near);
});

test("the nearest of several, in whatever order they come", () => {
  fc.assert(
    fc.property(fc.shuffledSubarray(["web", "web1", "wob1", "xweb12"], { minLength: 4 }), (names) => {
      expect(nearest("web12", names)).toBe("web1");
    }),
  );
});

test("one slip in a longer word is always found, and the word itself is never the answer", () => {
  const word = fc.stringMatching(/^[a-z]{4,20}$/);
  fc.assert(
    fc.property(word, fc.nat(), (meant, place) => {
      const at = place % meant.length;
      expect(nearest(meant.slice(0, at) + meant.slice(at + 1), [meant])).toBe(meant);
      expect(nearest(meant, [meant])).toBeUndefined();
    }),
  );
});

test("as a question in a sentence", () => {
  expect(orNearest("wbe", ["web"])).toBe(" (did you mean web?)");
  expect(orNearest("wbe", ["cache"])).toBe("");
});
