// The processes of this host by their name, as seen from the caller's own network namespace.

import { readdir, readFile, readlink } from "node:fs/promises";

export interface Process {
  pid: string;
  /** False where its network namespace cannot be read: another user's process (ptrace(2)), or one that has ended. */
  certain: boolean;
}

/**
 * The processes called so (at most 15 bytes, proc(5)), save those in another network namespace: a daemon in a container has
 * its own. Anybody can call a process so. Never throws.
 */
export async function findProcesses(name: string): Promise<Process[]> {
  const pids = (await readdir("/proc").catch(() => [])).filter((one) => /^\d+$/.test(one));
  const here = await namespaceOf("self");
  const found = await Promise.all(
    pids.map(async (pid): Promise<Process[]> => {
      if ((await readFile(`/proc/${pid}/comm`, "utf8").catch(() => "")) !== `${name}\n`) return [];
      const there = await namespaceOf(pid);
      if (here === undefined || there === undefined) return [{ pid, certain: false }];
      return here === there ? [{ pid, certain: true }] : [];
    }),
  );
  return found.flat();
}

async function namespaceOf(pid: string): Promise<string | undefined> {
  return readlink(`/proc/${pid}/ns/net`).catch(() => undefined);
}
