// load: replaces the running rules of one or both families by the fragments of their directories. What the service runs,
// and what `reload: restore` does in process.
//
// All errors that can be found are found before the kernel is changed; each table is then replaced in one step, so there is no
// moment without rules; a later failure is rolled back from a snapshot.

import { untrustedIn } from "../fragments/access.ts";
import { sortByBoot } from "../fragments/confirmed.ts";
import { existingFamilies, missingDirectory, readFragments } from "../fragments/directory.ts";
import { type Assembled, assemble, type Fragment, textOf } from "../iptables/assemble.ts";
import { differenceText } from "../iptables/difference.ts";
import { DOCKER_USER } from "../iptables/docker-rules.ts";
import { type Live, NOTHING_LIVE, readLive } from "../iptables/live.ts";
import { withoutLines } from "../iptables/removal.ts";
import { keyOf, mayBeOurs, readAdded, readChain, readWords, spell, uncounted } from "../iptables/rule.ts";
import { builtInChains } from "../iptables/table-text.ts";
import type { Access } from "../model/access.ts";
import type { Directories } from "../model/directories.ts";
import { asFailure, Failure } from "../model/errors.ts";
import { FAMILY_WORDS, type Family } from "../model/family.ts";
import type { Request } from "../model/request.ts";
import { mayLoad, unconfirmedFailure } from "../model/unconfirmed.ts";
import { type Names, namesIn, withAddresses } from "../netfilter/host-names.ts";
import { exchangeRules, restoreRules, saveRules } from "../netfilter/iptables.ts";
import { keepLastGood } from "../netfilter/last-good.ts";
import { type BootRecord, deletedOf, leftOf, readRecord, remember } from "../netfilter/record.ts";
import { restoreSnapshot } from "../netfilter/snapshot.ts";
import {
  canonicalFragments,
  refusedLine,
  type Spelling,
  type SpellingOptions,
  warnOfBoot,
} from "../netfilter/spelling.ts";
import { complaintOf, lineOf, readOnHost } from "../netfilter/trial.ts";
import type { Undo } from "../plan/backend.ts";
import { besideForeignRules } from "../plan/foreign-rules.ts";
import type { Kernel } from "../plan/item.ts";
import { withLoadLock } from "../system/lock.ts";
import { stateOf } from "../system/state.ts";
import { changeUnconfirmed, findUnconfirmed, readNow } from "../system/unconfirmed-file.ts";
import { verbose } from "../system/verbose.ts";
import { someOf } from "../text/words.ts";
import type { Place } from "./patch.ts";
import { salvage } from "./salvage.ts";
import { orRollBack } from "./undo.ts";

export interface LoadRequest {
  /** Those to load. */
  families: readonly Family[];
  directories: Directories;
  timeout: number;
  /**
   * Whether rules are kept that no fragment declares, nor declared in this boot: so a service that starts does not remove the rules
   * of a firewall that started earlier, or while the service had failed.
   */
  keepUndeclared?: boolean;
}

/** The verb: both families, or those named, whose directories exist. Throws Failure as `load`, and `directory_unusable`. */
export async function loadDirectories(
  { host, check }: Pick<Request, "host" | "check">,
  families: readonly Family[],
  keepUndeclared: boolean,
): Promise<Loaded> {
  const existing = await existingFamilies(host.directories);
  const missing = families.find((family) => !existing.includes(family) && (family === "ipv4" || families.length === 1));
  if (missing !== undefined) throw missingDirectory(host.directories[missing]);
  const wanted = families.filter((family) => existing.includes(family));
  const request = { families: wanted, directories: host.directories, timeout: host.timeout, keepUndeclared };
  if (!check) return load(request);
  const planned = await planLoad(request);
  const boot = planned.plans.flatMap(({ spelling }) => warnOfBoot(spelling));
  return { ...planned, warnings: [...planned.warnings, ...warnOfRemoved(planned, "would be"), ...boot] };
}

export interface Loaded {
  plans: Plan[];
  warnings: string[];
}

