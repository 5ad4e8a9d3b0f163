// flock(2) without a process. Node.js cannot call it, and flock(1) does it then; the native executable can, by Bun's way to C, and
// saves the start of a process for each lock, some 4 ms of its time.
//
// Who takes a lock so does not queue for it. So who has released one that others wait for leaves them the next one: else a process
// that locks, releases and locks again would always be first, and what all write together would be loaded one by one.

import { readFile } from "node:fs/promises";
import { versions } from "node:process";

/** flock(2): LOCK_EX | LOCK_NB */
const EXCLUSIVE_AT_ONCE = 2 | 4;

type Flock = (descriptor: number, operation: number) => number;

let known: Promise<Flock | undefined> | undefined;
let isCrowded = false;

/** Takes the lock of an open file where that is free, and where it can be called from here; says whether it did. Never throws. */
export async function takeIfFree(descriptor: number): Promise<boolean> {
  known ??= findFlock();
  const flock = await known;
  return !isCrowded && flock?.(descriptor, EXCLUSIVE_AT_ONCE) === 0;
}

/** Before a lock on a file with this inode is released. Never throws. */
export async function lookForWaiters(inode: number): Promise<void> {
  if ((await known) === undefined) return;
  // proc(5): a line with -> is of one that waits.
  const locks = await readFile("/proc/locks", "utf8").catch(() => "");
  isCrowded = locks.split("\n").some((line) => line.includes("-> FLOCK") && line.includes(`:${inode} `));
}

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
