// Where a program is built from, as git knows it: `--version` says it, and packages have the time of it.

import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { execa } from "execa";

const ROOT = fileURLToPath(new URL(".", import.meta.url));
/** What a build reads. */
const SOURCES = ["src", "schema", "package.json", "package-lock.json", ":(glob)*.ts"];

/**
 * As words: "commit 64a28a9c0b1d", with "and changes" for a tree that is not the commit's; "built outside git", of a copy without a .git
 * of its own, even in another's repository; or "commit unknown", where git is not there, or does not trust the folder's owner.
 */
export async function originOf(): Promise<string> {
  if (!existsSync(join(ROOT, ".git"))) return "built outside git";
  const hash = await git("rev-parse", "HEAD");
  const changes = await git("status", "--porcelain", "--", ...SOURCES);
  if (hash === undefined || changes === undefined) return "commit unknown";
  return `commit ${hash.slice(0, 12)}${changes === "" ? "" : " and changes"}`;
}

/** Seconds since 1970: SOURCE_DATE_EPOCH (reproducible-builds.org), else the commit's time; where that is unknown, now. */
export async function timeOfSources(): Promise<number> {
  const isOfCommit = /^commit [0-9a-f]/.test(await originOf());
  const given = process.env["SOURCE_DATE_EPOCH"] ?? (isOfCommit ? await git("log", "-1", "--format=%ct") : undefined);
  return given === undefined ? Math.floor(Date.now() / 1000) : Number(given);
}

/** What git prints; undefined where it fails, or is not there. */
async function git(...args: readonly string[]): Promise<string | undefined> {
  const { stdout, failed } = await execa("git", args, { cwd: ROOT, reject: false, stderr: "ignore" });
  return failed ? undefined : stdout;
}
