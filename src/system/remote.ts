// Whether who calls came over the network.

import { readFile } from "node:fs/promises";
import { variable } from "./environment.ts";

/** sshd's processes of a session, OpenSSH's of today and dropbear's. */
const SSHD = /^(sshd|sshd-session|dropbear)$/;

/** By the environment, or, where sudo(8) has cleared that, by a process above this one: `parent`, or one above it (proc(5)). */
export async function isOverSsh(parent: number): Promise<boolean> {
  if (variable("SSH_CONNECTION") !== undefined) return true;
  for (let pid = parent; pid > 1; ) {
    const status = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
    if (SSHD.test(/^Name:\t(.*)$/m.exec(status)?.[1] ?? "")) return true;
    pid = Number(/^PPid:\t(\d+)$/m.exec(status)?.[1] ?? 0);
  }
  return false;
}
