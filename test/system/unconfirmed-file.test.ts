// The record of a change that waits, and who writes it side by side.

import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { umask } from "node:process";
import { execa } from "execa";
import { afterEach, beforeEach, expect, test } from "vitest";
import { trustAgain } from "../../src/apply/load.ts";
import type { Unconfirmed } from "../../src/generated/unconfirmed.ts";
import type { Directories } from "../../src/model/directories.ts";
import { findUnconfirmed, keepUnconfirmed, recordPath } from "../../src/system/unconfirmed-file.ts";

const DISTRUSTED: Unconfirmed = {
  what: "load",
  boot: "31daa9bf-19b6-48d5-a769-ade3997d2bf1",
  namespace: "net:[4026531840]",
  due: 100,
  until: "2026-01-01T00:00:00.000Z",
  chain: "DOCKER_CONTAINERS",
  stage: "distrusted",
  isSetUp: true,
  bare: [],
  containers: [],
  armed: ["ipv4", "ipv6"],
  files: [],
  later: [],
  units: [],
  kernel: [],
  tables: [],
};

let root: string;
let directories: Directories;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "docker_iptables-record-"));
  directories = { ipv4: join(root, "iptables.d"), ipv6: join(root, "ip6tables.d") };
  for (const directory of Object.values(directories)) await mkdir(directory);
});
afterEach(() => rm(root, { recursive: true }));

test("two families whose services find at once that they are trusted again are both trusted", async () => {
  for (let round = 0; round < 20; round++) {
    await keepUnconfirmed(directories, DISTRUSTED);
    await Promise.all([trustAgain(["ipv4"], directories), trustAgain(["ipv6"], directories)]);
    expect(await findUnconfirmed(directories), `round ${round}`).toBeUndefined();
  }
});

test("a change that waits is not trusted by a load", async () => {
  await keepUnconfirmed(directories, { ...DISTRUSTED, stage: "waiting" });
  expect(await trustAgain(["ipv4", "ipv6"], directories)).toBe(false);
  expect(await findUnconfirmed(directories)).toMatchObject({ stage: "waiting", armed: ["ipv4", "ipv6"] });
});

test("no other user can hold the lock: the directory is root's alone, whatever the umask is", async () => {
  const before = umask(0);
  try {
    await keepUnconfirmed(directories, DISTRUSTED);
  } finally {
    umask(before);
  }
  expect((await stat(dirname(recordPath(directories)))).mode & 0o777).toBe(0o700);
});

test("another process that holds it is waited for", async () => {
  await keepUnconfirmed(directories, DISTRUSTED);
  const done = join(root, "done");
  const script = `echo held; sleep 0.5; : > ${done}`;
  const holder = execa("flock", ["--exclusive", dirname(recordPath(directories)), "sh", "-c", script]);
  await holder.iterable()[Symbol.asyncIterator]().next();
  expect(await trustAgain(["ipv4", "ipv6"], directories)).toBe(true);
  expect(existsSync(done)).toBe(true);
  await holder;
});
