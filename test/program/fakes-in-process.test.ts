// A fake in the tests' process answers as its script does.

import type { EventEmitter } from "node:events";
import { once } from "node:events";
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
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
  host.install("broken");
  for (const family of ["ipv4", "ipv6"]) {
    host.setKernel("nat", NAT, family);
    host.setKernel("filter", FILTER, family);
  }
  writeFileSync(join(host.fake, "legacy/ipv4/nat"), NAT);
  for (const name of ["web", "db"]) host.container(name);
  host.container("ended", { status: "exited" });
  writeFileSync(join(host.fake, "active", "iptables.service"), "");
  for (const folder of [host.unitDir, join(host.fake, "known")]) {
    mkdirSync(folder, { recursive: true });
    writeFileSync(
      join(folder, "other.service"),
      "[Service]\nExecStart=/bin/one\nExecStop=/bin/two\nExecReload=/bin/three\n",
    );
  }
  writeFileSync(join(host.unitDir, "fresh.service"), "");
  host.write("12_one", "*nat\n:ONE - [0:0]\nCOMMIT\n*mangle\nCOMMIT\n# words\n");
  host.setFlows([flow("172.17.0.2"), flow("172.17.0.3"), flow("172.17.0.2", "10.0.0.9")]);
  return host;
}

function flow(replier: string, source = "198.51.100.1"): string {
  return `udp      17 29 src=${source} dst=10.0.0.1 sport=9 dport=53 src=${replier} dst=${source} sport=53 dport=9 use=1`;
}

