// Before the first test of a run: a folder for everything that its tests write, the few programs of the machine that they may
// start, and an environment that has nothing else of the machine's or its user's. However the run ends, sweep.sh removes all of it.

import { spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  rmSync,
  statfsSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { TestProject } from "vitest/node";
import { isExecutable } from "./executable.ts";

/** The machine's programs that tests, fakes and the executable may start. Nothing that knows of packets, Docker or systemd. */
export const TOOLS = (
  "awk basename bash cat chmod chown cp date env flock git grep gzip head jq ls mkdir mkfifo mount mv node nsenter readlink " +
  "rm rmdir script sed setpriv sh sleep sort tail tar timeout touch true umount unshare wc"
).split(" ");

/** What a test may know of the environment in which it was started. */
const KEPT = /^(?:CI|DOCKER_IPTABLES|FORCE_COLOR|LD_LIBRARY_PATH|NO_COLOR|PRODUCT_NODE|TERM|(?:NODE|VITEST)(?:_.*)?)$/;

const SWEEP = fileURLToPath(new URL("sweep.sh", import.meta.url));
const PREFIX = "docker_iptables-run-";
/** Held by the run for as long as it lives: a lock of the kernel's. */
const ALIVE = ".alive";
const ALSO = ".also";
/** ms; a run that has just made its folder may not have locked it yet. */
const YOUNG = 60_000;

export default function startRun({ tmpDir }: TestProject): void {
  const isChosen = process.env["TMPDIR"] !== undefined;
  const places = [tmpdir(), ...(!isChosen && isRoomy(MEMORY) ? [MEMORY] : [])];
  for (const place of places) sweepForgotten(place);
  const run = mkdtempSync(join(places.at(-1) ?? "", PREFIX));
  // Some tests start a process of another user's, whose program is in it.
  chmodSync(run, 0o711);
  const alive = openSync(join(run, ALIVE), "w");
  const { status, error } = spawnSync("flock", ["--exclusive", "0"], { stdio: [alive, "ignore", "inherit"] });
  if (status !== 0) throw new Error(`flock of util-linux is needed: ${error?.message ?? `exit status ${status}`}`);
  // vitest's own folder is removed with it.
  symlinkSync(tmpDir, join(run, ALSO));
  sweep(run);
  const tools = linkTools(join(run, "tools"));
  for (const name of Object.keys(process.env)) if (!KEPT.test(name)) delete process.env[name];
  Object.assign(process.env, { PATH: tools, TMPDIR: run, HOME: run });
}

/** Where files are memory: most of what tests do is to write small ones, and a disk takes ten times as long for that. */
const MEMORY = "/dev/shm";
/** bytes that a run may need. */
const ROOM = 2 ** 30;
/** Of statfs(2). */
const TMPFS = 0x01021994;

/** Whether it is a file system in memory that has room, and runs programs: a container's often is small, and does not. */
function isRoomy(folder: string): boolean {
  try {
    const { type, bavail, bsize } = statfsSync(folder);
    if (type !== TMPFS || bavail * bsize < ROOM) return false;
    const probe = mkdtempSync(join(folder, PREFIX));
    try {
      const program = join(probe, "true");
      writeFileSync(program, "#!/bin/sh\n", { mode: 0o700 });
      return spawnSync(program).status === 0;
    } finally {
      rmSync(probe, { recursive: true });
    }
  } catch {
    return false;
  }
}

/** Those of runs that were ended together with what would have swept them; ours, for anybody may call a folder so. */
function sweepForgotten(place: string): void {
  for (const name of readdirSync(place).filter((name) => name.startsWith(PREFIX))) {
    const run = join(place, name);
    const stat = lstatSync(run, { throwIfNoEntry: false });
    if (stat === undefined || !stat.isDirectory() || stat.uid !== process.getuid?.()) continue;
    if (stat.mtimeMs < Date.now() - YOUNG) sweep(run, "--nonblock");
  }
}

/** Once the run is over, which releases its lock. */
function sweep(run: string, ...flags: string[]): void {
  // In a session of its own, so that no Ctrl-C ends it; its environment does not have the run's folder, or it would end itself.
  const args = [...flags, "--exclusive", join(run, ALIVE), SWEEP, run];
  spawn("flock", args, { detached: true, stdio: "ignore" }).unref();
}

/** A folder with a link to each tool that this machine has. */
function linkTools(folder: string): string {
  mkdirSync(folder);
  for (const tool of TOOLS) {
    const program = tool === "node" ? nodeProgram() : find(tool);
    if (program !== undefined) symlinkSync(program, join(folder, tool));
  }
  return folder;
}

/** The Node.js that runs the executable: another one than that of the tests in `npm run test:nodes`. */
function nodeProgram(): string {
  const folder = process.env["PRODUCT_NODE"];
  return folder === undefined ? process.execPath : join(folder, "node");
}

function find(tool: string): string | undefined {
  const folders = `${process.env["PATH"]}:/usr/sbin:/usr/bin:/sbin:/bin`.split(":");
  return folders.map((folder) => join(folder, tool)).find(isExecutable);
}
