// Names -> Targets: waits until every container runs, then asks for their networks. The effects of this room.

import { setTimeout as sleep } from "node:timers/promises";
import { apartFromImage } from "../model/decided-lists.ts";
import { Failure } from "../model/errors.ts";
import { networkOf, type Options } from "../model/options.ts";
import type { Client } from "../model/request.ts";
import { type Interfaces, readInterfaces } from "../system/interfaces.ts";
import { inLanes } from "../system/lanes.ts";
import { verbose } from "../system/verbose.ts";
import { didYouMean, nearest } from "../text/suggest.ts";
import {
  inspectAllNetworks,
  inspectContainers,
  inspectImages,
  inspectNetworks,
  listContainers,
  listNames,
} from "./client.ts";
import { type Attachment, type Container, compareText, readAllowLabels } from "./container.ts";
import { type Answered, describe, type Unusable } from "./documents.ts";
import { GATEWAY_BRIDGE, type Network } from "./network.ts";
import { describeNothingPublished, describeSkipped, type SkipReason } from "./nothing-published.ts";
import { findHairpins, warnOfUntrusted } from "./proxy.ts";
import {
  type Holding,
  holdingsOf,
  isOnKnownBridge,
  locate,
  type Placed,
  type PublishedContainer,
  unlocated,
} from "./published.ts";

/** The first pause between two attempts, and the longest, in milliseconds; each is 1.5 times the last. */
const PAUSE = { first: 50, longest: 1000 };
/** So long, in milliseconds, a wait is nothing to speak of. */
const QUIET = 2000;

/** Who reads along while something is waited for. */
export interface Listener {
  /** Gets what is waited for, in a line: once, and again whenever that changes. */
  tell: (line: string) => void;
  /** A person at a terminal: gets the same line with the seconds that are left, again and again, and at last nothing. */
  count?: (line: string | undefined, secondsLeft: number) => void;
  /** Whether a name that does not exist is taken for mistyped where a container with a near one runs. */
  correctsNames?: boolean;
}

export const NOBODY_LISTENS: Listener = { tell: () => {} };

export interface Found {
  targets: PublishedContainer[];
  /** Only when not waiting: names whose container does not exist or does not run yet, with what is known of it. */
  pending: Pending[];
  /** Whether it looked more than once. */
  waited: boolean;
  /** About the host; what is wrong with a container is its target's. */
  warnings: string[];
}

/** A container of which no rules can be made now, and why; `name` is as requested. */
export type Pending = { name: string } /** `near` is the name that was perhaps meant. */ & (
  | { kind: "missing"; near?: string | undefined }
  /** `status` is the client's own word. */
  | { kind: "not_running"; status: string }
  | { kind: "not_located" | "unusable"; failure: Failure }
);

/** Why, after its name: "does not exist", "is created", … */
export function describePending(pending: Pending): string {
  switch (pending.kind) {
    case "missing":
      return `does not exist${didYouMean(pending.near)}`;
    case "not_running":
      return `is ${pending.status}`;
    case "not_located":
      return `cannot be located (${pending.failure.message})`;
    case "unusable":
      return `cannot be used (${pending.failure.message})`;
  }
}

/** How a container is waited for. */
export interface Waited {
  /** seconds; undefined: it is not. */
  wait: number | undefined;
  signal: AbortSignal;
  listener?: Listener;
  /** The network of one whose options name none; Docker's own choice without it. */
  network?: string | undefined;
}

/**
 * The containers of these names or ids, each once.
 *
 * Waits up to `wait` seconds for those that do not exist or run yet, and for a daemon that is too busy to answer within the
 * client's `timeout`; without `wait` it asks once, and returns which are pending. Throws Failure: `container_missing`,
 * `container_not_running`, `interrupted`, `client_answer_invalid` where one of them or its network cannot be used, and those of the
 * client and of `locate`.
 */
