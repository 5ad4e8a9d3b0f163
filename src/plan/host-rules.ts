// The host's base: what there is to do so that containers can be published at all. Reads, and changes nothing.

import { askVersion } from "../docker/client.ts";
import {
  adviseDaemon,
  type Daemon,
  findDaemon,
  forwardingWarnings,
  managingDaemon,
  unreadSettings,
} from "../docker/daemon.ts";
import type { Network } from "../docker/network.ts";
import { overlapsOf, tellOverlap } from "../docker/overlaps.ts";
import { usesProxy } from "../docker/proxy.ts";
import { asksThisHost } from "../docker/socket.ts";
import type { Fragments } from "../fragments/by-family.ts";
import type { Arguments } from "../generated/arguments.ts";
import { type DesiredFragment, hasRules, isManaged } from "../iptables/fragment-text.ts";
import { hostFragments, noHostFragment } from "../iptables/host-fragments.ts";
import { hasDockersRules } from "../iptables/live.ts";
import { INGRESS_CHAIN } from "../iptables/mesh.ts";
import { tellCopies } from "../iptables/undeclared.ts";
import { directoryOf } from "../model/directories.ts";
import { asFailure, Failure, orElse } from "../model/errors.ts";
import { FAMILIES, FAMILY_WORDS, type Family } from "../model/family.ts";
import { flagsOf } from "../model/flags.ts";
import { containerOf, HOST_FILES } from "../model/owner.ts";
import { canonicalFragments, warnOfBoot } from "../netfilter/spelling.ts";
import { readInterfaces } from "../system/interfaces.ts";
import { isKept, readState, stateOf } from "../system/state.ts";
import { findPlaces, type PlannedUnit, planRemoval, planUnits, planWatcher, WATCH_UNIT } from "../systemd/install.ts";
import { retryTimerOf } from "../systemd/unit-text.ts";
import { type RequiredService, unitName } from "../systemd/units.ts";
import { someOf } from "../text/words.ts";
import { declaredIn } from "./foreign-rules.ts";
import { type HostPlan, NOTHING_PLANNED } from "./host-plan.ts";
import { hasChanges, type Item, isContainers, type Kernel } from "./item.ts";
import { findLeftovers } from "./leftovers.ts";
import {
  adoptedFiles,
  describePreflight,
  holdsMesh,
  refusePreflight,
  runPreflight,
  withoutLeftovers,
} from "./preflight.ts";
import { withChanges } from "./validate.ts";

/** What the base comes to, as far as the client says. */
export interface DesiredHostRules {
  wanted: DesiredFragment[];
  networks: readonly Network[];
  daemon: Daemon | undefined;
  /** That the daemon manages iptables itself, and what to do. */
  managing: string | undefined;
  warnings: string[];
}

/**
 * The base as it should be; for `absent` its files without a rule. Throws Failure `bridge_missing` where the networks are
 * those of another host.
 */
export async function desiredHostRules(
  networks: readonly Network[],
  families: readonly Family[],
  args: Arguments,
): Promise<DesiredHostRules> {
  if (args.state === "absent")
    return {
      wanted: HOST_FILES.map(noHostFragment),
      networks: [],
      daemon: undefined,
      managing: undefined,
      warnings: [],
    };
  const advice = await adviseHost(networks, families, args);
  const overlaps = overlapsOf(networks, await readInterfaces()).map(tellOverlap);
  const base = await wantBase(networks, families, advice.daemon, args);
  return { ...advice, wanted: base.wanted, networks, warnings: [...advice.warnings, ...base.warnings, ...overlaps] };
}

