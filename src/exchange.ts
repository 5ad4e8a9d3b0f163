// `reload: patch`: exchanges our own rules in the kernel and touches no others. It needs no service.

import type { Family } from "./docker/container.ts";
import { sortByBoot } from "./fragments/confirmed.ts";
import { readFragments } from "./fragments/directory.ts";
import type { Arguments } from "./generated/arguments.ts";
import { patchRules, saveRules } from "./kernel/iptables.ts";
import type { Live, Tables } from "./rules/live.ts";
import { type Goal, goalOf, goalOfSnapshot, patchText } from "./rules/patch.ts";
import { readTables } from "./rules/table-text.ts";
import { directoryOf } from "./survey.ts";

/** Between a look at the kernel and the patch somebody else may change a chain; then the patch is made anew. */
const ATTEMPTS = 3;

/**
 * Makes our live rules those of the fragments, and returns the kernel's. For the holder of the load lock, so that no load of
 * ours comes between. `former` are the rules of the fragments that were replaced, `before` is the kernel as it is.
 *
 * `remember` gets the way back before the kernel is touched, for who holds that lock. It is a patch, too: what others do in
 * the meantime stays.
 */
export async function exchangeRules(
  family: Family,
  former: readonly Tables[],
  before: Live,
  args: Arguments,
  remember: (wayBack: () => Promise<string | undefined>) => void,
): Promise<Live> {
  const directory = directoryOf(family, args);
  const { current } = await sortByBoot(directory, await readFragments(directory));
  const goal = goalOf(current, former, before);
  remember(async () => {
    const now = await saveRules(family, args.timeout);
    const after = await exchange(family, now, () => goalOfSnapshot(before, goal), args.timeout);
    return after === now ? undefined : `the kernel's ${family === "ipv4" ? "IPv4" : "IPv6"} rules`;
  });
  const goalFor = (live: Live) => (live === before ? goal : goalOf(current, former, live));
  return exchange(family, before, goalFor, args.timeout);
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

/** Returns the kernel's rules: `before` itself where nothing was to be done. */
async function exchange(family: Family, before: Live, goalFor: (live: Live) => Goal, timeout: number): Promise<Live> {
  let live = before;
  let failed: { text: string; error: unknown } | undefined;
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    const text = patchText(goalFor(live), live);
    if (text === undefined) return live;
    // The kernel has not changed since it refused this very text: it would refuse it again.
    if (failed?.text === text) throw failed.error;
    failed = undefined;
    try {
      await patchRules(family, text, timeout);
    } catch (error) {
      if (attempt === ATTEMPTS) throw error;
      failed = { text, error };
    }
    live = await saveRules(family, timeout);
  }
  return live;
}
