// tarGz, read back by the system's own tar.

import { gunzipSync } from "node:zlib";
import { execa } from "execa";
import { expect, test } from "vitest";
import { type TarFile, tarGz } from "../../src/ansible/tar.ts";

const files: TarFile[] = [
  { path: "a", content: undefined },
  { path: "a/empty", content: Buffer.from("") },
  { path: "a/one-block", content: Buffer.alloc(512, "x") },
  { path: `a/${"n".repeat(98)}`, content: Buffer.from("é\n"), executable: true },
];

test("tar lists it: kinds, modes, sizes, owner, no time", async () => {
  const env = { TZ: "UTC", LC_ALL: "C" };
  const { stdout, stderr } = await execa("tar", ["--list", "--verbose", "--gzip"], { input: tarGz(files), env });
  expect(stderr).toBe("");
  expect(stdout.replaceAll(/ +/g, " ").split("\n")).toEqual([
    "drwxr-xr-x root/root 0 1970-01-01 00:00 a",
    "-rw-r--r-- root/root 0 1970-01-01 00:00 a/empty",
    "-rw-r--r-- root/root 512 1970-01-01 00:00 a/one-block",
    `-rwxr-xr-x root/root 3 1970-01-01 00:00 a/${"n".repeat(98)}`,
  ]);
});

test("whole blocks, and two empty ones at the end", () => {
  const tar = gunzipSync(tarGz(files));
  expect(tar.length).toBe(512 * (4 + 2 + 2));
  expect(tar.subarray(-1024).every((byte) => byte === 0)).toBe(true);
});

test("the same files give the same bytes, and other files others", () => {
  expect(tarGz(files).equals(tarGz(structuredClone(files).map((file) => ({ ...file }))))).toBe(true);
  expect(tarGz(files).equals(tarGz(files.slice(1)))).toBe(false);
});

test("a path that does not fit is refused", () => {
  expect(() => tarGz([{ path: "é".repeat(51), content: undefined }])).toThrow(/longer than the 100 bytes/);
});
