// The options of a container: what the last call that named it gave explicitly. They are in the head of its fragment and survive a
// stop of the container: a fragment without a rule keeps them, until `absent`. Pure.
//
// A call that names a container is declarative: its arguments count, and the head is written anew. A call that does not (sync,
// watch, status, another container's conflict) holds the container to its head, and for the rest to its own arguments.
//
// On disk: a comment line below the fragment's first, "# options: {"guards":false}".

import type { Arguments } from "../generated/arguments.ts";
import { validate } from "../generated/validate-arguments.js";

const NAMES = ["allow", "chain", "guards", "ipv6", "network"] as const;

/** Of the arguments that are a container's options. */
export const OPTION_NAMES: readonly string[] = NAMES;

export type Options = Partial<Pick<Arguments, (typeof NAMES)[number]>>;

/** `network` of this name is the one that Docker itself would choose: it takes back what an earlier call gave. */
export const AUTO = "auto";

/** Those among what was given, in the order of their names. */
export function optionsIn(given: Readonly<Record<string, unknown>>): Options {
  return Object.fromEntries(NAMES.filter((name) => given[name] !== undefined).map((name) => [name, given[name]]));
}

const HEAD = "# options: ";

/** The line of the head; undefined where nothing was given. */
export function headOf(options: Options): string | undefined {
  return Object.keys(options).length === 0 ? undefined : `${HEAD}${JSON.stringify(optionsIn(options))}`;
}

/** What a head says; what is no option, or has no value that an argument could have, counts as not given. */
export function readHead(text: string): Options {
  const line = text.split("\n", 2)[1] ?? "";
  if (!line.startsWith(HEAD)) return {};
  const given = optionsIn(readJson(line.slice(HEAD.length)));
  // Of its own: the validator fills in defaults.
  return validate({ container: ["any"], ...given }) ? given : {};
}

function readJson(text: string): Record<string, unknown> {
  try {
    const read: unknown = JSON.parse(text);
    return typeof read === "object" && read !== null ? { ...read } : {};
  } catch {
    return {};
  }
}

/** Options of an earlier call that a later one does not give any more, as a person writes them. */
export function droppedOptions(former: Options, now: Options): string[] {
  return optionWords(
    Object.fromEntries(NAMES.filter((name) => now[name] === undefined).map((name) => [name, former[name]])),
  );
}

/** As a person writes them at a shell. */
export function optionWords({ allow, ...options }: Options): string[] {
  const lists = Object.entries(allow ?? {}).map(([key, sources = []]) => `--allow ${listWord(key, sources)}`);
  const others = Object.entries(options).flatMap(([name, value]) => {
    if (value === undefined) return [];
    return [typeof value === "boolean" ? `--${value ? "" : "no-"}${name}` : `--${name} ${value}`];
  });
  return [...(allow !== undefined && lists.length === 0 ? ["--allow none"] : lists), ...others];
}

/** More sources are not shown. */
const MOST_SHOWN = 20;

function listWord(key: string, sources: readonly string[]): string {
  const more = sources.length > MOST_SHOWN ? [`… (${sources.length} sources)`] : [];
  const word = `${key}=${[...sources.slice(0, MOST_SHOWN), ...more].join(",")}`;
  return /^[\w@:,./=-]+$/.test(word) ? word : `'${word}'`;
}

/** The network whose address is published; undefined where it is Docker's own choice. */
export function networkOf({ network }: Options): string | undefined {
  return network === AUTO ? undefined : network;
}
