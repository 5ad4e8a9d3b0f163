// flock(2) without a process. Node.js cannot call it, and flock(1) does it then; the native executable can, by Bun's way to C, and
// saves the start of a process for each lock, some 4 ms of its time.

import { versions } from "node:process";

/** flock(2): LOCK_EX | LOCK_NB */
const EXCLUSIVE_AT_ONCE = 2 | 4;

type Flock = (descriptor: number, operation: number) => number;

/** Takes the lock of an open file where that is free, and where it can be called from here; says whether it did. Never throws. */
export async function takeIfFree(descriptor: number): Promise<boolean> {
  known ??= findFlock();
  return (await known)?.(descriptor, EXCLUSIVE_AT_ONCE) === 0;
}

let known: Promise<Flock | undefined> | undefined;

async function findFlock(): Promise<Flock | undefined> {
  if (!("bun" in versions)) return undefined;
  try {
    const { dlopen } = await import("bun:ffi");
    // The library that this process runs with already: nothing is searched for.
    return dlopen("libc.so.6", { flock: { args: ["i32", "i32"], returns: "i32" } }).symbols.flock;
  } catch {
    return undefined;
  }
}
