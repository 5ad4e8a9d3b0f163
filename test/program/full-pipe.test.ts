// stderr is a pipe that is full, and whose reader has stopped reading: the work is done all the same, and no lock is kept meanwhile.

import { execFileSync, spawn } from "node:child_process";
import { closeSync, constants, openSync, readSync, writeSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, expect, test } from "vitest";
import { errno } from "../../src/model/errors.ts";
import { until } from "../until.ts";
import { type FakeHost, fakeHost, startProcesses } from "./host.ts";

startProcesses();

const { O_RDONLY, O_WRONLY, O_NONBLOCK } = constants;
const opened: number[] = [];

function open(path: string, flags: number): number {
  const descriptor = openSync(path, flags);
  opened.push(descriptor);
  return descriptor;
}

afterEach(() => {
  for (const descriptor of opened.splice(0)) closeSync(descriptor);
});

/** A pipe with room for no byte more. */
function fullPipe(host: FakeHost): { reader: number; writer: number } {
  const path = join(host.root, "pipe");
  execFileSync("sh", ["-c", 'mkfifo "$0"', path]);
  const reader = open(path, O_RDONLY | O_NONBLOCK);
  const writer = open(path, O_WRONLY);
  const filler = open(path, O_WRONLY | O_NONBLOCK);
  for (const size of [4096, 1]) {
    while (!isRefused(() => writeSync(filler, Buffer.alloc(size)))) {}
  }
  return { reader, writer };
}

/** Whether nothing can be written, or read, at present. */
function isRefused(act: () => void): boolean {
  try {
    act();
    return false;
  } catch (error) {
    if (errno(error) === "EAGAIN") return true;
    throw error;
  }
}

const PORT = { ports: { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8080" }] } };

test.each<[string, string[], (host: FakeHost) => void, RegExp]>([
  ["--verbose", ["--verbose"], () => {}, /done: exit status 0\n$/],
  [
    "a warning",
    [],
    (host) => host.container("six", { ports: { "80/tcp": [{ HostIp: "::", HostPort: "8080" }] } }),
    /^warning: six publishes on \[::\]:8080\/tcp only/m,
  ],
])(
  "%s: the rules are made, the next run finds no lock, and the reader gets all of it",
  async (_what, more, make, last) => {
    const host = fakeHost();
    host.container("web", PORT);
    make(host);
    const directories = ["--iptables-dir", host.iptablesDir, "--ip6tables-dir", host.ip6tablesDir];
    const argv = ["sync", ...directories, "--reload", "restore", ...more];
    const { reader, writer } = fullPipe(host);
    const { env, cwd } = host.options();
    const run = spawn(host.executable, argv, { env, cwd, stdio: ["ignore", "ignore", writer] });
    let exitCode: number | null | undefined;
    run.once("exit", (code) => {
      exitCode = code;
    });

    const isPublished = () => host.fragment("web") !== undefined && host.kernel("nat").includes("172.17.0.2");
    await until("the rules", isPublished);
    // It waits for the locks of a run that still works.
    const next = await host.start(["create", "web", ...directories, "--reload", "restore", "--timeout", "60"]);
    expect([next.exitCode, next.stdout]).toEqual([0, "already published: web\n"]);

    const chunk = Buffer.alloc(65536);
    let said = "";
    const isEmpty = () =>
      isRefused(() => {
        said += chunk.toString("utf8", 0, readSync(reader, chunk));
      });
    while (!isEmpty() || exitCode === undefined) await sleep(5);
    expect(exitCode).toBe(0);
    expect(said.replaceAll("\0", "")).toMatch(last);
  },
);
