// status: what is not as it should be, in the files, in the kernel and at the daemon. Reads only, takes no lock, and says what
// it can while the daemon is down.

import { findBroken } from "../apply/load.ts";
import { type Complaint, findNetworks, findRunning, type Running } from "../docker/find.ts";
import type { Network } from "../docker/network.ts";
import { describeOverlap, overlapsOf } from "../docker/overlaps.ts";
import { warnOfUntrusted } from "../docker/proxy.ts";
import type { PublishedContainer } from "../docker/published.ts";
import { type Fragments, ownersIn, textIn } from "../fragments/by-family.ts";
import { sortByBoot } from "../fragments/confirmed.ts";
import type { Problem } from "../generated/result.ts";
import { isManaged, readFragment } from "../iptables/fragment-text.ts";
import { readMeaning } from "../iptables/read.ts";
import { describeCopies } from "../iptables/undeclared.ts";
import type { Directories } from "../model/directories.ts";
import { Failure } from "../model/errors.ts";
import { FAMILIES, type Family } from "../model/family.ts";
import { containerOf } from "../model/owner.ts";
import type { Defaults, HostConfig } from "../model/request.ts";
import type { HostRequest } from "../plan/backend.ts";
import { fragmentFor, keptOptions, optionsOf } from "../plan/desired.ts";
import { readDirectories, untrustedOf } from "../plan/directories.ts";
import { firewallProblems } from "../plan/firewalls.ts";
import { declaredIn, describeUndeclared, findForeignRules } from "../plan/foreign-rules.ts";
import { adviseHost, type DesiredHostRules, wantBase } from "../plan/host-rules.ts";
import { byContainer, hasRules, type Item, type Kernel } from "../plan/item.ts";
import { adviseService } from "../plan/missing-service.ts";
import { type PreflightFindings, runPreflight } from "../plan/preflight.ts";
import { servicesFor, unknownService } from "../plan/services.ts";
import { type StaleFragment, sortSkipped } from "../plan/skipped.ts";
import { familiesOf, survey } from "../plan/survey.ts";
import { type ContainerFragment, containerFragment, type DesiredFragment } from "../rules/desired-fragment.ts";
import { NO_RULES } from "../rules/model.ts";
import { readInterfaces } from "../system/interfaces.ts";
import { recordedArguments } from "../systemd/install.ts";
import { judgeUnit, showUnit } from "../systemd/units.ts";
import { orNearest } from "../text/suggest.ts";
import { readHost } from "./host.ts";
import {
  brokenFragments,
  differences,
  onceFixed,
  orphans,
  refusedFragment,
  rivals,
  shadows,
  uncovered,
  untrusted,
} from "./problems.ts";

/** One container that publishes, or has a fragment. */
export interface ContainerStatus {
  name: string;
  /** Undefined where it does not run, or the daemon cannot be asked. */
  target: PublishedContainer | undefined;
  items: Item[];
}

export interface Status {
  statuses: ContainerStatus[];
  problems: Problem[];
  warnings: string[];
}

export type StatusRequest = Pick<HostRequest, "subject" | "host" | "client" | "defaults" | "loading">;

/** Of the containers that are named, or of all. Throws Failure of the directories and of iptables-save. */
export async function status(request: StatusRequest): Promise<Status> {
  const observed = await observe(request);
  const desired = await desire(observed, request);
  const { families, live } = observed;
  const wanted = [...desired.containers, ...desired.base.wanted];
  const { items } = await survey(wanted, families, live, request.host);
  const scene = { ...observed, ...desired, items };
  const around = await lookAround(scene, request);
  const problems = [...(await fragmentProblems(scene, request)), ...(await hostProblems(scene, around, request))];
  return answer(scene, around, problems, request.subject.containers);
}

/** What is there. */
interface Observed {
  families: Family[];
  now: Fragments;
  live: Kernel;
  daemon: WhatRuns;
  /** The running containers that publish. */
  publishing: PublishedContainer[];
}