/** The base's files as these networks need them. Throws Failure `bridge_missing`. */
export async function wantBase(
  networks: readonly Network[],
  families: readonly Family[],
  daemon: Daemon | undefined,
  args: Arguments,
): Promise<Pick<DesiredHostRules, "wanted" | "warnings">> {
  const { names, routes } = await readInterfaces();
  const lost = networks.find(({ isDefault, bridge }) => isDefault && bridge !== undefined && !names.has(bridge));
  if (lost !== undefined) {
    const message = `the bridge ${lost.bridge} of Docker's network ${lost.name} is no interface of this host; run docker_iptables on the daemon's own host and in its network namespace`;
    throw new Failure("bridge_missing", message, { network: lost.name, bridge: lost.bridge });
  }
  const { proxy, warnings } = await usesProxy(
    daemon,
    networks.flatMap(({ bridge }) => bridge ?? []),
  );
  return { wanted: hostFragments(networks, families, { ...args, proxy, routes }), warnings };
}

/**
 * The daemon of this host, and what to change about it or about the host. A client that cannot say its version costs no
 * answer.
 */
export async function adviseHost(
  networks: readonly Network[],
  families: readonly Family[],
  args: Arguments,
): Promise<Pick<DesiredHostRules, "daemon" | "managing" | "warnings">> {
  const daemon = await findDaemon();
  const isUnsure = daemon !== undefined && daemon.ip6tables === undefined;
  const version = isUnsure ? await askVersion(args).catch(orElse(undefined)) : undefined;
  const inUse = families.filter((family) => networks.some(({ subnets }) => subnets[family].length > 0));
  const managing = daemon && managingDaemon(daemon, version);
  return { daemon, managing, warnings: [...adviseDaemon(daemon, version), ...(await forwardingWarnings(inUse))] };
}

/**
 * What is to be done besides the fragments of ours. Throws Failure: `fragment_foreign` (a file of another hand in the base's
 * place), `rules_undeclared` (a load would lose what runs), `fragment_invalid`, `base_in_use`, and those of `planUnits`.
 * `now` are the directories' fragments.
 */
export async function planHost(
  items: readonly Item[],
  wishes: DesiredHostRules,
  live: Kernel,
  now: Fragments,
  args: Arguments,
): Promise<HostPlan> {
  if (args.state === "absent") return planRemovalOfBase(items, now, args);
  refuseForeignFiles(items);
  if (args.reload !== "none") await refuseManagingDaemon(wishes, live, args);
  const { networks, daemon } = wishes;
  const families = [...new Set(items.map(({ family }) => family))];
  const directories = families.map((family) => directoryOf(family, args));
  const plan: HostPlan = { ...NOTHING_PLANNED, directories, warnings: [] };
  const places = findPlaces(args.timeout);
  const watching = {
    words: watchWords(args),
    directories: FAMILIES.map((family) => [family, directoryOf(family, args)] as const),
    loaders: loadersOf(args),
  };
  const watchers = args.watch ? [await planWatcher(args.client, watching, places, args.timeout)] : [];
  if (args.reload === "none") return { ...plan, units: watchers };
  // What a fragment had earlier in this boot is saved, too: the file may have been moved away to be written anew.
  const declared = await declaredIn(withChanges(now, items, args), live, args, args.adopt);
  const found = await runPreflight(families, declared, networks, live, args);
  // Without a daemon of this host nobody knows whose they are.
  const leftovers = daemon === undefined ? [] : await findLeftovers(found, declared, networks, args.timeout);
  const around = withoutLeftovers(found, leftovers);
  const isSetUp = items.some((item) => !isContainers(item) && item.before !== undefined);
  const { lost, kept, told } = describePreflight(around, args, isSetUp);
  if (args.reload === "patch") return { ...plan, units: watchers, leftovers, warnings: kept };
  const loaders = args.reload === "systemd" ? await planUnits(servicesFor(families, args), places, args.timeout) : [];
  // What came to a host that is set up is left alone; but another hand's service that is to start may lose it.
  const isLeftAlone = isSetUp && !loaders.some(({ start, ours }) => start && !ours);
  if (!args.adopt && !args.replace && !isLeftAlone) refusePreflight([...lost, ...kept], around);
  const files = args.adopt ? await adoptedFiles(around.families, args) : [];
  const future = withChanges(now, [...items, ...files], args);
  const warnings = [
    ...kept,
    ...FAMILIES.flatMap((family) => tellCopies(declared[family] ?? [])),
    ...(args.adopt ? [] : told),
    ...(args.replace ? lost.map((what) => `replaced: ${what}`) : []),
  ];
  const broken = await tryFragments(future, live, families, args);
  if (broken.failure !== undefined && !isLeftAlone) throw broken.failure;
  warnings.push(...broken.warnings);
  // Where something changes, the load that leaves others' fragments out says so.
  if (broken.failure !== undefined && !items.some(hasChanges))
    warnings.push(`the fragments cannot be loaded until this is fixed: ${broken.failure.message}`);
  if (broken.failure !== undefined) warnings.push(...(await tellUnkept(families, args)));
  for (const { name, after, disabled, ours } of loaders) {
    if (!ours) warnings.push(unknownService(name));
    if (after === undefined && disabled) {
      warnings.push(`${name} was not written by docker_iptables and is not enabled: nothing loads the rules at boot`);
    }
  }
  if (around.families.some(({ mesh }) => mesh)) refuseUnknowing(loaders);
  const empties = (args.adopt || args.replace || !isLeftAlone) && broken.failure === undefined;
  const others = around.families.flatMap(({ family, other }) =>
    other === undefined || holdsMesh(other) || !empties ? [] : [{ family, other }],
  );
  // A service cannot load what is broken: its own timer starts it again.
  const startable = loaders.map((one) => (broken.failure === undefined ? one : { ...one, start: false }));
  const units = [...startable, ...watchers];
  return { ...plan, files, units, others, leftovers, warnings, ...(broken.failure ? { broken: broken.failure } : {}) };
}

