// What there is to do for the host besides its own fragments: services, rules to adopt or to replace, what a Docker daemon left.
// Reads, and changes nothing.

import { unreadSettings } from "../docker/daemon.ts";
import { asksThisHost } from "../docker/socket.ts";
import type { Fragments } from "../fragments/by-family.ts";
import { hasDockersRules } from "../iptables/live.ts";
import { INGRESS_CHAIN } from "../iptables/mesh.ts";
import { describeCopies } from "../iptables/undeclared.ts";
import { asFailure, Failure, orElse } from "../model/errors.ts";
import { FAMILIES, FAMILY_WORDS, type Family } from "../model/family.ts";
import type { Client, HostConfig, Loading, Request } from "../model/request.ts";
import { configWords } from "../model/settings.ts";
import { canonicalFragments, warnOfBoot } from "../netfilter/spelling.ts";
import { readState, stateOf } from "../system/state.ts";
import { findPlaces, type PlannedUnit, planRemoval, planUnits, planWatcher, WATCH_UNIT } from "../systemd/install.ts";
import { declaredIn } from "./foreign-rules.ts";
import { type HostPlan, NOTHING_PLANNED } from "./host-plan.ts";
import { type DesiredHostRules, refuseForeignFiles } from "./host-rules.ts";
import { hasChanges, type Item, isContainers, type Kernel } from "./item.ts";
import { findLeftovers, type Leftover } from "./leftovers.ts";
import {
  adoptedFiles,
  describePreflight,
  holdsMesh,
  type PreflightFindings,
  refuseNetavark,
  refusePreflight,
  runPreflight,
  withoutLeftovers,
} from "./preflight.ts";
import { loadersOf, servicesFor, unknownService } from "./services.ts";
import { planHostRemoval } from "./setup-removal.ts";
import { withChanges } from "./validate.ts";

/** What the host is, and what its rules should be. */
export interface HostScene {
  items: readonly Item[];
  desired: DesiredHostRules;
  live: Kernel;
  /** The directories' fragments. */
  now: Fragments;
}

type SetupRequest = Pick<Request, "settings" | "origins" | "subject" | "host" | "client" | "loading" | "watches">;

/** Where units and programs are: looked up when needed. */
type Places = ReturnType<typeof findPlaces>;

/**
 * What is to be done besides the fragments of ours. Throws Failure: `fragment_foreign` (a foreign file at the path of a host
 * fragment), `rules_undeclared` (a load would remove live rules), `fragment_invalid`, `base_in_use`, and those of `planUnits`.
 */
export async function planHost(scene: HostScene, request: SetupRequest): Promise<HostPlan> {
  const { items, now, desired, live } = scene;
  const { subject, host, client, loading, settings } = request;
  if (subject.state === "absent") return planHostRemoval(items, now, request);
  refuseForeignFiles(items);
  if (loading.reload !== "none") await refuseManagingDaemon(desired, live, client);
  const places = findPlaces(host.timeout, configWords(settings.path));
  const plan = {
    ...NOTHING_PLANNED,
    directories: familiesOf(items).map((family) => host.directories[family]),
    units: await planWatchers(request, places),
  };
  if (loading.reload === "none") return plan;
  const around = await lookAround(scene, request);
  if (!isSetUp(items)) refuseNetavark(around.found, loading);
  const preflight = describePreflight(around.found, loading, isSetUp(items));
  if (loading.reload === "patch") return { ...plan, leftovers: around.leftovers, warnings: preflight.kept };
  const loaded = await planLoads({ ...scene, ...around, preflight, places }, request);
  return { ...plan, ...loaded, units: [...loaded.units, ...plan.units] };
}

function familiesOf(items: readonly Item[]): Family[] {
  return [...new Set(items.map(({ family }) => family))];
}

export function isSetUp(items: readonly Item[]): boolean {
  return items.some((item) => !isContainers(item) && item.before !== undefined);
}

