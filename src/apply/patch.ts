// `reload: patch`: exchanges our own rules in the kernel and touches no others. It needs no service.

import { sortByBoot } from "../fragments/confirmed.ts";
import { readFragments } from "../fragments/directory.ts";
import { DOCKER_USER } from "../iptables/docker-rules.ts";
import { type Live, type LiveTable, readLive, type Tables } from "../iptables/live.ts";
import { goalOf, goalOfSnapshot, patchText } from "../iptables/patch.ts";
import { type Gone, goneLines, removalText, withoutLines } from "../iptables/removal.ts";
import { byChain } from "../iptables/rule.ts";
import { tablesOf } from "../iptables/table-text.ts";
import { asFailure, Failure } from "../model/errors.ts";
import { FAMILY_WORDS, type Family } from "../model/family.ts";
import type { HostConfig } from "../model/request.ts";
import { patchRules, saveRules } from "../netfilter/iptables.ts";
import { comparable } from "../netfilter/spelling.ts";
import { verbose } from "../system/verbose.ts";

/** Between reading the kernel's rules and the patch another process may change a chain; then a new patch is made. */
const ATTEMPTS = 3;

/** A family's rules and its fragments. */
export interface Place {
  family: Family;
  /** Of the fragments. */
  directory: string;
  timeout: number;
}

/** What is exchanged in one family. */
interface Exchange {
  /** The rules of the fragments that were replaced. */
  former: readonly Tables[];
  /** The rollback does not restore these. */
  gone: readonly Gone[];
  /** The kernel as it is. */
  before: Live;
}

/**
 * Makes our live rules those of the fragments, and returns the kernel's. For the holder of the load lock, so that no load of
 * ours comes between.
 *
 * `remember` gets the rollback step before the kernel is changed, for the holder of that lock. It is also a patch: what others
 * change in between stays.
 */
export async function patchOwnRules(
  { family, directory, timeout }: Place,
  { former, gone, before }: Exchange,
  remember: (wayBack: () => Promise<string | undefined>) => void,
): Promise<Live> {
  const sorted = await sortByBoot(directory, await readFragments(directory));
  const current = await comparable(sorted.current, before, { family, directory, timeout });
  const goal = goalOf(current, former, before);
  remember(async () => {
    const back = goalOfSnapshot(readLive(withoutLines(before, goneLines(gone, current, before))), goal);
    const now = await saveRules(family, timeout);
    const after = await exchange(family, now, (live) => patchText(back, live), timeout);
    return after === now ? undefined : `the kernel's ${FAMILY_WORDS[family]} rules`;
  });
  const textFor = (live: Live) => patchText(live === before ? goal : goalOf(current, former, live), live);
  return exchange(family, before, textFor, timeout);
}

/**
 * Removes the rules of removed fragments from the kernel, even if other fragments are broken: no rule is added. Returns the
 * kernel's rules. Throws Failure of iptables.
 */
export async function removeRules(
  family: Family,
  gone: readonly Gone[],
  { directories, timeout }: HostConfig,
): Promise<Live> {
  const kept = await readFragments(directories[family]);
  const before = await saveRules(family, timeout);
  return exchange(family, before, (live) => removalText(goneLines(gone, kept, live), live), timeout);
}

/**
 * Removes the chains of the host rules with them, each unless a fragment declares it, something jumps to it, or it holds rules. For
 * the holder of the load lock. Throws Failure of iptables.
 */
export async function dropChains(family: Family, chain: string, { directories, timeout }: HostConfig): Promise<void> {
  const fragments = await readFragments(directories[family]);
  const before = await saveRules(family, timeout);
  await exchange(family, before, (live) => dropText(chain, fragments, live), timeout);
}

function dropText(chain: string, fragments: readonly { text: string }[], { tables }: Live): string | undefined {
  const own = [["nat", chain] as const, ["filter", DOCKER_USER] as const];
  const text = own
    .filter(([table, name]) => isIdle(tables.get(table), name) && !fragments.some((one) => declares(one, table, name)))
    .map(([table, name]) => `*${table}\n-X ${name}\nCOMMIT\n`);
  return text.length === 0 ? undefined : text.join("");
}

/** Whether there is a chain, without a rule and without a jump to it. */
function isIdle(table: LiveTable | undefined, chain: string): boolean {
  return table?.chains.has(chain) === true && !table.targets.has(chain) && !byChain(table.lines).has(chain);
}

function declares(fragment: { text: string }, table: string, chain: string): boolean {
  return tablesOf(fragment).sections.some((section) => section.table === table && section.chains.has(chain));
}

/** Each attempt's patch was made of the rules as read, so other programs changed them each time. */
function changedBetween(why: Failure): Failure {
  const message = `other programs change the kernel's rules at the same time, ${ATTEMPTS} times in a row; retry (${why.message})`;
  return new Failure("concurrent_change", message, why.facts, { cause: why });
}

/**
 * Returns the kernel's rules: `before` itself where nothing was to be done. Throws Failure of iptables, and `concurrent_change`
 * where others change the rules each time.
 */
async function exchange(
  family: Family,
  before: Live,
  textFor: (live: Live) => string | undefined,
  timeout: number,
): Promise<Live> {
  let live = before;
  let failed: { text: string; error: unknown } | undefined;
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    const text = textFor(live);
    if (text === undefined) return live;
    // The kernel has not changed since it refused this very text: it would refuse it again.
    if (failed?.text === text) throw failed.error;
    failed = undefined;
    if (attempt > 1) verbose(() => `retry: the patch is recreated, attempt ${attempt} of ${ATTEMPTS}`);
    try {
      await patchRules(family, text, timeout);
    } catch (error) {
      if (attempt === ATTEMPTS) throw changedBetween(asFailure(error));
      failed = { text, error };
    }
    live = await saveRules(family, timeout);
  }
  return live;
}
