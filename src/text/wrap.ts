// Lines of a width. Pure.

/** A word, or a command in quotes: whoever copies that copies all of it. */
const WORDS = /(?<!\S)'[a-z][^']* [^']*'(?!\w)\S*|\S+/g;

/** At blanks, in lines of at most so many characters without the indent; a word that is longer has a line of its own. */
export function wrapped(text: string, width: number, indent = "", first = indent): string {
  const lines = [""];
  for (const word of text.match(WORDS) ?? []) {
    const last = lines.at(-1) ?? "";
    if (last !== "" && last.length + word.length + 1 > width) lines.push(word);
    else lines[lines.length - 1] = last === "" ? word : `${last} ${word}`;
  }
  return lines.map((line, index) => `${index === 0 ? first : indent}${line}`).join("\n");
}
