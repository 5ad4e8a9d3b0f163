// Another process that writes between our look and our turn to write: found by the directories' stamps, and by what it wrote.

import { clashesWith } from "./conflicts.ts";
import { FAMILIES } from "./docker/container.ts";
import { Failure } from "./errors.ts";
import type { Fragments } from "./fragments/by-family.ts";
import { stampOf } from "./fragments/directory.ts";
import type { Arguments } from "./generated/arguments.ts";
import { readDirectories } from "./refuse.ts";
import type { Wanted } from "./rules/fragment-text.ts";
import { claimantOf, Register } from "./rules/register.ts";
import { directoryOf, type Item } from "./survey.ts";

/** Another process changed a fragment between our look and our turn to write. Nothing was changed: look again. */
export class Overtaken extends Failure {}

/** The containers' fragments of a call, as they were settled. */
export interface Settled {
  asked: readonly Wanted[];
  neighbours: readonly Wanted[];
  seen: Seen;
}

/** The directories as they were when they were looked at. */
export interface Seen {
  /** From before they were read. */
  stamp: string | undefined;
  now: Fragments;
}

/** Throws Failure `directory_unusable`. */
export async function readStamped(args: Arguments): Promise<Seen> {
  return { stamp: await stampOfAll(args), now: await readDirectories(args) };
}

/** What is another text once another process has written. Undefined where that cannot be told. */
async function stampOfAll(args: Arguments): Promise<string | undefined> {
  const stamps = await Promise.all(FAMILIES.map((family) => stampOf(directoryOf(family, args))));
  return stamps.includes(undefined) ? undefined : stamps.join();
}

/** For the holder of the write lock. Throws Overtaken where the fragments are no longer those that were settled. */
export async function refuseOvertaken(
  { asked, neighbours, seen }: Settled,
  items: readonly Item[],
  args: Arguments,
): Promise<void> {
  if (args.state === "absent" || (seen.stamp !== undefined && seen.stamp === (await stampOfAll(args)))) return;
  const now = await readDirectories(args);
  const owners = new Set(neighbours.map(({ owner }) => owner));
  const [texts, before] = [textsIn(now), textsIn(seen.now)];
  for (const { owner, path, after } of items) {
    // Of all containers nobody asked for this one by its name: whoever wrote its fragment since knows better.
    const text = texts.get(path);
    if ((args.all || owners.has(owner)) && text !== before.get(path) && text !== after) throw overtaken(path);
  }
  const wanted = [...asked, ...neighbours];
  const known = new Register(wanted.map(claimantOf));
  for (const { path } of clashesWith(wanted, known, now).values()) throw overtaken(path);
}

function textsIn(fragments: Fragments): Map<string, string> {
  const all = Object.values(fragments).flat();
  return new Map(all.map(({ path, text }) => [path, text]));
}

function overtaken(path: string): Overtaken {
  const message = `${path} was changed by another process in the meantime, and has to do with what is wanted; try again`;
  return new Overtaken("port_conflict", message, { path });
}