/** The fragments as they will be, tried: what stops a load of them, and what cannot be tried. */
async function tryFragments(
  future: Fragments,
  live: Kernel,
  families: readonly Family[],
  args: Arguments,
): Promise<{ warnings: string[]; failure?: Failure }> {
  const warnings: string[] = [];
  for (const family of families) {
    const wishes = { family, directory: directoryOf(family, args), timeout: args.timeout, live: live[family] };
    try {
      const spelling = await canonicalFragments(future[family] ?? [], wishes);
      warnings.push(...spelling.warnings, ...(args.reload === "systemd" ? warnOfBoot(spelling) : []));
    } catch (error) {
      const failure = asFailure(error);
      if (failure.code !== "fragment_invalid") throw failure;
      return { warnings, failure };
    }
  }
  return { warnings };
}

/** That a boot has neither fragments that load nor what last ran. */
async function tellUnkept(families: readonly Family[], args: Arguments): Promise<string[]> {
  const texts = await Promise.all(
    families.map((family) => readState(stateOf(family, directoryOf(family, args)), "rules")),
  );
  const words = families.filter((_, index) => texts[index] === undefined).map((one) => FAMILY_WORDS[one]);
  if (words.length === 0) return [];
  return [
    `no last good ${words.join(" and ")} rules are kept either: a boot before that loads what it can of the fragments, rule by rule`,
  ];
}

/** A service of another hand that is to be started would take a swarm's routing mesh away. Throws Failure `rules_undeclared`. */
function refuseUnknowing(loaders: readonly PlannedUnit[]): void {
  const unit = loaders.find(({ after, start }) => after === undefined && start);
  if (unit === undefined) return;
  const message = `this host is in a swarm, and ${unit.name}, which docker_iptables did not write, would take dockerd's rules for it (${INGRESS_CHAIN}) away when it starts: use reload: patch, which leaves all others alone`;
  throw new Failure("rules_undeclared", message, { unit: unit.name });
}

/**
 * It would make its rules again, or fight ours. A daemon that is perhaps not the one asked (a context, podman beside it) is
 * only in the way where it has made some. Throws Failure `rules_undeclared`.
 */
async function refuseManagingDaemon(
  { daemon, managing }: DesiredHostRules,
  live: Kernel,
  args: Arguments,
): Promise<void> {
  const makes = Object.values(live).some(hasDockersRules);
  if (!makes && !(await asksThisHost(args))) return;
  const why = managing ?? (daemon?.changedSince && makes ? unreadSettings(daemon) : undefined);
  if (why === undefined) return;
  throw new Failure("rules_undeclared", `${why}; then run docker_iptables again`, {
    traps: [why],
    rules: [],
    tables: [],
  });
}