export async function findPublished(
  names: readonly string[],
  client: Client,
  optionsOf: OptionsOf,
  { wait, signal, listener = NOBODY_LISTENS, network }: Waited,
): Promise<Found> {
  const deadline = wait === undefined ? 0 : Date.now() + wait * 1000;
  const patience = { seconds: wait ?? 0, deadline, signal, listener };
  const looked =
    wait === undefined ? { ...(await look(names, client)), waited: false } : await waitForAll(names, client, patience);
  const { ready, pending, waited } = looked;
  const { located, interfaces } = await askAgain(patience, () => locateAll(ready, [], { optionsOf, network }, client));
  const targets = located.map(({ target }) => target);
  const failed = targets.find(isFailure);
  if (failed !== undefined) throw failed;
  verbose(() => targets.flatMap(skipped));
  const { targets: whole, untrusted } = await findHairpins(targets.filter(isTarget), interfaces);
  return { targets: whole, warnings: warnOfUntrusted(untrusted), pending, waited };
}

/**
 * The containers of these names or ids, which were not requested: one that cannot be used or located does not matter. Asks once.
 * Throws Failure of the client.
 */
export async function findConflicting(
  names: readonly string[],
  client: Client,
  options: FindOptions,
): Promise<Pick<Found, "targets" | "pending">> {
  const { ready, pending, unusable } = await lookAt(names, client);
  const { located, interfaces } = await locateAll(ready, [], options, client);
  const notLocated = located.flatMap(({ container: { name }, target }): Pending[] =>
    isFailure(target) ? [{ name, kind: "not_located", failure: target }] : [],
  );
  const bad = unusable.map(({ name, failure }): Pending => ({ name, kind: "unusable", failure }));
  const targets = located.map(({ target }) => target).filter(isTarget);
  const { targets: whole } = await findHairpins(targets, interfaces);
  return { targets: whole, pending: [...pending, ...notLocated, ...bad] };
}

/** A container that exists; `status` is the client's own word. */
export type Existing = Pick<Container, "name" | "enabled" | "running" | "status" | "ended">;

/** Of these names, or beginnings of ids, the containers that exist, also by their names. Throws Failure of the client. */
export async function findExisting(names: readonly string[], client: Client): Promise<Map<string, Existing>> {
  if (names.length === 0) return new Map();
  const { usable } = await inspectContainers(client, names);
  const found = names.map((name) => {
    return [name, calledBy(name, usable)] as const;
  });
  const existing = found.filter((one): one is [string, Container] => one[1] !== undefined);
  return new Map([...existing, ...existing.map(([, one]) => [one.name, one] as const)]);
}

/** As much of an id as `docker ps` shows, or more. */
export const CONTAINER_ID = /^[0-9a-f]{12,64}$/;

/**
 * The container of this name, or of this id. Docker takes any beginning of an id for one, and so may answer with another container
 * where db is asked for, which does not exist yet.
 */
function calledBy(name: string, containers: readonly Container[]): Container | undefined {
  const isId = CONTAINER_ID.test(name);
  return containers.find((one) => one.name === name) ?? containers.find(({ id }) => isId && id.startsWith(name));
}

function publishesAny({ publishes, directPorts }: Container): boolean {
  return publishes.length + directPorts.length > 0;
}

function isFailure(one: PublishedContainer | Failure): one is Failure {
  return one instanceof Failure;
}

function isTarget(one: PublishedContainer | Failure): one is PublishedContainer {
  return !isFailure(one);
}

function skipped(one: PublishedContainer | Failure): string[] {
  if (isFailure(one)) return [`skip: ${one.message}`];
  return one.nothingPublished === undefined
    ? []
    : [`skip: ${describeNothingPublished(one.name, one.nothingPublished)}`];
}

/** All containers of the daemon that run. */
export interface Running {
  targets: PublishedContainer[];
  /** Those of which no rules are made. */
  left: Skipped[];
  /** Documents that cannot be used, in a sentence each. */
  unusable: Complaint[];
  warnings: string[];
  /** Process ids of those that call themselves docker-proxy and are not the daemon's. */
  untrusted: string[];
}

