// What systemd takes from our services, where paths and clients are not the usual ones.

import { expect, test } from "vitest";
import { unitText, watchUnitText } from "../../src/kernel/unit-text.ts";

const EXECUTABLE = "/opt/tools/docker_iptables";
const linesOf = (text: string, key: string) => text.split("\n").filter((line) => line.startsWith(`${key}=`));

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

const watching = { words: [], directories: ["/etc/iptables.d", "/srv/v6"], isDockers: true };

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
