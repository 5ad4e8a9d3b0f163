/*
 * A remote machine on the lab's LAN: a network namespace with an address, no more. Its files and processes are
 * the world's.
 */

import { type ProbeOptions, type ProbeResult, Prober } from "./probe.ts";
import type { RunOptions, RunResult } from "./run.ts";
import type { World } from "./world.ts";

export class Client {
  readonly name: string;
  readonly address: string;
  readonly address6: string;
  readonly #world: World;
  readonly #prober: Prober;

  private constructor(name: string, address: string, address6: string, world: World) {
    this.name = name;
    this.address = address;
    this.address6 = address6;
    this.#world = world;
    this.#prober = new Prober(world, world.path(`/run/netns/${name}`));
  }

  static async start(name: string, address: string, address6: string, lanPort: string, world: World): Promise<Client> {
    const onLan = [
      `netns add ${name}`,
      `link add eth0 netns ${name} type veth peer name ${lanPort}`,
      `link set ${lanPort} master lan0 up`,
    ];
    const inside = [
      "link set lo up",
      "link set eth0 up",
      `address add ${address}/24 dev eth0`,
      `address add ${address6}/64 dev eth0 nodad`,
    ];
    await world.run("ip", ["netns", "add", name]);
    await world.run("ip", ["-batch", "-"], { input: `${onLan.slice(1).join("\n")}\n` });
    await world.run("ip", ["-n", name, "-batch", "-"], { input: `${inside.join("\n")}\n` });
    return new Client(name, address, address6, world);
  }

  /** Tries a connection from the client. */
  connect(address: string, port: number, options?: ProbeOptions): Promise<ProbeResult> {
    return this.#prober.connect(address, port, options);
  }

  /** Runs a command in the client's network. */
  run(command: string, args: readonly string[] = [], options: RunOptions = {}): Promise<RunResult> {
    return this.#world.run(command, args, { ...options, net: this.name });
  }

  /**
   * Sends packets for `subnet` to the on-link host `via`, as any on-link host can: a container network, or 127.0.0.1, which this
   * client then no longer has itself.
   */
  async route(subnet: string, via: string): Promise<void> {
    if (subnet.startsWith("127.")) {
      await this.run("ip", ["address", "flush", "dev", "lo"]);
      await this.run("sysctl", ["-q", "-w", "net.ipv4.conf.eth0.route_localnet=1"]);
    }
    const source = subnet.includes(":") ? this.address6 : this.address;
    await this.run("ip", ["route", "replace", subnet, "via", via, "dev", "eth0", "src", source]);
  }
}