/** What a load would do to one family. */
export interface Plan {
  family: Family;
  directory: string;
  /** What iptables-restore gets. */
  assembled: Assembled;
  /** What of it the fragments say. */
  lasting: Assembled;
  spelling: Spelling;
  live: Live;
  /** What is known of this boot's rules. */
  record: BootRecord | undefined;
  /** Paths of container fragments from before this boot. */
  stale: string[];
  /** What users other than root can change, of the directory and its fragments. */
  untrusted: Access[];
  /** Live rules that no fragment declares, nor declared in this boot. */
  undeclared: string[];
  /** Whether they stay. */
  keeps: boolean;
  /** The tables that differ from the kernel's. */
  changed: ReadonlySet<string>;
  /** The lines that make the kernel's tables those, if they are few and it is known how iptables prints all of them. */
  difference: string | undefined;
  /** Whether the fragments' rules are those that run, others' apart. */
  runs: boolean;
}

/** For --verbose. */
function describePlan({ family, directory, assembled, stale, undeclared, keeps, changed }: Plan): string {
  const others =
    undeclared.length === 0 ? "" : `, ${undeclared.length} rules in no fragment ${keeps ? "stay" : "will be removed"}`;
  const skipped = stale.length === 0 ? "" : `, skipped as from before this boot: ${stale.join(" ")}`;
  const what = `${assembled.lines.length} lines of ${directory}${others}${skipped}`;
  const differs = changed.size > 0 ? `differs from the kernel in ${[...changed].join(", ")}` : "live already";
  return `load: ${FAMILY_WORDS[family]}, ${differs}: ${what}`;
}

/** Reads, assembles, tries. Changes nothing. Throws Failure `fragment_invalid`, `directory_unusable` and those of iptables. */
async function planLoad(
  { families, directories, timeout, keepUndeclared }: LoadRequest,
  seen: Kernel = {},
): Promise<Loaded> {
  const plans = await Promise.all(
    families.map((family) =>
      planFamily({ family, directory: directories[family], timeout }, seen[family], keepUndeclared),
    ),
  );
  verbose(() => plans.map(describePlan));
  const untried = new Set(plans.flatMap(({ spelling }) => spelling.warnings));
  return { plans, warnings: [...untried, ...plans.flatMap(warningsOf)] };
}

async function planFamily(
  { family, directory, timeout }: Place,
  seen: Live | undefined,
  keepUndeclared = false,
): Promise<Plan> {
  const fragments = await readFragments(directory);
  const untrusted = await untrustedIn(directory, fragments);
  const { current, stale } = await sortByBoot(directory, fragments);
  // A trial does not need the kernel's rules, so both run in parallel.
  const looking = seen === undefined ? saveRules(family, timeout) : Promise.resolve(seen);
  const spellingOptions = { family, directory, timeout, live: looking, afresh: true };
  const [spelling, looked] = await Promise.all([canonicalFragments(current, spellingOptions), looking]);
  // To ask for names takes seconds, in which another program may have changed something.
  const live = spelling.names.size > 0 ? await saveRules(family, timeout) : looked;
  refuseUnresolved(spelling);
  const record = await readRecord(stateOf(family, directory), live);
  const kept = withoutDeleted(live, record, spelling.fragments);
  const asOne = (fragments: readonly Fragment[]) => assemble(fragments, live.tables.keys(), kept);
  const spelled = compare(asOne(spelling.fragments), record, live);
  const { undeclared, runs } = spelled;
  const keeps = keepUndeclared && undeclared.length > 0;
  const besideForeign = (fragments: readonly Fragment[]) =>
    asOne(besideForeignRules(fragments, spelling.fragments, record, live));
  const lasting = addressed(asOne(current), spelling.names);
  const { changed } = keeps ? compare(besideForeign(spelling.fragments), record, live) : spelled;
  const isSpelled = spelling.known?.untried.length === 0 && spelling.names.size === 0;
  return {
    ...{ family, directory, spelling, live, record, untrusted, undeclared, keeps, runs },
    assembled: keeps ? addressed(besideForeign(current), spelling.names) : lasting,
    lasting,
    stale: stale.map(({ path }) => path),
    changed: new Set(changed.keys()),
    difference: isSpelled ? differenceText(live, changed) : undefined,
  };
}

