/*
 * A lab's private world: namespaces of its own for mounts, processes, network, names and cgroups, under a supervisor that ends when
 * this process ends, however that happens. The kernel then removes all that was in it.
 */

import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { cgroupName, cgroupParents, sweepCgroups } from "./cgroups.ts";
import { type RunOptions, type RunResult, run } from "./run.ts";

type Supervisor = ReturnType<typeof supervise>;

export class World {
  /** Process 1 of the world, as the machine numbers it. */
  readonly pid: number;
  /** The lab's directories in the machine's cgroup hierarchies. */
  readonly cgroups: readonly string[];
  /** Where the hosts' root file system is, in the world. */
  readonly root: string;
  readonly #supervisor: Supervisor;

  private constructor(pid: number, cgroups: readonly string[], isSuites: boolean, supervisor: Supervisor) {
    this.root = isSuites ? "/run/lab/root" : "/";
    this.pid = pid;
    this.cgroups = cgroups;
    this.#supervisor = supervisor;
  }

  /**
   * Starts a world that has the tree of fetched packages (see packages.ts) at hand. Its hosts have `suite`, a root file system
   * (see suites.ts) and packages of its own, in place of the machine's.
   */
  static async start(packages: string, suite?: { root: string; packages: string }): Promise<World> {
    const parents = await cgroupParents();
    await sweepCgroups(parents);
    const name = await cgroupName();
    const cgroups = parents.map((parent) => join(parent, name));
    const supervisor = supervise([packages, suite?.packages ?? packages, suite?.root ?? "", ...cgroups]);
    supervisor.stdin.on("error", () => {});
    for await (const line of createInterface({ input: supervisor.stdout })) {
      return new World(Number(line), cgroups, suite !== undefined, supervisor);
    }
    throw new Error(`The lab's world did not start:\n${(await supervisor).stderr}`);
  }

  /** The words to put before a command to have it run in the world, in the network namespace `net` if given. */
  enter(net?: string): string[] {
    const own = ["nsenter", `--target=${this.pid}`, "--mount", "--uts", "--ipc", "--net", "--pid", "--"];
    return net === undefined ? own : [...own, "nsenter", `--net=/run/netns/${net}`, "--"];
  }

  run(command: string, args: readonly string[] = [], options: RunOptions & { net?: string } = {}): Promise<RunResult> {
    return run([...this.enter(options.net), command, ...args], options);
  }

  /** A file or directory of the world as this process can open it; `path` must not contain links. */
  path(path: string): string {
    return `/proc/${this.pid}/root${path}`;
  }

  /** Ends the world and waits until its cgroups are gone. */
  async stop(): Promise<void> {
    this.#supervisor.stdin.end();
    const { exitCode, stderr } = await this.#supervisor;
    if (exitCode !== 0) throw new Error(`The lab's world did not go away cleanly:\n${stderr}`);
  }
}

function supervise(args: readonly string[]) {
  const script = fileURLToPath(new URL("world.sh", import.meta.url));
  // In a session of its own, so that an interrupted test run does not take the cleaning up with it.
  return execa("sh", [script, ...args], {
    reject: false,
    stdio: ["pipe", "pipe", "pipe"],
    detached: true,
    cleanup: false,
  });
}
