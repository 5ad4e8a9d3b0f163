// readTables against what iptables-restore 1.8.9 does with the same text (tried, nft).

import { describe, expect, test } from "vitest";
import { builtInChains, readTables } from "../../src/iptables/table-text.ts";

const RULE = "-A FORWARD -j ACCEPT";

function problemLines(text: string): number[] {
  return readTables(text).problems.map(({ line }) => line);
}

test("sections, chains and lines are read, comments and empty lines are not", () => {
  const text = `# by hand\n\n*nat\n:MINE - [0:0]\n:PREROUTING ACCEPT [7:420]\n-A PREROUTING -j MINE\n[3:180] -A MINE -j RETURN\nCOMMIT\n# more\n*filter\n:FORWARD DROP\n-P INPUT DROP\nCOMMIT\n`;
  const { sections, problems } = readTables(text);
  expect(problems).toEqual([]);
  expect(sections.map(({ table, chains, lines }) => ({ table, chains: [...chains], lines }))).toEqual([
    {
      table: "nat",
      chains: [
        ["MINE", "-"],
        ["PREROUTING", "ACCEPT"],
      ],
      lines: [
        { number: 6, text: "-A PREROUTING -j MINE" },
        { number: 7, text: "[3:180] -A MINE -j RETURN" },
      ],
    },
    { table: "filter", chains: [["FORWARD", "DROP"]], lines: [{ number: 12, text: "-P INPUT DROP" }] },
  ]);
});

describe("accepted, as iptables-restore accepts it", () => {
  test.each([
    ["an empty text", ""],
    ["only comments", "# nothing\n"],
    ["no newline at the end", `*filter\n${RULE}\nCOMMIT`],
    ["an empty table", "*filter\nCOMMIT\n"],
    ["blanks around the table's name", `* filter \n${RULE}\nCOMMIT\n`],
    ["a table twice", `*filter\n${RULE}\nCOMMIT\n*filter\n${RULE}\nCOMMIT\n`],
  ])("%s", (_what, text) => {
    expect(problemLines(text)).toEqual([]);
  });

  test("of a table's line only the first word counts", () => {
    expect(readTables(`*filter of mine\n${RULE}\nCOMMIT\n`).sections.map(({ table }) => table)).toEqual(["filter"]);
  });
});

describe("refused, with the line", () => {
  test.each([
    ["a rule before any table", `${RULE}\n*filter\nCOMMIT\n`, [1]],
    ["a rule behind COMMIT", `*filter\nCOMMIT\n${RULE}\n`, [3]],
    ["a table within a table", `*nat\n*filter\n${RULE}\nCOMMIT\n`, [2]],
    ["a chain without policy", `*filter\n:MINE\n${RULE}\nCOMMIT\n`, [2]],
    ["a colon alone", "*filter\n:\nCOMMIT\n", [2]],
    ["a table without a name", `*\n${RULE}\nCOMMIT\n`, [1]],
    ["words that are no rule", `*filter\nA FORWARD -j ACCEPT\niptables ${RULE}\nCOMMIT\n`, [2, 3]],
    ["an indented COMMIT", `*filter\n${RULE}\n  COMMIT\n*nat\nCOMMIT\n`, [3, 4]],
    ["an indented table", `  *filter\n${RULE}\nCOMMIT\n`, [1, 2, 3]],
  ])("%s", (_what, text, lines) => {
    expect(problemLines(text)).toEqual(lines);
  });

  test("a table without COMMIT, at the end of the text", () => {
    const { problems } = readTables(`*filter\n${RULE}\n`);
    expect(problems).toHaveLength(1);
    expect(problems[0]?.why).toContain("the table filter has no COMMIT");
  });

  test("Windows line ends: the return would become part of the last word", () => {
    expect(problemLines(`*filter\r\n${RULE}\r\nCOMMIT\r\n`)).toContain(2);
  });

  test("what is right beside it is still read", () => {
    const { sections } = readTables(`junk\n*filter\njunk\n${RULE}\nCOMMIT\n`);
    expect(sections.flatMap(({ lines }) => lines.map(({ text }) => text))).toEqual([RULE]);
  });
});

test("built-in chains, and none of a table that is not known, whatever JavaScript knows by that name", () => {
  expect(builtInChains("raw")).toEqual(["PREROUTING", "OUTPUT"]);
  for (const table of ["mine", "constructor", "toString", "__proto__"]) expect(builtInChains(table)).toEqual([]);
});
