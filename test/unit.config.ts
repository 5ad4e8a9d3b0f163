// `npm run test:unit`: the tests of what computes only, without the properties that take long. They need no build but
// `npm run generate`.

import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";
import { PURE_TESTS, TOP } from "./pure-tests.ts";

export default defineConfig({
  root: TOP,
  test: {
    include: PURE_TESTS.filter((path) => !path.includes("-properties")),
    isolate: false,
    // For what hangs, as in vitest.config.ts.
    testTimeout: 900_000,
    maxWorkers: Math.max(2, availableParallelism()),
  },
});
