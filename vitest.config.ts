import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: "test/run.ts",
    // Limits for what hangs. What only is slow, on a machine that has much to do, must not fail.
    testTimeout: 900_000,
    hookTimeout: 900_000,
    maxWorkers: Math.max(2, availableParallelism()),
  },
});
