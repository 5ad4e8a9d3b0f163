// The service that puts back what nobody confirmed: started by a timer when it is due, and by a boot before the rules are loaded. Where
// there is no systemd, a process of its own waits.
//
// The unit is there only as long as something waits; its timers are transient ones, which end with the boot (systemd-run(1)). There are
// two: the second, for the time that counts once the change is made, is there before the first is over. A timer is there before the unit
// and goes after it: what a run that is killed leaves of them takes itself away when the timer is due.

import { dirname, join } from "node:path";
import { readOwn } from "../fragments/directory.ts";
import { managedHeader } from "../iptables/fragment-text.ts";
import { type Directories, isDefault, stateDirectoryOf } from "../model/directories.ts";
import { Failure } from "../model/errors.ts";
import { FAMILIES } from "../model/family.ts";
import type { HostConfig } from "../model/request.ts";
import { commandFailure, leave, run } from "../system/exec.ts";
import { clearTemporary, replaceFragment } from "../system/replace-file.ts";
import { disableUnit, enableUnit, type Places, reloadManager, stopUnit } from "./install.ts";
import { unitWord } from "./unit-text.ts";

/** Who waits: a timer of systemd's, or a process, where there is no systemd. */
export type Waiter = "timer" | "process";

type Host = Pick<HostConfig, "directories" | "timeout">;

/** Its name without a suffix: other directories than the default ones have a record of their own, so they have a service of their own. */
function nameOf(directories: Directories): string {
  const name = "docker_iptables-revert";
  return FAMILIES.every((family) => isDefault(family, directories[family]))
    ? name
    : `${name}-${escaped(directories.ipv4)}`;
}

/** A path in a unit's name (systemd-escape(1)). */
function escaped(path: string): string {
  const hex = (char: string) =>
    [...Buffer.from(char)].map((byte) => `\\x${byte.toString(16).padStart(2, "0")}`).join("");
  return path
    .slice(1)
    .replaceAll(/[^\w:./]/gu, hex)
    .replaceAll("/", "-");
}

/** The text of the unit; `words` are those of `revert`, `loaders` the services that load the fragments at boot. */
export function revertUnitText(
  executable: string,
  words: readonly string[],
  loaders: readonly string[],
  directories: Directories,
): string {
  const unit = `${nameOf(directories)}.service`;
  const places = FAMILIES.flatMap((family) => [directories[family], stateDirectoryOf(family, directories[family])]);
  const needed = [...new Set([...places, executable])].map(unitWord).join(" ");
  return `${managedHeader(`(${unit})`)}
# Puts back a change that nobody confirmed in time; at a boot, before anything loads the rules. It is removed with the confirmation.
[Unit]
Description=Puts back unconfirmed firewall rules
DefaultDependencies=no
RequiresMountsFor=${needed}
After=local-fs.target
Before=${[...new Set([...loaders, "network-pre.target", "docker.service", "nftables.service", "shutdown.target"])].join(" ")}
Conflicts=shutdown.target

[Service]
Type=oneshot
ExecStart=${[executable, "revert", "--due", ...words].map(unitWord).join(" ")}
Restart=on-failure
RestartSec=5

[Install]
WantedBy=multi-user.target
`;
}

/**
 * Has it put back after so many seconds, and at a boot before that. Throws Failure `executable_unusable`, `command_failed` and those of
 * `run`.
 */
export async function startWaiting(
  seconds: number,
  words: readonly string[],
  loaders: readonly string[],
  places: Places,
  { directories, timeout }: Host,
): Promise<Waiter> {
  const path = await unitPath(places, directories);
  if (path === undefined) {
    await refuseUnable("docker_iptables", words, timeout);
    await leave("docker_iptables", ["revert", "--due", ...words]);
    return "process";
  }
  const executable = await places.executable();
  await refuseUnable(executable, words, timeout);
  const name = nameOf(directories);
  await stopTimers(name, timeout);
  await startTimer(timersOf(name).late, seconds, name, timeout);
  const text = revertUnitText(executable, words, loaders, directories);
  const before = await readOwn(path);
  if (before?.text !== text) {
    await clearTemporary(dirname(path));
    await replaceFragment(path, text, before);
    await reloadManager(timeout);
  }
  await enableUnit(`${name}.service`, timeout);
  return "timer";
}

/** The installed program may be an older one, which knows nothing of this. */
async function refuseUnable(executable: string, words: readonly string[], timeout: number): Promise<void> {
  const ran = await run(executable, ["revert", "--due", "--check", ...words], { timeoutSeconds: timeout });
  if (ran.exitCode === 0) return;
  const what = `${executable}, which would put the change back, cannot: install this version there`;
  throw commandFailure("executable_unusable", what, ran);
}

/** The same, sooner than it is to be so far. Throws likewise. */
export async function waitSooner(seconds: number, places: Places, { directories, timeout }: Host): Promise<Waiter> {
  if ((await unitPath(places, directories)) === undefined) return "process";
  const name = nameOf(directories);
  await startTimer(timersOf(name).sooner, seconds, name, timeout);
  return "timer";
}

function timersOf(name: string): { late: string; sooner: string } {
  return { late: `${name}-late`, sooner: `${name}-soon` };
}

async function startTimer(timer: string, seconds: number, name: string, timeout: number): Promise<void> {
  const when = ["--timer-property=AccuracySec=100ms", `--on-active=${seconds}s`, `--unit=${timer}`, "--collect"];
  const command = ["systemctl", "start", "--no-block", `${name}.service`];
  const ran = await run("systemd-run", [...when, "--", ...command], { timeoutSeconds: timeout });
  if (ran.exitCode !== 0) throw commandFailure("command_failed", "no timer can be started to put the change back", ran);
}

async function stopTimers(name: string, timeout: number): Promise<void> {
  for (const timer of Object.values(timersOf(name))) await stopUnit(`${timer}.timer`, timeout);
}

/** Nothing waits any more. A process that does sees so itself. Throws Failure of systemctl, `write_failed`, `permission_denied`. */
export async function stopWaiting(places: Places, { directories, timeout }: Host): Promise<void> {
  const path = await unitPath(places, directories);
  if (path === undefined) return;
  const name = nameOf(directories);
  if ((await readOwn(path)) !== undefined) {
    await disableUnit(`${name}.service`, timeout);
    await clearTemporary(dirname(path));
    await replaceFragment(path, undefined);
    await reloadManager(timeout);
  }
  await stopTimers(name, timeout);
}

/** As systemctl says it. */
const NO_SYSTEMD = /not been booted with systemd|Failed to connect to bus/;

/** Undefined without systemd. */
async function unitPath({ directory }: Places, directories: Directories): Promise<string | undefined> {
  try {
    return join(await directory(), `${nameOf(directories)}.service`);
  } catch (error) {
    if (error instanceof Failure && (error.code === "command_missing" || NO_SYSTEMD.test(error.message)))
      return undefined;
    throw error;
  }
}
