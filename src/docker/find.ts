// Names -> Targets: waits until every container runs, then asks for their networks. The effects of this room.

import { setTimeout as sleep } from "node:timers/promises";
import { Failure } from "../errors.ts";
import type { Arguments } from "../generated/arguments.ts";
import { type Interfaces, readInterfaces } from "../kernel/interfaces.ts";
import { orNearest } from "../suggest.ts";
import { inspectAllNetworks, inspectContainers, inspectNetworks, listContainers, listNames } from "./client.ts";
import { type Container, compareText, readContainer } from "./container.ts";
import { GATEWAY_BRIDGE, type Network, readNetwork } from "./network.ts";
import { findHairpins } from "./proxy.ts";
import { isOnKnownBridge, locate, type Target } from "./target.ts";

/** The first pause between two looks, and the longest, in milliseconds; each is half as long again as the last. */
const PAUSE = { first: 50, longest: 1000 };
/** So long, in milliseconds, a wait is nothing to speak of. */
const QUIET = 2000;

/** Is told what is waited for, in a line: once, and again whenever that is another. */
export type Tell = (line: string) => void;

export interface Found {
  targets: Target[];
  /**
   * Only when not waiting: names whose container does not exist or does not run yet, with what is known of it. With `all`
   * also those that cannot be located: one is no obstacle to the others.
   */
  pending: Pending[];
  /** Whether it looked more than once. */
  waited: boolean;
  /** About the host; what is wrong with a container is its target's. */
  warnings: string[];
}

interface Pending {
  name: string;
  /** "does not exist", "is created", … */
  why: string;
  exists: boolean;
}

/**
 * The containers of these names or ids, each once.
 *
 * Waits up to `wait_timeout` seconds for those that do not exist or run yet; with `wait` false it looks once.
 * Throws Failure: `container_missing`, `container_not_running`, `interrupted`, and those of the client and of `locate`.
 */
export async function findTargets(
  args: Arguments,
  wait: boolean,
  signal: AbortSignal,
  tell: Tell = () => {},
): Promise<Found> {
  const looked = wait ? await waitForAll(args, signal, tell) : { ...(await look(args)), waited: false };
  const { ready, pending, waited } = looked;
  const containers = [...new Map(ready.map((container) => [container.name, container])).values()];
  const { targets, interfaces } = await locateAll(containers, args);
  const failed = targets.find(isFailure);
  if (failed !== undefined && !args.all) throw failed;
  const lost = containers.flatMap(({ name }, index) => {
    const target = targets[index];
    return target !== undefined && isFailure(target)
      ? [{ name, why: `cannot be located (${target.message})`, exists: true }]
      : [];
  });
  return { ...(await findHairpins(targets.filter(isTarget), interfaces)), pending: [...pending, ...lost], waited };
}

function isFailure(one: Target | Failure): one is Failure {
  return one instanceof Failure;
}

function isTarget(one: Target | Failure): one is Target {
  return !isFailure(one);
}

/** All containers of the daemon. */
export interface Running {
  targets: Target[];
  /** Names of those that must stay as they are: left out by their label, or not to be located. */
  left: string[];
  warnings: string[];
}

/** The containers that run. One that cannot be located is no obstacle to the others. Throws Failure of the client. */
export async function findRunning(args: Arguments): Promise<Running> {
  const documents = await inspectContainers(args, await listContainers(args));
  const running = documents.map(readContainer).filter((container) => container.running);
  const containers = running.filter(({ enabled }) => enabled);
  const { targets, interfaces } = await locateAll(containers, args);
  const found = new Set(targets.filter(isTarget).map(({ name }) => name));
  const located = await findHairpins(targets.filter(isTarget), interfaces);
  return {
    targets: located.targets,
    left: running.filter(({ name }) => !found.has(name)).map(({ name }) => name),
    warnings: [...targets.filter(isFailure).map(({ message }) => message), ...located.warnings],
  };
}

/** Each container's Target, or why there is none. Throws Failure of the client. */
async function locateAll(
  containers: readonly Container[],
  args: Arguments,
): Promise<{ targets: (Target | Failure)[]; interfaces: Interfaces }> {
  const interfaces = await readInterfaces();
  const unsure = containers.filter((container) => !isOnKnownBridge(container, interfaces));
  const ids = networksOf(unsure);
  const known = (await (ids === undefined ? inspectAllNetworks(args) : inspectNetworks(args, ids))).map(readNetwork);
  const gateway = await gatewayOf(
    args,
    containers,
    known.some(({ driver }) => driver === "overlay"),
  );
  const targets = containers.map((container) => {
    try {
      return locate(container, [...known, ...gateway], interfaces, args.network);
    } catch (error) {
      if (error instanceof Failure) return error;
      throw error;
    }
  });
  return { targets, interfaces };
}

