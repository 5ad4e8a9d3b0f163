// The verbs and options that pages name exist; each command in a block of sh is run by a test: which one is said here.

import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { blocksOf, codeOf } from "../schema/markdown.ts";
import { readCommand, UsageError } from "../src/cli/command.ts";
import { VERBS } from "../src/cli/verbs.ts";

const TOP = new URL("../", import.meta.url);
const read = (path: string) => readFileSync(new URL(path, TOP), "utf8");
const PAGES = [
  "README.md",
  ...readdirSync(fileURLToPath(new URL("docs", TOP)))
    .filter((name) => name.endsWith(".md"))
    .map((name) => `docs/${name}`),
];

/** By page and name of a block: the test that takes the block's lines from the page and runs them. */
const TAKEN_BY: Record<string, string> = {
  "README.md quick start": "test/lab/front-door.story.ts",
  "README.md second network": "test/lab/front-door.story.ts",
  "README.md red": "test/lab/front-door.story.ts",
  "README.md cure": "test/lab/front-door.story.ts",
  "docs/setup.md once": "test/lab/front-door.story.ts",
  "docs/confirm.md confirm": "test/lab/front-door.story.ts",
  "docs/doors.md watch": "test/lab/front-door.story.ts",
  "docs/doors.md shell": "test/lab/front-door.story.ts",
  "docs/doors.md recipes": "test/recipes.ts",
  "docs/install.md release": "test/lab/package.story.ts",
  "docs/install.md package": "test/lab/package.story.ts",
  "docs/install.md remove": "test/lab/package.story.ts",
  "docs/monitoring.md units": "test/lab/monitoring.story.ts",
  "docs/who-may-connect.md ": "test/program/allow-examples.test.ts",
};

/** What runs the same command, and how it says it. */
const RUN_BY: Record<string, readonly [file: string, ...words: string[]]> = {
  "README.md two commands": [".ci/run", "npm run demo", "npm cit"],
  "docs/doors.md collection": ["test/lab/ansible.ts", '"ansible-galaxy", "collection", "install", tarball'],
  "docs/podman.md by its command": ["test/lab/podman.story.ts", '"setup", "--client", "podman"'],
  "docs/podman.md by its service": ["test/lab/podman.story.ts", '"setup", "--docker-host", SOCKET'],
};

const blocks = PAGES.flatMap((page) =>
  blocksOf(read(page), "sh").map(({ name, lines }) => ({ page, name, lines, id: `${page} ${name}` })),
);

test.each(blocks)("$id: $lines.0", ({ page, name, id }) => {
  const taker = TAKEN_BY[id];
  if (taker !== undefined) {
    const text = read(taker);
    expect(text).toContain(page);
    expect(text).toContain(name);
    return;
  }
  const [file, ...words] = RUN_BY[id] ?? [];
  expect(file, "no test runs this block: name it in a comment before it, run it, and say here where").toBeDefined();
  for (const word of words) expect(read(file ?? "")).toContain(word);
});

test("nothing is said of a block that is not there", () => {
  const there = new Set(blocks.map(({ id }) => id));
  expect([...Object.keys(TAKEN_BY), ...Object.keys(RUN_BY)].filter((id) => !there.has(id))).toEqual([]);
});

const VERB = VERBS.map(({ name }) => name).join("|");
/** What a page says in place of a word. */
const PLACES: Record<string, string> = { VERB: "create", SECONDS: "60", "PORTS=SOURCES": "8080=10.0.0.0/8" };

/** The calls of docker_iptables in blocks and in the text, in words. In the text its name may be left out. */
function callsIn(page: string): string[][] {
  const parts = codeOf(read(page))
    .flatMap((code) => code.split("\n"))
    .flatMap((line) => line.split(/&&|\||;|\s#/));
  const calls = parts.map((part) => {
    const call = /^(?:\$ |ExecSt\w+=)?(?:\/usr\/local\/bin\/)?docker_iptables ([a-z-].*)/.exec(part.trim());
    return call?.[1] ?? new RegExp(`^(?:${VERB}) --.*`).exec(part)?.[0] ?? "";
  });
  return calls.filter((call) => call !== "").map(wordsOf);
}

function wordsOf(call: string): string[] {
  const words = call
    .replace(/ [>2<].*/, "")
    .replaceAll(/[[\]']/g, "")
    .split(/ +/);
  return words.map((word) => PLACES[word] ?? word);
}

test.each(PAGES)("%s: the option parser takes each call", (page) => {
  for (const words of callsIn(page)) {
    expect(() => readCommand(words), `docker_iptables ${words.join(" ")}`).not.toThrow(UsageError);
  }
});

test("calls are found, and one that is wrong is refused", () => {
  expect(PAGES.flatMap(callsIn).length).toBeGreaterThan(80);
  expect(() => readCommand(wordsOf("create web --alow none"))).toThrow(UsageError);
});

test("the README is short", () => {
  expect(read("README.md").split("\n").length - 1).toBeLessThanOrEqual(200);
});
