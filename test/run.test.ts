// A run of tests that is interrupted, in any way: nothing of it is left.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readdirSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { isAlive, until } from "./until.ts";

const RUN = fileURLToPath(new URL("run.ts", import.meta.url));
const TOP = fileURLToPath(new URL("..", import.meta.url));

/**
 * Starts a run in a folder, which leaves things behind there, and starts what would run for long; returns this process's number.
 */
const DOOMED = `
const { default: startRun } = await import(${JSON.stringify(RUN)});
const { mkdirSync, mkdtempSync } = await import("node:fs");
const { spawn } = await import("node:child_process");
const vitests = process.env.TMPDIR + "/vitests";
mkdirSync(vitests);
startRun({ tmpDir: vitests });
mkdirSync(mkdtempSync(process.env.TMPDIR + "/left-") + "/closed", { mode: 0 });
const { pid } = spawn("sleep", ["600"], { detached: true, stdio: "ignore" });
console.log(pid);
setInterval(() => {}, 60_000);
`;

test.each(["SIGINT", "SIGTERM", "SIGKILL"] as const)("%s", async (signal) => {
  const folder = mkdtempSync(join(tmpdir(), "a run "));
  const forgotten = join(folder, "docker_iptables-run-forgotten");
  mkdirSync(forgotten);
  utimesSync(forgotten, 1, 1);
  writeFileSync(join(folder, "another's"), "");
  const node = ["--import", "tsx", "--input-type=module", "--eval", DOOMED];
  const run = spawn(process.execPath, node, { cwd: TOP, env: { ...process.env, TMPDIR: folder } });
  run.stderr.pipe(process.stderr);
  const sleeper = Number(await Promise.race([once(run.stdout, "data"), once(run, "exit").then(() => 0)]));
  expect(isAlive(sleeper)).toBe(true);
  expect(readdirSync(folder)).toContain("vitests");
  run.kill(signal);
  await until("its processes have ended", () => !isAlive(sleeper));
  const left = () => readdirSync(folder).filter((name) => !name.startsWith("tsx-"));
  await until("its folders are gone", () => left().length === 1);
  expect(left()).toEqual(["another's"]);
});
