// The kernel's UDP flows, as fakes/conntrack has them.

import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Answer, type Asked, type Fake, textAt } from "./fake-call.ts";

/** What an option asks of a flow: in the direction of the request, or of the answer. */
const WANTED: Record<string, readonly ["original" | "reply", string]> = {
  "--orig-src": ["original", "src"],
  "--orig-dst": ["original", "dst"],
  "--orig-port-dst": ["original", "dport"],
  "--reply-src": ["reply", "src"],
  "--reply-port-src": ["reply", "sport"],
};

export function conntrack({ args, folder }: Asked): ReturnType<Fake> {
  const [action, protocol, udp, flag, family = "", ...options] = args;
  if ([protocol, udp, flag].join(" ") !== "-p udp -f") return undefined;
  const path = join(folder, "flows", family);
  const pairs = options.flatMap((option, at) => (at % 2 === 0 ? [[option, options[at + 1]] as const] : []));
  if (!pairs.every(([option]) => option in WANTED)) return undefined;
  if (action === "-L") return () => listed(path);
  return action === "-D" ? () => deleted(path, pairs) : undefined;
}

function listed(path: string): Answer {
  if (!existsSync(path)) writeFileSync(path, "");
  return { stdout: textAt(path) ?? "" };
}

function deleted(path: string, pairs: readonly (readonly [string, string | undefined])[]): Answer {
  const wanted = { original: [] as string[], reply: [] as string[] };
  for (const [option, value] of pairs) {
    const [direction, key] = WANTED[option] ?? [];
    if (direction !== undefined) wanted[direction].push(`${key}=${value}`);
  }
  const lines = (textAt(path) ?? "").split("\n").filter(Boolean);
  const kept = lines.filter((line) => !isOf(line, wanted));
  writeFileSync(path, kept.map((line) => `${line}\n`).join(""));
  if (kept.length < lines.length) return {};
  return { exitCode: 1, stderr: "conntrack v1.4.7 (conntrack-tools): 0 flow entries have been deleted.\n" };
}

function isOf(line: string, { original, reply }: { original: string[]; reply: string[] }): boolean {
  const words = line.split(/\s+/).slice(3);
  const answer = words.findIndex((word, at) => at > 0 && word.startsWith("src="));
  const has = (some: string[], all: string[]) => all.every((word) => some.includes(word));
  return has(words.slice(0, answer), original) && has(words.slice(answer), reply);
}
