// A host that boots is never open: where a load cannot be had and the kernel has no rules yet, it gets all that can be loaded.
//
// The text is that of the fragments; but where a trial refuses them, and what last ran was right, that text. Out of it rules are
// taken one by one (rules/missing.ts says what becomes of each), in namespaces first, so that the kernel gets it in one step;
// every table keeps its policies.

import { sortByBoot } from "../fragments/confirmed.ts";
import { readFragments } from "../fragments/directory.ts";
import { type Assembled, assemble, type Fragment } from "../iptables/assemble.ts";
import { inOrder } from "../iptables/in-order.ts";
import { iptablesOf, type Live, NOTHING_LIVE } from "../iptables/live.ts";
import {
  isNeeded,
  type Missing,
  mayDeny,
  type Substitute,
  withoutMissing,
  withoutRule,
  withoutStandIn,
} from "../iptables/missing.ts";
import { commentOf, keyOf, mayBeOurs, readRule, readTarget, readWords, uncounted } from "../iptables/rule.ts";
import type { Directories } from "../model/directories.ts";
import { Failure } from "../model/errors.ts";
import { FAMILY_WORDS, type Family } from "../model/family.ts";
import { type Names, namesIn, withAddresses } from "../netfilter/host-names.ts";
import { restoreRules, saveRules } from "../netfilter/iptables.ts";
import { type BootRecord, keepRecord, type Left, leftOf, pruned, readRecord } from "../netfilter/record.ts";
import { findAddresses } from "../netfilter/spelling.ts";
import { complaintOf, lineOf, NEEDS_HOST, setsIn, tryLines } from "../netfilter/trial.ts";
import { besideForeignRules } from "../plan/foreign-rules.ts";
import { run } from "../system/exec.ts";
import { pathOf, readState, stateOf } from "../system/state.ts";
import { verbose } from "../system/verbose.ts";

/** A rule that was left out, or loaded as another. */
interface LeftOut {
  /** Its place in the text. */
  at: number;
  where: string;
  rule: string;
  why: string;
  stead: Substitute;
}

/** What is loaded, and what of it was taken out so far. */
interface Draft {
  lines: (string | undefined)[];
  origins: Assembled["origins"];
  left: LeftOut[];
}

/**
 * For the holder of the load lock, after a load of these directories failed and was undone. Returns the failure, which says what
 * was done.
 */
export async function salvage(
  failure: Failure,
  { families, directories, timeout }: { families: readonly Family[]; directories: Directories; timeout: number },
): Promise<Failure> {
  // What nobody has confirmed is no better than what is refused.
  const isTrusted = failure.code !== "unconfirmed";
  const messages: string[] = [];
  const lastGood: Family[] = [];
  const left: LeftOut[] = [];
  let changed = failure.changed;
  for (const family of families) {
    try {
      const done = await salvageFamily(family, directories[family], timeout, isTrusted);
      if (done === undefined) continue;
      changed = true;
      if (done.isLastGood) lastGood.push(family);
      left.push(...done.left);
      messages.push(describe(family, done));
      verbose(() => done.left.map((one) => `load: left out ${describeRule(one)}`));
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      messages.push(
        `the ${FAMILY_WORDS[family]} rules that can be loaded could not be loaded either: ${error.message}`,
      );
    }
  }
  if (messages.length === 0) return failure;
  const facts = {
    ...failure.facts,
    last_good: lastGood,
    left_out: left.slice(0, MOST_LISTED).map(({ where, rule, why }) => ({ where, rule, why })),
  };
  const salvaged = new Failure(failure.code, [failure.message, ...messages].join("; "), facts, { cause: failure });
  salvaged.rolledBack = failure.rolledBack;
  salvaged.changed = changed;
  return salvaged;
}

/** The same as a step back, where the kernel had no rules: says what it loaded. Throws Failure of `run` and of the directory. */
export async function loadWhatCan(family: Family, directory: string, timeout: number): Promise<string | undefined> {
  const done = await salvageFamily(family, directory, timeout, true);
  return done === undefined ? undefined : describe(family, done);
}

const MOST_LISTED = 100;

interface Done {
  /** Whether an earlier salvage had loaded something. */
  again: boolean;
  isLastGood: boolean;
  left: LeftOut[];
}

