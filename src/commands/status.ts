// status: what is not as it should be, in the files, in the kernel and at the daemon. Reads only, takes no lock, and says what
// it can while the daemon is down.

import { findBroken } from "../apply/load.ts";
import { type Complaint, findNetworks, findRunning, type Running } from "../docker/find.ts";
import type { Network } from "../docker/network.ts";
import { overlapsOf, tellOverlap } from "../docker/overlaps.ts";
import { tellStrangers } from "../docker/proxy.ts";
import type { PublishedContainer } from "../docker/published.ts";
import { type Fragments, ownersIn, textIn } from "../fragments/by-family.ts";
import { sortByBoot } from "../fragments/confirmed.ts";
import type { Arguments } from "../generated/arguments.ts";
import type { Problem } from "../generated/result.ts";
import {
  type ContainerFragment,
  containerFragment,
  type DesiredFragment,
  isManaged,
  readFragment,
} from "../iptables/fragment-text.ts";
import { readMeaning } from "../iptables/read.ts";
import type { Ruleset } from "../iptables/rule.ts";
import { tellCopies } from "../iptables/undeclared.ts";
import { directoryOf } from "../model/directories.ts";
import { Failure } from "../model/errors.ts";
import { FAMILIES } from "../model/family.ts";
import { containerOf } from "../model/owner.ts";
import { fragmentFor, keptOptions, optionsOf } from "../plan/desired.ts";
import { readDirectories, untrustedOf } from "../plan/directories.ts";
import { firewallProblems } from "../plan/firewalls.ts";
import { declaredIn, describeUndeclared, findForeignRules } from "../plan/foreign-rules.ts";
import { adviseHost, type DesiredHostRules, servicesFor, unknownService, wantBase } from "../plan/host-rules.ts";
import { byContainer, hasRules, type Item, type Kernel } from "../plan/item.ts";
import { adviseService } from "../plan/missing-service.ts";
import { type PreflightFindings, runPreflight } from "../plan/preflight.ts";
import { sortSkipped } from "../plan/skipped.ts";
import { familiesOf, readKernel, survey } from "../plan/survey.ts";
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
  standings: ContainerStatus[];
  problems: Problem[];
  warnings: string[];
}

