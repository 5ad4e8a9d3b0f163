// Removes, and restores, what a Docker daemon left that managed iptables, and that one which does not manage it has no use for.

import type { Live } from "../iptables/live.ts";
import { leftoverText, undeclaredOf } from "../iptables/undeclared.ts";
import {
  deleteTable,
  patchBackend,
  restoreBackend,
  restoreTable,
  saveBackend,
  tableText,
} from "../netfilter/foreign-firewalls.ts";
import { patchRules, saveRules } from "../netfilter/iptables.ts";
import { restoreSnapshot } from "../netfilter/snapshot.ts";
import type { Undo } from "../plan/backend.ts";
import type { Leftover, LeftRules } from "../plan/leftovers.ts";

/** Removes what of it is still there; `undo` gets the rollback step. Throws Failure of iptables and nft. */
export async function removeLeftover(leftover: Leftover, undo: Undo[], timeout: number): Promise<void> {
  if (leftover.kind === "rules") return removeRules(leftover, undo, timeout);
  const { name } = leftover;
  const text = await tableText(name, timeout);
  if (text === undefined) return;
  undo.push(async () => {
    if ((await tableText(name, timeout)) !== undefined) return undefined;
    await restoreTable(name, text, timeout);
    return `the nftables table ${name}`;
  });
  await deleteTable(name, timeout);
}

async function removeRules({ family, backend, fragments, bridges }: LeftRules, undo: Undo[], timeout: number) {
  const save = () => (backend === undefined ? saveRules(family, timeout) : saveBackend(family, backend, timeout));
  const before = await save();
  const text = leftoverText(undeclaredOf(before, fragments, bridges), backend !== undefined);
  if (text === undefined) return;
  let left: Live | undefined;
  undo.push(async () => {
    if (backend === undefined) return restoreSnapshot(family, before, left, timeout);
    await restoreBackend(family, backend, before, timeout);
    return `the rules of the ${backend} backend`;
  });
  if (backend === undefined) await patchRules(family, text, timeout);
  else await patchBackend(family, backend, text, timeout);
  left = await save();
}
