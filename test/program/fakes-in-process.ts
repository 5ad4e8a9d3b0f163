// The answers of the fakes that are called most, within the tests' process: to start one there costs 20 to 30 ms of processor time,
// for the kernel copies the tables of a process of 250 MB first. The scripts in fakes/ are the reference, and
// fakes-in-process.test.ts compares; anything that is not known here is left to them.

import type { SpawnOptions } from "node:child_process";
import { EventEmitter } from "node:events";
import { existsSync, realpathSync } from "node:fs";
import { basename, join } from "node:path";
import { PassThrough, Writable } from "node:stream";
import { type Answer, type Asked, type Deed, type Fake, noteCall, programOf, scriptOf, textAt } from "./fake-call.ts";
import { conntrack } from "./fake-conntrack.ts";
import { docker } from "./fake-docker.ts";
import { listRule, restore, save, trial } from "./fake-iptables.ts";
import { flock } from "./fake-locks.ts";
import { systemctl, systemdRun } from "./fake-systemctl.ts";

const FAKES: Record<string, Fake> = {
  broken,
  conntrack,
  docker,
  iptables: listRule,
  nft,
  systemctl,
  "systemd-run": systemdRun,
  unshare: trial,
  "iptables-save": save,
  "iptables-restore": restore,
};
const BY_SCRIPT = new Map(Object.entries(FAKES).map(([name, fake]) => [scriptOf(name), fake]));

/** Of a child in the tests' process: what it does when the one that started it is killed. */
export interface FakeChild extends EventEmitter {
  /** It finds the end of its stdin, be it half written, and ends. */
  orphan: () => void;
}

/** In place of child_process.spawn; undefined where a process has to be started. */
export function spawnFake(file: string, args: readonly string[], options: SpawnOptions): FakeChild | undefined {
  const { FAKE: folder, PATH: path = "", TRIAL } = options.env ?? {};
  if (folder === undefined || TRIAL !== undefined) return undefined;
  const stdin = options.stdio?.[0];
  if (file === "flock" && typeof stdin === "number" && isAlone(folder)) return childOf(flock(stdin, args), stdin);
  const name = basename(file);
  const fake = BY_SCRIPT.get(textAt(programOf(file, path)) ?? "");
  if (fake === undefined || textAt(join(folder, `on-${name}`))) return undefined;
  const deed = fake({ name, args, folder, path });
  if (deed === undefined || (typeof deed === "function" && stdin !== "pipe" && stdin !== "ignore")) return undefined;
  noteCall(folder, name, fake === trial ? args.slice(0, 1) : args);
  return childOf(deed, stdin);
}

/** The executable that runs in this process, and how it is run once more. */
export interface OwnRun {
  program: string;
  run: (argv: string[], env: Record<string, string>) => Promise<Answer>;
}

/** `env -i PATH=… …/docker_iptables --version`, where that is the program, and a Node.js is there to run it. */
export function spawnOwn(
  [flag, path = "", program = "", ...argv]: readonly string[],
  own: OwnRun,
): FakeChild | undefined {
  const PATH = path.replace(/^PATH=/, "");
  if (flag !== "-i" || PATH === path || programOf("node", PATH) === "") return undefined;
  if (!existsSync(program) || realpathSync(program) !== realpathSync(own.program)) return undefined;
  return childOf(own.run(argv, { PATH }), null);
}

/** As much of a ChildProcess as execa asks for. */
function childOf(deed: Deed, source: unknown): FakeChild {
  const chunks: Buffer[] = [];
  const write = (chunk: Buffer, _encoding: string, done: () => void) => {
    chunks.push(chunk);
    done();
  };
  const stdin = source === "pipe" ? new Writable({ write }) : null;
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const end = async () => {
    const said = await answerOf(deed, Buffer.concat(chunks).toString());
    if (child.exitCode !== null) return;
    stdout.end(said.stdout ?? "");
    stderr.end(said.stderr ?? "");
    child.exitCode = said.exitCode ?? 0;
    child.emit("exit", child.exitCode, null);
    child.emit("close", child.exitCode, null);
  };
  const child = Object.assign(new EventEmitter(), {
    ...{ pid: process.pid, exitCode: null as number | null, signalCode: null, kill: () => false },
    ...{ stdin, stdout, stderr, stdio: [stdin, stdout, stderr], orphan: end },
  });
  setImmediate(() => child.emit("spawn"));
  if (typeof deed === "function" && stdin !== null) stdin.on("finish", end);
  else setImmediate(end);
  return child;
}

/** A host whose locks other processes take, too, has this file among its fakes: see FakeHost.sharesLocks. */
export const SHARED_LOCKS = "shared-locks";

/** Whether nobody but runs in this process takes the locks of a host. */
function isAlone(folder: string): boolean {
  return !existsSync(join(folder, SHARED_LOCKS)) && !existsSync(join(folder, "..", "bin", "flock"));
}

/** A fake that is broken fails: a run that waited for it would never end. */
function answerOf(deed: Deed, input: string): Answer | Promise<Answer> {
  try {
    return typeof deed === "function" ? deed(input) : deed;
  } catch (error) {
    return { exitCode: 70, stderr: `the fake failed: ${error}\n` };
  }
}

/** What fakes/fault.cjs starts in place of a command that has to fail. */
function broken(): Answer {
  return { exitCode: 70, stderr: "broke\n" };
}

function nft({ folder }: Asked): Answer {
  return { stdout: textAt(join(folder, "nft.json")) ?? '{"nftables": []}\n' };
}
