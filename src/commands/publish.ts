// present and absent, of containers and of the base: the straight line from a request to an outcome. Up to `commit`
// nothing changes the system; check mode stops there.

import {
  chooseLoader,
  describeLoader,
  type Load,
  type Loader,
  namesOf,
  type Reloaded,
  withoutLoad,
} from "../apply/reload.ts";
import { commit, type Plan } from "../apply/transaction.ts";
import { findNetworks, type Networks, type Tell } from "../docker/find.ts";
import { type Fragments, ownersIn } from "../fragments/by-family.ts";
import type { Arguments } from "../generated/arguments.ts";
import type { DesiredFragment } from "../iptables/fragment-text.ts";
import { hasDockersRules } from "../iptables/live.ts";
import { warnOfAccess } from "../model/access.ts";
import { asFailure, ConcurrentChange, Failure } from "../model/errors.ts";
import { containersAmong } from "../model/owner.ts";
import type { Request } from "../model/request.ts";
import { readStamped, type SeenDirectories } from "../plan/concurrency.ts";
import { settleConflicts } from "../plan/conflicts.ts";
import { untrustedOf } from "../plan/directories.ts";
import { warnOfFirewalls } from "../plan/firewalls.ts";
import { fitDirectAccess } from "../plan/guards.ts";
import { type HostPlan, hasHostChanges, NOTHING_PLANNED } from "../plan/host-plan.ts";
import { type DesiredHostRules, desiredHostRules, keepForeignFiles, planHost } from "../plan/host-rules.ts";
import { goingOf, hasChanges, type Item, isContainers, type Kernel } from "../plan/item.ts";
import { type NotPublished, type Selection, select, withOrphans } from "../plan/selection.ts";
import { familiesOf, readKernel, type Survey, survey } from "../plan/survey.ts";
import { validate, warnOfLoopback, warnOfUncovered, withChanges } from "../plan/validate.ts";
import { verbose } from "../system/verbose.ts";

export interface Outcome extends Omit<Selection, "wanted"> {
  /** All fragments asked for, in the order of their names, and those of neighbours that are put right with them. */
  wanted: DesiredFragment[];
  /** The names of those neighbours. */
  neighbours: string[];
  items: Item[];
  /** Undefined where the base was not asked for. */
  base: { networks: string[]; plan: HostPlan } | undefined;
  committed: Reloaded;
}

const NO_NETWORKS = Promise.resolve<Networks>({ networks: [], unusable: [] });

/** How often other processes may come between our look and our turn to write. */
const ATTEMPTS = 5;

/** Throws Failure. `signal` ends a wait; once something was written, the transaction is finished or rolled back. */
export async function publish(request: Request, signal: AbortSignal, tell: Tell = () => {}): Promise<Outcome> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await publishOnce(request, signal, tell);
    } catch (error) {
      if (!(error instanceof ConcurrentChange) || error.changed || attempt === ATTEMPTS) throw error;
      verbose(() => `retry: attempt ${attempt + 1} of ${ATTEMPTS}, because ${error.message}`);
    }
  }
}

