// plan: what there is to do, checked as it will be, and how the kernel will get it. Reads, and changes nothing.

import type { Fragments } from "../fragments/by-family.ts";
import { warnOfAccess } from "../model/access.ts";
import type { Request } from "../model/request.ts";
import { unconfirmedFailure } from "../model/unconfirmed.ts";
import { findUnconfirmed, readNow } from "../system/unconfirmed-file.ts";
import { verbose } from "../system/verbose.ts";
import type { HostRequest } from "./backend.ts";
import type { Compared } from "./compare.ts";
import type { Settled } from "./concurrency.ts";
import { untrustedOf } from "./directories.ts";
import { warnOfFirewalls } from "./firewalls.ts";
import { type HostPlan, hasHostChanges, NOTHING_PLANNED } from "./host-plan.ts";
import { type DesiredHostRules, warnOfHostRules } from "./host-rules.ts";
import { hasChanges, type Item, withoutDrifting } from "./item.ts";
import { describeLoader, describePatch, type Loader } from "./loader.ts";
import { planFormerUnits } from "./moving.ts";
import { NO_INCLUDE, planInclude } from "./nft-include.ts";
import { planSettings, warnOfSettings } from "./settings.ts";
import type { HostScene } from "./setup.ts";
import type { Survey } from "./survey.ts";
import { withChanges } from "./validate.ts";

/** All that a call is about to change. */
export interface Plan extends Load {
  settled: Settled;
}

/** What the kernel is to get. */
export interface Load {
  found: Survey;
  base: HostPlan;
  loader: Loader;
  /** Of owners that have no rules any more: their removed rules are never restored. */
  going: readonly Item[];
  /** Whether nothing else changes. Then nothing is undone, and rules are removed without a load if one is impossible. */
  closes: boolean;
}

export interface Planned {
  base: HostPlan;
  /** Undefined where there is nothing to do. */
  load: Load | undefined;
  warnings: string[];
}

type PlanRequest = Pick<
  HostRequest,
  | "args"
  | "origins"
  | "settings"
  | "confirm"
  | "subject"
  | "host"
  | "client"
  | "defaults"
  | "loading"
  | "watches"
  | "check"
>;

/** `desired` are the host's own rules, if the call is about them; `now` the fragments. Throws Failure for what cannot work. */
export async function plan(
  { found, going }: Compared,
  desired: DesiredHostRules | undefined,
  now: Fragments,
  request: PlanRequest,
): Promise<Planned> {
  const { items, live } = found;
  const { host, check } = request;
  const base = desired === undefined ? NOTHING_PLANNED : await planHost({ items, desired, live, now }, request);
  const future = withChanges(now, { files: base.files, items }, host.directories);
  const changing = items.filter(hasChanges);
  const changes = changing.length > 0 || hasHostChanges(base);
  const closes = request.subject.state === "absent" || (changes && onlyGoes(changing, going, base));
  // A pure removal needs no chain, and no fragment that can be loaded.
  if (!closes) host.backend.validate(items, future, request);
  const warnings = [
    ...(desired?.warnings ?? []),
    ...base.warnings,
    ...warnOfSettings(request, now),
    ...(desired?.daemon === undefined ? host.backend.warnOfDaemon(live) : []),
    ...host.backend.warnOfHost(items, future, request.defaults.chain),
    ...(await untrustedOf(now, items, host.directories)).map(warnOfAccess),
  ];
  if (!changes && (check || found.misfiled.length === 0))
    return { base, load: undefined, warnings: [...warnings, ...warnOfHostRules(now, live, request)] };
  const loader = await host.backend.chooseLoader({ found, base, future, closes }, request);
  verbose(() => describeLoader(loader, request.loading));
  const more = [
    ...warnOfLoader(loader, request),
    // A patch of a family puts back all of ours in it.
    ...(loader.kind === "patch" ? warnOfHostRules(now, withoutDrifting(live, changing), request) : []),
  ];
  return { base, load: { found, base, loader, going, closes }, warnings: [...warnings, ...more] };
}

async function planHost(scene: HostScene, request: PlanRequest): Promise<HostPlan> {
  await refuseUnconfirmed(request);
  const plan = await withMove(await request.host.backend.planHost(scene, request), scene.desired, request);
  const settings = planSettings(request);
  const usesNft = request.args.backend === "nft" || scene.desired.move !== undefined;
  const include = usesNft ? await planInclude(request) : NO_INCLUDE;
  return {
    ...plan,
    files: [...plan.files, ...include.files],
    warnings: [...plan.warnings, ...include.warnings],
    ...(settings === undefined ? {} : { settings }),
  };
}

async function withMove(
  plan: HostPlan,
  { move }: DesiredHostRules,
  { loading }: Pick<PlanRequest, "loading">,
): Promise<HostPlan> {
  if (move === undefined) return plan;
  const leaving = loading.reload === "none" ? [] : await planFormerUnits(move, plan.units);
  return {
    ...plan,
    move,
    files: [...plan.files, ...move.files],
    units: [...plan.units, ...leaving],
    warnings: [...plan.warnings, ...move.warnings],
  };
}

/**
 * What a second change would put back could not be told from the first. What was put back may be tried again; and without that, our own
 * rules alone follow the networks. Throws Failure `unconfirmed`.
 */
async function refuseUnconfirmed({ host }: PlanRequest): Promise<void> {
  const change = await findUnconfirmed(host.directories);
  if (change !== undefined && change.stage !== "distrusted") throw unconfirmedFailure(change, await readNow());
}

function onlyGoes(changing: readonly Item[], going: readonly Item[], base: HostPlan): boolean {
  return !hasHostChanges(base) && changing.every((item) => going.includes(item));
}

function warnOfLoader(loader: Loader, { subject, check }: Pick<Request, "subject" | "check">): string[] {
  if (loader.kind === "patch") return warnOfPatch(loader, check);
  return loader.kind === "systemd" && !subject.base && subject.state === "present" ? warnOfDisabled(loader) : [];
}

/** Rules that are live now, and are not loaded at the next boot. */
function warnOfDisabled({ units }: Extract<Loader, { kind: "systemd" }>): string[] {
  return units
    .filter(({ disabled }) => disabled)
    .map(({ name }) => `${name} is not enabled, so the rules are not loaded at boot; run 'systemctl enable ${name}'`);
}

/** Of foreign rules once, until it changes; a prediction says it each time. Only the families that are patched remember it. */
function warnOfPatch({ why }: Extract<Loader, { kind: "patch" }>, check: boolean): string[] {
  if (why === undefined) return [];
  const words = describePatch(why);
  const isReported = why.kind === "foreign" && why.rules.some(({ told }) => told === words);
  return isReported && !check ? [] : [words];
}

/** Other firewalls through which nothing comes to what changes. Never throws: where they cannot be asked nothing is said. */
export async function warnOfForeign(
  { items, live }: Survey,
  { subject, loading, host }: Pick<HostRequest, "subject" | "loading" | "host">,
): Promise<string[]> {
  const asks = subject.state === "present" && loading.reload !== "none";
  if (!asks) return [];
  const look = () => host.backend.otherFirewalls(live, host.timeout);
  return warnOfFirewalls(items.filter(hasChanges), look).catch(() => []);
}