/**
 * The kernel's rules without those of the user's chain that a fragment had earlier in this boot and none has any more: what is kept
 * there is others'.
 */
function withoutDeleted(live: Live, record: BootRecord | undefined, fragments: readonly Fragment[]): Live {
  const deleted = record && deletedOf(record.left, leftOf(fragments)).get("filter");
  const lines = new Set(deleted?.filter((line) => line.startsWith(`-A ${DOCKER_USER} `)));
  return lines.size === 0 ? live : readLive(withoutLines(live, new Map([["filter", lines]])));
}

function addressed(assembled: Assembled, names: Names): Assembled {
  return { ...assembled, lines: assembled.lines.map((line) => withAddresses(line, names)) };
}

/** Which live rules the text does not have, which tables it changes and to what, and whether it runs, others' rules apart. */
function compare(
  { lines }: Assembled,
  record: BootRecord | undefined,
  live: Live,
): Pick<Plan, "undeclared" | "runs"> & { changed: ReadonlyMap<string, readonly string[]> } {
  const undeclared: string[] = [];
  const tables = new Map<string, string[]>();
  let open: string[] = [];
  for (const line of lines) {
    if (line.startsWith("*")) {
      open = [];
      tables.set(line.slice(1), open);
    } else if (line !== "COMMIT") place(line.replace(/ \[0:0\]$/, ""), open);
  }
  // A table that the kernel does not have yet is an empty one that accepts.
  const isNew = ([name, text]: [string, string[]]) =>
    !live.tables.has(name) && text.some((line) => !/^:\S+ ACCEPT$/.test(line));
  const changed = new Set([...tables].filter(isNew).map(([name]) => name));
  let runs = changed.size === 0;
  for (const [name, table] of live.tables) {
    const text = tables.get(name) ?? [];
    const running = [...[...table.chains].map(([chain, policy]) => `:${chain} ${policy}`), ...table.lines];
    if (sameTable(running, text)) continue;
    changed.add(name);
    const known = new Set(text);
    const declared = record?.left.get(name)?.rules;
    const isOthers = (line: string) => !known.has(line) && !mayBeOurs(line) && !declared?.has(line);
    undeclared.push(...table.lines.filter(isOthers));
    const own = running.filter((line) => (line.startsWith(":") ? known.has(line) : !isOthers(line)));
    if (!sameTable(own, text)) runs = false;
  }
  return { undeclared, changed: new Map([...tables].filter(([name]) => changed.has(name))), runs };
}

/** Adds a line where iptables-restore puts its rule. */
function place(line: string, lines: string[]): void {
  const added = /^(\[\d+:\d+\] )?(-I|--insert) /.test(line) ? readAdded(readWords(uncounted(line))) : undefined;
  if (added?.place === undefined) {
    lines.push(line);
    return;
  }
  const { rule, place } = added;
  const before = lines.flatMap((one, at) =>
    place > 0 && readChain(readWords(uncounted(one))) === rule[1] ? [at] : [],
  );
  lines.splice(place === 0 ? 0 : (before[place - 1] ?? lines.length) + 1, 0, spell(rule));
}

/** Whether two tables are the same: chains in any order, the rules of each chain in order, however they are written. */
function sameTable(a: readonly string[], b: readonly string[]): boolean {
  const byChain = (lines: readonly string[], spelt: (line: string) => string) => {
    const chains = new Map<string, string[]>();
    for (const line of lines) {
      const chain = line.startsWith(":") ? line : (line.split(" ")[1] ?? "");
      const rules = chains.get(chain) ?? [];
      chains.set(chain, rules);
      rules.push(spelt(line));
    }
    return JSON.stringify([...chains].sort(([x], [y]) => (x < y ? -1 : 1)));
  };
  const asIs = (line: string) => line;
  const asKey = (line: string) => keyOf(readWords(line));
  return a.length === b.length && (byChain(a, asIs) === byChain(b, asIs) || byChain(a, asKey) === byChain(b, asKey));
}

/**
 * What stops a load of these fragments, as the failure that names one of them; undefined where nothing does, or where it
 * cannot be tried.
 */
