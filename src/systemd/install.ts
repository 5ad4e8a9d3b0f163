// The services that load the fragments at boot: planned, installed, removed. Foreign units are never overwritten.

import { constants } from "node:fs";
import { access, open, realpath } from "node:fs/promises";
import { basename, isAbsolute, join } from "node:path";
import { type Own, readOwn } from "../fragments/directory.ts";
import type { FormerUnit } from "../generated/unconfirmed.ts";
import { isManaged } from "../iptables/fragment-text.ts";
import { Failure, orElse } from "../model/errors.ts";
import { readFlags } from "../model/flags.ts";
import { type HostSettings, settingsIn } from "../model/settings.ts";
import { commandFailure, run, SYSTEM_PATH } from "../system/exec.ts";
import { runSystemctl } from "../system/systemctl.ts";
import { retryTimerOf, retryTimerText, unitText, type Watching, watchUnitText } from "./unit-text.ts";
import { isDisabled, judgeDropIns, judgeUnit, type RequiredService, showUnit, type Unit, verbFor } from "./units.ts";

/** A unit of ours as it is and as it should be; one that loads no family at boot has none. */
export interface PlannedUnit extends Unit {
  path: string;
  before: Own | undefined;
  after: string | undefined;
  enabled: boolean;
  /** Whether systemd knows another text than the file's, or none. */
  unread: boolean;
  /** Whether it has failed, and is perhaps about to be started again. */
  failed: boolean;
}

/** Whether it is a service that loads fragments, and so is started by the load. */
export function isLoader({ families }: PlannedUnit): boolean {
  return families.length > 0;
}

/** Where our units are written, and what they run. Each is looked up once, if at all. */
export interface Places {
  directory: () => Promise<string>;
  /** The docker_iptables. */
  executable: () => Promise<string>;
  /** The services' PATH. */
  path: () => Promise<string>;
  /** The words that give the services the host's settings. */
  words: readonly string[];
}

export function findPlaces(timeoutSeconds: number, words: readonly string[]): Places {
  const path = once(() => servicePath(timeoutSeconds));
  return {
    directory: once(() => unitDirectory(timeoutSeconds)),
    executable: once(async () => findExecutable(await path(), timeoutSeconds)),
    path,
    words,
  };
}

function once<T>(find: () => Promise<T>): () => Promise<T> {
  let found: Promise<T> | undefined;
  return () => {
    found ??= find();
    return found;
  };
}

/**
 * What is to be done so that each wished service loads its directories, now and at boot, and is started again where it fails. A
 * foreign service that does is unchanged.
 *
 * Throws Failure `unit_not_suitable` (another's unit, or a masked service), `executable_unusable`, `fragment_not_a_file` and
 * those of `run`.
 */
export async function planUnits(
  requiredServices: readonly RequiredService[],
  places: Places,
  timeoutSeconds: number,
  textOf: typeof unitText = unitText,
): Promise<PlannedUnit[]> {
  const directory = await places.directory();
  const looked = await Promise.all(
    requiredServices.map(async (required) => ({ required, properties: await showUnit(required.unit, timeoutSeconds) })),
  );
  const planned: PlannedUnit[] = [];
  for (const { required, properties } of looked) {
    refuseMasked(required.unit, properties);
    const path = join(directory, required.unit);
    const state = unitState(properties);
    const before = await ownUnit(path, properties);
    if (before === "another's") {
      // It may do the work nevertheless; else the message says whose it is, and what to do. It loads when there is something to
      // load.
      const { ours, behind } = await judgeUnit(required, properties);
      const asItIs = { before: undefined, after: undefined, start: false, ours, behind };
      planned.push({ ...state, name: required.unit, families: required.families, path, ...asItIs });
      continue;
    }
    await judgeDropIns(required, properties);
    const directories = required.families.map((family, index) => [family, required.directories[index] ?? ""] as const);
    const after = textOf(required.unit, await places.executable(), directories, places.words);
    planned.push({ ...state, name: required.unit, families: required.families, path, before, after });
    planned.push(...(await planRetry(required.unit, places, timeoutSeconds)));
  }
  return planned;
}

