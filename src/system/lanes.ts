// Some of many things at once: each may hold an open file, and a process may have few of those. Pure.

/** Node.js's file operations have four threads; more at once gain nothing. */
const LANES = 8;

/** What a step makes of each item, in their order. Throws what the first step throws that fails; then no other begins. */
export async function inLanes<T, R>(items: Iterable<T>, step: (item: T) => Promise<R>, lanes = LANES): Promise<R[]> {
  const left = [...items].entries();
  const results: R[] = [];
  let failed = false;
  const lane = async () => {
    for (const [index, item] of left) {
      if (failed) return;
      results[index] = await step(item);
    }
  };
  const fail = (error: unknown) => {
    failed = true;
    throw error;
  };
  await Promise.all(Array.from({ length: lanes }, () => lane().catch(fail)));
  return results;
}
