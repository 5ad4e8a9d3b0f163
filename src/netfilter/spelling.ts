// What the fragments of one family say, in iptables' own spelling: what a load brings, and what live rules are compared with.
// A trial in a throw-away namespace spells them. What it said is kept in the state, and holds for the same iptables and kernel: then
// the same text is not tried again, nor one that differs from it in rules of our containers of a kind that was tried (foretold.ts).
//
// On disk: FAMILY.spelled (JSON, see Known), FAMILY.names (JSON: name -> the addresses that it had at the last load).

import { release } from "node:os";
import { type Assembled, assemble, type Fragment, PRESERVED, refuseProblems } from "../iptables/assemble.ts";
import { foretell, shapesIn, type Tried } from "../iptables/foretold.ts";
import { isManaged } from "../iptables/fragment-text.ts";
import { iptablesOf, type Live, NOTHING_LIVE } from "../iptables/live.ts";
import { mayBeOurs, uncounted } from "../iptables/rule.ts";
import { spelledFragments } from "../iptables/spelled.ts";
import { tablesOf } from "../iptables/table-text.ts";
import { Failure } from "../model/errors.ts";
import { FAMILY_WORDS, type Family } from "../model/family.ts";
import { containerOf } from "../model/owner.ts";
import { keepLastingState, keepState, readState, type State, stateOf } from "../system/state.ts";
import { verbose } from "../system/verbose.ts";
import { type Names, namesIn, resolveNames, withAddresses } from "./host-names.ts";
import { setsIn, type Trial, tryLines } from "./trial.ts";

export interface Spelling {
  /** The fragments as one text, with addresses for names; `written` are its lines with the names. */
  assembled: Assembled & { written: readonly string[] };
  /** As iptables prints them; a path may come several times. */
  fragments: readonly Fragment[];
  /** Undefined where nothing could be tried: then they are as written. */
  known: Known | undefined;
  names: Names;
  /** Names without an address. */
  unresolved: string[];
  warnings: string[];
}

/** What a trial said, or would say. */
interface Known extends Tried {
  /** Lines of the text that no trial can take. */
  untried: number[];
  /** The kernel's release. */
  kernel: string;
}

export interface SpellingOptions {
  family: Family;
  /** Of the fragments. */
  directory: string;
  timeout: number;
  /** The kernel's rules, if they are looked at: they say which iptables runs. */
  live?: Live | Promise<Live> | undefined;
  /** Whether names are resolved again; else they have the addresses of the last load. */
  afresh?: boolean;
}

/**
 * Throws Failure `fragment_invalid`, naming fragment, line and rule, and those of `run`. Where nothing can be tried a warning
 * says so.
 */
export async function canonicalFragments(
  fragments: readonly Fragment[],
  spellingOptions: SpellingOptions,
): Promise<Spelling> {
  const state = stateOf(spellingOptions.family, spellingOptions.directory);
  const written = assemble(fragments, [], NOTHING_LIVE);
  refuseProblems(written.problems);
  const { names, unresolved } = await findAddresses(namesIn(written.lines), state, spellingOptions);
  const lines = written.lines.map((line) => withAddresses(line, names));
  const assembled = { ...written, lines, written: written.lines };
  const spelling = { assembled, names, unresolved };
  const trial = await tryOnce(assembled.lines, oursIn(fragments, assembled), state, spellingOptions);
  if (trial.kind === "refused") throw refusedLine(assembled, trial.line, trial.words);
  if (trial.kind === "impossible") {
    const warnings = [`the rules were not tested in a separate namespace first: ${trial.why}`];
    return { ...spelling, fragments, known: undefined, warnings };
  }
  const { known } = trial;
  const { marked, untried } = known;
  return {
    ...spelling,
    fragments: spelledFragments(fragments, assembled, marked, untried),
    known,
    warnings: warningsOf(assembled, untried),
  };
}

/**
 * The fragments so that their rules can be compared with live ones: as written, if the live rules are the same; else as iptables
 * prints them. If that is not possible, e.g. because a fragment is broken, they are as written.
 */
export async function comparable(
  fragments: readonly Fragment[],
  live: Live,
  spellingOptions: Omit<SpellingOptions, "live">,
): Promise<readonly Fragment[]> {
  if (isSpelled(fragments, live)) return fragments;
  try {
    return (await canonicalFragments(fragments, { ...spellingOptions, live })).fragments;
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    return fragments;
  }
}