/**
 * The timer of a service of ours. Nothing enables it, and only a failure starts it; an administrator who masks it does not want
 * one. Throws as `planHelper`.
 */
async function planRetry(unit: string, places: Places, timeoutSeconds: number): Promise<PlannedUnit[]> {
  const timer = retryTimerOf(unit);
  const properties = await showUnit(timer, timeoutSeconds);
  if (isMasked(properties)) return [];
  const planned = await planHelper(timer, properties, places);
  return [{ ...planned, after: retryTimerText(timer, unit), enabled: true, start: false }];
}

/** The service that follows the daemon's events. */
export const WATCH_UNIT = "docker_iptables-watch.service";

/**
 * What is to be done so that it runs so, with this client; it loads no family at boot. Throws Failure `unit_not_suitable`,
 * `executable_unusable`, `fragment_not_a_file` and those of `run`.
 */
export async function planWatcher(
  client: string,
  watching: Omit<Watching, "isDockers" | "words">,
  places: Places,
  timeoutSeconds: number,
): Promise<PlannedUnit> {
  const properties = await showUnit(WATCH_UNIT, timeoutSeconds);
  refuseMasked(WATCH_UNIT, properties);
  const planned = await planHelper(WATCH_UNIT, properties, places);
  const isDockers = await isDockersOwn(client, await places.path());
  const after = watchUnitText(WATCH_UNIT, await places.executable(), {
    ...watching,
    isDockers,
    words: places.words,
  });
  return { ...planned, after };
}

/** A unit that only we may have, without its text yet. Throws Failure `unit_not_suitable` for a foreign one. */
async function planHelper(unit: string, properties: ReadonlyMap<string, string>, places: Places): Promise<PlannedUnit> {
  const path = join(await places.directory(), unit);
  const before = await ownUnit(path, properties);
  if (before !== "another's")
    return { ...unitState(properties), name: unit, families: [], path, before, after: undefined };
  const where = properties.get("FragmentPath") || path;
  const message = `${where} was not written by docker_iptables, and is not overwritten: look at it, and move it away`;
  throw new Failure("unit_not_suitable", message, { unit, unit_file: where });
}

/**
 * The options with which a host was set up that has no settings, as far as the flags of its watcher show, and the unit that has them;
 * of a foreign unit, without systemd, or without a watcher, none. A `restore` is omitted: the watcher was also given that instead of
 * `systemd`. A watcher that was switched off, as 0.1.0 could not remove one, stays off.
 */
export async function recordedSettings(timeoutSeconds: number): Promise<Pick<HostSettings, "values" | "takenFrom">> {
  const properties = await showUnit(WATCH_UNIT, timeoutSeconds).catch(orElse(undefined));
  const [, words] = /docker_iptables watch( .*?)? ;/.exec(properties?.get("ExecStart") ?? "") ?? [];
  const path = properties?.get("FragmentPath") ?? "";
  const text = path === "" ? undefined : (await readOwn(path).catch(orElse(undefined)))?.text;
  if (text === undefined || !isManaged(text)) return { values: {} };
  const { reload, ...given } = settingsIn(readFlags((words ?? "").trim().split(" ")));
  const isChosen = reload !== undefined && reload !== "restore";
  const runs = properties?.get("UnitFileState") === "enabled" || properties?.get("ActiveState") === "active";
  return {
    values: { ...(runs ? { watch: true } : {}), ...given, ...(isChosen ? { reload } : {}) },
    takenFrom: WATCH_UNIT,
  };
}

