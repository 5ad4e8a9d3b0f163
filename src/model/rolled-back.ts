// `rolled_back` of a result: what was restored, each in a string; what could not be restored says so first. Pure.

import type { Undone } from "./errors.ts";

const NOT_PUT_BACK = "NOT put back: ";

/** As the contract has it. */
export function spellUndone(one: Undone): string {
  return one.kind === "put_back" ? one.what : `${NOT_PUT_BACK}${one.why}`;
}

/** The same for a person. */
export function printUndone(spelled: string): string {
  return spelled.startsWith(NOT_PUT_BACK) ? `  ${spelled}` : `  put back: ${spelled}`;
}