function describe(family: Family, { again, isLastGood, left }: Done): string {
  const what = isLastGood
    ? `the last good ${FAMILY_WORDS[family]} rules`
    : `the ${FAMILY_WORDS[family]} rules that can be loaded`;
  const done = again
    ? `an earlier load skipped rules, and now ${what} were loaded`
    : `the kernel had no rules, so ${what} were loaded instead`;
  // Whom a rule kept out is let in now: that comes first.
  const loudest = [...left].sort((a, b) => Number(b.stead.denied) - Number(a.stead.denied));
  const some = loudest.slice(0, 5).map(describeRule);
  const more = left.length > some.length ? ` and ${left.length - some.length} more` : "";
  return left.length === 0 ? done : `${done}, except ${some.join(", ")}${more}`;
}

function describeRule({ where, rule, why, stead }: LeftOut): string {
  const became = stead.line === undefined ? "" : `, loaded as '${stead.line}'`;
  return `${where} '${rule}' (${why}${stead.denied ? "; it BLOCKS NOBODY now" : ""}${became})`;
}

/**
 * Undefined where the kernel has rules: those that a load of ours brought are not replaced by fewer, but those of an earlier salvage
 * are by what can be loaded now.
 */
async function salvageFamily(
  family: Family,
  directory: string,
  timeout: number,
  isTrusted: boolean,
): Promise<Done | undefined> {
  const state = stateOf(family, directory);
  const live = await saveRules(family, timeout);
  const fragments = await readFragments(directory);
  const { current } = await sortByBoot(directory, fragments);
  const kept = await readState(state, "rules");
  const texts = [current, ...(kept === undefined ? [] : [[{ path: pathOf(state, "rules"), text: kept }]])];
  const record = await readRecord(state, live);
  const bare = isBare(live, texts.flat(), record);
  if (!bare && record?.salvaged === undefined) return undefined;
  verbose(() => {
    const has = bare ? "no rules" : "the part that an earlier load could bring";
    return `load: the kernel has ${has} of ${FAMILY_WORDS[family]}, so it gets what can be loaded`;
  });
  const sources: Assembled[] = [];
  // What is live is foreign: it stays.
  for (const text of texts) {
    const whole = assemble(besideForeignRules(text, text, record, live), live.tables.keys(), live);
    sources.push(await withNames(family, directory, whole, timeout));
  }
  const { source, isLastGood } = isTrusted ? await chooseSource(family, sources, timeout) : lastGood(sources);
  if (source === undefined) return undefined;
  const { lines, origins } = inOrder(source);
  const draft: Draft = { lines, origins, left: [] };
  // Names that have an address have it by now.
  const missing = { sets: await missingSets(source.lines, timeout), names: new Set(namesIn(source.lines)) };
  takeOutMissing(draft, missing);
  await takeOutRefused(draft, (lines) => refusalOf(family, lines, timeout));
  const salvaged = { left: draft.left.length, digest: digestOf(draft) };
  const former = record?.salvaged;
  // Nothing more can be loaded than last time.
  if (!bare && former && (former.digest === salvaged.digest || former.left < salvaged.left)) return undefined;
  await takeOutRefused(draft, (lines) => restoreOrRefusal(family, lines, timeout));
  const after = await saveRules(family, timeout);
  const left = pruned(record?.left ?? new Map(), broughtBy(live, after), after);
  await keepRecord(state, left, { iptables: iptablesOf(after.text), salvaged }).catch(() => {});
  return { isLastGood, left: draft.left, again: !bare };
}

/** No need for more: two texts of one digest cost one better load, and node:crypto each start of the program. */
function digestOf({ lines }: Draft): number {
  const text = lines.map((line) => line ?? "#").join("\n");
  let digest = 0;
  for (let at = 0; at < text.length; at++) digest = (Math.imul(digest, 31) + text.charCodeAt(at)) >>> 0;
  return digest;
}

/** What runs now and did not run before. */
function broughtBy(before: Live, after: Live): Left {
  const known = leftOf([before]);
  const left = [...leftOf([after])].map(([table, { chains, rules }]) => {
    const former = known.get(table);
    const brought = {
      chains: new Map([...chains].filter(([chain]) => !former?.chains.has(chain))),
      rules: new Set([...rules].filter((line) => !former?.rules.has(line))),
    };
    return [table, brought] as const;
  });
  return new Map(left);
}

/**
 * Whether all live rules are foreign. If the fragments have the host rules, and no load has succeeded in this boot yet, only a live
 * rule of ours shows that they are not: another rule of the fragments may also be another firewall's. Otherwise any rule that the
 * fragments declare shows it.
 */
