// What comes in its own time.

import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

/** ms; for what never comes. On a machine that has much to do, everything comes late. */
const PATIENCE = 600_000;

/** Waits until it holds; throws with the words for what it has waited for. */
export async function until(what: string, holds: () => boolean): Promise<void> {
  const end = Date.now() + PATIENCE;
  while (!holds()) {
    if (Date.now() > end) throw new Error(`timed out waiting for: ${what}`);
    await sleep(20);
  }
}

/** Whether there is a process of this number that has not ended. */
export function isAlive(pid: number): boolean {
  try {
    // One that has ended and that was not waited for is a zombie (proc(5)).
    return !/^State:\tZ/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}
