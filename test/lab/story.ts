/*
 * vitest's `test` for stories: each one has a lab of its own, ended when the story ends, and a story that fails
 * shows what its hosts have logged, what runs there and which rules they had.
 */

import { test } from "vitest";
import { type Lab, type LabOptions, startLab } from "./lab.ts";

/** Stories whose hosts need more than Docker and iptables; left out where they lack something, which is then said. */
export function storyWith(options: LabOptions, lacking?: string) {
  return test.extend("lab", async ({ task, skip }, { onCleanup }) => {
    if (lacking !== undefined) skip(lacking);
    const lab = await startLab(options);
    onCleanup(async () => {
      if ((task.result?.errors ?? []).length > 0) await tell(lab);
      await lab.stop();
    });
    return lab;
  });
}

export const story = storyWith({});

async function tell(lab: Lab): Promise<void> {
  for (const host of lab.hosts.filter(({ pid }) => pid !== 0)) {
    const log = await host.run("journalctl", ["--no-pager", "--lines=60", "--output=short-monotonic"], {
      check: false,
    });
    const processes = await host.run("ps", ["-eo", "pid,ppid,stat,etimes,args"], { check: false });
    const rules = await host.run("iptables-save", [], { check: false });
    console.log(`--- ${host.name}\n${log.stdout}\n${processes.stdout}\n${rules.stdout}`);
  }
}
