// Detects that rules of ours were flushed (iptables -F, netfilter-persistent, nft flush ruleset): watch checks one of them now and
// then. Reads, and changes nothing.

import { join } from "node:path";
import { readOwn } from "../fragments/directory.ts";
import { type Canary, canariesOf } from "../iptables/canary.ts";
import { readFragment } from "../iptables/fragment-text.ts";
import { keyOf } from "../iptables/rule.ts";
import type { Directories } from "../model/directories.ts";
import { FAMILIES } from "../model/family.ts";
import { fileOf } from "../model/owner.ts";
import { ruleAt } from "../netfilter/iptables.ts";
import type { FlushedTable, Host, Lookout } from "../plan/backend.ts";
import type { Kernel } from "../plan/item.ts";

/**
 * milliseconds between two checks, at most, where flushes follow each other; and the time after which they no longer do.
 */
const PAUSE = { longest: 60_000, calm: 600_000 };
/** milliseconds between two checks of iptables' rules, of which each table is checked in its turn. */
const USUAL = 3000;
/** The pause after a check is so many times as long as the check took: so checks are no burden with thousands of rules either. */
const SHARE = 30;
/** seconds; a check that takes longer counts for nothing. */
const PATIENCE = 5;

/** When to check. If rules are flushed again and again, the program does not fight: each check is later than the last. Pure. */
export class Pace {
  readonly #usual: number;
  #flushes = 0;
  #last = Number.NEGATIVE_INFINITY;
  #next = 0;

  /** `usual`: milliseconds between two checks while nothing is flushed. */
  constructor(usual: number) {
    this.#usual = usual;
  }

  /** How many follow each other. */
  get flushes(): number {
    return this.#flushes;
  }

  /** When the next check is due, by the clock that `looked` gets. */
  get next(): number {
    return this.#next;
  }

  /** A check has ended, which took so long. */
  looked(now: number, took: number, flushed: boolean): void {
    if (now - this.#last > PAUSE.calm) this.#flushes = 0;
    if (flushed) {
      this.#flushes++;
      this.#last = now;
    }
    this.#next = now + Math.min(Math.max(this.#usual * 2 ** this.#flushes, SHARE * took), PAUSE.longest);
  }
}

/** Checks one table after the other, in both families at once. */
export class FlushDetector implements Lookout {
  readonly #host: Host;
  readonly #pace = new Pace(USUAL);
  #canaries: Canary[] = [];
  #turn = 0;

  constructor(host: Host) {
    this.#host = host;
  }

  /** performance.now() at which the next check is due. */
  get next(): number {
    return this.#pace.next;
  }

  /** How many flushes there were lately. */
  get flushes(): number {
    return this.#pace.flushes;
  }

  /** The kernel as a sync has left it; a family that is not in it is as it was. */
  learn(live: Kernel): void {
    const kept = this.#canaries.filter(({ family }) => live[family] === undefined);
    const learned = FAMILIES.flatMap((family) => canariesOf(family, live[family] ?? { text: "", tables: new Map() }));
    this.#canaries = [...kept, ...learned];
  }

  /** What was flushed since. Never throws: a check that fails is no flush. */
  async look(): Promise<FlushedTable[]> {
    const started = performance.now();
    const flushed = await this.#lookAround();
    const now = performance.now();
    this.#pace.looked(now, now - started, flushed.length > 0);
    return flushed;
  }

  async #lookAround(): Promise<FlushedTable[]> {
    const tables = [...new Set(this.#canaries.map(({ table }) => table))].sort();
    const table = tables[this.#turn++ % tables.length];
    const looked = this.#canaries.filter((one) => one.table === table);
    const found = await Promise.all(looked.map((canary) => ruleAt(canary.family, canary, PATIENCE)));
    const isThere = looked.every(({ line }, index) => found[index] === undefined || found[index] === line);
    return isThere ? [] : this.#confirm().catch(() => []);
  }

  /**
   * Of all canaries those that are gone, and whose fragments still have them. The others have another place now, or went with a
   * call of ours (a delete): new ones are chosen.
   */
  async #confirm(): Promise<FlushedTable[]> {
    const live = await this.#host.backend.read([...new Set(this.#canaries.map(({ family }) => family))], this.#host);
    const gone = this.#canaries.filter(
      ({ family, table, rule }) => !live[family]?.tables.get(table)?.ours.has(keyOf(rule)),
    );
    const declared = await Promise.all(gone.map((canary) => isDeclared(canary, this.#host.directories)));
    const flushed = gone.filter((_, index) => declared[index]);
    if (flushed.length === 0) this.learn(live);
    return flushed.map(({ family, table }) => ({ family, table }));
  }
}

async function isDeclared({ family, table, rule, owner }: Canary, directories: Directories): Promise<boolean> {
  const own = await readOwn(join(directories[family], fileOf(owner)));
  return (
    readFragment(own?.text ?? "")
      .get(table)
      ?.some((one) => keyOf(one) === keyOf(rule)) ?? false
  );
}