/** All networks of the daemon, by name: the client lists them in an order of its own. Throws Failure of the client. */
export async function findNetworks(args: Arguments): Promise<Network[]> {
  const networks = (await inspectAllNetworks(args)).map(readNetwork);
  return networks.sort((a, b) => compareText(a.name, b.name) || compareText(a.id, b.id));
}

type Look = { ready: Container[]; pending: Pending[] };

async function look(args: Arguments): Promise<Look> {
  const containers = (await inspectContainers(args, args.container)).map(readContainer);
  const found: Look = { ready: [], pending: [] };
  for (const name of args.container) {
    const container = containers.find((one) => one.name === name) ?? containers.find((one) => one.id.startsWith(name));
    if (container === undefined) found.pending.push({ name, why: "does not exist", exists: false });
    else if (!container.running) found.pending.push({ name, why: `is ${container.status}`, exists: true });
    else found.ready.push(container);
  }
  return found;
}

async function waitForAll(args: Arguments, signal: AbortSignal, tell: Tell): Promise<Look & { waited: boolean }> {
  const start = Date.now();
  const deadline = start + args.wait_timeout * 1000;
  let told = "";
  for (let pause = PAUSE.first; ; pause = Math.min(pause * 1.5, PAUSE.longest)) {
    const found = await look(args);
    if (found.pending.length === 0) return { ...found, waited: pause > PAUSE.first };
    const left = deadline - Date.now();
    if (left <= 0) throw await notThere(found.pending, args);
    const state = found.pending.map(({ name, why }) => `${name}, which ${why}`).join("; ");
    if (state !== told && Date.now() - start >= QUIET) {
      told = state;
      const named = (await withNearNames(found.pending, args)).map(({ name, why }) => `${name}, which ${why}`);
      tell(`waiting for the container ${named.join("; ")} (up to ${args.wait_timeout} s)`);
    }
    await sleep(Math.min(pause, left), undefined, { signal }).catch(() => {});
    if (signal.aborted)
      throw new Failure("interrupted", "interrupted while waiting for a container; nothing was changed");
  }
}

/** Beside each name that does not exist, the one that was perhaps meant. A client that cannot say costs no answer. */
export async function withNearNames(pending: readonly Pending[], args: Arguments): Promise<Pending[]> {
  const names = pending.some(({ exists }) => !exists) ? await listNames(args).catch(() => []) : [];
  return pending.map((one) => (one.exists ? one : { ...one, why: `${one.why}${orNearest(one.name, names)}` }));
}

async function notThere(pending: readonly Pending[], args: Arguments): Promise<Failure> {
  const { client, wait_timeout } = args;
  const each = (await withNearNames(pending, args)).map(({ name, why }) => `${name} ${why}`).join(", ");
  return new Failure(
    pending.some(({ exists }) => !exists) ? "container_missing" : "container_not_running",
    wait_timeout === 0
      ? `not every container runs: ${each}; see '${client} ps --all'`
      : `not every container runs after ${wait_timeout} s: ${each}; see '${client} ps --all', or raise wait_timeout`,
    { containers: pending.map(({ name }) => name), wait_timeout },
  );
}

/** The ids of their networks; undefined where the client does not tell one, so that all are to be looked at (nerdctl). */
function networksOf(containers: readonly Container[]): string[] | undefined {
  const publishing = containers.filter(({ publishes, mode }) => publishes.length > 0 && mode.kind === "networks");
  const attachments = publishing.flatMap((container) => container.attachments);
  const ids = attachments.filter(({ bridge }) => bridge === undefined).map(({ networkId }) => networkId);
  return ids.includes(undefined) ? undefined : [...new Set(ids.filter((id) => id !== undefined))].sort();
}

/** docker_gwbridge is in no container's Networks, though overlay networks publish through it. */
async function gatewayOf(args: Arguments, containers: readonly Container[], overlay: boolean) {
  if (!overlay || containers.length === 0) return [];
  return (await inspectNetworks(args, [GATEWAY_BRIDGE])).map(readNetwork);
}
