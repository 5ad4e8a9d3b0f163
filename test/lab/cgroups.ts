/*
 * Where a lab's cgroups are: one directory in every hierarchy that the machine has mounted, v1, hybrid or v2, named
 * docker_iptables-lab.PID.START after the process that owns the lab. world.sh makes and removes them.
 */

import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";

/** What the names of all labs' cgroups start with. */
export const cgroupPrefix = "docker_iptables-lab.";

/** In each mounted hierarchy, the directory below which labs make theirs: this process's own cgroup. */
export async function cgroupParents(): Promise<string[]> {
  const own = new Map<string, string>();
  for (const line of (await readFile("/proc/self/cgroup", "utf8")).trim().split("\n")) {
    const [, controllers = "", path = "/"] = line.split(/:([^:]*):/);
    own.set(controllers, path);
  }
  const parents: string[] = [];
  for (const line of (await readFile("/proc/self/mountinfo", "utf8")).trim().split("\n")) {
    const [before = "", after = ""] = line.split(" - ");
    const [, , , root = "/", mount = ""] = before.split(" ");
    const [type, , options = ""] = after.split(" ");
    if (type !== "cgroup" && type !== "cgroup2") continue;
    const found = [...own].find(([controllers]) =>
      type === "cgroup2" ? controllers === "" : controllers !== "" && hasAll(options, controllers),
    );
    if (found === undefined) continue;
    const [, path] = found;
    const below = root !== "/" && path.startsWith(root) ? path.slice(root.length) : path;
    parents.push(type === "cgroup2" ? await delegating(mount, below) : join(mount, below));
  }
  return [...new Set(parents)];
}

function hasAll(options: string, controllers: string): boolean {
  const set = new Set(options.split(","));
  return controllers.split(",").every((controller) => set.has(controller));
}

/** On v2, the nearest cgroup upwards that hands controllers down: a child of it can have them. */
async function delegating(mount: string, path: string): Promise<string> {
  const parts = path.split("/").filter(Boolean);
  for (; parts.length > 0; parts.pop()) {
    const directory = join(mount, ...parts);
    if ((await readFile(join(directory, "cgroup.subtree_control"), "utf8")).trim() !== "") return directory;
  }
  return mount;
}

/** A name for the cgroups of a lab that this process owns. */
export async function cgroupName(): Promise<string> {
  cgroupName.count += 1;
  return `${cgroupPrefix}${process.pid}.${await startTime(process.pid)}.${cgroupName.count}`;
}
cgroupName.count = 0;

/** Removes what labs left whose process, and whose world.sh, were killed. */
export async function sweepCgroups(parents: readonly string[]): Promise<void> {
  const stale: string[] = [];
  for (const parent of parents) {
    for (const name of await readdir(parent)) {
      if (!name.startsWith(cgroupPrefix)) continue;
      const [, pid, start] = name.split(".");
      if ((await startTime(Number(pid))) !== start) stale.push(join(parent, name));
    }
  }
  if (stale.length > 0) await execa("find", [...stale, "-depth", "-type", "d", "-delete"], { reject: false });
}

async function startTime(pid: number): Promise<string | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
}
