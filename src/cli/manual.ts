// The manual page, in man(7)'s language, from what --help is made of. The build writes it. Pure.

import schema from "../../schema/result.schema.json" with { type: "json" };
import { OPTIONS, type Option } from "./options.ts";
import { IN_A_UNIT, OTHER_USAGES, optionsOf, VERBS, type Verb } from "./verbs.ts";

/** A page of docs/, beside which the manual is one of many. */
export interface Page {
  /** From the top of the sources. */
  path: string;
  title: string;
}

/** docker_iptables(1). */
export function manualText(version: string, pages: readonly Page[]): string {
  return `.TH DOCKER_IPTABLES 1 "" "docker_iptables ${version}" "User Commands"
.SH NAME
docker_iptables \\- keeps the host's iptables fragments true to its Docker containers
.SH SYNOPSIS
${usages().join("\n.br\n")}
.SH DESCRIPTION
On a host whose Docker runs with \\-\\-iptables=false, docker_iptables makes the rules for published ports: it inspects a
container, writes its rules into /etc/iptables.d, has them loaded, and looks into the kernel whether they are there.
.SH VERBS
${VERBS.map(section).join("\n")}
.SH OPTIONS
Each verb takes those that are listed with it.
${OPTIONS.map(option).join("\n")}
.SH "IN A SYSTEMD UNIT"
${block(IN_A_UNIT)}
.SH "EXIT STATUS"
${EXIT_STATUS.map(([status, means]) => term(status, means)).join("\n")}
.SH FILES
${FILES.map(([path, means]) => term(path, means)).join("\n")}
.SH ENVIRONMENT
${ENVIRONMENT.map(([name, means]) => term(name, means)).join("\n")}
.SH LABELS
${term("docker_iptables.enable=false", "Of a container: sync and watch do not publish it, and leave what is published of it unchanged, unless its fragment has an address that is not its own any more; lists of who may connect close its ports all the same. A call that names the container publishes it all the same.")}
${term("docker_iptables.allow.PORTS=SOURCES", 'Of a container: who may connect to these ports from other machines, as with --allow; docker_iptables.allow is for all of its ports, no value for no other machine. It only narrows what the settings say, unless they have "labels": "trusted". One that cannot be read closes all ports that have no list of its own.')}
.SH PROBLEMS
What status reports, the most dangerous first, each with what to do. Here by name.
${Object.entries(kinds["x-means"])
  .map(([kind, means]) => term(kind, `${means} What to do: ${remedyOf(kind).replaceAll("`", "")}.`))
  .join("\n")}
.SH "SEE ALSO"
.BR docker_iptables.json (5),
.BR iptables (8),
.BR iptables\\-restore (8),
.BR docker (1)
.PP
Pages of the sources:
${pages.map(({ path, title }) => term(path, `${title}.`)).join("\n")}
`;
}

const kinds = schema.properties.problems.items.properties.kind;

function remedyOf(kind: string): string {
  return Object.entries(kinds["x-remedies"]).find(([one]) => one === kind)?.[1] ?? "";
}

type Terms = readonly (readonly [term: string, means: string])[];

const EXIT_STATUS: Terms = [
  ["0", "Done, or nothing to do. Of status: no problems."],
  ["1", "Failed; what was changed is restored, or the message says what is not. Of status: the check failed."],
  ["2", "Wrong usage of a verb."],
  ["3", "Of status: there are problems."],
];

const FILES: Terms = [
  ["/etc/docker_iptables.json", "The host's settings: the defaults of the arguments. setup writes them."],
  ["/etc/iptables.d, /etc/ip6tables.d", "The fragments, loaded in bytewise order of their names."],
  [
    "11-docker-container_NAME",
    "A container's fragment. A fragment without rules keeps the options of its last create.",
  ],
  ["10_docker, 90_docker", "The host rules, before and after those of the containers."],
  ["00_existing, 95_existing", "Rules that setup --adopt found and saved. They are yours."],
  [
    "/var/lib/docker_iptables",
    "The last good rules and settings; for other directories .docker_iptables in each of them.",
  ],
  ["/etc/systemd/system/iptables.service, ip6tables.service", "Load the fragments at boot, with a timer that retries."],
  ["/etc/systemd/system/docker_iptables-watch.service", "The watcher that setup --watch installs."],
];

const ENVIRONMENT: Terms = [
  ["DOCKER_IPTABLES_CONFIG", "Another file with the host's settings, where --config names none."],
  ["DOCKER_IPTABLES_VERBOSE", "1 is as --verbose with each call, JSON's included."],
  ["DOCKER_HOST, DOCKER_CONTEXT, DOCKER_CONFIG", "As for the client: which daemon is asked."],
  ["NO_COLOR", "If set and not empty, nothing is coloured, on a terminal either."],
];

/** An entry of a list. */
export function term(name: string, means: string): string {
  return `.TP\n.B ${roff(name)}\n${roff(means)}`;
}

function usages(): string[] {
  const all = [...VERBS.map(({ name, operands }) => `${name} ${operands}`.trim()), ...OTHER_USAGES.map(([one]) => one)];
  return all.map((usage) => `.B docker_iptables\n${roff(usage)}`);
}

function section(verb: Verb): string {
  const { name, operands, summary, details, examples } = verb;
  const spellings = optionsOf(verb).map(({ spelling }) => spelling);
  return `.SS "${name}${operands === "" ? "" : ` ${roff(operands)}`}"
${roff(`${summary.charAt(0).toUpperCase()}${summary.slice(1)}. ${details}`)}
.PP
${block(examples.map(([command, what]) => `docker_iptables ${command}   # ${what}`))}
.PP
Options: ${roff(spellings.join(", "))}.`;
}

function option({ spelling, value, description }: Option): string {
  const shown = value === undefined ? "" : ` \\fI${roff(value)}\\fR`;
  return `.TP\n\\fB${roff(spelling)}\\fR${shown}\n${roff(description)}`;
}

/** Lines as they are. */
export function block(lines: readonly string[]): string {
  return `.RS 4\n.nf\n${lines.map(roff).join("\n")}\n.fi\n.RE`;
}

/** Text without a meaning of its own: groff_man(7) reads backslashes, and a dot or quote that begins a line. */
function roff(text: string): string {
  return text.replaceAll("\\", "\\e").replaceAll("-", "\\-").replaceAll("…", "\\[u2026]").replace(/^[.']/gm, "\\&$&");
}
