import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

/** Stories boot hosts: they need root, time, and the two cores for themselves. */
export default defineConfig({
  root: fileURLToPath(new URL("../..", import.meta.url)),
  test: {
    include: ["test/lab/**/*.story.ts"],
    testTimeout: 120_000,
    hookTimeout: 120_000,
    teardownTimeout: 30_000,
    fileParallelism: false,
    pool: "forks",
  },
});
