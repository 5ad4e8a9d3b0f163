// What systemd takes from our services, where paths and clients are not the usual ones.

import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { retryTimerOf, retryTimerText, unitText, watchUnitText } from "../../src/systemd/unit-text.ts";

const EXECUTABLE = "/opt/tools/docker_iptables";
const linesOf = (text: string, key: string) => text.split("\n").filter((line) => line.startsWith(`${key}=`));

const watching = {
  words: [],
  directories: [
    ["ipv4", "/etc/iptables.d"],
    ["ipv6", "/srv/v6"],
  ] as const,
  loaders: ["firewall.service"],
  isDockers: true,
};

test("a service of both families may write both directories, there or not", () => {
  const text = unitText("firewall.service", EXECUTABLE, [
    ["ipv4", "/srv/v4"],
    ["ipv6", "/srv/v6"],
  ]);
  expect(linesOf(text, "ReadWritePaths")).toEqual(["ReadWritePaths=/run -/srv/v4 -/srv/v6"]);
});

test.each([
  ["/srv/fire wall", '"-/srv/fire wall"'],
  ["/srv/100%", "-/srv/100%%"],
  ["/srv/$HOME", '"-/srv/$HOME"'],
  ['/srv/"a"\\b', '"-/srv/\\"a\\"\\\\b"'],
])("the directory %s is one path to systemd", (directory, word) => {
  const text = unitText("iptables.service", EXECUTABLE, [["ipv4", directory]]);
  expect(linesOf(text, "ReadWritePaths")).toEqual([`ReadWritePaths=/run ${word}`]);
});

test("the last line of defence has no sandbox that could fail it", () => {
  const text = unitText("iptables.service", EXECUTABLE, [["ipv4", "/etc/iptables.d"]]);
  expect(linesOf(text, "ExecStopPost").every((line) => line.startsWith("ExecStopPost=-+/bin/sh -c "))).toBe(true);
});

test.each([
  ["/etc/iptables.d", "/var/lib/docker_iptables/ipv4.rules"],
  ["/srv/v4", "/srv/v4/.docker_iptables/ipv4.rules"],
  ["/srv/fire wall", '"/srv/fire wall/.docker_iptables/ipv4.rules"'],
  ["/srv/$HOME's 100%", '"/srv/$$HOME\'s 100%%/.docker_iptables/ipv4.rules"'],
])("the last good rules of %s are one word to the shell that loads them", (directory, word) => {
  const [line, ...more] = linesOf(unitText("iptables.service", EXECUTABLE, [["ipv4", directory]]), "ExecStopPost");
  expect(line?.endsWith(` iptables-restore --wait 10 "$$1"' sh ${word}`), line).toBe(true);
  expect(more).toEqual([]);
});

const OTHERS = "-A INPUT -i lo -j ACCEPT";
const BASE = '-A FORWARD -m comment --comment "docker_iptables: (90_docker)" -j DROP';

