// Where a program is built from, as git knows it: `--version` says it, and packages have the time of it.

import { fileURLToPath } from "node:url";
import { execa } from "execa";

const ROOT = fileURLToPath(new URL(".", import.meta.url));
/** What a build reads. */
const SOURCES = ["src", "schema", "package.json", "package-lock.json", ":(glob)*.ts"];

/** As words: "commit 64a28a9c0b1d", with "and changes" for a tree that is not the commit's, or "built outside git". */
export async function originOf(): Promise<string> {
  const commit = await git("rev-parse", "--show-prefix", "HEAD");
  // The first line is this folder's path in the repository: a copy that lies within another's repository is not its commit.
  const [prefix, hash] = commit?.split("\n") ?? ["none"];
  if (prefix !== "" || hash === undefined) return "built outside git";
  const changes = await git("status", "--porcelain", "--", ...SOURCES);
  return `commit ${hash.slice(0, 12)}${changes === "" ? "" : " and changes"}`;
}

/** Seconds since 1970: SOURCE_DATE_EPOCH (reproducible-builds.org), else the commit's time; outside git, now. */
export async function timeOfSources(): Promise<number> {
  const isOfCommit = !(await originOf()).startsWith("built");
  const given = process.env["SOURCE_DATE_EPOCH"] ?? (isOfCommit ? await git("log", "-1", "--format=%ct") : undefined);
  return given === undefined ? Math.floor(Date.now() / 1000) : Number(given);
}

/** What git prints; undefined where it fails, or is not there. */
async function git(...args: readonly string[]): Promise<string | undefined> {
  const { stdout, failed } = await execa("git", args, { cwd: ROOT, reject: false, stderr: "ignore" });
  return failed ? undefined : stdout;
}
