// `npm run test:unit`: the tests of what computes only, without the properties that take long. They need no build but
// `npm run generate`, and start no program.

import { readdirSync, readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const TOP = fileURLToPath(new URL("..", import.meta.url));
const ROOMS =
  /^test\/(?!.*-properties)((cli|commands|docker|fragments|iptables|model|netfilter|plan|rules|systemd|text)\/)?[\w-]+\.test\.ts$/;
const STARTS_PROGRAMS = /from "(node:child_process|execa)"/;

const tests = readdirSync(join(TOP, "test"), { recursive: true, encoding: "utf8" })
  .map((path) => `test/${path}`)
  .filter((path) => ROOMS.test(path) && !STARTS_PROGRAMS.test(readFileSync(join(TOP, path), "utf8")));

export default defineConfig({
  root: TOP,
  test: {
    include: tests,
    // For what hangs, as in vitest.config.ts.
    testTimeout: 900_000,
    maxWorkers: Math.max(2, availableParallelism()),
  },
});
