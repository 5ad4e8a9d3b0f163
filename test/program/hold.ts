// Another process that holds the lock on a directory.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { execa } from "execa";
import { afterAll } from "vitest";
import type { FakeHost } from "./host.ts";

const holders: (() => Promise<void>)[] = [];
afterAll(() => Promise.all(holders.map((release) => release())));

/** It holds the lock of the IPv4 directory (lock: on writing) until it is told to release it, or the file's tests have ended. */
export async function hold(
  host: FakeHost,
  kind: "lock" | "load" = "lock",
): Promise<{ pid: number; release: () => Promise<void> }> {
  host.sharesLocks();
  const holder = execa(
    "sh",
    ["-c", 'exec 9> "$0"; flock 9; echo held; exec cat', join(host.iptablesDir, `.docker_iptables.${kind}`)],
    // By which the host sees it among its processes.
    { reject: false, env: { FAKE: host.fake } },
  );
  await new Promise((resolve) => holder.stdout.once("data", resolve));
  const release = async () => {
    holder.stdin.end();
    await holder;
  };
  holders.push(release);
  return { pid: holder.pid ?? 0, release };
}

/** How often runs on this host have asked for a lock, from now on. */
export function countLocks({ bin, fake }: Pick<FakeHost, "bin" | "fake">): () => number {
  const flock = `#!/bin/sh\necho >> "$FAKE/locks"\nPATH=\${PATH#*:} exec flock "$@"\n`;
  writeFileSync(join(bin, "flock"), flock, { mode: 0o755 });
  const log = join(fake, "locks");
  return () => (existsSync(log) ? readFileSync(log, "utf8").length : 0);
}
