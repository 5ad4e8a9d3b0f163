// status: what is not as it should be, in the files, in the kernel and at the daemon. Reads only, takes no lock, and says what
// it can while the daemon is down.

import { clientCommand } from "../docker/client.ts";
import {
  type Complaint,
  type Existing,
  findExisting,
  findNetworks,
  findRunning,
  type Running,
} from "../docker/find.ts";
import type { Network } from "../docker/network.ts";
import { adviseOverlap, overlapsOf } from "../docker/overlaps.ts";
import { adviseUntrusted } from "../docker/proxy.ts";
import { mappingsOf, type PublishedContainer } from "../docker/published.ts";
import { type Fragments, ownersIn, textIn } from "../fragments/by-family.ts";
import { sortByBoot } from "../fragments/confirmed.ts";
import type { Problem } from "../generated/result.ts";
import { isManaged, readFragment } from "../iptables/fragment-text.ts";
import { readMeaning } from "../iptables/read.ts";
import type { PacketHost } from "../iptables/trace.ts";
import { describeCopies } from "../iptables/undeclared.ts";
import { someKeys } from "../model/decided-lists.ts";
import type { Directories } from "../model/directories.ts";
import { asFailure, Failure } from "../model/errors.ts";
import { FAMILIES, type Family } from "../model/family.ts";
import type { Options } from "../model/options.ts";
import { containerOf, isHostFile, spellOwner } from "../model/owner.ts";
import type { Defaults } from "../model/request.ts";
import type { HostSettings } from "../model/settings.ts";
import { describeUnconfirmed } from "../model/unconfirmed.ts";
import type { Host, HostRequest } from "../plan/backend.ts";
import { fragmentFor, keptOptions, type Listed as ListedFragment, optionsOf } from "../plan/desired.ts";
import { readDirectories, untrustedOf } from "../plan/directories.ts";
import { firewallProblems } from "../plan/firewalls.ts";
import { adviseUndeclared, whoseHostRules } from "../plan/foreign-rules.ts";
import { adviseHost, type DesiredHostRules, wantBase } from "../plan/host-rules.ts";
import { byContainer, hasRules, type Item, isLive, type Kernel } from "../plan/item.ts";
import { adviseInterfaces, adviseUnkept, type ListAdvice } from "../plan/lists.ts";
import { bridgesOf } from "../plan/preflight.ts";
import { closingOf } from "../plan/selection.ts";
import { type StaleFragment, sortSkipped } from "../plan/skipped.ts";
import { familiesOf, survey } from "../plan/survey.ts";
import { type ContainerFragment, containerFragment, type DesiredFragment } from "../rules/desired-fragment.ts";
import { NO_RULES } from "../rules/model.ts";
import { type PublishedPorts, publishedPorts } from "../rules/published-ports.ts";
import { readInterfaces } from "../system/interfaces.ts";
import { stateOf, timeOf } from "../system/state.ts";
import { findUnconfirmed, readNow } from "../system/unconfirmed-file.ts";
import { recordedSettings } from "../systemd/install.ts";
import type { Advice } from "../text/advice.ts";
import { readHost } from "./host.ts";
import { disagreements } from "./list-problems.ts";
import {
  brokenFragments,
  byDanger,
  differences,
  type Known,
  notRunning,
  onceFixed,
  orphans,
  refusedFragment,
  republishing,
  rivals,
  shadows,
  uncovered,
  untrusted,
} from "./problems.ts";
import { lookAtServices, type SeenServices } from "./services.ts";

/** One container that publishes, or has a fragment. */
export interface ContainerStatus {
  name: string;
  /** Its own. */
  options: Options;
  /** Undefined where it does not run, or the daemon cannot be asked. */
  target: PublishedContainer | undefined;
  items: Item[];
}

export interface Listed {
  published: (PublishedPorts & { live: boolean })[];
  warnings: string[];
}

export interface Status {
  statuses: ContainerStatus[];
  problems: Problem[];
  /** When the rules were last loaded with success. Undefined where nothing is known of it. */
  lastLoad: Date | undefined;
  warnings: string[];
}

export type StatusRequest = Pick<HostRequest, "settings" | "subject" | "host" | "client" | "defaults" | "loading">;