/** A container that is left as it is, as long as its fragment is true (skipped.ts). */
export interface Skipped {
  name: string;
  /** Why it is left: by its label, or because it cannot be used or located. */
  why: SkipReason;
  /** As far as they are known. */
  holdings: Holding[];
  /** What can be closed of it; undefined where it cannot be used. */
  target: PublishedContainer | undefined;
}

export interface Complaint {
  container: string | undefined;
  msg: string;
}

/**
 * The containers that run; `owners` have fragments, which is what those are looked at for that are left alone. One that cannot
 * be used or located is no obstacle to the others. Throws Failure of the client.
 */
export async function findRunning(owners: ReadonlySet<string>, client: Client, options: FindOptions): Promise<Running> {
  const { running, unusable, twice } = await inspectRunning(client);
  const apart = unusable.filter(({ name }) => owners.has(name));
  const { located: all, holdings, interfaces } = await locateAll(running, apart, options, client);
  const located = all.filter(({ container }) => container.enabled);
  const notLocated = located.flatMap(({ container, target }) =>
    isFailure(target) ? [{ container, failure: target }] : [],
  );
  const { targets: whole, untrusted } = await findHairpins(
    all.map(({ target }) => target).filter(isTarget),
    interfaces,
  );
  const targets = whole.filter(({ enabled }) => enabled);
  const closable = ({ container, target }: Located["located"][number]) =>
    isFailure(target) ? unlocated(container, interfaces, options.optionsOf(container)) : target;
  const isLeft = ({ container, target }: Located["located"][number]) =>
    container.enabled ? isFailure(target) : owners.has(container.name) || publishesAny(container);
  const left = [
    ...apart.map((one) => ({ one, why: "unusable" as const, target: undefined })),
    ...all.filter(isLeft).map((one) => ({
      ...{ one: one.container, why: one.container.enabled ? ("not_located" as const) : ("disabled" as const) },
      target: whole.find(({ name }) => name === one.container.name) ?? closable(one),
    })),
  ];
  verbose(() => [
    ...located.flatMap(({ target }) => skipped(target)),
    ...left.map(({ one, why }) => `skip: the container ${one.name} ${describeSkipped(why)}`),
  ]);
  const isUnusable = ({ failure }: { failure: Failure }) => failure.code === "client_answer_invalid";
  return {
    targets,
    left: left.map(({ one, why, target }) => ({ name: one.name, why, holdings: holdings(one), target })),
    unusable: [
      ...unusable.map((one) => ({ container: one.name || undefined, msg: describe(one) })),
      ...notLocated
        .filter(isUnusable)
        .map(({ container, failure }) => ({ container: container.name, msg: failure.message })),
    ],
    warnings: [...notLocated.filter((one) => !isUnusable(one)).map(({ failure }) => failure.message), ...twice],
    untrusted,
  };
}

/** How often containers may swap their names between the answers to one question. */
const ATTEMPTS = 3;

/**
 * The containers that run, each name once. The answers are of several moments: one that is renamed, or recreated, between two of
 * them is there twice, with a port that conflicts with itself. Then all are requested again.
 */
async function inspectRunning(
  client: Client,
): Promise<{ running: Container[]; unusable: Unusable[]; twice: string[] }> {
  for (let attempt = 1; ; attempt++) {
    const { usable, unusable } = await inspectContainers(client, await listContainers(client));
    const all = usable.filter((container) => container.running);
    const running = [...new Map(all.map((container) => [container.name, container])).values()];
    const twice = all.filter((container) => !running.includes(container));
    if (twice.length > 0 && attempt < ATTEMPTS) {
      verbose(() => `retry: attempt ${attempt + 1} of ${ATTEMPTS}, because names occur twice in the client's answer`);
      continue;
    }
    return {
      running,
      unusable,
      twice: twice.map(({ name }) => `${client.client} lists several containers named ${name}; the last one is used`),
    };
  }
}