test.each([
  ["a load that succeeded", "success", [OTHERS, BASE], [], "not loaded"],
  ["a kernel without rules", "exit-code", [OTHERS, BASE], [], "loaded"],
  ["another firewall's rule that is ours, too", "exit-code", [OTHERS, BASE], [OTHERS], "loaded"],
  ["ours", "exit-code", [OTHERS, BASE], [OTHERS, BASE], "not loaded"],
  ["no base, and rules", "exit-code", [OTHERS], [OTHERS], "not loaded"],
  ["no base, and no rules", "exit-code", [OTHERS], [], "loaded"],
])("the last good rules after %s", (_, result, kept, live, outcome) => {
  const directory = mkdtempSync(join(tmpdir(), "docker_iptables-unit-"));
  try {
    const [line = ""] = linesOf(unitText("iptables.service", EXECUTABLE, [["ipv4", "/srv/v4"]]), "ExecStopPost");
    const [, script = ""] = /-c '(.*)' sh /.exec(line) ?? [];
    const fake = (name: string, text: string) =>
      writeFileSync(join(directory, name), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
    writeFileSync(join(directory, "live"), live.join("\n"));
    writeFileSync(join(directory, "kept"), kept.join("\n"));
    fake("iptables-save", `cat ${directory}/live`);
    fake("iptables-restore", "echo loaded");
    const env = { PATH: `${directory}:/usr/bin:/bin`, SERVICE_RESULT: result };
    const ran = spawnSync("sh", ["-c", script.replaceAll("$$", "$"), "sh", join(directory, "kept")], { env });
    expect(ran.stdout.toString().trim() || "not loaded").toBe(outcome);
    expect(ran.stderr.toString()).toBe("");
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test.each([
  ["/etc/iptables.d", ["StateDirectory=docker_iptables"]],
  ["/srv/v4", []],
])("the services of %s may write the machine's state, or not: %j", (directory, lines) => {
  const directories = [["ipv4", directory]] as const;
  const loader = unitText("iptables.service", EXECUTABLE, directories);
  const watcher = watchUnitText("watch.service", EXECUTABLE, { ...watching, directories });
  for (const text of [loader, watcher]) expect(linesOf(text, "StateDirectory")).toEqual(lines);
});

test("what flushes rules at its start comes before ours, what adds to them behind", () => {
  const text = unitText("iptables.service", EXECUTABLE, [["ipv4", "/etc/iptables.d"]]);
  const wordsOf = (key: string) => linesOf(text, key).flatMap((line) => line.slice(key.length + 1).split(" "));
  expect(wordsOf("After")).toEqual(expect.arrayContaining(["nftables.service", "netfilter-persistent.service"]));
  expect(wordsOf("Before")).toEqual(expect.arrayContaining(["ufw.service", "firewalld.service", "docker.service"]));
});

test("only its start spares the rules of others: a reload replaces them on purpose", () => {
  const text = unitText("iptables.service", EXECUTABLE, [["ipv4", "/srv/v4"]], ["--config", "/srv/own.json"]);
  const load = `${EXECUTABLE} load ipv4 --config /srv/own.json`;
  expect(linesOf(text, "ExecStart")).toEqual([`ExecStart=${load} --keep-undeclared`]);
  expect(linesOf(text, "ExecReload")).toEqual([`ExecReload=${load}`]);
});

test.each([
  ["iptables.service", "iptables-retry.timer"],
  ["fw@lan.service", "fw@lan-retry.timer"],
])("the failure of %s starts %s, which starts it again until it is stopped", (unit, timer) => {
  expect(retryTimerOf(unit)).toBe(timer);
  expect(linesOf(unitText(unit, EXECUTABLE, [["ipv4", "/srv/v4"]]), "OnFailure")).toEqual([`OnFailure=${timer}`]);
  const text = retryTimerText(timer, unit);
  for (const key of ["Unit", "PartOf"]) expect(linesOf(text, key)).toEqual([`${key}=${unit}`]);
});

test("the watcher starts after the services that load the directories, whatever their names", () => {
  const text = watchUnitText("watch.service", EXECUTABLE, watching);
  expect(linesOf(text, "After")).toEqual(["After=docker.service firewall.service"]);
});

test("the watcher may write what its directories are in", () => {
  const text = watchUnitText("watch.service", EXECUTABLE, watching);
  expect(linesOf(text, "ReadWritePaths")).toEqual(["ReadWritePaths=/run -/etc -/srv"]);
  expect(linesOf(text, "CapabilityBoundingSet").join()).toContain("CAP_SYS_PTRACE");
});

test("a client that mounts, or that is not known, keeps its rights and the host's file system", () => {
  const text = watchUnitText("watch.service", EXECUTABLE, { ...watching, isDockers: false });
  expect(text).not.toMatch(/^(CapabilityBoundingSet|Protect|Private|ReadWrite|RestrictNamespaces|NoNewPrivileges)/m);
  expect(text).not.toMatch(/@mount|@privileged|@resources|@debug/);
});

test("the services see the boot id that everybody sees: LXC mounts its own over /proc", () => {
  const text = unitText("iptables.service", EXECUTABLE, [["ipv4", "/etc/iptables.d"]]);
  for (const all of [text, watchUnitText("watch.service", EXECUTABLE, watching)]) {
    expect(all).not.toMatch(/^(ProtectControlGroups|ProtectKernelTunables|ProtectProc|ProcSubset|MountAPIVFS)=/m);
  }
});

test("no process is killed for what it asks of the kernel", () => {
  for (const isDockers of [true, false]) {
    const text = watchUnitText("watch.service", EXECUTABLE, { ...watching, isDockers });
    expect(text).toMatch(/^SystemCallFilter=~/m);
    expect(linesOf(text, "SystemCallErrorNumber")).toEqual(["SystemCallErrorNumber=EPERM"]);
  }
});
