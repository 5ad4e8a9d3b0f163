// Locks of the kernel (flock(2)): they die with their holder.
//
// On disk: DIRECTORY/.docker_iptables.lock for who writes into a fragment directory, .docker_iptables.load for who loads
// it; empty, never removed, and of mode 0600: on a file that others may open, any user could hold the lock and with it a
// port open. flock(1) takes the lock on a descriptor that it inherits, or flock(2) itself (libc.ts); it belongs to the open file, so it stays ours
// when flock has ended. Who holds the first may wait for the second, never the other way round. Who holds a directory of state waits
// for none.

import { constants } from "node:fs";
import { type FileHandle, open, readdir, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { errno, excerpt, Failure } from "../model/errors.ts";
import { commandFailure, run } from "./exec.ts";
import { libc } from "./libc.ts";
import { writeFailure } from "./replace-file.ts";
import { verbose, verboseSpan } from "./verbose.ts";

/** What this process has held before while others waited for it, and until when (performance.now()). */
const awaited = new Map<string, number>();
/** milliseconds: whoever has waited for it since then has it by now. */
const LONG_AGO = 100;

/** Runs `body` while no other process writes into the directory. Throws Failure as `withLock`. */
export function withWriteLock<T>(directory: string, timeoutSeconds: number, body: () => Promise<T>): Promise<T> {
  return withLock(join(directory, ".docker_iptables.lock"), timeoutSeconds, body);
}

/**
 * Runs `body` while no other process loads these directories. The service's load takes no other lock, so one may wait for the
 * service while writing is locked. Throws Failure as `withLock`.
 */
export function withLoadLock<T>(
  directories: readonly string[],
  timeoutSeconds: number,
  body: () => Promise<T>,
): Promise<T> {
  const paths = [...directories].sort().map((directory) => join(directory, ".docker_iptables.load"));
  return paths.reduceRight((inner, path) => () => withLock(path, timeoutSeconds, inner), body)();
}

/**
 * Runs `body` while no other process holds the directory itself, one that only root can open: no file of the lock is left in it. Where
 * there is no directory nothing is held. Throws Failure as `withLock`.
 */
export async function withDirectoryLock<T>(
  directory: string,
  timeoutSeconds: number,
  body: () => Promise<T>,
): Promise<T> {
  const flags = constants.O_RDONLY | constants.O_DIRECTORY;
  const handle = await open(directory, flags).catch((error: unknown) => {
    if (errno(error) === "ENOENT") return undefined;
    throw writeFailure(directory, "opened", error);
  });
  return handle === undefined ? body() : holding(handle, directory, directory, timeoutSeconds, body);
}

/** Throws Failure `locked` after `timeoutSeconds`, naming the holder; `write_failed`, `permission_denied`. */
async function withLock<T>(path: string, timeoutSeconds: number, body: () => Promise<T>): Promise<T> {
  const flags = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW;
  const handle = await open(path, flags, 0o600).catch((error: unknown) => {
    throw writeFailure(path, "opened", error);
  });
  return holding(handle, path, dirname(path), timeoutSeconds, body);
}

/** Closes the handle, of `path`, which locks `directory`. */
async function holding<T>(
  handle: FileHandle,
  path: string,
  directory: string,
  timeoutSeconds: number,
  body: () => Promise<T>,
): Promise<T> {
  try {
    verbose(() => `lock ${path}: wait up to ${timeoutSeconds} s`);
    // What others wait for is theirs next: they write, and one load serves all.
    const isTheirs = performance.now() - (awaited.get(path) ?? Number.NEGATIVE_INFINITY) < LONG_AGO;
    const isTaken = !isTheirs && (await takeIfFree(handle.fd));
    if (!isTaken) await queueFor(handle, path, directory, timeoutSeconds);
    const released = verboseSpan(() => `lock ${path}: taken`);
    return await body().finally(async () => {
      if (await isAwaited(handle.fd)) awaited.set(path, performance.now());
      released(() => `lock ${path}: released`);
    });
  } finally {
    // The lock is released then, even if close fails; the work is done.
    await handle.close().catch(() => {});
  }
}

/** flock(2): LOCK_EX | LOCK_NB */
const EXCLUSIVE_AT_ONCE = 2 | 4;

/** Takes the lock of an open file where that is free, and where it can be called from here; says whether it did. Never throws. */
async function takeIfFree(descriptor: number): Promise<boolean> {
  return (await libc())?.flock(descriptor, EXCLUSIVE_AT_ONCE) === 0;
}

/** As `waitFor`, so that the holder sees that somebody waits. */
async function queueFor(...waiting: Parameters<typeof waitFor>): Promise<void> {
  const [{ fd }] = waiting;
  await mark(fd, F_OFD_SETLK, F_RDLCK);
  await waitFor(...waiting).finally(() => mark(fd, F_OFD_SETLK, F_UNLCK));
}

/** Whether others wait for a lock that is held: of scripts nobody can tell, and they may have to wait for a load more. Never throws. */
async function isAwaited(descriptor: number): Promise<boolean> {
  return (await mark(descriptor, F_OFD_GETLK, F_WRLCK)) !== F_UNLCK;
}

/**
 * Another lock of the same file, which who waits holds (fcntl(2), open file description locks): the kernel's own list of who waits for a
 * flock, /proc/locks, takes 10 ms to read. Returns the type of lock that the kernel says; undefined where it cannot be called from here.
 */
async function mark(descriptor: number, command: number, type: number): Promise<number | undefined> {
  // struct flock: type, whence, start, length (0: all of it), process
  const lock = new Int16Array(16);
  lock[0] = type;
  const calls = await libc();
  return calls?.fcntl(descriptor, command, new Uint8Array(lock.buffer)) === 0 ? lock[0] : undefined;
}

const [F_OFD_GETLK, F_OFD_SETLK] = [36, 37];
const [F_RDLCK, F_WRLCK, F_UNLCK] = [0, 1, 2];

/** seconds: how much later than it should a flock(1) may end; on a machine that has much to do it starts late. */
const BELATED = 60;

/** By flock(1), on a descriptor that it inherits. */
async function waitFor(handle: FileHandle, path: string, directory: string, timeoutSeconds: number): Promise<void> {
  const ran = await run("flock", ["--exclusive", "--wait", String(timeoutSeconds), "0"], {
    timeoutSeconds: timeoutSeconds + BELATED,
    descriptor: handle.fd,
  });
  if (ran.exitCode === 1) throw await locked(directory, timeoutSeconds, (await handle.stat()).ino);
  if (ran.exitCode !== 0) throw commandFailure("command_failed", `${directory} cannot be locked`, ran, { path });
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
