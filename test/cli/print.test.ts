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
  return print(told, { check: false, columns: undefined, stdout: PLAIN, stderr: PLAIN, ...reader });
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
  expect(printForPerson(told, { columns: 200 }).stdout.split("\n")).toEqual([
    "CONTAINER  CHANGED  FRAGMENT   KERNEL",
    ...rows,
    "",
    "published: db; already published: web",
    "  updated /etc/iptables.d/10_docker",
    "",
  ]);
  expect(printForPerson(told, { columns: 200, check: true }).stdout).toMatch(/^CONTAINER {2}WOULD CHANGE {2}/);
  expect(printForPerson(told).stdout).not.toContain("CONTAINER");
  const one = { ...told, containers: told.containers?.slice(0, 1) ?? [] };
  expect(printForPerson(one, { columns: 200 }).stdout).not.toContain("CONTAINER");
});

test.each([
  ["raise wait_timeout", "raise --wait-timeout"],
  ["wait for it, or raise timeout", "wait for it, or raise --timeout"],
  [
    "Name another service (iptables_service, ip6tables_service), or use reload: patch, which",
    "Name another service (--iptables-service, --ip6tables-service), or use --reload patch, which",
  ],
  ["Choose: adopt: true (save), replace: true (remove)", "Choose: --adopt (save), --replace (remove)"],
  [
    "timeout must be a number of seconds from 1 to 3600, got: 0",
    "--timeout must be a number of seconds from 1 to 3600, got: 0",
  ],
  ["value of reload must be one of: patch, got: x", "value of --reload must be one of: patch, got: x"],
  [
    "the network of web; 'my_iptables_dir' and /srv/iptables_dir/x stay",
    "the network of web; 'my_iptables_dir' and /srv/iptables_dir/x stay",
  ],
  ["'--adopt' saved them, 'docker_iptables setup' helps", "'--adopt' saved them, 'docker_iptables setup' helps"],
])("arguments are flags at a shell: %s", (msg, told) => {
  expect(printForPerson(result({ failed: true, msg, error: { code: "internal" } })).stderr).toContain(told);
});

test("a value of the wrong type is named in a shell's words", () => {
  const error = { code: "arguments_invalid", argument: "wait_timeout", type: "int", value: "soon" } as const;
  const msg = "argument 'wait_timeout' is of type <class 'str'> and we were unable to convert to int";
  expect(printForPerson(result({ failed: true, msg, error })).stderr).toBe(
    "docker_iptables: --wait-timeout takes a number, not 'soon' [arguments_invalid]\n",
  );
});

test("what is wrong, and below it what to do, fits a terminal of 80 columns", () => {
  const problems: Result["problems"] = [
    {
      kind: "fragment_missing",
      container: "web",
      msg: `web runs and publishes ports, but there is no ${PATH}`,
      hint: "'docker_iptables create web' or 'docker_iptables sync' creates it, once it is fixed",
    },
  ];
  const told = result({ status: [], problems, msg: "1 problem (1 container)" });
  expect(printForPerson(told).stdout.split("\n")).toHaveLength(4);
  const lines = printForPerson(told, { columns: 80 }).stdout.split("\n");
  expect(lines.filter((line) => line.length > 80)).toEqual([]);
  expect(lines).toHaveLength(6);
});

test("what is published is a table of its own, in red where it is not live", () => {
  const published = [
    { container: "web", publish: "0.0.0.0:8080/tcp", to: "172.17.0.2:80", from: "everyone", live: true },
    { container: "db", publish: "127.0.0.1:5432/tcp", to: "172.17.0.3:5432", from: "this host", live: false },
  ];
  const stdout = paintFor(true, { TERM: "xterm" });
  expect(printForPerson(result({ published, msg: "2 ports" }), { stdout }).stdout.split("\n")).toEqual([
    "PUBLISHED           CONTAINER  TO               FROM       LIVE",
    "0.0.0.0:8080/tcp    web        172.17.0.2:80    everyone   yes",
    "\u001b[31m127.0.0.1:5432/tcp  db         172.17.0.3:5432  this host  no\u001b[0m",
    "",
    "2 ports",
    "",
  ]);
});

