// What --help prints, of all and of one verb. Pure.

import type { Option } from "./options.ts";
import { IN_A_UNIT, OTHER_USAGES, optionsOf, VERBS, type Verb } from "./verbs.ts";

/** docker_iptables --help. */
export function helpText(): string {
  const usages = [...VERBS.map((verb) => [callOf(verb), verb.summary] as const), ...OTHER_USAGES];
  const examples = VERBS.flatMap(({ examples: verbExamples }) => verbExamples.slice(0, 1));
  return `docker_iptables keeps the host's iptables fragments true to its Docker containers.

Usage:
${columns(usages)}

Examples:
${columns(examples)}
  echo '{"container": "web", "state": "present"}' | docker_iptables

In a systemd unit:
${IN_A_UNIT.map((line) => `  ${line}`).join("\n")}

Each verb has its own options: 'docker_iptables help create', or 'docker_iptables create --help'.
Exit status: 0 done, 1 failed, 2 wrong usage. 'status': 0 all well, 3 problems, 1 could not find out.
`;
}

/** docker_iptables VERB --help. */
export function verbHelp(verb: Verb): string {
  return `docker_iptables ${verb.name}: ${verb.summary}

Usage: docker_iptables ${callOf(verb)}${verb.options.length > 1 ? " [OPTION…]" : ""}

${wrapped(verb.details, 96, "")}

Examples:
${columns(verb.examples)}

Options:
${optionsOf(verb).map(describe).join("\n")}
`;
}

function callOf({ name, operands }: Verb): string {
  return operands === "" ? name : `${name} ${operands}`;
}

/** Commands and what they do, the latter one below another, save behind a command that is too long. */
function columns(rows: readonly (readonly [command: string, what: string])[]): string {
  const width = Math.max(...rows.map(([command]) => (command.length > 32 ? 0 : command.length)));
  return rows.map(([command, what]) => `  docker_iptables ${command.padEnd(width)}  ${what}`).join("\n");
}

function describe({ spelling, value, description }: Option): string {
  return `  ${spelling}${value === undefined ? "" : ` ${value}`}\n${wrapped(description, 72, "      ")}`;
}

/** In lines of at most so many characters, without the indent. */
function wrapped(text: string, width: number, indent: string): string {
  const lines = [""];
  for (const word of text.split(" ")) {
    const last = lines.at(-1) ?? "";
    if (last.length + word.length + 1 > width) lines.push(word);
    else lines[lines.length - 1] = last === "" ? word : `${last} ${word}`;
  }
  return lines.map((line) => `${indent}${line}`).join("\n");
}
