// Loads a text in a throw-away network namespace, to find what is wrong with it before the running rules are touched.
// `iptables-restore --test` is no such trial: the nft backend lets jumps to missing chains pass (tried, 1.8.9).

import type { Family } from "../docker/container.ts";
import { excerpt } from "../errors.ts";
import { type Ran, run } from "../exec.ts";
import { restoreCommand } from "./iptables.ts";

/** Rules that lean on what only the host's own namespace has: sets, accounting objects, timeout policies. */
const LEANS_ON_HOST = /--match-set |-j SET |--nfacct-name |-j CT .*--timeout /;
/** A name that cannot be resolved where there is no network. */
const NAME_NOT_RESOLVED = /host\/network .* not found/;
const MOST_NAMES = 20;

type Trial =
  | { kind: "good" }
  /** `line` counts from 0, as the lines do; undefined where iptables does not say which. */
  | { kind: "refused"; line: number | undefined; words: string }
  | { kind: "impossible"; why: string };

/** Tries lines for iptables-restore. Rules that merely lean on the host's state are left out. Throws Failure of `run`. */
export async function tryLines(family: Family, lines: readonly string[], timeoutSeconds: number): Promise<Trial> {
  const tried = lines.map((line) => (LEANS_ON_HOST.test(line) ? "#" : line));
  for (let names = 0; ; names++) {
    const ran = await restoreInNamespace(family, tried, timeoutSeconds);
    if (ran.exitCode === 0) return { kind: "good" };
    if (/^unshare: /m.test(ran.stderr)) return { kind: "impossible", why: excerpt(ran.stderr) };
    const line = lineOf(ran.stderr);
    if (line !== undefined && NAME_NOT_RESOLVED.test(ran.stderr) && names < MOST_NAMES) {
      tried[line] = "#";
      continue;
    }
    const culprit =
      line !== undefined && tried[line] === "COMMIT" ? await bisect(family, tried, line, timeoutSeconds) : line;
    return { kind: "refused", line: culprit, words: wordsOf(ran) };
  }
}

/**
 * The rules that such a trial leaves out: has iptables read them in the host's own namespace, where it looks for their sets. It
 * loads nothing (tried, 1.8.9, both backends). Throws Failure of `run`.
 */
export async function readOnHost(family: Family, lines: readonly string[], timeoutSeconds: number): Promise<Trial> {
  const leaning = lines.map((line) => (LEANS_ON_HOST.test(line) || !/^[[-]/.test(line) ? line : "#"));
  if (!leaning.some((line) => LEANS_ON_HOST.test(line))) return { kind: "good" };
  const ran = await run(restoreCommand(family), ["--test", "--noflush", "--wait", String(timeoutSeconds)], {
    timeoutSeconds: timeoutSeconds + 1,
    input: [...leaning, ""].join("\n"),
  });
  return ran.exitCode === 0 ? { kind: "good" } : { kind: "refused", line: lineOf(ran.stderr), words: wordsOf(ran) };
}

function restoreInNamespace(family: Family, lines: readonly string[], timeoutSeconds: number): Promise<Ran> {
  const args = ["--net", "--", restoreCommand(family), "--wait", String(timeoutSeconds)];
  return run("unshare", args, { timeoutSeconds: timeoutSeconds + 1, input: [...lines, ""].join("\n") });
}

/** The line that iptables complains of, from 0 on: "Error occurred at line: 3", "line 3: RULE_APPEND failed", "line 3 failed". */
export function lineOf(stderr: string): number | undefined {
  const match = /\bline:? (\d+)/.exec(stderr);
  return match ? Number(match[1]) - 1 : undefined;
}

/** What iptables says, without its usage hint and its numbering of a text that nobody sees. */
export function complaintOf(stderr: string): string {
  const kept = stderr
    .split("\n")
    .filter((line) => !/^Try `|^Error occurred at line/.test(line))
    .map((line) =>
      line.replace(/^ip6?tables(-nft|-legacy)?-restore( v[\d.]+ \(\w+\))?: ?/, "").replace(/^line \d+:? |\.$/g, ""),
    )
    .filter((line) => line.trim() !== "");
  return excerpt(kept.join("; "));
}

function wordsOf({ stderr, exitCode }: Ran): string {
  return complaintOf(stderr) || `exit status ${exitCode}`;
}

/** The legacy backend blames the COMMIT: the first rule of its table with which it fails. */
async function bisect(family: Family, lines: readonly string[], commit: number, timeoutSeconds: number) {
  let start = commit;
  while (start > 0 && !lines[start]?.startsWith("*")) start--;
  const rules = lines
    .map((_, index) => index)
    .filter((index) => index > start && index < commit && lines[index]?.startsWith("-"));
  const head = lines.slice(start, rules[0]);
  const fails = async (count: number) => {
    const some = rules.slice(0, count).map((index) => lines[index] ?? "");
    return (await restoreInNamespace(family, [...head, ...some, "COMMIT"], timeoutSeconds)).exitCode !== 0;
  };
  if (!(await fails(rules.length))) return undefined;
  let good = 0;
  let bad = rules.length;
  while (bad - good > 1) {
    const middle = Math.floor((good + bad) / 2);
    if (await fails(middle)) bad = middle;
    else good = middle;
  }
  return rules[bad - 1];
}
