/*
 * The local image that containers run: one static server (server.c) and nothing else, so no registry is needed.
 * Compiled once, in a lab's world, and kept as a tar archive in .cache/lab.
 */

import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { cacheDirectory, draftDirectory } from "./packages.ts";
import type { World } from "./world.ts";

/** The image's name in every host. */
export const serverImage = "lab/server";

/** Path of the image's root file system as a tar archive. */
export async function serverArchive(world: World): Promise<string> {
  const source = fileURLToPath(new URL("server.c", import.meta.url));
  const key = createHash("sha256")
    .update(process.arch)
    .update(await readFile(source))
    .digest("hex")
    .slice(0, 12);
  const archive = join(cacheDirectory, `server-${key}.tar`);
  if (existsSync(archive)) return archive;
  const draft = await draftDirectory();
  try {
    await world.run("gcc", ["-static", "-O1", "-Wall", "-o", join(draft, "server"), source]);
    await world.run("tar", ["-C", draft, "-cf", join(draft, "draft.tar"), "server"]);
    await rename(join(draft, "draft.tar"), archive);
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
  return archive;
}
