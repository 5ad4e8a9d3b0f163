// Each link of a page, to another one, to a heading or to a file, leads somewhere; each page can be found.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { anchorsOf, linksOf } from "../schema/markdown.ts";

const TOP = fileURLToPath(new URL("..", import.meta.url));
const FOLDERS = ["docs", "examples", "src", "test"];

const pages = [
  ...readdirSync(TOP),
  ...FOLDERS.flatMap((folder) =>
    readdirSync(join(TOP, folder), { recursive: true, encoding: "utf8" }).map((path) => join(folder, path)),
  ),
].filter((path) => path.endsWith(".md"));

const read = (path: string) => readFileSync(join(TOP, path), "utf8");

/** Where a page's links lead, from the top. */
function targetsOf(page: string): { path: string; anchor: string | undefined }[] {
  return linksOf(read(page))
    .filter((href) => !/^[a-z]+:/.test(href))
    .map((href) => {
      const [path = "", anchor] = href.split("#");
      return { path: path === "" ? page : normalize(join(dirname(page), path)), anchor };
    });
}

test.each(pages)("%s", (page) => {
  const dead = targetsOf(page).filter(({ path, anchor }) => {
    if (path.startsWith("..") || !existsSync(join(TOP, path))) return true;
    return anchor !== undefined && !(path.endsWith(".md") && anchorsOf(read(path)).has(anchor));
  });
  expect(dead).toEqual([]);
});

test("each page of docs is reached from the README, and each rule's page from their index", () => {
  const reached = new Set(
    ["README.md", "docs/rules/README.md"].flatMap((page) => targetsOf(page).map(({ path }) => path)),
  );
  expect(pages.filter((page) => page.startsWith("docs/") && !reached.has(page))).toEqual([]);
});
