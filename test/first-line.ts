import type { ChildProcess } from "node:child_process";

/** Waits until a process has printed something; rejects where it ends before. */
export async function firstLine(child: ChildProcess): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    child.stdout?.once("data", () => resolve());
    child.once("exit", (status) => reject(new Error(`it ended with ${status}`)));
  });
}
