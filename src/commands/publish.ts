// present and absent, of containers and of the host's own rules: the straight line from a request to an outcome. Up to `commit`
// nothing changes the system; check mode stops there.

import { type Committed, commit } from "../apply/transaction.ts";
import { describeWithoutLoad, namesOf } from "../apply/unload.ts";
import { type Listener, NOBODY_LISTENS } from "../docker/find.ts";
import { type Fragments, ownersIn } from "../fragments/by-family.ts";
import type { Result } from "../generated/result.ts";
import { asFailure, ConcurrentChange, Failure } from "../model/errors.ts";
import { containersAmong } from "../model/owner.ts";
import type { HostRequest } from "../plan/backend.ts";
import { type Compared, compare } from "../plan/compare.ts";
import type { Settled } from "../plan/concurrency.ts";
import { settleConflicts } from "../plan/conflicts.ts";
import { type HostPlan, hasHostChanges, NOTHING_PLANNED } from "../plan/host-plan.ts";
import { type DesiredHostRules, desiredHostRules } from "../plan/host-rules.ts";
import { hasChanges, type Item, isContainers } from "../plan/item.ts";
import { holdLists } from "../plan/lists.ts";
import type { Loader } from "../plan/loader.ts";
import { type Observed, observe } from "../plan/observe.ts";
import { type Planned, plan, warnOfForeign } from "../plan/plan.ts";
import type { NotPublished, Selection } from "../plan/selection.ts";
import type { Survey } from "../plan/survey.ts";
import type { ContainerFragment, DesiredFragment } from "../rules/desired-fragment.ts";
import { verbose } from "../system/verbose.ts";

export interface Outcome extends Omit<Selection, "wanted"> {
  /** All requested fragments, in the order of their names, and those of conflicting containers that are updated with them. */
  wanted: DesiredFragment[];
  /** Their rules, as they are written. */
  rules: NonNullable<Result["rules"]>;
  /** The names of these conflicting containers. */
  conflicting: string[];
  items: Item[];
  /** Undefined where the host rules were not requested. */
  base: { networks: string[]; plan: HostPlan } | undefined;
  committed: Committed;
}

/** How often other processes may write between our read and our turn to write. */
const ATTEMPTS = 5;

/** Throws Failure. `signal` ends a wait; once something was written, the transaction is finished or rolled back. */
export async function publish(
  request: HostRequest,
  signal: AbortSignal,
  listener: Listener = NOBODY_LISTENS,
): Promise<Outcome> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await publishOnce(request, signal, listener);
    } catch (error) {
      if (!(error instanceof ConcurrentChange) || error.changed || attempt === ATTEMPTS) throw error;
      verbose(() => `retry: attempt ${attempt + 1} of ${ATTEMPTS}, because ${error.message}`);
    }
  }
}

async function publishOnce(request: HostRequest, signal: AbortSignal, listener: Listener): Promise<Outcome> {
  const observed = await observe(request, signal, listener);
  const desired = await desire(observed, request);
  const compared = await compare(desired.wanted, observed.families, observed.live, request);
  const settled = settle(observed, desired);
  const orUnpublish = (error: unknown) => unpublishAnyway(asFailure(error), compared, settled, request);
  const planned = await plan(compared, desired.base, observed.seen.now, request).catch(orUnpublish);
  const outcome = foretell({ observed, desired, compared, planned }, request);
  const { load } = planned;
  if (load === undefined) verbose(() => "nothing to change");
  if (load === undefined) return withBarriers(outcome, request);
  // Others' firewalls are looked at as they are before the host's part changes, which may take some away; for containers meanwhile.
  const looking = warnOfForeign(load.found, request);
  if (request.check || hasHostChanges(load.base)) await looking;
  if (request.check) return withBarriers(warnedOf(outcome, await looking), request);
  if (signal.aborted) throw new Failure("interrupted", "interrupted before anything was changed");
  const committing = commit({ ...load, settled }, request);
  const committed = await (load.closes ? committing : committing.catch(orUnpublish));
  return withBarriers(warnedOf({ ...outcome, committed }, await looking), request);
}

/** What there should be. */
interface Desired {
  /** All of it: the host's first file, containers, the host's last file. */
  wanted: DesiredFragment[];
  base: DesiredHostRules | undefined;
  /** Other containers' fragments that claim what is requested, updated. */
  conflicting: ContainerFragment[];
  /** In the order in which they are printed: of conflicting containers, of what this kernel cannot load. */
  warnings: string[];
}

async function desire({ asked, families, live, seen, networks }: Observed, request: HostRequest): Promise<Desired> {
  const base = request.subject.base ? await desiredHostRules(networks.networks, families, request) : undefined;
  const conflicting = await settleConflicts(asked, seen.now, request);
  const held = await holdLists([...asked.wanted, ...conflicting.wanted], families, live, request);
  const fitted = await request.host.backend.fit(held.wanted, live, request.host.timeout);
  const [head, tail] = base?.wanted ?? [];
  const names = new Set(fitted.wanted.map(({ owner }) => owner.name));
  const moved = (base?.move?.containers ?? []).filter(({ owner }) => !names.has(owner.name));
  return {
    wanted: [head, ...fitted.wanted, ...moved, tail].filter((one) => one !== undefined),
    base,
    conflicting: conflicting.wanted,
    warnings: [...conflicting.warnings, ...held.warnings, ...fitted.warnings],
  };
}

