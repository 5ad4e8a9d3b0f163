// The one place that starts processes: execa, an argument vector, no shell, a time limit, a limit of output.

import { isAbsolute, resolve } from "node:path";
import type { Readable } from "node:stream";
import type { ErrorCode } from "../generated/result.ts";
import { errno, excerpt, exhaustion, Failure } from "../model/errors.ts";
import { variable } from "./environment.ts";
import { quote, spellCommand, verbose, verboseSpan } from "./verbose.ts";

/** Where a system's programs are (systemd.exec(5)). */
export const SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/**
 * The directories in which programs are looked for, in the caller's order. systemd, ssh, cron and Ansible give short PATHs, and
 * iptables lives in sbin: a PATH with a directory of the system, or an empty one, gets all of them. Any other PATH is unchanged.
 * Relative and empty elements mean the current directory, and are dropped. Pure.
 */
export function searchPath(path: string | undefined): string {
  const given = (path ?? "").split(":").filter(isAbsolute);
  const system = SYSTEM_PATH.split(":");
  const isOwn = given.length > 0 && !given.some((directory) => system.includes(resolve(directory)));
  return [...new Set([...given, ...(isOwn ? [] : system)])].join(":");
}

/** What is so for every command. Messages of commands are read, so they must be in English. */
function inEveryCase() {
  return {
    env: { PATH: searchPath(variable("PATH")), LC_ALL: "C" },
    // The caller's may be another user's, or gone.
    cwd: "/",
    reject: false,
    // Collected here: execa would put all of it into a message, and wait for whoever holds the other end.
    buffer: false,
    forceKillAfterDelay: 500,
  } as const;
}

/** No command of ours prints nearly as much: 10,000 rules are about 1 MB. */
const OUTPUT_LIMIT = 64 * 1024 * 1024;

export interface Ran {
  /** The command line, for messages only. */
  command: string;
  /** 0 to 255; 128 + n when signal n ended it, as a shell says it. */
  exitCode: number;
  stdout: string;
  stderr: string;
}

/** Imported when the first process is started: a run that starts none need not wait for it, which is a fifth of a native start. */
const execaItself = () => import("./execa.ts").then(({ execa }) => execa);

/** Throws Failure `resources_exhausted`. */
async function start<Options extends StartOptions>(file: string, args: readonly string[], options: Options) {
  const execa = await execaItself();
  try {
    // In an object: what execa returns is a promise, too, and one that ends with the process.
    return { subprocess: execa(file, args, { ...inEveryCase(), ...options }) };
  } catch (error) {
    // Where there is no descriptor left for its pipes, Node.js's child has none, which execa does not foresee (tried, 9.6).
    throw exhaustion("EMFILE", `'${excerpt(file)}' could not be started`, error) ?? error;
  }
}

interface StartOptions {
  stdin?: "ignore" | 3;
  input?: string;
  detached?: boolean;
}

interface RunOptions {
  timeoutSeconds: number;
  input?: string;
  /** An open file that the command gets as its stdin, in place of `input`. */
  descriptor?: number;
}

/**
 * Runs a command to its end, whatever its exit status. The time limit also applies to processes that the command leaves with its
 * output open. It gets a session of its own, so that a Ctrl-C ends the wait and not a half-done restore.
 *
 * Throws Failure: `command_missing`, `permission_denied`, `command_failed` (no process could be started), `command_timeout`,
 * `output_too_large`.
 */