/** A watcher of ours is removed where somebody has said that this host has none. */
export async function planWatchers(request: SetupRequest, places: Places): Promise<PlannedUnit[]> {
  const { watches, origins, client, host } = request;
  if (!watches) return origins["watch"] === "default" ? [] : planRemoval([WATCH_UNIT], host.timeout).catch(orElse([]));
  const watching = {
    directories: FAMILIES.map((family) => [family, host.directories[family]] as const),
    loaders: loadersOf(host),
  };
  return [await planWatcher(client.client, watching, places, host.timeout)];
}

/** Who else has a hand in the packet filter, once what Docker left is gone. */
interface Around {
  found: PreflightFindings;
  leftovers: Leftover[];
  /** What fragments declare, as it runs. */
  declared: Fragments;
}

async function lookAround(
  { items, desired, live, now }: HostScene,
  { host, loading }: Pick<Request, "host" | "loading">,
): Promise<Around> {
  const { networks, daemon } = desired;
  // What a fragment had earlier in this boot is saved, too: the file may have been moved away to be written anew.
  const declared = await declaredIn(
    withChanges(now, { files: [], items }, host.directories),
    live,
    host,
    loading.adopt,
  );
  const families = familiesOf(items);
  const all = await runPreflight({ families, future: declared, networks, live }, host.timeout);
  // Without a daemon of this host their owner is unknown.
  const leftovers = daemon === undefined ? [] : await findLeftovers(all, declared, networks, host.timeout);
  return { found: withoutLeftovers(all, leftovers), leftovers, declared };
}

interface LoadScene extends HostScene, Around {
  preflight: ReturnType<typeof describePreflight>;
  places: Places;
}

/** What there is to do where the directories are loaded as a whole. */
async function planLoads(
  scene: LoadScene,
  { host, loading }: Pick<Request, "host" | "loading">,
): Promise<Omit<HostPlan, "directories" | "dropsState">> {
  const { items, live, now, found, leftovers, preflight, places } = scene;
  const { adopt, replace } = loading;
  const families = familiesOf(items);
  const isSystemd = loading.reload === "systemd";
  const loaders = isSystemd ? await planUnits(servicesFor(families, host), places, host.timeout) : [];
  // What was added to a host that is set up is kept; but a foreign service that is to be started may remove it.
  const isLeftAlone = isSetUp(items) && !loaders.some(({ start, ours }) => start && !ours);
  if (!adopt && !replace && !isLeftAlone) refusePreflight([...preflight.removed, ...preflight.kept], found);
  const { files, warnings: unsaved } = adopt
    ? await adoptedFiles(found.families, host.directories, isSetUp(items))
    : { files: [], warnings: [] };
  const future = withChanges(now, { files, items }, host.directories);
  const tried = await tryFragments({ future, live, families }, host, isSystemd);
  const broken = tried.failure;
  if (broken !== undefined && !isLeftAlone) throw broken;
  const warnings = [
    ...warnOfFound(scene, loading),
    ...unsaved,
    ...tried.warnings,
    ...(broken === undefined ? [] : await warnOfBroken(broken, items, families, host)),
    ...loaders.flatMap(warnOfForeignService),
  ];
  if (found.families.some(({ mesh }) => mesh)) refuseUnknowing(loaders);
  const empties = (adopt || replace || !isLeftAlone) && broken === undefined;
  const others = empties ? othersOf(found) : [];
  // A service cannot load what is broken: its own timer starts it again.
  const units = broken === undefined ? loaders : loaders.map((one) => ({ ...one, start: false }));
  return { files, units, others, leftovers, warnings, ...(broken === undefined ? {} : { broken }) };
}

/** The other backend's rules, which are to be removed; but a swarm's stay. */
function othersOf({ families }: PreflightFindings): HostPlan["others"] {
  return families.flatMap(({ family, other }) => (other === undefined || holdsMesh(other) ? [] : [{ family, other }]));
}

