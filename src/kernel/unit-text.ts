// The text of a service that loads the fragments at boot. Pure.

import type { Family } from "../docker/container.ts";
import { markOf } from "../rules/fragment-text.ts";
import { COMMANDS } from "./iptables.ts";

/** What a unit says that loads these directories: by family, as `load` takes them. */
export type Directories = readonly (readonly [Family, string])[];

const DEFAULT_DIRECTORIES: Record<Family, string> = { ipv4: "/etc/iptables.d", ipv6: "/etc/ip6tables.d" };
const DIRECTORY_FLAGS: Record<Family, string> = { ipv4: "--iptables-dir", ipv6: "--ip6tables-dir" };

/** The text of a unit that loads the directories of one family, or of both. `executable` is an absolute path. */
export function unitText(unit: string, executable: string, directories: Directories): string {
  const families = directories.map(([family]) => family);
  const load = [
    ...[executable, "load", ...(families.length === 1 ? families : [])],
    ...directories.flatMap(([family, directory]) =>
      directory === DEFAULT_DIRECTORIES[family] ? [] : [DIRECTORY_FLAGS[family], directory],
    ),
  ];
  const command = load.map(unitWord).join(" ");
  const paths = directories.map(([, directory]) => directory).join(" and ");
  const withoutUs = families.map((family) => {
    const { save, restore } = COMMANDS[family];
    return `[ "$$SERVICE_RESULT" = success ] || ${save} | grep -q ^-A || ${restore} --wait 10 /var/lib/docker_iptables/${family}.rules`;
  });
  return `${markOf(`(${unit})`)}
# Loads the fragments of ${paths}. It has no ExecStop: a stop must not open the host, and a reload or a
# restart replaces the rules without a moment in between.
[Unit]
Description=Firewall rules of ${paths.replaceAll("%", "%%")}
Documentation=man:iptables-restore(8)
DefaultDependencies=no
After=local-fs.target systemd-modules-load.service
Before=network-pre.target docker.service shutdown.target
Wants=network-pre.target
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
# The last good rules are kept here: a host that boots with a broken fragment gets those, and this unit fails.
StateDirectory=docker_iptables
StateDirectoryMode=0700
ExecStart=${command}
ExecReload=${command}
# The same where docker_iptables itself cannot run (no Node.js, say): it needs iptables alone.
${withoutUs.map((words) => `ExecStopPost=-/bin/sh -c '${words}'`).join("\n")}

[Install]
WantedBy=multi-user.target
`;
}

/** The text of the unit that keeps files and kernel true to what runs; `words` are the flags of `watch`. */
export function watchUnitText(unit: string, executable: string, words: readonly string[]): string {
  return `${markOf(`(${unit})`)}
# Follows the daemon's events; each change is a record in the journal. A daemon that is down is waited for.
[Unit]
Description=Firewall rules of Docker's published ports, as containers come and go
After=docker.service iptables.service ip6tables.service

[Service]
Type=notify
# systemd-notify speaks for it.
NotifyAccess=all
WatchdogSec=60
ExecStart=${[executable, "watch", ...words].map(unitWord).join(" ")}
Restart=always
RestartSec=2

[Install]
WantedBy=multi-user.target
`;
}

/** A word of a command line of systemd's: quoted where need be, without specifiers and variables (systemd.service(5)). */
function unitWord(word: string): string {
  const literal = word.replaceAll("%", "%%").replaceAll("$", "$$$$");
  return /^[\w@%+=:,./-]+$/.test(literal) ? literal : `"${literal.replace(/["\\]/g, "\\$&")}"`;
}
