// Where a family's fragments are, and its state. Pure.

import { join } from "node:path/posix";
import type { Family } from "./family.ts";

/** Of the fragments. */
export type Directories = Readonly<Record<Family, string>>;

export const DEFAULT_DIRECTORIES: Directories = { ipv4: "/etc/iptables.d", ipv6: "/etc/ip6tables.d" };

/** Where the backend is nftables: of both families. */
export const DEFAULT_NFT_DIRECTORY = "/etc/nftables.d";

/** systemd's name of the directory below /var/lib in which the services of the default directories keep their state. */
export const STATE_NAME = "docker_iptables";

/**
 * Where the state of a family's directory is kept, the last good rules among it: for directories other than the default ones beside
 * the fragments, so that two hosts' worth of directories on one machine do not share it.
 */
export function stateDirectoryOf(family: Family, directory: string): string {
  if (directory === DEFAULT_NFT_DIRECTORY) return `/var/lib/${STATE_NAME}/nft`;
  return isDefault(family, directory) ? `/var/lib/${STATE_NAME}` : join(directory, `.${STATE_NAME}`);
}

/** Whether a family's directory of fragments is a default one, of either backend. */
export function isDefault(family: Family, directory: string): boolean {
  return directory === DEFAULT_DIRECTORIES[family] || directory === DEFAULT_NFT_DIRECTORY;
}