interface Located {
  /** Each container's Target, or why there is none. */
  located: { container: Container; target: PublishedContainer | Failure }[];
  /** The addresses of one of those that were asked about. */
  holdings: (one: Placed) => Holding[];
  interfaces: Interfaces;
}

/** What a container is published with: what this call says of it, or an earlier one. */
export type OptionsOf = (container: Container) => Options;

export interface FindOptions {
  optionsOf: OptionsOf;
  /** The network of a container whose options name none; Docker's own choice without it. */
  network?: string | undefined;
}

/** `apart` are those that get no Target, and of which only the places are asked. Throws Failure of the client. */
async function locateAll(
  all: readonly Container[],
  apart: readonly Placed[],
  { optionsOf, network }: FindOptions,
  client: Client,
): Promise<Located> {
  const interfaces = await readInterfaces();
  const containers = await withImages(all, client);
  const publishing = containers.filter((one) => publishesAny(one) && one.mode.kind === "networks");
  const unsure = [...publishing, ...apart].filter((one) => !isOnKnownBridge(one, interfaces));
  const ids = networksOf(unsure);
  const { usable, unusable } = await (ids === undefined ? inspectShown(client) : inspectNetworks(client, ids));
  const gateway = await gatewayOf(
    client,
    usable.some(({ driver }) => driver === "overlay"),
  );
  const known = [...usable, ...gateway.usable];
  const unknown = [...unusable, ...gateway.unusable];
  const unusableOf = (attachment: Attachment) => unknown.find((network) => isOf(attachment, network, known));
  const located = containers.map((container) => {
    const [bad] = publishing.includes(container) ? container.attachments.flatMap((one) => unusableOf(one) ?? []) : [];
    if (bad !== undefined) return { container, target: inUnusable(container, bad) };
    const options = optionsOf(container);
    const asked = networkOf(network === undefined ? options : { network, ...options });
    try {
      return { container, target: locate(container, known, interfaces, { asked, options }) };
    } catch (error) {
      if (error instanceof Failure) return { container, target: error };
      throw error;
    }
  });
  // Of an unusable network nothing is sure, also not which bridge it has.
  const sureOf = (attachments: readonly Attachment[]) => attachments.filter((one) => unusableOf(one) === undefined);
  const holdings = (one: Placed) => holdingsOf({ ...one, attachments: sureOf(one.attachments) }, known, interfaces);
  return { located, holdings, interfaces };
}

/**
 * Where a container has labels that say who may connect, its image is asked which of them it carries. What is wrong with an image costs
 * only that: its containers' labels count as its own.
 */
async function withImages(containers: readonly Container[], client: Client): Promise<Container[]> {
  const isLabelled = ({ allow }: Container) => Object.keys(allow).length > 0;
  const images = [...new Set(containers.filter(isLabelled).map(({ image }) => image))].filter((image) => image !== "");
  const asked = await inLanes(images, (image) => inspectImages(client, [image]).catch(nothingKnown));
  const labels = new Map(asked.flatMap((one) => [...one]));
  return containers.map((container) => {
    if (!isLabelled(container)) return container;
    const known = labels.get(container.image);
    const { label, image } = apartFromImage(container.allow, known && readAllowLabels(known));
    return { ...container, allow: label, imageAllow: image };
  });
}

function nothingKnown(error: unknown): Awaited<ReturnType<typeof inspectImages>> {
  if (!(error instanceof Failure)) throw error;
  verbose(() => `image: ${error.message}`);
  return new Map();
}

/** podman has names where the others have ids; a name that is another network's id is no use. */
function isOf(
  { network, networkId = network }: Attachment,
  { id, name }: Unusable,
  known: readonly Network[],
): boolean {
  return networkId === id || (networkId === name && !known.some((one) => one.id === networkId));
}

