// What the site and the tests read in a page: its headings' anchors as code hosts have them, its links, its blocks of code. Pure.

import GithubSlugger from "github-slugger";
import { marked, type Token, type Tokens } from "marked";

/** By which its headings are linked to. */
export function anchorsOf(text: string): Set<string> {
  const slugger = new GithubSlugger();
  return new Set(tokensOf<Tokens.Heading>(text, "heading").map((heading) => slugger.slug(plain(heading))));
}

/** Where its links and pictures lead, as they are written. */
export function linksOf(text: string): string[] {
  return [...tokensOf<Tokens.Link>(text, "link"), ...tokensOf<Tokens.Image>(text, "image")].map(({ href }) => href);
}

/** Its blocks of code in a language, and the comment before each, which names it. */
export function blocksOf(text: string, language: string): { name: string; lines: string[] }[] {
  const blocks: { name: string; lines: string[] }[] = [];
  let name = "";
  for (const token of tokensOf<Token>(text, "code", "html")) {
    if (token.type === "html") name = /^<!-- (.*) -->/.exec(token.raw.trim())?.[1] ?? "";
    else if ((token as Tokens.Code).lang === language) {
      blocks.push({ name, lines: (token as Tokens.Code).text.split("\n").filter((line) => line !== "") });
      name = "";
    } else name = "";
  }
  return blocks;
}

/** All of its code, in blocks and in the text. */
export function codeOf(text: string): string[] {
  return tokensOf<Tokens.Code | Tokens.Codespan>(text, "code", "codespan").map((code) => code.text);
}

/** A heading's words without its marks. */
export function plain({ tokens }: { tokens: Token[] }): string {
  return tokens
    .map((token) =>
      "tokens" in token && token.tokens
        ? plain(token as Tokens.Text & { tokens: Token[] })
        : (token as Tokens.Text).text,
    )
    .join("");
}

function tokensOf<T extends Token>(text: string, ...types: string[]): T[] {
  const found: T[] = [];
  marked.walkTokens(marked.lexer(text), (token) => {
    if (types.includes(token.type)) found.push(token as T);
  });
  return found;
}
