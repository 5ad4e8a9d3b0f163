// Why the watcher syncs, and its words. Pure.

import type { Canary } from "../iptables/canary.ts";
import { FAMILY_WORDS } from "../model/family.ts";

/** An event of the daemon's, or tables that were flushed. */
export type Reason =
  | { kind: "event"; name: string; action: string }
  | { kind: "flushed"; tables: readonly FlushedTable[] };

/** A table in which rules of ours were. */
export type FlushedTable = Pick<Canary, "family" | "table">;

export function describeReason(reason: Reason): string {
  return reason.kind === "event" ? `${reason.name} ${reason.action}` : `${listTables(reason.tables)} flushed`;
}

/** As "IPv4 nat, IPv6 nat". */
export function listTables(tables: readonly FlushedTable[]): string {
  return tables.map(({ family, table }) => `${FAMILY_WORDS[family]} ${table}`).join(", ");
}
