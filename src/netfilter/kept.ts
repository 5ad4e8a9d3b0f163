// What was read of nftables, and is not read again while its generation is the same: within a run, and from one run to the next, which then
// starts no iptables-save and no nft to know what the last one left. What only asks (status, ls, explain) looks for itself.
//
// A table that goes with the program that owns it goes without a transaction: what lists others' tables is not left to another run.
//
// On disk: ipv4.seen of the state (JSON, see Seen). Node.js cannot ask for the generation, and neither reads nor writes it.

import { access, stat } from "node:fs/promises";
import { bootId } from "../fragments/confirmed.ts";
import { compiledProgram, isSameProgram, type Program } from "../system/program.ts";
import { keepState, readState, type State } from "../system/state.ts";
import { verbose } from "../system/verbose.ts";
import { namespaceCookie, readGeneration } from "./generation.ts";

/** What is kept. */
interface Keeping<Value> {
  name: string;
  /** The command that lists it. */
  command: string;
  /** Whether what it printed may be kept at all. */
  lasts?: (value: Value, program: Program) => boolean;
  /** Whether that still holds, as far as a generation does not tell. */
  holds?: () => Promise<boolean>;
  /** How other runs get it, as JSON; undefined where they do not. `read` returns undefined for what is none, or throws TypeError. */
  left?: { write: (value: Value) => unknown; read: (json: unknown) => Value | undefined };
}

/** What a program listed, and when. An upgrade or another alternative is another program. */
interface Last<Value> {
  generation: number;
  program: Program;
  value: Value;
}

/** What is asked for each time; others in tests. */
const ASKED = { generation: readGeneration, programOf: compiledProgram };

/** What was read of nftables: it is read again once something has changed, or may have. */
export class Kept<Value> {
  readonly name: string;
  readonly #keeping: Keeping<Value>;
  readonly #asked: typeof ASKED;
  #last: Last<Value> | undefined;

  constructor(keeping: Keeping<Value>, asked = ASKED) {
    this.name = keeping.name;
    this.#keeping = keeping;
    this.#asked = asked;
    kept.push(this);
  }

