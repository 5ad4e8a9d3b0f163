// Runs the built executable, its own bytes, within the tests' process. A Node.js of its own takes ten times as long to start as a
// run takes; so most tests, which ask what a run does, do without one. What a process has of its own is made for each run: the
// module's state, process, and copies of the modules that fakes/*.cjs change. What hangs on a real process (signals, descriptors,
// limits, terminals, how it is started, that it ends) is tested with one.

import type { spawn } from "node:child_process";
import { EventEmitter } from "node:events";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { Readable } from "node:stream";
import { compileFunction } from "node:vm";
import { spawnFake } from "./fakes-in-process.ts";

export interface Start {
  argv: readonly string[];
  env: Record<string, string>;
  cwd: string;
  input: string | Uint8Array;
}

export interface Ended {
  exitCode: number;
  stdout: string;
  stderr: string;
}

type Require = (name: string) => unknown;
type Script = (require: Require, process: unknown, module: { exports: unknown }) => void;

const realRequire = createRequire(import.meta.url);
/** Plain objects, whose functions the fakes put their own in place of. */
const CHANGED = new Set(["fs", "fs/promises", "os", "child_process"]);
const scripts = new Map<string, Script>();

/** Ends when the answer is written. NODE_OPTIONS may have --require "FILE", as often as wanted, and nothing else. */
export function runInProcess(path: string, start: Start): Promise<Ended> {
  return new Promise((resolve) => {
    const own = processOf(path, start, resolve);
    const copies = new Map<string, unknown>();
    const require = (name: string): unknown => {
      const bare = name.replace(/^node:/, "");
      if (bare === "process") return own;
      const real = realRequire(name);
      if (!CHANGED.has(bare)) return real;
      const copy = copies.get(bare) ?? {
        ...(real as object),
        ...(bare === "child_process" ? { spawn: spawnOf(real) } : {}),
      };
      copies.set(bare, copy);
      return copy;
    };
    const hooks = [...(start.env["NODE_OPTIONS"] ?? "").matchAll(/--require "([^"]+)"/g)].map(([, hook]) => hook ?? "");
    for (const one of [...hooks, path]) scriptOf(one)(require, own, { exports: {} });
  });
}

function spawnOf(real: unknown): unknown {
  const processes = real as { spawn: typeof spawn };
  return (...[file, args, options]: Parameters<typeof processes.spawn>) =>
    spawnFake(file, args, options) ?? processes.spawn(file, args, options);
}

function scriptOf(path: string): Script {
  const script = scripts.get(path) ?? compile(path);
  scripts.set(path, script);
  return script;
}

function compile(path: string): Script {
  const text = readFileSync(path, "utf8").replace(/^#!/, "//");
  return compileFunction(text, ["require", "process", "module"], { filename: path }) as Script;
}

/** The real one, but for what a run is given and what it says. */
function processOf(path: string, { argv, env, cwd, input }: Start, ended: (how: Ended) => void): unknown {
  const own = Object.create(EventEmitter.prototype);
  for (const [name, property] of Object.entries(Object.getOwnPropertyDescriptors(process)))
    Object.defineProperty(own, name, { ...property, configurable: true });
  const said = { stdout: "", stderr: "" };
  let exitCode: number | undefined;
  const stream = (name: keyof typeof said) =>
    Object.assign(new EventEmitter(), {
      write(text: string): boolean {
        said[name] += text;
        // The last thing that a run does, once it has set its exit status (main.ts).
        if (name === "stdout" && exitCode !== undefined) ended({ exitCode, ...said });
        return true;
      },
    });
  const values = {
    ...{ _events: undefined, _eventsCount: 0, _maxListeners: undefined },
    ...{ argv: [process.execPath, path, ...argv], env: { ...env }, cwd: () => cwd },
    ...{
      stdin: Readable.from(input.length === 0 ? [] : [Buffer.from(input)]),
      stdout: stream("stdout"),
      stderr: stream("stderr"),
    },
  };
  for (const [name, value] of Object.entries(values))
    Object.defineProperty(own, name, { value, writable: true, enumerable: true, configurable: true });
  const accessors = { get: () => exitCode, set: (code: number) => (exitCode = code) };
  Object.defineProperty(own, "exitCode", { ...accessors, enumerable: true, configurable: true });
  Reflect.apply(EventEmitter as unknown as () => void, own, []);
  return own;
}
