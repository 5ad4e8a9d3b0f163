// The text of --help, from the same schema as everything else. Pure.

import { FLAGS } from "../flags.ts";

export function helpText(): string {
  return `docker_iptables keeps the host's iptables fragments true to its Docker containers.

Usage:
  docker_iptables setup            make the host ready, once and after each new network
  docker_iptables create NAME…     publish the ports of running containers
  docker_iptables delete NAME…     take their rules away; Docker is not asked
  docker_iptables sync             bring files and kernel to what runs now, for all containers at once
  docker_iptables watch            the same whenever something changes; what the service of 'setup --watch' runs
  docker_iptables status [NAME…]   what is not as it should be; changes nothing
  docker_iptables explain NAME…    who reaches the published ports, from where, seen as whom, and which rule decides
  docker_iptables load [ipv4|ipv6] replace the running rules by the fragments; what the services run
  docker_iptables FILE             the same from a JSON file (Ansible)
  docker_iptables < FILE           the same from JSON on stdin

Examples:
  docker_iptables setup --check --diff           what it would write, and nothing else
  docker_iptables setup --watch                  no units needed: a service publishes whatever runs
  docker_iptables setup --adopt                  keep the rules that run now as fragments
  docker_iptables setup --remove                 take it back
  docker_iptables create web
  docker_iptables create web --check --diff      what would change, and nothing else
  docker_iptables create web db --ipv6 --json    one inspect, one reload, one line of JSON
  docker_iptables create web --reload restore    without a systemd service
  docker_iptables delete web
  docker_iptables delete --all
  docker_iptables status --json | jq '.problems[].msg'
  docker_iptables explain web
  docker_iptables load --check                   what is wrong with the fragments, if anything
  echo '{"container": "web", "state": "present"}' | docker_iptables

In a systemd unit:
  ExecStartPost=/usr/local/bin/docker_iptables create web
  ExecStopPost=/usr/local/bin/docker_iptables delete web

Options:
${FLAGS.map(describe).join("\n")}
${row("--check", "Predict what would change, and change nothing.")}
${row("--diff", "Show each file before and after.")}
${row("--remove", "With setup: take the base away, and the services that it installed.")}
${row("--json", "Answer with one line of JSON.")}
${row("--version", "The version.")}

Exit status: 0 done, 1 failed, 2 wrong usage; of status 0 all well, 3 problems, 1 could not find out.
`;
}

function describe({ flag, type, description, fallback, choices }: (typeof FLAGS)[number]): string {
  const value =
    type === "boolean"
      ? ""
      : choices
        ? ` ${choices.join("|")}`
        : type === "integer"
          ? " SECONDS"
          : ` ${flag.split("-").at(-1)?.toUpperCase()}`;
  const name = type === "boolean" && fallback === true ? `--no-${flag}` : `--${flag}${value}`;
  const negated = type === "boolean" && fallback === true ? `Not: ${description}` : description;
  const known = fallback === undefined || type === "boolean" ? "" : ` Default: ${fallback}.`;
  return row(name, `${negated}${known}`);
}

/** An option and its description, the latter in lines of at most 72 characters below it. */
function row(name: string, description: string): string {
  const lines = [""];
  for (const word of description.split(" ")) {
    const last = lines[lines.length - 1] ?? "";
    if (last.length + word.length + 1 > 72) lines.push(word);
    else lines[lines.length - 1] = last === "" ? word : `${last} ${word}`;
  }
  return [`  ${name}`, ...lines.map((line) => `      ${line}`)].join("\n");
}
