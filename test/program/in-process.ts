// Runs the built executable, its own bytes, within the tests' process. A Node.js of its own takes ten times as long to start as a
// run takes; so most tests, which ask what a run does, do without one. What a process has of its own is made for each run: the
// module's state, process, and copies of the modules that fakes/*.cjs change. What hangs on a real process (signals, descriptors,
// limits, terminals, how it is started, that it ends) is tested with one.

import { EventEmitter } from "node:events";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { promisify } from "node:util";
import { compileFunction } from "node:vm";
import { Kept } from "./kept.ts";

export interface Start {
  argv: readonly string[];
  env: Record<string, string>;
  cwd: string;
  input: string | Uint8Array;
}

export interface Ended {
  /** -1 where a signal has ended it. */
  exitCode: number;
  signal?: NodeJS.Signals;
  stdout: string;
  stderr: string;
}

type Require = (name: string) => unknown;
type Script = (require: Require, process: unknown, module: { exports: unknown }) => void;

const realRequire = createRequire(import.meta.url);
/** Plain objects, whose functions the fakes put their own in place of. */
const CHANGED = new Set(["fs", "fs/promises", "os", "child_process"]);
const scripts = new Map<string, Script>();

/**
 * Ends when the answer is written, or when it sends itself SIGKILL, or SIGTERM without a handler for it; then whoever sends it
 * (fakes/fault.cjs) sees to it that the run does nothing more. NODE_OPTIONS may have
 * --require "FILE", as often as wanted, and nothing else.
 */
export function runInProcess(path: string, start: Start): Promise<Ended> {
  return new Promise((resolve) => {
    const kept = new Kept();
    const { own, streams } = processOf(path, start, kept, resolve);
    const copies = new Map<string, unknown>();
    const require = (name: string): unknown => {
      const bare = name.replace(/^node:/, "");
      if (bare === "process") return own;
      const real = realRequire(name);
      if (!CHANGED.has(bare)) return real;
      const copy = copies.get(bare) ?? {
        ...(real as object),
        ...(bare === "child_process"
          ? {
              spawn: kept.spawn(real, {
                program: path,
                run: (argv, env) => runInProcess(path, { argv, env, cwd: "/", input: "" }),
              }),
            }
          : {}),
        ...(bare === "fs/promises" ? kept.files(real) : {}),
        ...(bare === "fs" ? streams : {}),
      };
      copies.set(bare, copy);
      return copy;
    };
    const hooks = [...(start.env["NODE_OPTIONS"] ?? "").matchAll(/--require "([^"]+)"/g)].map(([, hook]) => hook ?? "");
    for (const one of [...hooks, path]) scriptOf(one)(require, own, { exports: {} });
  });
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
function processOf(path: string, { argv, env, cwd, input }: Start, kept: Kept, ended: (how: Ended) => void) {
  const own = Object.create(EventEmitter.prototype);
  for (const [name, property] of Object.entries(Object.getOwnPropertyDescriptors(process)))
    Object.defineProperty(own, name, { ...property, configurable: true });
  const said: Record<number, string> = { 1: "", 2: "" };
  let exitCode: number | undefined;
  const stream = (descriptor: number) =>
    Object.assign(new EventEmitter(), {
      write(text: string): boolean {
        said[descriptor] += text;
        return true;
      },
    });
  const output = () => ({ stdout: said[1] ?? "", stderr: said[2] ?? "" });
  const end = (status: number) => {
    own.emit("exit", status);
    if (!isKilled) ended({ exitCode: status, ...output() });
  };
  let isKilled = false;
  const die = async (signal: NodeJS.Signals) => {
    isKilled = true;
    const before = output();
    await kept.release();
    ended({ exitCode: -1, signal, ...before });
  };
  const kill = (pid: number, signal: NodeJS.Signals) => {
    if (pid !== process.pid) return process.kill(pid, signal);
    if (signal === "SIGKILL") die(signal);
    // A handler runs once the loop comes to it.
    else setImmediate(() => own.emit(signal, signal) || die(signal));
    return true;
  };
  const values = {
    ...{ _events: undefined, _eventsCount: 0, _maxListeners: undefined },
    // signal-exit and vitest put their own on the tests' process.
    emit: EventEmitter.prototype.emit,
    ...{ stdout: stream(1), stderr: stream(2) },
    ...{ argv: [process.execPath, path, ...argv], env: { ...env }, cwd: () => cwd, kill },
  };
  for (const [name, value] of Object.entries(values))
    Object.defineProperty(own, name, { value, writable: true, enumerable: true, configurable: true });
  // The last thing that a run does (main.ts).
  const accessors = {
    get: () => exitCode,
    set: (code: number) => {
      exitCode = code;
      end(code);
    },
  };
  Object.defineProperty(own, "exitCode", { ...accessors, enumerable: true, configurable: true });
  Reflect.apply(EventEmitter as unknown as () => void, own, []);
  return { own, streams: streamsOf(input, said) };
}

/** Of node:fs what asks for the descriptors 0 to 2, none of which is a terminal. */
function streamsOf(input: string | Uint8Array, said: Record<number, string>) {
  let left = Buffer.from(input);
  type Done = (error: null, count: number) => void;
  const readSome = (...[, into, , , , done]: [number, Uint8Array, number, number, null, Done]) => {
    const count = left.copy(into);
    left = left.subarray(count);
    setImmediate(done, null, count);
  };
  return {
    fstatSync: () => ({ isCharacterDevice: () => false }),
    // node:fs has its own promisified form of it.
    read: Object.assign(readSome, {
      [promisify.custom]: (...args: [number, Uint8Array, number, number, null]) =>
        new Promise((given) => readSome(...args, (_, bytesRead) => given({ bytesRead }))),
    }),
    writeSync(descriptor: number, bytes: Uint8Array): number {
      said[descriptor] += new TextDecoder().decode(bytes);
      return bytes.length;
    },
  };
}
