// The directories of both families as they are. Reads, and changes nothing.

import { untrustedIn } from "../fragments/access.ts";
import type { Fragments } from "../fragments/by-family.ts";
import { directoryExists } from "../fragments/directory.ts";
import type { Access } from "../model/access.ts";
import type { Directories } from "../model/directories.ts";
import { FAMILIES } from "../model/family.ts";
import type { Host } from "./backend.ts";
import { type FileChange, hasFileChanges } from "./item.ts";

/** The directories' fragments as they are. Throws Failure `directory_unusable`. */
export async function readDirectories({ directories, backend }: Host): Promise<Fragments> {
  const read = FAMILIES.map(async (family) => {
    const directory = directories[family];
    return [family, (await directoryExists(directory)) ? await backend.readFragments(directory, family) : []] as const;
  });
  return Object.fromEntries(await Promise.all(read));
}

/**
 * What another user than root can change, of the directories and of the fragments; what these changes write anew is
 * root's then. Throws what node:fs throws.
 */
export async function untrustedOf(
  now: Fragments,
  changes: readonly FileChange[],
  directories: Directories,
): Promise<Access[]> {
  const written = new Set(changes.filter(hasFileChanges).map(({ path }) => path));
  const found = await Promise.all(FAMILIES.map((family) => untrustedIn(directories[family], now[family] ?? [])));
  return found.flat().filter(({ path }) => !written.has(path));
}
