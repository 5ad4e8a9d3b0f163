// The ways back of a load that replaces all rules of a family: each is there before the kernel is touched.

import { readFragments } from "../fragments/directory.ts";
import type { Live } from "../iptables/live.ts";
import { goneLines } from "../iptables/removal.ts";
import { orElse } from "../model/errors.ts";
import type { Family } from "../model/family.ts";
import type { HostConfig } from "../model/request.ts";
import { restoreSnapshot } from "../netfilter/snapshot.ts";
import { type Item, isContainers, type Kernel, ofFamily } from "../plan/item.ts";
import type { LoadLocks } from "./load-locks.ts";
import { loadWhatCan } from "./salvage.ts";
import type { Undo } from "./undo.ts";

export interface WaysBack {
  /** To the rules that were live before, without those that are to be removed. */
  snapshots: Undo[];
  /** Where nothing ran: once the files are as they were, what can be loaded of them. */
  salvages: Undo[];
}

/** What is about to be loaded. */
interface Before {
  items: readonly Item[];
  live: Kernel;
  /** The kernel as this call leaves it; filled in once it is known. */
  left: Kernel;
  /** What nothing brings back. */
  going: readonly Item[];
  /** Whether a service loads: one that failed may have restored what it could. */
  isService: boolean;
}

export function waysBack(families: readonly Family[], before: Before, locks: LoadLocks, host: HostConfig): WaysBack {
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
