// Door 3: verbs and options. It ends in raw arguments, as the other doors do. Pure.

import { type ParseArgsConfig, parseArgs } from "node:util";
import { FAMILIES, type Family } from "../model/family.ts";
import { FLAGS } from "../model/flags.ts";
import { nearest } from "../text/suggest.ts";
import { completionScript } from "./completion.ts";
import { helpText, verbHelp } from "./help.ts";
import type { Raw } from "./json.ts";
import { FORMATS, OPTIONS } from "./options.ts";
import { ALIASES, NAMED, OTHER_WORDS, SHELLS, VERBS, type Verb } from "./verbs.ts";

export type Command =
  | { kind: "text"; text: string }
  | { kind: "version" }
  | (Call & { kind: "publish" | "explain" | "ls" | "watch" })
  | (Call & { kind: "status"; format: Format | undefined })
  | (Call & { kind: "names"; named: (typeof NAMED)[number] })
  | (Call & { kind: "confirm" })
  | (Call & { kind: "revert"; isTimers: boolean })
  | (Call & { kind: "load"; families: readonly Family[]; keepUndeclared: boolean });

export type Format = (typeof FORMATS)[number];

/** What each verb that does something is called with. */
interface Call {
  verb: string;
  raw: Raw;
  json: boolean;
  verbose: boolean;
}

/** Wrong usage; exit status 2. `verb` is the one whose help says more. */
export class UsageError extends Error {
  readonly verb: string | undefined;

  constructor(message: string, verb?: string) {
    super(message);
    this.verb = verb;
  }
}

/** Throws UsageError. */
export function readCommand(argv: readonly string[]): Command {
  refuseUnknown(argv);
  const { values, positionals, tokens } = parse(argv);
  const [name, ...operands] = positionals;
  if (name === "help" || (name === undefined && values["help"] === true)) return helpOf(operands[0]);
  if (name === "version" || values["version"] === true) return { kind: "version" };
  if (name === undefined) throw new UsageError(`verb missing: use one of ${verbNames().join(", ")}`);
  const verb = findVerb(name);
  if (values["help"] === true) return { kind: "text", text: verbHelp(verb) };
  for (const token of tokens) {
    if (token.kind === "option") refuseOthersOption(verb, token.name, token.rawName);
  }
  return commandOf(verb, operands, values);
}

function commandOf(verb: Verb, names: readonly string[], values: Values): Command {
  const common = { verb: verb.name, json: values["json"] === true, verbose: values["verbose"] === true };
  const raw = rawOf(values, verb.name);
  const named: Raw = names.length > 0 ? { container: names } : {};
  switch (verb.name) {
    case "completion": {
      // What the scripts ask.
      const named = NAMED.find((one) => names.length === 1 && one === names[0]);
      if (named !== undefined) return { ...common, kind: "names", raw, named };
      return { kind: "text", text: completionScript(oneOf(verb, SHELLS, names)) };
    }
    case "load":
      return {
        ...common,
        kind: "load",
        raw,
        families: readFamilies(verb, names),
        keepUndeclared: values["keep-undeclared"] === true,
      };
    case "setup":
      refuseNames(verb, names, "applies to the whole host and takes no name; 'create' publishes containers");
      return {
        ...common,
        kind: "publish",
        raw: { base: true, state: values["remove"] ? "absent" : "present", ...raw },
      };
    case "sync":
    case "watch": {
      refuseNames(verb, names, "applies to all containers and takes no name; 'create' publishes one");
      return { ...common, kind: verb.name === "watch" ? "watch" : "publish", raw: { all: true, ...raw } };
    }
    case "confirm":
      refuseNames(verb, names, "takes no name");
      return { ...common, kind: "confirm", raw };
    case "revert":
      refuseNames(verb, names, "takes no name");
      return { ...common, kind: "revert", raw, isTimers: values["due"] === true };
    case "status":
      return { ...common, kind: "status", raw: { ...named, ...raw }, format: readFormat(verb, values) };
    case "ls":
      return { ...common, kind: "ls", raw: { ...named, ...raw } };
  }
  if (names.length === 0 && raw["all"] !== true)
    throw new UsageError(`${verb.name} needs the name of a container`, verb.name);
  if (verb.name === "explain") return { ...common, kind: "explain", raw: { ...named, ...raw } };
  const state = verb.name === "create" ? "present" : "absent";
  return { ...common, kind: "publish", raw: { ...named, state, ...raw } };
}

function verbNames(): string[] {
  return VERBS.map(({ name }) => name);
}

function helpOf(name: string | undefined): Command {
  const ofAll = name === undefined || OTHER_WORDS.some((word) => word.name === name);
  return { kind: "text", text: ofAll ? helpText() : verbHelp(findVerb(name)) };
}

function findVerb(name: string): Verb {
  const verb = VERBS.find((one) => one.name === (ALIASES[name] ?? name));
  if (verb !== undefined) return verb;
  const near = nearest(
    name,
    [...VERBS, ...OTHER_WORDS].map((one) => one.name),
  );
  const instead = near === undefined ? `use one of ${verbNames().join(", ")}` : `did you mean ${near}?`;
  throw new UsageError(`unknown verb '${name}'; ${instead}`);
}

