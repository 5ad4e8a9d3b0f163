// assemble: many fragments, one text.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { assemble, textOf as joined } from "../../src/iptables/assemble.ts";
import { readLive } from "../../src/iptables/live.ts";
import { readTables } from "../../src/iptables/table-text.ts";

const NOTHING = readLive("");
const DROPPING = readLive("*filter\n:INPUT DROP [1:60]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n");

/** The text of fragments of these contents, none of them with a problem. */
function textOf(contents: string[], alsoTables: string[] = [], live = NOTHING): string {
  const fragments = contents.map((text, index) => ({ path: `/d/${index}`, text }));
  const { lines, problems } = assemble(fragments, alsoTables, live);
  const text = joined({ lines });
  expect(problems).toEqual([]);
  return text;
}

const linesOf = (text: string, start: string) => text.split("\n").filter((line) => line.startsWith(start));

test("one section a table, guards first, rules in the order of the fragments, chains once", () => {
  const base = "*nat\n:MINE - [0:0]\n-A PREROUTING -j MINE\nCOMMIT\n*filter\n-A FORWARD -j ONE\nCOMMIT\n";
  const more =
    "*filter\n-A FORWARD -j TWO\nCOMMIT\n*nat\n:MINE - [0:0]\n-A MINE -j DNAT\nCOMMIT\n*raw\n-A OUTPUT -j DROP\nCOMMIT\n";
  expect(textOf([base, more])).toBe(`*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A OUTPUT -j DROP
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:MINE - [0:0]
-A PREROUTING -j MINE
-A MINE -j DNAT
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -j ONE
-A FORWARD -j TWO
COMMIT
`);
});

test("what we insert comes last, before whatever others insert; what others insert stays in its place", () => {
  const ours = '-I FORWARD -m comment --comment "docker_iptables: (10_docker)" -j DOCKER-USER';
  const host = "*filter\n-A FORWARD -j ONE\n-I FORWARD -j TWO\nCOMMIT\n";
  const base = `*filter\n:DOCKER-USER - [0:0]\n[1:2] ${ours}\n-A FORWARD -j THREE\nCOMMIT\n`;
  const later = "*filter\n-I FORWARD -j FOUR\nCOMMIT\n";
  expect(linesOf(textOf([host, base, later]), "-")).toEqual([
    ...["-A FORWARD -j ONE", "-I FORWARD -j TWO", "-A FORWARD -j THREE", "-I FORWARD -j FOUR"],
  ]);
  expect(textOf([host, base, later])).toContain(`-I FORWARD -j FOUR\n[1:2] ${ours}\nCOMMIT\n`);
});

test("nothing gives nothing", () => {
  expect(textOf([])).toBe("");
  expect(textOf(["", "# only a comment\n"])).toBe("");
});

test("tables of fragments that are gone are named, so that their rules go", () => {
  expect(textOf([], ["nat", "raw"])).toMatch(/^\*raw\n(:.*\n)+COMMIT\n\*nat\n(:.*\n)+COMMIT\n$/);
  expect(linesOf(textOf(["*raw\n-A OUTPUT -j DROP\nCOMMIT\n"], ["raw", "nat"]), "*")).toEqual(["*raw", "*nat"]);
});

describe("a built-in chain's policy", () => {
  const filter = (declaration: string) => `*filter\n${declaration}\n-A FORWARD -j ONE\nCOMMIT\n`;

  test.each([
    ["is the fragment's", [filter(":FORWARD ACCEPT [0:0]")], DROPPING, ":FORWARD ACCEPT [0:0]"],
    ["is the last fragment's", [filter(":FORWARD DROP"), filter(":FORWARD ACCEPT")], NOTHING, ":FORWARD ACCEPT [0:0]"],
    ["else the kernel's", [filter("-A INPUT -j ONE")], DROPPING, ":FORWARD DROP [0:0]"],
    ["else ACCEPT", [filter("-A INPUT -j ONE")], NOTHING, ":FORWARD ACCEPT [0:0]"],
    // iptables-nft resets the policy to ACCEPT for it (tried, 1.8.9).
    ["is not stated by '-'", [filter(":FORWARD - [0:0]")], DROPPING, ":FORWARD DROP [0:0]"],
    ["is not unstated by a later '-'", [filter(":FORWARD DROP"), filter(":FORWARD -")], NOTHING, ":FORWARD DROP [0:0]"],
  ])("%s", (_what, contents, live, line) => {
    expect(linesOf(textOf(contents, [], live), ":FORWARD")).toEqual([line]);
  });

  test("is the kernel's in a table that is only emptied", () => {
    expect(linesOf(textOf([], ["filter"], DROPPING), ":")).toEqual([
      ":INPUT DROP [0:0]",
      ":FORWARD DROP [0:0]",
      ":OUTPUT ACCEPT [0:0]",
    ]);
  });
});

