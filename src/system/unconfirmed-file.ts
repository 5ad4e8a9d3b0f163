// The record of a change that waits for its confirmation.
//
// On disk: ipv4.unconfirmed where state is that no service has chosen, JSON, of schema/unconfirmed.schema.json; the disk has it before
// anything is changed.

import { constants } from "node:fs";
import { open, readFile } from "node:fs/promises";
import { geteuid } from "node:process";
import type { Unconfirmed } from "../generated/unconfirmed.ts";
import { type Directories, stateDirectoryOf } from "../model/directories.ts";
import { errno } from "../model/errors.ts";
import { type Now, readUnconfirmed, unreadable } from "../model/unconfirmed.ts";
import { withDirectoryLock } from "./lock.ts";
import { keepState, pathOf, removeKept, type State } from "./state.ts";

/** The same for every service, also for one of the user's own that has another StateDirectory: what one may not load, none may. */
function place({ ipv4 }: Directories): State {
  return { family: "ipv4", directory: stateDirectoryOf("ipv4", ipv4) };
}

/** Of the record. */
export function recordPath(directories: Directories): string {
  return pathOf(place(directories), "unconfirmed");
}

/** Undefined where nothing waits, or for a user who may not see it. Throws Failure `unconfirmed` for a record that cannot be used. */
export async function findUnconfirmed(directories: Directories): Promise<Unconfirmed | undefined> {
  const path = recordPath(directories);
  const text = await read(path).catch((error: unknown) => {
    const code = errno(error);
    if (code === "ENOENT" || (geteuid?.() !== 0 && (code === "EACCES" || code === "EPERM"))) return undefined;
    throw code === undefined ? error : unreadable(path, code);
  });
  return text === undefined ? undefined : readUnconfirmed(text, path);
}

async function read(path: string): Promise<string> {
  const handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const { uid, mode } = await handle.stat();
    if ((uid !== 0 && uid !== geteuid?.()) || (mode & 0o022) !== 0)
      throw unreadable(path, "another user than root could have written it");
    return await handle.readFile("utf8");
  } finally {
    await handle.close();
  }
}

/** What waits, for a call that goes on in any case: also a record that cannot be used is one. */
export async function whatWaits(directories: Directories): Promise<Unconfirmed["what"] | "change" | undefined> {
  return findUnconfirmed(directories).then(
    (change) => change?.what,
    () => "change",
  );
}

/** Throws Failure `write_failed`, `permission_denied`, `locked`. */
export async function keepUnconfirmed(directories: Directories, change: Unconfirmed): Promise<void> {
  await alone(directories, () => keep(directories, change));
}

/** Throws Failure `write_failed`, `permission_denied`, `locked`. */
export async function forgetUnconfirmed(directories: Directories): Promise<void> {
  await alone(directories, () => forget(directories));
}

/**
 * Makes of the record what `next` says, undefined for none; returns that. The two families' services do so side by side. Throws Failure
 * as `findUnconfirmed` and `keepUnconfirmed`.
 */
export function changeUnconfirmed(
  directories: Directories,
  next: (change: Unconfirmed) => Unconfirmed | undefined,
): Promise<Unconfirmed | undefined> {
  return alone(directories, async () => {
    const change = await findUnconfirmed(directories);
    const changed = change && next(change);
    if (changed === change) return change;
    if (changed === undefined) await forget(directories);
    else await keep(directories, changed);
    return changed;
  });
}

/** seconds; a record is written at once. */
const PATIENCE = 30;

function alone<T>(directories: Directories, steps: () => Promise<T>): Promise<T> {
  return withDirectoryLock(place(directories).directory, PATIENCE, steps);
}

function keep(directories: Directories, change: Unconfirmed): Promise<void> {
  return keepState(place(directories), "unconfirmed", `${JSON.stringify(change)}\n`, true);
}

function forget(directories: Directories): Promise<void> {
  return removeKept(place(directories), "unconfirmed");
}

/** random(4), proc(5). Throws what node:fs throws. */
export async function readNow(): Promise<Now> {
  const [boot, uptime] = await Promise.all(
    ["/proc/sys/kernel/random/boot_id", "/proc/uptime"].map((path) => readFile(path, "utf8")),
  );
  return { boot: boot?.trim() ?? "", uptime: Number(uptime?.split(" ")[0]) };
}
