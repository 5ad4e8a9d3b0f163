// The rollback: what iptables-save printed before is loaded again.

import { COMMANDS } from "../iptables/commands.ts";
import { type Live, withoutCounters } from "../iptables/live.ts";
import { type Lines, withoutLines } from "../iptables/removal.ts";
import { builtInChains } from "../iptables/table-text.ts";
import { Failure } from "../model/errors.ts";
import { FAMILY_WORDS, type Family } from "../model/family.ts";
import { restoreRules, saveRules } from "./iptables.ts";

/**
 * Loads the rules that were there, if the kernel has others now; returns what it restored. A table that was not there is emptied.
 * `left` are the rules as we left them, if we got so far: rules that others have added since are not removed. `gone` are rules that
 * are never restored. Throws Failure `concurrent_change` where others have added some, and as `saveRules` and `restoreRules` do.
 */
export async function restoreSnapshot(
  family: Family,
  snapshot: Live,
  left: Live | undefined,
  timeoutSeconds: number,
  gone: Lines = new Map(),
): Promise<string | undefined> {
  const now = await saveRules(family, timeoutSeconds);
  const what = `the kernel's ${FAMILY_WORDS[family]} rules`;
  const isNow = ({ text }: Live) => withoutCounters(now.text) === withoutCounters(text);
  if (isNow(snapshot)) return undefined;
  if (left !== undefined && !isNow(left)) {
    throw new Failure(
      "concurrent_change",
      `${what}, which others have changed since; look at them with ${COMMANDS[family].save}`,
    );
  }
  const added = [...now.tables.keys()].filter((table) => !snapshot.tables.has(table));
  const emptied = added.flatMap((table) => [
    `*${table}`,
    ...builtInChains(table).map((chain) => `:${chain} ACCEPT [0:0]`),
    "COMMIT",
    "",
  ]);
  await restoreRules(family, withoutLines(snapshot, gone) + emptied.join("\n"), timeoutSeconds);
  return what;
}
