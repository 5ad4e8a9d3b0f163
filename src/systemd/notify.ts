// Reports a service's state to systemd (sd_notify(3)), through systemd-notify(1): Node.js has no datagram sockets of that kind. The
// unit needs NotifyAccess=all.

import { run } from "../system/exec.ts";

/** seconds: what is said once must arrive, also at a boot that keeps the machine busy; of a pulse there is soon another. */
const PATIENCE = { once: 60, pulse: 5 };

/** What the environment says of a service manager that expects reports: its socket, and how often. */
export interface Manager {
  /** NOTIFY_SOCKET; undefined without a listener. */
  socket: string | undefined;
  /** WATCHDOG_USEC; undefined without a watchdog. */
  watchdogMicroseconds: number | undefined;
}

/** Sends assignments such as READY=1. Never throws: a service whose report fails continues. */
export async function notify(manager: Manager, ...assignments: string[]): Promise<void> {
  await say(manager, assignments, PATIENCE.once);
}

async function say({ socket }: Manager, assignments: string[], timeoutSeconds: number): Promise<void> {
  if (socket === undefined) return;
  await run("systemd-notify", assignments, { timeoutSeconds }).catch(() => {});
}

/** Says that the service is alive whenever work has ended, so that work that hangs says nothing. */
export class Pulse {
  readonly #manager: Manager;
  readonly #limit: number;
  #last = Number.NEGATIVE_INFINITY;

  constructor(manager: Manager) {
    this.#manager = manager;
    this.#limit = (manager.watchdogMicroseconds ?? Number.POSITIVE_INFINITY) / 1000;
  }

  /** milliseconds: so long there may be nothing to do. */
  get pause(): number {
    return this.#limit / 3;
  }

  /** Some work has ended. */
  beat(): void {
    const now = performance.now();
    // What is shorter than the pauses needs no word of its own.
    if (now - this.#last < this.#limit / 4 || this.#limit === Number.POSITIVE_INFINITY) return;
    this.#last = now;
    void say(this.#manager, ["WATCHDOG=1"], PATIENCE.pulse);
  }
}
