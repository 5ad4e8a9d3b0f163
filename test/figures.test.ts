// What pages say of speed is what the benchmarks have measured: test/bench/results.md, and the table of today's peers in test/bench/README.md.

import { readFileSync } from "node:fs";
import { expect, test } from "vitest";

const read = (path: string) => readFileSync(new URL(`../${path}`, import.meta.url), "utf8");

/** The cells of each line of a page's tables. */
const rowsOf = (page: string) =>
  read(page)
    .split("\n")
    .filter((line) => line.startsWith("| "))
    .map((line) => line.split("|").map((cell) => cell.trim()));

const SECONDS: Record<string, number> = { s: 1, ms: 1e-3 };

/** In seconds; of "netavark: 104 ms", too. */
function secondsOf(cell = ""): number {
  const [, value, unit = ""] = /([\d.]+) (s|ms)\b/.exec(cell) ?? [];
  return Number(value) * (SECONDS[unit] ?? Number.NaN);
}

const results = rowsOf("test/bench/results.md");
/** ports, ours, nft -f, portmap, netavark */
const peers = rowsOf("test/bench/README.md").filter(({ length }) => length === 7);

/** A line of the results: what was measured, and against what. */
function row(what: string, against = ""): string[] {
  const found = results.find(([, first, , second]) => first === what && second?.startsWith(against));
  if (found === undefined) throw new Error(`the results have no ${what}, against ${against}`);
  return found;
}

/** The groups of a page's sentence, whose lines may be broken elsewhere. */
function said(page: string, sentence: RegExp): string[] {
  const text = read(page).replaceAll(/\s+/g, " ");
  const [, ...groups] = sentence.exec(text) ?? [];
  expect(groups, `${page}: ${sentence}`).not.toEqual([]);
  return groups;
}

/** As many digits as are said. */
const asSaid = (seconds: number, word: string) => seconds.toFixed(word.split(".")[1]?.length ?? 0);

test("the README", () => {
  const words = said(
    "README.md",
    /one port ([\d.]+) s, 1,000 ports ([\d.]+) s \(CNI's portmap and netavark of Debian 12: ([\d.]+) and ([\d.]+) s, (\d+) and (\d+) s\); by nftables ([\d.]+) and ([\d.]+) s \(those of today, Debian sid: ([\d.]+) s, ([\d.]+) and ([\d.]+) s\)/,
  );
  const [one, thousand] = ["1 port", "1000 ports"].map((ports) => {
    const what = `${ports}, \`reload: restore\`, native: how many times faster`;
    const [portmap, netavark] = ["CNI portmap", "netavark"].map((rival) => row(what, rival));
    return { ours: portmap?.[2], portmap: portmap?.[3], netavark: netavark?.[3] };
  });
  const [today1 = [], today1000 = []] = ["1", "1,000"].map((ports) => peers.find(([, first]) => first === ports));
  const cells = [one?.ours, thousand?.ours, one?.portmap, one?.netavark, thousand?.portmap, thousand?.netavark];
  const today = [today1[2], today1000[2], today1[4], today1000[4], today1000[5]];
  expect(words).toEqual([...cells, ...today].map((cell, index) => asSaid(secondsOf(cell), words[index] ?? "")));
  // One figure stands for both.
  expect(asSaid(secondsOf(today1[5]), words[8] ?? "")).toBe(words[8]);
});

test("docs/doors.md: from a start to the port", () => {
  const [iptables = "", nft = ""] = said(
    "docs/doors.md",
    /From a container's start to its port it takes some ([\d.]+) s by iptables, ([\d.]+) by nftables, natively/,
  );
  const from = (backend: string) =>
    secondsOf(row(`\`watch\`, native, ${backend}: from a container's \`StartedAt\` to its port`)[2]);
  expect([iptables, nft]).toEqual([asSaid(from("iptables"), iptables), asSaid(from("nft"), nft)]);
});

test("natively it starts several times faster", () => {
  for (const page of ["docs/install.md", "docs/from-source.md"]) said(page, /(several times faster)/);
  const took = (kind: string) => secondsOf(row(`unchanged \`present\`, ${kind}`)[2]);
  expect(took("Node.js 24") / took("native")).toBeGreaterThan(3);
});
