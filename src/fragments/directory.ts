// The .d directories: which files are fragments, what is in them.

import { constants, type Dirent } from "node:fs";
import { open, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Fragment } from "../iptables/assemble.ts";
import { managedHeader } from "../iptables/fragment-text.ts";
import type { Directories } from "../model/directories.ts";
import { errno, exhaustion, Failure } from "../model/errors.ts";
import { FAMILIES, type Family } from "../model/family.ts";
import { containerOf } from "../model/owner.ts";
import { inLanes } from "../system/lanes.ts";
import { accessOf } from "./access.ts";
import { compareNames } from "./by-family.ts";

/** A fragment that may be replaced, with what its successor keeps. */
export interface Own {
  text: string;
  /** The permission bits, e.g. 0o644. */
  mode: number;
  /** Of another's file: whose it stays, with all of its permission bits. */
  owner?: { uid: number; gid: number };
}

/** What editors and package managers leave behind; run-parts(8), dpkg and rpm name them so. */
const LEFTOVER = /^#.*#$|~$|\.(bak|orig|rej|sw[a-z]|tmp|dpkg-[a-z]+|ucf-[a-z]+|rpm(save|new|orig))$/;

/** Whether a loader should read a file. A container may be called web.bak: then its fragment says so itself. */
function isFragment(name: string, text: string): boolean {
  return !LEFTOVER.test(name) || text.startsWith(`${managedHeader(containerOf(name) ?? "")}\n`);
}

/**
 * All fragments of a directory in bytewise order of their names.
 *
 * Throws Failure `directory_unusable`.
 */
export async function readFragments(directory: string): Promise<Fragment[]> {
  const entries = await readdir(directory, { withFileTypes: true }).catch((error: unknown) => {
    throw unusable(directory, error);
  });
  const named = entries.filter((entry) => !entry.isDirectory() && !entry.name.startsWith("."));
  named.sort((a, b) => compareNames(a.name, b.name));
  const files = await inLanes(named, (entry) => readNamed(directory, entry));
  return files.flat();
}

/** Milliseconds; file systems take the time from the kernel's tick, which is no longer than 10. */
const TICK = 100;

/**
 * Different after a process of ours has written into the directory: they rename. Undefined where that is unknown, because the
 * directory changed so lately that the next change may get the same time.
 */
export async function stampOf(directory: string): Promise<string | undefined> {
  try {
    const { dev, ino, mtimeNs, mtimeMs } = await stat(directory, { bigint: true });
    return Date.now() - Number(mtimeMs) > TICK ? `${dev} ${ino} ${mtimeNs}` : undefined;
  } catch (error) {
    return errno(error) === "ENOENT" ? "none" : undefined;
  }
}

/** The fragment of this name, if it is one. A pipe or a device is none: reading it might never end. */
async function readNamed(directory: string, entry: Dirent): Promise<Fragment[]> {
  const path = join(directory, entry.name);
  try {
    const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const stat = await handle.stat();
      const text = stat.isFile() ? await handle.readFile("utf8") : undefined;
      if (text === undefined || !isFragment(entry.name, text)) return [];
      return [{ path, text, access: await accessOf(path, stat, entry.isSymbolicLink()) }];
    } finally {
      await handle.close();
    }
  } catch (error) {
    // A socket, a symbolic link that leads nowhere, or a file that has just been removed.
    if (errno(error) === "ENXIO" || errno(error) === "ENOENT") return [];
    throw unusable(path, error);
  }
}

/** Whether the directory is there. Throws Failure `directory_unusable` if something else is in its place. */
export async function directoryExists(directory: string): Promise<boolean> {
  try {
    const handle = await open(directory, constants.O_RDONLY | constants.O_DIRECTORY);
    await handle.close();
    return true;
  } catch (error) {
    if (errno(error) === "ENOENT") return false;
    throw unusable(directory, error);
  }
}

/** Those whose directory is there. Throws likewise. */
export async function existingFamilies(directories: Directories): Promise<Family[]> {
  const exists = await Promise.all(FAMILIES.map((family) => directoryExists(directories[family])));
  return FAMILIES.filter((_, index) => exists[index]);
}

export function missingDirectory(path: string): Failure {
  const message = `this host is not set up: ${path} does not exist; 'docker_iptables setup' makes it, with the host rules`;
  return new Failure("directory_unusable", message, { path });
}

/**
 * A container's fragment, or undefined where there is none. It is not followed if it is a symbolic link.
 *
 * Throws Failure `fragment_not_a_file`, `directory_unusable`.
 */
export async function readOwn(path: string): Promise<Own | undefined> {
  const read = await readPlain(path);
  return read && { text: read.text, mode: read.mode };
}

/**
 * Another's file, to be changed in a part and stay theirs. Not followed, and throws likewise; also for what is no UTF-8, of which the
 * rest would not stay as it is.
 */
export async function readOthers(path: string): Promise<Own | undefined> {
  const read = await readPlain(path);
  if (read !== undefined && !Buffer.from(read.text).equals(read.bytes)) throw notAFile(path, "no text in UTF-8");
  return read && { text: read.text, mode: read.mode, owner: read.owner };
}

async function readPlain(path: string): Promise<(Required<Own> & { bytes: Buffer }) | undefined> {
  const handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch((error) => {
    if (errno(error) === "ENOENT") return undefined;
    if (errno(error) === "ELOOP") throw notAFile(path, "a symbolic link");
    if (errno(error) === "ENXIO") throw notAFile(path, "a socket or a pipe");
    throw unusable(path, error);
  });
  if (handle === undefined) return undefined;
  try {
    const stat = await handle.stat();
    if (!stat.isFile()) throw notAFile(path, stat.isDirectory() ? "a directory" : "a special file");
    const bytes = await handle.readFile();
    const { mode, uid, gid } = stat;
    return { text: bytes.toString("utf8"), bytes, mode: mode & 0o7777, owner: { uid, gid } };
  } finally {
    await handle.close();
  }
}

function notAFile(path: string, what: string): Failure {
  return new Failure("fragment_not_a_file", `${path} is ${what}, not a plain file; look at it and remove it`, { path });
}

function unusable(path: string, error: unknown): Failure {
  const code = errno(error);
  if (code === "EACCES" || code === "EPERM") {
    return new Failure(
      "permission_denied",
      `${path} may not be read by this user; run as root`,
      { path },
      { cause: error },
    );
  }
  const exhausted = exhaustion(code, `${path} cannot be read`, error);
  if (exhausted !== undefined) return exhausted;
  const why =
    code === "ENOENT"
      ? "does not exist; create it, or name another"
      : code === "ENOTDIR"
        ? "is not a directory"
        : `cannot be read (${code})`;
  return new Failure("directory_unusable", `${path} ${why}`, { path, errno: code }, { cause: error });
}