/** The services of ours under these names, as they are when they are to be removed. */
export async function planRemoval(units: readonly string[], timeoutSeconds: number): Promise<PlannedUnit[]> {
  if (units.length === 0) return [];
  const directory = await unitDirectory(timeoutSeconds);
  const planned: PlannedUnit[] = [];
  for (const unit of units) {
    const properties = await showUnit(unit, timeoutSeconds);
    if (isMasked(properties)) continue;
    const path = join(directory, unit);
    const before = await ownUnit(path, properties);
    if (before === "another's" || before === undefined) continue;
    planned.push({ ...unitState(properties), name: unit, families: [], path, before, after: undefined });
  }
  return planned;
}

function unitState(properties: ReadonlyMap<string, string>) {
  return {
    enabled: properties.get("UnitFileState") === "enabled",
    disabled: isDisabled(properties),
    unread: properties.get("NeedDaemonReload") === "yes" || properties.get("LoadState") === "not-found",
    start: properties.get("ActiveState") !== "active",
    failed: properties.get("ActiveState") === "failed",
    verb: verbFor(properties),
    ours: true,
    behind: false,
  };
}

/** As systemd has it now. Throws Failure of `run`. */
export async function formerUnit(name: string, timeoutSeconds: number): Promise<FormerUnit> {
  const properties = await showUnit(name, timeoutSeconds);
  const isActive = ["active", "activating", "reloading"].includes(properties.get("ActiveState") ?? "");
  return { name, isEnabled: properties.get("UnitFileState") === "enabled", isActive };
}

/** Whether systemd could start it: it is there, and is not masked. Throws Failure of `run`. */
export async function isLoadable(name: string, timeoutSeconds: number): Promise<boolean> {
  return (await showUnit(name, timeoutSeconds)).get("LoadState") === "loaded";
}

function isMasked(properties: ReadonlyMap<string, string>): boolean {
  return properties.get("LoadState") === "masked";
}

function refuseMasked(unit: string, properties: ReadonlyMap<string, string>): void {
  if (!isMasked(properties)) return;
  const message = `${unit} is masked; 'systemctl unmask ${unit}' if docker_iptables may use it, or name another service (iptables_service, ip6tables_service, nftables_service)`;
  throw new Failure("unit_not_suitable", message, { unit });
}

/** Our file under the unit's name, undefined where there is none; or the word that the unit is another's. */
async function ownUnit(path: string, properties: ReadonlyMap<string, string>): Promise<Own | undefined | "another's"> {
  const fragment = properties.get("FragmentPath") ?? "";
  if (fragment !== "" && fragment !== path) return "another's";
  const before = await readOwn(path);
  return before === undefined || isManaged(before.text) ? before : "another's";
}

/** Where an administrator's units are: the manager's own answer, /etc/systemd/system on every usual host. */
async function unitDirectory(timeoutSeconds: number): Promise<string> {
  const ran = await runSystemctl(["show", "--property=UnitPath"], timeoutSeconds);
  if (ran.exitCode !== 0) throw commandFailure("command_failed", "systemd does not list its units", ran);
  const paths = ran.stdout
    .trim()
    .replace(/^UnitPath=/, "")
    .split(" ");
  return paths.find((path) => /\/etc\/systemd\/system$/.test(path)) ?? "/etc/systemd/system";
}

async function servicePath(timeoutSeconds: number): Promise<string> {
  const environment = await runSystemctl(["show-environment"], timeoutSeconds);
  return /^PATH=(.+)$/m.exec(environment.stdout)?.[1] ?? SYSTEM_PATH;
}

/**
 * The docker_iptables that services can run: on their PATH, not on the caller's; it is run once with nothing else in its
 * environment, because its Node.js must be there, too. Never this very file: Ansible's is a temporary copy.
 */
async function findExecutable(path: string, timeoutSeconds: number): Promise<string> {
  for (const directory of path.split(":").filter(isAbsolute)) {
    const executable = join(directory, "docker_iptables");
    if (!(await isExecutable(executable))) continue;
    const ran = await run("env", ["-i", `PATH=${path}`, executable, "--version"], { timeoutSeconds });
    if (ran.exitCode === 0 && ran.stdout.startsWith("docker_iptables ")) return executable;
    const what = `${executable} does not run with the environment of a service (is node on ${path}?)`;
    throw commandFailure("executable_unusable", what, ran, { path: executable });
  }
  const message =
    `the services run docker_iptables, and it is in no directory of systemd's PATH (${path}): ` +
    "install it as /usr/local/bin/docker_iptables, or use reload: patch, which needs no service";
  throw new Failure("executable_unusable", message, { path });
}

