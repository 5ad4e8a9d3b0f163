// How the kernel will get the rules: chosen before anything is written.

import type { Fragments } from "../fragments/by-family.ts";
import { NOTHING_LIVE } from "../iptables/live.ts";
import { INGRESS_CHAIN, meshOf } from "../iptables/mesh.ts";
import { asFailure, type Failure } from "../model/errors.ts";
import { FAMILIES } from "../model/family.ts";
import { type Request, setsUp } from "../model/request.ts";
import { whatWaits } from "../system/unconfirmed-file.ts";
import { isLoader } from "../systemd/install.ts";
import { findUnit, isShuttingDown, type Unit } from "../systemd/units.ts";
import type { HostRequest } from "./backend.ts";
import { describeForeignRules, type ForeignRules, findForeignRules } from "./foreign-rules.ts";
import type { HostPlan } from "./host-plan.ts";
import { hasChanges } from "./item.ts";
import { adviseService, commandOf } from "./missing-service.ts";
import { servicesFor } from "./services.ts";
import type { Survey } from "./survey.ts";

export type Loader =
  | { kind: "none" | "restore" | "shutdown" }
  /** Only our own rules are replaced. Without `why` that was requested. */
  | { kind: "patch"; why?: PatchReason }
  | { kind: "systemd"; units: Unit[] }
  /** A load cannot be had. */
  | { kind: "unusable"; why: Failure };

/** Why no load is to be had, but a patch. */
export type PatchReason =
  | { kind: "swarm" }
  /** A fragment cannot be loaded. */
  | { kind: "broken"; failure: Failure }
  /** A change waits for its confirmation, or was put back without one. */
  | { kind: "unconfirmed"; what: string }
  /** A load would remove these. */
  | { kind: "foreign"; rules: readonly ForeignRules[] };

export type LoaderRequest = Pick<HostRequest, "subject" | "host" | "loading" | "confirm">;

/** What is to be loaded. */
export interface Loadable {
  found: Survey;
  base: HostPlan;
  /** The directories' fragments as they will be. */
  future: Fragments;
  /** Whether nothing but taking away is to be done. */
  closes: boolean;
}

/**
 * Throws Failure `unit_missing`, `unit_not_suitable`, unless the change only removes. The host rules have their own services. A
 * host that shuts down loads nothing for `absent`: systemd would refuse the job, and the rules end with the host.
 *
 * While there is a swarm's routing mesh only our own rules are replaced: dockerd changes its rules at any time, and a foreign
 * service knows nothing of them. The service that starts with the host rules is our own load, which keeps them.
 */
export async function chooseLoader(loadable: Loadable, request: LoaderRequest): Promise<Loader> {
  const { found, base, future } = loadable;
  const { subject, host, loading, confirm } = request;
  const { reload } = loading;
  if (reload === "none" || reload === "patch") return { kind: reload };
  const waiting = confirm === undefined ? await whatWaits(host.directories) : undefined;
  if (waiting !== undefined) return { kind: "patch", why: { kind: "unconfirmed", what: waiting } };
  const units = base.units.filter(isLoader);
  const starts = reload === "systemd" && units.some(({ start }) => start);
  if (isMeshed(found, future) && !starts) return { kind: "patch", why: { kind: "swarm" } };
  if (base.broken !== undefined) return { kind: "patch", why: { kind: "broken", failure: base.broken } };
  const isAsked = starts || replacesForeign(request);
  // What Docker left goes in any case.
  const bridges = base.leftovers.find((left) => left.kind === "rules")?.bridges;
  const beside = isAsked ? [] : await findForeignRules(found.live, future, host, bridges);
  const patch: Loader = { kind: "patch", why: { kind: "foreign", rules: beside } };
  if (reload === "restore") return beside.length > 0 ? patch : { kind: "restore" };
  if (setsUp(subject)) return beside.length > 0 ? patch : { kind: "systemd", units };
  if (subject.state === "absent" && (await isShuttingDown(host.timeout))) return { kind: "shutdown" };
  const services = await findServices(loadable, request);
  return services.kind === "systemd" && beside.length > 0 ? patch : services;
}

/** Whether rules that no fragment declares are saved, or dropped, on purpose. */
export function replacesForeign({ subject, loading }: Pick<Request, "subject" | "loading">): boolean {
  return subject.base && (loading.adopt || loading.replace);
}

function isMeshed({ live }: Survey, future: Fragments): boolean {
  return FAMILIES.some((family) => meshOf(live[family] ?? NOTHING_LIVE, future[family] ?? []).size > 0);
}

/** The services that load what changes. */
async function findServices({ found, closes }: Loadable, { subject, host }: LoaderRequest): Promise<Loader> {
  const { items, live } = found;
  const changing = FAMILIES.filter((one) => items.some((item) => item.family === one && hasChanges(item)));
  try {
    const units = await Promise.all(servicesFor(changing, host).map((required) => findUnit(required, host.timeout)));
    return { kind: "systemd", units };
  } catch (error) {
    const why = asFailure(await adviseService(error, live, host, commandOf(subject)));
    if (!closes) throw why;
    return { kind: "unusable", why };
  }
}

/** Which it is and why, for --verbose. */
export function describeLoader(loader: Loader, { reload }: Pick<Request["loading"], "reload">): string {
  const chosen = loader.kind === reload ? `loader: ${reload}, as asked for` : `loader: ${loader.kind}, not ${reload}`;
  switch (loader.kind) {
    case "patch":
      return loader.why === undefined ? chosen : `${chosen}: ${describePatch(loader.why)}`;
    case "unusable":
      return `${chosen}: ${loader.why.message}`;
    case "systemd":
      return `${chosen}: ${loader.units.map(({ verb, name, ours }) => `${verb} ${name}${ours ? "" : " (not ours)"}`).join(", ")}`;
    default:
      return chosen;
  }
}

/** That only our own rules were exchanged, and why. */
export function describePatch(why: PatchReason): string {
  switch (why.kind) {
    case "swarm":
      return `this host is in a swarm, whose routing mesh (${INGRESS_CHAIN}) a load could remove: only docker_iptables' own rules were replaced, as reload: patch does`;
    case "broken":
      // Whatever is wrong with a fragment, a new network still gets its guard.
      return `no other fragments can be loaded until this is fixed, so only docker_iptables' own rules were replaced: ${why.failure.message}`;
    case "unconfirmed":
      return `a ${why.what} is not confirmed, so only docker_iptables' own rules were replaced`;
    case "foreign":
      return describeForeignRules(why.rules);
  }
}

/** Whether a service of its own starts, which loads. */
export function startsService(loader: Loader): boolean {
  return loader.kind === "systemd" && loader.units.some(({ start }) => start);
}
