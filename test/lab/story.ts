/*
 * vitest's `test` for stories: each one has a lab of its own, ended when the story ends, and a story that fails
 * shows what its hosts have logged and which rules they had.
 */

import { test } from "vitest";
import { type Lab, startLab } from "./lab.ts";

export const story = test.extend("lab", async ({ task }, { onCleanup }) => {
  const lab = await startLab();
  onCleanup(async () => {
    if ((task.result?.errors ?? []).length > 0) await tell(lab);
    await lab.stop();
  });
  return lab;
});

async function tell(lab: Lab): Promise<void> {
  for (const host of lab.hosts.filter(({ pid }) => pid !== 0)) {
    const log = await host.run("journalctl", ["--no-pager", "--lines=60", "--output=short-monotonic"], {
      check: false,
    });
    const rules = await host.run("iptables-save", [], { check: false });
    console.log(`--- ${host.name}\n${log.stdout}\n${rules.stdout}`);
  }
}