async function publishOnce({ args, check, options }: Request, signal: AbortSignal, tell: Tell): Promise<Outcome> {
  // A fragment that is written after this look is of somebody who asks the client later, and not this call's to change.
  const before = await readStamped(args).catch(orLater(args));
  const since = performance.now();
  // The client and this host need not wait for each other. But of two failures the client's is told, and after a wait for a
  // container the host is looked at anew.
  // The daemon's networks are asked for first: where its socket starts it, it makes rules before it answers.
  const asking = args.base && args.state === "present" ? findNetworks(args) : NO_NETWORKS;
  const looking = asking.then(
    () => lookAround(args, before),
    () => lookAround(args, before),
  );
  looking.catch(() => {});
  const named = await select({ args, check, options }, before?.now ?? {}, signal, tell);
  const { possible, live, seen } = await (named.waited ? lookAround(args) : looking);
  const { now } = seen;
  const asked = withOrphans(named, now, live, args);
  const families = possible.filter((family) => !args.base || args.reload === "none" || live[family] !== undefined);
  const { networks, unusable } = await asking;
  const base = args.base ? await desiredHostRules(networks, families, args) : undefined;
  const [head, tail] = base?.wanted ?? [];
  const neighbours = await settleConflicts(asked, now, args);
  const guarded = await fitDirectAccess([...asked.wanted, ...neighbours.wanted], live, args.timeout);
  const wanted = [head, ...guarded.wanted, tail].filter((one) => one !== undefined);
  const all = await survey(wanted, families, live, args);
  const { items, warnings: kept } = keepForeignFiles(all.items);
  const found = { ...all, items };
  const answer = { wanted: named.wanted, options, since, waited: named.waited };
  const settled = { asked: asked.wanted, neighbours: neighbours.wanted, seen, answer };
  const going = goingOf(items).filter((item) => args.state === "absent" || isContainers(item));
  // Whatever stops the rest: a container's rules would lead to whoever gets its address next. Those of the base lead to nobody.
  const leading = going.filter(isContainers);
  const goAnyway = async (error: unknown): Promise<never> => {
    if (check) throw error;
    throw await unpublishAnyway(asFailure(error), { found: { ...found, items: leading }, settled }, args);
  };
  const decided = await decide(found, going, base, now, { args, check }).catch(goAnyway);
  const outcome: Outcome = {
    ...asked,
    idle: [...asked.idle, ...withoutRules(items, now, args)],
    wanted,
    neighbours: neighbours.wanted.map(({ owner }) => owner.name),
    items,
    base: base && {
      networks: base.networks.filter(({ bridge }) => bridge).map(({ name }) => name),
      plan: decided.base,
    },
    committed: { reloaded: [], warnings: [], live },
    warnings: onceEach([
      ...unusable.map(({ msg }) => `${msg}; the base does not cover it`),
      ...asked.warnings,
      ...neighbours.warnings,
      ...guarded.warnings,
      ...kept,
      ...decided.warnings,
    ]),
  };
  const { load } = decided;
  if (load === undefined) verbose(() => "nothing to change");
  if (load === undefined || check) return outcome;
  if (signal.aborted) throw new Failure("interrupted", "interrupted before anything was changed");
  const committing = commit({ ...load, settled }, args);
  return { ...outcome, committed: await (load.closes ? committing : committing.catch(goAnyway)) };
}

interface Decided {
  base: HostPlan;
  /** Undefined where there is nothing to do. */
  load: Load | undefined;
  warnings: string[];
}

/** What there is to do, and how the kernel will get it. Throws Failure for what cannot work. */
async function decide(
  found: Survey,
  going: readonly Item[],
  wishes: DesiredHostRules | undefined,
  now: Fragments,
  { args, check }: Pick<Request, "args" | "check">,
): Promise<Decided> {
  const base = wishes === undefined ? NOTHING_PLANNED : await planHost(found.items, wishes, found.live, now, args);
  const future = withChanges(now, [...base.files, ...found.items], args);
  const changing = found.items.filter(hasChanges);
  const changes = changing.length > 0 || hasHostChanges(base);
  const known = new Set(going);
  const onlyGoes = changes && !hasHostChanges(base) && changing.every((item) => known.has(item));
  const closes = args.state === "absent" || onlyGoes;
  validate(found.items, future, closes, args);
  const warnings = [
    ...(wishes?.warnings ?? []),
    ...base.warnings,
    ...(wishes?.daemon === undefined ? warnOfDocker(found.live) : []),
    ...warnOfUncovered(found.items, future),
    ...warnOfLoopback(found.items, future, args),
    ...(await untrustedOf(now, found.items, args)).map(warnOfAccess),
  ];
  if (!changes && (check || found.misfiled.length === 0)) return { base, load: undefined, warnings };
  const loader = await chooseLoader(found, base, future, closes, args);
  verbose(() => describeLoader(loader, args));
  const asksFirewalls = args.state === "present" && args.reload !== "none";
  return {
    base,
    load: { found, base, loader, going, closes },
    warnings: [
      ...warnings,
      ...warnOfDisabled(loader, args),
      ...warnOfPatch(loader, check),
      ...(asksFirewalls ? await warnOfFirewalls(changing, found.live, args.timeout) : []),
      // The deed says what came of it.
      ...(check && loader.kind === "unusable" ? [withoutLoad(loader.why)] : []),
    ],
  };
}

