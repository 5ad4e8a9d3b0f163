// The commands of iptables. Pure.

/** Each family's commands. */
export const COMMANDS = {
  ipv4: { single: "iptables", save: "iptables-save", restore: "iptables-restore" },
  ipv6: { single: "ip6tables", save: "ip6tables-save", restore: "ip6tables-restore" },
} as const;
