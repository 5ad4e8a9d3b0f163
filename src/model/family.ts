// The two families of addresses, and the protocols whose ports are published. Pure.

export type Family = "ipv4" | "ipv6";
/** A family's name in words. */
export const FAMILY_WORDS = { ipv4: "IPv4", ipv6: "IPv6" } as const;
export const FAMILIES: readonly Family[] = ["ipv4", "ipv6"];

export const PROTOCOLS = ["tcp", "udp", "sctp"] as const;
export type Protocol = (typeof PROTOCOLS)[number];
