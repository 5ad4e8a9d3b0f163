// The tests of what computes only: they start no program, write no file and share nothing, so they need no process of their own each.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const TOP = fileURLToPath(new URL("..", import.meta.url));
const ROOMS =
  /^test\/((cli|commands|docker|fragments|iptables|model|netfilter|nft|plan|rules|systemd|text)\/)?[\w-]+\.test\.ts$/;
const STARTS_PROGRAMS = /from "(node:child_process|execa)"/;

/** By path from the top. */
export const PURE_TESTS = readdirSync(join(TOP, "test"), { recursive: true, encoding: "utf8" })
  .map((path) => `test/${path}`)
  .filter((path) => ROOMS.test(path) && !STARTS_PROGRAMS.test(readFileSync(join(TOP, path), "utf8")));
