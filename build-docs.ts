// `npm run docs`: the README, docs/ and what they link as a small site in dist/site, or in a new folder that is named, which needs no
// server. A link to another page leads to it; one to any other file of the project to a copy of it beside, one to a folder to a list
// of its files.

import { cp, mkdir, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { dirname, join, normalize, relative } from "node:path";
import GithubSlugger from "github-slugger";
import { Marked } from "marked";
import { linksOf, plain } from "./schema/markdown.ts";

const SITE = process.argv[2] ?? "dist/site";
const STYLE = `
:root { color-scheme: light dark; --line: #d0d7de; --soft: #f6f8fa; --link: #0969da; --text: #1f2328; --page: #ffffff }
@media (prefers-color-scheme: dark) { :root { --line: #3d444d; --soft: #161b22; --link: #6cb6ff; --text: #e6edf3; --page: #0d1117 } }
* { box-sizing: border-box }
body { margin: 0; font: 16px/1.55 system-ui, "Helvetica Neue", Arial, "DejaVu Sans", sans-serif; color: var(--text); background: var(--page) }
nav { padding: 1rem; border-top: 1px solid var(--line) }
.to-pages { display: block; padding: .7rem 1rem; border-bottom: 1px solid var(--line) }
nav a { display: block; padding: .15rem 0 }
nav a[aria-current] { font-weight: 600; color: inherit; text-decoration: none }
main { padding: 0 1rem 3rem; max-width: 60rem; overflow-wrap: break-word }
a { color: var(--link) }
h1, h2, h3 { line-height: 1.25; margin: 1.6em 0 .6em }
h2 { border-bottom: 1px solid var(--line); padding-bottom: .25em }
pre, .wide { overflow-x: auto }
.wide { margin: 1rem 0 }
@media (max-width: 40rem) {
table:has(th:nth-child(4):last-child:empty, th:nth-child(2):empty + th) :is(tbody, tr, td) { display: block; border: 0; padding: .1rem 0 }
table:has(th:nth-child(4):last-child:empty, th:nth-child(2):empty + th) tr { border-bottom: 1px solid var(--line); padding: .5rem 0 }
table:has(th:nth-child(4):last-child:empty, th:nth-child(2):empty + th) :is(thead, td:empty) { display: none }
}
pre { padding: .8rem; background: var(--soft); border: 1px solid var(--line); border-radius: 6px; font-size: .85rem; line-height: 1.4 }
code { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .87em; background: var(--soft); border-radius: 4px; padding: .1em .25em }
pre code { font-size: inherit; background: none; padding: 0 }
table { border-collapse: collapse; font-size: .93rem }
th, td { border: 1px solid var(--line); padding: .35rem .6rem; text-align: left; vertical-align: top }
thead:not(:has(th:not(:empty))) { display: none }
img { max-width: 100%; height: auto }
@media (min-width: 60rem) {
body { display: grid; grid-template-columns: 17rem minmax(0, 1fr) }
nav { order: -1; border: 0; border-right: 1px solid var(--line); position: sticky; top: 0; height: 100vh; overflow-y: auto }
.to-pages { display: none }
main { padding: 0 2rem 3rem }
}
@media print {
nav, .to-pages { display: none }
pre { white-space: pre-wrap }
}
`;
/** By path from the top: the README, and each page that one of them leads to. */
const texts = new Map<string, string>();
/** What they lead to besides: files of the project, and folders. */
const others = new Set<string>();
await read("README.md");

if (process.argv[2] === undefined) await rm(SITE, { recursive: true, force: true });
else await mkdir(SITE);
for (const [page, text] of texts) await put(placeOf(page), htmlOf(page, text));
for (const path of others) await (path.endsWith("/") ? listFolder(path) : cp(path, join(SITE, path)));
console.log(`${texts.size} pages, ${others.size} other files and folders: ${SITE}/index.html`);

async function read(page: string): Promise<void> {
  const text = await readFile(page, "utf8");
  texts.set(page, text);
  for (const href of linksOf(text)) {
    const path = targetOf(page, href)?.path;
    if (path === undefined || texts.has(path)) continue;
    if (path.endsWith(".md")) await read(path);
    else others.add((await stat(path)).isDirectory() ? `${path.replace(/\/$/, "")}/` : path);
  }
}

/** A folder is a page with links to its files. */
async function listFolder(folder: string): Promise<void> {
  const names = (await readdir(folder, { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
    .sort();
  await cp(folder, join(SITE, folder), { recursive: true });
  const lines = names.map((name) => `- <a href="${escaped(name)}">${escaped(name)}</a>`);
  await put(join(folder, "index.html"), htmlOf(`${folder}README.md`, [`# ${folder}`, ...lines].join("\n")));
}

function htmlOf(page: string, text: string): string {
  const slugger = new GithubSlugger();
  const marked = new Marked({
    renderer: {
      heading(heading) {
        const id = slugger.slug(plain(heading));
        return `<h${heading.depth} id="${id}">${this.parser.parseInline(heading.tokens)}</h${heading.depth}>\n`;
      },
    },
    walkTokens(token) {
      if (token.type === "link" || token.type === "image") token.href = hrefOf(page, token.href);
    },
  });
  const title = escaped(titleOf(page, text));
  // The rules' pages are listed by their index.
  const listed = [...texts].filter(([one]) => !/^docs\/rules\/(?!README)/.test(one)).sort(byPlace);
  const links = listed.map(([one, listedText]) => {
    const current = one === page ? ' aria-current="page"' : "";
    return `<a href="${hrefFrom(page, placeOf(one))}"${current}>${escaped(titleOf(one, listedText))}</a>`;
  });
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${title}${page === "README.md" ? "" : " - docker_iptables"}</title>
<style>${STYLE}</style>
</head>
<body>
<a class="to-pages" href="#pages">All pages</a>
<main>
${wide(marked.parse(text, { async: false }))}</main>
<nav id="pages" aria-label="All pages">${links.join("\n")}</nav>
</body>
</html>
`;
}

/** The README first, then docs/, then the others. */
function byPlace([one]: readonly [string, string], [other]: readonly [string, string]): number {
  const rank = (page: string) => (page === "README.md" ? 0 : page.startsWith("docs/") ? 1 : 2);
  return rank(one) - rank(other) || (one < other ? -1 : 1);
}

/** A table that is wider than the page is moved within it. */
function wide(html: string): string {
  return html.replaceAll("<table>", '<div class="wide"><table>').replaceAll("</table>", "</table></div>");
}

/** A page's file in the site. */
function placeOf(page: string): string {
  return page.replace(/README\.md$/, "index.html").replace(/\.md$/, ".html");
}

function titleOf(page: string, text: string): string {
  return /^# (.*)/m.exec(text)?.[1] ?? page;
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");
}

function hrefFrom(page: string, place: string): string {
  return relative(dirname(placeOf(page)), place);
}

function hrefOf(page: string, href: string): string {
  const target = targetOf(page, href);
  if (target === undefined) return href;
  return `${hrefFrom(page, placeIn(target.path))}${target.anchor}`;
}

/** A folder's is its list: without a server, none is shown for the folder itself. */
function placeIn(path: string): string {
  if (texts.has(path)) return placeOf(path);
  const folder = `${path.replace(/\/$/, "")}/`;
  return others.has(folder) ? `${folder}index.html` : path;
}

/** The project's file that a link leads to, if it is one. */
function targetOf(page: string, href: string): { path: string; anchor: string } | undefined {
  const [, path = "", anchor = ""] = /^([^#]*)(#.*)?$/.exec(href) ?? [];
  if (path === "" || /^[a-z]+:/.test(path)) return undefined;
  return { path: normalize(join(dirname(page), path)), anchor };
}

async function put(path: string, text: string): Promise<void> {
  await mkdir(dirname(join(SITE, path)), { recursive: true });
  await writeFile(join(SITE, path), text);
}
