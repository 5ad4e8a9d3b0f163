// The texts of our units: the services that load the fragments at boot, the timers that start them again where they fail, and
// the service that follows the daemon's events. Pure.

import { join } from "node:path/posix";
import { COMMANDS } from "../iptables/commands.ts";
import { managedHeader } from "../iptables/fragment-text.ts";
import { isDefault, STATE_NAME, stateDirectoryOf } from "../model/directories.ts";
import type { Family } from "../model/family.ts";
import { TABLE_WORDS } from "../nft/layout.ts";
import { loaderSandbox, nftLoaderSandbox, OTHER_CLIENT, watcherSandbox } from "./sandbox.ts";

/** What a unit says that loads these directories: by family, as `load` takes them. */
export type Directories = readonly (readonly [Family, string])[];

/** The timer that starts this service again where it has failed. */
export function retryTimerOf(unit: string): string {
  return `${unit.replace(/\.service$/, "")}-retry.timer`;
}

/**
 * The text of a unit that loads the directories of one family, or of both, which the host's settings name. `executable` is an absolute
 * path, `words` say where the settings are.
 *
 * Its place at a boot, by what the others do at their start (Debian 12, ufw 0.36, netfilter-persistent 1.0.20, nftables 1.0,
 * firewalld 1.3): nftables' default /etc/nftables.conf flushes all rules of the nft backend, and netfilter-persistent's
 * iptables-restore flushes the tables of /etc/iptables/rules.v4, so ours comes after them, and finds the sets that
 * netfilter-persistent has restored. ufw adds to what it finds, and what it appends to FORWARD may refuse everything;
 * firewalld has a table of its own: ours comes before them.
 */
export function unitText(
  unit: string,
  executable: string,
  directories: Directories,
  words: readonly string[] = [],
): string {
  const families = directories.map(([family]) => family);
  const load = [executable, "load", ...(families.length === 1 ? families : []), ...words];
  const command = load.map(unitWord).join(" ");
  const paths = directories.map(([, directory]) => directory);
  const all = paths.join(" and ");
  const withoutUs = directories.map(([family, directory]) => {
    const { save, restore } = COMMANDS[family];
    // Where there is a base, its rules say whether ours run, which no other firewall has.
    const words = `[ "$$SERVICE_RESULT" = success ] && exit; o="docker_iptables: ("; grep -q "$$o" "$$1" || o=^-A; ${save} | grep -q "$$o" || ${restore} --wait 10 "$$1"`;
    return `ExecStopPost=-+/bin/sh -c '${words}' sh ${unitWord(join(stateDirectoryOf(family, directory), `${family}.rules`))}`;
  });
  return `${managedHeader(`(${unit})`)}
# Loads the fragments of ${all}. It has no ExecStop: a stop must not open the host, and a reload or a
# restart replaces the rules without a moment in between.
[Unit]
Description=Firewall rules of ${all.replaceAll("%", "%%")}
Documentation=man:iptables-restore(8)
DefaultDependencies=no
# The units in After= flush rules when they start, or restore sets; those in Before= add to the rules that are there.
After=local-fs.target systemd-modules-load.service nftables.service netfilter-persistent.service
Before=ufw.service firewalld.service network-pre.target docker.service shutdown.target
Wants=network-pre.target
Conflicts=shutdown.target
# What was missing (a set, a name that does not resolve) may exist later.
OnFailure=${retryTimerOf(unit)}

[Service]
Type=oneshot
RemainAfterExit=yes
${stateOf(directories)}# When it starts, the rules of a firewall that started earlier stay; a reload replaces them.
ExecStart=${command} --keep-undeclared
ExecReload=${command}
# A host that boots with a broken fragment gets the last good rules, and this unit fails. Where docker_iptables itself cannot
# run (no Node.js, say), iptables alone loads them, and without a sandbox (+).
${withoutUs.join("\n")}

${loaderSandbox(paths)}

[Install]
WantedBy=multi-user.target
`;
}

/**
 * The same of a unit that loads the directory of nftables: our own table, so nobody else's rules are in its way, nor in danger.
 *
 * `flush ruleset`, with which Debian's /etc/nftables.conf begins, takes our table, too: when nftables.service starts, is restarted or
 * reloaded, so is this one (PartOf, ReloadPropagatedFrom and WantedBy; tried with systemd 252).
 */