function inUnusable({ name }: Container, network: Unusable): Failure {
  const message = `the container ${name} cannot be used: ${describe(network)}`;
  return new Failure("client_answer_invalid", message, { container: name, ...network.failure.facts });
}

/** All networks of the daemon, and those that cannot be used, in a sentence each. */
export interface Networks {
  networks: Network[];
  unusable: Complaint[];
}

/** All networks of the daemon, by name: the client lists them in an order of its own. Throws Failure of the client. */
export async function findNetworks(client: Client): Promise<Networks> {
  const { usable, unusable } = await inspectAllNetworks(client);
  const networks = usable.sort((a, b) => compareText(a.name, b.name) || compareText(a.id, b.id));
  return { networks, unusable: unusable.map((one) => ({ container: undefined, msg: describe(one) })) };
}

type Look = { ready: Container[]; pending: Pending[] };

/** Throws Failure `client_answer_invalid` where a document cannot be used, and those of the client. */
async function look(names: readonly string[], client: Client): Promise<Look> {
  const { unusable, ...found } = await lookAt(names, client);
  // Each was requested by its name.
  const [first] = unusable;
  if (first !== undefined) throw first.failure;
  return found;
}

async function lookAt(names: readonly string[], client: Client): Promise<Look & { unusable: Unusable[] }> {
  const { usable, unusable } = await inspectContainers(client, names);
  const ready = new Map<string, Container>();
  const pending: Pending[] = [];
  for (const name of names) {
    const container = calledBy(name, usable);
    if (container === undefined) pending.push({ name, kind: "missing" });
    else if (!container.running) pending.push({ name, kind: "not_running", status: container.status });
    else ready.set(container.name, container);
  }
  return { ready: [...ready.values()], pending, unusable };
}

interface Patience {
  /** How long it waits in all. */
  seconds: number;
  /** As Date.now(). */
  deadline: number;
  signal: AbortSignal;
  listener: Listener;
}

/** Asks once more, until the deadline, where no answer came in time: a daemon that starts thirty containers is late. */
async function askAgain<T>({ deadline, signal, listener: { tell } }: Patience, ask: () => Promise<T>): Promise<T> {
  for (let again = false; ; again = true) {
    try {
      return await ask();
    } catch (error) {
      if (!(error instanceof Failure) || error.code !== "command_timeout" || Date.now() >= deadline) throw error;
      refuseInterrupted(signal);
      verbose(() => `retry: ${error.message}`);
      if (!again) tell(`${error.message}; retrying`);
    }
  }
}

function refuseInterrupted(signal: AbortSignal): void {
  if (signal.aborted)
    throw new Failure("interrupted", "interrupted while waiting for a container; nothing was changed");
}

async function waitForAll(
  names: readonly string[],
  client: Client,
  patience: Patience,
): Promise<Look & { waited: boolean }> {
  const { seconds, deadline, signal, listener } = patience;
  const waiting = new Waiting(listener, seconds);
  try {
    for (let pause = PAUSE.first; ; pause = Math.min(pause * 1.5, PAUSE.longest)) {
      const found = await askAgain(patience, () => look(names, client));
      if (found.pending.length === 0) return { ...found, waited: pause > PAUSE.first };
      const left = deadline - Date.now();
      if (pause === PAUSE.first && listener.correctsNames) await refuseMistyped(found.pending, client);
      if (left <= 0) throw await notThere(found.pending, client, seconds);
      await waiting.report(found.pending, client, left);
      verbose(() => `wait: ${Math.min(pause, left).toFixed()} ms for ${listPending(found.pending)}`);
      await sleep(Math.min(pause, left), undefined, { signal }).catch(() => {});
      refuseInterrupted(signal);
    }
  } finally {
    waiting.end();
  }
}

/** What a listener is told of a wait, once that is something to speak of. */
class Waiting {
  readonly #listener: Listener;
  readonly #seconds: number;
  readonly #start = Date.now();
  #reported = "";
  #line = "";