function warnOfFound({ preflight, declared }: LoadScene, { adopt, replace }: Loading): string[] {
  return [
    ...preflight.kept,
    ...FAMILIES.flatMap((family) => describeCopies(declared[family] ?? [])),
    ...(adopt ? [] : preflight.reported),
    ...(replace ? preflight.removed.map((what) => `replaced: ${what}`) : []),
  ];
}

async function warnOfBroken(
  { message }: Failure,
  items: readonly Item[],
  families: readonly Family[],
  host: HostConfig,
): Promise<string[]> {
  // Where something changes, the load that leaves others' fragments out says so.
  const isSaid = items.some(hasChanges);
  return [
    ...(isSaid ? [] : [`the fragments cannot be loaded until this is fixed: ${message}`]),
    ...(await warnOfUnkept(families, host)),
  ];
}

function warnOfForeignService({ name, after, disabled, ours }: PlannedUnit): string[] {
  return [
    ...(ours ? [] : [unknownService(name)]),
    ...(after === undefined && disabled
      ? [`${name} was not written by docker_iptables and is not enabled, so the rules are not loaded at boot`]
      : []),
  ];
}

/** The fragments as they will be, tried: what stops a load of them, and what cannot be tried. `isBooted`: whether a boot loads them. */
async function tryFragments(
  { future, live, families }: { future: Fragments; live: Kernel; families: readonly Family[] },
  { directories, timeout }: HostConfig,
  isBooted: boolean,
): Promise<{ warnings: string[]; failure?: Failure }> {
  const warnings: string[] = [];
  for (const family of families) {
    const spellingOptions = { family, directory: directories[family], timeout, live: live[family] };
    try {
      const spelling = await canonicalFragments(future[family] ?? [], spellingOptions);
      warnings.push(...spelling.warnings, ...(isBooted ? warnOfBoot(spelling) : []));
    } catch (error) {
      const failure = asFailure(error);
      if (failure.code !== "fragment_invalid") throw failure;
      return { warnings, failure };
    }
  }
  return { warnings };
}

/** That a boot has neither fragments that load nor what last ran. */
async function warnOfUnkept(families: readonly Family[], { directories }: HostConfig): Promise<string[]> {
  const texts = await Promise.all(families.map((family) => readState(stateOf(family, directories[family]), "rules")));
  const words = families.filter((_, index) => texts[index] === undefined).map((one) => FAMILY_WORDS[one]);
  if (words.length === 0) return [];
  return [
    `no last good ${words.join(" and ")} rules are stored either, so a boot before that loads those rules of the fragments that are valid`,
  ];
}

/** A foreign service that is to be started would remove a swarm's routing mesh. Throws Failure `rules_undeclared`. */
function refuseUnknowing(loaders: readonly PlannedUnit[]): void {
  const unit = loaders.find(({ after, start }) => after === undefined && start);
  if (unit === undefined) return;
  const message = `this host is in a swarm, and ${unit.name}, which docker_iptables did not write, would remove dockerd's rules for it (${INGRESS_CHAIN}) when it starts: use reload: patch, which does not touch other rules`;
  throw new Failure("rules_undeclared", message, { unit: unit.name });
}

/**
 * It would make its rules again, or conflict with ours. A daemon that may not be the one asked (a context, or podman is used, too)
 * matters only if it has made some. Throws Failure `rules_undeclared`.
 */
export async function refuseManagingDaemon(
  { daemon, managing }: DesiredHostRules,
  live: Kernel,
  client: Client,
): Promise<void> {
  const makes = Object.values(live).some(hasDockersRules);
  if (!makes && !(await asksThisHost(client))) return;
  const why = managing ?? (daemon?.changedSince && makes ? unreadSettings(daemon) : undefined);
  if (why === undefined) return;
  throw new Failure("rules_undeclared", `${why}; then run docker_iptables again`, {
    traps: [why],
    rules: [],
    tables: [],
  });
}