/** Whether each rule that is not ours runs as it is written, and none runs besides. */
function isSpelled(fragments: readonly Fragment[], { tables }: Live): boolean {
  const written = new Map<string, Set<string>>();
  for (const fragment of fragments.filter(({ text }) => !isManaged(text))) {
    for (const { table, lines } of tablesOf(fragment).sections) {
      const known = written.get(table) ?? new Set();
      written.set(table, known);
      for (const line of lines) known.add(uncounted(line.text));
    }
  }
  return [...new Set([...written.keys(), ...tables.keys()])].every((table) => {
    const lines = (tables.get(table)?.lines ?? []).map(uncounted).filter((line) => !mayBeOurs(line));
    const known = written.get(table) ?? new Set();
    const running = new Set(lines);
    return lines.every((line) => known.has(line)) && [...known].every((line) => running.has(line));
  });
}

function warningsOf(assembled: Assembled, untried: readonly number[]): string[] {
  const [first] = untried;
  if (first === undefined) return [];
  const more = untried.length > 1 ? ` (and ${untried.length - 1} more)` : "";
  return [
    `${whereOf(assembled, first)}${more} depends on something that only the host has (a set where ipset is not installed, an accounting object, a name that does not resolve); it is compared as written`,
  ];
}

/** Rules that depend on what a boot may not have yet, and what to do: a sentence for each set and each name. */
export function warnOfBoot({ assembled, names, unresolved }: Spelling): string[] {
  const whereIs = (holds: (line: string) => boolean) => whereOf(assembled, assembled.lines.findIndex(holds));
  const sets = setsIn(assembled.lines).map((set) => {
    const where = whereIs((line) => setsIn([line]).includes(set));
    return `${where} depends on the set ${set}: start what creates it before the service that loads the fragments (After=, 'systemctl edit'), or a boot skips the rule`;
  });
  const hosts = [...names.keys(), ...unresolved].map((name) => {
    const line = assembled.written.findIndex((one) => namesIn([one]).includes(name));
    return `${whereOf(assembled, line)} depends on the host name ${name}: a boot uses the addresses of the last load if it does not resolve yet; use an address instead`;
  });
  return [...sets, ...hosts];
}

/** s; what does not answer until then has no address. */
const PATIENCE = 5;

/** What does not resolve now has what it had at the last load. Throws Failure of `run`. */
export async function findAddresses(
  names: readonly string[],
  state: State,
  { family, afresh, timeout }: SpellingOptions,
) {
  if (names.length === 0) return { names: new Map<string, readonly string[]>(), unresolved: [] };
  const known = await readNames(state);
  const asked = names.filter((name) => afresh === true || !known.has(name));
  const found = await resolveNames(family, asked, Math.min(PATIENCE, timeout));
  const addresses = names.map((name) => {
    const now = found.get(name) ?? [];
    return [name, now.length > 0 ? now : (known.get(name) ?? [])] as const;
  });
  const resolved = new Map(addresses.filter(([, one]) => one.length > 0));
  return { names: resolved, unresolved: names.filter((name) => !resolved.has(name)) };
}

async function readNames(state: State): Promise<Map<string, string[]>> {
  const read = readJson(await readState(state, "names"));
  const isAddresses = (value: unknown): value is string[] =>
    Array.isArray(value) && value.every((one) => typeof one === "string");
  const entries = Object.entries(read ?? {}).filter((entry): entry is [string, string[]] => isAddresses(entry[1]));
  return new Map(entries);
}

/** Which lines are of containers' fragments of ours. */
function oursIn(fragments: readonly Fragment[], { origins }: Pick<Assembled, "origins">): (line: number) => boolean {
  const ours = fragments.filter((one) => containerOf(one) !== undefined && isManaged(one.text));
  const paths = new Set(ours.map(({ path }) => path));
  return (line) => paths.has(origins[line]?.path ?? "");
}

/** What this process knows last, of each directory. */
const lastKnown = new Map<string, Known>();

/** At most; a rule of ours has one of some twenty shapes. */
const MOST_SHAPES = 200;

