// Which container fragments belong to this boot. After a power cut the fragments of the last boot are still there, and
// name addresses that may be another container's by now; they count only when `present` has confirmed them since.
//
// On disk: DIRECTORY/.docker_iptables.boot, comments only, in case another loader reads hidden files, too:
//   # docker_iptables: boot BOOT_ID
//   # 11-docker-container_web
// It names only existing files: a fragment that is removed, and restored by something else (a backup, a checkout), no longer
// counts. Without this file (before the first `present` or `load` of this version) every fragment counts.

import { readdir, readFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { Fragment } from "../iptables/assemble.ts";
import { hasRuleLines } from "../iptables/fragment-text.ts";
import { containerOf } from "../model/owner.ts";
import { readOwn } from "./directory.ts";

const FILE = ".docker_iptables.boot";
const MARK = "# docker_iptables: boot ";

/** The fragments that count, and those of containers that are from before this boot. */
export async function sortByBoot(directory: string, fragments: readonly Fragment[]) {
  const confirmed = await readConfirmed(directory);
  const isStale = (one: Fragment) => {
    const isContainers = containerOf(one) !== undefined;
    return confirmed !== undefined && isContainers && !confirmed.has(basename(one.path)) && hasRuleLines(one.text);
  };
  return { current: fragments.filter((one) => !isStale(one)), stale: fragments.filter(isStale) };
}

/** A container's fragment as it is to be. */
interface Entry {
  path: string;
  /** Whether there is to be one. */
  lasts: boolean;
}

/** Of these, those that stay and are not on the list of this boot's, and those that are removed and are on it. */
export async function misfiledOf(entries: readonly Entry[]): Promise<string[]> {
  const directories = [...new Set(entries.map(({ path }) => dirname(path)))];
  const read = directories.map(async (directory) => [directory, await readConfirmed(directory)] as const);
  const confirmed = new Map(await Promise.all(read));
  const isListed = (path: string) => confirmed.get(dirname(path))?.has(basename(path)) ?? false;
  return entries.filter(({ path, lasts }) => isListed(path) !== lasts).map(({ path }) => path);
}

/**
 * The path of the file and its new text: with those of the misfiled that are there, and without any that is gone. For the
 * holder of the write lock, once the fragments are written.
 */
export async function confirmationOf(
  directory: string,
  misfiled: readonly string[],
): Promise<{ path: string; after: string }> {
  const there = new Set((await readdir(directory)).filter((name) => containerOf(name) !== undefined));
  const known = (await readConfirmed(directory)) ?? there;
  const names = [...new Set([...known, ...misfiled.map((path) => basename(path))])].filter((name) => there.has(name));
  const lines = [`${MARK}${await bootId()}`, ...names.sort().map((name) => `# ${name}`), ""];
  return { path: join(directory, FILE), after: lines.join("\n") };
}

/** Undefined where there is no such file; empty where it is of another boot. */
async function readConfirmed(directory: string): Promise<Set<string> | undefined> {
  const own = await readOwn(join(directory, FILE));
  if (own === undefined) return undefined;
  const [mark, ...names] = own.text.split("\n");
  return new Set(
    mark === `${MARK}${await bootId()}` ? names.filter(Boolean).map((line) => line.replace(/^# /, "")) : [],
  );
}

/** random(4): anew at each boot. Throws what node:fs throws. */
export async function bootId(): Promise<string> {
  return (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim();
}
