// When something is coloured, and how. Pure.

export type Paint = (colour: keyof typeof CODES, text: string) => string;

/** ECMA-48's numbers, which every terminal of the last decades knows. */
const CODES = { red: 31, green: 32, yellow: 33 };

/** Only on a terminal that can, and not against the reader's wish (no-color.org: set, and not empty). */
export function paintFor(isTTY: boolean, env: Readonly<Record<string, string | undefined>>): Paint {
  const coloured = isTTY && (env["NO_COLOR"] ?? "") === "" && env["TERM"] !== "dumb";
  if (!coloured) return (_, text) => text;
  return (colour, text) => `\u001b[${CODES[colour]}m${text}\u001b[0m`;
}
