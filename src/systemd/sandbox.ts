// What a service of ours may do (systemd.exec(5)): as little as iptables, the trial and the client allow. Pure.
//
// A systemd that is too old for one of these lines warns of it and continues.

import { dirname } from "node:path/posix";

/** The lines for a service that loads these directories. */
export function loaderSandbox(directories: readonly string[]): string {
  return `# Only the rights that it needs. SYS_ADMIN: the rules are tried in a network namespace of their own first. SYS_MODULE: where the
# kernel has no ip_tables yet, iptables-legacy has modprobe load it. DAC_OVERRIDE, FOWNER: fragments of other users.
CapabilityBoundingSet=${LOADING}
${fileSystem("It writes the directories and /run/xtables.lock", directories)}
${COMMON}
# Only root can read what it writes.
UMask=0077`;
}

/** The same for one that loads the directory of nftables: nothing is tried elsewhere, and the kernel has its own modules loaded. */
export function nftLoaderSandbox(directory: string): string {
  return `# Only the rights that it needs. DAC_OVERRIDE, FOWNER: fragments of other users.
CapabilityBoundingSet=CAP_DAC_OVERRIDE CAP_FOWNER CAP_NET_ADMIN
${fileSystem("It writes the directory, and links in /run", [directory])}
${COMMON}
# Only root can read what it writes.
UMask=0077`;
}

/** The lines for the service that follows the events of Docker's daemon through Docker's own client. */
export function watcherSandbox(directories: readonly string[]): string {
  // A directory that was moved away and recreated would be another than the one that may be written.
  const parents = [...new Set(directories.map((directory) => dirname(directory)))];
  return `# Only the rights that it needs. SYS_ADMIN: the rules are tried in a network namespace of their own first. SYS_MODULE: where the
# kernel has no ip_tables yet, iptables-legacy has modprobe load it. DAC_OVERRIDE, FOWNER: fragments of other users.
# SYS_PTRACE: the owner of a dockerd and a docker-proxy.
CapabilityBoundingSet=${LOADING} CAP_SYS_PTRACE
${fileSystem("It writes the directories, which may be recreated while it runs, and /run/xtables.lock", parents)}
${COMMON}`;
}

/** The lines for one that starts another client: podman and nerdctl mount file systems and enter namespaces. */
export const OTHER_CLIENT = `# Its client is not Docker's own executable: its needs are unknown, so little is restricted.
LockPersonality=yes
RestrictRealtime=yes
SystemCallFilter=~@clock @cpu-emulation @obsolete @raw-io @reboot @swap
SystemCallErrorNumber=EPERM`;

const LOADING = "CAP_DAC_OVERRIDE CAP_FOWNER CAP_NET_ADMIN CAP_NET_RAW CAP_SYS_ADMIN CAP_SYS_MODULE";

function fileSystem(comment: string, writable: readonly string[]): string {
  return `# ${comment}.
ProtectSystem=strict
ReadWritePaths=${["/run", ...writable.map((path) => pathWord(`-${path}`))].join(" ")}
ReadOnlyPaths=-/proc/sys -/sys
ProtectHome=read-only`;
}

const COMMON = `PrivateDevices=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
LockPersonality=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_NETLINK AF_UNIX
RestrictNamespaces=net
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
# What is not listed is allowed, so that a newer Node.js or iptables runs; a listed call fails, and the process continues.
SystemCallFilter=~@clock @cpu-emulation @debug @mount @obsolete @privileged @raw-io @reboot @resources @swap
# modprobe, and iptables' match bpf.
SystemCallFilter=@module bpf
SystemCallErrorNumber=EPERM
# It cannot have: MemoryDenyWriteExecute (JavaScript is compiled as it runs), NoNewPrivileges (with it, SELinux leaves
# executables in systemd's own domain), PrivateNetwork and IPAddressDeny (the rules are the host's, and fragments may name
# hosts), PrivateTmp (a directory or a socket may be there), ProtectControlGroups, ProtectKernelTunables, ProtectProc and
# ProcSubset (they mount a /proc of its own, with another boot id where this host is a container), ProtectKernelModules.`;

/** A path in a list of paths: quoted where need be, without specifiers. */
function pathWord(path: string): string {
  const literal = path.replaceAll("%", "%%");
  return /^[\w@%+=:,./-]+$/.test(literal) ? literal : `"${literal.replace(/["\\]/g, "\\$&")}"`;
}
