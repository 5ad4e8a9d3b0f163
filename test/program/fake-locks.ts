// flock(1) for hosts on which only runs within the tests' process lock something, one run at a time: nobody waits, so a lock that is
// held is one that a run has not let go of.

import { fstatSync } from "node:fs";
import type { Answer } from "./fake-call.ts";

/** The descriptor with the lock, by file. A number that was closed since is another file, or none. */
const holders = new Map<string, number>();

export function flock(descriptor: number): Answer {
  const file = fileOf(descriptor) ?? "";
  const holder = holders.get(file);
  if (holder !== undefined && holder !== descriptor && fileOf(holder) === file) return { exitCode: 1 };
  holders.set(file, descriptor);
  return {};
}

function fileOf(descriptor: number): string | undefined {
  try {
    const { dev, ino } = fstatSync(descriptor);
    return `${dev}:${ino}`;
  } catch {
    return undefined;
  }
}
