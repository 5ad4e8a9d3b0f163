// The settings of a host: the values with which docker_iptables is used here, so that no call has to repeat them. Pure.
//
// On disk: JSON, of schema/settings.schema.json; the names are those of the arguments.

import { isAbsolute, resolve } from "node:path/posix";
import schema from "../../schema/settings.schema.json" with { type: "json" };
import type { Arguments } from "../generated/arguments.ts";
import { validate } from "../generated/validate-arguments.js";
import { orNearest } from "../text/suggest.ts";
import { type Allow, type Groups, readAllow } from "./allow.ts";
import { excerpt, Failure } from "./errors.ts";
import { describeErrors } from "./validation.ts";

type Name = keyof typeof schema.properties;

/** In the order in which they are written. */
export const SETTING_NAMES = Object.keys(schema.properties) as Name[];

/** Those that are no arguments. */
type OwnSettings = { sources?: Groups; labels?: "narrow" | "trusted" };

export type Settings = Partial<Pick<Arguments, Exclude<Name, keyof OwnSettings>>> & OwnSettings;

/** What of the settings is a default of arguments. */
export function argumentsIn({ sources: _sources, labels: _labels, ...args }: Settings): Partial<Arguments> {
  return args;
}

/** The settings that are in force for a call. */
export interface HostSettings {
  path: string;
  /** The file as it is; undefined where there is none, or it cannot be used. */
  file: { text: string; mode: number } | undefined;
  values: Settings;
  /** The service whose flags `values` are, on a host that was set up before there were settings. */
  takenFrom?: string;
  /** Why a value was chosen that nobody gave, in a sentence. */
  chosen?: string;
  /** Why the file cannot be used; `values` are then those of the last call that could. */
  unusable?: Failure;
}

export const DEFAULT_SETTINGS_PATH = "/etc/docker_iptables.json";

/** Of a host without any. */
export const NO_SETTINGS: HostSettings = { path: DEFAULT_SETTINGS_PATH, file: undefined, values: {} };

/** The text of a file of this path. Throws Failure `settings_unusable`. */
export function readSettings(text: string, path: string): Settings {
  const given = parse(text, path);
  const unknown = Object.keys(given).filter((name) => !isName(name));
  if (unknown.length > 0) {
    const words = unknown.map((name) => `'${excerpt(name, 80)}'${orNearest(name, SETTING_NAMES)}`).join(", ");
    throw unusable(path, `it has no setting ${words}`);
  }
  const settings = settingsIn(given);
  const { sources: groups, labels } = settings;
  const args = argumentsIn(settings);
  if (labels !== undefined && !LABELS.includes(labels))
    throw unusable(path, `labels must be ${LABELS.join(" or ")}, got: ${excerpt(JSON.stringify(labels), 80)}`);
  // Of its own: the validator fills in defaults.
  if (!validate({ container: ["any"], ...args })) throw unusable(path, describeErrors(validate.errors ?? []));
  refuseSources(groups, args.allow, path);
  return absolute(settings, path);
}

const LABELS: readonly unknown[] = schema.properties.labels.enum;
const GROUP = /^[a-z][\w-]{0,62}$/i;

/** Groups that no list names, too. */
function refuseSources(groups: unknown, allow: Allow | undefined, path: string): void {
  const isLists = (value: unknown): value is Groups =>
    typeof value === "object" && value !== null && !Array.isArray(value) && Object.values(value).every(isWords);
  const isWords = (list: unknown) => Array.isArray(list) && list.every((word) => typeof word === "string");
  if (groups !== undefined && !isLists(groups))
    throw unusable(path, "sources must be a dictionary of lists of sources");
  const names = Object.keys(groups ?? {});
  const odd = names.find((name) => !GROUP.test(name));
  if (odd !== undefined) throw unusable(path, `'${excerpt(odd, 80)}' cannot be the name of a group of sources`);
  try {
    readAllow({ "*": names.map((name) => `@${name}`) }, groups ?? {});
    readAllow(allow ?? {}, groups ?? {});
  } catch (error) {
    throw error instanceof Failure ? unusable(path, error.message) : error;
  }
}

function parse(text: string, path: string): Record<string, unknown> {
  let read: unknown;
  try {
    read = JSON.parse(text);
  } catch (error) {
    throw unusable(path, `it is not valid JSON: ${error instanceof Error ? excerpt(error.message, 200) : error}`);
  }
  if (typeof read !== "object" || read === null || Array.isArray(read)) throw unusable(path, "it is not a JSON object");
  return { ...read };
}

function isName(name: string): name is Name {
  return Object.hasOwn(schema.properties, name);
}

/** A service has no directory and no home to which a path could be relative. */
function absolute(settings: Settings, path: string): Settings {
  const paths: Settings = {};
  for (const name of ["iptables_dir", "ip6tables_dir", "nftables_dir"] as const) {
    const value = settings[name];
    if (value === undefined) continue;
    if (!isAbsolute(value)) throw unusable(path, `${name} must be an absolute path, got: ${JSON.stringify(value)}`);
    paths[name] = resolve(value);
  }
  return { ...settings, ...paths };
}

/** The failure of a file of this path, whose `why` is a clause about it. */
export function unusable(path: string, why: string, remedy = "correct it"): Failure {
  return new Failure("settings_unusable", `the settings in ${path} cannot be used: ${why}; ${remedy}`, { path });
}

/** The words that give a service of this host its settings: none where they are where it looks for them. */
export function configWords(path: string): string[] {
  return path === DEFAULT_SETTINGS_PATH ? [] : ["--config", path];
}

/** Those among what was given, in the order in which they are written. */
export function settingsIn(given: Readonly<Record<string, unknown>>): Settings {
  return Object.fromEntries(
    SETTING_NAMES.filter((name) => given[name] !== undefined).map((name) => [name, given[name]]),
  );
}

export function settingsText(settings: Settings): string {
  return `${JSON.stringify(settingsIn(settings), null, 2)}\n`;
}
