// A backend that a host has had: its rules of ours go once another backend has them. Others' rules stay.

import { rm } from "node:fs/promises";
import { existingFamilies } from "../fragments/directory.ts";
import { confirmedDirectoryOf } from "../fragments/nft-directory.ts";
import { liveOwners } from "../iptables/live.ts";
import { Failure } from "../model/errors.ts";
import type { HostConfig } from "../model/request.ts";
import { saveRules } from "../netfilter/iptables.ts";
import { changeTable, readOwnTable } from "../netfilter/own-table.ts";
import { restoreSnapshot } from "../netfilter/snapshot.ts";
import { withTexts } from "../nft/snapshot.ts";
import { changesFor, NOTHING } from "../nft/table.ts";
import type { Undo } from "../plan/backend.ts";
import { withLoadLock } from "../system/lock.ts";
import { dropChains, removeRules } from "./patch.ts";

/** `Backend.leave` of iptables. */
export async function leaveIptables(host: HostConfig, chain: string, undo: Undo[]): Promise<void> {
  const { directories, timeout } = host;
  for (const family of await existingFamilies(directories)) {
    await withLoadLock([directories[family]], timeout, async () => {
      const before = await saveRules(family, timeout).catch(orWithout);
      if (before === undefined) return;
      const gone = liveOwners(before).map((owner) => ({ owner, former: new Map() }));
      const after = await removeRules(family, gone, host);
      undo.push(() => restoreSnapshot(family, before, after, timeout));
      await dropChains(family, chain, host);
    });
  }
}

/** A host that has lost iptables has none of its rules to remove. */
function orWithout(error: unknown): undefined {
  if (!(error instanceof Failure) || error.code !== "command_missing") throw error;
}

/** `Backend.leave` of nftables. */
export async function leaveNft({ directories, timeout }: HostConfig, undo: Undo[]): Promise<void> {
  const table = await readOwnTable(timeout).catch(orWithout);
  if (table !== undefined) {
    undo.push(async () => {
      await changeTable(changesFor(withTexts(table), await readOwnTable(timeout)), timeout);
      return "our table in nftables";
    });
    await changeTable(changesFor(NOTHING, table), timeout);
  }
  await rm(confirmedDirectoryOf(directories.ipv4), { recursive: true, force: true });
}
