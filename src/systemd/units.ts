// The services that load the fragments: which they are, whether they load these directories, and how to have them do it.

import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { hrtime } from "node:process";
import { isManaged } from "../iptables/fragment-text.ts";
import { excerpt, Failure } from "../model/errors.ts";
import type { Family } from "../model/family.ts";
import { ownerOfFile } from "../model/owner.ts";
import { commandFailure, type Ran, run } from "../system/exec.ts";
import { runSystemctl } from "../system/systemctl.ts";
import type { WrongForm } from "./load-script.ts";
import { judgeService, pathsIn } from "./own-service.ts";

/** A service and the directories that it has to load. */
export interface RequiredService {
  unit: string;
  directories: string[];
  families: Family[];
}

/** A service that was looked at and found suitable, or one that is about to be installed. */
export interface Unit {
  name: string;
  families: Family[];
  /** `reload` where the unit can and runs; a restart counts against its start limit and stops what requires it. */
  verb: "reload" | "restart";
  /** Whether it is started though the rules are live. */
  start: boolean;
  /** Whether systemd says that it is not started at boot. */
  disabled: boolean;
  /** Whether docker_iptables loads in it; what another does is seen only afterwards. */
  ours: boolean;
  /** Of another's: whether fragments that are not containers' have changed or come since it last loaded. */
  behind: boolean;
}

/** Units of others under the names that are ours by default, by what their text holds. */
const FOREIGN_OWNERS: readonly [RegExp, string][] = [
  [/netfilter-persistent/, "iptables-persistent (it loads /etc/iptables/rules.v4 and rules.v6)"],
  [/iptables\.init|\/etc\/sysconfig\/ip6?tables/, "iptables-services (it loads /etc/sysconfig)"],
  [/firewalld/, "firewalld"],
  [/\bufw\b/, "ufw"],
];

/** Throws Failure as `judgeUnit`, `command_failed` and those of `run`. */
export async function findUnit(required: RequiredService, timeoutSeconds: number): Promise<Unit> {
  return judgeUnit(required, await showUnit(required.unit, timeoutSeconds));
}

/**
 * A unit that is suitable: its own text, or that of a script that it starts, names each directory, and it does not load them
 * in a way that is known to come out wrong. `properties` are what systemd shows of it. Throws Failure `unit_missing`,
 * `unit_not_suitable`.
 */
export async function judgeUnit(
  { unit, directories, families }: RequiredService,
  properties: ReadonlyMap<string, string>,
): Promise<Unit> {
  if (properties.get("LoadState") !== "loaded") {
    const state = properties.get("LoadState") ?? "unknown";
    const message = `the service ${unit}, which should load ${directories.join(" and ")}, is not usable (systemd says: ${state})`;
    throw new Failure("unit_missing", message, { unit, load_state: state });
  }
  const texts = await readTexts(properties);
  refuseForeignServices(unit, directories, properties, texts);
  const ours = refuseWrongForm({ unit, directories, families }, properties, texts);
  const behind = !ours && (await changedSince(directories, properties));
  return {
    name: unit,
    families,
    verb: verbFor(properties),
    start: false,
    disabled: isDisabled(properties),
    ours,
    behind,
  };
}

/** The directories' own times say nothing: what is rolled back changes them, too, after the load. */
async function changedSince(directories: string[], properties: ReadonlyMap<string, string>): Promise<boolean> {
  const [seconds, nanoseconds] = hrtime();
  const sinceLoad = seconds * 1000 + nanoseconds / 1e6 - Number(properties.get("StateChangeTimestampMonotonic")) / 1000;
  if (!(sinceLoad >= 0)) return false;
  const loaded = Date.now() - sinceLoad;
  const changed = directories.map(async (directory) => {
    const names = (await readdir(directory)).filter((name) => !isOwn(name));
    const found = await Promise.all(names.map((name) => stat(join(directory, name))));
    return found.some(({ mtimeMs }) => mtimeMs > loaded);
  });
  return (await Promise.all(changed).catch((): boolean[] => [])).includes(true);
}

function isOwn(name: string): boolean {
  return ownerOfFile(name) !== undefined || name.startsWith(".");
}

/** A unit of ours that foreign drop-ins may have changed. Throws Failure `unit_not_suitable`. */
export async function judgeDropIns(required: RequiredService, properties: ReadonlyMap<string, string>): Promise<void> {
  if (properties.get("DropInPaths")) refuseWrongForm(required, properties, await readTexts(properties));
}

/** Returns whether docker_iptables loads in it. */
function refuseWrongForm(
  { unit, directories, families }: RequiredService,
  properties: ReadonlyMap<string, string>,
  texts: ReadonlyMap<string, string>,
): boolean {
  const named = families.map((family, index) => [family, directories[index] ?? ""] as const);
  const judgement = judgeService(properties, texts, named);
  if (judgement.kind === "wrong") throw wrongService(unit, judgement, properties, texts);
  return judgement.kind === "ours";
}