/** All that is in a host's folder, but the programs and what a trial leaves. */
function everythingIn(host: FakeHost): Record<string, string> {
  const paths = readdirSync(host.root, { recursive: true, encoding: "utf8" });
  const files = paths.filter((path) => !/^(bin|fake\/trials)\//.test(path) && statSync(join(host.root, path)).isFile());
  const texts = files
    .sort()
    .map((path) => [path, readFileSync(join(host.root, path), "utf8").replaceAll(host.root, "ROOT")]);
  // A shell's line has a blank behind a command without arguments.
  return Object.fromEntries(
    texts.map(([path = "", text = ""]) => [path, path === "fake/calls" ? text.replaceAll(" \n", "\n") : text]),
  );
}

const SHOW = "systemctl show --property=LoadState";

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
  "docker ps --quiet --no-trunc",
  "docker ps --all --quiet --no-trunc",
  "docker ps --all --format {{.Names}}",
  "docker network ls --quiet --no-trunc",
  `docker inspect ${Buffer.from("web".padEnd(32, "\0")).toString("hex")} ${"0".repeat(64)}`,
  "iptables-restore --version",
  "ip6tables-legacy-restore --version",
  "systemctl show --property=UnitPath",
  "systemctl reset-failed -- iptables.service",
  "nft --json list chains",
  "systemctl is-system-running",
  "systemctl show-environment",
  "systemctl is-active iptables.service",
  "systemctl is-active other.service",
  `${SHOW} -- iptables.service`,
  `${SHOW} other.service`,
  `${SHOW} none.service`,
  "systemctl show --property=Result -- iptables.service",
  "systemctl daemon-reload",
  "systemctl enable -- other.service",
  "systemctl enable -- fresh.service",
  "systemctl disable -- other.service",
  "systemctl stop -- iptables.service",
  "systemctl restart -- docker_iptables-watch.service",
  "systemctl --job-mode=ignore-dependencies reload -- iptables.service",
  "systemctl restart ip6tables.service",
  "systemctl restart -- other.service",
  "systemctl restart none.service",
  "iptables --wait 1 --table nat --list-rules PREROUTING 1",
  "ip6tables --wait 1 --table nat --list-rules PREROUTING 2",
  "conntrack -L -p udp -f ipv4",
  "conntrack -L -p udp -f ipv6",
  "conntrack -D -p udp -f ipv4 --orig-dst 10.0.0.1 --orig-port-dst 53 --reply-src 172.17.0.2 --reply-port-src 53",
  "conntrack -D -p udp -f ipv4 --orig-src 10.0.0.9 --orig-dst 10.0.0.1 --orig-port-dst 53",
  "conntrack -D -p udp -f ipv4 --orig-dst 172.17.0.2",
  "broken in some way",
])("%s", async (command) => {
  const [name = "", ...args] = command.split(" ");
  const [scripts, own] = [whole(), whole()];
  const { exitCode, stdout, stderr } = await execa(join(scripts.bin, name), args, { ...scripts.options(), input: "" });
  const moved = stdout.replaceAll(scripts.root, own.root);
  expect(await answerOf(own, name, args)).toEqual({ exitCode, stdout: moved, stderr });
  expect(everythingIn(own)).toEqual(everythingIn(scripts));
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
const TRIAL = ["--net", "--", "sh", "-c", 'shift 0; "$1" && exec "$2"', "sh"];
const NOFLUSH = ["--wait", "10", "--noflush"];
const PATCH = patchOf(
  ...["-N TWO", "-A TWO -j RETURN", "-A PREROUTING -j TWO", "-I PREROUTING 3 -j THIRD", "-I PREROUTING 1 -j FIRST"],
  ...["-D PREROUTING -j ACCEPT", "-N ONE", "-A ONE -j TWO", "-F ONE", "-X ONE"],
);

function patchOf(...lines: string[]): string {
  return ["*nat", ...lines, "COMMIT", ""].join("\n");
}

test.each([
  ["a load", "iptables-restore", ["--wait", "10"], TABLES.replace("nosuch", "known")],
  ["a load of IPv6", "ip6tables-restore", ["--wait", "10"], TABLES.replace("nosuch", "known")],
  ["a load that the kernel refuses", "iptables-restore", ["--wait", "10"], TABLES],
  ["a test", "iptables-restore", ["--wait", "10", "--test"], TABLES],
  ["a test of what is there", "iptables-restore", ["--wait", "10", "--test"], TABLES.replace("nosuch", "known")],
  ["a trial", "unshare", [...TRIAL, "iptables-restore", "iptables-save", "inet", "10", ""], TABLES],
  [
    "a trial that is refused",
    "unshare",
    [...TRIAL, "ip6tables-restore", "ip6tables-save", "inet6", "10", ""],
    `${TABLES}*raw\nbroken\nCOMMIT\n`,
  ],
  ["a patch", "iptables-restore", NOFLUSH, PATCH],
  ["a patch of one that is broken", "ip6tables-restore", NOFLUSH, `${PATCH}*filter\n-A INPUT -j broken\nCOMMIT\n`],
  ["a patch that makes a chain twice", "iptables-restore", NOFLUSH, patchOf("-N ONE", "-N ONE")],
  ["a patch that removes a chain in use", "iptables-restore", NOFLUSH, patchOf("-N ONE", "-A ONE -j A", "-X ONE")],
  ["a patch that removes no chain", "iptables-restore", NOFLUSH, patchOf("-X ONE")],
  ["a patch that removes no rule", "iptables-restore", NOFLUSH, patchOf("-D PREROUTING -j ONE")],
  ["a patch that inserts behind the end", "iptables-restore", NOFLUSH, patchOf("-I PREROUTING 3 -j ONE")],
  ["a patch with what no patch has", "iptables-restore", NOFLUSH, patchOf(":PREROUTING DROP [0:0]")],
] as const)("%s", async (_what, name, args, input) => {
  const [scripts, own] = [whole(), whole()];
  for (const { fake } of [scripts, own]) writeFileSync(join(fake, "sought"), "-A PREROUTING -j ACCEPT");
  const all = { ...scripts.options(), input };
  const { exitCode, stdout, stderr } = await execa(join(scripts.bin, name), args, all);
  expect(await answerOf(own, name, [...args], input)).toEqual({ exitCode, stdout, stderr });
  expect(everythingIn(own)).toEqual(everythingIn(scripts));
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
