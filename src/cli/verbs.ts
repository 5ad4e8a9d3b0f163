// The verbs of the command line as data: parsing, help, completion and the manual are made from it. Pure.

import { FAMILIES } from "../model/family.ts";
import { OPTIONS, type Option } from "./options.ts";

export interface Verb {
  name: string;
  /** What it does, in a line. */
  summary: string;
  /** More that one has to know, in sentences. */
  details: string;
  /** What follows its name in a usage. */
  operands: string;
  /** What the operands are names of, for a shell that completes them; or all that they can be. */
  completes: "containers" | "fragments" | readonly string[];
  /** The names of the options that it takes. */
  options: readonly string[];
  examples: readonly (readonly [command: string, what: string])[];
}

export const SHELLS = ["bash", "zsh", "fish"] as const;

const ANSWER = ["json", "debug", "verbose", "help"];
const PREDICT = ["check", "diff"];
const DIRECTORIES = ["iptables-dir", "ip6tables-dir", "timeout"];
const DAEMON = ["client", "docker-host"];
const RULES = ["chain", "ipv6", "guards", "network"];
const RELOAD = ["reload", "iptables-service", "ip6tables-service"];
const BASE = ["base", "adopt", "replace"];

export const VERBS: readonly Verb[] = [
  {
    name: "setup",
    summary: "make the host ready, once and after each new network",
    details:
      "Makes the base: the chain, the jumps to it, what each of the daemon's networks needs, and the services that load the fragments.",
    operands: "",
    completes: [],
    options: [
      ...RULES,
      ...RELOAD,
      "adopt",
      "replace",
      "watch",
      "remove",
      ...DIRECTORIES,
      ...DAEMON,
      ...PREDICT,
      ...ANSWER,
    ],
    examples: [
      ["setup --check --diff", "what it would write, and nothing else"],
      ["setup --watch", "no units needed: a service publishes whatever runs"],
      ["setup --adopt", "keep the rules that run now as fragments"],
      ["setup --remove", "take it back"],
    ],
  },
  {
    name: "create",
    summary: "publish the ports of running containers",
    details:
      "Writes each container's fragment, has it loaded, and looks whether the rules are in the kernel. A container that does not run yet is waited for.",
    operands: "NAME…",
    completes: "containers",
    options: ["all", ...RULES, ...RELOAD, ...BASE, "wait-timeout", ...DIRECTORIES, ...DAEMON, ...PREDICT, ...ANSWER],
    examples: [
      ["create web", "publish it"],
      ["create web --check --diff", "what would change, and nothing else"],
      ["create web db --ipv6 --json", "one inspect, one reload, one line of JSON"],
      ["create web --reload patch", "only its own rules, beside another firewall; needs no service"],
    ],
  },
  {
    name: "delete",
    summary: "take containers' rules away; Docker may be down",
    details: "Removes the containers' fragments and their rules, IPv4 and IPv6.",
    operands: "NAME…",
    completes: "fragments",
    // What a unit's ExecStopPost may say as its ExecStartPost does, since the original script.
    options: ["all", "chain", "ipv6", ...RELOAD, ...DIRECTORIES, ...DAEMON, ...PREDICT, ...ANSWER],
    examples: [
      ["delete web", "its rules are gone"],
      ["delete --all", "those of all containers"],
      ["delete web --check", "whether there is something to take away"],
    ],
  },
  {
    name: "sync",
    summary: "bring files and kernel to what runs now, for all containers at once",
    details:
      "Every running container that publishes gets its fragment; those of containers that do not run any more go. One transaction.",
    operands: "",
    completes: [],
    options: [...RULES, ...RELOAD, ...BASE, ...DIRECTORIES, ...DAEMON, ...PREDICT, ...ANSWER],
    examples: [
      ["sync", "once, by hand or from a timer"],
      ["sync --check", "what is not as it should be"],
    ],
  },
  {
    name: "watch",
    summary: "sync whenever something changes; what the service of 'setup --watch' runs",
    details: "Follows the daemon's events until a signal, and says each change.",
    operands: "",
    completes: [],
    options: [...RULES, ...RELOAD, ...DIRECTORIES, ...DAEMON, "debug", "verbose", "help"],
    examples: [["watch --reload patch", "in the foreground, beside another firewall"]],
  },
  {
    name: "status",
    summary: "what is not as it should be; changes nothing",
    details:
      "Holds the daemon's containers, the files and the kernel against each other. Exit status: 0 all well, 3 problems, 1 could not find out.",
    operands: "[NAME…]",
    completes: "containers",
    options: [...RULES, ...RELOAD, ...DIRECTORIES, ...DAEMON, ...ANSWER],
    examples: [
      ["status", "all containers, the base, the services"],
      ["status web", "this one"],
      ["status --json | jq -r '.problems[].msg'", "a sentence a problem"],
    ],
  },
  {
    name: "explain",
    summary: "who reaches the published ports, from where, seen as whom, and which rule decides",
    details: "Follows packets through the rules that the kernel has now, other people's included. Changes nothing.",
    operands: "NAME…",
    completes: "containers",
    options: ["network", "ipv6", "timeout", ...DAEMON, ...ANSWER],
    examples: [["explain web", "for each published port, from each place"]],
  },
  {
    name: "load",
    summary: "replace the running rules by the fragments; what the services run",
    details: "Tries the fragments first; then each table is replaced in one step. What fails is put back.",
    operands: "[ipv4|ipv6]",
    completes: FAMILIES,
    options: [...DIRECTORIES, "check", "keep-undeclared", ...ANSWER],
    examples: [
      ["load --check", "what is wrong with the fragments, if anything"],
      ["load ipv4", "one family"],
    ],
  },
  {
    name: "completion",
    summary: "print what makes a shell complete verbs, options and names",
    details: "For bash, zsh or fish.",
    operands: SHELLS.join("|"),
    completes: SHELLS,
    options: ["help"],
    examples: [
      ["completion bash > /etc/bash_completion.d/docker_iptables", "for every user of bash"],
      ["completion zsh > /usr/local/share/zsh/site-functions/_docker_iptables", "of zsh"],
      ["completion fish > /etc/fish/completions/docker_iptables.fish", "of fish"],
    ],
  },
];

/** The options that a verb takes, in the order of all. */
export function optionsOf({ options }: Verb): Option[] {
  return OPTIONS.filter(({ name }) => options.includes(name));
}

/** Words that are answered as verbs are, and are none: they do nothing. */
export const OTHER_WORDS: readonly Pick<Verb, "name" | "summary">[] = [
  { name: "help", summary: "the options of a verb" },
  { name: "version", summary: "the version" },
];

/** The ways in that are no verbs. */
export const OTHER_USAGES: readonly (readonly [usage: string, what: string])[] = [
  ["PATH/FILE", "the same from a JSON file (Ansible)"],
  ["< FILE", "the same from JSON on stdin"],
  ["help VERB", "its options, with examples"],
  ["version", "the version"],
];

/** How the original's unit calls it. */
export const IN_A_UNIT = [
  "ExecStartPost=/usr/local/bin/docker_iptables create web",
  "ExecStopPost=/usr/local/bin/docker_iptables delete web",
] as const;
