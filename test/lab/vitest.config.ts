import { availableParallelism } from "node:os";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";

/** It checks everything that labs leave on the machine, so no other may run. */
const ALONE = "test/lab/killed.story.ts";

/** The longest ones first, so that none of them runs at the end, alone. */
const FIRST = [
  "package",
  "watch",
  "nft",
  "ansible",
  "confirm",
  "allow-matrix",
  "network-options",
  "spelling",
  "monitoring",
];

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification) => {
      const place = FIRST.indexOf(basename(moduleId, ".story.ts"));
      return place === -1 ? FIRST.length : place;
    };
    return [...files].sort((one, other) => rank(one) - rank(other) || one.moduleId.localeCompare(other.moduleId));
  }
}

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
    globalSetup: "test/lab/before-all.ts",
    sequence: { sequencer: LongestFirst },
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
