/*
 * Runs one command to its end, with an environment of its own rather than the test's.
 */

import { execa } from "execa";

export interface RunOptions {
  /** Standard input; empty by default. */
  input?: string | Uint8Array;
  env?: Record<string, string>;
  /** Throw when the command fails; true by default. */
  check?: boolean;
  timeoutMs?: number;
}

export interface RunResult {
  stdout: string;
  stderr: string;
  /** Undefined when a signal ended the command. */
  exitCode: number | undefined;
}

const environment = {
  PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
  HOME: "/root",
  LC_ALL: "C.UTF-8",
};

export async function run([command = "", ...args]: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const { input = "", env = {}, check = true, timeoutMs = 600_000 } = options;
  const result = await execa(command, args, {
    input,
    env: { ...environment, ...env },
    extendEnv: false,
    reject: false,
    timeout: timeoutMs,
    stripFinalNewline: false,
    cwd: "/",
  });
  const { stdout, stderr, exitCode } = result;
  if (check && result.failed) throw new Error(`${result.shortMessage}\n${stdout}${stderr}`);
  return { stdout, stderr, exitCode };
}
