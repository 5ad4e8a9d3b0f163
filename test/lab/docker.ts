/*
 * A host's Docker: the real docker command inside the host, with names for what stories do with it.
 */

import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { archiveInHost } from "./disk.ts";
import type { Host } from "./host.ts";
import { serverImage } from "./image.ts";
import { type ProbeOptions, type ProbeResult, Prober } from "./probe.ts";
import type { RunResult } from "./run.ts";

/** How a host's daemon is set up; all of it lands in /etc/docker/daemon.json. */
export interface DaemonOptions {
  /** Start it at boot; true by default. */
  atBoot?: boolean;
  /** Give docker0 an IPv6 subnet, 2001:db8:2::/64; false by default. */
  ipv6?: boolean;
  /** True by default. */
  userlandProxy?: boolean;
  /** False by default. */
  liveRestore?: boolean;
  /** Any more keys of daemon.json; they win. */
  settings?: Record<string, unknown>;
}

export interface ContainerOptions {
  /** As for --publish. */
  publish?: readonly string[];
  /** Ports or ranges ("8000-8010") that the server listens on; by default those of `publish`, else 80. */
  ports?: readonly (string | number)[];
  network?: string;
  /** More options for docker run. */
  options?: readonly string[];
}

/** The content of daemon.json. */
export function daemonSettings(options: DaemonOptions): string {
  const settings = {
    iptables: false,
    ip6tables: false,
    "userland-proxy": options.userlandProxy ?? true,
    "live-restore": options.liveRestore ?? false,
    ...(options.ipv6 ? { ipv6: true, "fixed-cidr-v6": "2001:db8:2::/64" } : {}),
    experimental: true,
    "exec-opts": ["native.cgroupdriver=cgroupfs"],
    ...options.settings,
  };
  return `${JSON.stringify(settings, undefined, 2)}\n`;
}

/** A limit for what hangs: a machine that has much to do takes seconds. */
const LISTENS_MS = 300_000;

export class Docker {
  readonly #host: Host;
  #hasImage = false;
  /** Container -> its directory in /proc, as it was last. */
  readonly #processes = new Map<string, string>();
  readonly #probers = new Map<string, Prober>();

  constructor(host: Host) {
    this.#host = host;
  }

  /** The docker command with these arguments. */
  cli(...args: string[]): Promise<RunResult> {
    return this.#host.run("docker", args);
  }

  /** Starts a container named `name` from the lab's image, in the background, and waits until it listens. */
  async run(name: string, options: ContainerOptions = {}): Promise<void> {
    const { publish = [] } = options;
    const ports = options.ports ?? (publish.length > 0 ? [...new Set(publish.map(containerPort))] : [80]);
    await this.loadImage();
    await this.cli(...runWords(name, options), ...ports.map(String));
    await this.#listening(name, Number(String(ports.at(-1)).split("-").at(-1)));
  }

  /** Waits until a container's server has its last socket. */
  async #listening(name: string, port: number): Promise<void> {
    const socket = `:${port.toString(16).toUpperCase().padStart(4, "0")} `;
    const table = `${await this.#process(name)}/net/udp6`;
    for (const end = Date.now() + LISTENS_MS; !(await readFile(table, "utf8")).includes(socket); await sleep(10)) {
      if (Date.now() > end) throw new Error(`The server in ${name} does not listen on port ${port}`);
    }
  }

  /** The directory in /proc of a container's process 1. */
  async #process(name: string): Promise<string> {
    const known = this.#processes.get(name);
    // A container that was started again is another process.
    if (known !== undefined && existsSync(known)) return known;
    const { Pid } = (await this.inspect(name)).State;
    if (Pid === 0) throw new Error(`${name} is not running`);
    const directory = `/proc/${this.#host.pid}/root/proc/${Pid}`;
    this.#processes.set(name, directory);
    return directory;
  }

  /** Brings the lab's image into the daemon's store; lab.host() has done so where the daemon starts at boot. */
  async loadImage(): Promise<void> {
    if (this.#hasImage) return;
    const { exitCode } = await this.#host.run("docker", ["image", "inspect", serverImage], { check: false });
    const changes = ['ENTRYPOINT ["/server"]', 'CMD ["80", "5000"]'].flatMap((change) => ["--change", change]);
    if (exitCode !== 0) await this.cli("import", ...changes, archiveInHost, serverImage);
    this.#hasImage = true;
  }

  /** What docker inspect says of one container. */
  // biome-ignore lint/suspicious/noExplicitAny: the document differs from version to version
  async inspect(name: string): Promise<any> {
    const { stdout } = await this.cli("inspect", "--type", "container", name);
    return JSON.parse(stdout)[0];
  }

  /** A container's IPv4 address in a network; in its first one by default. */
  async address(name: string, network?: string): Promise<string> {
    return (await this.#endpoint(name, network)).IPAddress;
  }

  /** The same for IPv6. */
  async address6(name: string, network?: string): Promise<string> {
    return (await this.#endpoint(name, network)).GlobalIPv6Address;
  }

  async #endpoint(name: string, network?: string): Promise<{ IPAddress: string; GlobalIPv6Address: string }> {
    const networks = (await this.inspect(name)).NetworkSettings.Networks;
    const endpoint = networks[network ?? Object.keys(networks)[0] ?? ""];
    if (endpoint === undefined) throw new Error(`${name} is not in network ${network ?? "(any)"}`);
    return endpoint;
  }

  /** Tries a connection from inside a running container's network. */
  async connect(name: string, address: string, port: number, options?: ProbeOptions): Promise<ProbeResult> {
    return (await this.prober(name)).connect(address, port, options);
  }

  /** The prober inside a running container's network, for many probes: it does not ask Docker for each of them. */
  async prober(name: string): Promise<Prober> {
    const namespace = `${await this.#process(name)}/ns/net`;
    let prober = this.#probers.get(namespace);
    if (prober === undefined) {
      prober = new Prober(this.#host.world, namespace);
      this.#probers.set(namespace, prober);
    }
    return prober;
  }

  /** Forgets the probers inside containers: the host went down. */
  async forget(): Promise<void> {
    const probers = [...this.#probers.values()];
    this.#probers.clear();
    this.#processes.clear();
    await Promise.all(probers.map((prober) => prober.stop()));
  }
}

/** The words of docker or podman that start a container from the lab's image in the background. */
export function runWords(name: string, { publish = [], network, options = [] }: ContainerOptions): string[] {
  return [
    ...["run", "--detach", "--name", name, "--hostname", name],
    ...publish.flatMap((port) => ["--publish", port]),
    ...(network === undefined ? [] : ["--network", network]),
    ...options,
    serverImage,
  ];
}

function containerPort(publish: string): string {
  return (publish.split(":").at(-1) ?? publish).replace(/\/.*/, "");
}
