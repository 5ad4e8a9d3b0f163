// The last line of a terminal, while a call takes long: what it waits for, with the seconds that are left, or what it does. It is gone
// when there is something to say that stays. A terminal that erases nothing gets a line for each thing that is waited for, and no more.
// Pure: `write` and the clock are the caller's.

import { oneLine } from "../text/visible.ts";

/** milliseconds: so long a call is quiet. */
const QUIET = 2000;
/** Back to the line's start, and erase it (ECMA-48, CR and EL). */
const ERASE = "\r\u001b[K";

export class StatusLine {
  readonly #write: (text: string) => void;
  readonly #width: number;
  readonly #now: () => number;
  readonly #isDumb: boolean;
  /** What is waited for. */
  #counted: string | undefined;
  #isShown = false;

  /**
   * `width` is the terminal's, in characters; `now` counts milliseconds from the start of the call; `isDumb`: it erases nothing
   * (TERM=dumb, terminfo(5)).
   */
  constructor(write: (text: string) => void, width: number, now: () => number, isDumb: boolean) {
    this.#write = write;
    this.#width = width;
    this.#now = now;
    this.#isDumb = isDumb;
  }

  /** What is waited for; undefined once that has ended. */
  count(what: string | undefined, secondsLeft: number): void {
    const isNew = what !== this.#counted;
    this.#counted = what;
    if (what === undefined) this.clear();
    else if (!this.#isDumb) this.#show(`${what}: ${secondsLeft} s`);
    else if (isNew) this.#write(`${oneLine(`${what}: ${secondsLeft} s`)}\n`);
  }

  /** A line of --verbose: of a command or a request that has begun, and only while nothing is counted. */
  event(line: string): void {
    const begun = /^\+\S+ #\d+ (.*)$/s.exec(line)?.[1];
    if (begun !== undefined && this.#counted === undefined && !this.#isDumb && this.#now() >= QUIET) this.#show(begun);
  }

  clear(): void {
    if (this.#isShown) this.#write(ERASE);
    this.#isShown = false;
  }

  #show(text: string): void {
    this.#write(`${ERASE}${oneLine(text).slice(0, this.#width - 1)}`);
    this.#isShown = true;
  }
}