/**
 * Whether services that are to start this client start Docker's own. It is not where the name is a script (podman-docker's, a
 * wrapper), or a link to another program (snap's).
 */
async function isDockersOwn(client: string, path: string): Promise<boolean> {
  if (client !== "docker") return false;
  for (const directory of path.split(":").filter(isAbsolute)) {
    const file = join(directory, client);
    if (await isExecutable(file)) return basename(await realpath(file)) === client && isProgram(file);
  }
  return false;
}

/** Whether a file is a program itself (elf(5)), and not a script. */
async function isProgram(path: string): Promise<boolean> {
  const handle = await open(path).catch(() => undefined);
  try {
    const read = await handle?.read(Buffer.alloc(4), 0, 4);
    return read?.buffer.toString("latin1") === "\x7fELF";
  } catch {
    return false;
  } finally {
    await handle?.close();
  }
}

async function isExecutable(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}

/** Has systemd read its unit files again. Throws Failure `command_failed`. */
export async function reloadManager(timeoutSeconds: number): Promise<void> {
  await systemctl(["daemon-reload"], "systemd cannot read its unit files again", timeoutSeconds);
}

/** Starts a service, or restarts it, and waits until it is ready. Throws Failure `command_failed`. */
export async function restartUnit(unit: string, timeoutSeconds: number): Promise<void> {
  await systemctl(
    ["restart", "--", unit],
    `${unit} cannot be started (see 'journalctl --unit ${unit}')`,
    timeoutSeconds,
  );
}

/** Starts a service anew, and does not wait until it is ready. Throws Failure `command_failed`. */
export async function restartSoon(unit: string, timeoutSeconds: number): Promise<void> {
  await systemctl(["restart", "--no-block", "--", unit], `${unit} cannot be restarted`, timeoutSeconds);
}

/** Starts a service, unless it runs, and does not wait until it is ready. Throws Failure `command_failed`. */
export async function startSoon(unit: string, timeoutSeconds: number): Promise<void> {
  await systemctl(["start", "--no-block", "--", unit], `${unit} cannot be started`, timeoutSeconds);
}

/** At each boot from now on. Throws Failure `command_failed`. */
export async function enableUnit(unit: string, timeoutSeconds: number): Promise<void> {
  await systemctl(["enable", "--", unit], `${unit} cannot be enabled`, timeoutSeconds);
}

/** No more at boot. Throws Failure `command_failed`. */
export async function disableUnit(unit: string, timeoutSeconds: number): Promise<void> {
  await systemctl(["disable", "--", unit], `${unit} cannot be disabled`, timeoutSeconds);
}

/** systemctl(1) of a unit that systemd does not know (LSB: program is not installed). */
const NOT_LOADED = 5;

/**
 * Forgets that a unit of ours was started, or failed; without an ExecStop the rules stay. Throws Failure `command_failed`, and of `run`.
 */
export async function stopUnit(unit: string, timeoutSeconds: number): Promise<void> {
  const ran = await runSystemctl(["stop", "--", unit], timeoutSeconds);
  if (ran.exitCode !== 0 && ran.exitCode !== NOT_LOADED)
    throw commandFailure("command_failed", `${unit} cannot be stopped`, ran);
  await runSystemctl(["reset-failed", "--", unit], timeoutSeconds);
}

async function systemctl(args: string[], what: string, timeoutSeconds: number): Promise<void> {
  const ran = await runSystemctl(args, timeoutSeconds);
  if (ran.exitCode !== 0) throw commandFailure("command_failed", what, ran);
}