async function observe(request: StatusRequest): Promise<Observed> {
  const { host } = request;
  const families = await familiesOf(host);
  // Whose fragments are there decides about whom the daemon is asked.
  const directories = readDirectories(host.directories);
  const [now, live, daemon] = await Promise.all([
    directories,
    host.backend.read(families, host),
    directories.then((now) => askWhatRuns(now, request)),
  ]);
  const publishing = daemon.running.targets.filter(
    ({ nothingPublished, publishes }) => nothingPublished === undefined && publishes.length > 0,
  );
  return { families, now, live, daemon, publishing };
}

/** What there should be. */
interface Desired {
  containers: ContainerFragment[];
  /** Left alone, and not true any more. */
  untrue: StaleFragment[];
  advice: Awaited<ReturnType<typeof adviseHost>>;
  base: { wanted: DesiredFragment[]; problems: Problem[] };
}

async function desire(observed: Observed, request: StatusRequest): Promise<Desired> {
  const { now, live, families, daemon, publishing } = observed;
  const { defaults, client } = request;
  const { staying, untrue } = sortSkipped(daemon.running.left, now);
  const published = new Set(publishing.map(({ name }) => name));
  const others = [...ownersIn(now)].filter((owner) => !published.has(owner));
  const containers = [
    ...publishing.map((target) => fragmentFor(target, defaults).wanted),
    ...others.map((owner) =>
      // A container that Docker cannot be asked about should be as its own file says.
      daemon.problem !== undefined || staying.has(owner)
        ? asWritten(owner, now)
        : containerFragment(owner, undefined, keptOptions(owner, now, defaults)),
    ),
  ];
  const able = families.filter((family) => live[family] !== undefined);
  const advice = await adviseHost(daemon.networks, able, client);
  const base = await baseOf(now, able, { networks: daemon.networks, daemon: advice.daemon }, defaults);
  return { containers, untrue, advice, base };
}

interface Scene extends Observed, Desired {
  items: Item[];
}

/** What else there is on this host. */
interface Around {
  host: Awaited<ReturnType<typeof readHost>>;
  services: { problems: Problem[]; warnings: string[] };
  firewalls: { problems: Problem[]; warnings: string[] };
  declared: Fragments;
}

async function lookAround(scene: Scene, { host, loading }: StatusRequest): Promise<Around> {
  const { now, live, families, daemon, advice, items } = scene;
  const { networks } = daemon;
  const bridges = networks.flatMap(({ bridge }) => bridge ?? []);
  const able = families.filter((family) => live[family] !== undefined);
  const seen = await readHost(live, bridges);
  const services = await lookAtServices(families, live, { host, loading });
  const declared = await declaredIn(now, live, host);
  const preflight = { families: able, future: declared, networks, live };
  const around = await runPreflight(preflight, host.timeout).catch(nobodyAround);
  const isOff = advice.daemon !== undefined && advice.managing === undefined;
  return { host: seen, services, firewalls: firewallProblems(around, items, isOff, loading), declared };
}

/** What is wrong with the fragments and their rules. */
async function fragmentProblems(scene: Scene, { host, loading, defaults }: StatusRequest): Promise<Problem[]> {
  const { now, live, daemon, publishing, untrue, items } = scene;
  const broken = await tryFragments(now, live, host);
  const once = loading.reload === "patch" ? "" : onceFixed(broken);
  const names = publishing.map(({ name }) => name);
  return [
    ...broken,
    ...(daemon.problem === undefined ? [] : [daemon.problem]),
    ...daemon.unusable.map(answerUnusable),
    ...items.flatMap((item) => differences(item, daemon.running.targets, untrue, once)),
    ...(await staleOf(now, items, once, host.directories)),
    ...rivals(now, items),
    ...orphans(now, live, names, once === ""),
    ...untrusted(await untrustedOf(now, [], host.directories)),
    ...uncovered(items, now, once, defaults.chain),
  ];
}

