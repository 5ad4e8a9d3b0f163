// Who besides root may change a file: whoever may decides what docker_iptables does with it.

import { lstat, readlink } from "node:fs/promises";
import { dirname, join } from "node:path";
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
/** As the kernel's own limit (path_resolution(7)). */
const MOST_LINKS = 40;

/**
 * The first directory, or link, on the way to a file in which another user may put another file, another directory or another link in
 * the place of what is there; the file itself is not looked at. Throws what node:fs throws.
 */
export async function untrustedAbove(path: string): Promise<Access | undefined> {
  const names = dirname(path).split("/").filter(Boolean);
  let directory = "/";
  let links = 0;
  for (let at = "/"; ; ) {
    const seen = await lstat(at);
    const isLink = seen.isSymbolicLink();
    // A link's own mode says nothing: who may replace it is said by the directory that it is in.
    const isClosed = isLink || (seen.mode & 0o022) === 0 || (seen.mode & STICKY) !== 0;
    if (!isOurs(seen.uid) || !isClosed) return { path: at, uid: seen.uid, mode: seen.mode & 0o7777 };
    if (isLink) {
      links += 1;
      if (links > MOST_LINKS) return { path: at, uid: seen.uid, mode: seen.mode & 0o7777 };
      const target = await readlink(at);
      if (target.startsWith("/")) directory = "/";
      names.unshift(...target.split("/").filter(Boolean));
    } else directory = at;
    const name = names.shift();
    if (name === undefined) return undefined;
    at = name === ".." ? dirname(directory) : join(directory, name);
  }
}
