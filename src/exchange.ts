// `reload: patch`: exchanges our own rules in the kernel and touches no others. It needs no service.

import type { Family } from "./docker/container.ts";
import { asFailure, Failure } from "./errors.ts";
import { sortByBoot } from "./fragments/confirmed.ts";
import { readFragments } from "./fragments/directory.ts";
import type { Arguments } from "./generated/arguments.ts";
import { patchRules, saveRules } from "./kernel/iptables.ts";
import { type Live, readLive, type Tables } from "./rules/live.ts";
import { goalOf, goalOfSnapshot, patchText } from "./rules/patch.ts";
import { type Gone, goneLines, removalText, withoutLines } from "./rules/removal.ts";
import { readTables } from "./rules/table-text.ts";
import { directoryOf } from "./survey.ts";

/** Between a look at the kernel and the patch somebody else may change a chain; then the patch is made anew. */
const ATTEMPTS = 3;

/**
 * Makes our live rules those of the fragments, and returns the kernel's. For the holder of the load lock, so that no load of
 * ours comes between. `former` are the rules of the fragments that were replaced, `before` is the kernel as it is.
 *
 * `remember` gets the way back before the kernel is touched, for who holds that lock. It is a patch, too: what others do in
 * the meantime stays; of `gone` it brings nothing back.
 */
export async function exchangeRules(
  family: Family,
  former: readonly Tables[],
  gone: readonly Gone[],
  before: Live,
  args: Arguments,
  remember: (wayBack: () => Promise<string | undefined>) => void,
): Promise<Live> {
  const directory = directoryOf(family, args);
  const { current } = await sortByBoot(directory, await readFragments(directory));
  const goal = goalOf(current, former, before);
  const back = goalOfSnapshot(readLive(withoutLines(before, goneLines(gone, current, before))), goal);
  remember(async () => {
    const now = await saveRules(family, args.timeout);
    const after = await exchange(family, now, (live) => patchText(back, live), args.timeout);
    return after === now ? undefined : `the kernel's ${family === "ipv4" ? "IPv4" : "IPv6"} rules`;
  });
  const textFor = (live: Live) => patchText(live === before ? goal : goalOf(current, former, live), live);
  return exchange(family, before, textFor, args.timeout);
}

/**
 * Takes the rules of fragments that are gone out of the kernel, whatever the others are like: no rule is added. Returns the
 * kernel's rules. Throws Failure of iptables.
 */
export async function removeRules(family: Family, gone: readonly Gone[], args: Arguments): Promise<Live> {
  const kept = await readFragments(directoryOf(family, args));
  const before = await saveRules(family, args.timeout);
  return exchange(family, before, (live) => removalText(goneLines(gone, kept, live), live), args.timeout);
}

/**
 * Removes the base's chain with the base, unless a fragment declares it, or it is in use. For the holder of the load lock.
 * Throws Failure of iptables.
 */
export async function dropChain(family: Family, args: Arguments): Promise<void> {
  const { chain, timeout } = args;
  const directory = directoryOf(family, args);
  const fragments = await readFragments(directory);
  const declares = ({ text }: { text: string }) =>
    readTables(text).sections.some(({ table, chains }) => table === "nat" && chains.has(chain));
  if (fragments.some(declares)) return;
  const nat = (await saveRules(family, timeout)).tables.get("nat");
  const used = nat?.targets.has(chain) || nat?.lines.some((line) => line.startsWith(`-A ${chain} `));
  if (nat?.chains.has(chain) && !used) await patchRules(family, `*nat\n-X ${chain}\nCOMMIT\n`, timeout);
}

/** Each attempt was made anew of the rules as they were, so that others have changed them each time. */
function overtaken(why: Failure): Failure {
  const message = `other programs change the kernel's rules at the same time, ${ATTEMPTS} times in a row; a second run settles it (${why.message})`;
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
    try {
      await patchRules(family, text, timeout);
    } catch (error) {
      if (attempt === ATTEMPTS) throw overtaken(asFailure(error));
      failed = { text, error };
    }
    live = await saveRules(family, timeout);
  }
  return live;
}
