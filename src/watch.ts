// watch: follows the daemon's events and brings files and kernel to what runs. A burst of events is one sync; a daemon that
// goes away is waited for, and what happened meanwhile is caught up when it is back.

import { setTimeout as sleep } from "node:timers/promises";
import { hostOption } from "./docker/client.ts";
import { asFailure, excerpt, type Failure } from "./errors.ts";
import { follow } from "./exec.ts";
import { readOwn } from "./fragments/directory.ts";
import type { Arguments } from "./generated/arguments.ts";
import { keepAlive, type Manager, notify } from "./kernel/notify.ts";
import { type Outcome, publish } from "./publish.ts";
import type { Request } from "./request.ts";
import { BASE_FILES } from "./rules/base-rules.ts";
import { isMarked } from "./rules/fragment-text.ts";

/** What is told of the work: each change with its reasons, and each failure once. */
export interface Told {
  synced: (outcome: Outcome, reasons: readonly string[]) => Promise<void>;
  failed: (failure: Failure) => void;
}

/** milliseconds: how long to listen for more of a burst, and how long news can wait. */
const BURST = 10;
const LATER = 500;
/** milliseconds: the pauses before another attempt: at all, at the base alone. */
const PAUSE = { first: 100, longest: 5000, base: 60_000 };
/** Of a burst's reasons the first ones are told. */
const MOST_REASONS = 20;

/** Until the signal; `request` is for all containers. Never throws: what fails is told, and tried again. */
export async function watch(request: Request, manager: Manager, told: Told, signal: AbortSignal): Promise<void> {
  const news = new News();
  signal.addEventListener("abort", () => news.ring(), { once: true });
  keepAlive(manager, signal);
  await Promise.all([followEvents(request.args, news, signal), syncOnNews(request, manager, news, told, signal)]);
}

interface Taken {
  reasons: string[];
  networks: boolean;
}

/** What has happened since the last sync. */
class News {
  #reasons: string[] = [];
  #rung = true;
  #networks = true;
  #wake = () => {};
  #later: NodeJS.Timeout | undefined;

  /** `networks`: some may have come or gone, as always where it is not known what happened. */
  ring(reason?: string, networks = true): void {
    clearTimeout(this.#later);
    this.#later = undefined;
    this.#rung = true;
    this.#networks ||= networks;
    if (reason !== undefined && this.#reasons.length < MOST_REASONS) this.#reasons.push(reason);
    this.#wake();
  }

  /** Soon, unless a sync for other news comes first, which is as good. */
  ringLater(reason: string): void {
    this.#later ??= setTimeout(() => this.ring(reason, false), LATER);
  }

  /** What was taken was of no use: the next attempt is about as much. */
  putBack({ reasons, networks }: Taken): void {
    this.#reasons = [...reasons, ...this.#reasons].slice(0, MOST_REASONS);
    this.#networks ||= networks;
  }

  /** Waits for news, at most so long. */
  async wait(milliseconds: number | undefined): Promise<void> {
    if (this.#rung) return;
    const { promise, resolve } = withResolvers();
    this.#wake = resolve;
    const timer = milliseconds === undefined ? undefined : setTimeout(resolve, milliseconds);
    await promise;
    clearTimeout(timer);
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

async function syncOnNews(
  request: Request,
  manager: Manager,
  news: News,
  told: Told,
  signal: AbortSignal,
): Promise<void> {
  let ready = false;
  let pause: number | undefined;
  let complaint = "";
  const sync = async (base: boolean, reasons: readonly string[]) =>
    told.synced(await publish({ ...request, args: { ...request.args, base } }, signal), reasons);
  while (!signal.aborted) {
    await news.wait(pause);
    if (signal.aborted) return;
    await sleep(BURST);
    const taken = news.take();
    try {
      await sync(taken.networks && (await hasOwnBase(request.args)), taken.reasons);
      pause = undefined;
      complaint = "";
    } catch (error) {
      const failure = asFailure(error);
      if (signal.aborted && failure.code === "interrupted") return;
      if (failure.message !== complaint) told.failed(failure);
      complaint = failure.message;
      // What stops the base is no obstacle to the containers.
      const published = taken.networks && (await sync(false, taken.reasons).then(isDone, isNotDone));
      news.putBack(published ? { reasons: [], networks: true } : taken);
      pause = published ? PAUSE.base : Math.min((pause ?? PAUSE.first) * 2, PAUSE.longest);
    }
    if (!ready) await notify(manager, "READY=1", "STATUS=following the daemon's events");
    ready = true;
  }
}

const isDone = () => true;
const isNotDone = () => false;

/** Where setup made the base, it follows the networks, too. */
async function hasOwnBase({ iptables_dir }: Arguments): Promise<boolean> {
  const base = await readOwn(`${iptables_dir}/${BASE_FILES[0]}`);
  return base !== undefined && isMarked(base.text);
}

/** Each time that the daemon is there again, what happened in between is news. */
async function followEvents(args: Arguments, news: News, signal: AbortSignal): Promise<void> {
  let pause = PAUSE.first;
  while (!signal.aborted) {
    // From a moment before, so that nothing is missed between a sync and the first event.
    const since = Math.floor(Date.now() / 1000) - 1;
    const words = [...hostOption(args), "events", "--since", String(since), "--format", "{{json .}}"];
    const started = Date.now();
    news.ring();
    // A client that cannot be started fails the sync, too, which tells it.
    await follow(args.client, words, (line) => onEvent(line, news), signal).catch(() => {});
    pause = Date.now() - started > PAUSE.longest ? PAUSE.first : Math.min(pause * 2, PAUSE.longest);
    await sleep(pause, undefined, { signal }).catch(() => {});
  }
}

/** What changes an address, a port or a network. Docker's words, podman's, and nerdctl's. */
const TELLING: Record<string, RegExp> = {
  container: /^(start|died?|rename)$/,
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
  if (TELLING[type]?.test(action)) news.ring(`${name} ${action}`, type === "network");
  else if (ACCOMPANYING[type]?.test(action)) news.ringLater(`${name} ${action}`);
}

/** Pure. Undefined for a line that is no event. */
export function readEvent(line: string): { type: string; action: string; name: string } | undefined {
  try {
    const event = asRecord(JSON.parse(line));
    const attributes = asRecord(asRecord(event["Actor"])["Attributes"] ?? event["Attributes"]);
    const text = (value: unknown) => (typeof value === "string" ? excerpt(value, 64) : "");
    return {
      type: text(event["Type"]).toLowerCase(),
      action: text(event["Action"] ?? event["Status"]),
      name: text(attributes["name"] ?? event["Name"]),
    };
  } catch {
    return undefined;
  }
}

function asRecord(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? { ...value } : {};
}