export async function run(file: string, args: readonly string[], options: RunOptions): Promise<Ran> {
  const { timeoutSeconds, input, descriptor } = options;
  const command = [file, ...args].join(" ");
  const ended = verboseSpan(() => startOf(file, args, input));
  const { subprocess } = await start(file, args, {
    detached: true,
    // Any descriptor will do; execa's types know only those from 0 to 9.
    ...(input === undefined ? { stdin: (descriptor as 3 | undefined) ?? "ignore" } : { input }),
  });
  let stopped: "timeout" | "output" | undefined;
  const stop = (why: "timeout" | "output") => {
    stopped ??= why;
    subprocess.kill();
    subprocess.stdout.destroy();
    subprocess.stderr.destroy();
  };
  const timer = setTimeout(() => stop("timeout"), timeoutSeconds * 1000);
  const [stdout, stderr, result] = await Promise.all([
    collect(subprocess.stdout, () => stop("output")),
    collect(subprocess.stderr, () => stop("output")),
    subprocess,
  ]);
  clearTimeout(timer);
  ended(() => `${file}: ${endOf(result, stopped, stdout.length, decode(stderr))}`);

  refuseUnstartable(file, command, result);
  if (stopped === "timeout") {
    const message = `'${command}' did not end within ${timeoutSeconds} s and was stopped`;
    throw new Failure("command_timeout", message, { command, timeout: timeoutSeconds });
  }
  if (stopped === "output") {
    throw new Failure("output_too_large", `'${command}' printed more than 64 MiB and was stopped`, { command });
  }
  // An input that the command did not read to its end (EPIPE) says nothing that its exit status does not say.
  return { command, exitCode: exitCodeOf(result), stdout: decode(stdout), stderr: decode(stderr) };
}

/** Whether a command is there; it is asked for its version. Throws Failure as `run`, but `command_missing`. */
export async function isInstalled(file: string, timeoutSeconds: number): Promise<boolean> {
  try {
    await run(file, ["--version"], { timeoutSeconds });
    return true;
  } catch (error) {
    if (error instanceof Failure && error.code === "command_missing") return false;
    throw error;
  }
}

/** characters; no line that we ask for is nearly as long. */
const LINE_LIMIT = 1024 * 1024;

/**
 * Runs a command until it ends by itself or `signal` aborts; each line of its output is passed on at once and not kept. A line of
 * more than a million characters is left out. Of its stderr the end is kept.
 *
 * Throws Failure: `command_missing`, `permission_denied`, `command_failed`.
 */
export async function follow(
  file: string,
  args: readonly string[],
  onLine: (line: string) => void,
  signal: AbortSignal,
): Promise<Ran> {
  const command = [file, ...args].join(" ");
  const ended = verboseSpan(() => startOf(file, args));
  const { subprocess } = await start(file, args, { stdin: "ignore" });
  const stop = () => subprocess.kill();
  signal.addEventListener("abort", stop, { once: true });
  if (signal.aborted) stop();
  let open = "";
  let size = 0;
  let tooLong = false;
  subprocess.stdout.setEncoding("utf8").on("data", (chunk: string) => {
    size += chunk.length;
    const lines = (open + chunk).split("\n");
    open = lines.pop() ?? "";
    for (const line of lines) {
      if (!tooLong) onLine(line);
      tooLong = false;
    }
    if (open.length <= LINE_LIMIT) return;
    tooLong = true;
    open = "";
  });
  const [stderr, result] = await Promise.all([collectEnd(subprocess.stderr), subprocess]);
  signal.removeEventListener("abort", stop);
  ended(() => `${file}: ${endOf(result, undefined, size, stderr)}`);
  refuseUnstartable(file, command, result);
  return { command, exitCode: exitCodeOf(result), stdout: "", stderr };
}

/**
 * Starts a command that goes on when this process has ended, and when its terminal is gone. Throws Failure: `command_missing`,
 * `permission_denied`, `command_failed`.
 */
export async function leave(file: string, args: readonly string[]): Promise<void> {
  verbose(() => `leave ${spellCommand([file, ...args])}`);
  const { env, cwd } = inEveryCase();
  const execa = await execaItself();
  const subprocess = execa(file, args, { env, cwd, reject: false, detached: true, cleanup: false, stdio: "ignore" });
  const failed = new Promise<Ended | undefined>((done) => {
    subprocess.once("spawn", () => done(undefined));
    subprocess.once("error", (error) => done({ code: errno(error) }));
  });
  const ended = await failed;
  subprocess.unref();
  if (ended !== undefined) refuseUnstartable(file, [file, ...args].join(" "), ended);
}

