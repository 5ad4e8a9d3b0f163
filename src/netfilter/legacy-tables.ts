// Whether the legacy backend of iptables has tables, which neither nft nor iptables-nft-save shows.

import { readFile } from "node:fs/promises";
import type { Family } from "../model/family.ts";

/** Where the kernel names them: of this network namespace, and empty where nobody uses it. */
const NAMES: Record<Family, string> = { ipv4: "/proc/net/ip_tables_names", ipv6: "/proc/net/ip6_tables_names" };

/** Never throws; makes none. */
export async function hasLegacyTables(family: Family): Promise<boolean> {
  return (await readFile(NAMES[family], "utf8").catch(() => "")).trim() !== "";
}
