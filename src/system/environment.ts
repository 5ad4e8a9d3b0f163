// The environment of this process: the one file that reads it. Nothing is changed in it but by `forget`; what every command
// gets besides is exec.ts's.

import { env } from "node:process";

/** The variables that decide anything here. HOME is also read by node:os. */
type Variable =
  /** Where commands are looked for; exec.ts completes it. */
  | "PATH"
  /** Of Docker's client: which daemon it asks. */
  | "DOCKER_CONFIG"
  | "DOCKER_CONTEXT"
  | "DOCKER_HOST"
  /** The file with the host's settings, without --config. */
  | "DOCKER_IPTABLES_CONFIG"
  /** What --verbose shows, without the flag: for units and Ansible. */
  | "DOCKER_IPTABLES_VERBOSE"
  /** Of systemd, for its services (systemd.exec(5), sd_notify(3)). */
  | "INVOCATION_ID"
  | "JOURNAL_STREAM"
  | "NOTIFY_SOCKET"
  /** Of sshd, for a login over the network (ssh(1)). */
  | "SSH_CONNECTION"
  | "STATE_DIRECTORY"
  | "WATCHDOG_USEC";

/** A variable's value; undefined where it is not set, or empty. */
export function variable(name: Variable): string | undefined {
  return env[name] || undefined;
}

/** For this process, and for what it starts. */
export function forget(name: Variable): void {
  delete env[name];
}

/** All of it, for what obeys variables of the user's own choice: `$VAR` in a path, NO_COLOR. */
export function everyVariable(): Readonly<Record<string, string | undefined>> {
  return env;
}
