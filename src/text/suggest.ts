// The word that a person most likely meant. Pure.

/**
 * The candidate within a third of the word's letters (at least one) of slips: a letter too many, too few, another one, two
 * swapped. Else the only candidate that holds the word: `web` of `shop-web-1`. Undefined where none is near.
 */
export function nearest(word: string, candidates: Iterable<string>): string | undefined {
  const wanted = word.toLowerCase();
  const others = [...candidates].filter((candidate) => candidate !== word);
  const allowed = Math.max(1, Math.floor(wanted.length / 3));
  const [best] = others
    .filter((candidate) => Math.abs(candidate.length - wanted.length) <= allowed)
    .map((candidate) => ({ candidate, slips: slipsBetween(wanted, candidate.toLowerCase()) }))
    .filter(({ slips }) => slips <= allowed && slips < wanted.length)
    .sort((a, b) => a.slips - b.slips || (a.candidate < b.candidate ? -1 : 1));
  if (best !== undefined) return best.candidate;
  const holding = others.filter((candidate) => wanted.length > 2 && candidate.toLowerCase().includes(wanted));
  return holding.length === 1 ? holding[0] : undefined;
}

/** The near word as a question, "" where there is none. */
export function orNearest(word: string, candidates: Iterable<string>): string {
  return didYouMean(nearest(word, candidates));
}

/** The end of a sentence about a word that is not known; empty where no other is near. */
export function didYouMean(near: string | undefined): string {
  return near === undefined ? "" : ` (did you mean ${near}?)`;
}

/** Damerau and Levenshtein's distance, in its form of optimal string alignment. */
function slipsBetween(a: string, b: string): number {
  const rows = [Array.from({ length: b.length + 1 }, (_, column) => column)];
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const at = (up: number, left: number) => rows[i - up]?.[j - left] ?? 0;
      const other = a[i - 1] === b[j - 1] ? 0 : 1;
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      row[j] = Math.min(
        at(1, 0) + 1,
        (row[j - 1] ?? 0) + 1,
        at(1, 1) + other,
        swapped ? at(2, 2) + 1 : Number.POSITIVE_INFINITY,
      );
    }
    rows.push(row);
  }
  return rows[a.length]?.[b.length] ?? 0;
}
