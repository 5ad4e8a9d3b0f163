// The answers of the fakes that are called most, within the tests' process: to start one there costs 20 to 30 ms of processor time,
// for the kernel copies the tables of a process of 250 MB first. The scripts in fakes/ are the reference, and
// fakes-in-process.test.ts compares; anything that is not known here is left to them.

import type { SpawnOptions } from "node:child_process";
import { EventEmitter } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { PassThrough, Writable } from "node:stream";
import { type Answer, type Asked, type Deed, type Fake, noteCall, programOf, scriptOf, textAt } from "./fake-call.ts";
import { conntrack } from "./fake-conntrack.ts";
import { listRule, restore, save, trial } from "./fake-iptables.ts";
import { flock } from "./fake-locks.ts";
import { systemctl } from "./fake-systemctl.ts";

const FAKES: Record<string, Fake> = {
  broken,
  conntrack,
  docker,
  iptables: listRule,
  nft,
  systemctl,
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
  const { FAKE: folder, PATH: path = "", TRIAL, FAKE_LOCKS } = options.env ?? {};
  if (folder === undefined || TRIAL !== undefined) return undefined;
  const stdin = options.stdio?.[0];
  if (file === "flock" && FAKE_LOCKS !== undefined && typeof stdin === "number") return childOf(flock(stdin), stdin);
  const name = basename(file);
  const fake = BY_SCRIPT.get(textAt(programOf(file, path)) ?? "");
  if (fake === undefined || textAt(join(folder, `on-${name}`))) return undefined;
  const deed = fake({ name, args, folder, path });
  if (deed === undefined || (typeof deed === "function" && stdin !== "pipe" && stdin !== "ignore")) return undefined;
  noteCall(folder, name, fake === trial ? args.slice(0, 1) : args);
  return childOf(deed, stdin);
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
  const end = () => {
    if (child.exitCode !== null) return;
    const said = answerOf(deed, Buffer.concat(chunks).toString());
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

/** A fake that is broken fails: a run that waited for it would never end. */
function answerOf(deed: Deed, input: string): Answer {
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

function docker({ args: [...args], folder }: Asked): Answer | undefined {
  if (args[0] === "--host" || args[0] === "--url") args.splice(0, 2);
  const isNetwork = args[0] === "network";
  if (isNetwork) args.shift();
  const documents = join(folder, isNetwork ? "networks" : "containers");
  const [verb, ...names] = args;
  if (verb === "version") return { stdout: "20.10.24\n" };
  if (verb !== "inspect" || names.some((name) => name.length >= 64)) return undefined;
  const paths = names.map((name) => join(documents, `${name}.json`));
  const found = paths.filter((path) => existsSync(path)).map((path) => readFileSync(path));
  const missing = names.filter((_name, index) => !existsSync(paths[index] ?? ""));
  const parts = found.flatMap((text, index) => (index === 0 ? [text] : [Buffer.from(","), text]));
  return {
    exitCode: missing.length === 0 ? 0 : 1,
    stdout: Buffer.concat([Buffer.from("["), ...parts, Buffer.from("]\n")]),
    stderr: missing.map((name) => `Error: No such ${isNetwork ? "network" : "object"}: ${name}\n`).join(""),
  };
}
