// Text from outside (names, paths, what commands say) on its way to a terminal or a journal: what those would obey instead of
// showing it is made visible. Pure.

/** Unicode's categories: controls, marks that turn or hide text (ESC, C1, bidi overrides, zero width), halves of characters. */
const OBEYED = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;
const BREAKS = /[\t\n\v\f\r\u0085\u2028\u2029]+/g;

/** A text of lines. */
export function visible(text: string): string {
  return text.replaceAll(OBEYED, (one) => (one === "\n" || one === "\t" ? one : spelled(one)));
}

/** A sentence or a name: what would break the line is a space. */
export function oneLine(text: string): string {
  return visible(text.replaceAll(BREAKS, " "));
}

/** \x1b, or \u{202e}. */
function spelled(character: string): string {
  const digits = (character.codePointAt(0) ?? 0).toString(16);
  return digits.length > 2 ? `\\u{${digits}}` : `\\x${digits.padStart(2, "0")}`;
}

/** Names of values that are texts of lines: a diff's, what a command or a service has printed, a stack. */
const TEXTS = new Set(["before", "after", "stdout", "stderr", "journal", "stack"]);

/** Every string in a JSON value, at any depth. */
export function allVisible<T>(value: T, name = ""): T {
  if (typeof value === "string") return (TEXTS.has(name) ? visible(value) : oneLine(value)) as T;
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map((one) => allVisible(one, name)) as T;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, allVisible(one, key)])) as T;
}