export function nftUnitText(
  unit: string,
  executable: string,
  directories: Directories,
  words: readonly string[] = [],
): string {
  const [family, directory] = directories[0] ?? ["ipv4", ""];
  const command = [executable, "load", ...words].map(unitWord).join(" ");
  const kept = unitWord(join(stateDirectoryOf(family, directory), `${family}.rules`));
  const script = `[ "$$SERVICE_RESULT" = success ] || nft list table ${TABLE_WORDS} > /dev/null 2>&1 || nft -f "$$1"`;
  return `${managedHeader(`(${unit})`)}
# Loads the fragments of ${directory} into a table of their own. It has no ExecStop: a stop must not close what is published, and a
# reload or a restart changes what differs, in one transaction.
[Unit]
Description=Firewall rules of ${directory.replaceAll("%", "%%")}
Documentation=man:nft(8)
DefaultDependencies=no
After=local-fs.target systemd-modules-load.service nftables.service
Before=network-pre.target docker.service shutdown.target
Wants=network-pre.target
Conflicts=shutdown.target
# nftables.service may flush all tables.
PartOf=nftables.service
ReloadPropagatedFrom=nftables.service
OnFailure=${retryTimerOf(unit)}
StartLimitIntervalSec=0

[Service]
Type=oneshot
RemainAfterExit=yes
${stateOf(directories)}ExecStart=${command}
ExecReload=${command}
# Where docker_iptables itself cannot run (no Node.js, say), nft alone loads the last good rules, without a sandbox (+).
ExecStopPost=-+/bin/sh -c '${script}' sh ${kept}

${nftLoaderSandbox(directory)}

[Install]
WantedBy=multi-user.target nftables.service
`;
}

/** The lines that let a service keep what `stateDirectoryOf` names; it may write the directories themselves. */
function stateOf(directories: Directories): string {
  const isKept = directories.some(([family, directory]) => isDefault(family, directory));
  return isKept ? `# The last good rules are kept here.\nStateDirectory=${STATE_NAME}\nStateDirectoryMode=0700\n` : "";
}

/**
 * The text of the timer that starts a service of ours again as long as it fails. In between the service stays failed, so that
 * monitoring sees it (with Restart= it would be "activating"). A stop of the service, also of one that has failed, stops the
 * timer; a restart that fails restarts it (PartOf=, tried with systemd 252).
 */
export function retryTimerText(timer: string, unit: string): string {
  return `${managedHeader(`(${timer})`)}
# Started by the failure of ${unit}, and stopped with it: soon, then less often, so that the journal is not filled.
[Unit]
Description=Starts ${unit} again as long as it fails
PartOf=${unit}

[Timer]
Unit=${unit}
OnActiveSec=15s
OnActiveSec=30s
OnActiveSec=1min
OnActiveSec=2min
OnUnitInactiveSec=5min
AccuracySec=1s
`;
}

/** What the watcher is to do. */
export interface Watching {
  /** The flags of `watch`. */
  words: readonly string[];
  directories: Directories;
  /** Those that load the directories at boot: it starts after them. */
  loaders: readonly string[];
  /** Whether its client is Docker's own executable. */
  isDockers: boolean;
}

/** The text of the unit that keeps files and kernel true to what runs. */
export function watchUnitText(unit: string, executable: string, watching: Watching): string {
  const { words, directories, loaders, isDockers } = watching;
  const paths = directories.map(([, directory]) => directory);
  return `${managedHeader(`(${unit})`)}
# Follows the daemon's events; each change is a record in the journal. It waits for a daemon that is down.
[Unit]
Description=Firewall rules of Docker's published ports, as containers come and go
After=${[...new Set(["docker.service", ...loaders])].join(" ")}

[Service]
Type=notify
# It reports its state through systemd-notify.
NotifyAccess=all
# It reports whenever a sync or a check has ended; none takes that long unless it hangs.
WatchdogSec=300
ExecStart=${[executable, "watch", ...words].map(unitWord).join(" ")}
Restart=always
RestartSec=2
${stateOf(directories)}
${isDockers ? watcherSandbox(paths) : OTHER_CLIENT}

[Install]
WantedBy=multi-user.target
`;
}

/** A word of a command line of systemd's: quoted where need be, without specifiers and variables (systemd.service(5)). */
export function unitWord(word: string): string {
  const literal = word.replaceAll("%", "%%").replaceAll("$", "$$$$");
  return /^[\w@%+=:,./-]+$/.test(literal) ? literal : `"${literal.replace(/["\\]/g, "\\$&")}"`;
}
