// The file with this host's settings, as it is; and the copy of the last text that was valid, for what must not stop because of a slip
// in it.
//
// On disk: the copy is /var/lib/docker_iptables/settings.json; of a file other than the default one, .NAME.last beside it.

import { constants } from "node:fs";
import { type FileHandle, mkdir, open, rename, rm, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { pid } from "node:process";
import { closingOf, describeAccess } from "../model/access.ts";
import { STATE_NAME } from "../model/directories.ts";
import { asFailure, errno, exhaustion, Failure, orElse } from "../model/errors.ts";
import { DEFAULT_SETTINGS_PATH, type HostSettings, readSettings, unusable } from "../model/settings.ts";
import { writeFailure } from "./replace-file.ts";
import { isTrusted, untrustedAbove } from "./trust.ts";

/** bytes; the names and values of all settings are far fewer. */
const LARGEST = 64 * 1024;

/**
 * What is in force. A file that cannot be used is no failure: the answer says so, and has the last valid values. One that `isNamed`
 * by the caller has to be there. Throws Failure `resources_exhausted`.
 */
export async function readSettingsFile(path: string, isNamed = false): Promise<HostSettings> {
  try {
    const file = await readTrusted(path);
    if (file === undefined && isNamed)
      throw unusable(
        path,
        "there is no such file",
        "'docker_iptables setup' makes it, with the options that it is given",
      );
    return { path, file, values: file === undefined ? {} : readSettings(file.text, path) };
  } catch (error) {
    const failure = asUnusable(error, path);
    if (failure.code !== "settings_unusable") throw failure;
    return { path, file: undefined, values: await readLastValid(path), unusable: failure };
  }
}

/**
 * Keeps the text of settings that are in force, if it is another than before; of a host that has none any more, none. A call can do
 * without it.
 */
export async function keepLastValid({ path, file, unusable: why }: Omit<HostSettings, "values">): Promise<void> {
  if (why !== undefined) return;
  if (file === undefined) return forgetLastValid(path).catch(() => {});
  const copy = copyOf(path);
  if ((await readTrusted(copy).catch(() => undefined))?.text === file.text) return;
  // Of its own: several processes may keep it at once.
  const draft = `${copy}.${pid}.tmp`;
  try {
    await mkdir(dirname(copy), { recursive: true, mode: 0o700 });
    // Never through a link.
    await rm(draft, { force: true });
    await writeFile(draft, file.text, { mode: 0o600, flag: "wx" });
    await rename(draft, copy);
  } catch {
    // A service may write its own directories alone: who set it up has kept a copy.
    await rm(draft, { force: true }).catch(() => {});
  }
}

/** Throws Failure `settings_unusable` where a file that is to be made could be replaced by another user. */
export async function refuseUntrustedPlace(path: string): Promise<void> {
  const access = await untrustedAbove(path).catch(orElse(undefined));
  if (access !== undefined) throw unusable(path, describeAccess(access), closingOf(access));
}

/** Throws Failure `write_failed`, `permission_denied`. */
export async function forgetLastValid(path: string): Promise<void> {
  const copy = copyOf(path);
  await rm(copy, { force: true }).catch((error: unknown) => {
    throw writeFailure(copy, "removed", error);
  });
}

/** Where the last valid text is kept. */
export function copyOf(path: string): string {
  if (path === DEFAULT_SETTINGS_PATH) return `/var/lib/${STATE_NAME}/settings.json`;
  return join(dirname(path), `.${basename(path)}.last`);
}

async function readLastValid(path: string): Promise<HostSettings["values"]> {
  const file = await readTrusted(copyOf(path)).catch(() => undefined);
  try {
    return file === undefined ? {} : readSettings(file.text, path);
  } catch {
    return {};
  }
}

/** Undefined where there is none. Throws Failure `settings_unusable`, and what node:fs throws. */
async function readTrusted(path: string): Promise<HostSettings["file"]> {
  const handle = await openFile(path);
  if (handle === undefined) return undefined;
  try {
    const seen = await handle.stat();
    if (!seen.isFile()) throw unusable(path, "it is not a plain file");
    if (seen.size > LARGEST) throw unusable(path, `it has more than ${LARGEST} bytes`);
    const own = { path, uid: seen.uid, mode: seen.mode & 0o7777 };
    const access = isTrusted(own) ? await untrustedAbove(path) : own;
    if (access !== undefined) throw unusable(path, describeAccess(access), closingOf(access));
    return { text: await handle.readFile("utf8"), mode: own.mode };
  } finally {
    await handle.close();
  }
}

async function openFile(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if (errno(error) === "ENOENT") return undefined;
    if (errno(error) === "ELOOP") throw unusable(path, "it is a symbolic link", "name the file itself with --config");
    throw error;
  }
}

function asUnusable(error: unknown, path: string): Failure {
  const code = errno(error);
  const failure =
    error instanceof Failure || code === "" ? asFailure(error) : exhaustion(code, `${path} cannot be read`);
  if (failure !== undefined) return failure;
  if (code === "EACCES") return unusable(path, "this user may not read it", "run as root");
  return unusable(path, `it cannot be read (${code})`, `'cat ${path}' shows whether it still cannot`);
}
