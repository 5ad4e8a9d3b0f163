/*
 * What a lab could leave behind on the machine, as sorted lines of text to compare before and after. Only what
 * this machine shows of itself in /proc, the cgroup hierarchies and the directories for temporary things.
 */

import { readdir, readFile, readlink } from "node:fs/promises";
import { join } from "node:path";
import { cgroupParents, cgroupPrefix } from "./cgroups.ts";
import { cacheDirectory } from "./packages.ts";

const directories = ["/run", "/var/tmp", "/var/lib", "/etc", "/etc/systemd/system", cacheDirectory];
// The TypeScript loader's own.
const notOurs = /^tsx-/;

/**
 * Namespaces, mounts, network devices, forwarding, labs' cgroups, files, and the processes that have `marker` in their environment.
 * `temporary` replaces /tmp, because others use the real one.
 */
export async function machineState(marker: string, temporary: string): Promise<string[]> {
  const lines = new Set<string>();
  for (const pid of (await readdir("/proc")).filter((name) => /^\d+$/.test(name))) {
    // A process may end while it is looked at.
    for (const kind of ["cgroup", "ipc", "mnt", "net", "pid", "uts"]) {
      const id = await readlink(`/proc/${pid}/ns/${kind}`).catch(() => undefined);
      if (id !== undefined) lines.add(`namespace ${id}`);
    }
    const environment = await readFile(`/proc/${pid}/environ`, "utf8").catch(() => "");
    if (environment.includes(marker)) lines.add(`process ${pid} ${await readFile(`/proc/${pid}/comm`, "utf8")}`);
  }
  for (const mount of (await readFile("/proc/self/mountinfo", "utf8")).split("\n")) lines.add(`mount ${mount}`);
  for (const device of await readdir("/sys/class/net")) lines.add(`network device ${device}`);
  lines.add(`ip_forward ${await readFile("/proc/sys/net/ipv4/ip_forward", "utf8")}`);
  for (const parent of await cgroupParents()) {
    for (const name of await readdir(parent)) {
      if (name.startsWith(cgroupPrefix)) lines.add(`cgroup ${join(parent, name)}`);
    }
  }
  for (const directory of [...directories, temporary]) {
    const names = await readdir(directory).catch(() => []);
    for (const name of names) if (!notOurs.test(name)) lines.add(`file ${join(directory, name)}`);
  }
  return [...lines].sort();
}