function isBare({ tables }: Live, fragments: readonly Fragment[], record: BootRecord | undefined): boolean {
  const lines = [...tables.values()].flatMap((table) => table.lines);
  if (lines.length === 0) return true;
  if (record?.loaded !== true && fragments.some(({ text }) => text.includes(OF_BASE))) return !lines.some(mayBeOurs);
  const declared = assemble(fragments, [], NOTHING_LIVE).lines.filter((line) => /^[[-]/.test(line));
  const keys = new Set(declared.map((line) => keyOf(readWords(uncounted(line)))));
  return !lines.some((line) => mayBeOurs(line) || keys.has(keyOf(readWords(line))));
}

/** In each of the host rules. */
const OF_BASE = `--comment "${commentOf("(")}`;

async function withNames(family: Family, directory: string, assembled: Assembled, timeout: number): Promise<Assembled> {
  const state = stateOf(family, directory);
  const spellingOptions = { family, directory, timeout, afresh: true };
  const { names } = await findAddresses(namesIn(assembled.lines), state, spellingOptions);
  return { ...assembled, lines: assembled.lines.map((line) => withAddresses(line, names satisfies Names)) };
}

/** The fragments, unless they are refused and what last ran is not. */
async function chooseSource(family: Family, [first, last]: readonly Assembled[], timeout: number) {
  if (first === undefined) throw new Error("there is always a text of the fragments");
  const isGood = async ({ lines, problems }: Assembled) =>
    problems.length === 0 && (await refusalOf(family, lines, timeout)) === undefined;
  const isLastGood = last !== undefined && !(await isGood(first)) && (await isGood(last));
  return { source: isLastGood ? last : first, isLastGood };
}

/** None where nothing was good before. */
function lastGood([, source]: readonly Assembled[]): { source: Assembled | undefined; isLastGood: boolean } {
  return { source, isLastGood: true };
}

interface Refusal {
  /** From 0 on; undefined where iptables does not say. */
  line: number | undefined;
  words: string;
}

async function refusalOf(family: Family, lines: readonly string[], timeout: number): Promise<Refusal | undefined> {
  const trial = await tryLines(family, lines, timeout);
  return trial.kind === "refused" ? trial : undefined;
}

async function restoreOrRefusal(
  family: Family,
  lines: readonly string[],
  timeout: number,
): Promise<Refusal | undefined> {
  try {
    await restoreRules(family, [...lines, ""].join("\n"), timeout);
    return undefined;
  } catch (error) {
    if (!(error instanceof Failure) || error.code !== "reload_failed") throw error;
    const stderr = String(error.facts["stderr"] ?? "");
    const line = lineOf(stderr);
    if (line === undefined) throw error;
    return { line, words: complaintOf(stderr) };
  }
}

/** Sets that rules name and that this host does not have. None where ipset is not installed: then iptables refuses each. */
async function missingSets(lines: readonly string[], timeout: number): Promise<ReadonlySet<string>> {
  const named = setsIn(lines);
  if (named.length === 0) return new Set();
  const ran = await run("ipset", ["list", "-name"], { timeoutSeconds: timeout }).catch(() => undefined);
  if (ran?.exitCode !== 0) return new Set();
  const there = new Set(ran.stdout.split("\n"));
  return new Set(named.filter((name) => !there.has(name)));
}

function takeOutMissing(draft: Draft, missing: Missing): void {
  if (missing.sets.size + missing.names.size === 0) return;
  for (const [at, line] of draft.lines.entries()) {
    const isRule = line !== undefined && /^[[-]/.test(line);
    const stead = isRule ? withoutMissing(line, missing, tableOf(draft.lines, at).lines) : undefined;
    if (stead === undefined) continue;
    const words = new Set(readWords(line ?? "").flatMap((word) => word.split(/[,/]/)));
    const [set] = [...missing.sets].filter((name) => words.has(name));
    const [name] = [...missing.names].filter((one) => words.has(one));
    takeOut(draft, at, stead, set === undefined ? `the host name ${name} does not resolve` : `there is no set ${set}`);
  }
}

type Look = (lines: readonly string[]) => Promise<Refusal | undefined>;

/** Until nothing is refused any more. Throws Failure where iptables does not say what it refuses. */
async function takeOutRefused(draft: Draft, look: Look) {
  for (;;) {
    const refusal = await look(draft.lines.map((line) => line ?? "#"));
    if (refusal === undefined) return;
    const { words } = refusal;
    const at = refusal.line ?? (await findRefusedTable(draft, look));
    const line = at === undefined ? undefined : draft.lines[at];
    if (at === undefined || line === undefined)
      throw new Failure("fragment_invalid", `iptables rejects the text: ${words}`);
    if (/^\*/.test(line)) takeOutTable(draft, at, words);
    else if (line === "COMMIT") takeOutOfTable(draft, at, words);
    else takeOutRule(draft, at, line, words);
    reopen(draft);
  }
}

function takeOutRule(draft: Draft, at: number, line: string, words: string): void {
  const table = tableOf(draft.lines, at);
  const stand = draft.left.find((one) => one.at === at);
  if (stand !== undefined) {
    // What was loaded instead is refused, too.
    stand.stead = withoutStandIn(line, readWords(stand.rule), table.lines);
    draft.lines[at] = stand.stead.line;
    return;
  }
  const missing = { sets: setsMissedIn(words, line), names: new Set<string>() };
  takeOut(draft, at, withoutMissing(line, missing, table.lines) ?? withoutRule(table.lines, table.at), words);
}

/** The legacy backend blames the COMMIT: of what no trial could try, one rule after the other; else of a table that it does not have. */
function takeOutOfTable(draft: Draft, end: number, words: string): void {
  const start = draft.lines
    .slice(0, end)
    .map((line) => line?.startsWith("*"))
    .lastIndexOf(true);
  const untried = draft.lines.findIndex((line, at) => at > start && at < end && NEEDS_HOST.test(line ?? ""));
  if (untried < 0) takeOutTable(draft, start, words);
  else takeOutRule(draft, untried, draft.lines[untried] ?? "", words);
}

/** A table that the kernel does not have, or that does not exist: all of it, and no rule of another one. */
function takeOutTable(draft: Draft, start: number, words: string): void {
  const { lines } = tableOf(draft.lines, start);
  const rules = lines.filter((line) => /^[[-]/.test(line));
  const denied = rules.some((rule) => mayDeny(readTarget(readRule(rule)) ?? "", lines));
  const rule = `${lines[0]} with its ${rules.length} rules`;
  const first = draft.origins.slice(start, start + lines.length).find((origin) => origin !== undefined);
  draft.left.push({ at: start, where: placeOf(first), rule, why: words, stead: { line: undefined, denied } });
  // Its COMMIT, too.
  for (let at = start; at <= start + lines.length; at++) draft.lines[at] = undefined;
}

/** Where iptables names no line: the first table that is refused alone. */
async function findRefusedTable(draft: Draft, look: Look): Promise<number | undefined> {
  for (const [at, line] of draft.lines.entries()) {
    if (!line?.startsWith("*")) continue;
    const end = draft.lines.indexOf("COMMIT", at);
    if ((await look(draft.lines.map((one, index) => (index < at || index > end ? "#" : (one ?? "#"))))) !== undefined)
      return at;
  }
  return undefined;
}

/** A DROP that replaced a rule because of those behind it is removed once those are removed, too. */
function reopen(draft: Draft): void {
  for (const one of draft.left.filter(({ stead }) => stead.line !== undefined)) {
    const table = tableOf(draft.lines, one.at);
    if (!isNeeded(table.lines, table.at, one.stead)) {
      one.stead = { line: undefined, denied: false };
      draft.lines[one.at] = undefined;
    }
  }
}

/** The set that iptables misses; all of the rule's where it does not say which. */
function setsMissedIn(words: string, line: string): ReadonlySet<string> {
  const set = /\bset (\S+) (?:doesn't|does not) exist/i.exec(words)?.[1];
  if (set !== undefined) return new Set([set]);
  return new Set(/\b(ip)?set\b/i.test(words) ? setsIn([line]) : []);
}

/** The lines of a line's table, and its place there. */
function tableOf(lines: readonly (string | undefined)[], at: number): { lines: string[]; at: number } {
  const start = lines
    .slice(0, at + 1)
    .map((line) => line?.startsWith("*"))
    .lastIndexOf(true);
  const end = lines.indexOf("COMMIT", at);
  return { lines: lines.slice(start, end < 0 ? undefined : end).map((line) => line ?? "#"), at: at - start };
}

function takeOut(draft: Draft, at: number, stead: Substitute, why: string): void {
  const rule = draft.lines[at] ?? "";
  draft.lines[at] = stead.line;
  draft.left.push({ at, where: placeOf(draft.origins[at]), rule, why, stead });
}

function placeOf(origin: Assembled["origins"][number]): string {
  return origin === undefined ? "the fragments together" : `${origin.path} line ${origin.line}`;
}
