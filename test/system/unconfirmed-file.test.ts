// The record of a change that waits, and who writes it side by side.

import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { trustAgain } from "../../src/apply/load.ts";
import type { Unconfirmed } from "../../src/generated/unconfirmed.ts";
import { findUnconfirmed, keepUnconfirmed } from "../../src/system/unconfirmed-file.ts";

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

test("two families whose services find at once that they are trusted again are both trusted", async () => {
  const root = await mkdtemp(join(tmpdir(), "docker_iptables-record-"));
  try {
    const directories = { ipv4: join(root, "iptables.d"), ipv6: join(root, "ip6tables.d") };
    for (const directory of Object.values(directories)) await mkdir(directory);
    for (let round = 0; round < 20; round++) {
      await keepUnconfirmed(directories, DISTRUSTED);
      await Promise.all([trustAgain(["ipv4"], directories), trustAgain(["ipv6"], directories)]);
      expect(await findUnconfirmed(directories), `round ${round}`).toBeUndefined();
    }
    await keepUnconfirmed(directories, { ...DISTRUSTED, stage: "waiting" });
    expect(await trustAgain(["ipv4", "ipv6"], directories)).toBe(false);
    expect(await findUnconfirmed(directories)).toMatchObject({ stage: "waiting", armed: ["ipv4", "ipv6"] });
  } finally {
    await rm(root, { recursive: true });
  }
});