/** Of the containers that are named, or of all. Throws Failure of the directories and of iptables-save. */
export async function status(request: StatusRequest): Promise<Status> {
  const scene = await look(request);
  const around = await lookAround(scene, request);
  const lists = disagreements(scene.items, scene.publishing, scene.daemon.networks, around.host);
  const problems = [
    ...(await unconfirmedProblems(request.host.directories)),
    ...settingsProblems(request.settings),
    ...(await fragmentProblems(scene, request)),
    ...(await listProblems(scene)),
    ...lists.problems,
    ...(await hostProblems(scene, around, request)),
  ];
  const lastLoad = await findLastLoad(scene.families, request.host.directories);
  return { ...answer(scene, around, problems, lists.warnings), lastLoad };
}

/** Each load that ends well keeps the text that a boot falls back to; a change of one family loads that one alone. */
async function findLastLoad(families: readonly Family[], directories: Directories): Promise<Date | undefined> {
  const times = await Promise.all(families.map((family) => timeOf(stateOf(family, directories[family]), "rules")));
  return times.flatMap((time) => time ?? []).sort((a, b) => b.getTime() - a.getTime())[0];
}

/** What the containers that are named publish, or all, and whether it is live. Throws Failure of the client, and as `status`. */
export async function listPublished(request: StatusRequest): Promise<Listed> {
  const scene = await look(request);
  if (scene.daemon.failure !== undefined) throw scene.daemon.failure;
  const { names } = scene;
  const owned = byContainer(scene.items);
  const shown = scene.containers.filter(({ owner }) => names.length === 0 || names.includes(owner.name));
  const running = lookedAt(scene.daemon.running, scene.now);
  return {
    published: shown.flatMap((one) => {
      const live = isLive(owned.get(one.owner.name) ?? []);
      return publishedPorts(one).map((ports) => ({ ...ports, live }));
    }),
    warnings: names
      .filter((name) => !running.has(name))
      .map((name) => notListed(name, scene.daemon.existing.get(name))),
  };
}

function notListed(name: string, existing: Existing | undefined): string {
  if (existing === undefined) return `the container ${name} does not exist`;
  return existing.running ? `the container ${name} is not published` : `the container ${name} is ${existing.status}`;
}

/** What there is, and what there should be. */
async function look(request: StatusRequest): Promise<Scene> {
  const observed = await observe(request);
  const desired = await desire(observed, request);
  const wanted = [...desired.containers, ...desired.base.wanted];
  const { items } = await survey(wanted, observed.families, observed.live, request.host);
  const { existing } = observed.daemon;
  const names = request.subject.containers.map((name) => existing.get(name)?.name ?? name);
  return { ...observed, ...desired, items, names };
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
  const directories = readDirectories(host);
  const [now, live, daemon] = await Promise.all([
    directories,
    host.backend.read(families, host),
    directories.then((now) => askWhatRuns(now, request)),
  ]);
  const publishing = daemon.running.targets.filter(
    (target) => target.nothingPublished === undefined && mappingsOf(target).length > 0,
  );
  return { families, now, live, daemon, publishing };
}

/** What there should be. */
interface Desired {
  containers: ContainerFragment[];
  /** What is wrong with containers' lists, and what to do. */
  listed: Problem[];
  /** What this host lacks for containers' lists. */
  unkept: ListAdvice[];
  /** Those that are left alone and whose fragments stay. */
  staying: ReadonlySet<string>;
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
  const closing = closingOf(daemon.running.left, staying, defaults);
  const closed = new Set(closing.map(({ wanted }) => wanted.owner.name));
  const others = [...ownersIn(now)].filter((owner) => !published.has(owner) && !closed.has(owner));
  const made = publishing.map((target) => fragmentFor(target, defaults, defaults));
  const containers = [
    ...made.map(({ wanted }) => wanted),
    ...closing.map(({ wanted }) => wanted),
    ...others.map((owner) =>
      // A container that Docker cannot be asked about should be as its own file says.
      daemon.failure !== undefined || staying.has(owner)
        ? asWritten(owner, now, defaults)
        : containerFragment(owner, undefined, keptOptions(owner, now, defaults)),
    ),
  ];
  const able = families.filter((family) => live[family] !== undefined);
  const advice = await adviseHost(daemon.networks, able, client);
  const base = await baseOf(now, able, { networks: daemon.networks, daemon: advice.daemon }, defaults);
  const listed = [...made, ...closing].flatMap(problemsOfLists);
  const unkept = await adviseUnkept(containers, families, live, request);
  return { containers, listed, unkept, staying, untrue, advice, base };
}

interface Scene extends Observed, Desired {
  items: Item[];
  /** Of the containers that are asked about, also where an id was given; none are all. */
  names: string[];
}

