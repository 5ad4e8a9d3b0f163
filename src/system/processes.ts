// The processes of this host by their name, as seen from the caller's own network namespace.

import { readdir, readFile, readlink } from "node:fs/promises";
import { orElse } from "../model/errors.ts";
import { inLanes } from "./lanes.ts";

export interface Process {
  pid: string;
  /** False where its network namespace cannot be read: another user's process (ptrace(2)), or one that has ended. */
  certain: boolean;
}

/**
 * The processes called so (at most 15 bytes, proc(5)), save those in another network namespace: a daemon in a container has
 * its own. Anybody can call a process so. Throws Failure `resources_exhausted`.
 */
export async function findProcesses(name: string): Promise<Process[]> {
  const pids = (await readdir("/proc").catch(orElse([]))).filter((one) => /^\d+$/.test(one));
  const here = await namespaceOf("self");
  const found = await inLanes(pids, async (pid): Promise<Process[]> => {
    if ((await nameOf(pid)) !== name) return [];
    const there = await namespaceOf(pid);
    if (here === undefined || there === undefined) return [{ pid, certain: false }];
    return here === there ? [{ pid, certain: true }] : [];
  });
  return found.flat();
}

/** What everybody may read in /proc/PID/status. */
export interface ProcessStatus {
  parent: string;
  /** Real, effective, saved and file system's: a program that is set-user-ID root has its caller's among them. */
  isRoots: boolean;
  /** In a process namespace of its own, as a container's process is: root there is not the host's. */
  isNested: boolean;
}

/** Undefined for a process that has ended, or that is hidden (hidepid, proc(5)). Throws Failure `resources_exhausted`. */
export async function readProcessStatus(pid: string): Promise<ProcessStatus | undefined> {
  return parseProcessStatus(await readFile(`/proc/${pid}/status`, "utf8").catch(orElse("")));
}

/** Pure. A process may put what it likes into its name, but no newline: the kernel escapes it. */
export function parseProcessStatus(status: string): ProcessStatus | undefined {
  const wordsOf = (key: string) => new RegExp(`^${key}:\\t(.*)$`, "m").exec(status)?.[1]?.split("\t");
  const [uids, parent] = [wordsOf("Uid"), wordsOf("PPid")?.[0]];
  if (uids === undefined || parent === undefined) return undefined;
  const isRoots = uids.length === 4 && uids.every((uid) => uid === "0");
  // Linux before 4.1 does not say.
  return { parent, isRoots, isNested: (wordsOf("NSpid") ?? []).length > 1 };
}

/** How a process is called, at most 15 bytes; "" for one that has ended. Throws Failure `resources_exhausted`. */
export async function nameOf(pid: string): Promise<string> {
  return (await readFile(`/proc/${pid}/comm`, "utf8").catch(orElse(""))).replace(/\n$/, "");
}

async function namespaceOf(pid: string): Promise<string | undefined> {
  return readlink(`/proc/${pid}/ns/net`).catch(orElse(undefined));
}
