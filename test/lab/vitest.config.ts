import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

/** It checks everything that labs leave on the machine, so no other may run. */
const ALONE = "test/lab/killed.story.ts";

/** Stories boot hosts: they need root and time. Mostly they wait, so two files share a small machine. */
export default defineConfig({
  root: fileURLToPath(new URL("../..", import.meta.url)),
  test: {
    // Limits for what hangs: what only is slow, on a machine that has much to do, must not fail.
    testTimeout: 900_000,
    hookTimeout: 900_000,
    teardownTimeout: 30_000,
    maxWorkers: Math.max(2, Math.ceil(availableParallelism() / 2)),
    pool: "forks",
    projects: [
      {
        extends: true,
        test: {
          name: "some at a time",
          include: ["test/lab/**/*.story.ts"],
          exclude: [ALONE],
          sequence: { groupOrder: 0 },
        },
      },
      { extends: true, test: { name: "alone", include: [ALONE], sequence: { groupOrder: 1 } } },
    ],
  },
});