/**
 * Takes away what goes, though the rest failed or cannot work. Returns the failure that says so; Overtaken where another
 * process has written in between.
 */
async function unpublishAnyway(why: Failure, { found, settled }: Pick<Plan, "found" | "settled">, args: Arguments) {
  const going = found.items.filter(hasChanges);
  if (why instanceof ConcurrentChange || going.length === 0) return why;
  const loader: Loader = args.reload === "none" ? { kind: "none" } : { kind: "unusable", why };
  const plan = { found: { ...found, misfiled: [] }, settled, base: NOTHING_PLANNED, loader, going, closes: true };
  const failed = await commit(plan, args).then(() => undefined, asFailure);
  if (failed instanceof ConcurrentChange) return failed;
  const names = namesOf(going);
  const done = failed === undefined ? `unpublished all the same: ${names}` : `NOT unpublished: ${names}`;
  const told = new Failure(why.code, `${why.message}; ${done}`, why.facts, { cause: why });
  told.rolledBack = why.rolledBack;
  told.changed = why.changed || (failed?.changed ?? true);
  return told;
}

/** A container and the base may tell the same of a network or of the host. */
function onceEach(warnings: readonly string[]): string[] {
  return [...new Set(warnings)];
}

/** Of what is to be absent and is nowhere, that it is so; perhaps another name was meant. */
function withoutRules(items: readonly Item[], now: Fragments, { state, all, reload }: Arguments): NotPublished[] {
  if (state !== "absent" || all) return [];
  const what = reload === "none" ? "fragment" : "rules";
  const others = ownersIn(now);
  const names = new Set(containersAmong(items.map(({ owner }) => owner)));
  const changing = new Set(containersAmong(items.filter(hasChanges).map(({ owner }) => owner)));
  return [...names]
    .filter((name) => !changing.has(name))
    .map((name) => ({ name, why: { kind: "absent_already", what, others } }));
}

/** Rules that are live now, and are not loaded at the next boot. */
function warnOfDisabled(loader: Loader, { base, state }: Arguments): string[] {
  if (loader.kind !== "systemd" || base || state === "absent") return [];
  return loader.units
    .filter(({ disabled }) => disabled)
    .map(
      ({ name }) =>
        `${name} is not enabled, so nobody loads the rules at boot; 'systemctl enable ${name}' changes that`,
    );
}

/** Of strangers' rules once, until it changes; a prediction says it each time. Only the families that are patched remember it. */
function warnOfPatch(loader: Loader, check: boolean): string[] {
  if (loader.kind !== "patch" || loader.why === undefined) return [];
  const isTold = loader.beside?.some(({ told }) => told === loader.why) ?? false;
  return isTold && !check ? [] : [loader.why];
}

/** Of two failures the client's is told, which is asked meanwhile: then the directories' comes later, or not at all. */
function orLater({ all }: Arguments): (error: unknown) => undefined {
  return (error) => {
    if (all) throw error;
    return undefined;
  };
}

/** The host's families, its kernel's rules, and its directories unless they were looked at before. */
async function lookAround(args: Arguments, before?: SeenDirectories) {
  const possible = await familiesOf(args);
  const [live, seen] = await Promise.all([readKernel(possible, args), before ?? readStamped(args)]);
  return { possible, live, seen };
}

function warnOfDocker(live: Kernel): string[] {
  const daemons = Object.entries(live).filter(([, rules]) => hasDockersRules(rules));
  return daemons.map(
    ([family]) =>
      `the Docker daemon manages ${family === "ipv4" ? "iptables" : "ip6tables"} itself (nat jumps to its chain DOCKER); ` +
      `start it with --${family === "ipv4" ? "iptables" : "ip6tables"}=false, or do without docker_iptables`,
  );
}
