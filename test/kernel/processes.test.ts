// The search for processes by their name, among real ones: in this network namespace, in another, and not to be told.

import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, test } from "vitest";
import { findProcesses } from "../../src/kernel/processes.ts";
import { firstLine } from "../first-line.ts";

const PROXY = fileURLToPath(new URL("../../src/docker/proxy.ts", import.meta.url));
const PROCESSES = fileURLToPath(new URL("../../src/kernel/processes.ts", import.meta.url));
const TOP = fileURLToPath(new URL("../..", import.meta.url));
/** As no other process of this machine is called, and none of the test before, which may still be ending. */
const newName = () => `twin${++names}-${process.pid}`;
let names = 0;

const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0).reverse()) end();
});

test("one is found by its whole name, and only while it runs", async () => {
  const name = newName();
  const { pid, child } = await start(name);
  expect(await findProcesses(name)).toEqual([{ pid, certain: true }]);
  expect(await findProcesses(name.slice(0, -1))).toEqual([]);
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGKILL");
  await ended;
  expect(await findProcesses(name)).toEqual([]);
});

describe.skipIf(whatLacks() !== "")(`with root${whatLacks()}`, () => {
  test("one in another network namespace is not there", async () => {
    const name = newName();
    await start(name, { before: ["unshare", "--net", "--"] });
    const { pid } = await start(name);
    expect(await findProcesses(name)).toEqual([{ pid, certain: true }]);
  });

  test("one of another user's may be in any namespace", async () => {
    const name = newName();
    const { pid } = await start(name, { before: ["unshare", "--net", "--"] });
    const call = `(process.seteuid(65534), findProcesses(${JSON.stringify(name)}))`;
    expect(evaluate([], PROCESSES, "findProcesses", call)).toEqual([{ pid, certain: false }]);
  });

  test("a docker-proxy of a daemon in a container is not one of ours", async () => {
    const flags = (address: string) =>
      `-proto tcp -host-ip 0.0.0.0 -host-port 8080 -container-ip ${address} -container-port 80`.split(" ");
    await start("docker-proxy", { flags: flags("172.17.0.7"), before: ["unshare", "--net", "--"] });
    const { pid } = await start("docker-proxy", { flags: flags("172.17.0.8"), before: ["unshare", "--net", "--"] });
    expect(evaluate(["nsenter", `--net=/proc/${pid}/ns/net`, "--"], PROXY, "findProxies", "findProxies()")).toEqual([
      { protocol: "tcp", hostAddress: "0.0.0.0", hostPort: 8080, address: "172.17.0.8", port: 80 },
    ]);
  });
});

interface Started {
  flags?: string[];
  /** What starts it. */
  before?: string[];
}

/** A process called so: /bin/sh under that name, which waits for its stdin to end. */
async function start(name: string, { flags = [], before = [] }: Started = {}) {
  const root = mkdtempSync(join(tmpdir(), "docker_iptables-processes-"));
  ends.push(() => rmSync(root, { recursive: true, force: true }));
  const program = join(root, name);
  symlinkSync("/bin/sh", program);
  const [file = "", ...args] = [...before, program, "-c", "echo; read line", program, ...flags];
  const child = spawn(file, args, { stdio: ["pipe", "pipe", "inherit"] });
  ends.push(() => child.kill("SIGKILL"));
  await firstLine(child);
  return { pid: String(child.pid), child };
}

/** What a call says in a process of its own, which `before` starts. */
function evaluate(before: string[], file: string, name: string, call: string): unknown {
  const code = `const { ${name} } = await import(${JSON.stringify(file)}); console.log(JSON.stringify(await ${call}));`;
  const [program = "", ...args] = [
    ...before,
    process.execPath,
    "--import",
    "tsx",
    "--input-type=module",
    "--eval",
    code,
  ];
  const { stdout, stderr } = spawnSync(program, args, { cwd: TOP, encoding: "utf8", timeout: 20_000 });
  expect(stdout, stderr).not.toBe("");
  return JSON.parse(stdout);
}

function whatLacks(): string {
  if (process.getuid?.() !== 0) return " (skipped: needs root)";
  return spawnSync("unshare", ["--net", "true"]).status === 0 ? "" : " (skipped: needs namespaces)";
}
