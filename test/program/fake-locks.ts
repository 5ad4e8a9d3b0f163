// flock(1) for hosts on which only runs within the tests' process lock something. A lock is its holder's until that one has closed the
// file, as the kernel has it.

import { fstatSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { Answer } from "./fake-call.ts";

/** The descriptor with the lock, by file. A number that was closed since is another file, or none. */
const holders = new Map<string, number>();

/** ms; between two looks whether it is free. */
const PAUSE = 2;

/** `--wait SECONDS` of `args` is how long it waits. */
export async function flock(descriptor: number, args: readonly string[]): Promise<Answer> {
  const file = fileOf(descriptor);
  if (file === undefined) return { exitCode: 1 };
  const deadline = Date.now() + 1000 * Number(args[args.indexOf("--wait") + 1]);
  while (!isFree(file, descriptor)) {
    if (Date.now() > deadline || fileOf(descriptor) !== file) return { exitCode: 1 };
    await sleep(PAUSE);
  }
  holders.set(file, descriptor);
  return {};
}

function isFree(file: string, descriptor: number): boolean {
  const holder = holders.get(file);
  return holder === undefined || holder === descriptor || fileOf(holder) !== file;
}

function fileOf(descriptor: number): string | undefined {
  try {
    const { dev, ino } = fstatSync(descriptor);
    return `${dev}:${ino}`;
  } catch {
    return undefined;
  }
}
