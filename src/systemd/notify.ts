// Reports a service's state to systemd (sd_notify(3)), through systemd-notify(1): Node.js has no datagram sockets of that kind. The
// unit needs NotifyAccess=all.

import { follow } from "../system/exec.ts";

/** seconds: what is said once must arrive, also at a boot that keeps the machine busy; of a pulse there is soon another. */
const PATIENCE = { once: 60, pulse: 5 };

/** What the environment says of a service manager that expects reports: its socket, and how often. */
export interface Manager {
  /** NOTIFY_SOCKET; undefined without a listener. */
  socket: string | undefined;
  /** WATCHDOG_USEC; undefined without a watchdog. */
  watchdogMicroseconds: number | undefined;
}

/**
 * Sends assignments such as READY=1, and waits for nothing but `stop`, which ends it. Never throws: a service whose report fails
 * continues.
 */
export function notify(manager: Manager, stop: AbortSignal, ...assignments: string[]): void {
  say(manager, stop, assignments, PATIENCE.once);
}

function say({ socket }: Manager, stop: AbortSignal, assignments: string[], seconds: number): void {
  if (socket === undefined) return;
  const end = AbortSignal.any([stop, AbortSignal.timeout(seconds * 1000)]);
  follow("systemd-notify", assignments, () => {}, end).catch(() => {});
}

/** Says that the service is alive whenever work has ended, so that work that hangs says nothing. */
export class Pulse {
  readonly #manager: Manager;
  readonly #stop: AbortSignal;
  readonly #limit: number;
  #last = Number.NEGATIVE_INFINITY;

  constructor(manager: Manager, stop: AbortSignal) {
    this.#manager = manager;
    this.#stop = stop;
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
    say(this.#manager, this.#stop, ["WATCHDOG=1"], PATIENCE.pulse);
  }
}
