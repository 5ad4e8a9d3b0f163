// watch: follows the daemon's events and keeps files and kernel in line with the running containers. A burst of events is one sync;
// while the daemon is down it waits, and then syncs. Between the syncs it checks that its rules are still there.

import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { followEvents } from "../docker/client.ts";
import { readOwn } from "../fragments/directory.ts";
import { isManaged } from "../iptables/fragment-text.ts";
import { asFailure, excerpt, Failure } from "../model/errors.ts";
import { HOST_FILES, hostOwner } from "../model/owner.ts";
import type { Client } from "../model/request.ts";
import type { Host, HostRequest, Lookout } from "../plan/backend.ts";
import { verbose } from "../system/verbose.ts";
import { type Manager, notify, Pulse } from "../systemd/notify.ts";
import { type Outcome, publish } from "./publish.ts";
import { describeReason, listTables, type Reason } from "./reasons.ts";

/** What is reported: each change with its reasons, and each failure once. */
export interface Reporter {
  synced: (outcome: Outcome, reasons: readonly Reason[]) => Promise<void>;
  failed: (failure: Failure) => void;
}

/** milliseconds: how long to listen for more of a burst, and how long news can wait. */
const BURST = 5;
const LATER = 500;
/** milliseconds: the pauses before another attempt: in general, and for the host rules alone. */
const PAUSE = { first: 100, longest: 5000, base: 60_000 };
/** Of a burst's reasons the first ones are reported. */
const MOST_REASONS = 20;

/**
 * Until the signal; `request` is for all containers. A failure is reported, and retried; only what no waiting cures ends it, at its
 * start: Failure `permission_denied`.
 */
export async function watch(
  request: HostRequest,
  manager: Manager,
  reporter: Reporter,
  stop: AbortSignal,
): Promise<void> {
  const ended = new AbortController();
  const signal = AbortSignal.any([stop, ended.signal]);
  const news = new News();
  signal.addEventListener("abort", () => news.ring(), { once: true });
  const complaints = new Complaints(reporter);
  const lookout = request.host.backend.lookout(request.host);
  const listening = listen(request.client, news, complaints, signal);
  try {
    await syncOnNews({ request, news, lookout, reporter, complaints, signal }, manager);
  } finally {
    ended.abort();
    await listening;
  }
}

/** What the syncs share. */
interface Watch {
  request: HostRequest;
  news: News;
  lookout: Lookout;
  reporter: Reporter;
  complaints: Complaints;
  signal: AbortSignal;
}

/** A problem is reported once, until it is solved. */
class Complaints {
  readonly #tell: Reporter["failed"];
  readonly #known = new Set<string>();

  constructor({ failed }: Reporter) {
    this.#tell = failed;
  }

  tell(failure: Failure): void {
    if (!this.#known.has(gistOf(failure))) this.#tell(failure);
    this.#known.add(gistOf(failure));
  }

  clear(): void {
    this.#known.clear();
  }
}

/** A failure's words without the time, which some clients (nerdctl) put before theirs. */
function gistOf({ message }: Failure): string {
  return message.replace(/\btime="[^"]*"/g, "");
}

interface Taken {
  reasons: Reason[];
  networks: boolean;
}

/** What has happened since the last sync. */
class News {
  #reasons: Reason[] = [];
  #rung = true;
  #networks = true;
  #wake = () => {};
  #later: NodeJS.Timeout | undefined;

