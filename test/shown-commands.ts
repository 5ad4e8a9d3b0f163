// The commands that pages show, as they stand there, for the tests that run them.

import { readFileSync } from "node:fs";
import { blocksOf } from "../schema/markdown.ts";

/** The lines of a page's block in sh, which a comment before it names. Throws Error where there is none. */
export function commandsOf(page: string, name: string): string[] {
  const text = readFileSync(new URL(`../${page}`, import.meta.url), "utf8");
  const block = blocksOf(text, "sh").find((one) => one.name === name);
  if (block === undefined) throw new Error(`${page} has no block ${name}`);
  return block.lines;
}
