// Outcome or failure -> Result, the one JSON object of the contract. No string in it is obeyed by a terminal: Salt and Ansible
// print some of them as they are. Pure.

import type { Waits } from "../apply/confirmation.ts";
import type { Confirmed, Outcome as Reverted } from "../commands/confirm.ts";
import type { Explained, Explanation } from "../commands/explain.ts";
import type { Outcome } from "../commands/publish.ts";
import type { ContainerStatus, Listed, Status } from "../commands/status.ts";
import { describeNothingPublished } from "../docker/nothing-published.ts";
import { reachableOf } from "../docker/published.ts";
import type { FileDiff, FileResult, Result } from "../generated/result.ts";
import { hasDrift } from "../iptables/live.ts";
import { warnOfAccess } from "../model/access.ts";
import { asFailure, type Failure } from "../model/errors.ts";
import { FAMILIES, FAMILY_WORDS } from "../model/family.ts";
import { containersAmong } from "../model/owner.ts";
import { bracketed, spellPublish } from "../model/port-mapping.ts";
import type { Request, Subject } from "../model/request.ts";
import { spellUndone } from "../model/rolled-back.ts";
import { spellSources } from "../model/sources.ts";
import { timeOfDay } from "../model/unconfirmed.ts";
import type { HostRequest, LoadedHost } from "../plan/backend.ts";
import { hasHostChanges, hasUnitChanges } from "../plan/host-plan.ts";
import {
  byContainer,
  type FileChange,
  hasChanges,
  hasFileChanges,
  type Item,
  isContainers,
  isLive,
} from "../plan/item.ts";
import { rangesOf } from "../rules/container-rules.ts";
import { type DesiredFragment, isContainerFragment, isEmpty } from "../rules/desired-fragment.ts";
import { listedPorts, publishedPorts } from "../rules/published-ports.ts";
import { allVisible, oneLine } from "../text/visible.ts";
import { describeNotPublished } from "./not-published.ts";
import { describeClients } from "./origins.ts";

type ContainerResult = NonNullable<Result["containers"]>[number];
type BaseResult = NonNullable<Result["base"]>;
type StatusResult = NonNullable<Result["status"]>[number];
type ViewResult = NonNullable<Result["explained"]>[number]["views"][number];

/** The answer to a request that succeeded. */
export function resultOf(request: Request, outcome: Outcome): Result {
  const { subject, check, diff } = request;
  const owned = byContainer(outcome.items);
  const containers = [
    ...namesOf(outcome.wanted).map((name) => containerResult(name, owned.get(name) ?? [])),
    ...outcome.pending.map((name): ContainerResult => ({ name, changed: true, reasons: ["file", "kernel"] })),
  ];
  const base = outcome.base && baseResult(outcome.base, outcome.items);
  const changed = (base?.changed ?? false) || containers.some((container) => container.changed);
  const { settings, files: adopted = [], units = [] } = outcome.base?.plan ?? {};
  const files = [...(settings === undefined ? [] : [settings]), ...adopted, ...outcome.items, ...units];
  const { waits } = outcome.committed;
  const said = [base && baseSentence(base, subject.state, check), sentence(containers, outcome, subject, check)];
  const msg = `${said.filter(Boolean).join("; ")}${waitsSentence(waits)}`;
  return allVisible<Result>({
    changed,
    state: subject.state,
    msg,
    comment: msg,
    rules: outcome.rules,
    ...(base ? { base } : {}),
    containers,
    ...publishedResult(request, outcome),
    ...waitsResult(waits),
    files: onceEach(files).flatMap(fileResult),
    reloaded: [...new Set(outcome.committed.reloaded)],
    warnings: [...request.warnings, ...outcome.warnings, ...outcome.committed.warnings, ...warnOfWaiter(waits)],
    ...(diff ? { diff: [...onceEach(files).filter(hasFileChanges).map(fileDiff), ...goingOf(outcome)] } : {}),
    invocation: invocationOf(request),
  });
}

/** What the requested containers publish from now on. */
function publishedResult({ subject }: Request, { wanted, conflicting }: Outcome): Pick<Result, "published"> {
  const requested = wanted.filter(isContainerFragment).filter(({ owner }) => !conflicting.includes(owner.name));
  const published = requested.flatMap(publishedPorts);
  return subject.state === "absent" || published.length === 0 ? {} : { published };
}