  /** `networks`: some may have come or gone, as always where it is not known what happened. */
  ring(reason?: Reason, networks = true): void {
    clearTimeout(this.#later);
    this.#later = undefined;
    this.#rung = true;
    this.#networks ||= networks;
    if (reason !== undefined && this.#reasons.length < MOST_REASONS) this.#reasons.push(reason);
    this.#wake();
  }

  /** Soon, unless a sync for other news comes first, which is as good. */
  ringLater(reason: Reason): void {
    this.#later ??= setTimeout(() => this.ring(reason, false), LATER);
  }

  /** What was taken was of no use: the next attempt is about as much. */
  putBack({ reasons, networks }: Taken): void {
    this.#reasons = [...reasons, ...this.#reasons].slice(0, MOST_REASONS);
    this.#networks ||= networks;
  }

  /** Waits for news, at most so long; says whether there are any. */
  async wait(milliseconds: number): Promise<boolean> {
    if (this.#rung) return true;
    const { promise, resolve } = withResolvers();
    this.#wake = resolve;
    const timer = setTimeout(resolve, milliseconds);
    await promise;
    clearTimeout(timer);
    return this.#rung;
  }

  take(): Taken {
    const networks = this.#networks;
    this.#rung = false;
    this.#networks = false;
    return { reasons: this.#reasons.splice(0), networks };
  }
}

function withResolvers(): { promise: Promise<void>; resolve: () => void } {
  let resolve = () => {};
  const promise = new Promise<void>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}

async function syncOnNews(work: Watch, manager: Manager): Promise<void> {
  const { news, lookout, signal } = work;
  const pulse = new Pulse(manager, signal);
  let ready = false;
  let pause: number | undefined;
  let retry = Number.POSITIVE_INFINITY;
  while (!signal.aborted) {
    const now = performance.now();
    const rung = await news.wait(pauseUntil(now, { retry, look: lookout.next, pulse: now + pulse.pause }));
    if (signal.aborted) return;
    if (rung || performance.now() >= retry) {
      await sleep(BURST);
      pause = await syncOnce(work, pause, !ready);
      retry = pause === undefined ? Number.POSITIVE_INFINITY : performance.now() + pause;
      if (!ready) notify(manager, signal, "READY=1", "STATUS=following the daemon's events");
      ready = true;
    } else if (looksBefore(retry, performance.now()) && performance.now() >= lookout.next) {
      await lookOnce(work);
    }
    pulse.beat();
  }
}

/** When there is something to do without news, in milliseconds of one clock; infinite where there is not. */
interface Due {
  retry: number;
  look: number;
  pulse: number;
}

/** An attempt that is due soon checks everything. */
function looksBefore(retry: number, now: number): boolean {
  return retry - now > PAUSE.longest;
}

/** Milliseconds from now until the first that is due, never less than none: while a retry is due, nothing else is checked. Pure. */
export function pauseUntil(now: number, { retry, look, pulse }: Due): number {
  const first = Math.min(retry, looksBefore(retry, now) ? look : retry, pulse);
  return Math.max(first - now, 0);
}

/** Returns the pause before another attempt; undefined where none is needed. */
async function syncOnce(
  { request, news, lookout, reporter, complaints, signal }: Watch,
  pause: number | undefined,
  isFirst: boolean,
): Promise<number | undefined> {
  const taken = news.take();
  verbose(() => `sync: ${taken.reasons.map(describeReason).join(", ") || "to begin with, or again"}`);
  const sync = async (base: boolean) => {
    const outcome = await publish({ ...request, subject: { ...request.subject, base } }, signal);
    lookout.learn(outcome.committed.live);
    const isOld = lookout.flushes > 2 && taken.reasons.length > 0 && taken.reasons.every(isFlush);
    if (!isOld) await reporter.synced(outcome, taken.reasons);
  };
  try {
    await sync(taken.networks && (await hasOwnBase(request.host)));
    complaints.clear();
    return undefined;
  } catch (error) {
    const failure = asFailure(error);
    if (signal.aborted && failure.code === "interrupted") return undefined;
    complaints.tell(failure);
    // A failure of the host rules does not stop the containers.
    const second = taken.networks ? await sync(false).catch(asFailure) : failure;
    if (isFirst && second?.code === "permission_denied") throw second;
    const published = second === undefined;
    verbose(() => `sync: ${published ? "failed with the host rules, done without them" : failure.message}`);
    if (!published) complaints.tell(second);
    news.putBack(published ? { reasons: [], networks: true } : taken);
    return published ? PAUSE.base : Math.min((pause ?? PAUSE.first) * 2, PAUSE.longest);
  }
}

function isFlush({ kind }: Reason): boolean {
  return kind === "flushed";
}

/** A flush is reported. If it happens again and again, it is reported once, and then only what else there is. */
async function lookOnce({ news, lookout, reporter }: Watch): Promise<void> {
  const flushed = await lookout.look();
  if (flushed.length === 0) return;
  news.ring({ kind: "flushed", tables: flushed });
  if (lookout.flushes !== 2) return;
  const tables = listTables(flushed);
  const message =
    `another program repeatedly removes docker_iptables' rules (${tables}); they are put back, but later each time, up to a ` +
    "minute, and this is not reported again: find that program (a firewall service, a script; with iptables-nft 'nft monitor' names its process)";
  reporter.failed(new Failure("concurrent_change", message, { tables }));
}

/** If setup made the host rules, they are updated to the networks, too. */
async function hasOwnBase({ directories, backend }: Host): Promise<boolean> {
  const base = await readOwn(join(directories.ipv4, backend.fileOf(hostOwner(HOST_FILES[0]))));
  return base !== undefined && isManaged(base.text);
}

/**
 * Each time that the daemon is back there is a sync for what happened in between. If the client cannot follow the events (it is not
 * installed, or has none), that is reported once, and each attempt is a sync: so there is one every few seconds.
 */
async function listen(client: Client, news: News, complaints: Complaints, signal: AbortSignal): Promise<void> {
  let pause = PAUSE.first;
  let complaint = "";
  while (!signal.aborted) {
    const started = Date.now();
    // Events come from a moment before on: nothing is missed between this sync and the first of them.
    news.ring();
    const listener = { line: (line: string) => onEvent(line, news), gap: () => news.ring() };
    const failure = await followEvents(client, listener, signal).catch(asFailure);
    const lasted = Date.now() - started > PAUSE.longest;
    // While the daemon is down the sync fails, too, and reports it; a daemon that stops ends a stream that worked.
    const isNews = !signal.aborted && !lasted && failure instanceof Failure && failure.code !== "daemon_unreachable";
    if (lasted) complaint = "";
    if (isNews && gistOf(failure) !== complaint) {
      complaint = gistOf(failure);
      complaints.tell(failure);
    }
    pause = lasted ? PAUSE.first : Math.min(pause * 2, PAUSE.longest);
    if (!signal.aborted) verbose(() => `wait: ${pause} ms, then the daemon's events are followed again`);
    await sleep(pause, undefined, { signal }).catch(() => {});
  }
}

/** What changes an address, a port or a network. Docker's words, podman's, and containerd's. */
const TELLING: Record<string, RegExp> = {
  container: /^(start|died?|exit|rename)$/,
  network: /^(create|destroy|remove)$/,
};
/** Mostly these come just before a start or after an end, and a sync of their own would keep those waiting. */
const ACCOMPANYING: Record<string, RegExp> = {
  container: /^(destroy|remove|restart|stop|cleanup|unpause)$/,
  network: /^(connect|disconnect)$/,
};

function onEvent(line: string, news: News): void {
  const event = readEvent(line);
  if (event === undefined) return;
  const { type, action, name } = event;
  const reason: Reason = { kind: "event", name, action };
  if (TELLING[type]?.test(action)) news.ring(reason, type === "network");
  else if (ACCOMPANYING[type]?.test(action)) news.ringLater(reason);
}

/** Pure. Undefined for a line that is no event. */
export function readEvent(line: string): { type: string; action: string; name: string } | undefined {
  try {
    const event = asRecord(JSON.parse(line));
    if (typeof event["Topic"] === "string") return readTopic(event["Topic"], event);
    const attributes = asRecord(asRecord(event["Actor"])["Attributes"] ?? event["Attributes"]);
    const text = (value: unknown) => (typeof value === "string" ? excerpt(value, 64) : "");
    return {
      type: text(event["Type"]).toLowerCase(),
      action: text(event["Action"] ?? event["Status"]),
      // Of a network podman names it elsewhere, and Docker's events of it have an empty name (tried, 5.4 and 5.8).
      name: text(attributes["name"] || (event["Name"] ?? attributes["network"] ?? event["network"])),
    };
  } catch {
    return undefined;
  }
}

/**
 * What nerdctl prints: containerd's own event, whose text is JSON, too (nerdctl 2: pkg/cmd/system/events.go). A process that was
 * started in a container exits under an id of its own.
 */
function readTopic(topic: string, { ID, Event }: Record<string, unknown>): ReturnType<typeof readEvent> {
  const { container_id, id = container_id } = asRecord(JSON.parse(typeof Event === "string" ? Event : "{}"));
  const action = /^\/tasks\/([a-z-]+)$/.exec(topic)?.[1] ?? "";
  const name = typeof ID === "string" ? excerpt(ID, 64) : "";
  return { type: "container", action: id === container_id ? excerpt(action, 64) : "", name };
}

function asRecord(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? { ...value } : {};
}