const WRONG: Record<WrongForm["form"], string> = {
  concatenated:
    "gives iptables-restore the fragments one after the other: each '*filter' and '*nat' line flushes that table again, so the rules of earlier fragments are lost",
  single: "loads each fragment separately: each load flushes its tables, so the rules of the other fragments are lost",
  added: "never removes a rule: each reload adds all rules again, and those of removed containers stay",
  flushed:
    "flushes the rules before it loads the fragments: each reload leaves the host without rules for a moment, and for good if the load fails",
  lines: "adds one rule at a time: during each reload the host has only some of the rules, or all of them twice",
  executed: "runs the fragments as programs; they are rules for iptables-restore",
};

/** What is wrong, and the commands that put it right. The service is not stopped: its ExecStop may open the host. */
function wrongService(
  unit: string,
  { form, statement }: WrongForm,
  properties: ReadonlyMap<string, string>,
  texts: ReadonlyMap<string, string>,
): Failure {
  const files = unitFilesOf(properties).filter((path) => {
    const text = texts.get(path) ?? "";
    return !isManaged(text) && /^\s*Exec\w+\s*=/m.test(text);
  });
  const commands = [
    ...files.map((path) => `mv ${path} ${path}.orig`),
    "systemctl daemon-reload",
    "docker_iptables setup",
  ];
  const message =
    `${unit} loads the fragments in a way that loses rules: '${excerpt(statement, 200)}' ${WRONG[form]}. Let docker_iptables create a ` +
    `service that loads them all in one step, without stopping this one first: ${commands.map((one) => `'${one}'`).join(", ")}`;
  return new Failure("unit_not_suitable", message, {
    unit,
    form,
    command: statement,
    unit_files: files,
    remedy: commands,
  });
}

/** Whether docker_iptables wrote the unit's file. */
export async function isOurFile(properties: ReadonlyMap<string, string>): Promise<boolean> {
  return isManaged(await readText(properties.get("FragmentPath") ?? ""));
}

/** Only "disabled" itself: a unit of another state (static, alias) may well be started by others. */
export function isDisabled(properties: ReadonlyMap<string, string>): boolean {
  return properties.get("UnitFileState") === "disabled";
}

/** A unit that runs and can is reloaded. */
export function verbFor(properties: ReadonlyMap<string, string>): Unit["verb"] {
  return properties.get("ActiveState") === "active" && properties.get("CanReload") === "yes" ? "reload" : "restart";
}

const SHOWN = [
  "Id",
  "LoadState",
  "ActiveState",
  "SubState",
  "CanReload",
  "UnitFileState",
  "NeedDaemonReload",
  "StateChangeTimestampMonotonic",
  "FragmentPath",
  "DropInPaths",
  "ExecStartPre",
  "ExecStart",
  "ExecStartPost",
  "ExecReload",
  "ExecStop",
  "ExecStopPost",
  "Environment",
];

/** A unit's properties, as systemctl(1) show prints them. Throws Failure `command_failed` and those of `run`. */
export async function showUnit(unit: string, timeoutSeconds: number): Promise<Map<string, string>> {
  const ran = await runSystemctl(["show", `--property=${SHOWN.join(",")}`, "--", unit], timeoutSeconds);
  if (ran.exitCode !== 0) throw commandFailure("command_failed", `the state of ${unit} cannot be read`, ran);
  const properties = new Map<string, string>();
  for (const line of ran.stdout.split("\n")) {
    const at = line.indexOf("=");
    if (at < 0) continue;
    const key = line.slice(0, at);
    properties.set(key, [properties.get(key), line.slice(at + 1)].filter((value) => value !== undefined).join("\n"));
  }
  return properties;
}

function refuseForeignServices(
  unit: string,
  directories: string[],
  properties: ReadonlyMap<string, string>,
  texts: ReadonlyMap<string, string>,
): void {
  const all = [...properties.values(), ...texts.values()].join("\n");
  const commands = commandsOf(properties);
  const unloaded = directories.filter((directory) => !names(all, directory) && !loadsByDefault(commands, directory));
  if (unloaded.length === 0) return;
  // A service that only starts before or after another is not that one's.
  const owned = all.replaceAll(/^\s*(After|Before|Conflicts)\s*=.*$/gm, "");
  const owner = FOREIGN_OWNERS.find(([pattern]) => pattern.test(owned))?.[1];
  const whose = owner === undefined ? "" : `; it belongs to ${owner}`;
  throw new Failure(
    "unit_not_suitable",
    `${unit} does not load ${unloaded.join(" and ")}${whose}: neither the unit nor a script that it starts names that directory. ` +
      "Name another service (iptables_service, ip6tables_service, nftables_service), or use reload: patch, which needs none and leaves the rules of others alone",
    { unit, directories: unloaded, unit_file: properties.get("FragmentPath") ?? "" },
  );
}