/**
 * Without the arguments, where Ansible says that its user did not ask for them: from 2.21 on a module has to leave them out, while
 * earlier versions say nothing, and take them out themselves of what a play registers.
 */
export function withWantedInvocation(result: Result, raw: Readonly<Record<string, unknown>>): Result {
  if (raw["_ansible_inject_invocation"] !== false) return result;
  const { invocation: _, ...others } = result;
  return others;
}

function invocationOf({ args, origins }: Request): NonNullable<Result["invocation"]> {
  return { module_args: { ...args }, origins: { ...origins } };
}

/** That it is put back unless it is confirmed; without systemd a boot ends that, too. */
function waitsResult(waits: Waits | undefined): Pick<Result, "unconfirmed"> {
  return waits === undefined ? {} : { unconfirmed: { until: waits.until, by: waits.waiter } };
}

function waitsSentence(waits: Waits | undefined): string {
  if (waits === undefined) return "";
  return `; everything is put back at ${timeOfDay(waits.until)} unless 'docker_iptables confirm' comes first`;
}

function warnOfWaiter(waits: Waits | undefined): string[] {
  if (waits?.waiter !== "process") return [];
  return [
    "there is no systemd here: a process puts everything back; after a boot before that, 'docker_iptables revert' does",
  ];
}

/** The answer to the verb confirm. */
export function resultOfConfirm(request: Request, { what, warnings }: Confirmed): Result {
  const msg = `the ${what} ${request.check ? "would be" : "is"} confirmed`;
  return allVisible<Result>({ changed: true, msg, comment: msg, warnings: [...request.warnings, ...warnings] });
}

/** The answer to the verb revert. */
export function resultOfRevert(request: Request, reverted: Reverted): Result {
  const changed = reverted !== undefined;
  const would = request.check ? "would be" : "was";
  const msg =
    reverted === undefined
      ? "nothing waits for a confirmation"
      : [`the ${reverted.what} ${would} put back`, reverted.done.join(", ")].filter(Boolean).join(": ");
  return allVisible<Result>({
    changed,
    msg,
    comment: msg,
    warnings: [...request.warnings, ...(reverted?.warnings ?? [])],
  });
}

/** The answer to the verb load. */
export function resultOfLoad(request: HostRequest, loaded: LoadedHost & { waits?: Waits }): Result {
  const { changed, untrusted, warnings, waits } = loaded;
  const done =
    changed.length > 0
      ? `${changed.map((family) => FAMILY_WORDS[family]).join(" and ")} rules ${request.check ? "would be loaded" : "loaded"}`
      : "the rules are loaded already";
  const msg = `${done}${waitsSentence(waits)}`;
  const commands = new Set(changed.map(request.host.backend.commandFor));
  return allVisible<Result>({
    ...waitsResult(waits),
    changed: changed.length > 0,
    msg,
    comment: msg,
    reloaded: request.check ? [] : [...commands],
    warnings: [...request.warnings, ...warnings, ...warnOfWaiter(waits), ...new Set(untrusted.map(warnOfAccess))],
  });
}

/** The answer to the verb explain. */
export function resultOfExplain(request: Request, { explained, notPublished, warnings }: Explanation): Result {
  const count = explained.length;
  const msg = [
    count === 0 ? "" : `${count} published ${count === 1 ? "port" : "ports or ranges"} traced`,
    ...notPublished.map(({ name, nothingPublished: why }) => describeNothingPublished(name, why)),
  ]
    .filter(Boolean)
    .join("; ");
  return allVisible<Result>({
    changed: false,
    msg,
    comment: msg,
    explained: explained.map(({ container, publish, count: ports, addresses, allowed, views }) => ({
      container,
      publish: spellPublish(publish, ports),
      ...(allowed === undefined ? {} : { from: spellSources(allowed) }),
      views: views.map((view) => viewResult(view, container, addresses)),
    })),
    warnings: [...request.warnings, ...warnings],
  });
}

