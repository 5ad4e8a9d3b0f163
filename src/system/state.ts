// Where a host's state is that is not for editing: what each load left, what is loaded if a boot cannot load the fragments, cached
// results.
//
// On disk: STATE_DIRECTORY (systemd.exec(5)); else /var/lib/docker_iptables, for the directories that are the default ones; else
// DIRECTORY/.docker_iptables, so that a run with other directories never writes the machine's state. Root only.

import { constants } from "node:fs";
import { lstat, mkdir, open, readdir, readlink, rename, rm, rmdir, stat, utimes } from "node:fs/promises";
import { join } from "node:path";
import { geteuid, pid } from "node:process";
import { DEFAULT_DIRECTORIES, stateDirectoryOf } from "../model/directories.ts";
import type { Family } from "../model/family.ts";
import { variable } from "./environment.ts";
import { syncDirectory, writeFailure } from "./replace-file.ts";

/** The state of a family's directory of fragments. */
export interface State {
  family: Family;
  directory: string;
}

/** `directory` holds the fragments. */
export function stateOf(family: Family, directory: string): State {
  const given = variable("STATE_DIRECTORY")?.split(":")[0];
  const ours = stateDirectoryOf(family, DEFAULT_DIRECTORIES[family]);
  // A service of ours may load one directory that is a default one and another that is not.
  if (given?.startsWith("/") && given !== ours) return { family, directory: given };
  return { family, directory: stateDirectoryOf(family, directory) };
}

/** What of a family is kept: see the rooms that write it. */
export type Kept = "rules" | "left" | "spelled" | "names" | "seen" | "unconfirmed";

export function pathOf({ family, directory }: State, kept: Kept): string {
  return join(directory, `${family}.${kept}`);
}

/** The text; undefined where there is none, where this user may not read it, or where another than root could have written it. */
export async function readState(state: State, kept: Kept): Promise<string | undefined> {
  const path = pathOf(state, kept);
  const handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch(
    () => undefined,
  );
  if (handle === undefined) return undefined;
  try {
    const seen = await handle.stat();
    if (!seen.isFile() || (seen.uid !== 0 && seen.uid !== geteuid?.()) || (seen.mode & 0o022) !== 0) return undefined;
    return await handle.readFile("utf8");
  } catch {
    return undefined;
  } finally {
    await handle.close();
  }
}

/**
 * Keeps a text that another run can do without: a machine that loses power may lose it, unless it is `lasting`. Throws Failure
 * `write_failed`, `permission_denied`, and what node:fs throws; the former text is then still there.
 */
export async function keepState(state: State, kept: Kept, text: string, lasting = false): Promise<void> {
  await makeStateDirectory(state);
  const path = pathOf(state, kept);
  const draft = `${path}.${pid}.tmp`;
  try {
    const handle = await open(
      draft,
      constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_NOFOLLOW,
      0o600,
    );
    try {
      await handle.writeFile(text);
      if (lasting) await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(draft, path);
    if (lasting) await syncDirectory(state.directory);
  } catch (error) {
    await rm(draft, { force: true }).catch(() => {});
    throw writeFailure(path, "written", error);
  }
}

/** What a load leaves. */
const OF_LOADS: readonly Kept[] = ["rules", "left", "spelled", "names"];

/** Whether a load has left any state. */
export async function isKept(state: State): Promise<boolean> {
  const seen = await Promise.all(OF_LOADS.map((kept) => lstat(pathOf(state, kept)).catch(() => undefined)));
  return seen.some((one) => one !== undefined);
}

/** Removes all of it. Throws Failure `write_failed`, `permission_denied`. */
export async function removeState(state: State): Promise<void> {
  for (const kept of [...OF_LOADS, "seen"] as const) await removeKept(state, kept);
}

/** Throws likewise. */
export async function removeKept(state: State, kept: Kept): Promise<void> {
  const path = pathOf(state, kept);
  await rm(path, { force: true }).catch((error: unknown) => {
    throw writeFailure(path, "removed", error);
  });
  await rmdir(state.directory).catch(() => {});
}

/** Keeps a text that the next boot needs, if it is another than before; the file's time says that it is so now. Throws as `keepState`. */
export async function keepLastingState(state: State, kept: Kept, text: string): Promise<void> {
  if ((await readState(state, kept)) !== text) return keepState(state, kept, text, true);
  const now = new Date();
  // The text is there, which is what a boot needs.
  await utimes(pathOf(state, kept), now, now).catch(() => {});
}

/** When a text was last kept, or found to be kept already; undefined where there is none. */
export async function timeOf(state: State, kept: Kept): Promise<Date | undefined> {
  return (await stat(pathOf(state, kept)).catch(() => undefined))?.mtime;
}

async function makeStateDirectory({ directory }: State): Promise<void> {
  if ((await mkdir(directory, { recursive: true, mode: 0o700 })) === undefined) await sweepDrafts(directory);
}

/** ms; no draft is written for so long. */
const OLD = 60_000;

const DRAFT = /^ipv[46]\.(rules|left|spelled|names|seen|unconfirmed)\.\d+\.tmp$/;

/** What killed runs left. */
async function sweepDrafts(directory: string): Promise<void> {
  for (const name of (await readdir(directory)).filter((one) => DRAFT.test(one))) {
    const path = join(directory, name);
    const seen = await stat(path).catch(() => undefined);
    if (seen !== undefined && Date.now() - seen.mtimeMs > OLD) await rm(path, { force: true });
  }
}

/** The network namespace of this process, by which its rules are this kernel's or another's (namespaces(7)). */
export function networkNamespace(): Promise<string> {
  return readlink("/proc/self/ns/net");
}