/** Said once by setup and by status: it may well be right. */
export function unknownService(unit: string): string {
  return `${unit} was not written by docker_iptables, and how it loads the fragments is not known: after each reload it is looked whether rules are gone`;
}

/** The watcher loads in its own process what a service would load for it: a process less for each change. */
function watchWords(args: Arguments): string[] {
  return flagsOf({ ...args, reload: args.reload === "systemd" ? "restore" : args.reload });
}

/** Whether it is a file of another hand. */
function isForeign({ before }: Item): boolean {
  return before !== undefined && !isManaged(before.text);
}

function refuseForeignFiles(items: readonly Item[]): void {
  const foreign = items.find((item) => !isContainers(item) && isForeign(item));
  if (foreign === undefined) return;
  const { path } = foreign;
  throw new Failure(
    "fragment_foreign",
    `${path} was not written by docker_iptables, and is not overwritten: keep it and do without setup, or move it away ` +
      `(mv ${path} ${path}.orig: that name is not loaded) and run setup again; what it holds besides the base belongs into a fragment of another name`,
    { path },
  );
}

/** Base files of another hand are not removed either; they are told. */
export function keepForeignFiles(items: readonly Item[]): { items: Item[]; warnings: string[] } {
  const stays = (item: Item) => !isContainers(item) && item.after === undefined && isForeign(item);
  return {
    items: items.filter((item) => !stays(item)),
    warnings: items.filter(stays).map(({ path }) => `${path} was not written by docker_iptables; it stays`),
  };
}

/** The services that have to load these families; one may load both. */
export function servicesFor(families: readonly Family[], args: Arguments): RequiredService[] {
  const wishes = new Map<string, RequiredService>();
  for (const family of families) {
    const unit = unitName(family === "ipv4" ? args.iptables_service : args.ip6tables_service);
    const wish = wishes.get(unit) ?? { unit, directories: [], families: [] };
    wish.directories.push(directoryOf(family, args));
    wish.families.push(family);
    wishes.set(unit, wish);
  }
  return [...wishes.values()];
}

/** The names of the services that load the directories, each once. */
function loadersOf(args: Arguments): string[] {
  return [...new Set([args.iptables_service, args.ip6tables_service].map(unitName))];
}

async function planRemovalOfBase(items: readonly Item[], now: Fragments, args: Arguments): Promise<HostPlan> {
  const future = withChanges(now, items, args);
  const loaders = loadersOf(args);
  const names = args.reload === "none" ? [] : [...loaders, WATCH_UNIT, ...loaders.map(retryTimerOf)];
  const units = await planRemoval(names, args.timeout).catch((error: unknown) => {
    // Without systemd there are no services to remove.
    const isThere = !(error instanceof Failure) || !["command_missing", "command_failed"].includes(error.code);
    if (isThere || args.reload === "systemd") throw error;
    return [];
  });
  const left = Object.values(future).flatMap((fragments) =>
    fragments.filter(({ path, text }) => containerOf(path) !== undefined && hasRules(text)).map(({ path }) => path),
  );
  if (left.length > 0) {
    const watches = units.some(({ name, start }) => name === WATCH_UNIT && !start);
    const first = watches ? `'systemctl disable --now ${WATCH_UNIT}', which would publish them again, and then ` : "";
    const message = `containers still lean on the base: ${someOf(left)}; first ${first}'docker_iptables delete --all'`;
    throw new Failure("base_in_use", message, { paths: left });
  }
  const kept = Object.values(future).flatMap((fragments) =>
    fragments.map(({ path }) => path).filter((path) => /_existing$/.test(path)),
  );
  const warnings = kept.map((path) => `${path} holds rules that ran before setup; it stays`);
  const states = await Promise.all(FAMILIES.map((family) => isKept(stateOf(family, directoryOf(family, args)))));
  return { ...NOTHING_PLANNED, units, dropsState: states.includes(true), warnings };
}
