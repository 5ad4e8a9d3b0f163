// Notices that our table in nftables is gone (nft flush ruleset, a reload of nftables.service): watch looks now and then. Reads, and changes
// nothing.

import { hasOwnTable } from "../netfilter/own-table.ts";
import { TABLE_WORDS } from "../nft/layout.ts";
import { NftLive } from "../nft/live.ts";
import type { FlushedTable, Lookout } from "../plan/backend.ts";
import type { Kernel } from "../plan/item.ts";
import { Pace } from "./flush-detection.ts";

/** milliseconds between two looks. */
const USUAL = 500;

export class NftLookout implements Lookout {
  readonly #timeout: number;
  readonly #pace = new Pace(USUAL);
  /** Whether there was a table when a sync last left it. */
  #isThere = false;

  constructor(timeout: number) {
    this.#timeout = timeout;
  }

  get next(): number {
    return this.#pace.next;
  }

  get flushes(): number {
    return this.#pace.flushes;
  }

  learn({ ipv4 }: Kernel): void {
    if (ipv4 instanceof NftLive) this.#isThere = ipv4.table !== undefined;
  }

  async look(): Promise<FlushedTable[]> {
    const started = performance.now();
    const isGone = this.#isThere && (await hasOwnTable(this.#timeout).catch(() => true)) === false;
    if (isGone) this.#isThere = false;
    const now = performance.now();
    this.#pace.looked(now, now - started, isGone);
    return isGone ? [{ table: TABLE_WORDS }] : [];
  }
}
