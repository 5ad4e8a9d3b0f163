// The longest increasing subsequence: what can stay where it is when the rest moves. Pure.

/** The most items, in their order, whose ranks increase. Ranks differ from each other. */
export function increasing<T>(items: readonly T[], rankOf: (item: T) => number): T[] {
  const ranks = items.map(rankOf);
  // tails[length]: the item with the lowest rank on which a run of length + 1 ends; each knows the one before it.
  const tails: number[] = [];
  const before: (number | undefined)[] = [];
  for (const [index, rank] of ranks.entries()) {
    let low = 0;
    let high = tails.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((ranks[tails[middle] ?? 0] ?? 0) < rank) low = middle + 1;
      else high = middle;
    }
    before.push(tails[low - 1]);
    tails[low] = index;
  }
  const run: T[] = [];
  for (let at = tails.at(-1); at !== undefined; at = before[at]) run.push(items[at] as T);
  return run.reverse();
}
