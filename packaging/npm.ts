// npm's package: the script with its manual.

import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { execa } from "execa";
import packageJson from "../package.json" with { type: "json" };
import { ROOT } from "./product.ts";
import { stage } from "./stage.ts";

/** What npm takes besides `files`. */
const ALWAYS = ["LICENSE", "README.md", "package.json"];

/** Makes it in `folder`, from copies: npm would keep the modes that the builder's umask gave the files. Throws as execa does. */
export async function makeNpm(folder: string): Promise<void> {
  const executable = packageJson.bin.docker_iptables;
  const draft = await mkdtemp(join(tmpdir(), "docker_iptables-npm-"));
  try {
    const paths = [...packageJson.files, ...ALWAYS];
    const entry = async (path: string) => ({ path, content: await readFile(join(ROOT, path)) });
    const entries = await Promise.all(paths.map(entry));
    await stage(
      entries.map((one) => ({ ...one, executable: one.path === executable })),
      draft,
    );
    // What is in them is built already.
    await execa("npm", ["pack", "--ignore-scripts", "--pack-destination", folder], { cwd: draft });
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
}
