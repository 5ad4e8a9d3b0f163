// The ways back of a load that replaces all rules of a family: each is there before the kernel is touched.

import { readFragments } from "../fragments/directory.ts";
import type { Live } from "../iptables/live.ts";
import { goneLines } from "../iptables/removal.ts";
import { orElse } from "../model/errors.ts";
import type { Family } from "../model/family.ts";
import type { HostConfig } from "../model/request.ts";
import { restoreSnapshot } from "../netfilter/snapshot.ts";
import type { BeforeLoad, Locks, WaysBack } from "../plan/backend.ts";
import { type Item, isContainers, ofFamily } from "../plan/item.ts";
import { loadWhatCan } from "./salvage.ts";

/** `Backend.waysBack`. */
export function waysBack(families: readonly Family[], before: BeforeLoad, locks: Locks, host: HostConfig): WaysBack {
  const ways: WaysBack = { snapshots: [], salvages: [] };
  for (const family of families) {
    const snapshot = before.live[family];
    if (snapshot === undefined) continue;
    if (isEmpty(snapshot) && !isFirstSetup(before.items)) {
      // A rollback never leads to an open host. The failure itself says why nothing can be loaded.
      const salvage = () => loadWhatCan(family, host.directories[family], host.timeout);
      ways.salvages.unshift(() => locks.holding([family], salvage).catch(orElse(undefined)));
      if (before.isService) continue;
    }
    const back = async () => {
      const kept = await readFragments(host.directories[family]).catch(() => []);
      const gone = goneLines(ofFamily(before.going, family), kept, snapshot);
      return restoreSnapshot(family, snapshot, before.left[family], host.timeout, gone);
    };
    // A load of the service's may be under way.
    ways.snapshots.push(() => locks.holding([family], back));
  }
  return ways;
}

function isEmpty({ tables }: Live): boolean {
  return [...tables.values()].every(({ lines }) => lines.length === 0);
}

/** Whether the host rules are written for the first time. */
function isFirstSetup(items: readonly Item[]): boolean {
  return items.some((item) => !isContainers(item) && item.before === undefined);
}
