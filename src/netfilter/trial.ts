// Loads a text in a throw-away network namespace: what is wrong with it is found before the running rules are touched, and how
// iptables itself spells each of its rules.
// `iptables-restore --test` is no such trial: the nft backend lets jumps to missing chains pass (tried, 1.8.9).

import { COMMANDS, restoreCommand } from "../iptables/commands.ts";
import { markKindOf, withMark } from "../iptables/line-marks.ts";
import { readRule } from "../iptables/rule.ts";
import { excerpt } from "../model/errors.ts";
import type { Family } from "../model/family.ts";
import { type Ran, run } from "../system/exec.ts";

/** Rules that depend on what only the host's own namespace has, besides sets: accounting objects, timeout policies. */
export const NEEDS_HOST = /--nfacct-name[\s=]|(-j|--jump)\s+CT\s.*--timeout[\s=]/;
const LEANS_ON_SET = /--match-set[\s=]|(-j|--jump)\s+SET\s/;
/** A name that cannot be resolved where there is no network. */
const NAME_NOT_RESOLVED = /host\/network .* not found/;
const MOST_LEFT_OUT = 20;

/** `line` counts from 0, as the lines do; undefined where iptables does not say which. */
export type Refused = { kind: "refused"; line: number | undefined; words: string };

export type Trial =
  /** `marked` is the output of iptables-save, with each rule's mark (line-marks.ts); `untried` lines were left out. */
  { kind: "good"; marked: string; untried: number[] } | Refused | { kind: "impossible"; why: string };

/**
 * Tries lines for iptables-restore. Sets that they name are there, and empty (of any type: each match is printed alike). Rules that
 * depend on other state of the host are left out. Throws Failure of `run`.
 */
export async function tryLines(family: Family, lines: readonly string[], timeoutSeconds: number): Promise<Trial> {
  const untried = new Set<number>();
  const leaveOut = (leans: RegExp) => {
    for (const [at, line] of lines.entries()) if (leans.test(line)) untried.add(at);
  };
  leaveOut(NEEDS_HOST);
  let sets = setsIn(lines);
  for (;;) {
    const tried = lines.map((line, at) => (untried.has(at) ? "#" : line));
    const ran = await restoreInNamespace(family, tried, sets, timeoutSeconds);
    if (ran.exitCode === 0) return { kind: "good", marked: ran.stdout, untried: [...untried] };
    if (/^unshare: /m.test(ran.stderr)) return { kind: "impossible", why: excerpt(ran.stderr) };
    if (ran.exitCode === NO_SETS && sets.length > 0) {
      leaveOut(LEANS_ON_SET);
      sets = [];
      continue;
    }
    const line = lineOf(ran.stderr);
    if (
      line !== undefined &&
      NAME_NOT_RESOLVED.test(ran.stderr) &&
      untried.size < MOST_LEFT_OUT &&
      !untried.has(line)
    ) {
      untried.add(line);
      continue;
    }
    const isKnown = line !== undefined && tried[line] !== "COMMIT";
    const culprit = isKnown ? line : await bisect(family, tried, sets, line ?? tried.length, timeoutSeconds);
    return { kind: "refused", line: culprit, words: wordsOf(ran) };
  }
}

/** The sets that rules name. A name that begins with - is none that ipset makes. */
export function setsIn(lines: readonly string[]): string[] {
  const leaning = lines.filter((line) => LEANS_ON_SET.test(line)).map(readRule);
  const names = leaning.flatMap((words) =>
    words.filter((_, at) => /^--(match|add|del|map)-set$/.test(words[at - 1] ?? "")),
  );
  return [...new Set(names)].filter((name) => /^[^-]/.test(name));
}

/**
 * The rules that depend on the host: has iptables read them in the host's own namespace, where it looks for their sets. It loads
 * nothing (tried, 1.8.9, both backends). Throws Failure of `run`.
 */
