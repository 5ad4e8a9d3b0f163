// The services of this host as status sees them: whether the fragments are loaded now and at the next boot, and whether somebody follows
// the daemon's events. Reads only.

import { access, constants } from "node:fs/promises";
import type { Problem } from "../generated/result.ts";
import { Failure, orElse } from "../model/errors.ts";
import type { Family } from "../model/family.ts";
import type { HostRequest } from "../plan/backend.ts";
import type { Kernel } from "../plan/item.ts";
import { adviseService } from "../plan/missing-service.ts";
import { loadersOf, servicesFor, unknownService } from "../plan/services.ts";
import { WATCH_UNIT } from "../systemd/install.ts";
import { isDisabled, isOurFile, judgeUnit, type RequiredService, showUnit } from "../systemd/units.ts";

export interface SeenServices {
  problems: Problem[];
  warnings: string[];
}

type ServicesRequest = Pick<HostRequest, "host" | "loading" | "settings">;

/** Throws what is no Failure. */
export async function lookAtServices(
  families: readonly Family[],
  live: Kernel,
  request: ServicesRequest,
  mayBeSetUp: boolean,
): Promise<SeenServices> {
  const { host, loading } = request;
  const watcher = await lookAtWatcher(request);
  if (loading.reload !== "systemd") {
    const way = watcher.hasSystemd && mayBeSetUp ? "; 'docker_iptables setup --watch' has a service do that" : "";
    const notes = watcher.follows ? [] : [`${NOBODY_LOADS[loading.reload]}${loading.reload === "none" ? "" : way}`];
    const left = watcher.hasSystemd ? await leftLoaders(host, loading.reload) : [];
    return { problems: [...left, ...watcher.problems], warnings: left.length > 0 ? [] : notes };
  }
  const seen = await Promise.all(servicesFor(families, host).map((one) => lookAtLoader(one, live, request)));
  return {
    problems: [...seen.flatMap(({ problems }) => problems), ...watcher.problems],
    warnings: seen.flatMap(({ warnings }) => warnings),
  };
}

const LATER = "until 'docker_iptables sync' after the boot";

/** What is no problem where another program loads them. */
const NOBODY_LOADS: Record<Exclude<HostRequest["loading"]["reload"], "systemd">, string> = {
  restore: `with reload: restore nothing of docker_iptables loads the fragments at boot: unless another service does, no rules are live ${LATER}`,
  patch: `with reload: patch nothing loads docker_iptables' rules at boot: they are not live ${LATER}`,
  none: "with reload: none the rules are only written: something else loads them",
};

/** Services of ours from when this host was loaded by systemd: the next boot starts them, and firewalld and they stop each other. */
async function leftLoaders(host: HostRequest["host"], reload: string): Promise<Problem[]> {
  const found = loadersOf(host).map(async (unit): Promise<Problem[]> => {
    const properties = await showUnit(unit, host.timeout).catch(orElse(undefined));
    if (properties?.get("UnitFileState") !== "enabled" || !(await isOurFile(properties))) return [];
    const msg = `${unit}, which docker_iptables wrote, still loads the fragments at boot, though reload is ${reload}`;
    return [
      { kind: "service_unusable", msg, hint: `'systemctl disable --now ${unit}' leaves the live rules as they are` },
    ];
  });
  return (await Promise.all(found)).flat();
}

async function lookAtLoader(
  required: RequiredService,
  live: Kernel,
  { host }: Pick<HostRequest, "host">,
): Promise<SeenServices> {
  const { unit } = required;
  try {
    const properties = await showUnit(unit, host.timeout);
    const { ours } = await judgeUnit(required, properties);
    const isFailed = properties.get("ActiveState") === "failed";
    const isOurs = await isOurFile(properties);
    const problems = [
      ...(isFailed ? [failed(unit)] : []),
      ...(isDisabled(properties) ? [disabled(unit)] : []),
      // Another's may do its work and end.
      ...(isOurs && properties.get("ActiveState") === "inactive" ? [inactive(unit)] : []),
      ...(isOurs ? await missingExecutable(unit, properties) : []),
    ];
    return { problems, warnings: ours ? [] : [unknownService(unit)] };
  } catch (error) {
    const advised = await adviseService(error, live, host);
    if (!(advised instanceof Failure)) throw advised;
    return { problems: [{ kind: "service_unusable", msg: advised.message }], warnings: [] };
  }
}

