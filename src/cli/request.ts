// Raw arguments -> Request: aliases, Ansible's coercions and messages, defaults. Pure.
// The schema is the one list of arguments; messages are those of ansible-core 2.14's own modules.

import { resolve } from "node:path/posix";
import schema from "../../schema/arguments.schema.json" with { type: "json" };
import { validate } from "../generated/validate-arguments.js";
import { readAllow } from "../model/allow.ts";
import { excerpt, Failure } from "../model/errors.ts";
import { optionsIn } from "../model/options.ts";
import { type Origin, partsOf, type Request } from "../model/request.ts";
import { argumentsIn, DEFAULT_SETTINGS_PATH, type HostSettings, type Settings } from "../model/settings.ts";
import { describeErrors } from "../model/validation.ts";

/** What a path argument may depend on: Ansible expands `~` and `$VAR` on the host. */
export interface Surroundings {
  env: Readonly<Record<string, string | undefined>>;
  /** Undefined where there is none any more. */
  cwd: string | undefined;
}

interface Property {
  type: string;
  default?: unknown;
  "x-aliases"?: string[];
  "x-type"?: string;
  /** Ansible's required_one_of. */
  "x-required-unless"?: string[];
  /** Ansible's mutually_exclusive and required_by. */
  "x-excludes"?: string[];
  "x-needs"?: string;
}
const PROPERTIES = Object.entries(schema.properties) as [string, Property][];

/** Keys of Bolt's that are no arguments; so is every `_ansible_*`. */
const BOLT_KEYS = new Set(["_task", "_noop", "_installdir", "_target"]);

/** The path of the settings that raw arguments ask for. Throws Failure `arguments_invalid`. */
export function settingsPathOf(raw: Readonly<Record<string, unknown>>, surroundings: Surroundings): string {
  const path = raw["config"] ?? surroundings.env["DOCKER_IPTABLES_CONFIG"];
  if (path === undefined || path === null || path === "") return DEFAULT_SETTINGS_PATH;
  return expandPath(asString("config", path, "path"), surroundings);
}

/**
 * The raw arguments, as every door ends in them, complete: what is not given is as the host's settings say, and else the default.
 * `needsContainer` is false for verbs that are about the whole host. Throws Failure `arguments_invalid`.
 */
export function readRequest(
  raw: Readonly<Record<string, unknown>>,
  surroundings: Surroundings,
  settings: HostSettings,
  needsContainer = true,
): Request {
  const warnings: string[] = [];
  const words = withoutNulls(raw);
  resolveAliases(words, warnings);
  refuseUnknown(words);
  const given: Record<string, unknown> = Object.fromEntries(
    PROPERTIES.filter(([name]) => words[name] !== undefined).map(([name, property]) => [
      name,
      coerce(name, property, words[name], surroundings),
    ]),
  );
  const set = settingsFor(given, settings.values);
  const args: Record<string, unknown> = { ...set, ...given };
  // It fills in the defaults.
  if (!validate(args)) throw new Failure("arguments_invalid", describeErrors(validate.errors ?? []));
  refuseCombinations(given, needsContainer);
  if (args.allow !== undefined) readAllow(args.allow, settings.values.sources ?? {});
  const complete = { ...args, container: [...new Set(args.container ?? [])] };
  return {
    args: complete,
    ...partsOf(complete, settings.values),
    options: optionsIn(given),
    settings,
    origins: originsOf(given, set),
    check: truthy(raw["_ansible_check_mode"]) || truthy(raw["_noop"]),
    diff: truthy(raw["_ansible_diff"]),
    warnings,
  };
}

/** The settings that a call takes: `watch` is one of those that make the host rules. */
function settingsFor({ base, state }: Readonly<Record<string, unknown>>, settings: Settings): Settings {
  const { watch, ...others } = argumentsIn(settings);
  return base === true && state !== "absent" && watch !== undefined ? { ...others, watch } : others;
}

function originsOf(given: Readonly<Record<string, unknown>>, set: Settings): Record<string, Origin> {
  return Object.fromEntries(
    PROPERTIES.map(([name]): [string, Origin] => {
      if (given[name] !== undefined) return [name, "argument"];
      return [name, name in set ? "settings" : "default"];
    }),
  );
}

/** Explicit null is as good as absent, as Ansible's `omit` and templates expect. */
function withoutNulls(raw: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const isArgument = (key: string) => !key.startsWith("_ansible_") && !BOLT_KEYS.has(key);
  return Object.fromEntries(Object.entries(raw).filter(([key, value]) => isArgument(key) && value !== null));
}

/** Ansible lets the alias win when both are given, and warns. */
function resolveAliases(given: Record<string, unknown>, warnings: string[]): void {
  for (const [name, property] of PROPERTIES) {
    for (const alias of property["x-aliases"] ?? []) {
      if (given[alias] === undefined) continue;
      if (given[name] !== undefined) warnings.push(`Both option ${name} and its alias ${alias} are set.`);
      given[name] = given[alias];
      delete given[alias];
    }
  }
}

function refuseUnknown(given: Record<string, unknown>): void {
  const known = new Set(PROPERTIES.map(([name]) => name));
  const unknown = Object.keys(given).filter((key) => !known.has(key));
  if (unknown.length === 0) return;
  const supported = PROPERTIES.map(([name, { "x-aliases": aliases }]) =>
    aliases ? `${name} (${aliases.join(", ")})` : name,
  );
  throw new Failure(
    "arguments_invalid",
    `Unsupported parameters for (docker_iptables) module: ${excerpt(unknown.sort().join(", "))}. ` +
      `Supported parameters include: ${supported.sort().join(", ")}.`,
  );
}