export async function readOnHost(
  family: Family,
  lines: readonly string[],
  timeoutSeconds: number,
): Promise<{ kind: "good" } | Refused> {
  const leans = (line: string) => NEEDS_HOST.test(line) || LEANS_ON_SET.test(line);
  if (!lines.some(leans)) return { kind: "good" };
  const leaning = lines.map((line) => (leans(line) || !/^[[-]/.test(line) ? line : "#"));
  const ran = await run(restoreCommand(family), ["--test", "--noflush", "--wait", String(timeoutSeconds)], {
    timeoutSeconds: timeoutSeconds + 1,
    input: [...leaning, ""].join("\n"),
  });
  return ran.exitCode === 0 ? { kind: "good" } : { kind: "refused", line: lineOf(ran.stderr), words: wordsOf(ran) };
}

/** The exit status where the sets could not be made: there is no ipset, say. */
const NO_SETS = 98;

/**
 * What runs in the namespace. A constant: all input is in its arguments. The legacy backend's lock is a file, not the namespace's:
 * the trial gets its own, or it would wait for the host's.
 */
const SCRIPT = `restore=$1 save=$2 family=$3 wait=$4 counters=$5
shift 5
for set do ipset create "$set" hash:ip family "$family" || exit ${NO_SETS}; done
export XTABLES_LOCKFILE=/proc/$$/cmdline
"$restore" \${counters:+"$counters"} --wait "$wait" && exec "$save" \${counters:+"$counters"}`;

const SET_FAMILIES: Record<Family, string> = { ipv4: "inet", ipv6: "inet6" };

function restoreInNamespace(
  family: Family,
  lines: readonly string[],
  sets: readonly string[],
  timeoutSeconds: number,
): Promise<Ran> {
  const { restore, save } = COMMANDS[family];
  const marks = markKindOf(lines);
  const counters = marks === "counter" ? "--counters" : "";
  const given = [restore, save, SET_FAMILIES[family], String(timeoutSeconds), counters, ...sets];
  const input = [...lines.map((line, at) => withMark(line, at, marks)), ""].join("\n");
  return run("unshare", ["--net", "--", "sh", "-c", SCRIPT, "sh", ...given], {
    timeoutSeconds: timeoutSeconds + 1,
    input,
  });
}

/** The line that iptables complains of, from 0 on: "Error occurred at line: 3", "line 3: RULE_APPEND failed", "line 3 failed". */
export function lineOf(stderr: string): number | undefined {
  const match = /\bline:? (\d+)/.exec(stderr);
  return match ? Number(match[1]) - 1 : undefined;
}

/** What iptables says, without its usage hint and its line number in a text that is not shown. */
export function complaintOf(stderr: string): string {
  const kept = stderr
    .split("\n")
    .filter((line) => !/^Try `|^Error occurred at line/.test(line))
    .map((line) =>
      line.replace(/^ip6?tables(-nft|-legacy)?-restore( v[\d.]+ \(\w+\))?: ?/, "").replace(/^line \d+:? |\.$/g, ""),
    )
    .filter((line) => line.trim() !== "");
  // A warning is of any line.
  const lines = kept.filter((line) => !line.startsWith("Warning: "));
  return excerpt((lines.length > 0 ? lines : kept).join("; "));
}

function wordsOf({ stderr, exitCode }: Ran): string {
  const ended = exitCode > 128 ? `it was ended by signal ${exitCode - 128}` : `exit status ${exitCode}`;
  return complaintOf(stderr) || ended;
}

/**
 * The first rule before `end` with which a load fails: the legacy backend blames the COMMIT, and one that a signal ends blames
 * nothing (-R of iptables-nft-restore 1.8.9).
 */
async function bisect(
  family: Family,
  lines: readonly string[],
  sets: readonly string[],
  end: number,
  timeoutSeconds: number,
): Promise<number | undefined> {
  const rules = lines.flatMap((line, at) => (at < end && /^[[-]/.test(line) ? [at] : []));
  const fails = async (count: number) => {
    const last = rules[count - 1] ?? -1;
    const some = lines.map((line, at) => (at > last && /^[[-]/.test(line) ? "#" : line));
    return (await restoreInNamespace(family, some, sets, timeoutSeconds)).exitCode !== 0;
  };
  if (rules.length === 0 || !(await fails(rules.length)) || (await fails(0))) return undefined;
  let good = 0;
  let bad = rules.length;
  while (bad - good > 1) {
    const middle = Math.floor((good + bad) / 2);
    if (await fails(middle)) bad = middle;
    else good = middle;
  }
  return rules[bad - 1];
}
