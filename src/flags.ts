// The arguments as flags of a command line: one for each property of the schema. Pure.

import schema from "../schema/arguments.schema.json" with { type: "json" };
import type { Arguments } from "./generated/arguments.ts";

/** The arguments that have a flag, with what kind of value it takes. */
export const FLAGS = Object.entries(schema.properties)
  .filter(([name]) => name !== "container" && name !== "state")
  .map(([name, property]) => ({
    name,
    flag: name.replaceAll("_", "-"),
    type: property.type,
    description: property.description,
    fallback: "default" in property ? property.default : undefined,
    choices: "enum" in property ? property.enum : undefined,
  }));

/** What is one call's alone, not a service's that goes on. */
const OF_ONE_CALL = new Set(["all", "base", "watch", "adopt", "replace", "wait_timeout", "debug"]);

/** The words that give a service the same arguments: those that are not the defaults. */
export function flagsOf(args: Arguments): string[] {
  const given: Readonly<Record<string, unknown>> = { ...args };
  return FLAGS.filter(({ name }) => !OF_ONE_CALL.has(name)).flatMap(({ name, flag, type, fallback }) => {
    const value = given[name];
    if (value === undefined || value === fallback) return [];
    if (type === "boolean") return [value === true ? `--${flag}` : `--no-${flag}`];
    return [`--${flag}`, String(value)];
  });
}
