// The arguments as flags of a command line: one for each property of the schema. Pure.

import schema from "../../schema/arguments.schema.json" with { type: "json" };
import type { Arguments } from "../generated/arguments.ts";

/** The arguments that have a flag, with what kind of value it takes. */
export const FLAGS = Object.entries(schema.properties)
  .filter(([name]) => !["container", "state", "query"].includes(name))
  .map(([name, property]) => ({
    name,
    flag: name.replaceAll("_", "-"),
    type: property.type,
    description: property.description,
    fallback: "default" in property ? property.default : undefined,
    choices: "enum" in property ? property.enum : undefined,
  }));

/** Arguments of one call, not of a service that keeps running. */
const OF_ONE_CALL = new Set(["all", "base", "watch", "adopt", "replace", "confirm", "wait_timeout", "debug"]);

/**
 * The words that give a call the same arguments: those that differ from what it has without (`settings`, and the defaults); of
 * them those that `takes` names.
 */
export function flagsOf(
  args: Partial<Arguments>,
  settings: Partial<Arguments> = {},
  takes: (flag: string) => boolean = () => true,
): string[] {
  const given: Readonly<Record<string, unknown>> = { ...args };
  const set: Readonly<Record<string, unknown>> = { ...settings };
  return FLAGS.filter(({ name, flag }) => !OF_ONE_CALL.has(name) && takes(flag)).flatMap(
    ({ name, flag, type, fallback }) => {
      const value = given[name];
      if (value === undefined || value === (set[name] ?? fallback)) return [];
      if (type === "boolean") return [value === true ? `--${flag}` : `--no-${flag}`];
      if (type === "object") return JSON.stringify(value) === JSON.stringify(set[name]) ? [] : listFlags(flag, value);
      return [`--${flag}`, String(value)];
    },
  );
}

function listFlags(flag: string, value: unknown): string[] {
  const lists = Object.entries(value as Readonly<Record<string, readonly string[]>>);
  if (lists.length === 0) return [`--${flag}`, "none"];
  return lists.flatMap(([key, sources]) => [`--${flag}`, `${key}=${sources.join(",")}`]);
}

/** The arguments that these words give: what `flagsOf` made. */
export function readFlags(words: readonly string[]): Partial<Arguments> {
  const args: Record<string, unknown> = {};
  for (const [index, word] of words.entries()) {
    const known = FLAGS.find(({ flag }) => word === `--${flag}` || word === `--no-${flag}`);
    // Lists are no service's.
    if (known === undefined || known.type === "object") continue;
    const value = words[index + 1] ?? "";
    args[known.name] =
      known.type === "boolean" ? word === `--${known.flag}` : known.type === "integer" ? Number(value) : value;
  }
  return args;
}
