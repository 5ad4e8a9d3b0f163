// The recipes with jq of docs/doors.md: a comment, then a command of one line.

import { readFileSync } from "node:fs";

export function recipes(): { what: string; command: string }[] {
  const page = readFileSync(new URL("../docs/doors.md", import.meta.url), "utf8");
  const block = /<!-- recipes -->\n```sh\n([\s\S]*?)```/.exec(page)?.[1];
  if (block === undefined) throw new Error("docs/doors.md has no recipes");
  return [...block.matchAll(/^# (.+)\n(.+)$/gm)].map(([, what = "", command = ""]) => ({ what, command }));
}
