// The options of the command line: one for each argument of the schema, and those that are about the answer. Pure.

import { FLAGS } from "../model/flags.ts";

/** Before the description of what an option switches off. */
export const DISABLES = "Disables this: ";

export interface Option {
  /** As it is declared, without dashes: "guards". */
  name: string;
  /** As it is shown: "--guards", or "--no-guards" where yes is what holds without it. */
  spelling: string;
  type: "boolean" | "string";
  /** Whether it may be given several times. */
  multiple: boolean;
  /** The placeholder of its value in a usage, e.g. "SECONDS"; undefined where it takes none. */
  value: string | undefined;
  /** All values that it takes, where they can be listed. */
  choices: readonly string[];
  description: string;
}

/** What monitoring reads. */
export const FORMATS = ["prometheus", "nagios"] as const;

/** In the order of the schema; then those of every answer. */
export const OPTIONS: readonly Option[] = [
  ...FLAGS.map(optionOf),
  ownOption("check", "Show what would change, and change nothing."),
  ownOption("diff", "Show each file before and after."),
  ownOption("remove", "Remove the host rules and the services that setup installed; run 'delete --all' first."),
  ownOption(
    "keep-undeclared",
    "Keep live rules that are in no fragment and were in none since boot. The services use it when they start, so that a firewall that started earlier keeps its rules; a reload, or load without it, replaces them.",
  ),
  ownOption(
    "due",
    "Wait until it is due, as the timer that --confirm starts does; at once where the host has booted since.",
  ),
  {
    ...ownOption(
      "format",
      "Print the result for monitoring: prometheus, metrics for node_exporter's textfile collector, with exit status 0; or nagios, the line and the exit status (0 to 3) of a check.",
    ),
    ...{ type: "string", value: FORMATS.join("|"), choices: FORMATS },
  },
  ownOption("json", "Print the result as one line of JSON."),
  ownOption(
    "verbose",
    "Print each command with its time and exit status, each request to the daemon, and each decision with its reason on stderr. DOCKER_IPTABLES_VERBOSE=1 in the environment does the same, for units and Ansible.",
  ),
  ownOption("help", "Show the help of this verb."),
];

function ownOption(name: string, description: string): Option {
  return { name, spelling: `--${name}`, type: "boolean", multiple: false, value: undefined, choices: [], description };
}

function optionOf({ flag, type, description, fallback, choices = [] }: (typeof FLAGS)[number]): Option {
  if (type === "boolean") {
    const negated = fallback === true;
    const spelling = negated ? `--no-${flag}` : `--${flag}`;
    const said = negated ? `${DISABLES}${description}` : description;
    return { name: flag, spelling, type, multiple: false, value: undefined, choices: [], description: said };
  }
  const value =
    choices.length > 0
      ? choices.join("|")
      : type === "integer"
        ? "SECONDS"
        : type === "object"
          ? "PORTS=SOURCES"
          : (flag.split("-").at(-1) ?? flag).toUpperCase();
  const known = fallback === undefined ? "" : ` Default: ${fallback}.`;
  const multiple = type === "object";
  const repeated = multiple
    ? " Once for each key, as 8080/tcp=10.0.0.0/8,wg0; 8080/tcp= is nobody, none alone takes all back."
    : "";
  return {
    name: flag,
    spelling: `--${flag}`,
    type: "string",
    multiple,
    value,
    choices,
    description: `${description}${known}${repeated}`,
  };
}
