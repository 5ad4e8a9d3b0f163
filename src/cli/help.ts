// What --help prints, of all and of one verb: no line is wider than a terminal's 80 columns, but for a command that is. Pure.

import { wrapped } from "../text/wrap.ts";
import type { Option } from "./options.ts";
import { IN_A_UNIT, OTHER_USAGES, optionsOf, VERBS, type Verb } from "./verbs.ts";

const WIDTH = 80;

/** docker_iptables --help. */
export function helpText(): string {
  const verbs = VERBS.map(({ name, operands, summary }) => [`${name} ${operands}`.trim(), summary] as const);
  const examples = VERBS.flatMap(({ examples: verbExamples }) => verbExamples.slice(0, 1));
  return `docker_iptables keeps a host's iptables fragments true to its Docker containers.

Usage: docker_iptables VERB [NAME…] [OPTION…]

${columns(verbs)}

Without a verb:
${columns(OTHER_USAGES)}

Examples:
${commands(examples)}
  echo '{"container": "web", "state": "present"}' | docker_iptables

In a systemd unit:
${IN_A_UNIT.map((line) => `  ${line}`).join("\n")}

'docker_iptables help create' shows the options of a verb, with examples.
Defaults are those of /etc/docker_iptables.json, which 'setup' writes.
Exit status: 0 done, 1 failed, 2 wrong usage. Of 'status': 0 no problems,
3 problems, 1 the check failed.
`;
}

/** docker_iptables VERB --help. */
export function verbHelp(verb: Verb): string {
  return `docker_iptables ${verb.name}
${wrapped(`${verb.summary.charAt(0).toUpperCase()}${verb.summary.slice(1)}. ${verb.details}`, WIDTH)}

Usage: docker_iptables ${callOf(verb)}${verb.options.length > 1 ? " [OPTION…]" : ""}

Examples:
${commands(verb.examples)}

Options:
${optionsOf(verb).map(describe).join("\n")}
`;
}

function callOf({ name, operands }: Verb): string {
  return operands === "" ? name : `${name} ${operands}`;
}

/** Words and what they mean, the latter one below another. */
function columns(rows: readonly (readonly [word: string, what: string])[]): string {
  const width = Math.max(...rows.map(([word]) => (word.length > 20 ? 0 : word.length)));
  const indent = " ".repeat(width + 4);
  return rows
    .map(([word, what]) =>
      word.length > width
        ? `  ${word}\n${wrapped(what, WIDTH - indent.length, indent)}`
        : wrapped(what, WIDTH - indent.length, indent, `  ${word.padEnd(width)}  `),
    )
    .join("\n");
}

/** Commands, and what they do behind them, or below where there is no room. */
function commands(rows: readonly (readonly [command: string, what: string])[]): string {
  return rows
    .map(([command, what]) => {
      const line = `  docker_iptables ${command}`;
      return line.length + what.length + 4 > WIDTH ? `${line}\n      # ${what}` : `${line}  # ${what}`;
    })
    .join("\n");
}

function describe({ spelling, value, description }: Option): string {
  return `  ${spelling}${value === undefined ? "" : ` ${value}`}\n${wrapped(description, 72, "      ")}`;
}
