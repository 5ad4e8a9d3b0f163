/*
 * A test run that is killed: whatever it was doing, the machine is unchanged afterwards.
 */

import { randomUUID } from "node:crypto";
import { rm } from "node:fs/promises";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { expect, onTestFinished, test } from "vitest";
import { startLab } from "./lab.ts";
import { machineState } from "./machine.ts";
import { draftDirectory } from "./packages.ts";

const moments: [when: string, line: string, delayMs: number][] = [
  ["as soon as its world stands", "lab", 0],
  ["while a host boots", "lab", 150],
  ["while a host with a container serves a client", "serving", 0],
];

test.each(moments)("a run killed %s leaves nothing behind", async (_, line, delayMs) => {
  const { run, surplus } = await startDoomed(line);
  await sleep(delayMs);
  expect(await surplus()).toContainEqual(expect.stringMatching(/^namespace net:/));

  run.kill("SIGKILL");
  await run;
  await expect.poll(surplus, { timeout: 600_000 }).toEqual([]);
});

test("cgroups of a run that was killed with its supervisor are swept by the next lab", async () => {
  const { run, surplus } = await startDoomed("serving");
  const supervisors = (await surplus()).filter((text) => /^process \d+ sh\n/.test(text));
  expect(supervisors).not.toEqual([]);
  run.kill("SIGKILL");
  for (const text of supervisors) process.kill(Number(text.split(" ")[1]), "SIGKILL");
  await run;

  const left = async () => (await surplus()).filter((text) => !text.startsWith("cgroup"));
  await expect.poll(left, { timeout: 600_000 }).toEqual([]);
  expect(await surplus()).not.toEqual([]);
  const lab = await startLab();
  await lab.stop();
  await expect.poll(surplus, { timeout: 600_000 }).toEqual([]);
});

/**
 * A run of doomed.ts that has got as far as printing `line`, and what there is now that there was not before it. The
 * run has a directory of its own for temporary files.
 */
async function startDoomed(line: string) {
  const marker = randomUUID();
  const temporary = await draftDirectory();
  onTestFinished(() => rm(temporary, { recursive: true }));
  const before = new Set(await machineState(marker, temporary));
  const script = fileURLToPath(new URL("doomed.ts", import.meta.url));
  const run = execa(process.execPath, ["--import", "tsx", script], {
    env: { LAB_MARKER: marker, TMPDIR: temporary },
    stdio: ["ignore", "pipe", "inherit"],
    reject: false,
    buffer: false,
  });
  for await (const text of createInterface({ input: run.stdout })) if (text === line) break;
  const surplus = async () => (await machineState(marker, temporary)).filter((entry) => !before.has(entry));
  return { run, surplus };
}
