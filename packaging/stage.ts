// Writes a package's files below a folder, with their modes.

import { chmod, mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Entry } from "./product.ts";

/** Whatever the umask is. */
export async function stage(entries: readonly Entry[], folder: string): Promise<void> {
  for (const { path, content, executable } of entries) {
    const file = join(folder, path);
    for (const directory of await created(dirname(file))) await chmod(directory, 0o755);
    await writeFile(file, content);
    await chmod(file, executable ? 0o755 : 0o644);
  }
}

/** The directories that had to be made. */
async function created(directory: string): Promise<string[]> {
  const first = await mkdir(directory, { recursive: true });
  const made: string[] = [];
  for (let one = directory; first !== undefined && one.length >= first.length; one = dirname(one)) made.push(one);
  return made;
}
