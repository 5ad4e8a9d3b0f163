// The question to a person whose change waits for a confirmation.

import { EventEmitter } from "node:events";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { askToKeep, type Keys, type Reply } from "../../src/cli/dialog.ts";

beforeEach(() => void vi.useFakeTimers({ now: 0 }));
afterEach(() => void vi.useRealTimers());

/** Asks for ten seconds; `press` comes half a second later. */
function asked() {
  const calls: string[] = [];
  const keys = Object.assign(new EventEmitter(), {
    setRawMode: (is: boolean) => void calls.push(is ? "raw" : "cooked"),
    resume: () => void calls.push("resume"),
    pause: () => void calls.push("pause"),
  });
  const shown: string[] = [];
  const line = {
    count: (what: string | undefined, left: number) => void shown.push(`${what}: ${left}`),
    clear: () => void shown.push("clear"),
  };
  const stop = new AbortController();
  const replied = askToKeep(10_000, line, keys as unknown as Keys, stop.signal);
  const press = (text: string) => void keys.emit("data", Buffer.from(text));
  return { calls, keys, shown, stop, replied, press };
}

test.each<[string, Reply]>([
  ["y", "keep"],
  ["Y", "keep"],
  ["n", "put back"],
  ["N", "put back"],
  ["\x03", "put back"],
  ["\x04", "put back"],
])("the key %j: %s", async (key, reply) => {
  const { replied, press, calls, keys } = asked();
  vi.advanceTimersByTime(500);
  press("x\r");
  press(key);
  expect(await replied).toBe(reply);
  expect(calls).toEqual(["raw", "resume", "cooked", "pause"]);
  expect(keys.eventNames()).toEqual([]);
  expect(vi.getTimerCount()).toBe(0);
});

test("it counts down, and is late", async () => {
  const { replied, shown } = asked();
  vi.advanceTimersByTime(10_000);
  expect(await replied).toBe("late");
  const counted = shown.map((one) => Number(/: (\d+)$/.exec(one)?.[1]));
  expect(counted.slice(0, -1)).toEqual([10, 9, 8, 7, 6, 5, 4, 3, 2, 1]);
  expect(shown.at(-1)).toBe("clear");
});

test("a key that was pressed before the question is no answer", async () => {
  const { replied, press } = asked();
  press("y");
  vi.advanceTimersByTime(100);
  press("y");
  vi.advanceTimersByTime(10_000);
  expect(await replied).toBe("late");
});

test.each(["end", "error"])("a terminal that is gone (%s) answers nothing", async (event) => {
  const { replied, keys } = asked();
  keys.emit(event, new Error("EIO"));
  expect(await replied).toBe("gone");
});

test("a signal answers nothing", async () => {
  const { replied, stop } = asked();
  stop.abort();
  expect(await replied).toBe("gone");
});