function viewResult(view: Explained["views"][number], container: string, addresses: readonly string[]): ViewResult {
  const { trip, arrival, sources, interfaces } = view;
  const { reached, why, by, doubts } = arrival;
  const reaches = reached !== undefined && addresses.includes(reached.address);
  return {
    from: describeClients(view, container),
    source: trip.source,
    interface: trip.from ?? null,
    ...(sources ? { sources: [...sources.subnets, ...(sources.rest === undefined ? [] : [sources.rest])] } : {}),
    ...(interfaces ? { interfaces: [...interfaces] } : {}),
    to: `${bracketed(trip.destination)}:${trip.port}`,
    reaches,
    seen_as: reached?.seenAs ?? null,
    why:
      reached === undefined || reaches
        ? why
        : `it reaches ${bracketed(reached.address)}:${reached.port}, which is not this container`,
    by,
    unless: doubts,
  };
}

/** The answer to the verb status. */
export function resultOfStatus(request: Request, { statuses, problems, lastLoad, warnings }: Status): Result {
  const count = statuses.length;
  const containers = `${count} ${count === 1 ? "container" : "containers"}`;
  const msg =
    problems.length === 0
      ? `everything is in sync: ${containers}, files and kernel agree`
      : `${problems.length} ${problems.length === 1 ? "problem" : "problems"} (${containers})`;
  return allVisible<Result>({
    changed: false,
    msg,
    comment: msg,
    status: statuses.map(statusResult),
    problems,
    ...(lastLoad === undefined ? {} : { last_load: lastLoad.toISOString() }),
    warnings: [...request.warnings, ...warnings],
    invocation: invocationOf(request),
  });
}

/** The answer to the verb ls. */
export function resultOfList(request: Request, { published, warnings }: Listed): Result {
  const count = new Set(published.map(({ container }) => container)).size;
  const ports = `${published.length} ${published.length === 1 ? "port or range" : "ports or ranges"}`;
  const msg = `${ports} of ${count} ${count === 1 ? "container" : "containers"}`;
  return allVisible<Result>({
    ...{ changed: false, msg, comment: msg },
    published,
    warnings: [...request.warnings, ...warnings],
  });
}

function statusResult({ name, target, options, items }: ContainerStatus): StatusResult {
  const publishes = FAMILIES.flatMap((family) =>
    rangesOf(target === undefined ? [] : reachableOf(target, family)).map((range) =>
      spellPublish({ family, ...range }, range.count),
    ),
  );
  return {
    container: name,
    publishes,
    addresses: Object.values(target?.publishing ?? {}).map(({ address }) => address),
    options: { ...options },
    fragments: [...new Set(items.filter(({ before }) => before !== undefined).map(({ path }) => path))],
    lists: items.flatMap(({ family, meaning }) => listedPorts(family, meaning)),
    live: isLive(items),
  };
}

/** The answer to a request that failed, or could not even be read (`request` undefined). */
export function resultOfFailure(error: unknown, request: Request | undefined, debug: boolean, bolt: boolean): Result {
  const failure = asFailure(error);
  const details = { code: failure.code, ...failure.facts, ...(debug ? { stack: stackOf(failure) } : {}) };
  return allVisible<Result>({
    changed: failure.changed,
    failed: true,
    msg: failure.message,
    comment: failure.message,
    error: details,
    warnings: request?.warnings ?? [],
    ...(failure.rolledBack ? { rolled_back: failure.rolledBack.map(spellUndone) } : {}),
    ...(request ? { state: request.subject.state, invocation: invocationOf(request) } : {}),
    ...(bolt ? { _error: { msg: failure.message, kind: `docker_iptables/${failure.code}`, details } } : {}),
  });
}

function stackOf(failure: Failure): string {
  const cause = failure.cause instanceof Error ? `\ncaused by ${framesOf(failure.cause)}` : "";
  return `${framesOf(failure)}${cause}`;
}

/** The message, in which a line of a command's may look like one of ours, in one line. */
function framesOf({ stack = "", message }: Error): string {
  return stack.replace(message, () => oneLine(message));
}

function containerResult(name: string, own: readonly Item[]): ContainerResult {
  const reasons: ContainerResult["reasons"] = [];
  if (own.some(hasFileChanges)) reasons.push("file");
  if (own.some(({ drift }) => drift && hasDrift(drift))) reasons.push("kernel");
  return { name, changed: own.some(hasChanges), reasons };
}

