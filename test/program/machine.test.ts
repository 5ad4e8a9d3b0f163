// A fake host is separate from the machine that it runs on: no program of the machine's is started that run.ts does not name, and
// nothing of its kernel, daemons and users is seen.

import { readdirSync, rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { expect, test } from "vitest";
import { TOOLS } from "../run.ts";
import { fakeHost, NATIVE, readAnswer, startProcesses } from "./host.ts";

// What a process is started with, and starts, is what these are about.
startProcesses();

test("PATH is the folder of the fakes, and links to the tools", () => {
  const host = fakeHost();
  const [fakes, tools = "", ...others] = host.options().env["PATH"]?.split(":") ?? [];
  expect(others).toEqual([]);
  expect(fakes).toBe(host.bin);
  expect(basename(tools)).toBe("tools");
  expect(dirname(tools)).toBe(dirname(host.root));
  expect(TOOLS).toEqual(expect.arrayContaining(readdirSync(tools)));
  expect(readdirSync(host.bin).filter((name) => TOOLS.includes(name) && name !== "unshare")).toEqual([]);
});

test("an environment of its own, for the tests too", () => {
  const own = ["DIRS", "DOCKER_CONTEXT", "DOCKER_IPTABLES_CONFIG", "FAKE", "HOME", "NODE_OPTIONS", "PATH"];
  expect(Object.keys(fakeHost().options().env).sort()).toEqual(own);
  expect(
    Object.keys(process.env).filter((name) => /^(DOCKER_(?!IPTABLES$)|JOURNAL_|LANG|LC_|NOTIFY_)/.test(name)),
  ).toEqual([]);
  expect(process.env["HOME"]).toBe(process.env["TMPDIR"]);
});

test.each([
  ["create", { container: "web" }],
  ["delete", { container: "web", state: "absent" }],
  ["create, in process", { container: "web", reload: "restore" }],
  ["create, of its own rules", { container: "web", reload: "patch" }],
  ["sync", { all: true }],
  ["setup", { base: true }],
])("without any fake, %s finds no program", async (_verb, given) => {
  const host = fakeHost();
  for (const name of readdirSync(host.bin)) rmSync(join(host.bin, name));
  await host.refuses(given, "command_missing");
});

test("without any fake, load finds no program, and status not even the client", async () => {
  const host = fakeHost();
  for (const name of readdirSync(host.bin)) rmSync(join(host.bin, name));
  const directories = ["--json", "--iptables-dir", host.iptablesDir, "--ip6tables-dir", host.ip6tablesDir];
  const loaded = readAnswer(await host.run(["load", ...directories]));
  expect(loaded).toMatchObject({ failed: true, error: { code: "command_missing" } });
  const { stdout } = await host.run(["status", ...directories]);
  expect(stdout).toContain("is not installed, or not on PATH");
});

const isRoot = process.getuid?.() === 0;

test.skipIf(NATIVE || !isRoot)("a Docker daemon of the machine's own is not the host's", async () => {
  const host = fakeHost();
  await host.boot();
  // In a network namespace of its own, apart from all others; it has no environment, as another user's process would not have ours.
  const script = `exec unshare --net sh -c '
    cp /bin/sh "$DIRS/dockerd"
    mkfifo "$DIRS/hold"
    env -i "$DIRS/dockerd" -c "read line" dockerd --iptables=true < "$DIRS/hold" & daemon=$!
    exec 3> "$DIRS/hold"
    until grep -q dockerd /proc/$daemon/comm; do sleep 0.05; done
    "$EXE" status --json $FLAGS > "$DIRS/without"
    NODE_OPTIONS= "$EXE" status --json $FLAGS > "$DIRS/with"
    cat "$DIRS/without"; echo ===; cat "$DIRS/with"'`;
  const { stdout } = await host.shell(
    `export FLAGS="--iptables-dir ${host.iptablesDir} --ip6tables-dir ${host.ip6tablesDir}"\n${script}`,
  );
  const [without, seen] = stdout.split("===");
  expect(without).not.toContain("Docker daemon manages");
  expect(seen).toContain("Docker daemon manages");
});
