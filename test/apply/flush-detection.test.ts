// When watch checks its rules again.

import { expect, test } from "vitest";
import { Pace } from "../../src/apply/flush-detection.ts";

const SECOND = 1000;
const MINUTE = 60 * SECOND;

test("looks come every few seconds", () => {
  const pace = new Pace(3000);
  pace.looked(0, 10, false);
  const first = pace.next;
  expect(first).toBeGreaterThan(SECOND);
  expect(first).toBeLessThanOrEqual(5 * SECOND);
  pace.looked(first, 10, false);
  expect(pace.next).toBe(2 * first);
});

test("the longer a look takes, the later is the next: it is never more than a small part of the time", () => {
  const pace = new Pace(3000);
  pace.looked(0, 300, false);
  expect(pace.next).toBeGreaterThanOrEqual(20 * 300);
  pace.looked(0, MINUTE, false);
  expect(pace.next).toBe(MINUTE);
});

test("of one who flushes again and again each look is later, at most a minute", () => {
  const pace = new Pace(3000);
  let now = 0;
  const pauses: number[] = [];
  for (let n = 0; n < 10; n++) {
    pace.looked(now, 10, true);
    pauses.push(pace.next - now);
    now = pace.next;
  }
  expect(pauses).toEqual([...pauses].sort((a, b) => a - b));
  expect(new Set(pauses).size).toBeGreaterThan(3);
  expect(pauses.at(-1)).toBe(MINUTE);
  expect(pace.flushes).toBe(10);
  // What is there for once is no peace yet.
  pace.looked(now, 10, false);
  expect(pace.next - now).toBe(MINUTE);
});

test("after a quiet time a flush is the first one again", () => {
  const pace = new Pace(3000);
  pace.looked(0, 10, true);
  pace.looked(MINUTE, 10, true);
  pace.looked(30 * MINUTE, 10, true);
  expect(pace.flushes).toBe(1);
  pace.looked(60 * MINUTE, 10, false);
  expect(pace.flushes).toBe(0);
});
