/*
 * A throw-away host: a real systemd with its own root, processes and network, plugged into the lab's LAN.
 * Its disk (files, /var/lib/docker) survives a reboot and a power cut; all else starts anew.
 */

import { access } from "node:fs/promises";
import { dirname } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { bootEnvironment, type HostOptions, type HostPlace, makeDisk } from "./disk.ts";
import { Docker } from "./docker.ts";
import { type ProbeOptions, type ProbeResult, Prober } from "./probe.ts";
import { type RunOptions, type RunResult, run } from "./run.ts";
import type { World } from "./world.ts";

export type { HostOptions };

const bootTimeoutMs = 300_000;
const downTimeoutMs = 100_000;

export class Host {
  readonly name: string;
  /** On the LAN. */
  readonly address: string;
  readonly address6: string;
  readonly world: World;
  readonly docker: Docker;
  readonly #place: HostPlace;
  readonly #options: HostOptions;
  readonly #directory: string;
  #life: ReturnType<typeof startProcess> | undefined;
  #pid = 0;
  #prober: Prober | undefined;

  private constructor(options: HostOptions, place: HostPlace) {
    this.name = options.name;
    this.address = place.address;
    this.address6 = place.address6;
    this.world = place.world;
    this.docker = new Docker(this);
    this.#place = place;
    this.#options = options;
    this.#directory = `/run/lab/host/${options.name}`;
  }

  /** Makes a host's disk and boots it. */
  static async start(options: HostOptions, place: HostPlace): Promise<Host> {
    const host = new Host(options, place);
    await makeDisk(host.#directory, options, place);
    await host.boot();
    if (options.docker?.atBoot ?? true) await host.docker.loadImage();
    return host;
  }

  /** Process 1 of the host as the machine numbers it; 0 while the host is down. */
  get pid(): number {
    return this.#pid;
  }

  /** Boots the host and waits until systemd has started everything, whatever came of it. */
  async boot(): Promise<void> {
    if (this.#pid !== 0) throw new Error(`${this.name} is up already`);
    const life = startProcess(this.world, bootEnvironment(this.#directory, this.#options, this.#place));
    for await (const line of createInterface({ input: life.stdout })) {
      this.#pid = Number(line);
      break;
    }
    if (this.#pid === 0) throw new Error(`${this.name} did not boot:\n${(await life).stderr}`);
    this.#life = life;
    void life.then(() => this.#wentDown());
    await this.#settled();
    if (this.#options.docker?.atBoot ?? true) await this.#checkDocker();
  }

  /** Waits until systemd is done with what it has to start at boot. */
  async #settled(): Promise<void> {
    const end = Date.now() + bootTimeoutMs;
    const socket = `/proc/${this.#pid}/root/run/systemd/private`;
    while (!(await exists(socket))) {
      if (this.#pid === 0) throw new Error(`${this.name}'s systemd ended while it booted`);
      if (Date.now() > end) throw new Error(`${this.name}'s systemd does not answer`);
      await sleep(10);
    }
    const wait = { check: false, timeoutMs: bootTimeoutMs };
    const { stdout } = await this.systemctl(["is-system-running", "--wait"], wait);
    if (!/^(running|degraded)$/m.test(stdout)) {
      const jobs = await this.systemctl(["list-jobs"], { check: false });
      throw new Error(`${this.name} has not finished booting (${stdout.trim()}):\n${jobs.stdout}`);
    }
  }

  async #checkDocker(): Promise<void> {
    const { exitCode } = await this.systemctl(["is-active", "docker.service"], { check: false });
    if (exitCode !== 0) throw new Error(`${this.name}'s dockerd did not start:\n${await this.journal("docker")}`);
  }

  /** Orderly: every unit is stopped, then the host is down. */
  async shutdown(): Promise<void> {
    await this.systemctl(["poweroff"], { check: false });
    await this.#down();
  }

  /** Orderly: down and up again. */
  async reboot(): Promise<void> {
    await this.systemctl(["reboot"], { check: false });
    await this.#down();
    await this.boot();
  }

  /** At once: nothing in the host gets a chance to clean up. */
  async powerCut(): Promise<void> {
    if (this.#pid !== 0) process.kill(this.#pid, "SIGKILL");
    await this.#down();
  }

  /** Waits until the host is down. */
  async #down(): Promise<void> {
    const timer = new AbortController();
    const late = sleep(downTimeoutMs, "late", { signal: timer.signal }).catch(() => undefined);
    if ((await Promise.race([this.#life, late])) === "late") {
      const jobs = await this.systemctl(["list-jobs"], { check: false, timeoutMs: 5000 });
      throw new Error(`${this.name} does not go down:\n${jobs.stdout}`);
    }
    timer.abort();
    await this.#wentDown();
  }

  async #wentDown(): Promise<void> {
    this.#pid = 0;
    const prober = this.#prober;
    this.#prober = undefined;
    await Promise.all([prober?.stop(), this.docker.forget()]);
  }

  /** Runs a command inside the host, as root. */
  async run(command: string, args: readonly string[] = [], options: RunOptions = {}): Promise<RunResult> {
    if (this.#pid === 0) throw new Error(`${this.name} is down`);
    return run(["nsenter", `--target=${this.#pid}`, "--all", "--", command, ...args], options);
  }

  systemctl(args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    return this.run("systemctl", args, options);
  }

  /** Writes a file and the directories above it; mode 0644 by default. */
  async write(path: string, text: string, mode = 0o644): Promise<void> {
    await this.run("mkdir", ["-p", dirname(path)]);
    await this.run("dd", ["status=none", `of=${path}`], { input: text });
    await this.run("chmod", [mode.toString(8), path]);
  }

  async read(path: string): Promise<string> {
    return (await this.run("cat", [path])).stdout;
  }

  async exists(path: string): Promise<boolean> {
    return (await this.run("test", ["-e", path], { check: false })).exitCode === 0;
  }

  /** The names in a directory, sorted; hidden ones are left out. */
  async list(path: string): Promise<string[]> {
    const { stdout } = await this.run("find", [
      path,
      "-mindepth",
      "1",
      "-maxdepth",
      "1",
      "-not",
      "-name",
      ".*",
      "-printf",
      "%f\\n",
    ]);
    return stdout.split("\n").filter(Boolean).sort();
  }

  /** What one unit has logged since the host's boot. */
  async journal(unit: string): Promise<string> {
    // What was logged before is then there.
    await this.run("journalctl", ["--sync"], { check: false });
    return (await this.run("journalctl", ["--boot", "--no-pager", "--output=cat", `--unit=${unit}`])).stdout;
  }

  /** Tries a connection from the host itself. */
  async connect(address: string, port: number, options?: ProbeOptions): Promise<ProbeResult> {
    if (this.#pid === 0) throw new Error(`${this.name} is down`);
    this.#prober ??= new Prober(this.world, `/proc/${this.#pid}/ns/net`);
    return this.#prober.connect(address, port, options);
  }
}

function startProcess(world: World, environment: readonly string[]) {
  const script = fileURLToPath(new URL("host.sh", import.meta.url));
  return execa("env", [...environment, ...world.enter(), "sh", script, ...world.cgroups], {
    reject: false,
    stdio: ["ignore", "pipe", "pipe"],
    cleanup: false,
  });
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
