// What is wrong, apart from what to do about it: where there is room both are shown one below the other. Pure.

/** Two clauses without a full stop. */
export interface Advice {
  what: string;
  hint: string;
}

/** In one sentence. */
export function adviceSentence({ what, hint }: Advice): string {
  return `${what}; ${hint}`;
}
