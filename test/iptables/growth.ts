// How work grows with its input, independent of the machine's speed and load.

/** Between growth in proportion and growth with the square, for eight times as much. */
export const SQUARE = 24;

/**
 * How many times as much work eight times as much input is, in CPU time of this process: some 8 where it grows in
 * proportion, 64 with the square. What disturbs a try, as the collection of other tests' garbage, makes it more, so there are ten.
 */
export function growth(size: number, prepare: (size: number) => () => void): number {
  const small = prepare(size);
  const large = prepare(8 * size);
  small();
  let least = Number.POSITIVE_INFINITY;
  for (let tries = 10; tries > 0 && least >= SQUARE; tries--) {
    least = Math.min(least, cost(large) / Math.max(cost(small), 1));
  }
  return least;
}

/** µs */
function cost(work: () => void): number {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return user + system;
}
