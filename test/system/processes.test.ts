// The search for processes by their name, among real ones: in this network namespace, in another, and unknown.

import { spawn, spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, test } from "vitest";
import type { Proxies } from "../../src/docker/proxy.ts";
import { findProcesses, parseProcessStatus } from "../../src/system/processes.ts";
import { firstLine } from "../first-line.ts";

const PROXY = fileURLToPath(new URL("../../src/docker/proxy.ts", import.meta.url));
const PROCESSES = fileURLToPath(new URL("../../src/system/processes.ts", import.meta.url));
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

describe("what /proc/PID/status says", () => {
  const status = (uids: string, nested = "") =>
    `Name:\tdocker-proxy\nUmask:\t0022\nPid:\t4242\nPPid:\t812\nUid:\t${uids}\nGid:\t0\t0\t0\t0\nNSpid:\t4242${nested}\n`;

  test.each([
    ["0\t0\t0\t0", "", { isRoots: true, isNested: false }],
    ["1000\t0\t0\t0", "", { isRoots: false, isNested: false }],
    ["0\t1000\t0\t0", "", { isRoots: false, isNested: false }],
    ["0\t0\t1000\t0", "", { isRoots: false, isNested: false }],
    ["0\t0\t0\t1000", "", { isRoots: false, isNested: false }],
    ["100000\t100000\t100000\t100000", "", { isRoots: false, isNested: false }],
    ["0\t0\t0\t0", "\t7", { isRoots: true, isNested: true }],
  ])("uids %j, process ids %j", (uids, nested, expected) => {
    expect(parseProcessStatus(status(uids, nested))).toEqual({ parent: "812", ...expected });
  });

  test("of a kernel that does not tell process namespaces", () => {
    expect(parseProcessStatus(status("0\t0\t0\t0").replace(/NSpid.*\n/, ""))).toMatchObject({ isNested: false });
  });

  test("of a process that has ended, or is no process's", () => {
    for (const text of ["", "Name:\tdocker-proxy\n", "Uid:\t0\t0\t0\t0\n"])
      expect(parseProcessStatus(text)).toBeUndefined();
  });

  test("a name does not forge it", () => {
    const forged = status("1000\t1000\t1000\t1000").replace("docker-proxy", "x\\nUid:\\t0\\t0\\t0\\t0");
    expect(parseProcessStatus(forged)).toMatchObject({ isRoots: false });
  });
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

  test("docker-proxy is believed only as the daemon's child, as root's, and no container's", async () => {
    const flags = (address: string) =>
      `-proto tcp -host-ip 0.0.0.0 -host-port 8080 -container-ip ${address} -container-port 80`.split(" ");
    const daemon = await start("dockerd", {
      before: ["unshare", "--net", "--"],
      runs: "docker-proxy",
      // As Docker 28 starts it.
      flags: [...flags("172.17.0.2"), "-use-listen-fd"],
    });
    const beside = ["nsenter", `--net=/proc/${daemon.pid}/ns/net`, "--"];
    const asNobody = [...beside, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"];
    // Another network's, another user's, that of another user's daemon, a container's.
    await start("dockerd", { before: ["unshare", "--net", "--"], runs: "docker-proxy", flags: flags("172.17.0.3") });
    await start("docker-proxy", { before: beside, flags: flags("172.17.0.4") });
    await start("dockerd", { before: asNobody, runs: "docker-proxy", flags: flags("172.17.0.5") });
    await start("dockerd", {
      before: [...beside, "unshare", "--pid", "--fork", "--kill-child", "--"],
      runs: "docker-proxy",
      flags: flags("172.17.0.6"),
    });
    const { proxies, untrusted } = evaluate(beside, PROXY, "findProxies", "findProxies()") as Proxies;
    expect(proxies).toEqual([
      {
        protocol: "tcp",
        hostAddress: "0.0.0.0",
        hostPort: 8080,
        address: "172.17.0.2",
        port: 80,
        answersAsAsked: true,
      },
    ]);
    expect(untrusted).toHaveLength(3);
  });
});

interface Started {
  flags?: string[];
  /** What starts it. */
  before?: string[];
  /** The name of a child of its own, which then has the flags. */
  runs?: string;
}

/** A process called so: /bin/sh under that name, which waits for its stdin to end. */
async function start(name: string, { flags = [], before = [], runs }: Started = {}) {
  const root = mkdtempSync(join(tmpdir(), "docker_iptables-processes-"));
  ends.push(() => rmSync(root, { recursive: true, force: true }));
  chmodSync(root, 0o755);
  const [program, waiting] = [name, runs ?? name].map((one) => join(root, one)) as [string, string];
  for (const one of new Set([program, waiting])) symlinkSync("/bin/sh", one);
  const wait = [waiting, "-c", "echo; read line", waiting, ...flags];
  const [file = "", ...args] = [
    ...before,
    ...(runs === undefined ? wait : [program, "-c", '"$@"; true', program, ...wait]),
  ];
  const child = spawn(file, args, { stdio: ["pipe", "pipe", "inherit"] });
  ends.push(() => {
    child.stdin.destroy();
    child.kill("SIGKILL");
  });
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
  const { stdout, stderr } = spawnSync(program, args, { cwd: TOP, encoding: "utf8", timeout: 600_000 });
  expect(stdout, stderr).not.toBe("");
  return JSON.parse(stdout);
}

function whatLacks(): string {
  if (process.getuid?.() !== 0) return " (skipped: needs root)";
  return spawnSync("unshare", ["--net", "true"]).status === 0 ? "" : " (skipped: needs namespaces)";
}