export async function findBroken(
  fragments: readonly Fragment[],
  spellingOptions: SpellingOptions,
  live: Live,
): Promise<Failure | undefined> {
  // What runs as it is written iptables takes.
  const written = assemble(fragments, [], NOTHING_LIVE);
  if (written.problems.length === 0 && runs(written, live)) return undefined;
  try {
    const spelling = await canonicalFragments(fragments, spellingOptions);
    refuseUnresolved(spelling);
    if (runs(assemble(spelling.fragments, [], NOTHING_LIVE), live)) return undefined;
    const { assembled } = spelling;
    const read = await readOnHost(spellingOptions.family, assembled.lines, spellingOptions.timeout);
    return read.kind === "refused" ? refusedLine(assembled, read.line, read.words) : undefined;
  } catch (error) {
    const failure = asFailure(error);
    return failure.code === "fragment_invalid" ? failure : undefined;
  }
}

/** A load would ask for each such name once more, and wait. Throws Failure `fragment_invalid`. */
function refuseUnresolved({ assembled, unresolved }: Spelling): void {
  const [name] = unresolved;
  if (name === undefined) return;
  const line = assembled.lines.findIndex((one) => namesIn([one]).includes(name));
  throw refusedLine(
    assembled,
    line,
    `the host name ${name} does not resolve, nor did it at the last load; give an address`,
  );
}

