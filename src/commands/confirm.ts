// confirm and revert: a change that waits for its confirmation is kept, or put back; and the load that waits for one.

import { setTimeout as sleep } from "node:timers/promises";
import {
  begin,
  changeLater,
  countFromNow,
  distrusted,
  end,
  forgetHost,
  notBegun,
  putBack,
  type Reverted,
  stopTimer,
  type Waits,
  waitingFor,
} from "../apply/confirmation.ts";
import { trustAgain } from "../apply/load.ts";
import { existingFamilies } from "../fragments/directory.ts";
import type { Unconfirmed } from "../generated/unconfirmed.ts";
import { asFailure, Failure, type Undone } from "../model/errors.ts";
import type { Family } from "../model/family.ts";
import { secondsLeft, unconfirmedFailure } from "../model/unconfirmed.ts";
import type { HostRequest, LoadedHost } from "../plan/backend.ts";
import { unconfirmedLoad } from "../plan/unconfirmed.ts";
import { variable } from "../system/environment.ts";
import { withLoadLock, withWriteLock } from "../system/lock.ts";
import { findUnconfirmed, keepUnconfirmed, readNow, recordPath } from "../system/unconfirmed-file.ts";
import { verbose } from "../system/verbose.ts";

type ConfirmRequest = Pick<HostRequest, "host" | "settings" | "loading" | "check">;

/** What was kept. */
export interface Confirmed {
  what: Unconfirmed["what"];
  warnings: string[];
}

/** Keeps the change that waits. Throws Failure `nothing_to_confirm`, `unconfirmed`, `locked`. */
export async function confirm(request: ConfirmRequest): Promise<Confirmed> {
  const { check, host } = request;
  return alone(request, async (change) => {
    const now = await readNow();
    // What was put back has locked somebody out, perhaps: a late word of somebody who waited for the connection is not about that.
    if (change === undefined || change.stage === "distrusted") throw nothingWaits(change);
    const { what, stage } = change;
    if (stage !== "waiting" || change.boot !== now.boot) throw unconfirmedFailure(change, now);
    if (secondsLeft(change, now) === 0) throw nothingWaits(change);
    if (check) return { what, warnings: [] };
    await changeLater(change);
    const { warnings, armed } = await keepLive(change, request);
    if (armed.length === 0) await end(request);
    else {
      await keepUnconfirmed(host.directories, distrusted({ ...change, armed }));
      await stopTimer(host);
    }
    if (what === "setup --remove") await forgetHost(request);
    return { what, warnings };
  });
}

/** A boot falls back to what runs. Of the families that were not trusted those that run are from now on. */
async function keepLive(
  { kernel, armed, what }: Unconfirmed,
  { host, loading }: ConfirmRequest,
): Promise<{ warnings: string[]; armed: Family[] }> {
  const { directories, timeout } = host;
  if (what === "setup --remove") return { warnings: [], armed: [] };
  const warnings: string[] = [];
  const trusted: Family[] = [];
  const families = await existingFamilies(directories);
  for (const { family, variant, isWhole } of kernel) {
    if (variant !== null || !families.includes(family)) continue;
    const keep = () => host.backend.keepConfirmed(family, isWhole, host, loading);
    const told = await withLoadLock([directories[family]], timeout, keep);
    if (isWhole && told.length === 0) trusted.push(family);
    warnings.push(...told);
  }
  return { warnings, armed: armed.filter((family) => !trusted.includes(family)) };
}

/** What was put back; undefined where nothing waits. */
export type Outcome = { what: Unconfirmed["what"]; done: string[]; warnings: string[] } | undefined;

/**
 * Puts back the change that waits. `isTimers`: at its time, which this call waits for, or at once where the host has booted since. Throws
 * Failure: what could not be put back.
 */
export async function revert(request: ConfirmRequest, isTimers: boolean, signal: AbortSignal): Promise<Outcome> {
  if (request.check) return predict(request);
  // systemd starts its service again; a process without it has nobody who does.
  const isAlone = isTimers && variable("INVOCATION_ID") === undefined;
  for (;;) {
    if (isTimers) await untilDue(request, signal);
    const outcome = await revertOnce(request, isTimers).catch((error: unknown) => asFailure(error));
    const isOver = !isAlone || signal.aborted;
    if (outcome instanceof Failure) {
      if (isOver) throw outcome;
      verbose(() => `revert: ${outcome.message}`);
      await sleep(5 * PAUSE, undefined, { signal }).catch(() => {});
    } else if (outcome !== "later") return outcome;
    else if (isOver) return undefined;
  }
}

