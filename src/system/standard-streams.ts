// stdin, stdout and stderr by their descriptors: Node.js' streams of them would be a fifth of a native run's start. What is said while work
// goes on needs them: it must not wait for its reader.

import { fstatSync, read, writeSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { errno } from "../model/errors.ts";

export const [STDIN, STDOUT, STDERR] = [0, 1, 2] as const;
export type Descriptor = typeof STDIN | typeof STDOUT | typeof STDERR;

/** Whether it may be a terminal, and is worth a stream that says so. Never throws. */
export function mayBeTerminal(descriptor: Descriptor): boolean {
  try {
    const seen = fstatSync(descriptor);
    return seen.isCharacterDevice() && seen.rdev !== DEV_NULL;
  } catch {
    return false;
  }
}

/** null(4): device 1, 3 */
const DEV_NULL = (1 << 8) | 3;

/** bytes */
const CHUNK = 64 * 1024;
/** ms; whoever has the pipe, too, may have said that nothing waits on it (O_NONBLOCK). */
const PAUSE = 5;

/** What comes, until its end. Throws what node:fs throws. */
export async function* chunksOf(descriptor: Descriptor): AsyncGenerator<Uint8Array> {
  for (;;) {
    const chunk = Buffer.alloc(CHUNK);
    const { bytesRead } = await readAsync(descriptor, chunk, 0, CHUNK, null).catch(orNothingYet);
    if (bytesRead === 0) return;
    if (bytesRead > 0) yield chunk.subarray(0, bytesRead);
    else await sleep(PAUSE);
  }
}

const readAsync = promisify(read);

function orNothingYet(error: unknown): { bytesRead: number } {
  if (errno(error) !== "EAGAIN") throw error;
  return { bytesRead: -1 };
}

/** Writes all of it, and waits for a slow reader. Throws what node:fs throws. */
export function writeAll(descriptor: Descriptor, text: string): void {
  let left = Buffer.from(text);
  while (left.length > 0) {
    try {
      left = left.subarray(writeSync(descriptor, left));
    } catch (error) {
      if (errno(error) !== "EAGAIN") throw error;
      Atomics.wait(NEVER, 0, 0, PAUSE);
    }
  }
}

const NEVER = new Int32Array(new SharedArrayBuffer(4));
