// Who besides root may change a file: whoever may decides what docker_iptables does with it.

import { lstat, realpath } from "node:fs/promises";
import { dirname } from "node:path";
import { geteuid } from "node:process";
import type { Access } from "../model/access.ts";

/** Whether only root, or the user of this process, may change it. */
export function isTrusted({ uid, mode }: Pick<Access, "uid" | "mode">): boolean {
  return isOurs(uid) && (mode & 0o022) === 0;
}

function isOurs(uid: number): boolean {
  return uid === 0 || uid === geteuid?.();
}

/** In a sticky directory (as /tmp is) nobody replaces a file of ours (chmod(1)). */
const STICKY = 0o1000;

/** The first directory above a path in which another user may put another file, or another directory, in its place. Throws what node:fs throws. */
export async function untrustedAbove(path: string): Promise<Access | undefined> {
  const directories = [...above(path), ...above(await realpath(path))];
  for (const directory of new Set(directories)) {
    const seen = await lstat(directory);
    // A link's own mode says nothing: who may replace it is said by the directory that it is in.
    const isClosed = seen.isSymbolicLink() || (seen.mode & 0o022) === 0 || (seen.mode & STICKY) !== 0;
    if (!isOurs(seen.uid) || !isClosed) return { path: directory, uid: seen.uid, mode: seen.mode & 0o7777 };
  }
  return undefined;
}

function above(path: string): string[] {
  const directory = dirname(path);
  return directory === path ? [] : [...above(directory), directory];
}
