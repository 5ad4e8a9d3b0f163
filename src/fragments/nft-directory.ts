// The directory of a host whose backend is nftables: fragments of ours alone, each with both families. What else is there is not ours to
// read.

import { lstat, mkdir, readdir, readlink, rename, rm, symlink } from "node:fs/promises";
import { basename, join } from "node:path";
import type { Fragment } from "../iptables/assemble.ts";
import { isManaged } from "../iptables/fragment-text.ts";
import { DEFAULT_NFT_DIRECTORY } from "../model/directories.ts";
import { errno } from "../model/errors.ts";
import type { Family } from "../model/family.ts";
import { hashOf } from "../model/hash.ts";
import { containerOf, fileOf, type Owner, ownerOfFile } from "../model/owner.ts";
import { type ReadNft, readNft } from "../nft/fragment-text.ts";
import { writeFailure } from "../system/replace-file.ts";
import { sortByBoot } from "./confirmed.ts";
import { readFragments } from "./directory.ts";

const SUFFIX = ".nft";

/** The name of an owner's file. */
export function nftFileOf(owner: Owner): string {
  return `${fileOf(owner)}${SUFFIX}`;
}

/** Whose a file of this name is; undefined for another's. */
export function ownerOfNftFile(name: string): Owner | undefined {
  return name.endsWith(SUFFIX) ? ownerOfFile(name.slice(0, -SUFFIX.length)) : undefined;
}

/** A file of ours, and what it says. */
export interface NftFile extends Fragment {
  owner: Owner;
  file: string;
  read: ReadNft;
}

/** All of ours, in bytewise order of their names. Throws Failure `directory_unusable`. */
export async function readNftFiles(directory: string): Promise<NftFile[]> {
  const fragments = await readFragments(directory);
  return fragments.flatMap(({ path, text, access }) => {
    const owner = ownerOfNftFile(basename(path));
    if (owner === undefined || !isManaged(text)) return [];
    const read = readNft(text, owner);
    return [{ path, text: "", owner, file: text, read, ...(access === undefined ? {} : { access }) }];
  });
}

/** The same as fragments of one family, in iptables' words; those that say nothing of it are left out. */
export async function readNftFragments(directory: string, family: Family): Promise<Fragment[]> {
  const files = await readNftFiles(directory);
  return files.flatMap(({ read, ...fragment }) => {
    const text = read.words.fragments[family];
    return text === undefined ? [] : [{ ...fragment, text }];
  });
}

/** Those that count in this boot, and those of containers that are from before it. */
export async function currentFiles(directory: string): Promise<{ current: NftFile[]; stale: NftFile[] }> {
  const files = await readNftFiles(directory);
  // One without an element has nothing that could be from before.
  const hasElements = ({ read }: NftFile) => [...read.table.sets.values()].some(({ elements }) => elements.size > 0);
  const worded = files.map((one) => ({ ...one, text: hasElements(one) ? "-" : "" }));
  const { stale } = await sortByBoot(directory, worded);
  const old = new Set(stale.map(({ path }) => path));
  return { current: files.filter(({ path }) => !old.has(path)), stale: files.filter(({ path }) => old.has(path)) };
}

/**
 * Where links to the containers' files are that count in this boot: what the host's last file includes, for whoever includes all files of
 * the directory. A boot empties /run.
 */
export function confirmedDirectoryOf(directory: string): string {
  const name = directory === DEFAULT_NFT_DIRECTORY ? "nftables.d" : `nftables.d-${hashOf(directory)}`;
  return join("/run/docker_iptables", name);
}

/** Makes them so. Throws Failure `write_failed`, `permission_denied`. */
export async function linkConfirmed(directory: string, current: readonly NftFile[]): Promise<void> {
  const links = confirmedDirectoryOf(directory);
  const paths = current.filter((one) => containerOf(one) !== undefined).map(({ path }) => path);
  try {
    const there = await linksIn(links);
    const wanted = new Map(paths.map((path) => [basename(path), path]));
    for (const name of there.keys()) if (!wanted.has(name)) await rm(join(links, name), { force: true });
    const missing = [...wanted].filter(([name, path]) => there.get(name) !== path);
    if (missing.length > 0) await mkdir(links, { recursive: true, mode: 0o700 });
    for (const [name, path] of missing) {
      // A link cannot be changed, only replaced: in one step.
      const fresh = join(links, `.${name}.new`);
      await rm(fresh, { force: true });
      await symlink(path, fresh);
      await rename(fresh, join(links, name));
    }
  } catch (error) {
    throw writeFailure(links, "written", error);
  }
}

/** By name where it leads; "" for what is no link. */
async function linksIn(directory: string): Promise<Map<string, string>> {
  try {
    const names = await readdir(directory);
    const read = names.map(async (name) => {
      const path = join(directory, name);
      const isLink = (await lstat(path)).isSymbolicLink();
      return [name, isLink ? await readlink(path) : ""] as const;
    });
    return new Map(await Promise.all(read));
  } catch (error) {
    if (errno(error) === "ENOENT") return new Map();
    throw error;
  }
}