function failed(unit: string): Problem {
  return { kind: "service_unusable", msg: `${unit} has failed`, hint: `'journalctl --unit ${unit}' says why` };
}

function disabled(unit: string): Problem {
  const msg = `${unit} is not enabled, so the next boot does not load the rules`;
  return { kind: "service_disabled", msg, hint: `'systemctl enable ${unit}' has it started at boot` };
}

function inactive(unit: string): Problem {
  const msg = `${unit} is not active: it was stopped, or has not started since the boot`;
  return { kind: "service_inactive", msg, hint: `'systemctl start ${unit}' loads the fragments` };
}

/** Of the executable that a service of ours runs. */
async function missingExecutable(unit: string, properties: ReadonlyMap<string, string>): Promise<Problem[]> {
  const path = /\{ path=(\S+) ;/.exec(properties.get("ExecStart") ?? "")?.[1];
  if (path === undefined || (await isThere(path))) return [];
  const msg = `${unit} runs ${path}, which is not there, or is not executable`;
  return [{ kind: "executable_missing", path, msg, hint: `install docker_iptables again as ${path}` }];
}

function isThere(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}

/** `follows`: whether it is there at all. */
async function lookAtWatcher({
  host,
  settings,
}: Pick<HostRequest, "host" | "settings">): Promise<{ problems: Problem[]; follows: boolean; hasSystemd: boolean }> {
  const properties = await showUnit(WATCH_UNIT, host.timeout).catch(orElse(undefined));
  const hasSystemd = properties !== undefined;
  const isInstalled = properties?.get("LoadState") === "loaded";
  if (!isInstalled) {
    if (settings.values.watch !== true) return { problems: [], follows: false, hasSystemd };
    const msg = `the settings in ${settings.path} ask for ${WATCH_UNIT}, and it is not installed`;
    const problem: Problem = { kind: "watcher_down", msg, hint: "'docker_iptables setup' installs it" };
    return { problems: [problem], follows: false, hasSystemd };
  }
  // One that nobody has asked for, and that is switched off, is.
  const isExpected = settings.values.watch === true || properties.get("UnitFileState") === "enabled";
  if (!isExpected) return { problems: [], follows: false, hasSystemd };
  const state = properties.get("ActiveState") ?? "unknown";
  // Between two of its starts it is "activating", too.
  const isBetween = properties.get("SubState") === "auto-restart";
  const runs = ["active", "activating", "reloading"].includes(state) && !isBetween;
  const problems: Problem[] = [
    ...(runs ? [] : [watcherDown(state)]),
    ...(isDisabled(properties) ? [watcherDisabled()] : []),
    ...(await missingExecutable(WATCH_UNIT, properties)),
  ];
  return { problems, follows: runs && !isDisabled(properties), hasSystemd };
}

function watcherDown(state: string): Problem {
  const msg = `${WATCH_UNIT} does not run (systemd says: ${state}), so containers that start are not published`;
  const hint = `'systemctl restart ${WATCH_UNIT}' starts it, 'journalctl --unit ${WATCH_UNIT}' says why it ended`;
  return { kind: "watcher_down", msg, hint };
}

function watcherDisabled(): Problem {
  const msg = `${WATCH_UNIT} is not enabled, so it does not run after the next boot`;
  return { kind: "watcher_down", msg, hint: `'systemctl enable ${WATCH_UNIT}' has it started at boot` };
}
