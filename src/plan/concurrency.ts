// Another process that writes between our read and our turn to write or to load: found by the directories' stamps, by what it
// wrote, and by asking the client once more where its answer is old.

import { isDeepStrictEqual } from "node:util";
import { NOBODY_LISTENS } from "../docker/find.ts";
import type { Fragments } from "../fragments/by-family.ts";
import { readOwn, stampOf } from "../fragments/directory.ts";
import type { Directories } from "../model/directories.ts";
import { ConcurrentChange, Failure } from "../model/errors.ts";
import { FAMILIES, type Family } from "../model/family.ts";
import type { Request } from "../model/request.ts";
import { ClaimIndex, claimantOf } from "../rules/claim-index.ts";
import type { ContainerFragment } from "../rules/desired-fragment.ts";
import type { Host } from "./backend.ts";
import { conflictsWith } from "./conflicts.ts";
import { readDirectories } from "./directories.ts";
import type { FileChange, Item } from "./item.ts";
import { type SelectionRequest, selectNamed } from "./selection.ts";

/** The containers' fragments of a call, as they were settled. */
export interface Settled {
  asked: readonly ContainerFragment[];
  conflicting: readonly ContainerFragment[];
  seen: SeenDirectories;
  answer: Answer;
}

/** The directories as they were when they were looked at. */
export interface SeenDirectories {
  /** From before they were read. */
  stamp: string | undefined;
  now: Fragments;
}

/** What became of the client's answer about the containers that were named. */
export interface Answer {
  wanted: readonly ContainerFragment[];
  /** performance.now() before it was asked. */
  since: number;
  /** Whether some container was waited for: then the directories were looked at only afterwards. */
  waited: boolean;
}

/** Throws Failure `directory_unusable`. */
export async function readStamped(host: Host): Promise<SeenDirectories> {
  return { stamp: await stampOfAll(host.directories), now: await readDirectories(host) };
}

/** A text that is different after another process has written. Undefined where that is unknown. */
async function stampOfAll(directories: Directories): Promise<string | undefined> {
  const stamps = await Promise.all(FAMILIES.map((family) => stampOf(directories[family])));
  return stamps.includes(undefined) ? undefined : stamps.join();
}

/**
 * For the holder of the write lock. Throws ConcurrentChange where the fragments, or the containers that were named, are no longer
 * those that were settled; and Failure of the client, if it is asked again.
 *
 * The directories were read before the client was asked: a fragment that is different now was written by a process that asked
 * later, and has newer facts.
 */
export async function refuseConcurrentChange(
  settled: Settled,
  items: readonly Item[],
  request: SelectionRequest,
): Promise<void> {
  if (request.subject.state === "absent") return;
  const { host } = request;
  const { seen } = settled;
  if (seen.stamp === undefined || seen.stamp !== (await stampOfAll(host.directories)))
    await refuseWritten(settled, items, host);
  if (isOld(settled.answer, request)) await refuseMoved(settled.answer, request);
}

async function refuseWritten({ asked, conflicting, seen }: Settled, items: readonly Item[], host: Host): Promise<void> {
  const now = await readDirectories(host);
  const [texts, before] = [textsIn(now), textsIn(seen.now)];
  for (const { path, family, fragment } of items) {
    const text = texts[family].get(path);
    if (text !== before[family].get(path) && text !== fragment) throw changedByOther(path);
  }
  const wanted = [...asked, ...conflicting];
  const known = new ClaimIndex(wanted.map(claimantOf));
  for (const { path } of conflictsWith(wanted, known, now).values()) throw changedByOther(path);
}

/**
 * The client's answer is old once a command would have reached its time limit. Not where it is about all containers: if containers
 * are created and removed all the time, nothing would ever be published.
 */
function isOld({ since, waited }: Answer, { subject, client }: Pick<Request, "subject" | "client">): boolean {
  const isNamed = !subject.all && subject.containers.length > 0;
  return isNamed && (waited || performance.now() - since > client.timeout * 1000);
}

/** A container that was restarted since has perhaps another address, and its former one may be another's. */
async function refuseMoved({ wanted }: Answer, request: SelectionRequest): Promise<void> {
  const nobody = new AbortController().signal;
  const again = await selectNamed({ ...request, check: true }, {}, nobody, NOBODY_LISTENS).catch((error: unknown) => {
    // It is waited for without the lock.
    if (error instanceof Failure && error.code === "command_timeout")
      throw new ConcurrentChange(error.message, error.facts);
    throw error;
  });
  const now = new Map(again.wanted.map((one) => [one.owner.name, one]));
  const textsOf = (one: ContainerFragment | undefined) =>
    one === undefined ? {} : request.host.backend.write(one).texts;
  const moved = wanted.find((one) => !isDeepStrictEqual(textsOf(now.get(one.owner.name)), textsOf(one)));
  if (moved === undefined) return;
  const message = `the container ${moved.owner.name} was restarted or changed during this call; nothing was changed; retry`;
  throw new ConcurrentChange(message, { container: moved.owner.name });
}

function textsIn(fragments: Fragments): Record<Family, Map<string, string>> {
  const textsOf = (family: Family) => new Map((fragments[family] ?? []).map(({ path, text }) => [path, text]));
  return { ipv4: textsOf("ipv4"), ipv6: textsOf("ipv6") };
}

function changedByOther(path: string): ConcurrentChange {
  const message = `another process changed ${path} during this call; nothing was changed; retry (${WHO})`;
  return new ConcurrentChange(message, { path });
}

/** Where each change of ours is recorded, with who called. */
const WHO = "'journalctl -t docker_iptables' says which";

/**
 * After a load that did not have the desired result: throws if that is because another process has changed a fragment since it was
 * written or read. The kernel is then as the fragments say, and there is nothing to restore.
 *
 * Throws ConcurrentChange: if this call itself has written nothing (`wrote`) it starts again; else the later process decides.
 */
export async function refuseRewritten(drifting: readonly FileChange[], wrote: boolean): Promise<void> {
  for (const { path, after } of drifting) {
    const text = (await readOwn(path))?.text;
    if (text !== after) throw wrote ? rewritten(path, text, after) : changedByOther(path);
  }
}

function rewritten(path: string, text: string | undefined, after: string | undefined): ConcurrentChange {
  const theirs = text === undefined ? "removed" : after === undefined ? "wrote" : "changed";
  const ours = after === undefined ? "removed" : "wrote";
  const message = `another process ${theirs} ${path} after this call ${ours} it, and the rules are as that process left them; retry (${WHO})`;
  const failure = new ConcurrentChange(message, { path });
  failure.changed = true;
  return failure;
}
