// What --verbose shows: a line for each command, each request to Docker's socket and each decision, as it happens.
//
// A line is "+SECONDS EVENT", the seconds since the process started. What takes time has two lines with one number, as Git's
// GIT_TRACE2 has them: "#3 run iptables-save", then "#3 exit 0, 1234 bytes (0.009 s)"; so one sees what it waits for, and
// which end belongs to which beginning. A line is one write of less than PIPE_BUF (4096 bytes, pipe(7)): those of several
// processes on one pipe stay whole. It never begins with { or [, which is how Ansible finds the answer where ssh has put
// stderr and stdout together.

import { excerpt } from "../model/errors.ts";
import { oneLine } from "../text/visible.ts";

/** characters */
const LINE_LIMIT = 1000;
const WORD_LIMIT = 100;

let show: ((line: string) => void) | undefined;
let spans = 0;

/** From now on `write` gets each line, without its end. */
export function startVerbose(write: (line: string) => void): void {
  show = write;
}

/** An event, or several. The text is made only if it is shown; each is one line, whatever it contains. */
export function verbose(event: () => string | readonly string[]): void {
  if (show === undefined) return;
  for (const text of [event()].flat()) show(lineOf(text));
}

/** Something that takes time. Returns a function that reports how it ended. */
export function verboseSpan(begin: () => string): (end: () => string) => void {
  if (show === undefined) return nothing;
  spans += 1;
  const name = `#${spans}`;
  const started = performance.now();
  verbose(() => `${name} ${begin()}`);
  return (end) => verbose(() => `${name} ${end()} (${secondsSince(started)} s)`);
}

function nothing(): void {}

function lineOf(event: string): string {
  // Once more, because the cut may have halved a character.
  return oneLine(excerpt(oneLine(`+${secondsSince(0)} ${event}`), LINE_LIMIT));
}

/** `start` as performance.now(). */
function secondsSince(start: number): string {
  return ((performance.now() - start) / 1000).toFixed(3);
}

/** A command line with its words separated: one that a shell would split is quoted, a long one is cut. */
export function spellCommand(words: readonly string[]): string {
  return words.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? excerpt(word, WORD_LIMIT) : quote(word))).join(" ");
}

/** A text from outside within a line, so that it cannot pass for ours. */
export function quote(text: string): string {
  return JSON.stringify(excerpt(text, WORD_LIMIT));
}
