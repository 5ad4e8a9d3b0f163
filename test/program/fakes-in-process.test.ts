// A fake in the tests' process answers as its script does.

import type { EventEmitter } from "node:events";
import { once } from "node:events";
import { chmodSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { execa } from "execa";
import { expect, test } from "vitest";
import { spawnFake } from "./fakes-in-process.ts";
import { type FakeHost, fakeHost } from "./host.ts";

const NAT = "*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -j ACCEPT\nCOMMIT\n";
const FILTER = "*filter\nCOMMIT\n";

function whole(): FakeHost {
  const host = fakeHost();
  for (const family of ["ipv4", "ipv6"]) {
    host.setKernel("nat", NAT, family);
    host.setKernel("filter", FILTER, family);
  }
  writeFileSync(join(host.fake, "legacy/ipv4/nat"), NAT);
  for (const name of ["web", "db"]) host.container(name);
  writeFileSync(join(host.fake, "active", "iptables.service"), "");
  return host;
}

test.each([
  "iptables-save",
  "ip6tables-save",
  "iptables-legacy-save",
  "ip6tables-legacy-save",
  "docker inspect web",
  "docker --host unix:///x inspect web none db neither",
  "docker inspect none",
  "docker network inspect none bridge",
  "docker version",
  "nft --json list chains",
  "systemctl is-system-running",
  "systemctl show-environment",
  "systemctl is-active iptables.service",
  "systemctl is-active other.service",
  "systemctl show --property=LoadState -- iptables.service",
  "systemctl show --property=LoadState other.service",
])("%s", async (command) => {
  const [name = "", ...args] = command.split(" ");
  const [scripts, own] = [whole(), whole()];
  const { exitCode, stdout, stderr } = await execa(join(scripts.bin, name), args, scripts.options());
  const moved = stdout.replaceAll(scripts.root, own.root);
  expect(await answerOf(own, name, args)).toEqual({ exitCode, stdout: moved, stderr });
  expect(own.calls()).toEqual(scripts.calls());
});

const TABLES = `# words
*nat
:PREROUTING ACCEPT [0:0]
[3:0] -A PREROUTING -j ACCEPT
[4:0] -I PREROUTING 2 -j RETURN
-I PREROUTING -j FIRST
COMMIT
*filter
:INPUT DROP [0:0]
[9:0] -A INPUT -m set --match-set nosuch src -j DROP
COMMIT
`;
const TRIAL = ["--net", "--", "sh", "-c", 'shift 0; "$1" --counters && exec "$2" --counters', "sh"];

test.each([
  ["a load", "iptables-restore", ["--wait", "10"], TABLES.replace("nosuch", "known")],
  ["a load of IPv6", "ip6tables-restore", ["--wait", "10"], TABLES.replace("nosuch", "known")],
  ["a load that the kernel refuses", "iptables-restore", ["--wait", "10"], TABLES],
  ["a trial", "unshare", [...TRIAL, "iptables-restore", "iptables-save", "inet", "10"], TABLES],
  [
    "a trial that is refused",
    "unshare",
    [...TRIAL, "ip6tables-restore", "ip6tables-save", "inet6", "10"],
    `${TABLES}*raw\nbroken\nCOMMIT\n`,
  ],
] as const)("%s", async (_what, name, args, input) => {
  const [scripts, own] = [whole(), whole()];
  const all = { ...scripts.options(), input };
  const { exitCode, stdout, stderr } = await execa(join(scripts.bin, name), args, all);
  expect(await answerOf(own, name, [...args], input)).toEqual({ exitCode, stdout, stderr });
  for (const table of ["raw", "nat", "filter"])
    for (const family of ["ipv4", "ipv6"]) expect(own.kernel(table, family)).toBe(scripts.kernel(table, family));
  expect(own.calls()).toEqual(scripts.calls());
});

async function answerOf(host: FakeHost, name: string, args: string[], input = "") {
  const child = spawnFake(name, args, { env: host.options().env, stdio: ["pipe", "pipe", "pipe"] }) as
    | Child
    | undefined;
  if (child === undefined) throw new Error("left to the script");
  child.stdin.end(input);
  const [[exitCode], stdout, stderr] = await Promise.all([once(child, "exit"), text(child.stdout), text(child.stderr)]);
  return { exitCode, stdout, stderr };
}

type Child = EventEmitter & {
  stdin: NodeJS.WritableStream;
  stdout: NodeJS.ReadableStream;
  stderr: NodeJS.ReadableStream;
};

test("what a test puts in the way of a fake, another's program, or none, is the system's to start", () => {
  const asked = (host: FakeHost) => spawnFake("iptables-save", [], { env: host.options().env });
  const host = fakeHost();
  host.on("iptables-save", "exit 3");
  expect(asked(host)).toBeUndefined();
  const others = fakeHost();
  writeFileSync(join(others.bin, "iptables-save"), "#!/bin/sh\nexit 4\n");
  expect(asked(others)).toBeUndefined();
  chmodSync(join(host.bin, "iptables-save"), 0o644);
  host.on("iptables-save", "");
  expect(asked(host)).toBeUndefined();
  rmSync(join(others.bin, "iptables-save"));
  expect(asked(others)).toBeUndefined();
});
