// What `--version` says of where a program was built: asked of copies of build-origin.ts, in folders of every kind.

import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { execa, execaSync } from "execa";
import { expect, onTestFinished, test } from "vitest";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const ASK = `import { originOf, timeOfSources } from "./build-origin.ts";
console.log(JSON.stringify([await originOf(), await timeOfSources()]));`;
const TIME = 1_700_000_000;

test("a build says its commit, and whether the sources are the commit's", async () => {
  const top = project(newFolder());
  const [commit, time] = await ask(top);
  expect([commit, time]).toEqual([expect.stringMatching(/^commit [0-9a-f]{12}$/), TIME]);
  // What no build reads.
  writeFileSync(join(top, "notes.txt"), "");
  expect(await ask(top)).toEqual([commit, TIME]);
  expect(await ask(top, { SOURCE_DATE_EPOCH: "1234" })).toEqual([commit, 1234]);
  // One that git does not know yet.
  writeFileSync(join(top, "src/new.ts"), "");
  expect(await ask(top)).toEqual([`${commit} and changes`, TIME]);
});

test("a copy without a .git of its own was built outside git, now, even in another's repository", async () => {
  const another = project(newFolder());
  const top = join(another, "copy");
  project(top);
  rmSync(join(top, ".git"), { recursive: true });
  const [origin, time] = await ask(top);
  expect(origin).toBe("built outside git");
  expect(time).toBeGreaterThan(TIME);
});

test("where git cannot be asked, the commit is unknown", async () => {
  const [origin, time] = await ask(project(newFolder()), { PATH: "/nonexistent" });
  expect(origin).toBe("commit unknown");
  expect(time).toBeGreaterThan(TIME);
});

function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "docker_iptables-origin-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A repository with one commit, of a source and of what is asked. */
function project(top: string): string {
  mkdirSync(join(top, "src"), { recursive: true });
  for (const name of ["build-origin.ts", "package.json"]) cpSync(join(ROOT, name), join(top, name));
  writeFileSync(join(top, "src/main.ts"), "");
  symlinkSync(join(ROOT, "node_modules"), join(top, "node_modules"));
  const date = `${TIME} +0000`;
  const env = { GIT_COMMITTER_DATE: date, GIT_AUTHOR_DATE: date };
  const git = (...args: string[]) =>
    execaSync("git", ["-c", "user.name=a", "-c", "user.email=a", ...args], { cwd: top, env });
  git("init", "--quiet");
  git("add", "build-origin.ts", "package.json", "src");
  git("commit", "--quiet", "--message", "all");
  return top;
}

async function ask(top: string, env: Record<string, string> = {}): Promise<[string, number]> {
  const args = ["--import", "tsx", "--input-type=module", "--eval", ASK];
  return JSON.parse((await execa(process.execPath, args, { cwd: top, env })).stdout);
}
