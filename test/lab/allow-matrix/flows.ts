/*
 * Flows that stand: a client says something on one connection, or from one UDP port, and the container's server answers, again and
 * again; or the server alone goes on talking ("hold:PORT" of server.c).
 */

import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import type { Client } from "../client.ts";
import type { World } from "../world.ts";

export interface Kind {
  protocol: "tcp" | "udp";
  address: string;
  port: number;
  sourcePort?: number;
}

/** What does not answer for so long is silent; a server that pushes talks ten times as often. */
const SILENCE_MS = 2000;

export class Flow {
  readonly #process: ReturnType<typeof startProcess>;
  #heard = 0;

  constructor(world: World, client: Client, kind: Kind) {
    this.#process = startProcess(world, client, kind);
    this.#process.stdin.on("error", () => {});
    createInterface({ input: this.#process.stdout }).on("line", () => {
      this.#heard++;
    });
  }

  /** Says something; whether an answer comes within the time. */
  async isAnswered(words: "hello" | "push", timeoutMs: number): Promise<boolean> {
    const before = this.#heard;
    this.#process.stdin.write(`${words}\n`);
    return this.#hearsMore(before, timeoutMs);
  }

  /** Whether more comes without a word. */
  async goesOn(timeoutMs: number): Promise<boolean> {
    return this.#hearsMore(this.#heard, timeoutMs);
  }

  /** Whether it falls silent: what is on its way still comes, and the sender's window of it. */
  async fallsSilent(): Promise<boolean> {
    for (let tries = 10; tries > 0; tries--) if (!(await this.goesOn(SILENCE_MS))) return true;
    return false;
  }

  async #hearsMore(than: number, timeoutMs: number): Promise<boolean> {
    for (const end = Date.now() + timeoutMs; Date.now() < end; ) {
      if (this.#heard > than) return true;
      await sleep(20);
    }
    return this.#heard > than;
  }

  async close(): Promise<void> {
    this.#process.stdin.end();
    await this.#process;
  }
}

function startProcess(world: World, client: Client, { protocol, address, port, sourcePort = 0 }: Kind) {
  const script = fileURLToPath(new URL("flow.mjs", import.meta.url));
  const enter = [`--pid=/proc/${world.pid}/ns/pid`, `--net=${world.path(`/run/netns/${client.name}`)}`];
  const words = [protocol, address, String(port), String(sourcePort)];
  return execa("nsenter", [...enter, "--", process.execPath, script, ...words], {
    reject: false,
    buffer: false,
    stdio: ["pipe", "pipe", "inherit"],
  });
}