/** What else there is on this host. */
interface Around {
  host: Awaited<ReturnType<typeof readHost>>;
  services: SeenServices;
  firewalls: { problems: Problem[]; warnings: string[] };
  declared: Fragments;
}

async function lookAround(scene: Scene, { host, loading, settings }: StatusRequest): Promise<Around> {
  const { now, live, families, daemon, advice, items } = scene;
  const { networks } = daemon;
  const bridges = networks.flatMap(({ bridge }) => bridge ?? []);
  const able = families.filter((family) => live[family] !== undefined);
  const seen = await readHost(live, bridges);
  const services = await lookAtServices(families, live, { host, loading, settings }, mayBeSetUp(now));
  const { declared, found } = await host.backend.lookAround({ families: able, now, networks, live }, host);
  const isOff = advice.daemon !== undefined && advice.managing === undefined;
  return { host: seen, services, firewalls: firewallProblems(found, items, isOff, loading), declared };
}

/** A change that waits for its confirmation, or was put back without one. */
async function unconfirmedProblems(directories: Directories): Promise<Problem[]> {
  const change = await findUnconfirmed(directories).catch(asFailure);
  if (change === undefined) return [];
  if (change instanceof Failure) return [{ kind: "unconfirmed", msg: change.message }];
  return problemsOf("unconfirmed", [describeUnconfirmed(change, await readNow())]);
}

/** What is compared is then held to the last that were valid. */
function settingsProblems({ unusable, path }: HostSettings): Problem[] {
  return unusable === undefined ? [] : [{ kind: "settings_unusable", path, msg: unusable.message }];
}

/** Whether setup may write the host rules: they are not somebody else's. */
function mayBeSetUp(now: Fragments): boolean {
  return !Object.values(now)
    .flat()
    .some((one) => isHostFile(one) && !isManaged(one.text));
}

/** What is wrong with the fragments and their rules. */
async function fragmentProblems(scene: Scene, request: StatusRequest): Promise<Problem[]> {
  const { now, live, daemon, publishing, untrue, items } = scene;
  const { host, loading, defaults, client } = request;
  const broken = await tryFragments(now, live, host);
  const once = loading.reload === "patch" ? "" : onceFixed(broken);
  const names = publishing.map(({ name }) => name);
  const left = new Set(daemon.running.left.map(({ name }) => name));
  const known = {
    ...{ targets: daemon.running.targets, existing: daemon.existing, client: clientCommand(client), left },
    staying: scene.staying,
    lasting: new Set(items.filter(hasRules).map(({ path }) => path)),
  };
  const isUnkept = ({ owner }: Item) => scene.unkept.some(({ container }) => container === spellOwner(owner));
  const found = items.filter((item) => !isUnkept(item)).flatMap((item) => differences(item, known, untrue, once));
  const runs = lookedAt(daemon.running, now);
  const isSaid = new Set([...found, ...daemon.unusable].map(({ container }) => container));
  const silent = scene.names.filter((name) => !runs.has(name) && !isSaid.has(name));
  return [
    ...broken,
    ...(daemon.failure === undefined ? notRunning(silent, known, [...runs, ...ownersIn(now)]) : []),
    ...(daemon.failure === undefined ? [] : [{ kind: "daemon_unreachable" as const, msg: daemon.failure.message }]),
    ...daemon.unusable.map(answerUnusable),
    ...found,
    ...(await staleOf(scene, known, once, host.directories)),
    ...rivals(now, items, known),
    ...orphans(now, live, names, once === ""),
    ...untrusted(await untrustedOf(now, [], host.directories)),
    ...uncovered(items, now, once, defaults.chain),
  ];
}

/** Those that run, but for those that are left alone and have no fragment. */
function lookedAt({ targets, left }: Pick<Running, "targets" | "left">, now: Fragments): Set<string> {
  const owners = ownersIn(now);
  const some = left.filter(({ name, why }) => why !== "disabled" || owners.has(name));
  return new Set([...targets, ...some].map(({ name }) => name));
}

/** What is wrong with lists of who may connect. */
async function listProblems({ containers, listed, unkept }: Scene): Promise<Problem[]> {
  const interfaces = await adviseInterfaces(containers);
  return [
    ...listed,
    ...unkept.map(({ container, what, hint }): Problem => ({ kind: "list_unsupported", container, msg: what, hint })),
    ...interfaces.map(({ container, what, hint }): Problem => ({ kind: "list_interface", container, msg: what, hint })),
  ];
}

