// Another process that holds the lock on a directory.

import { join } from "node:path";
import { execa } from "execa";
import { afterAll } from "vitest";

const holders: (() => Promise<void>)[] = [];
afterAll(() => Promise.all(holders.map((release) => release())));

/** It holds the lock (lock: on writing) until it is told to release it, or the file's tests have ended. */
export async function hold(
  directory: string,
  kind: "lock" | "load" = "lock",
): Promise<{ pid: number; release: () => Promise<void> }> {
  const holder = execa(
    "sh",
    ["-c", 'exec 9> "$0"; flock 9; echo held; exec cat', join(directory, `.docker_iptables.${kind}`)],
    { reject: false },
  );
  await new Promise((resolve) => holder.stdout.once("data", resolve));
  const release = async () => {
    holder.stdin.end();
    await holder;
  };
  holders.push(release);
  return { pid: holder.pid ?? 0, release };
}
