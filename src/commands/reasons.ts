// Why the watcher syncs, and its words. Pure.

import { FAMILY_WORDS } from "../model/family.ts";
import type { FlushedTable } from "../plan/backend.ts";

/** An event of the daemon's, or tables that were flushed. */
export type Reason =
  | { kind: "event"; name: string; action: string }
  | { kind: "flushed"; tables: readonly FlushedTable[] };

export function describeReason(reason: Reason): string {
  return reason.kind === "event" ? `${reason.name} ${reason.action}` : `${listTables(reason.tables)} flushed`;
}

/** As "IPv4 nat, IPv6 nat". */
export function listTables(tables: readonly FlushedTable[]): string {
  return tables
    .map(({ family, table }) => (family === undefined ? table : `${FAMILY_WORDS[family]} ${table}`))
    .join(", ");
}
