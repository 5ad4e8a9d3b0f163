// Locks of the kernel (flock(2)): they die with their holder, and leave nothing behind.
//
// There is no lock file. Who writes into a fragment directory locks the directory; who loads it locks the directory above
// (/etc). flock(1) takes the lock on a descriptor that it inherits; the lock belongs to the open file, so it stays ours
// when flock has ended. Who holds the first may wait for the second, never the other way round.

import { open, readdir, readFile } from "node:fs/promises";
import { dirname } from "node:path";
import { excerpt, Failure } from "./errors.ts";
import { commandFailure, run } from "./exec.ts";

/**
 * Runs `body` while no other load of these directories runs. The service's load takes no other lock, so one may wait for
 * the service while holding a directory's own. Throws Failure as `withLock`.
 */
export function withLoadLock<T>(
  directories: readonly string[],
  timeoutSeconds: number,
  body: () => Promise<T>,
): Promise<T> {
  const above = [...new Set(directories.map((directory) => dirname(directory)))].sort();
  return above.reduceRight((inner, path) => () => withLock(path, timeoutSeconds, inner), body)();
}

/** Runs `body` while holding the lock on `path`. Throws Failure `locked` after `timeoutSeconds`, naming the holder. */
export async function withLock<T>(path: string, timeoutSeconds: number, body: () => Promise<T>): Promise<T> {
  const handle = await open(path, "r");
  try {
    const ran = await run("flock", ["--exclusive", "--wait", String(timeoutSeconds), "0"], {
      timeoutSeconds: timeoutSeconds + 1,
      descriptor: handle.fd,
    });
    if (ran.exitCode === 1) throw await locked(path, timeoutSeconds, (await handle.stat()).ino);
    if (ran.exitCode !== 0) throw commandFailure("command_failed", `${path} cannot be locked`, ran, { path });
    return await body();
  } finally {
    // The lock is gone then, whatever close says; the work is done.
    await handle.close().catch(() => {});
  }
}

async function locked(path: string, timeoutSeconds: number, inode: number): Promise<Failure> {
  const holder = await holderOf(inode);
  const by = holder === undefined ? "another process" : `process ${holder.pid} (${holder.command})`;
  const message = `${path} is locked by ${by} for more than ${timeoutSeconds} s; wait for it, or raise timeout`;
  return new Failure("locked", message, { path, ...holder });
}

/** The process that has a file with a lock on this inode open: /proc/PID/fdinfo says it (proc(5)). */
async function holderOf(inode: number): Promise<{ pid: number; command: string } | undefined> {
  for (const entry of await readdir("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    const descriptors = await readdir(`/proc/${entry}/fdinfo`).catch(() => []);
    for (const descriptor of descriptors) {
      const info = await readFile(`/proc/${entry}/fdinfo/${descriptor}`, "utf8").catch(() => "");
      if (!new RegExp(`^lock:.*FLOCK.*:${inode} `, "m").test(info)) continue;
      const command = await readFile(`/proc/${entry}/cmdline`, "utf8").catch(() => "");
      return { pid: Number(entry), command: excerpt(command.replaceAll("\0", " "), 200) };
    }
  }
  return undefined;
}