test("status shows what the host's settings say, and what a container has of its own", () => {
  const told = result({
    status: [
      {
        container: "web",
        publishes: [],
        addresses: [],
        options: { guards: false, network: "front", allow: { "8080": ["10.0.0.0/8", "wg0"] } },
        fragments: [],
        lists: [
          { publish: "0.0.0.0:8080/tcp", from: "10.0.0.0/8, wg0" },
          { publish: "[::]:8080/tcp", from: "this host" },
        ],
        live: true,
      },
    ],
    problems: [],
    invocation: {
      module_args: { ipv6: true, reload: "patch", timeout: 10, chain: "MINE" },
      origins: { ipv6: "settings", reload: "settings", timeout: "default", chain: "argument" },
    },
  });
  const { stdout } = printForPerson(told);
  expect(stdout).toContain("\nweb has options of its own: --allow 8080=10.0.0.0/8,wg0 --no-guards --network front\n");
  expect(stdout).toContain(
    "\n0.0.0.0:8080/tcp of web is open to: 10.0.0.0/8, wg0\n[::]:8080/tcp of web is open to: this host\n",
  );
  expect(stdout).toContain("\nsettings of this host: --ipv6 --reload patch\n");
});

test("a verdict of explain is below its packet where a terminal has no room for it, in whole words and in colour", () => {
  const view = {
    from: "an on-link host that routes the container's address to this host",
    source: "198.51.100.7",
    to: "172.17.0.2:80",
    reaches: false,
    seen_as: null,
    why: "dropped by a rule",
    by: [],
    unless: [],
  };
  const explained = [
    { container: "web", publish: "0.0.0.0:8080/tcp", views: [view, { ...view, reaches: true, seen_as: "172.17.0.1" }] },
  ];
  const told = result({ explained, msg: "1 published port traced" });
  const stdout = paintFor(true, { TERM: "xterm" });
  const lines = printForPerson(told, { columns: 80, stdout }).stdout.split("\n");
  expect(lines.slice(0, 5)).toEqual([
    "0.0.0.0:8080/tcp of web",
    "  an on-link host that routes the container's address to this host  172.17.0.2:80",
    "\u001b[31m    no: dropped by a rule\u001b[0m",
    "  an on-link host that routes the container's address to this host  172.17.0.2:80",
    "\u001b[32m    reaches it, seen as 172.17.0.1\u001b[0m",
  ]);
  // In a pipe all of it is one line.
  expect(printForPerson(told).stdout).toContain("172.17.0.2:80  no: dropped by a rule\n");
});

test("who is seen with its own address is seen as itself: the address may be an example", () => {
  const view = { from: "another machine", source: "203.0.113.9", to: "198.51.100.10:8080", reaches: true, why: "" };
  const views = ["203.0.113.9", "172.17.0.1"].map((seen_as) => ({ ...view, seen_as, by: [], unless: [] }));
  const told = result({ explained: [{ container: "web", publish: "0.0.0.0:8080/tcp", views }] });
  expect(printForPerson(told).stdout).toContain(`
  another machine  198.51.100.10:8080  reaches it, seen as itself
  another machine  198.51.100.10:8080  reaches it, seen as 172.17.0.1
`);
});

test("explain names a list beside its port", () => {
  const view = {
    from: "this host",
    to: "127.0.0.1:8080",
    reaches: true,
    seen_as: "172.17.0.1",
    why: "",
    by: [],
    unless: [],
  };
  const one = { container: "web", publish: "0.0.0.0:8080/tcp", views: [view] };
  const told = result({ explained: [{ ...one, from: "10.0.0.0/8, wg0" }, { ...one, from: "this host" }, one] });
  const heads = printForPerson(told)
    .stdout.split("\n")
    .filter((line) => line.includes(" of web"));
  expect(heads).toEqual([
    "0.0.0.0:8080/tcp of web, from 10.0.0.0/8, wg0 only",
    "0.0.0.0:8080/tcp of web, from this host only",
    "0.0.0.0:8080/tcp of web",
  ]);
});