/** "later": its time was counted anew meanwhile, or it was confirmed, and another began. */
async function revertOnce(request: ConfirmRequest, isTimers: boolean): Promise<Outcome | "later"> {
  return alone(request, async (change) => {
    if (change === undefined || change.stage === "distrusted") {
      await stopTimer(request.host);
      return undefined;
    }
    if (isTimers && secondsLeft(change, await readNow()) > 0) return "later";
    const { what } = change;
    const done = orThrow(await putBack(change, request), request);
    const left = await findUnconfirmed(request.host.directories);
    return { what, done, warnings: left === undefined ? [] : [unconfirmedFailure(left, await readNow()).message] };
  });
}

/** Without a lock: the process that begins a change asks it of the program that is to put it back. */
async function predict({ host }: ConfirmRequest): Promise<Outcome> {
  const change = await findUnconfirmed(host.directories);
  if (change === undefined || change.stage === "distrusted") return undefined;
  return { what: change.what, done: change.files.map(({ path }) => path), warnings: [] };
}

/** milliseconds between two looks at whether it still waits. */
const PAUSE = 1000;

async function untilDue({ host }: ConfirmRequest, signal: AbortSignal): Promise<void> {
  for (;;) {
    const change = await findUnconfirmed(host.directories);
    const left = change === undefined ? 0 : secondsLeft(change, await readNow()) * 1000;
    if (left <= 0 || signal.aborted) return;
    await sleep(Math.min(left, PAUSE), undefined, { signal }).catch(() => {});
  }
}

function orThrow({ done, failures }: Reverted, { host }: ConfirmRequest): string[] {
  const [first] = failures;
  if (first === undefined) return done;
  const message = `not all could be put back: ${failures.map((one) => one.message).join("; ")}; 'docker_iptables revert' tries it again, and what you have put right by hand ends with 'rm ${recordPath(host.directories)}'`;
  const failure = new Failure(first.code, message, first.facts, { cause: first });
  failure.changed = done.length > 0;
  throw failure;
}

/** Loads as `loadDirectories`, and puts the rules back that ran before, unless it is confirmed. Throws Failure `unconfirmed`, and as it. */
export async function loadAndWait(
  request: ConfirmRequest & Pick<HostRequest, "defaults">,
  families: readonly Family[],
  keepUndeclared: boolean,
  seconds: number,
): Promise<LoadedHost & { waits?: Waits }> {
  const { host, defaults } = request;
  return alone(request, async (other) => {
    if (other !== undefined && other.stage !== "distrusted") throw unconfirmedFailure(other, await readNow());
    const existing = await existingFamilies(host.directories);
    const wanted = families.filter((family) => existing.includes(family));
    const kernel = await host.backend.formerRules(wanted, host);
    const change = await begin(unconfirmedLoad(kernel, defaults.chain, await waitingFor(seconds)), other, request);
    const loading = { host, check: false, families, keepUndeclared };
    const loaded = await host.backend.loadHost(loading).catch(async (error: unknown) => {
      throw await notLoaded(asFailure(error), change, other, request);
    });
    if (loaded.changed.length > 0) {
      const waits = await countFromNow(change, seconds, request).catch(async (error: unknown) => {
        await putBack(change, request);
        throw error;
      });
      return { ...loaded, waits };
    }
    await notBegun(other, request);
    // They say what runs: there is nothing to try.
    if (other !== undefined) await trustAgain(wanted, host.directories);
    return loaded;
  });
}

/** A load that failed may have loaded what could be loaded: that is put back, too. */
async function notLoaded(
  failure: Failure,
  change: Unconfirmed,
  other: Unconfirmed | undefined,
  request: ConfirmRequest,
): Promise<Failure> {
  if (failure.changed) {
    const { done, failures } = await putBack(change, request);
    // Its timer tries again.
    if (failures.length > 0) return failure;
    failure.changed = false;
    failure.rolledBack = [...(failure.rolledBack ?? []), ...done.map((what): Undone => ({ kind: "put_back", what }))];
  }
  await notBegun(other, request);
  return failure;
}

async function alone<T>({ host }: ConfirmRequest, steps: (change: Unconfirmed | undefined) => Promise<T>): Promise<T> {
  const { directories, timeout } = host;
  const [family] = await existingFamilies(directories);
  const find = async () => steps(await findUnconfirmed(directories));
  return family === undefined ? find() : withWriteLock(directories[family], 2 * timeout, find);
}

function nothingWaits(change: Unconfirmed | undefined): Failure {
  const message =
    change === undefined
      ? "nothing waits for a confirmation: it was confirmed, or its time was over and it was put back ('journalctl -t docker_iptables' says which)"
      : `the ${change.what} was put back: nobody confirmed it in time`;
  return new Failure("nothing_to_confirm", message);
}