  /** Throws as `fresh`. */
  async read(fresh: () => Promise<Value>): Promise<Value> {
    const { command, lasts } = this.#keeping;
    const generation = await this.#asked.generation();
    if (generation === undefined) return fresh();
    const program = await this.#asked.programOf(command);
    if (this.#last?.generation !== generation) this.#last = (await this.#recall(generation)) ?? this.#last;
    const last = this.#last;
    if (last?.generation === generation && (await this.#isOf(last, program))) {
      verbose(() => `nftables: nothing has changed since the last list (generation ${generation})`);
      return last.value;
    }
    const value = await fresh();
    // A list that was read while something changed is nothing to rely on.
    const isKept =
      program !== undefined && lasts?.(value, program) !== false && generation === (await this.#asked.generation());
    this.#last = isKept ? { generation, program, value } : undefined;
    if (isKept && this.#keeping.left !== undefined) leaveSeen();
    return value;
  }

  /** Whether this program would say the same, as far as a generation does not tell. */
  async #isOf(last: Last<Value>, program: Program | undefined): Promise<boolean> {
    return program !== undefined && isSameProgram(last.program, program) && (await this.#keeping.holds?.()) !== false;
  }

  async #recall(generation: number): Promise<Last<Value> | undefined> {
    const one = this.#keeping.left && (await seenAt(generation))?.[this.name];
    try {
      const value = one && this.#keeping.left?.read(one.value);
      return one === undefined || value === undefined ? undefined : { generation, program: one.program, value };
    } catch (error) {
      if (error instanceof TypeError) return undefined;
      throw error;
    }
  }

  /** The generation in which this value was read here, if it is the one that is now; undefined where that is not certain. */
  async generationOf(value: Value): Promise<number | undefined> {
    const last = this.#last;
    if (last === undefined || last.value !== value) return undefined;
    if (!(await this.#isOf(last, await this.#asked.programOf(this.#keeping.command)))) return undefined;
    return (await this.#asked.generation()) === last.generation ? last.generation : undefined;
  }

  /** What other runs get, and of when it is. */
  get left(): { generation: number; name: string; json: () => SeenOne } | undefined {
    const { left } = this.#keeping;
    if (left === undefined || this.#last === undefined) return undefined;
    const { generation, program, value } = this.#last;
    return { generation, name: this.name, json: () => ({ program, value: left.write(value) }) };
  }

  /** What is kept of one generation is so of another, too. */
  carry(from: number, to: number): void {
    if (this.#last?.generation === from) this.#last = { ...this.#last, generation: to };
  }
}

/**
 * As `steps`, which are `count` transactions of our own, each with a change, none of which touches what is kept by other names than these. Nothing is carried
 * over where they fail, or another's comes between. `from` is the generation since which there were no others; undefined where that is not
 * certain. Throws as `steps`.
 */
export async function across<T>(
  touched: readonly string[],
  count: number | undefined,
  steps: () => Promise<T>,
  isDone: (result: T) => boolean,
  generation = readGeneration,
): Promise<{ result: T; from?: number }> {
  const before = await generation();
  const result = await steps();
  if (before === undefined || count === undefined || !isDone(result)) return { result };
  const after = await generation();
  if (after !== before + count) return { result };
  for (const one of kept) if (!touched.includes(one.name)) one.carry(before, after);
  return { result, from: before };
}

/** What a run leaves to others, beside it or after it: as it was in this generation of this namespace. */
interface Seen {
  format: typeof FORMAT;
  /** This boot's, by a name that no other gets (`namespaceName`). */
  namespace: string;
  generation: number;
  /** By the names of what is kept. */
  values: Record<string, SeenOne>;
}

interface SeenOne {
  program: Program;
  value: unknown;
}

/** Another one is of another version, and not read: it grows with each change of what is left. */
const FORMAT = 1;

const kept: Pick<Kept<unknown>, "name" | "left" | "carry">[] = [];

let place: State | undefined;
let mayLeave = false;
/** What is on disk, as far as it is known. */
let seen: Promise<Seen | undefined> = Promise.resolve(undefined);
let leaving = Promise.resolve();
let isDue = false;

/**
 * From now on what runs of the same directories left is relied on, while the generation is the same; and this one leaves what it reads,
 * if it may.
 */
export function shareSeen(state: State, leaves: boolean): void {
  place = state;
  mayLeave = leaves;
  seen = readSeen(state);
}

async function readSeen(state: State): Promise<Seen | undefined> {
  try {
    const [text, namespace] = await Promise.all([readState(state, "seen"), namespaceName()]);
    const read: Seen | undefined = text === undefined ? undefined : JSON.parse(text);
    return read?.format === FORMAT && read.namespace === namespace ? read : undefined;
  } catch {
    return undefined;
  }
}

async function seenAt(generation: number): Promise<Seen["values"] | undefined> {
  if (place === undefined) return undefined;
  if ((await seen)?.generation !== generation) seen = readSeen(place);
  const now = await seen;
  return now?.generation === generation ? now.values : undefined;
}

/** Soon, with what else is read until then; what fails costs another run a look. */
function leaveSeen(): void {
  const state = place;
  if (state === undefined || !mayLeave || isDue) return;
  isDue = true;
  leaving = leaving.then(() => leaveNow(state)).catch(() => {});
}

/** On a host that is set up: else there would be a directory that nobody removes. */
async function leaveNow(state: State): Promise<void> {
  isDue = false;
  await access(state.directory);
  const all = kept.flatMap(({ left }) => left ?? []);
  const generation = Math.max(...all.map((one) => one.generation));
  const namespace = await namespaceName();
  if (namespace === undefined) return;
  const own = all.filter((one) => one.generation === generation).map(({ name, json }) => [name, json()]);
  const values = { ...(await seenAt(generation)), ...Object.fromEntries(own) };
  const left: Seen = { format: FORMAT, namespace, generation, values };
  await keepState(state, "seen", JSON.stringify(left));
  seen = Promise.resolve(left);
}

/** Undefined where the kernel does not name them. A module that was unloaded counts from 1 again, and has another inode. */
async function namespaceName(): Promise<string | undefined> {
  const cookie = await namespaceCookie();
  if (cookie === undefined) return undefined;
  const module = await stat("/sys/module/nf_tables").catch(() => undefined);
  return `${await bootId()} ${cookie} ${module?.ino}`;
}
