// What a result looks like on a terminal or in a journal (src/cli/print.ts).

import { expect, test } from "vitest";
import { paintFor } from "../../src/cli/colours.ts";
import { printForPerson as print, printJson, type Reader } from "../../src/cli/print.ts";
import type { Result } from "../../src/generated/result.ts";

const PATH = "/etc/iptables.d/11-docker-container_web";

function result(more: Partial<Result> = {}): Result {
  return { changed: false, msg: "already published: web", comment: "already published: web", warnings: [], ...more };
}

const PLAIN = paintFor(false, {});

function printForPerson(told: Result, reader: Partial<Reader> = {}) {
  return print(told, { check: false, terminal: false, stdout: PLAIN, stderr: PLAIN, ...reader });
}

test("nothing to tell is one line on stdout", () => {
  const files: Result["files"] = [{ path: PATH, change: "unchanged" }];
  expect(printForPerson(result({ files, reloaded: [] }))).toEqual({ stdout: "already published: web\n", stderr: "" });
});

test("files that changed and reloads are told, warnings go to stderr", () => {
  const told = result({
    msg: "published: web",
    files: [
      { path: PATH, change: "created" },
      { path: "/etc/ip6tables.d/11-docker-container_web", change: "unchanged" },
    ],
    reloaded: ["iptables.service"],
    warnings: ["one", "two"],
  });
  expect(printForPerson(told)).toEqual({
    stdout: `published: web\n  created ${PATH}\n  reloaded iptables.service\n`,
    stderr: "warning: one\nwarning: two\n",
  });
});

test("a failure goes to stderr with its code and what was restored", () => {
  const told = result({
    failed: true,
    msg: "the reload failed",
    error: { code: "reload_failed", journal: "line 1\nline 2" },
    warnings: ["before"],
    rolled_back: [PATH, "NOT put back: the kernel"],
  });
  expect(printForPerson(told)).toEqual({
    stdout: "",
    stderr: [
      "warning: before",
      "docker_iptables: the reload failed [reload_failed]",
      `  put back: ${PATH}`,
      "  NOT put back: the kernel",
      "  the service's log:",
      "    line 1",
      "    line 2",
      "",
    ].join("\n"),
  });
});

test("a stack only where there is one", () => {
  const failed = result({ failed: true, msg: "bad", error: { code: "internal", stack: "Error: bad\n    at x" } });
  expect(printForPerson(failed).stderr).toBe("docker_iptables: bad [internal]\n    Error: bad\n        at x\n");
});

test("a diff comes first, as a patch of the file", () => {
  const diff = [{ before: "old\nsame\n", after: "new\nsame\n", before_header: PATH, after_header: PATH }];
  expect(printForPerson(result({ msg: "would be published: web", diff })).stdout).toBe(
    [
      `--- ${PATH}\tbefore`,
      `+++ ${PATH}\tafter`,
      "@@ -1,2 +1,2 @@",
      "-old",
      "+new",
      " same",
      "would be published: web",
      "",
    ].join("\n"),
  );
});

test("for machines it is one line, whatever is in it, and nothing on stderr", () => {
  const told = result({ warnings: ["two\nlines"] });
  const { stdout, stderr } = printJson(told);
  expect(stderr).toBe("");
  expect(stdout.match(/\n/g)).toHaveLength(1);
  expect(JSON.parse(stdout)).toEqual(told);
});

test.each<[string, boolean, Record<string, string>, boolean]>([
  ["a terminal", true, { TERM: "xterm" }, true],
  ["a pipe or a journal", false, { TERM: "xterm" }, false],
  ["a terminal without TERM", true, {}, true],
  ["NO_COLOR", true, { TERM: "xterm", NO_COLOR: "1" }, false],
  ["NO_COLOR that is empty", true, { TERM: "xterm", NO_COLOR: "" }, true],
  ["a terminal that cannot", true, { TERM: "dumb" }, false],
])("colours: %s", (_where, isTTY, env, coloured) => {
  expect(paintFor(isTTY, env)("red", "text")).toBe(coloured ? "\u001b[31mtext\u001b[0m" : "text");
});

test("what changed, what is missing, what is wrong have their colours", () => {
  const paint: Reader["stdout"] = (colour, text) => `<${colour}>${text}</>`;
  const diff = [{ before: "old\n", after: "new\n", before_header: PATH, after_header: PATH }];
  const told = printForPerson(result({ changed: true, msg: "published: web", diff, warnings: ["one"] }), {
    stdout: paint,
    stderr: paint,
  });
  expect(told.stdout).toContain("<red>-old</>\n<green>+new</>\n<green>published: web</>\n");
  expect(told.stderr).toBe("<yellow>warning:</> one\n");
  const failed = printForPerson(result({ failed: true, msg: "bad", error: { code: "internal" } }), { stderr: paint });
  expect(failed.stderr).toBe("<red>docker_iptables: bad [internal]</>\n");
});

test("several containers are a table on a terminal, and nowhere else", () => {
  const told = result({
    changed: true,
    msg: "published: db; already published: web",
    containers: [
      { name: "db", changed: true, reasons: ["file", "kernel"] },
      { name: "web", changed: false, reasons: [] },
    ],
    files: [
      { path: "/etc/iptables.d/11-docker-container_db", change: "created" },
      { path: PATH, change: "unchanged" },
      { path: "/etc/iptables.d/10_docker", change: "updated" },
    ],
  });
  const rows = ["db         yes      created    changed", "web        no       unchanged  unchanged"];
  expect(printForPerson(told, { terminal: true }).stdout.split("\n")).toEqual([
    "CONTAINER  CHANGED  FRAGMENT   KERNEL",
    ...rows,
    "",
    "published: db; already published: web",
    "  updated /etc/iptables.d/10_docker",
    "",
  ]);
  expect(printForPerson(told, { terminal: true, check: true }).stdout).toMatch(/^CONTAINER {2}WOULD CHANGE {2}/);
  expect(printForPerson(told).stdout).not.toContain("CONTAINER");
  const one = { ...told, containers: told.containers?.slice(0, 1) ?? [] };
  expect(printForPerson(one, { terminal: true }).stdout).not.toContain("CONTAINER");
});