async function tryOnce(
  lines: readonly string[],
  isOurs: (line: number) => boolean,
  state: State,
  { family, live, timeout }: SpellingOptions,
): Promise<{ kind: "good"; known: Known } | Exclude<Trial, { kind: "good" }>> {
  const text = lines.join("\n");
  const key = `${family} ${state.directory}`;
  const good = (known: Known) => {
    lastKnown.set(key, known);
    return { kind: "good", known } as const;
  };
  const last = lastKnown.get(key);
  if (last?.text === text) return good(last);
  const kept = last ?? (await readKnown(state));
  // Where nothing is known a trial does not wait for the kernel's rules.
  const known = kept !== undefined && holds(kept, iptablesOf((await live)?.text ?? "")) ? kept : undefined;
  if (known?.text === text) return good(known);
  const foretold = known?.untried.length === 0 ? foretell(known, lines, isOurs) : undefined;
  if (known !== undefined && foretold !== undefined) {
    verbose(
      () => `load: no trial of ${FAMILY_WORDS[family]}: what differs from what was tried is of kinds that were tried`,
    );
    return good({ ...known, text, marked: foretold });
  }
  const trial = await tryLines(family, lines, timeout);
  if (trial.kind !== "good") return trial;
  const { marked, untried } = trial;
  const shapes = new Set([...(known?.shapes ?? []), ...shapesIn(lines, marked)]);
  return good({ text, marked, untried, kernel: release(), shapes: [...shapes].slice(-MOST_SHAPES) });
}

/** Whether it is what this iptables says on this kernel; "" is an iptables that nobody knows. */
function holds({ marked, kernel }: Known, iptables: string): boolean {
  return iptables !== "" && iptablesOf(marked) === iptables && kernel === release();
}

/** What an earlier process has kept. */
async function readKnown(state: State): Promise<Known | undefined> {
  const read = readJson(await readState(state, "spelled"));
  const { text, marked, untried, kernel, shapes } = read ?? {};
  if (typeof text !== "string" || typeof marked !== "string" || typeof kernel !== "string" || !Array.isArray(untried))
    return undefined;
  const isText = (one: unknown) => typeof one === "string";
  return {
    // In the order in which it is written.
    ...{ text, marked, untried: untried.filter((line) => typeof line === "number"), kernel },
    // Of a version before there were any.
    shapes: Array.isArray(shapes) ? shapes.filter(isText) : [],
  };
}

function readJson(text: string | undefined): { [key: string]: unknown } | undefined {
  try {
    const read: unknown = JSON.parse(text ?? "");
    return typeof read === "object" && read !== null ? (read as { [key: string]: unknown }) : undefined;
  } catch {
    return undefined;
  }
}

/** Keeps what was found out, for the runs to come. Throws what node:fs throws. */
export async function keepSpelling(
  { known, names }: Spelling,
  { family, directory }: Pick<SpellingOptions, "family" | "directory">,
): Promise<void> {
  const state = stateOf(family, directory);
  const text = JSON.stringify(known);
  if (known !== undefined && (await readState(state, "spelled")) !== text) await keepState(state, "spelled", text);
  if (names.size > 0) await keepLastingState(state, "names", JSON.stringify(Object.fromEntries(names)));
}

/** "FRAGMENT line N", of a line of the assembled text. */
function whereOf({ origins }: Pick<Assembled, "origins">, line: number): string {
  const origin = origins[line];
  if (origin === PRESERVED) return "a rule that a load keeps";
  return origin ? `${origin.path} line ${origin.line}` : "the fragments together";
}

/** A line that iptables refuses, as the failure that names fragment, line and rule. */
export function refusedLine(
  assembled: Pick<Assembled, "lines" | "origins">,
  line: number | undefined,
  words: string,
): Failure {
  const rule = line === undefined ? undefined : assembled.lines[line];
  const origin = line === undefined ? undefined : assembled.origins[line];
  const where = line === undefined ? "the fragments together" : whereOf(assembled, line);
  const what = rule === undefined ? "" : ` '${rule}'`;
  return new Failure("fragment_invalid", `${where}: iptables refuses${what}: ${words}`, {
    ...(origin && origin !== PRESERVED ? { path: origin.path, line: origin.line } : {}),
    ...(rule === undefined ? {} : { rule }),
    stderr: words,
  });
}
