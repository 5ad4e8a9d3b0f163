/*
 * Who reaches what: one small prober process per network namespace (prober.mjs), started at the first probe.
 * It takes any number of probes at once. It knows the answer of the lab's own server (server.c) only.
 */

import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import type { World } from "./world.ts";

export interface ProbeOptions {
  /** "tcp" by default. */
  protocol?: "tcp" | "udp";
  /** 3000 by default: TCP, and who asks for a neighbour's address, ask a second time after 1000. */
  timeoutMs?: number;
  sourcePort?: number;
  sourceAddress?: string;
}

/** What came of a probe: `peer` is the address that the server saw, `server` its host name, `port` its own port. */
export type ProbeResult =
  | { reached: true; peer: string; server: string; port: number }
  | { reached: false; why: "timeout" | "refused" | "reset" | "unreachable" | "closed" | (string & {}) };

const ended: ProbeResult = { reached: false, why: "the prober has ended" };

/** A prober in one network namespace; `namespace` is a path such as /proc/PID/ns/net. */
export class Prober {
  readonly #process: ReturnType<typeof startProcess>;
  readonly #waiting = new Map<number, (result: ProbeResult) => void>();
  #next = 0;
  #ended = false;

  constructor(world: World, namespace: string) {
    this.#process = startProcess(world, namespace);
    this.#process.stdin.on("error", () => {});
    createInterface({ input: this.#process.stdout }).on("line", (line) => {
      const { id, ...result } = JSON.parse(line);
      this.#waiting.get(id)?.(result);
      this.#waiting.delete(id);
    });
    void this.#process.then(() => {
      this.#ended = true;
      for (const answer of this.#waiting.values()) answer(ended);
      this.#waiting.clear();
    });
  }

  connect(address: string, port: number, options: ProbeOptions = {}): Promise<ProbeResult> {
    if (this.#ended) return Promise.resolve(ended);
    const id = this.#next++;
    const probe = { id, address, port, protocol: "tcp", timeoutMs: 3000, ...options };
    return new Promise((answer) => {
      this.#waiting.set(id, answer);
      this.#process.stdin.write(`${JSON.stringify(probe)}\n`);
    });
  }

  async stop(): Promise<void> {
    this.#process.stdin.end();
    await this.#process;
  }
}

function startProcess(world: World, namespace: string) {
  const script = fileURLToPath(new URL("prober.mjs", import.meta.url));
  // Only the network and the process tree are the lab's; files are the machine's.
  const enter = [`--pid=/proc/${world.pid}/ns/pid`, `--net=${namespace}`];
  return execa("nsenter", [...enter, "--", process.execPath, script], {
    reject: false,
    buffer: false,
    stdio: ["pipe", "pipe", "inherit"],
  });
}
