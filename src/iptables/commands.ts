// The commands of iptables. Pure.

import type { Family } from "../model/family.ts";

/** Each family's commands. */
export const COMMANDS = {
  ipv4: { single: "iptables", save: "iptables-save", restore: "iptables-restore" },
  ipv6: { single: "ip6tables", save: "ip6tables-save", restore: "ip6tables-restore" },
} as const;

/** The command that loads a family's rules. */
export function restoreCommand(family: Family): string {
  return COMMANDS[family].restore;
}
