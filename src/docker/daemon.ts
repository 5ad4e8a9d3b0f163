// The Docker daemon of this host: whether it is configured to make no rules, and what to do if not.

import { constants } from "node:fs";
import { open, readFile } from "node:fs/promises";
import { isAbsolute } from "node:path";
import { orElse } from "../model/errors.ts";
import { FAMILY_WORDS, type Family } from "../model/family.ts";
import { findProcesses, readProcessStatus } from "../system/processes.ts";

/** The daemon's settings by flag or file; undefined where neither has one, and its default applies. */
export interface DaemonSettings {
  iptables: boolean | undefined;
  ip6tables: boolean | undefined;
  userlandProxy: boolean | undefined;
  /** The flags among them, as on the command line. The others are in the file: dockerd refuses a setting in both. */
  flags: readonly string[];
}

/** A daemon that runs. */
export interface Daemon extends DaemonSettings {
  /** As the daemon sees it; it may not exist. */
  configFile: string;
  /** The file was changed after the daemon had started, which reads these settings only then. */
  changedSince: boolean;
}

const SETTINGS = { iptables: "iptables", ip6tables: "ip6tables", userlandProxy: "userland-proxy" } as const;
const DEFAULT_CONFIG = "/etc/docker/daemon.json";
/** bytes */
const CONFIG_LIMIT = 1024 * 1024;

/**
 * The dockerd that runs as root in the caller's network namespace; of several, one that may touch iptables. undefined
 * if there is none (podman, a remote daemon), or none that this user may look at. Throws Failure `resources_exhausted`.
 *
 * A `docker daemon` of before 1.12 is not recognised.
 */
export async function findDaemon(): Promise<Daemon | undefined> {
  const called = (await findProcesses("dockerd")).filter(({ certain }) => certain);
  const found = (await Promise.all(called.map(({ pid }) => readProcess(pid)))).filter((one) => one !== undefined);
  // Docker runs itself again for some of its steps, under the same name for a moment.
  const own = found.filter(({ parent }) => !found.some(({ pid }) => pid === parent));
  const daemons = await Promise.all(own.map(readDaemon));
  return daemons.find(({ iptables }) => iptables !== false) ?? daemons[0];
}

interface RootsProcess {
  pid: string;
  parent: string;
}

/** Anybody can call a process dockerd, but not as root. */
async function readProcess(pid: string): Promise<RootsProcess | undefined> {
  const status = await readProcessStatus(pid);
  return status?.isRoots ? { pid, parent: status.parent } : undefined;
}

async function readDaemon({ pid }: RootsProcess): Promise<Daemon> {
  const cmdline = (await readFile(`/proc/${pid}/cmdline`, "utf8").catch(orElse(""))).split("\0").slice(0, -1);
  const configFile = configFileOf(cmdline);
  const config = await readConfig(pathFor(pid, configFile));
  const started = config && (await startOf(pid));
  return {
    ...readSettings(cmdline, config?.text),
    configFile,
    changedSince: config !== undefined && started !== undefined && config.changed > started + 1000,
  };
}

/** `--config-file FILE` or `--config-file=FILE`, the last one. */
export function configFileOf(cmdline: readonly string[]): string {
  let file = DEFAULT_CONFIG;
  for (const [index, word] of optionsOf(cmdline).entries()) {
    if (word === "--config-file") file = cmdline[index + 2] ?? file;
    else if (word.startsWith("--config-file=")) file = word.slice("--config-file=".length);
  }
  return file;
}

/**
 * The daemon may have another root (a container, a chroot) than we. Links on the way are followed if they are relative;
 * an absolute one leads into our own root (proc(5)), which is the same for a daemon that is no container.
 */
function pathFor(pid: string, file: string): string {
  return isAbsolute(file) ? `/proc/${pid}/root${file}` : `/proc/${pid}/cwd/${file}`;
}

