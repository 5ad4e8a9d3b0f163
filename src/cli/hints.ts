// The commands that messages name, made right for this host in one place: a message says `'docker_iptables create web'`, and
// what is printed has the flags with which this host is used. Pure.

import type { Arguments } from "../generated/arguments.ts";
import type { Result } from "../generated/result.ts";
import { FLAGS, flagsOf } from "../model/flags.ts";
import { VERBS } from "./verbs.ts";

/** How long commands may take is one call's own. */
const NO_PART: Partial<Arguments> = { timeout: 10 };

/** A command that a message names: a verb with its operands. */
const COMMAND = /'docker_iptables ([a-z]+)((?: [^' ]+)*)'/g;

/** Whether a result names a command at all. */
export function namesCommand(result: Result): boolean {
  return textsOf(result).some((text) => text.search(COMMAND) >= 0);
}

/**
 * The result with the flags in each command that it names: those of this call, then those by which this host was set up
 * (`recorded`).
 */
export function completeCommands(result: Result, args: Arguments, recorded: Partial<Arguments>): Result {
  const completed = (text: string) => completeCommand(text, args, recorded);
  return {
    ...result,
    ...{ msg: completed(result.msg), comment: completed(result.comment), warnings: result.warnings.map(completed) },
    ...(result.problems && { problems: result.problems.map((one) => ({ ...one, msg: completed(one.msg) })) }),
    ...(result._error && { _error: { ...result._error, msg: completed(result._error.msg) } }),
  };
}

function textsOf({ msg, warnings, problems = [] }: Result): string[] {
  return [msg, ...warnings, ...problems.map((one) => one.msg)];
}

/** The same for one text. */
export function completeCommand(text: string, args: Arguments, recorded: Partial<Arguments> = {}): string {
  const known: Arguments = {
    ...args,
    ...recorded,
    ...Object.fromEntries(Object.entries(args).filter(isGiven)),
    ...NO_PART,
  };
  return text.replaceAll(COMMAND, (command: string, name: string, rest: string) => {
    const verb = VERBS.find((one) => one.name === name);
    if (verb === undefined) return command;
    const there = new Set(rest.split(" "));
    const flags = flagsOf(known, (flag) => verb.options.includes(flag) && !there.has(`--${flag}`));
    return `'${[`docker_iptables ${name}${rest}`, ...flags.map(quoted)].join(" ")}'`;
  });
}

/** What differs from the default; more is not known. */
function isGiven([name, value]: [string, unknown]): boolean {
  return value !== undefined && FLAGS.some((flag) => flag.name === name && flag.fallback !== value);
}

/** A word for a shell. The message puts commands in single quotes, so these are double. */
function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `"${word.replaceAll(/["\\$`]/g, "\\$&")}"`;
}