/** What must still hold when it is this call's turn to write. */
function settle({ asked, answer, seen }: Observed, { conflicting }: Desired): Settled {
  return { asked: asked.wanted, conflicting, seen, answer };
}

interface Phases {
  observed: Observed;
  desired: Desired;
  compared: Compared;
  planned: Planned;
}

/** The outcome before anything is changed. */
function foretell({ observed, desired, compared, planned }: Phases, request: HostRequest): Outcome {
  const { asked, live, seen, networks } = observed;
  const { items } = compared.found;
  const { base, load } = planned;
  return {
    ...asked,
    notPublished: [...asked.notPublished, ...withoutRules(desired.wanted, items, seen.now, request)],
    wanted: desired.wanted,
    rules: request.host.backend.listRules(desired.wanted),
    conflicting: desired.conflicting.map(({ owner }) => owner.name),
    items,
    base: desired.base && { networks: bridged(desired.base), plan: base },
    committed: { reloaded: [], warnings: [], live },
    warnings: onceEach([
      ...networks.unusable.map(({ msg }) => `${msg}; the host rules do not cover it`),
      ...asked.warnings,
      ...desired.warnings,
      ...compared.warnings,
      ...planned.warnings,
      // Where it is done, the answer says what came of it.
      ...(request.check && load?.loader.kind === "unusable" ? [describeWithoutLoad(load.loader.why)] : []),
    ]),
  };
}

function warnedOf(outcome: Outcome, more: readonly string[]): Outcome {
  return { ...outcome, warnings: onceEach([...outcome.warnings, ...more]) };
}

/** That rules of others in the kernel, as it is at the end, hide ours. */
function withBarriers(outcome: Outcome, { host }: Pick<HostRequest, "host">): Outcome {
  const { committed, items } = outcome;
  const warnings = [...committed.warnings, ...host.backend.warnOfBarriers(items, committed.live)];
  return { ...outcome, committed: { ...committed, warnings } };
}

function bridged({ networks }: DesiredHostRules): string[] {
  return networks.filter(({ bridge }) => bridge).map(({ name }) => name);
}

/**
 * Removes what is to be removed, though the rest failed or cannot work: a container's rules would lead to the next container with
 * its address. The host rules lead to none. Throws the failure that says so; ConcurrentChange where another process has written in
 * between.
 */
async function unpublishAnyway(
  why: Failure,
  { found, going }: Compared,
  settled: Settled,
  request: HostRequest,
): Promise<never> {
  const leading = going.filter(isContainers).filter(hasChanges);
  if (request.check || why instanceof ConcurrentChange || leading.length === 0) throw why;
  const failed = await removeAnyway(why, { ...found, items: going.filter(isContainers) }, settled, request);
  if (failed instanceof ConcurrentChange) throw failed;
  const names = namesOf(leading);
  const done = failed === undefined ? `unpublished anyway: ${names}` : `NOT unpublished: ${names}`;
  const combined = new Failure(why.code, `${why.message}; ${done}`, why.facts, { cause: why });
  combined.rolledBack = why.rolledBack;
  combined.changed = why.changed || (failed?.changed ?? true);
  throw combined;
}

async function removeAnyway(
  why: Failure,
  found: Survey,
  settled: Settled,
  request: HostRequest,
): Promise<Failure | undefined> {
  const loader: Loader = request.loading.reload === "none" ? { kind: "none" } : { kind: "unusable", why };
  const going = found.items.filter(hasChanges);
  const removal = { found: { ...found, misfiled: [] }, settled, base: NOTHING_PLANNED, loader, going, closes: true };
  return commit(removal, request).then(() => undefined, asFailure);
}

/** A container and the host rules may have the same warning of a network or of the host. */
function onceEach(warnings: readonly string[]): string[] {
  return [...new Set(warnings)];
}

/** Of what is to be absent and is nowhere, that it is so; perhaps another name was meant. */
function withoutRules(
  wanted: readonly DesiredFragment[],
  items: readonly Item[],
  now: Fragments,
  { subject, loading }: Pick<HostRequest, "subject" | "loading">,
): NotPublished[] {
  if (subject.state !== "absent" || subject.all) return [];
  const what = loading.reload === "none" ? "fragment" : "rules";
  const others = ownersIn(now);
  const names = new Set(containersAmong(wanted.map(({ owner }) => owner)));
  const changing = new Set(containersAmong(items.filter(hasChanges).map(({ owner }) => owner)));
  return [...names]
    .filter((name) => !changing.has(name))
    .map((name) => ({ name, why: { kind: "absent_already", what, others } }));
}