/** Whether the kernel has all chains and rules of a text, in any order, and perhaps more. */
function runs({ lines }: Assembled, live: Live): boolean {
  let table = "";
  return lines.every((line) => {
    if (line.startsWith("*")) table = line.slice(1);
    if (line.startsWith(":")) {
      const chain = chainOf(line);
      return builtInChains(table).includes(chain) || live.tables.get(table)?.chains.has(chain);
    }
    return (
      !/^[[-]/.test(line) ||
      live.tables
        .get(table)
        ?.keys()
        .has(keyOf(readWords(uncounted(line))))
    );
  });
}

function chainOf(declaration: string): string {
  return declaration.slice(1).split(" ", 1)[0] ?? "";
}

/** Those tables of a text, as a text. */
function ofTables(names: ReadonlySet<string>, { lines, origins }: Assembled): Pick<Assembled, "lines" | "origins"> {
  let isOne = false;
  const isGiven = lines.map((line) => {
    if (line.startsWith("*")) isOne = names.has(line.slice(1));
    return isOne;
  });
  return { lines: lines.filter((_, at) => isGiven[at]), origins: origins.filter((_, at) => isGiven[at]) };
}

/** What the kernel refused though the trial did not, with the fragment where iptables says which line it was. */
function naming(given: Pick<Assembled, "lines" | "origins">, failure: Failure): Failure {
  const stderr = String(failure.facts["stderr"] ?? "");
  const line = lineOf(stderr);
  if (line === undefined || given.origins[line] === undefined) return failure;
  const { message, facts } = refusedLine(given, line, complaintOf(stderr));
  return new Failure(failure.code, message, { ...facts, ...failure.facts }, { cause: failure });
}

/** What is so before the load and after it. */
function warningsOf({ family, stale, undeclared, keeps }: Plan): string[] {
  const skipped = stale.map((path) => `${path} is from before this boot; skipped until 'create' confirms it`);
  if (!keeps) return skipped;
  const word = FAMILY_WORDS[family];
  const some = someOf(undeclared);
  return [...skipped, `${word} rules not in any fragment stay: ${some}; 'docker_iptables load' replaces them`];
}

/** A sentence for each family whose undeclared rules do not survive the load. */
function warnOfRemoved({ plans }: Loaded, tense: "would be" | "were"): string[] {
  return plans
    .filter(({ undeclared, keeps }) => undeclared.length > 0 && !keeps)
    .map(
      ({ family, undeclared }) =>
        `${FAMILY_WORDS[family]} rules not in any fragment ${tense} removed: ${someOf(undeclared)}`,
    );
}

/**
 * Loads the directories. Throws Failure: nothing was changed, or the change was rolled back; if the kernel had no rules yet, it has
 * all that can be loaded, and the failure says what was left out.
 */
export async function load(request: LoadRequest): Promise<Loaded> {
  const { families, directories, timeout } = request;
  const locked = families.map((family) => directories[family]);
  return withLoadLock(locked, timeout, async () => {
    const undo: Undo[] = [];
    const loading = orRollBack(undo, () => loadLocked(request, {}, undo));
    return loading.catch(async (error: unknown) => {
      throw await salvage(asFailure(error), request);
    });
  });
}

/**
 * The same for the holder of the load lock, who may have just read the kernel's rules (`seen`), and who rolls back after a failure:
 * `undo` gets the steps.
 */
export async function loadLocked(request: LoadRequest, seen: Kernel = {}, undo: Undo[] = []): Promise<Loaded> {
  const { timeout } = request;
  const isConfirmed = await refuseDistrusted(request);
  const planned = await planLoad(request, seen);
  const warnings = [...planned.warnings];
  for (const plan of planned.plans) {
    const { family, changed, spelling, live } = plan;
    // The record first: what is interrupted leaves too much in it.
    warnings.push(...(await remember(spelling, { ...plan, loaded: changed.size === 0 })));
    if (changed.size === 0) continue;
    undo.push(() => restoreSnapshot(family, live, undefined, timeout));
    const given = ofTables(changed, plan.assembled);
    const isExchanged = plan.difference !== undefined && (await exchangeRules(family, live, plan.difference, timeout));
    if (!isExchanged) {
      await restoreRules(family, textOf(given), timeout).catch((error: unknown) => {
        throw naming(given, asFailure(error));
      });
    }
    warnings.push(...(await remember(spelling, { ...plan, live: NOTHING_LIVE, loaded: true })));
  }
  // Once no family can fail any more; and where nothing changes, too: a load that was killed here has left an older text.
  if (isConfirmed) warnings.push(...(await keepAllLastGood(planned)));
  return { ...planned, warnings: [...new Set([...warnings, ...warnOfRemoved(planned, "were")])] };
}

async function keepAllLastGood({ plans }: Loaded): Promise<string[]> {
  const warnings: string[] = [];
  for (const { family, directory, lasting } of plans)
    warnings.push(...(await keepLastGood(family, directory, lasting)));
  return warnings;
}

/**
 * For the holder of the load lock, once what runs is confirmed: a boot falls back to it from now on. Of fragments that have changed since
 * it says so. Throws Failure as `load`.
 */
export async function keepLoaded(request: LoadRequest): Promise<string[]> {
  const { plans } = await planLoad(request);
  const changed = plans.filter(({ runs }) => !runs).map(({ directory }) => directory);
  if (changed.length === 0) return keepAllLastGood({ plans, warnings: [] });
  return [
    `the fragments in ${changed.join(" and ")} have changed since they were loaded; 'docker_iptables load --confirm 60' tries them`,
  ];
}

/** Whether it would change what runs, others' rules apart. Throws Failure as `load`. */
export async function differs(request: LoadRequest): Promise<boolean> {
  return (await planLoad(request)).plans.some(({ runs }) => !runs);
}

/**
 * Whether nothing waits: while a change does, a boot still falls back to what ran before it. What was put back is not loaded until its
 * fragments say again what runs. Throws Failure `unconfirmed`.
 */
async function refuseDistrusted({ families, directories, timeout }: LoadRequest): Promise<boolean> {
  const change = await findUnconfirmed(directories);
  if (change === undefined) return true;
  const now = await readNow();
  for (const family of families.filter((one) => !mayLoad(change, one, now))) {
    const isSame =
      change.stage === "distrusted" && !(await differs({ families: [family], directories, timeout }).catch(() => true));
    if (!isSame) throw unconfirmedFailure(change, now);
  }
  return trustAgain(families, directories);
}

/** The fragments of these families say what runs: whether nothing is left that waits or is not trusted. */
export async function trustAgain(families: readonly Family[], directories: Directories): Promise<boolean> {
  const left = await changeUnconfirmed(directories, (change) => {
    const armed = change.armed.filter((family) => !families.includes(family));
    if (change.stage !== "distrusted" || armed.length === change.armed.length) return change;
    return armed.length === 0 ? undefined : { ...change, armed };
  });
  return left === undefined;
}
