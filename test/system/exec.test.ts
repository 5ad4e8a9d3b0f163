// Where the programs that are started are looked for.

import { expect, test } from "vitest";
import { SYSTEM_PATH, searchPath } from "../../src/system/exec.ts";

const sorted = (path: string) => path.split(":").sort();

test.each([
  ["systemd's", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"],
  ["ssh's, of a user", "/usr/local/bin:/usr/bin:/bin:/usr/games"],
  ["cron's", "/usr/bin:/bin"],
  ["sudo's", "/sbin:/bin:/usr/sbin:/usr/bin"],
  ["a user's", "/home/me/.local/bin:/usr/bin"],
  ["one with slashes too many", "/usr//bin/"],
])("%s PATH keeps its order, and gets what it lacks of the system's directories", (_whose, path) => {
  const found = searchPath(path);
  expect(found.startsWith(`${path}:`) || found === path).toBe(true);
  expect(sorted(found)).toEqual([...new Set([...path.split(":"), ...SYSTEM_PATH.split(":")])].sort());
});

test.each([undefined, "", ":", ".", "bin:./sbin:"])("%j names no directory: the system's", (path) => {
  expect(searchPath(path)).toBe(SYSTEM_PATH);
});

test("any other one is unchanged", () => {
  expect(searchPath("/run/current-system/sw/bin:/opt/bin")).toBe("/run/current-system/sw/bin:/opt/bin");
});

test("the current directory is never looked in", () => {
  expect(searchPath(".:/opt/bin::bin")).toBe("/opt/bin");
  expect(searchPath(":/usr/bin")).toBe(searchPath("/usr/bin"));
});