/** A file's text and when it or its name was last changed, in ms since 1970; undefined if there is nothing to read. */
async function readConfig(path: string): Promise<{ text: string; changed: number } | undefined> {
  // A pipe under this name must not keep us waiting.
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch(orElse(undefined));
  try {
    const stat = await file?.stat();
    if (!file || !stat?.isFile() || stat.size > CONFIG_LIMIT) return undefined;
    return { text: await file.readFile("utf8"), changed: stat.ctimeMs };
  } catch (error) {
    return orElse(undefined)(error);
  } finally {
    await file?.close();
  }
}

/** When a process started, in ms since 1970: field 22 of its stat, in ticks of 1/100 s since boot (proc(5)). */
async function startOf(pid: string): Promise<number | undefined> {
  try {
    const [stat, uptime] = await Promise.all([readFile(`/proc/${pid}/stat`, "utf8"), readFile("/proc/uptime", "utf8")]);
    // The second field is the name in parentheses, which may hold anything.
    const ticks = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19]);
    const age = Number(uptime.split(" ")[0]) - ticks / 100;
    return Number.isFinite(age) ? Date.now() - age * 1000 : undefined;
  } catch (error) {
    return orElse(undefined)(error);
  }
}

/** What a command line and the text of a configuration file state. Text that is no JSON states nothing. */
export function readSettings(cmdline: readonly string[], configText: string | undefined): DaemonSettings {
  const config = readJson(configText);
  const flags: string[] = [];
  const stated = (name: string): boolean | undefined => {
    // A flag that dockerd would not take cannot be that of a daemon that runs.
    const given = optionsOf(cmdline).filter((word) => readFlag(name, word) !== undefined);
    const last = given.at(-1);
    if (last !== undefined) {
      flags.push(last);
      return readFlag(name, last);
    }
    const value = config[name];
    return typeof value === "boolean" ? value : undefined;
  };
  return {
    iptables: stated(SETTINGS.iptables),
    ip6tables: stated(SETTINGS.ip6tables),
    userlandProxy: stated(SETTINGS.userlandProxy),
    flags,
  };
}

/** The words that hold the options. */
function optionsOf(cmdline: readonly string[]): readonly string[] {
  const end = cmdline.indexOf("--");
  return cmdline.slice(1, end < 0 ? undefined : end);
}

/** A boolean flag as Go's pflag reads it: it takes no word of its own, and its values are those of strconv.ParseBool. */
function readFlag(name: string, word: string): boolean | undefined {
  if (word === `--${name}`) return true;
  if (!word.startsWith(`--${name}=`)) return undefined;
  const value = word.slice(name.length + 3);
  if (/^(1|t|T|true|TRUE|True)$/.test(value)) return true;
  return /^(0|f|F|false|FALSE|False)$/.test(value) ? false : undefined;
}

function readJson(text: string | undefined): Record<string, unknown> {
  try {
    // JSON.parse takes no byte order mark; a dockerd of today does.
    const value: unknown = JSON.parse((text ?? "").replace(/^\uFEFF/, ""));
    return typeof value === "object" && value !== null ? { ...value } : {};
  } catch {
    return {};
  }
}

/**
 * Warnings for a daemon that manages iptables itself, or may. `version` is the server's, as "20.10.24"; unknown counts
 * as new. `ip6tables` is a setting since 20.10, and true by default since 27.
 */
export function adviseDaemon(
  daemon: (DaemonSettings & Partial<Daemon>) | undefined,
  version: string | undefined,
): string[] {
  if (daemon === undefined) return [];
  const managing = managingDaemon(daemon, version);
  if (managing !== undefined) return [`${managing}, or it will conflict with these rules`];
  const needed: Setting[] = majorOf(version) >= 27 ? ["iptables", "ip6tables"] : ["iptables"];
  if (daemon.changedSince && needed.some((setting) => flagOf(setting, daemon) === undefined)) {
    return [`${unreadSettings(daemon)}, or it may still manage iptables itself and conflict with these rules`];
  }
  return [];
}

/** That a daemon manages iptables itself, by its settings or its default, and what to do; undefined where it is set not to. */
export function managingDaemon(
  daemon: DaemonSettings & Partial<Daemon>,
  version: string | undefined,
): string | undefined {
  const on = lacking(daemon, version);
  return on.length === 0 ? undefined : wrongSettings(daemon, on, daemon.configFile || DEFAULT_CONFIG, version);
}

