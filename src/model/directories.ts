// Where a family's fragments are, and its state. Pure.

import { join } from "node:path/posix";
import type { Family } from "./family.ts";

/** Of the fragments. */
export type Directories = Readonly<Record<Family, string>>;

export const DEFAULT_DIRECTORIES: Directories = { ipv4: "/etc/iptables.d", ipv6: "/etc/ip6tables.d" };

/** systemd's name of the directory below /var/lib in which the services of the default directories keep their state. */
export const STATE_NAME = "docker_iptables";

/**
 * Where the state of a family's directory is kept, the last good rules among it: for directories other than the default ones beside
 * the fragments, so that two hosts' worth of directories on one machine do not share it.
 */
export function stateDirectoryOf(family: Family, directory: string): string {
  return isDefault(family, directory) ? `/var/lib/${STATE_NAME}` : join(directory, `.${STATE_NAME}`);
}

/** Whether a family's directory of fragments is the default one. */
export function isDefault(family: Family, directory: string): boolean {
  return directory === DEFAULT_DIRECTORIES[family];
}