function problemsOfLists({ wanted, closed, unused, idle }: ListedFragment): Problem[] {
  const container = wanted.owner.name;
  return [
    ...(closed === undefined
      ? []
      : [{ kind: "list_unreadable" as const, container, msg: `${container}: ${closed.what}`, hint: closed.hint }]),
    ...unused.map((key) => {
      const msg = `the list of ${container} for ${key} is about none of its ports: perhaps it publishes another one now`;
      const hint = `'docker_iptables ls ${container}' shows them, 'docker_iptables create ${container} --allow PORTS=SOURCES' gives it other lists`;
      return { kind: "list_unused" as const, container, msg, hint };
    }),
    ...(idle.length === 0
      ? []
      : [
          {
            kind: "list_unused" as const,
            container,
            msg: `the label of ${container} for ${someKeys(idle)} is about none of its ports, and everyone may connect to one of them`,
            hint: `'docker_iptables ls ${container}' shows its ports; correct the label, and recreate the container`,
          },
        ]),
  ];
}

/** What is wrong with the host. */
async function hostProblems(scene: Scene, around: Around, request: StatusRequest): Promise<Problem[]> {
  const { daemon, publishing, advice, base, items } = scene;
  const overlaps = overlapsOf(daemon.networks, await readInterfaces());
  return [
    ...shadows(items, publishing, daemon.networks, around.host),
    ...base.problems,
    ...problemsOf("network_overlaps", overlaps.map(adviseOverlap)),
    ...problemsOf("docker_proxy_untrusted", adviseUntrusted(around.host.untrusted)),
    ...advice.warnings.map((msg): Problem => ({ kind: "daemon_settings", msg })),
    ...around.services.problems,
    ...(await undeclaredOf(scene, request)),
    ...around.firewalls.problems,
  ];
}

function problemsOf(kind: Problem["kind"], all: readonly Advice[]): Problem[] {
  return all.map(({ what, hint }) => ({ kind, msg: what, hint }));
}

/** What is wrong with the host is wrong for each requested container (`names`; none names all). */
function answer(
  scene: Scene,
  around: Around,
  problems: readonly Problem[],
  listed: readonly string[],
): Omit<Status, "lastLoad"> {
  const { names, containers, publishing, items, daemon } = scene;
  const isAskedFor = (container: string | undefined) =>
    names.length === 0 || container === undefined || names.includes(container);
  const owned = byContainer(items);
  const published = new Map(publishing.map((target) => [target.name, target]));
  const statuses = containers
    .map(({ owner: { name }, options }) => ({
      ...{ name, options, target: published.get(name), items: owned.get(name) ?? [] },
    }))
    .filter(({ name }) => isAskedFor(name))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
  const runs = lookedAt(daemon.running, scene.now);
  const isRunning = (name: string) => runs.has(name) || daemon.existing.get(name)?.running === true;
  const unknown = names.filter((name) => !statuses.some((one) => one.name === name) && isRunning(name));
  return {
    statuses,
    problems: onceEach(problems.filter(({ container }) => isAskedFor(container))).sort(byDanger),
    warnings: [
      ...daemon.running.warnings,
      ...daemon.networks.flatMap(({ unreadOptions }) => unreadOptions),
      ...around.services.warnings,
      ...FAMILIES.flatMap((family) => describeCopies(around.declared[family] ?? [])),
      ...around.firewalls.warnings,
      ...new Set(listed),
      ...warnOfStart(publishing, items, around.host),
      ...unknown.map((name) =>
        daemon.existing.get(name)?.enabled === false
          ? `${name} is left out by its label, and has no fragment`
          : `${name} publishes nothing, and has no fragment`,
      ),
    ],
  };
}

/** What is wrong with a file that has both families is found in each. */
function onceEach(problems: readonly Problem[]): Problem[] {
  return [...new Map(problems.map((one) => [JSON.stringify(one), one])).values()];
}

/** Docker starts docker-proxy with the container, and a container's rules come after its start. */
function warnOfStart(
  targets: readonly PublishedContainer[],
  items: readonly Item[],
  { proxies }: PacketHost,
): string[] {
  const owned = byContainer(items);
  const proxied = new Set(proxies.map(({ address }) => address));
  const names = targets
    .filter(({ name }) => owned.get(name)?.some(({ meaning }) => meaning.some((rule) => "sources" in rule)))
    .filter(({ endpoints }) => endpoints.some(({ address }) => proxied.has(address)))
    .map(({ name }) => name);
  if (names.length === 0) return [];
  return [
    `docker-proxy answers everybody between the start of a container and its rules, lists or not (${names.join(", ")}); "userland-proxy": false in daemon.json closes that`,
  ];
}

