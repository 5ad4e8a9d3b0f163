// The manual page, in man(7)'s language, from what --help is made of. The build writes it. Pure.

import { OPTIONS, type Option } from "./options.ts";
import { IN_A_UNIT, OTHER_USAGES, optionsOf, VERBS, type Verb } from "./verbs.ts";

/** docker_iptables(1). */
export function manualText(version: string): string {
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
0 done, 1 failed, 2 wrong usage. status: 0 all well, 3 problems, 1 could not find out.
.SH FILES
.TP
.I /etc/iptables.d, /etc/ip6tables.d
The fragments, loaded in bytewise order of their names.
.SH ENVIRONMENT
.TP
.B NO_COLOR
If set and not empty, nothing is coloured, on a terminal either.
.TP
.B DOCKER_IPTABLES_VERBOSE
1 is as \\-\\-verbose with each call, JSON's included.
.SH "SEE ALSO"
.BR iptables (8),
.BR iptables\\-restore (8),
.BR docker (1)
`;
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
function block(lines: readonly string[]): string {
  return `.RS 4\n.nf\n${lines.map(roff).join("\n")}\n.fi\n.RE`;
}

/** Text without a meaning of its own: groff_man(7) reads backslashes, and a dot or quote that begins a line. */
function roff(text: string): string {
  return text.replaceAll("\\", "\\e").replaceAll("-", "\\-").replaceAll("…", "\\[u2026]").replace(/^[.']/gm, "\\&$&");
}
