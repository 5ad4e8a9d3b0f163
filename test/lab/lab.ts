/*
 * A lab: throw-away hosts and remote clients on one LAN (198.51.100.0/24 and 2001:db8:1::/64), in a private
 * world on this machine. Needs root. See README.md.
 */

import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { Client } from "./client.ts";
import { Host, type HostOptions } from "./host.ts";
import { serverArchive } from "./image.ts";
import { packageRoot } from "./packages.ts";
import { chosenSuite, suiteRoot } from "./suites.ts";
import { World } from "./world.ts";

export interface LabOptions {
  /** Debian packages that the hosts need besides Docker and iptables. */
  packages?: readonly string[];
}

/** Starts an empty lab. It ends with stop(), with `await using`, or with this process. */
export async function startLab(options: LabOptions = {}): Promise<Lab> {
  if (process.getuid?.() !== 0) {
    throw new Error("The lab boots hosts in namespaces of their own, which needs root: sudo npm run test:lab");
  }
  const suite = chosenSuite();
  const root = suite === undefined ? undefined : await suiteRoot(suite);
  const packages = await packageRoot(root === undefined ? options.packages : []);
  const hosts = root === undefined ? undefined : { root, packages: await packageRoot(options.packages, root) };
  const world = await World.start(packages, hosts);
  return new Lab(world, await serverArchive(world));
}

/** What the hosts get as docker_iptables: the built script, or the file that DOCKER_IPTABLES names. */
const BUILT = fileURLToPath(new URL("../../dist/docker_iptables", import.meta.url));

export class Lab {
  readonly world: World;
  readonly hosts: Host[] = [];
  readonly #serverArchive: string;
  #hosts = 0;
  #clients = 0;

  constructor(world: World, archive: string) {
    this.world = world;
    this.#serverArchive = archive;
  }

  /** Boots a host, the first one at 198.51.100.10, and waits until its daemon answers. */
  async host(options: HostOptions): Promise<Host> {
    const number = 10 + this.#hosts++;
    const product = resolve(process.env["DOCKER_IPTABLES"] ?? BUILT);
    const host = await Host.start(options, {
      world: this.world,
      ...place(number),
      serverArchive: this.#serverArchive,
      product: existsSync(product) ? product : undefined,
    });
    this.hosts.push(host);
    return host;
  }

  /** A remote client, the first one at 198.51.100.100. */
  async client(name: string): Promise<Client> {
    const { address, address6, lanPort } = place(100 + this.#clients++);
    return Client.start(name, address, address6, lanPort, this.world);
  }

  /** Ends all of it at once and waits until nothing is left. */
  async stop(): Promise<void> {
    await this.world.stop();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

function place(number: number): { address: string; address6: string; lanPort: string; mac: string } {
  return {
    address: `198.51.100.${number}`,
    address6: `2001:db8:1::${number}`,
    lanPort: `port${number}`,
    mac: `02:00:00:00:00:${number.toString(16).padStart(2, "0")}`,
  };
}
