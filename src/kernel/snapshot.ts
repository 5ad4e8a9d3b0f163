// The way back: what iptables-save printed before is loaded again.

import type { Family } from "../docker/container.ts";
import { type Live, withoutCounters } from "../rules/live.ts";
import { builtInChains } from "../rules/table-text.ts";
import { restoreRules, saveRules } from "./iptables.ts";

/**
 * Loads the rules that were there, if the kernel has others now; says what it put back. A table that was not there is
 * emptied. Throws Failure as `saveRules` and `restoreRules` do.
 */
export async function restoreSnapshot(
  family: Family,
  snapshot: Live,
  timeoutSeconds: number,
): Promise<string | undefined> {
  const now = await saveRules(family, timeoutSeconds);
  if (withoutCounters(now.text) === withoutCounters(snapshot.text)) return undefined;
  const added = [...now.tables.keys()].filter((table) => !snapshot.tables.has(table));
  const emptied = added.flatMap((table) => [
    `*${table}`,
    ...builtInChains(table).map((chain) => `:${chain} ACCEPT [0:0]`),
    "COMMIT",
    "",
  ]);
  await restoreRules(family, snapshot.text + emptied.join("\n"), timeoutSeconds);
  return `the kernel's ${family === "ipv4" ? "IPv4" : "IPv6"} rules`;
}
