// The texts of our services: those that load the fragments at boot, and the one that follows the daemon's events. Pure.

import type { Family } from "../docker/container.ts";
import { markOf } from "../rules/fragment-text.ts";
import { COMMANDS } from "./iptables.ts";
import { loaderSandbox, OTHER_CLIENT, watcherSandbox } from "./sandbox.ts";

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
  const paths = directories.map(([, directory]) => directory);
  const all = paths.join(" and ");
  const withoutUs = families.map((family) => {
    const { save, restore } = COMMANDS[family];
    return `[ "$$SERVICE_RESULT" = success ] || ${save} | grep -q ^-A || ${restore} --wait 10 /var/lib/docker_iptables/${family}.rules`;
  });
  return `${markOf(`(${unit})`)}
# Loads the fragments of ${all}. It has no ExecStop: a stop must not open the host, and a reload or a
# restart replaces the rules without a moment in between.
[Unit]
Description=Firewall rules of ${all.replaceAll("%", "%%")}
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
# The same where docker_iptables itself cannot run (no Node.js, say): it needs iptables alone, and no sandbox (+).
${withoutUs.map((words) => `ExecStopPost=-+/bin/sh -c '${words}'`).join("\n")}

${loaderSandbox(paths)}

[Install]
WantedBy=multi-user.target
`;
}

/** What the watcher is to do. */
export interface Watching {
  /** The flags of `watch`. */
  words: readonly string[];
  directories: readonly string[];
  /** Whether its client is Docker's own executable. */
  isDockers: boolean;
}

/** The text of the unit that keeps files and kernel true to what runs. */
export function watchUnitText(unit: string, executable: string, watching: Watching): string {
  const { words, directories, isDockers } = watching;
  return `${markOf(`(${unit})`)}
# Follows the daemon's events; each change is a record in the journal. A daemon that is down is waited for.
[Unit]
Description=Firewall rules of Docker's published ports, as containers come and go
After=docker.service iptables.service ip6tables.service

[Service]
Type=notify
# systemd-notify speaks for it.
NotifyAccess=all
# It is told whenever a sync or a look has ended. So long none takes that ends.
WatchdogSec=300
ExecStart=${[executable, "watch", ...words].map(unitWord).join(" ")}
Restart=always
RestartSec=2

${isDockers ? watcherSandbox(directories) : OTHER_CLIENT}

[Install]
WantedBy=multi-user.target
`;
}

/** A word of a command line of systemd's: quoted where need be, without specifiers and variables (systemd.service(5)). */
function unitWord(word: string): string {
  const literal = word.replaceAll("%", "%%").replaceAll("$", "$$$$");
  return /^[\w@%+=:,./-]+$/.test(literal) ? literal : `"${literal.replace(/["\\]/g, "\\$&")}"`;
}
