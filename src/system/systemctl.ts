// systemctl(1): all requests to the service manager.

import { setTimeout as sleep } from "node:timers/promises";
import { type Ran, run } from "./exec.ts";
import { verbose } from "./verbose.ts";

/**
 * What systemctl prints if the manager did not finish the request: it re-executes itself (daemon-reexec, as at an upgrade of
 * systemd), and has no socket for a moment; or another job replaced ours (both tried, 252). The third is a timeout of the bus.
 */
const BUSY =
  /Transport endpoint is not connected|Connection reset by peer|Failed to connect to bus: No such file|Connection timed out|^Job for \S+ canceled/m;
/** milliseconds */
const PAUSE = 1000;

/**
 * Runs it to its end, and once more where the manager was busy with itself: each of our questions and orders may be repeated.
 * Throws Failure of `run`.
 */
export async function runSystemctl(args: readonly string[], timeoutSeconds: number): Promise<Ran> {
  const ran = await run("systemctl", args, { timeoutSeconds });
  if (ran.exitCode === 0 || !BUSY.test(ran.stderr)) return ran;
  verbose(() => `retry: in ${PAUSE} ms, because systemd was busy`);
  await sleep(PAUSE);
  return run("systemctl", args, { timeoutSeconds });
}