/** In Ansible's words for required_one_of, mutually_exclusive and required_by. */
function refuseCombinations(args: Readonly<Record<string, unknown>>, needsContainer: boolean): void {
  const has = (name: string | undefined) => name !== undefined && args[name] !== undefined && args[name] !== false;
  if (args["query"] === "explain" && !has("container"))
    throw new Failure("arguments_invalid", "missing parameter(s) required by 'query: explain': container");
  for (const [name, { "x-required-unless": others, "x-excludes": excluded, "x-needs": needed }] of PROPERTIES) {
    if (others !== undefined && needsContainer && ![name, ...others].some(has)) {
      throw new Failure("arguments_invalid", `one of the following is required: ${[name, ...others].join(", ")}`);
    }
    const other = has(name) ? excluded?.find(has) : undefined;
    if (other !== undefined)
      throw new Failure("arguments_invalid", `parameters are mutually exclusive: ${name}|${other}`);
    if (needed !== undefined && needsContainer && has(name) && !has(needed)) {
      throw new Failure("arguments_invalid", `missing parameter(s) required by '${name}': ${needed}`);
    }
  }
}

function coerce(name: string, { type, "x-type": special }: Property, value: unknown, surroundings: Surroundings) {
  if (special === "path") return expandPath(asString(name, value, "path"), surroundings);
  if (type === "boolean") return asBoolean(name, value);
  if (type === "integer") return asInteger(name, value);
  if (type === "array") return asList(name, value);
  if (type === "object") return asLists(name, value);
  return asString(name, value, "str");
}

function asString(name: string, value: unknown, type: string): string {
  if (typeof value === "string") return value;
  if (typeof value === "number") return String(value);
  if (typeof value === "boolean") return value ? "True" : "False";
  throw unconvertible(name, value, type, `${pythonType(value)} is not a string and conversion is not allowed`);
}

const TRUE = new Set(["y", "yes", "on", "1", "true", "t"]);
const FALSE = new Set(["n", "no", "off", "0", "false", "f"]);

function asBoolean(name: string, value: unknown): boolean {
  if (typeof value === "boolean") return value;
  const word = typeof value === "string" || typeof value === "number" ? String(value).trim().toLowerCase() : "";
  if (TRUE.has(word)) return true;
  if (FALSE.has(word)) return false;
  const shown = typeof value === "object" ? pythonType(value) : excerpt(String(value), 80);
  throw unconvertible(
    name,
    value,
    "bool",
    `The value '${shown}' is not a valid boolean.  Valid booleans include: ${[...TRUE, ...FALSE].join(", ")}`,
  );
}

function asInteger(name: string, value: unknown): number {
  if (typeof value === "number" && Number.isInteger(value)) return value;
  if (typeof value === "string" && /^\s*[+-]?\d+\s*$/.test(value)) return Number(value);
  throw unconvertible(name, value, "int", `${pythonType(value)} cannot be converted to an int`);
}

function asList(name: string, value: unknown): string[] {
  if (Array.isArray(value)) return value.map((element) => asString(name, element, "str"));
  if (typeof value === "string") return value.split(",").map((element) => element.replace(/^ +| +$/g, ""));
  if (typeof value === "number") return [String(value)];
  throw unconvertible(name, value, "list", `${pythonType(value)} cannot be converted to a list`);
}

/** A dictionary of lists, or its JSON (Ansible's own modules take that, too). */
function asLists(name: string, value: unknown): Record<string, string[]> {
  const read = typeof value === "string" ? readJson(value) : value;
  if (typeof read !== "object" || read === null || Array.isArray(read))
    throw unconvertible(name, value, "dict", `${pythonType(value)} cannot be converted to a dict`);
  return Object.fromEntries(
    Object.entries(read).map(([key, list]) => [key, list === null || list === "" ? [] : asList(name, list)]),
  );
}

function readJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function expandPath(path: string, { env, cwd }: Surroundings): string {
  const expanded = path
    .replace(/^~(?=\/|$)/, () => env["HOME"] ?? "~")
    .replace(/\$(?:\{(\w+)\}|(\w+))/g, (match, braced, bare) => env[braced ?? bare] ?? match);
  if (expanded === "" || expanded.startsWith("/")) return expanded && resolve(expanded);
  if (cwd !== undefined) return resolve(cwd, expanded);
  throw new Failure(
    "arguments_invalid",
    `the current directory does not exist any more, so the path ${excerpt(path)} cannot be resolved`,
  );
}

function unconvertible(name: string, value: unknown, type: string, why: string): Failure {
  const shown = typeof value === "object" ? pythonType(value) : excerpt(String(value), 80);
  const message = `argument '${name}' is of type <class '${pythonType(value)}'> and we were unable to convert to ${type}: ${why}`;
  return new Failure("arguments_invalid", message, { argument: name, type, value: shown });
}

function pythonType(value: unknown): string {
  if (typeof value === "string") return "str";
  if (typeof value === "boolean") return "bool";
  if (typeof value === "number") return Number.isInteger(value) ? "int" : "float";
  return Array.isArray(value) ? "list" : "dict";
}

/** Whether a raw argument means true: what is no boolean at all does not. */
export function truthy(value: unknown): boolean {
  return value === true || (typeof value === "string" && TRUE.has(value.toLowerCase()));
}
