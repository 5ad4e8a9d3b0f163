// Tells systemd how a service is (sd_notify(3)), through systemd-notify(1): Node.js has no datagram sockets of that kind.
// The unit needs NotifyAccess=all.

import { run } from "../exec.ts";

/** seconds */
const PATIENCE = 5;

/** What the environment says of a service manager that wants to know: its socket, and how often. */
export interface Manager {
  /** NOTIFY_SOCKET; undefined where nobody listens. */
  socket: string | undefined;
  /** WATCHDOG_USEC; undefined without a watchdog. */
  watchdogMicroseconds: number | undefined;
}

/** Sends assignments such as READY=1. Never throws: a service that is not heard goes on. */
export async function notify({ socket }: Manager, ...assignments: string[]): Promise<void> {
  if (socket === undefined) return;
  await run("systemd-notify", assignments, { timeoutSeconds: PATIENCE }).catch(() => {});
}

/** Says that the service is alive, twice in the time that the manager waits, until the signal. */
export function keepAlive(manager: Manager, signal: AbortSignal): void {
  if (manager.watchdogMicroseconds === undefined) return;
  const timer = setInterval(() => void notify(manager, "WATCHDOG=1"), manager.watchdogMicroseconds / 2000);
  signal.addEventListener("abort", () => clearInterval(timer), { once: true });
}