/** The texts of the unit's files, of the scripts that its commands name, and of those that these name, by path. */
async function readTexts(properties: ReadonlyMap<string, string>): Promise<Map<string, string>> {
  const texts = new Map<string, string>();
  let paths = [...unitFilesOf(properties), ...pathsIn(commandsOf(properties))];
  for (let depth = 0; depth < 2; depth++) {
    const fresh = [...new Set(paths)].filter((path) => !texts.has(path)).slice(0, MOST_SCRIPTS);
    const read = await Promise.all(fresh.map(async (path) => [path, await readText(path)] as const));
    for (const [path, text] of read) texts.set(path, text);
    paths = read.flatMap(([path, text]) => (unitFilesOf(properties).includes(path) ? [] : pathsIn(text)));
  }
  return texts;
}

const MOST_SCRIPTS = 50;

function unitFilesOf(properties: ReadonlyMap<string, string>): string[] {
  return `${properties.get("FragmentPath") ?? ""} ${properties.get("DropInPaths") ?? ""}`.split(" ").filter(Boolean);
}

function commandsOf(properties: ReadonlyMap<string, string>): string {
  return [...properties].flatMap(([name, value]) => (name.startsWith("Exec") ? [value] : [])).join("\n");
}

/** `docker_iptables load` without another directory loads the default ones. */
function loadsByDefault(commands: string, directory: string): boolean {
  const isDefault = ["/etc/iptables.d", "/etc/ip6tables.d", "/etc/nftables.d"].includes(directory);
  return isDefault && /docker_iptables load\b(?!.*tables-dir)/.test(commands);
}

/** Whether a text names a path, and not only one that begins like it. */
function names(text: string, path: string): boolean {
  for (let at = text.indexOf(path); at >= 0; at = text.indexOf(path, at + 1)) {
    if (!/^[\w-]|^\.\w/.test(text.slice(at + path.length, at + path.length + 2))) return true;
  }
  return false;
}

/** The full name of a unit: a service unless it says otherwise. */
export function unitName(unit: string): string {
  return /\.[a-z]+$/.test(unit) ? unit : `${unit}.service`;
}

/** The text of a unit file or a script; "" for a program, a directory, or what is not there. */
async function readText(path: string): Promise<string> {
  try {
    const found = await stat(path);
    // Files of /proc have no size, and some have no end.
    const text = found.isFile() && found.size > 0 && found.size <= 256 * 1024 ? await readFile(path, "utf8") : "";
    return text.includes("\0") ? "" : text;
  } catch {
    return "";
  }
}

/**
 * Has a unit load the directories, and waits for the end of it. Returns warnings.
 *
 * `ignore-dependencies`: without it a container's unit that is ordered after, or requires, this service would wait for
 * itself in its ExecStopPost, or be restarted for ever (tried, systemd 252).
 *
 * Throws Failure `reload_failed` and those of `run`.
 */
export async function loadUnit({ name, verb }: Unit, timeoutSeconds: number): Promise<string[]> {
  const args = ["--job-mode=ignore-dependencies", verb, "--", name];
  const ran = await runSystemctl(args, timeoutSeconds);
  if (ran.exitCode === 0) return [];
  if (!(await startLimitHit(name, ran, timeoutSeconds))) throw await reloadFailed(name, ran, timeoutSeconds);
  await runSystemctl(["reset-failed", "--", name], timeoutSeconds);
  const again = await runSystemctl(args, timeoutSeconds);
  if (again.exitCode !== 0) throw await reloadFailed(name, again, timeoutSeconds);
  return [`${name} had hit systemd's start limit; it was reset. An ExecReload= in ${name} is not limited`];
}

async function startLimitHit(unit: string, ran: Ran, timeoutSeconds: number): Promise<boolean> {
  if (/attempted too often|start-limit|start request repeated too quickly/i.test(ran.stderr)) return true;
  const result = await runSystemctl(["show", "--property=Result", "--", unit], timeoutSeconds);
  return result.stdout.includes("Result=start-limit-hit");
}

/** Whether the host is shutting down: then a job on another unit would be refused as destructive. */
export async function isShuttingDown(timeoutSeconds: number): Promise<boolean> {
  const ran = await runSystemctl(["is-system-running"], timeoutSeconds);
  return ran.stdout.trim() === "stopping";
}

async function reloadFailed(unit: string, ran: Ran, timeoutSeconds: number): Promise<Failure> {
  const args = ["--unit", unit, "--lines=10", "--no-pager", "--output=cat"];
  const read = await run("journalctl", args, { timeoutSeconds }).catch(() => undefined);
  const journal = excerpt(read?.exitCode === 0 ? read.stdout : "", 2000);
  const what = `${unit} could not load the rules (see 'journalctl --unit ${unit}')`;
  return commandFailure("reload_failed", what, ran, journal === "" ? {} : { journal });
}