function refuseNames({ name }: Verb, names: readonly string[], why: string): void {
  if (names.length > 0) throw new UsageError(`${name} ${why}`, name);
}

/** For monitoring; undefined for a person, or for JSON. */
function readFormat(verb: Verb, values: Values): Format | undefined {
  const given = values["format"];
  if (given === undefined) return undefined;
  if (values["json"] === true) throw new UsageError("--format and --json exclude each other", verb.name);
  const format = FORMATS.find((one) => one === given);
  if (format !== undefined) return format;
  throw new UsageError(`--format takes ${FORMATS.join(" or ")}, not '${given}'`, verb.name);
}

/** `load ipv4`, `load ipv6`, or both. */
function readFamilies(verb: Verb, names: readonly string[]): readonly Family[] {
  const named = names.map((name) => oneOf(verb, FAMILIES, [name]));
  return named.length === 0 ? FAMILIES : FAMILIES.filter((family) => named.includes(family));
}

function oneOf<Word extends string>({ name }: Verb, words: readonly Word[], [given, ...more]: readonly string[]): Word {
  const word = words.find((one) => one === given);
  if (word !== undefined && more.length === 0) return word;
  const got = given === undefined ? "nothing" : [given, ...more].map((one) => JSON.stringify(one)).join(" ");
  throw new UsageError(`${name} takes ${words.join(" or ")}, not ${got}`, name);
}

type Values = ReturnType<typeof parse>["values"];

function rawOf(values: Values, verb: string): Raw {
  const raw: Raw = {};
  for (const { name, flag, type } of FLAGS) {
    if (type === "boolean") {
      if (values[flag] !== undefined) raw[name] = true;
      if (values[`no-${flag}`] !== undefined) raw[name] = false;
    } else if (type === "object" && values[flag] !== undefined)
      raw[name] = readLists(flag, [values[flag]].flat(), verb);
    else if (values[flag] !== undefined) raw[name] = values[flag];
  }
  if (values["check"] === true) raw["_ansible_check_mode"] = true;
  if (values["diff"] === true) raw["_ansible_diff"] = true;
  return raw;
}

/** `KEY=A,B` for each list; `none` takes all lists back. */
function readLists(flag: string, given: readonly (string | boolean)[], verb: string): Record<string, string[]> {
  const words = given.map(String);
  if (words.includes("none")) {
    if (words.length > 1) throw new UsageError(`--${flag} none takes all lists back, and stands alone`, verb);
    return {};
  }
  const lists = words.map((word): [string, string[]] => {
    const at = word.indexOf("=");
    if (at < 0)
      throw new UsageError(`--${flag} takes PORTS=SOURCES, as 8080/tcp=10.0.0.0/8,wg0, or none; not '${word}'`, verb);
    const sources = word
      .slice(at + 1)
      .split(",")
      .map((source) => source.trim());
    return [word.slice(0, at).trim(), sources.filter((source) => source !== "")];
  });
  const twice = lists.find(([key], index) => lists.slice(0, index).some(([other]) => other === key));
  if (twice !== undefined)
    throw new UsageError(`--${flag} is given twice for ${twice[0]}: name all its sources at once`, verb);
  return Object.fromEntries(lists);
}

function refuseOthersOption(verb: Verb, name: string, spelling: string): void {
  if (verb.options.includes(name.replace(/^no-/, ""))) return;
  const takers = VERBS.filter(({ options }) => options.includes(name.replace(/^no-/, ""))).map((one) => one.name);
  throw new UsageError(
    `${verb.name} takes no ${spelling}; ${takers.join(", ")} ${takers.length > 1 ? "do" : "does"}`,
    verb.name,
  );
}

type Options = NonNullable<ParseArgsConfig["options"]>;

/** Every option that some verb takes: they may come before it. */
function allOptions(): Options {
  const options: Options = { help: { type: "boolean", short: "h" }, version: { type: "boolean", short: "v" } };
  for (const { name, type, multiple } of OPTIONS) options[name] ??= { type, multiple };
  for (const { flag, type } of FLAGS) if (type === "boolean") options[`no-${flag}`] = { type };
  return options;
}

/** Whether Nagios reads the answer, whatever else is wrong with the call. */
export function asksForCheck(argv: readonly string[]): boolean {
  return parseLoosely(argv).values["format"] === "nagios";
}

function parseLoosely(argv: readonly string[]) {
  return parseArgs({ args: [...argv], allowPositionals: true, options: allOptions(), strict: false, tokens: true });
}

/** With the near one, which Node's own message does not know. */
function refuseUnknown(argv: readonly string[]): void {
  const options = allOptions();
  const { tokens } = parseLoosely(argv);
  for (const token of tokens) {
    if (token.kind !== "option" || options[token.name] !== undefined) continue;
    const near = nearest(token.name, Object.keys(options));
    throw new UsageError(
      `unknown option ${token.rawName}${near === undefined ? "" : `; did you mean --${near}?`}`,
      verbIn(argv),
    );
  }
}

/** The verb whose help says more, where the words are not read yet. */
function verbIn(argv: readonly string[]): string | undefined {
  return VERBS.find(({ name }) => argv.includes(name))?.name;
}

function parse(argv: readonly string[]) {
  try {
    return parseArgs({ args: [...argv], allowPositionals: true, options: allOptions(), tokens: true });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error), verbIn(argv));
  }
}
