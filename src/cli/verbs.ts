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
/** What their scripts ask for: `completion containers` prints names, one a line. */
export const NAMED = ["containers", "fragments", "networks"] as const;

const ANSWER = ["config", "json", "debug", "verbose", "help"];
const PREDICT = ["check", "diff"];
const DIRECTORIES = ["backend", "iptables-dir", "ip6tables-dir", "nftables-dir", "timeout"];
const DAEMON = ["client", "docker-host"];
const RULES = ["allow", "chain", "ipv6", "guards", "network"];
const RELOAD = ["reload", "iptables-service", "ip6tables-service", "nftables-service"];
const BASE = ["base", "adopt", "replace"];

export const VERBS: readonly Verb[] = [
  {
    name: "setup",
    summary: "prepare the host, once and after each new network",
    details:
      "Creates the host rules (the chain, the jumps to it, the rules that each of the daemon's networks needs) and the services that load the fragments. As JSON it is `base: true`.",
    operands: "",
    completes: [],
    options: [
      ...RULES,
      ...RELOAD,
      "adopt",
      "replace",
      "watch",
      "nftables-include",
      "remove",
      "confirm",
      ...DIRECTORIES,
      ...DAEMON,
      ...PREDICT,
      ...ANSWER,
    ],
    examples: [
      ["setup --check --diff", "show what it would write, change nothing"],
      ["setup --watch", "no units needed: a service publishes every running container"],
      ["setup --adopt", "keep the rules that run now as fragments"],
      ["setup --remove", "undo it"],
      ["setup --confirm 60", "over ssh: put back after a minute, unless it is confirmed"],
    ],
  },
  {
    name: "create",
    summary: "publish the ports of running containers",
    details:
      "Writes each container's fragment, loads it, and checks that the rules are in the kernel. Waits for a container that does not run yet.",
    operands: "NAME…",
    completes: "containers",
    options: ["all", ...RULES, ...RELOAD, ...BASE, "wait-timeout", ...DIRECTORIES, ...DAEMON, ...PREDICT, ...ANSWER],
    examples: [
      ["create web", "publish it"],
      ["create web --check --diff", "show what would change, change nothing"],
      ["create web db --ipv6 --json", "one inspect, one reload, one line of JSON"],
      ["create web --allow 8080/tcp=10.0.0.0/8", "only from that subnet"],
      ["create web --reload patch", "change only its own rules, beside another firewall; needs no service"],
    ],
  },
  {
    name: "delete",
    summary: "remove containers' rules; works while Docker is down",
    details:
      "Removes the containers' fragments and their rules, IPv4 and IPv6. It closes no port: while a container runs, docker-proxy, where there is one, serves its ports to everybody. What is to be closed stays published, with a list of nobody.",
    operands: "NAME…",
    completes: "fragments",
    // What a unit's ExecStopPost may say as its ExecStartPost does, since the original script.
    options: ["all", "chain", "ipv6", ...RELOAD, ...DIRECTORIES, ...DAEMON, ...PREDICT, ...ANSWER],
    examples: [
      ["delete web", "remove its rules"],
      ["delete --all", "remove the rules of all containers"],
      ["delete web --check", "show whether there is anything to remove"],
      ["create web --allow '*='", "instead: no other machine may connect"],
    ],
  },
  {
    name: "sync",
    summary: "update files and kernel to match the running containers",
    details:
      "Writes a fragment for every running container that publishes ports and removes the rules of containers that no longer run, in one transaction.",
    operands: "",
    completes: [],
    options: [...RULES, ...RELOAD, ...BASE, ...DIRECTORIES, ...DAEMON, ...PREDICT, ...ANSWER],
    examples: [
      ["sync", "once, by hand or from a timer"],
      ["sync --check", "show what is out of sync"],
    ],
  },
  {
    name: "watch",
    summary: "sync on every change; run by the service that 'setup --watch' installs",
    details: "Follows the daemon's events until a signal and prints each change.",
    operands: "",
    completes: [],
    options: [...RULES, ...RELOAD, ...DIRECTORIES, ...DAEMON, "config", "debug", "verbose", "help"],
    examples: [["watch --reload patch", "in the foreground, beside another firewall"]],
  },
  {
    name: "status",
    summary: "show what is out of sync; changes nothing",
    details:
      "Compares the daemon's containers, the files and the kernel. Exit status: 0 in sync, 3 problems, 1 the check failed.",
    operands: "[NAME…]",
    completes: "containers",
    options: [...RULES, ...RELOAD, ...DIRECTORIES, ...DAEMON, "format", ...ANSWER],
    examples: [
      ["status", "all containers, the host rules, the services"],
      ["status web", "one container"],
      ["status --json | jq -r '.problems[].msg'", "one sentence per problem"],
      ["status --format prometheus", "metrics for node_exporter"],
      ["status --format nagios", "a check for Nagios"],
    ],
  },
  {
    name: "ls",
    summary: "list what is published, who may connect, and whether the rules are live",
    details: "One line for each published port or range of ports of the running containers. Changes nothing.",
    operands: "[NAME…]",
    completes: "containers",
    options: [...RULES, ...DIRECTORIES, ...DAEMON, ...ANSWER],
    examples: [
      ["ls", "all containers"],
      ["ls --json | jq -r '.published[] | select(.live | not) | .container'", "whose rules are not live"],
    ],
  },
  {
    name: "explain",
    summary: "show who can reach the published ports, with which source address, and which rule decides",
    details:
      "Traces packets through the rules that are live in the kernel, including rules of other programs. Changes nothing.",
    operands: "NAME…",
    completes: "containers",
    options: ["network", "ipv6", "timeout", ...DAEMON, ...ANSWER],
    examples: [["explain web", "each published port, from each kind of client"]],
  },
  {
    name: "load",
    summary: "replace the live rules with the fragments; run by the services",
    details: "Tests the fragments first, then replaces each table in one step. A failure is rolled back.",
    operands: "[ipv4|ipv6]",
    completes: FAMILIES,
    options: [...DIRECTORIES, "check", "keep-undeclared", "confirm", ...ANSWER],
    examples: [
      ["load --check", "check the fragments for errors"],
      ["load ipv4", "load one family"],
      ["load --confirm 60", "over ssh: put back after a minute, unless it is confirmed"],
    ],
  },
  {
    name: "confirm",
    summary: "keep a change that was made with --confirm",
    details:
      "Until then a timer puts everything back: files, services and kernel. create, sync and watch replace only docker_iptables' own rules meanwhile, and a boot ends in the former state.",
    operands: "",
    completes: [],
    options: [...DIRECTORIES, "check", ...ANSWER],
    examples: [["confirm", "the connection still works: keep it"]],
  },
  {
    name: "revert",
    summary: "put back a change that was made with --confirm, before its time is over",
    details:
      "Files, services and kernel are as they were; what was published or unpublished meanwhile stays so. Fragments that somebody else wrote before 'load --confirm' stay as they are, and are not loaded until they say again what runs, or 'load --confirm' tries them again.",
    operands: "",
    completes: [],
    options: [...DIRECTORIES, "check", "due", ...ANSWER],
    examples: [["revert", "put it back now"]],
  },
  {
    name: "completion",
    summary: "print a shell script that completes verbs, options and names",
    details: "For bash, zsh or fish.",
    operands: SHELLS.join("|"),
    completes: SHELLS,
    options: ["help"],
    examples: [
      ["completion bash > /etc/bash_completion.d/docker_iptables", "for all users of bash"],
      ["completion zsh > /usr/local/share/zsh/site-functions/_docker_iptables", "for all users of zsh"],
      ["completion fish > /etc/fish/completions/docker_iptables.fish", "for all users of fish"],
    ],
  },
];

/** Other names of verbs, as other programs have them. */
export const ALIASES: Readonly<Record<string, string>> = { rm: "delete" };

/** The options that a verb takes, in the order of all. */
export function optionsOf({ options }: Verb): Option[] {
  return OPTIONS.filter(({ name }) => options.includes(name));
}

/** Words that are answered as verbs are, and are none: they do nothing. */
export const OTHER_WORDS: readonly Pick<Verb, "name" | "summary">[] = [
  { name: "help", summary: "show the options of a verb" },
  { name: "version", summary: "show the version" },
];

/** The ways in that are no verbs. */
export const OTHER_USAGES: readonly (readonly [usage: string, what: string])[] = [
  ["PATH/FILE", "read arguments from a JSON file (Ansible)"],
  ["< FILE", "read arguments as JSON from stdin"],
  ["help VERB", "show its options, with examples"],
  ["version", "show the version"],
];

/** How the original's unit calls it. */
export const IN_A_UNIT = [
  "ExecStartPost=/usr/local/bin/docker_iptables create web",
  "ExecStopPost=/usr/local/bin/docker_iptables delete web",
] as const;