/** What is wrong with the host. */
async function hostProblems(scene: Scene, around: Around, request: StatusRequest): Promise<Problem[]> {
  const { now, live, daemon, publishing, advice, base, items } = scene;
  const overlaps = overlapsOf(daemon.networks, await readInterfaces());
  return [
    ...shadows(items, publishing, daemon.networks, around.host),
    ...base.problems,
    ...overlaps.map((overlap): Problem => ({ kind: "network_overlaps", msg: describeOverlap(overlap) })),
    ...warnOfUntrusted(around.host.untrusted).map((msg): Problem => ({ kind: "docker_proxy_untrusted", msg })),
    ...advice.warnings.map((msg): Problem => ({ kind: "daemon_settings", msg })),
    ...around.services.problems,
    ...(await undeclaredOf(now, live, request)),
    ...around.firewalls.problems,
  ];
}

/** What is wrong with the host is wrong for each requested container (`names`; none names all). */
function answer(scene: Scene, around: Around, problems: readonly Problem[], names: readonly string[]): Status {
  const { containers, publishing, items, daemon } = scene;
  const isAskedFor = (container: string | undefined) =>
    names.length === 0 || container === undefined || names.includes(container);
  const owned = byContainer(items);
  const published = new Map(publishing.map((target) => [target.name, target]));
  const known = containers.map(({ owner }) => owner.name);
  const statuses = known
    .map((name) => ({ name, target: published.get(name), items: owned.get(name) ?? [] }))
    .filter(({ name }) => isAskedFor(name))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
  const unknown = names.filter((name) => !statuses.some((one) => one.name === name));
  return {
    statuses,
    problems: problems.filter(({ container }) => isAskedFor(container)),
    warnings: [
      ...daemon.running.warnings,
      ...around.services.warnings,
      ...FAMILIES.flatMap((family) => describeCopies(around.declared[family] ?? [])),
      ...around.firewalls.warnings,
      ...unknown.map((name) => `${name} publishes nothing, and has no fragment${orNearest(name, known)}`),
    ],
  };
}

/** Where iptables-restore cannot be run, who else filters is the smaller trouble. */
function nobodyAround(error: unknown): PreflightFindings {
  if (!(error instanceof Failure)) throw error;
  return { families: [], tables: [], firewalld: false };
}

function asWritten(owner: string, now: Fragments): ContainerFragment {
  const meaning = { ...NO_RULES };
  const texts: NonNullable<ContainerFragment["asWritten"]> = {};
  for (const family of FAMILIES) {
    const text = textIn(now, family, owner);
    if (text === undefined) continue;
    meaning[family] = readMeaning(readFragment(text));
    texts[family] = text;
  }
  return { ...containerFragment(owner), meaning, asWritten: texts };
}

interface WhatRuns {
  running: Running;
  networks: Network[];
  unusable: Complaint[];
  /** Why it could not be asked. */
  problem: Problem | undefined;
}

async function askWhatRuns(
  now: Fragments,
  { client, defaults }: Pick<HostRequest, "client" | "defaults">,
): Promise<WhatRuns> {
  try {
    const running = findRunning(ownersIn(now), client, {
      optionsOf: (container) => optionsOf(container, now, defaults),
      network: defaults.network,
    });
    const [found, { networks, unusable }] = await Promise.all([running, findNetworks(client)]);
    return { running: found, networks, unusable: [...found.unusable, ...unusable], problem: undefined };
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    const problem: Problem = { kind: "daemon_unreachable", msg: error.message };
    return {
      running: { targets: [], left: [], unusable: [], warnings: [], untrusted: [] },
      networks: [],
      unusable: [],
      problem,
    };
  }
}

function answerUnusable({ container, msg }: Complaint): Problem {
  return { kind: "answer_unusable", ...(container === undefined ? {} : { container }), msg };
}

