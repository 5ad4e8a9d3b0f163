// Which container fragments belong to this boot. After a power cut the fragments of the last boot are still there, and
// name addresses that may be another container's by now; they count only when `present` has confirmed them since.
//
// On disk: DIRECTORY/.docker_iptables.boot, comments only, in case somebody's loader reads hidden files too:
//   # docker_iptables: boot BOOT_ID
//   # 11-docker-container_web
// Without this file (before the first `present` or `load` of this version) every fragment counts.

import { readdir, readFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { isContainers } from "../rules/fragment-text.ts";
import type { Fragment } from "./assemble.ts";
import { readOwn } from "./directory.ts";

const FILE = ".docker_iptables.boot";
const MARK = "# docker_iptables: boot ";

/** The fragments that count, and those of containers that are from before this boot. */
export async function sortByBoot(directory: string, fragments: readonly Fragment[]) {
  const confirmed = await readConfirmed(directory);
  const isStale = ({ path }: Fragment) => {
    const name = basename(path);
    return confirmed !== undefined && isContainers(name) && !confirmed.has(name);
  };
  return { current: fragments.filter((one) => !isStale(one)), stale: fragments.filter(isStale) };
}

/** Those of the container fragments at these paths, there or to come, that are not of this boot. */
export async function unconfirmedOf(paths: readonly string[]): Promise<string[]> {
  const directories = [...new Set(paths.map((path) => dirname(path)))];
  const read = directories.map(async (directory) => [directory, await readConfirmed(directory)] as const);
  const confirmed = new Map(await Promise.all(read));
  return paths.filter((path) => !confirmed.get(dirname(path))?.has(basename(path)));
}

/** The path and the new text of the file that holds them, with more fragments added to those of this boot. */
export async function confirmationOf(
  directory: string,
  paths: readonly string[],
): Promise<{ path: string; after: string }> {
  const known = (await readConfirmed(directory)) ?? (await readdir(directory)).filter(isContainers);
  const names = [...new Set([...known, ...paths.map((path) => basename(path))])].sort();
  const lines = [`${MARK}${await bootId()}`, ...names.map((name) => `# ${name}`), ""];
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

/** random(4): anew at each boot. */
async function bootId(): Promise<string> {
  return (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim();
}
