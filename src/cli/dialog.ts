// The question to a person at a terminal whose change waits for a confirmation: one key. A terminal that is gone answers nothing, and
// then the timer does what it is for.

import type { StatusLine } from "./status-line.ts";

/** A key, or its absence. */
export type Reply = "keep" | "put back" | "late" | "gone";

/** What of a terminal's input is used (tty.ReadStream). */
export type Keys = Pick<NodeJS.ReadStream, "setRawMode" | "on" | "off" | "resume" | "pause">;

/** milliseconds; keys that come earlier were pressed before the question, perhaps over a connection that is gone by now. */
const DEAF = 250;

/** y keeps; n, Ctrl-C and Ctrl-D put back. `until` is a time in milliseconds, as `now` gives it. */
export function askToKeep(
  until: number,
  line: Pick<StatusLine, "count" | "clear">,
  keys: Keys,
  signal: AbortSignal,
  now: () => number = Date.now,
): Promise<Reply> {
  const asked = now();
  return new Promise((reply) => {
    const end = (answer: Reply) => {
      clearInterval(ticking);
      keys.off("data", onKeys).off("end", onGone).off("error", onGone);
      signal.removeEventListener("abort", onGone);
      keys.setRawMode(false);
      keys.pause();
      line.clear();
      reply(answer);
    };
    const tick = () => {
      const left = Math.ceil((until - now()) / 1000);
      if (left <= 0) end("late");
      else line.count("y keeps it, n puts it back; it is put back by itself in", left);
    };
    const onKeys = (bytes: Buffer) => {
      const text = bytes.toString("latin1");
      if (now() - asked < DEAF) return;
      if (/y/i.test(text)) end("keep");
      else if (/[n\x03\x04]/i.test(text)) end("put back");
    };
    const onGone = () => end("gone");
    keys.setRawMode(true);
    keys.on("data", onKeys).on("end", onGone).on("error", onGone);
    signal.addEventListener("abort", onGone, { once: true });
    keys.resume();
    const ticking = setInterval(tick, 1000);
    tick();
  });
}