interface Ended {
  exitCode?: number | undefined;
  signal?: string | undefined;
  code?: string | undefined;
}

/** For --verbose. Of an input its size alone is shown. */
function startOf(file: string, args: readonly string[], input?: string): string {
  const size = input === undefined ? "" : `, ${Buffer.byteLength(input)} bytes of input`;
  return `run ${spellCommand([file, ...args])}${size}`;
}

function endOf(
  { exitCode, signal, code }: Ended,
  stopped: "timeout" | "output" | undefined,
  size: number,
  stderr: string,
): string {
  const said = `${size} bytes${stderr.trim() === "" ? "" : `, stderr ${quote(stderr)}`}`;
  if (stopped !== undefined) return `stopped: ${stopped === "timeout" ? "out of time" : "too much output"}, ${said}`;
  if (exitCode !== undefined) return `exit ${exitCode}, ${said}`;
  return signal === undefined ? `not started: ${code}` : `ended by ${signal}, ${said}`;
}

function refuseUnstartable(file: string, command: string, { exitCode, signal, code }: Ended): void {
  if (code === "ENOENT") {
    throw new Failure("command_missing", `${file} is not installed, or not on PATH`, { command });
  }
  if (code === "EACCES" || code === "EPERM") {
    throw new Failure("permission_denied", `${file} may not be executed by this user`, { command });
  }
  // No process, and so no answer. E2BIG: a command of megabytes.
  if (exitCode === undefined && signal === undefined) {
    const exhausted = exhaustion(code ?? "", `'${excerpt(command)}' could not be started`);
    if (exhausted !== undefined) throw exhausted;
    const message = `'${excerpt(command)}' could not be started (${code})`;
    throw new Failure("command_failed", message, { command: excerpt(command), errno: code });
  }
}

function exitCodeOf({ exitCode, signal }: Ended): number {
  return exitCode ?? 128 + (SIGNAL_NUMBERS[signal ?? ""] ?? 0);
}

/** A command that ended and failed: `what` went wrong, in the command's own words, with its exit status and output as facts. */
export function commandFailure(code: ErrorCode, what: string, ran: Ran, more: Record<string, unknown> = {}): Failure {
  const said = excerpt(ran.stderr) || excerpt(ran.stdout) || "it printed nothing";
  const { command, exitCode: exit_code } = ran;
  const facts = { command, exit_code, stdout: excerpt(ran.stdout), stderr: excerpt(ran.stderr, 2000), ...more };
  return new Failure(code, `${what}: '${command}' failed with exit status ${exit_code}: ${said}`, facts);
}

/** What a stream brings until it ends or is destroyed. */
async function collect(stream: Readable, onTooMuch: () => void): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  stream.on("data", (chunk: Buffer) => {
    size += chunk.length;
    if (size <= OUTPUT_LIMIT) chunks.push(chunk);
    else onTooMuch();
  });
  await new Promise((done) => {
    stream.on("close", done);
    stream.on("error", done);
  });
  return Buffer.concat(chunks);
}

/** characters */
const END_LIMIT = 4096;

/** The end of what a stream brings. */
async function collectEnd(stream: Readable): Promise<string> {
  let end = "";
  for await (const chunk of stream.setEncoding("utf8")) end = (end + chunk).slice(-END_LIMIT);
  return end;
}

const SIGNAL_NUMBERS: Record<string, number> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGABRT: 6,
  SIGKILL: 9,
  SIGSEGV: 11,
  SIGTERM: 15,
};

/** Text of a command: UTF-8, or UTF-16 with a byte order mark (documents that went through Windows). */
function decode(bytes: Uint8Array): string {
  const utf16 = bytes[0] === 0xff && bytes[1] === 0xfe;
  return new TextDecoder(utf16 ? "utf-16le" : "utf-8").decode(bytes);
}