function baseResult({ networks, plan }: NonNullable<Outcome["base"]>, items: readonly Item[]): BaseResult {
  const own = items.filter((item) => !isContainers(item));
  const reasons: BaseResult["reasons"] = [];
  const { settings } = plan;
  const files = [...own, ...plan.files, ...(settings === undefined ? [] : [settings])];
  if (files.some(hasFileChanges) || plan.dropsState) reasons.push("file");
  if (plan.others.length + plan.leftovers.length > 0 || own.some(({ drift }) => drift && hasDrift(drift)))
    reasons.push("kernel");
  if (plan.units.some(hasUnitChanges)) reasons.push("unit");
  return { changed: hasHostChanges(plan) || own.some(hasChanges), reasons, networks };
}

function baseSentence({ changed, networks }: BaseResult, state: "present" | "absent", check: boolean): string {
  const would = check ? "would be" : "are";
  if (state === "absent") return changed ? `the host rules ${would} removed` : "there are no host rules";
  const covered = networks.length === 0 ? "" : ` for the networks ${[...networks].sort().join(", ")}`;
  return changed ? `the host rules ${would} set up${covered}` : `the host rules are up to date${covered}`;
}

/** A file may have both families. */
function onceEach(files: readonly FileChange[]): FileChange[] {
  return [...new Map(files.map((one) => [one.path, one])).values()];
}

function fileResult({ path, before, after }: FileChange): FileResult[] {
  if (before === undefined) return after === undefined ? [] : [{ path, change: "created" }];
  if (after === undefined) return [{ path, change: "removed" }];
  return [{ path, change: before.text === after ? "unchanged" : "updated" }];
}

function fileDiff({ path, before, after }: FileChange): FileDiff {
  const ended = (text: string) => (text === "" || text.endsWith("\n") ? text : `${text}\n`);
  return { before: ended(before?.text ?? ""), after: ended(after ?? ""), before_header: path, after_header: path };
}

/** What Docker left and what is removed with it is in no file. */
function goingOf({ base }: Outcome): FileDiff[] {
  return (base?.plan.leftovers ?? []).map(({ name, text }) => ({
    before: asRules(text),
    after: "",
    before_header: name,
    after_header: name,
  }));
}

/** Of commands that remove rules and chains: those, as iptables-save prints them. The rules in a chain that goes are not listed. */
function asRules(text: string): string {
  return text
    .replaceAll(/^-F .*\n/gm, "")
    .replaceAll(/^-D /gm, "-A ")
    .replaceAll(/^-X (.*)/gm, ":$1 - [0:0]");
}

function sentence(
  containers: ContainerResult[],
  { notPublished, conflicting, wanted }: Outcome,
  { state, all }: Subject,
  check: boolean,
): string {
  const next = new Set(conflicting);
  const asked = containers.filter(({ name }) => !next.has(name));
  const empty = new Set(state === "present" ? namesOf(wanted.filter(isEmpty)) : []);
  const changing = asked.filter((one) => one.changed).map(({ name }) => name);
  const changed = changing.filter((name) => !empty.has(name));
  const going = changing.filter((name) => empty.has(name));
  const besides = containers.filter((one) => one.changed && next.has(one.name)).map(({ name }) => name);
  const would = check ? "would be " : "";
  const verb = state === "present" ? "published" : "unpublished";
  const same = asked
    .filter((one) => !all && !one.changed && !notPublished.some(({ name }) => name === one.name))
    .map(({ name }) => name);
  const parts = [
    changed.length > 0 ? `${would}${verb}: ${changed.join(", ")}` : "",
    going.length > 0 ? `${would}unpublished: ${going.join(", ")}` : "",
    same.length > 0 ? `already ${verb}: ${same.join(", ")}` : "",
    all && changing.length === 0 ? allIsWell(state, asked.length - empty.size) : "",
    ...notPublished.map(describeNotPublished),
    besides.length > 0 ? `${would}updated: ${besides.join(", ")}` : "",
  ];
  return parts.filter((part) => part !== "").join("; ");
}

function allIsWell(state: "present" | "absent", count: number): string {
  return state === "present" ? `the containers are in sync (${count} published)` : "no container is published";
}

/** Of the containers among them. */
function namesOf(fragments: readonly DesiredFragment[]): string[] {
  return containersAmong(fragments.map(({ owner }) => owner));
}