/** Only a base of ours is held to the daemon's networks. */
async function baseOf(
  now: Fragments,
  families: readonly Family[],
  { networks, daemon }: Pick<DesiredHostRules, "networks" | "daemon">,
  defaults: Defaults,
): Promise<{ wanted: DesiredFragment[]; problems: Problem[] }> {
  const hasOwn = Object.values(now)
    .flat()
    .some(({ path, text }) => containerOf(path) === undefined && isManaged(text));
  if (!hasOwn || networks.length === 0) return { wanted: [], problems: [] };
  try {
    const { wanted } = await wantBase(networks, families, daemon, defaults);
    return { wanted, problems: [] };
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    return { wanted: [], problems: [{ kind: "base_outdated", msg: error.message }] };
  }
}

/** Fragments that stop a load, in their form or in a trial. */
async function tryFragments(now: Fragments, live: Kernel, { directories, timeout }: HostConfig): Promise<Problem[]> {
  const found = await Promise.all(
    FAMILIES.map(async (family) => {
      const fragments = now[family] ?? [];
      const running = live[family];
      const malformed = brokenFragments(fragments);
      if (running === undefined || malformed.length > 0) return malformed;
      const directory = directories[family];
      const { current } = await sortByBoot(directory, fragments).catch(() => ({ current: fragments }));
      const spellingOptions = { family, directory, timeout, live: running };
      const refused = await findBroken(current, spellingOptions, running);
      return refused === undefined ? [] : [refusedFragment(refused)];
    }),
  );
  return found.flat();
}

/** Except those that are to be removed anyway. */
async function staleOf(
  now: Fragments,
  items: readonly Item[],
  once: string,
  directories: Directories,
): Promise<Problem[]> {
  const going = new Set(items.filter((item) => !hasRules(item)).map(({ path }) => path));
  const sorted = await Promise.all(
    FAMILIES.map((family) => sortByBoot(directories[family], now[family] ?? []).catch(() => ({ stale: [] }))),
  );
  return sorted
    .flatMap(({ stale }) => stale)
    .filter(({ path }) => !going.has(path))
    .map(({ path }) => {
      const container = containerOf(path) ?? "";
      const msg = `${path} is from before this boot, and is not loaded until 'docker_iptables create ${container}' or 'docker_iptables sync' confirms it${once}`;
      return { kind: "fragment_stale", container, path, msg };
    });
}

/** Rules that a load would remove; on a host that is set up for patch nothing loads. */
async function undeclaredOf(
  now: Fragments,
  live: Kernel,
  { host, loading }: Pick<HostRequest, "host" | "loading">,
): Promise<Problem[]> {
  if (loading.reload === "patch") return [];
  const foreign = await findForeignRules(live, now, host);
  if (foreign.length === 0 || (await recordedArguments(host.timeout)).reload === "patch") return [];
  return foreign.map((one): Problem => ({ kind: "rules_undeclared", msg: describeUndeclared(one) }));
}

async function lookAtServices(
  families: readonly Family[],
  live: Kernel,
  { host, loading }: Pick<HostRequest, "host" | "loading">,
): Promise<{ problems: Problem[]; warnings: string[] }> {
  const problems: Problem[] = [];
  const warnings: string[] = [];
  if (loading.reload !== "systemd") return { problems, warnings };
  for (const required of servicesFor(families, host)) {
    try {
      const properties = await showUnit(required.unit, host.timeout);
      const { ours } = await judgeUnit(required, properties);
      if (!ours) warnings.push(unknownService(required.unit));
      if (properties.get("ActiveState") === "failed") {
        const msg = `${required.unit} has failed; 'journalctl --unit ${required.unit}' says why`;
        problems.push({ kind: "service_unusable", msg });
      }
    } catch (error) {
      const advised = await adviseService(error, live, host, "status");
      if (!(advised instanceof Failure)) throw advised;
      problems.push({ kind: "service_unusable", msg: advised.message });
    }
  }
  return { problems, warnings };
}
