import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";
import { PURE_TESTS } from "./test/pure-tests.ts";

export default defineConfig({
  test: {
    // Limits for what hangs. What only is slow, on a machine that has much to do, must not fail.
    testTimeout: 900_000,
    hookTimeout: 900_000,
    maxWorkers: Math.max(2, availableParallelism()),
    projects: [
      {
        extends: true,
        test: { name: "programs", include: ["test/**/*.test.ts"], exclude: PURE_TESTS, globalSetup: "test/run.ts" },
      },
      { extends: true, test: { name: "pure", include: PURE_TESTS, isolate: false } },
    ],
  },
});