  constructor(listener: Listener, seconds: number) {
    this.#listener = listener;
    this.#seconds = seconds;
  }

  /** `left` is in milliseconds. */
  async report(pending: readonly Pending[], client: Client, left: number): Promise<void> {
    const { tell, count } = this.#listener;
    const state = listPending(pending);
    if (state !== this.#reported && Date.now() - this.#start >= QUIET) {
      this.#reported = state;
      this.#line = `waiting for the container ${listPending(await withNearNames(pending, client))}`;
      if (count === undefined) tell(`${this.#line} (up to ${this.#seconds} s)`);
    }
    if (this.#line !== "") count?.(this.#line, Math.ceil(left / 1000));
  }

  end(): void {
    if (this.#line !== "") this.#listener.count?.(undefined, 0);
  }
}

/** Throws Failure `container_missing` where a container runs whose name is near one that does not exist. */
async function refuseMistyped(pending: readonly Pending[], client: Client): Promise<void> {
  const missing = (await withNearNames(pending, client)).filter((one) => one.kind === "missing");
  const names = missing.flatMap(({ near }) => near ?? []);
  if (names.length === 0) return;
  const { usable } = await inspectContainers(client, names);
  const mistyped = missing.find(({ near }) => usable.some(({ name, running }) => running && name === near));
  if (mistyped === undefined) return;
  const message = `the container ${mistyped.name} does not exist, and ${mistyped.near} runs: did you mean that? With --wait-timeout this call waits for ${mistyped.name}`;
  throw new Failure("container_missing", message, { containers: [mistyped.name] });
}

function listPending(pending: readonly Pending[]): string {
  return pending.map((one) => `${one.name}, which ${describePending(one)}`).join("; ");
}

/** For each name that does not exist, the nearest one. If the client cannot list names, none is suggested. */
export async function withNearNames(pending: readonly Pending[], client: Client): Promise<Pending[]> {
  const names = pending.some(isMissing) ? await listNames(client).catch(() => []) : [];
  return pending.map((one) => (isMissing(one) ? { ...one, near: nearest(one.name, names) } : one));
}

function isMissing({ kind }: Pending): boolean {
  return kind === "missing";
}

async function notThere(pending: readonly Pending[], client: Client, waited: number): Promise<Failure> {
  const each = (await withNearNames(pending, client)).map((one) => `${one.name} ${describePending(one)}`).join(", ");
  return new Failure(
    pending.some(isMissing) ? "container_missing" : "container_not_running",
    waited === 0
      ? `not all containers are running: ${each}; see '${client.client} ps --all'`
      : `not all containers are running after ${waited} s: ${each}; see '${client.client} ps --all', or raise wait_timeout`,
    { containers: pending.map(({ name }) => name), wait_timeout: waited },
  );
}

/** All networks; none of a client whose list of them makes no sense, because only some callers need it. */
async function inspectShown(client: Client): Promise<Answered<Network>> {
  return inspectAllNetworks(client).catch((error: unknown) => {
    if (error instanceof Failure && error.code === "client_answer_invalid") return { usable: [], unusable: [] };
    throw error;
  });
}

/** The ids of their networks; undefined where the client does not say one, so that all have to be read (nerdctl). */
function networksOf(placed: readonly Placed[]): string[] | undefined {
  const attachments = placed.flatMap((one) => one.attachments);
  const ids = attachments.filter(({ bridge }) => bridge === undefined).map(({ networkId }) => networkId);
  return ids.includes(undefined) ? undefined : [...new Set(ids.filter((id) => id !== undefined))].sort();
}

/** docker_gwbridge is in no container's Networks, though overlay networks publish through it. */
async function gatewayOf(client: Client, overlay: boolean): Promise<Answered<Network>> {
  return inspectNetworks(client, overlay ? [GATEWAY_BRIDGE] : []);
}