/** That a daemon has not read its file since it was changed, and what to do. */
export function unreadSettings({ configFile }: Partial<Daemon>): string {
  return `${configFile || DEFAULT_CONFIG} was changed after the Docker daemon started; restart the daemon to apply it ('${RESTART}')`;
}

const RESTART = "systemctl restart docker";

type Setting = "iptables" | "ip6tables";

/** The settings that are not false and must be. */
function lacking(daemon: DaemonSettings, version: string | undefined): Setting[] {
  const on: Setting[] = [];
  if (daemon.iptables !== false) on.push("iptables");
  const ip6tables = daemon.ip6tables ?? majorOf(version) >= 27;
  if (ip6tables) on.push("ip6tables");
  return on;
}

function majorOf(version: string | undefined): number {
  const major = /^v?(\d+)\.\d/.exec(version ?? "")?.[1];
  return major === undefined ? Number.POSITIVE_INFINITY : Number(major);
}

/** The flag that states a setting, as on the command line. */
function flagOf(setting: Setting, { flags }: DaemonSettings): string | undefined {
  return flags.find((flag) => flag.split("=")[0] === `--${setting}`);
}

const BOTH: readonly Setting[] = ["iptables", "ip6tables"];

/** Docker does not start with a key that it does not know; unknown counts as new. */
function knowsIp6tables(version: string | undefined): boolean {
  const minor = Number(/^v?\d+\.(\d+)/.exec(version ?? "")?.[1] ?? 0);
  return majorOf(version) > 20 || (majorOf(version) === 20 && minor >= 10);
}

function wrongSettings(daemon: DaemonSettings, on: readonly Setting[], file: string, version: string | undefined) {
  const flags = on.map((setting) => flagOf(setting, daemon)).filter((flag) => flag !== undefined);
  // Whoever turns one off means to turn off the other, too, whatever its default is today.
  const keys = (on.includes("iptables") && knowsIp6tables(version) && daemon.ip6tables !== false ? BOTH : on).filter(
    (setting) => flagOf(setting, daemon) === undefined,
  );
  const steps: string[] = [];
  if (flags.length > 0) {
    const better = flags.map((flag) => `${flag.split("=")[0]}=false`).join(" ");
    steps.push(
      `it is started with ${flags.join(" ")}: change that to ${better} where it is started (see 'systemctl cat docker')`,
    );
  }
  if (keys.length > 0) {
    const lines = keys.map((setting) => `"${setting}": false`).join(" and ");
    // Docker before 20.10 does not start with a key that it does not know.
    const unsure = keys.includes("ip6tables") && majorOf(version) === Number.POSITIVE_INFINITY;
    steps.push(`put ${lines} into ${file}${unsure ? ` ("ip6tables" only from Docker 20.10 on)` : ""}`);
  }
  const what = on.includes("iptables") ? "iptables" : "ip6tables";
  return `the Docker daemon manages ${what} itself: ${steps.join("; ")}, and restart it ('${RESTART}')`;
}

const FORWARDING = {
  ipv4: { path: "/proc/sys/net/ipv4/ip_forward", line: "net.ipv4.ip_forward = 1" },
  ipv6: { path: "/proc/sys/net/ipv6/conf/all/forwarding", line: "net.ipv6.conf.all.forwarding = 1" },
} as const;

/** Warnings for the families that the kernel does not forward, in the caller's network namespace. Throws Failure `resources_exhausted`. */
export async function forwardingWarnings(families: readonly Family[]): Promise<string[]> {
  const warnings: string[] = [];
  for (const family of families) {
    const { path, line } = FORWARDING[family];
    const value = await readFile(path, "utf8").catch(orElse(""));
    if (value.trim() !== "0") continue;
    warnings.push(
      `this host does not forward ${FAMILY_WORDS[family]} packets, so containers are unreachable: put '${line}' into /etc/sysctl.d/90-docker-iptables.conf and run 'sysctl --system'`,
    );
  }
  return warnings;
}
