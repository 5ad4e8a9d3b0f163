// Door 3: verbs and flags. A flag for every argument of the schema; it ends in raw arguments, as the other doors do.

import { type ParseArgsConfig, parseArgs } from "node:util";
import { FAMILIES, type Family } from "../docker/container.ts";
import { FLAGS } from "../flags.ts";
import type { Raw } from "./json.ts";

/** How a person named the states, since the original script. */
const STATES: Record<string, string> = { create: "present", delete: "absent" };
export const VERBS = [...Object.keys(STATES), "setup", "sync", "watch", "status", "explain", "load"];

export type Command =
  | { kind: "help"; verb: string | undefined }
  | { kind: "version" }
  | { kind: "publish" | "explain" | "status" | "watch"; raw: Raw; json: boolean }
  | { kind: "load"; raw: Raw; json: boolean; families: readonly Family[] };

/** Wrong usage of a verb; exit status 2. */
export class UsageError extends Error {}

/** Throws UsageError. */
export function readCommand(argv: readonly string[]): Command {
  const { values, positionals } = parse(argv);
  const [verb, ...names] = positionals;
  if (values["help"] === true || verb === "help") return { kind: "help", verb };
  if (values["version"] === true) return { kind: "version" };
  if (verb === undefined) throw new UsageError(`a verb is missing: ${VERBS.join(", ")}`);
  const json = values["json"] === true;
  const raw = rawOf(values);
  if (values["remove"] === true && verb !== "setup") throw new UsageError("--remove belongs to setup");
  if (verb === "load") return { kind: "load", raw, json, families: readFamilies(names) };
  if (verb === "setup") {
    if (names.length > 0) throw new UsageError("setup is about the whole host and takes no name; 'create' publishes");
    const state = values["remove"] === true ? "absent" : "present";
    return { kind: "publish", raw: { base: true, state, ...raw }, json };
  }
  if (verb === "sync" || verb === "watch") {
    if (names.length > 0)
      throw new UsageError(`${verb} is about all containers and takes no name; 'create' publishes one`);
    return { kind: verb === "watch" ? verb : "publish", raw: { all: true, ...raw }, json };
  }
  if (verb === "status") {
    return { kind: verb, raw: { ...(names.length > 0 ? { container: names } : {}), ...raw }, json };
  }
  const state = STATES[verb];
  if (!VERBS.includes(verb))
    throw new UsageError(`there is no verb ${JSON.stringify(verb)}; there are ${VERBS.join(", ")}`);
  if (names.length === 0 && (raw["all"] !== true || state === undefined))
    throw new UsageError(`${verb} needs the name of a container`);
  if (state === undefined) return { kind: "explain", raw: { container: names, ...raw }, json };
  return { kind: "publish", raw: { ...(names.length > 0 ? { container: names } : {}), state, ...raw }, json };
}

/** `load ipv4`, `load ipv6`, or both. */
function readFamilies(names: readonly string[]): readonly Family[] {
  const unknown = names.find((name) => !FAMILIES.some((family) => family === name));
  if (unknown !== undefined)
    throw new UsageError(`load takes ${FAMILIES.join(" or ")}, not ${JSON.stringify(unknown)}`);
  return names.length === 0 ? FAMILIES : FAMILIES.filter((family) => names.includes(family));
}

function rawOf(values: ReturnType<typeof parse>["values"]): Raw {
  const raw: Raw = {};
  for (const { name, flag, type } of FLAGS) {
    if (type === "boolean") {
      if (values[flag] !== undefined) raw[name] = true;
      if (values[`no-${flag}`] !== undefined) raw[name] = false;
    } else if (values[flag] !== undefined) raw[name] = values[flag];
  }
  if (values["check"] === true) raw["_ansible_check_mode"] = true;
  if (values["diff"] === true) raw["_ansible_diff"] = true;
  return raw;
}

type Options = NonNullable<ParseArgsConfig["options"]>;

function optionsOf(): Options {
  const options: Options = { help: { type: "boolean", short: "h" } };
  for (const flag of ["check", "diff", "json", "remove", "version"]) options[flag] = { type: "boolean" };
  for (const { flag, type } of FLAGS) {
    options[flag] = { type: type === "boolean" ? "boolean" : "string" };
    if (type === "boolean") options[`no-${flag}`] = { type: "boolean" };
  }
  return options;
}

function parse(argv: readonly string[]) {
  try {
    return parseArgs({ args: [...argv], allowPositionals: true, options: optionsOf() });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}
