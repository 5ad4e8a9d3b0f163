// The state that is kept of a host.

import { mkdtemp, readFile, rm, utimes } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { isKept, keepLastingState, keepState, removeState, timeOf } from "../../src/system/state.ts";

test("two families that are kept at once do not get each other's text", async () => {
  const directory = await mkdtemp(join(tmpdir(), "docker_iptables-state-"));
  try {
    for (let round = 0; round < 50; round++) {
      const keep = (family: "ipv4" | "ipv6") =>
        keepLastingState({ family, directory }, "rules", `${family} ${round}\n`.repeat(5000));
      await Promise.all([keep("ipv4"), keep("ipv6")]);
      for (const family of ["ipv4", "ipv6"]) {
        const text = await readFile(join(directory, `${family}.rules`), "utf8");
        expect(text === `${family} ${round}\n`.repeat(5000), `${family}, ${round}`).toBe(true);
      }
    }
  } finally {
    await rm(directory, { recursive: true });
  }
});

test("what runs leave to each other is no state of a host that is set up, and goes with it", async () => {
  const directory = await mkdtemp(join(tmpdir(), "docker_iptables-state-"));
  const state = { family: "ipv4", directory } as const;
  try {
    await keepState(state, "seen", "{}");
    expect(await isKept(state)).toBe(false);
    await keepState(state, "left", "");
    expect(await isKept(state)).toBe(true);
    await removeState(state);
    await expect(readFile(join(directory, "ipv4.seen"))).rejects.toThrow("ENOENT");
    expect(await isKept(state)).toBe(false);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});

test("a text that is kept already has the time of the last time that it was", async () => {
  const directory = await mkdtemp(join(tmpdir(), "docker_iptables-state-"));
  const state = { family: "ipv4", directory } as const;
  try {
    expect(await timeOf(state, "rules")).toBeUndefined();
    await keepLastingState(state, "rules", "*filter\nCOMMIT\n");
    await utimes(join(directory, "ipv4.rules"), 1000, 1000);
    expect((await timeOf(state, "rules"))?.getTime()).toBe(1_000_000);
    await keepLastingState(state, "rules", "*filter\nCOMMIT\n");
    expect((await timeOf(state, "rules"))?.getTime()).toBeGreaterThan(1_000_000);
  } finally {
    await rm(directory, { recursive: true });
  }
});