test("-N is a declaration in other words, also of a chain that is declared, before or after", () => {
  const created = "*nat\n-N MINE\n--new-chain YOURS\n-A MINE -j YOURS\nCOMMIT\n";
  const declared = "*nat\n:MINE - [0:0]\nCOMMIT\n";
  for (const contents of [[created], [created, declared], [declared, created]]) {
    const text = textOf(contents);
    expect(linesOf(text, ":MINE")).toEqual([":MINE - [0:0]"]);
    expect(linesOf(text, ":YOURS")).toEqual([":YOURS - [0:0]"]);
    expect(linesOf(text, "-")).toEqual(["-A MINE -j YOURS"]);
  }
});

test("problems name path and line, and the rest is still there", () => {
  const fragments = [
    { path: "/d/1", text: "*filter\n-A FORWARD -j ONE\nCOMMIT\n" },
    { path: "/d/2", text: "# mine\n*filter\nForward everything\nCOMMIT\n" },
  ];
  const { lines, problems } = assemble(fragments, [], NOTHING);
  const text = joined({ lines });
  expect(problems).toEqual([{ path: "/d/2", line: 3, why: expect.any(String) }]);
  expect(linesOf(text, "-A")).toEqual(["-A FORWARD -j ONE"]);
});

test("a table with a name that JavaScript knows is a table like any other", () => {
  expect(textOf(["*constructor\nCOMMIT\n*__proto__\nCOMMIT\n"])).toBe("*constructor\nCOMMIT\n*__proto__\nCOMMIT\n");
});

test("a fragment with 300,000 problems has as many, and nothing bursts", () => {
  const { problems } = assemble([{ path: "/d/junk", text: "junk\n".repeat(300_000) }], [], NOTHING);
  expect(problems).toHaveLength(300_000);
});

test("how rules are spread over sections and files makes no difference, and none is missing, doubled or moved", () => {
  const table = fc.constantFrom("raw", "nat", "filter", "mangle");
  const rules = fc.array(fc.tuple(table, fc.integer({ min: 1, max: 3 }), fc.boolean(), fc.boolean()), {
    maxLength: 25,
  });
  fc.assert(
    fc.property(rules, (drawn) => {
      const lines = drawn.map(([name, chain], index) => ({
        name,
        text: `-A CHAIN${chain} -m mark --mark ${index} -j DROP`,
      }));
      // A rule either continues the section before it, or opens one, in the same file or in the next.
      let merged = "";
      let split = "";
      const files: string[] = [];
      for (const [index, { name, text }] of lines.entries()) {
        const before = lines[index - 1]?.name;
        if (before !== name) merged += `${before === undefined ? "" : "COMMIT\n"}*${name}\n`;
        merged += `${text}\n`;
        const [, , cut, nextFile] = drawn[index] ?? [];
        if (before !== name || cut) {
          if (split !== "") split += "COMMIT\n";
          if (nextFile && split !== "") {
            files.push(split);
            split = "";
          }
          split += `*${name}\n`;
        }
        split += `${text}\n`;
      }
      if (lines.length > 0) {
        merged += "COMMIT\n";
        files.push(`${split}COMMIT\n`);
      }
      const text = textOf([merged]);
      expect(textOf(files)).toBe(text);
      expect(textOf([text])).toBe(text);
      const { sections } = readTables(text);
      expect(sections.map((section) => section.table)).toEqual([...new Set(sections.map((section) => section.table))]);
      for (const name of ["raw", "nat", "filter", "mangle"]) {
        const found = sections.find((section) => section.table === name)?.lines ?? [];
        expect(found.map((line) => line.text)).toEqual(
          lines.filter((line) => line.name === name).map((line) => line.text),
        );
      }
    }),
    { seed: 2, numRuns: 300 },
  );
});
