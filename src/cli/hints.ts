// The commands that messages name, made right for this host in one place: a message says `'docker_iptables create web'`, and
// what is printed has the flags with which this host is used. Pure.

import type { Arguments } from "../generated/arguments.ts";
import type { Result } from "../generated/result.ts";
import { flagsOf } from "../model/flags.ts";
import { type Request, setsUp } from "../model/request.ts";
import { type Settings, settingsIn } from "../model/settings.ts";
import { VERBS } from "./verbs.ts";

/** A command that a message names: a verb with its operands. */
const COMMAND = /'docker_iptables ([a-z]+)((?: [^' ]+)*)'/g;

/** Whether a result names a command at all. */
export function namesCommand(result: Result): boolean {
  return textsOf(result).some((text) => text.search(COMMAND) >= 0);
}

/** What of a request a command needs that it names. */
export type Calling = Pick<Request, "args" | "origins" | "settings" | "subject">;

/**
 * The result with the flags in each command that it names: those that this call gave, then those by which a host without settings
 * was set up (`recorded`).
 */
export function completeCommands(result: Result, call: Calling, recorded: Settings): Result {
  const { failed = false } = result;
  const completed = (text: string) => completeCommand(text, call, recorded, failed);
  return {
    ...result,
    ...{ msg: completed(result.msg), comment: completed(result.comment), warnings: result.warnings.map(completed) },
    ...(result.problems && {
      problems: result.problems.map((one) => ({
        ...one,
        msg: completed(one.msg),
        ...(one.hint && { hint: completed(one.hint) }),
      })),
    }),
    ...(result._error && { _error: { ...result._error, msg: completed(result._error.msg) } }),
  };
}

function textsOf({ msg, warnings, problems = [] }: Result): string[] {
  return [msg, ...warnings, ...problems.flatMap(({ msg: what, hint = "" }) => [what, hint])];
}

/** The same for one text. `failed`: a call that sets up has not kept what it was given. */
export function completeCommand(
  text: string,
  { args, origins, settings, subject }: Calling,
  recorded: Settings = {},
  failed = true,
): string {
  // How long commands may take is one call's own.
  const isGiven = (name: string) => origins[name] === "argument" && name !== "timeout";
  const given = Object.fromEntries(Object.entries(args).filter(([name]) => isGiven(name)));
  const known: Partial<Arguments> = { ...recorded, ...given };
  const kept = { ...settings.values, ...(setsUp(subject) && !failed ? settingsIn(given) : {}) };
  return text.replaceAll(COMMAND, (command: string, name: string, rest: string) => {
    const verb = VERBS.find((one) => one.name === name);
    if (verb === undefined) return command;
    const there = new Set(rest.split(" "));
    // Lists that a call gives for what it names are not the host's, nor the other way round.
    const isOthers = (flag: string) => flag === "allow" && !isAboutTheSame(rest, subject.containers);
    const takes = (flag: string) => verb.options.includes(flag) && !there.has(`--${flag}`) && !isOthers(flag);
    return `'${[`docker_iptables ${name}${rest}`, ...flagsOf(known, kept, takes).map(quoted)].join(" ")}'`;
  });
}

/** Whether a command names containers that the call named, or none as the call did. */
function isAboutTheSame(rest: string, containers: readonly string[]): boolean {
  const [first = ""] = rest.trim().split(" ");
  return first === "" || first.startsWith("-") ? containers.length === 0 : containers.includes(first);
}

/** A word for a shell. The message puts commands in single quotes, so these are double. */
function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `"${word.replaceAll(/["\\$`]/g, "\\$&")}"`;
}