function asWritten(owner: string, now: Fragments, defaults: Defaults): ContainerFragment {
  const meaning = { ...NO_RULES };
  const texts: NonNullable<ContainerFragment["asWritten"]> = {};
  for (const family of FAMILIES) {
    const text = textIn(now, family, owner);
    if (text === undefined) continue;
    meaning[family] = readMeaning(readFragment(text));
    texts[family] = text;
  }
  const options = keptOptions(owner, now, defaults);
  return { ...containerFragment(owner, undefined, options), meaning, asWritten: texts };
}

interface WhatRuns {
  running: Running;
  /** Those that exist, of the others that have a fragment, or are named. */
  existing: ReadonlyMap<string, Existing>;
  networks: Network[];
  unusable: Complaint[];
  /** Why it could not be asked. */
  failure: Failure | undefined;
}

async function askWhatRuns(
  now: Fragments,
  { subject, client, defaults }: Pick<HostRequest, "subject" | "client" | "defaults">,
): Promise<WhatRuns> {
  try {
    const owners = ownersIn(now);
    const finding = findRunning(owners, client, {
      optionsOf: (container) => optionsOf(container, now, defaults),
      network: defaults.network,
    });
    const [running, { networks, unusable }] = await Promise.all([finding, findNetworks(client)]);
    const runs = lookedAt(running, now);
    const others = [...owners, ...subject.containers].filter((name) => !runs.has(name));
    const existing = await findExisting([...new Set(others)].sort(), client);
    return { running, existing, networks, unusable: [...running.unusable, ...unusable], failure: undefined };
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    return {
      running: { targets: [], left: [], unusable: [], warnings: [], untrusted: [] },
      existing: new Map(),
      networks: [],
      unusable: [],
      failure: error,
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
    .some((one) => containerOf(one) === undefined && isManaged(one.text));
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
async function tryFragments(now: Fragments, live: Kernel, host: Host): Promise<Problem[]> {
  const found = await Promise.all(
    FAMILIES.map(async (family) => {
      const fragments = now[family] ?? [];
      const running = live[family];
      const malformed = brokenFragments(fragments);
      if (running === undefined || malformed.length > 0) return malformed;
      const { current } = await sortByBoot(host.directories[family], fragments).catch(() => ({ current: fragments }));
      const refused = await host.backend.findBroken(current, family, running, host);
      return refused === undefined ? [] : [refusedFragment(refused)];
    }),
  );
  return found.flat();
}

/** Except those that are to be removed anyway. */
async function staleOf(
  { now, items }: Scene,
  known: Pick<Known, "left" | "staying" | "lasting">,
  once: string,
  directories: Directories,
): Promise<Problem[]> {
  const going = new Set(items.map(({ path }) => path).filter((path) => !known.lasting.has(path)));
  const sorted = await Promise.all(
    FAMILIES.map((family) => sortByBoot(directories[family], now[family] ?? []).catch(() => ({ stale: [] }))),
  );
  return sorted
    .flatMap(({ stale }) => stale)
    .filter(({ path }) => !going.has(path))
    .map((one) => {
      const { path, text } = one;
      const container = containerOf(one) ?? "";
      const msg = `${path} is from before this boot, and is not loaded until it is confirmed`;
      const hint = `${republishing(container, text, known)} confirms it${once}`;
      return { kind: "fragment_stale", container, path, msg, hint };
    });
}

/** Rules that a load would remove; on a host that is set up for patch nothing loads. Docker's own go with the first setup. */
async function undeclaredOf(
  { now, live, daemon }: Pick<Scene, "now" | "live" | "daemon">,
  { host, loading }: Pick<HostRequest, "host" | "loading">,
): Promise<Problem[]> {
  if (loading.reload === "patch") return [];
  const bridges = whoseHostRules(now) === "none" ? bridgesOf(daemon.networks) : [];
  const foreign = await host.backend.findForeign(live, now, host, bridges);
  if (foreign.length === 0 || (await recordedSettings(host.timeout)).values.reload === "patch") return [];
  return problemsOf("rules_undeclared", foreign.map(adviseUndeclared));
}
