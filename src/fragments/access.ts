// Who besides root may change a fragment: he then decides about this host's packets.

import type { Stats } from "node:fs";
import { realpath, stat } from "node:fs/promises";
import { dirname } from "node:path";
import process from "node:process";
import { errno } from "../model/errors.ts";
import type { Fragment } from "./assemble.ts";

/** Whose a fragment or a directory is, and who may write it. */
export interface Access {
  path: string;
  uid: number;
  /** The permission bits. With an ACL the group's are its mask, the most that it grants anybody by name (acl(5)). */
  mode: number;
  /** What the path leads to, where it is a symbolic link; `uid` and `mode` are that file's, or those of its directory. */
  target?: string;
}

/** Of a fragment that is open, `isLink` its name in the directory. Throws what node:fs throws. */
export async function accessOf(path: string, file: Stats, isLink: boolean): Promise<Access> {
  if (!isLink) return ownAccess(path, file);
  const target = await realpath(path);
  const own = ownAccess(path, file);
  // Who may write the directory may put another file there. Of the fragments' own that is told once.
  return { ...(isTrusted(own) ? ownAccess(path, await stat(dirname(target))) : own), target };
}

/** The directory, if it is there, and those of its fragments that another user than root, or than ours, may change. */
export async function untrustedIn(directory: string, fragments: readonly Fragment[]): Promise<Access[]> {
  const own = await stat(directory).catch((error: unknown) => {
    if (errno(error) === "ENOENT") return undefined;
    throw error;
  });
  const all = [
    ...(own === undefined ? [] : [ownAccess(directory, own)]),
    ...fragments.flatMap(({ access = [] }) => access),
  ];
  return all.filter((access) => !isTrusted(access));
}

function ownAccess(path: string, { uid, mode }: Stats): Access {
  return { path, uid, mode: mode & 0o7777 };
}

function isTrusted({ uid, mode }: Access): boolean {
  return (uid === 0 || uid === process.geteuid?.()) && (mode & 0o022) === 0;
}

/** In a sentence, with what to do. Pure. */
export function warnOfAccess({ path, uid, mode, target }: Access): string {
  const whose = `uid ${uid}, mode ${mode.toString(8).padStart(4, "0")}`;
  const word = shellWord(path);
  if (target === undefined) {
    return `others than root can change ${path} (${whose}), and with it this host's rules: 'chown root:root ${word}; chmod go-w ${word}' ends that`;
  }
  return `others than root can change or replace ${target} (${whose}), to which ${path} leads, and with it this host's rules: 'cp --remove-destination ${shellWord(target)} ${word}' ends that`;
}

/** A path as a shell reads it: whoever may write the directory chooses the names in it. */
function shellWord(path: string): string {
  return /^[\w@%+=:,./-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
}