/** `names`: only of these containers; none names all. Throws Failure of the directories and of iptables-save. */
export async function status(args: Arguments, names: readonly string[]): Promise<Status> {
  const kernelArgs: Arguments = { ...args, reload: "restore" };
  const families = await familiesOf(args);
  // Whose fragments are there decides about whom the daemon is asked.
  const directories = readDirectories(args);
  const [now, live, daemon] = await Promise.all([
    directories,
    readKernel(families, kernelArgs),
    directories.then((now) => askWhatRuns(args, now)),
  ]);
  const { targets } = daemon.running;
  const { staying, untrue } = sortSkipped(daemon.running.left, now);
  const publishing = targets.filter(({ idle, publishes }) => idle === undefined && publishes.length > 0);
  const published = new Map(publishing.map((target) => [target.name, target]));
  const owners = ownersIn(now);
  const wanted = [
    ...publishing.map((target) => fragmentFor(target, args).wanted),
    ...[...owners]
      .filter((owner) => !published.has(owner))
      .map((owner) =>
        // What nobody can be asked about should be as its own file says.
        daemon.problem !== undefined || staying.has(owner)
          ? asWritten(owner, now)
          : containerFragment(owner, undefined, keptOptions(owner, now, args)),
      ),
  ];
  const able = families.filter((family) => live[family] !== undefined);
  const advice = await adviseHost(daemon.networks, able, args);
  const base = await baseOf(now, able, { ...daemon, ...advice }, args);
  const { items } = await survey([...wanted, ...base.wanted], families, live, args);
  const host = await readHost(
    live,
    daemon.networks.flatMap(({ bridge }) => bridge ?? []),
  );
  const services = await lookAtServices(families, live, args);
  const overlaps = overlapsOf(daemon.networks, await readInterfaces());
  const declared = await declaredIn(now, live, args);
  const around = await runPreflight(able, declared, daemon.networks, live, args).catch(nobodyAround);
  const firewalls = firewallProblems(around, items, advice.daemon !== undefined && advice.managing === undefined, args);
  const broken = await tryFragments(now, live, args);
  const once = args.reload === "patch" ? "" : onceFixed(broken);
  const problems = [
    ...broken,
    ...(daemon.problem === undefined ? [] : [daemon.problem]),
    ...daemon.unusable.map(answerUnusable),
    ...items.flatMap((item) => differences(item, targets, untrue, once)),
    ...(await staleOf(now, items, once, args)),
    ...rivals(now, items),
    ...orphans(
      now,
      live,
      publishing.map(({ name }) => name),
      once === "",
    ),
    ...untrusted(await untrustedOf(now, [], args)),
    ...uncovered(items, now, once, args),
    ...shadows(items, publishing, daemon.networks, host),
    ...base.problems,
    ...overlaps.map((overlap): Problem => ({ kind: "network_overlaps", msg: tellOverlap(overlap) })),
    ...tellStrangers(host.strangers).map((msg): Problem => ({ kind: "docker_proxy_untrusted", msg })),
    ...advice.warnings.map((msg): Problem => ({ kind: "daemon_settings", msg })),
    ...services.problems,
    ...(await undeclaredOf(now, live, args)),
    ...firewalls.problems,
  ];
  // What is wrong with the host is wrong for each container.
  const isAskedFor = (container: string | undefined) =>
    names.length === 0 || container === undefined || names.includes(container);
  const owned = byContainer(items);
  const standings = wanted
    .map(({ owner: { name } }) => ({ name, target: published.get(name), items: owned.get(name) ?? [] }))
    .filter(({ name }) => isAskedFor(name))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
  const known = wanted.map(({ owner }) => owner.name);
  const unknown = names.filter((name) => !standings.some((one) => one.name === name));
  return {
    standings,
    problems: problems.filter(({ container }) => isAskedFor(container)),
    warnings: [
      ...daemon.running.warnings,
      ...services.warnings,
      ...FAMILIES.flatMap((family) => tellCopies(declared[family] ?? [])),
      ...firewalls.warnings,
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
  const rules: Ruleset = { ipv4: {}, ipv6: {} };
  const meaning = { ...NO_RULES };
  const texts: DesiredFragment["texts"] = {};
  for (const family of FAMILIES) {
    const text = textIn(now, family, owner);
    if (text === undefined) continue;
    const tables = readFragment(text);
    rules[family] = Object.fromEntries([...tables].map(([table, lines]) => [table, [...lines]]));
    meaning[family] = readMeaning(tables);
    texts[family] = text;
  }
  return { ...containerFragment(owner), meaning, rules, texts };
}

interface WhatRuns {
  running: Running;
  networks: Network[];
  unusable: Complaint[];
  /** Why it could not be asked. */
  problem: Problem | undefined;
}

async function askWhatRuns(args: Arguments, now: Fragments): Promise<WhatRuns> {
  try {
    const running = findRunning(args, ownersIn(now), (container) => optionsOf(container, now, args));
    const [found, { networks, unusable }] = await Promise.all([running, findNetworks(args)]);
    return { running: found, networks, unusable: [...found.unusable, ...unusable], problem: undefined };
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    const problem: Problem = { kind: "daemon_unreachable", msg: error.message };
    return {
      running: { targets: [], left: [], unusable: [], warnings: [], strangers: [] },
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
  families: Awaited<ReturnType<typeof familiesOf>>,
  { networks, daemon }: Pick<DesiredHostRules, "networks" | "daemon">,
  args: Arguments,
): Promise<{ wanted: DesiredFragment[]; problems: Problem[] }> {
  const hasOwn = Object.values(now)
    .flat()
    .some(({ path, text }) => containerOf(path) === undefined && isManaged(text));
  if (!hasOwn || networks.length === 0) return { wanted: [], problems: [] };
  try {
    const { wanted } = await wantBase(networks, families, daemon, args);
    return { wanted, problems: [] };
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    return { wanted: [], problems: [{ kind: "base_outdated", msg: error.message }] };
  }
}

/** Fragments that stop a load, in their form or in a trial. */
async function tryFragments(now: Fragments, live: Kernel, args: Arguments): Promise<Problem[]> {
  const found = await Promise.all(
    FAMILIES.map(async (family) => {
      const fragments = now[family] ?? [];
      const running = live[family];
      const malformed = brokenFragments(fragments);
      if (running === undefined || malformed.length > 0) return malformed;
      const { current } = await sortByBoot(directoryOf(family, args), fragments).catch(() => ({ current: fragments }));
      const wishes = { family, directory: directoryOf(family, args), timeout: args.timeout, live: running };
      const refused = await findBroken(current, wishes, running);
      return refused === undefined ? [] : [refusedFragment(refused)];
    }),
  );
  return found.flat();
}

/** But for those that are to go anyway. */
async function staleOf(now: Fragments, items: readonly Item[], once: string, args: Arguments): Promise<Problem[]> {
  const going = new Set(items.filter((item) => !hasRules(item)).map(({ path }) => path));
  const sorted = await Promise.all(
    FAMILIES.map((family) => sortByBoot(directoryOf(family, args), now[family] ?? []).catch(() => ({ stale: [] }))),
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

/** Rules that a load would lose; on a host that is set up for patch nothing loads. */
async function undeclaredOf(now: Fragments, live: Kernel, args: Arguments): Promise<Problem[]> {
  if (args.reload === "patch") return [];
  const strangers = await findForeignRules(live, now, args);
  if (strangers.length === 0 || (await recordedArguments(args.timeout)).reload === "patch") return [];
  return strangers.map((one): Problem => ({ kind: "rules_undeclared", msg: describeUndeclared(one) }));
}

async function lookAtServices(
  families: readonly (typeof FAMILIES)[number][],
  live: Kernel,
  args: Arguments,
): Promise<{ problems: Problem[]; warnings: string[] }> {
  const problems: Problem[] = [];
  const warnings: string[] = [];
  if (args.reload !== "systemd") return { problems, warnings };
  for (const wish of servicesFor(families, args)) {
    try {
      const properties = await showUnit(wish.unit, args.timeout);
      const { ours } = await judgeUnit(wish, properties);
      if (!ours) warnings.push(unknownService(wish.unit));
      if (properties.get("ActiveState") === "failed") {
        const msg = `${wish.unit} has failed; 'journalctl --unit ${wish.unit}' says why`;
        problems.push({ kind: "service_unusable", msg });
      }
    } catch (error) {
      const advised = await adviseService(error, live, args, "status");
      if (!(advised instanceof Failure)) throw advised;
      problems.push({ kind: "service_unusable", msg: advised.message });
    }
  }
  return { problems, warnings };
}
