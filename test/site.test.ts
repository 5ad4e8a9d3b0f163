// `npm run docs`: each page is there, each link of the site leads to one of its files, and to a heading that there is, without a
// server; nothing is fetched from elsewhere; a second run writes the same.

import { readdirSync, readFileSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { beforeAll, expect, test } from "vitest";

const TOP = fileURLToPath(new URL("..", import.meta.url));
let site = new Map<string, string>();

beforeAll(async () => {
  site = await made();
});

/** By path, the text of each of its files. */
async function made(): Promise<Map<string, string>> {
  const folder = join(await mkdtemp(join(tmpdir(), "site-")), "made");
  await execa(process.execPath, ["--import", "tsx", "build-docs.ts", folder], { cwd: TOP });
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const paths = files.map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1)).sort();
  return new Map(paths.map((path) => [path, readFileSync(join(folder, path), "utf8")]));
}

const pages = () => [...site].filter(([path]) => path.endsWith(".html"));

/** Where attributes lead, by name. */
function attributesOf(html: string, name: string): string[] {
  return [...html.matchAll(new RegExp(`\\s${name}="([^"]*)"`, "g"))].map(([, value = ""]) => value);
}

test("the README and each page of docs are there, and on each page a list of them", () => {
  const names = readdirSync(join(TOP, "docs"), { recursive: true, encoding: "utf8" }).filter((one) =>
    one.endsWith(".md"),
  );
  const places = names.map((name) => `docs/${name.replace(/README\.md$/, "index.html").replace(/\.md$/, ".html")}`);
  expect(names.length).toBeGreaterThan(15);
  expect([...site.keys()]).toEqual(expect.arrayContaining(["index.html", ...places]));
  for (const [, html] of pages()) expect(html).toMatch(/<nav [^>]*>(?:<a href="[^"]+"[^>]*>[^<]+<\/a>\n?){20,}<\/nav>/);
});

test("each link leads to a file of the site, and to what has its anchor", () => {
  const dead = pages().flatMap(([path, html]) =>
    [...attributesOf(html, "href"), ...attributesOf(html, "src")]
      .filter((href) => !/^https:/.test(href))
      .filter((href) => {
        const [file = "", anchor] = href.split("#");
        const target = site.get(file === "" ? path : normalize(join(dirname(path), file)));
        return target === undefined || (anchor !== undefined && !attributesOf(target, "id").includes(anchor));
      })
      .map((href) => `${path}: ${href}`),
  );
  expect(dead).toEqual([]);
});

test("nothing runs, and nothing comes from elsewhere", () => {
  for (const [path, html] of pages()) {
    expect(html, path).not.toMatch(/<(script|link|iframe|object|embed|base|form)\b|@import|url\(|\son\w+=/i);
    expect(attributesOf(html, "src").filter((src) => /^[a-z]*:?\/\//.test(src))).toEqual([]);
  }
});

test("a second run writes the same", async () => {
  expect(await made()).toEqual(site);
});
