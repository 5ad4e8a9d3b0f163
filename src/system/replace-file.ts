// Puts a fragment in its place, or removes it, so that at any moment the whole old or the whole new one is there.
//
// On disk: the new text is first written to DIRECTORY/.docker_iptables.tmp, a name that no loader reads. The writer holds the
// directory's lock, so one such name is enough, and what a killed run left there is removed.

import { constants } from "node:fs";
import { open, rename, rm, unlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { errno, exhaustion, Failure } from "../model/errors.ts";

const TEMPORARY = ".docker_iptables.tmp";
/** Only the owner may write. */
const MODE = 0o644;

/** What is kept of a file that is replaced. */
type Former = { mode: number; owner?: { uid: number; gid: number } | undefined };

/**
 * Writes `text` to `path`, or removes the file where `text` is undefined. Returns when the disk has it. The file is the
 * caller's then, whoever's it was, and of mode 0644, or of what `former` allows of that; another's (`owner`) keeps both.
 *
 * Throws Failure `write_failed`, `permission_denied`; the file is then as it was, or, where only the directory could not be
 * synced, already as it should be.
 */
export async function replaceFragment(path: string, text: string | undefined, former?: Former): Promise<void> {
  const directory = dirname(path);
  try {
    if (text === undefined) await unlink(path);
    else await writeThenRename(directory, path, text, former);
    await syncDirectory(directory);
  } catch (error) {
    throw writeFailure(path, text === undefined ? "removed" : "written", error);
  }
}

/** Removes what a killed run may have left half-written. For the holder of the lock only. */
export async function clearTemporary(directory: string): Promise<void> {
  await rm(join(directory, TEMPORARY), { force: true }).catch(() => {});
}

async function writeThenRename(directory: string, path: string, text: string, former: Former = { mode: MODE }) {
  const { mode, owner } = former;
  const temporary = join(directory, TEMPORARY);
  try {
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
    const handle = await open(temporary, flags, 0o600);
    try {
      await handle.writeFile(text);
      // chown(2) clears what chmod(2) then sets.
      if (owner !== undefined) await handle.chown(owner.uid, owner.gid);
      await handle.chmod(owner === undefined ? mode & MODE : mode);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {});
    throw error;
  }
}

/** Returns when the disk has the names. Throws what node:fs throws. */
export async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, constants.O_RDONLY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

const REASONS: Record<string, string> = {
  ENOSPC: "the disk is full",
  EDQUOT: "the disk quota is used up",
  EROFS: "the file system is read-only",
  ENOENT: "the directory is gone",
};

/** A file that could not be written, removed or opened for it: `write_failed` or `permission_denied`, with the reason. */
export function writeFailure(path: string, done: string, error: unknown): Failure {
  const code = errno(error);
  if (code === "EACCES" || code === "EPERM") {
    const message = `${path} may not be ${done} by this user; run as root`;
    return new Failure("permission_denied", message, { path, errno: code }, { cause: error });
  }
  const exhausted = exhaustion(code, `${path} could not be ${done}`, error);
  if (exhausted !== undefined) return exhausted;
  const why = REASONS[code] ?? (code || String(error));
  return new Failure("write_failed", `${path} could not be ${done}: ${why}`, { path, errno: code }, { cause: error });
}
