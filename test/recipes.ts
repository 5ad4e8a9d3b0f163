// The README's recipes with jq: a comment, then a command of one line.

import { readFileSync } from "node:fs";

export function recipes(): { what: string; command: string }[] {
  const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");
  const block = /<!-- recipes -->\n```sh\n([\s\S]*?)```/.exec(readme)?.[1];
  if (block === undefined) throw new Error("README.md has no recipes");
  return [...block.matchAll(/^# (.+)\n(.+)$/gm)].map(([, what = "", command = ""]) => ({ what, command }));
}
