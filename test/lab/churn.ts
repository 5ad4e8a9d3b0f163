/*
 * Containers that are started and removed at random, a few at a time; the same seed gives the same ones.
 */

import type { Host } from "./host.ts";

export interface ChurnOptions {
  seed: number;
  /** How many are started in all; about two thirds of them are stopped, removed or restarted again. */
  containers: number;
  /** The number of the first one; 0 by default. */
  first?: number;
}

/** How many are in the making at once. */
const AT_ONCE = 4;

/** Container number n is `cN` and publishes port 9000 + n. */
export async function churn(host: Host, { seed, containers, first = 0 }: ChurnOptions): Promise<void> {
  const random = randomNumbers(seed);
  const lives = Array.from({ length: containers }, (_, index) => ({ number: first + index, fate: random() }));
  await host.docker.loadImage();
  const next = lives[Symbol.iterator]();
  const work = async () => {
    for (const life of next) await live(host, life);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
}

async function live(host: Host, { number, fate }: { number: number; fate: number }): Promise<void> {
  const name = `c${number}`;
  const ports = fate < 0.1 ? [] : [`${9000 + number}:80`];
  await host.docker.run(name, { publish: ports });
  if (fate < 0.2) return;
  if (fate < 0.4) await host.docker.cli("restart", "--time=0", name);
  else if (fate < 0.6) {
    await host.docker.cli("kill", name);
    // Until the daemon knows that it has ended.
    await host.docker.cli("wait", name);
  } else if (fate < 0.9) await host.docker.cli("rm", "--force", name);
}

/** Numbers from 0 to 1 (mulberry32). */
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
