// load: replaces the running rules of one or both families by the fragments of their directories. What the service runs,
// and what `reload: restore` does in process.
//
// Everything that can be found wrong is found before the kernel is touched; each table is then replaced in one step, so
// there is no moment without rules; what fails later is put back from a snapshot.

import { mkdir, readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { FAMILIES, type Family } from "./docker/container.ts";
import { asFailure, errno, Failure } from "./errors.ts";
import { type Access, untrustedIn } from "./fragments/access.ts";
import { type Assembled, assemble, CARRIED, type Fragment, refuseProblems, textOf } from "./fragments/assemble.ts";
import { sortByBoot } from "./fragments/confirmed.ts";
import { directoryExists, missingDirectory, readFragments } from "./fragments/directory.ts";
import { clearTemporary, replaceFragment } from "./fragments/replace.ts";
import { restoreRules, saveRules } from "./kernel/iptables.ts";
import { restoreSnapshot } from "./kernel/snapshot.ts";
import { complaintOf, lineOf, readOnHost, tryLines } from "./kernel/trial.ts";
import { withLoadLock } from "./lock.ts";
import type { Request } from "./request.ts";
import { isContainers } from "./rules/fragment-text.ts";
import { type Live, readLive } from "./rules/live.ts";
import { keyOf, mayBeOurs, readWords, uncounted } from "./rules/rule.ts";
import { builtInChains } from "./rules/table-text.ts";
import type { Kernel } from "./survey.ts";
import { orRollBack, type Undo } from "./undo.ts";

export interface LoadRequest {
  /** The families to load, with the directory of each. */
  directories: Partial<Record<Family, string>>;
  timeout: number;
  /** Where the last good text of each family is kept (systemd's StateDirectory=); undefined keeps none. */
  stateDirectory: string | undefined;
  /**
   * While there is no record of this boot of what the fragments declared: whether rules that run and stand in no fragment are
   * kept, and only our own exchanged. A service starts so, beside a firewall that came first.
   */
  keepUndeclared: boolean;
}

/** The verb: both families, or those named, whose directories exist. Throws Failure as `load`, and `directory_unusable`. */
export async function loadDirectories(
  { args, check }: Request,
  families: readonly Family[],
  { stateDirectory, keepUndeclared }: Pick<LoadRequest, "stateDirectory" | "keepUndeclared">,
): Promise<Loaded> {
  const directories: LoadRequest["directories"] = {};
  for (const family of families) {
    const directory = family === "ipv4" ? args.iptables_dir : args.ip6tables_dir;
    if (await directoryExists(directory)) directories[family] = directory;
    else if (family === "ipv4" || families.length === 1) throw missingDirectory(directory);
  }
  const request = { directories, timeout: args.timeout, stateDirectory, keepUndeclared };
  return check ? planLoad(request) : load(request);
}

export interface Loaded {
  plans: Plan[];
  warnings: string[];
}

/** What a load would do to one family. */
export interface Plan {
  family: Family;
  assembled: Assembled;
  live: Live;
  /** Paths of container fragments from before this boot. */
  stale: string[];
  /** What others than root can change, of the directory and its fragments. */
  untrusted: Access[];
  /** Live rules that stand in no fragment, and will be gone. */
  lost: string[];
  changes: boolean;
}

/** Reads, assembles, tries. Changes nothing. Throws Failure `fragment_invalid`, `directory_unusable` and those of iptables. */
async function planLoad({ directories, timeout }: LoadRequest, seen: Kernel = {}): Promise<Loaded> {
  const families = FAMILIES.filter((family) => directories[family] !== undefined);
  const planned = await Promise.all(
    families.map((family) => planFamily(family, directories[family] ?? "", seen[family], timeout)),
  );
  const plans = planned.map(({ plan }) => plan);
  const untried = new Set(planned.flatMap(({ warnings }) => warnings));
  return { plans, warnings: [...untried, ...plans.flatMap(warningsOf)] };
}

async function planFamily(
  family: Family,
  directory: string,
  seen: Live | undefined,
  timeout: number,
): Promise<{ plan: Plan; warnings: string[] }> {
  const fragments = await readFragments(directory);
  const untrusted = await untrustedIn(directory, fragments);
  const { current, stale } = await sortByBoot(directory, fragments);
  // The trial needs nothing of the kernel's rules, so both go on side by side.
  const trial = refuseWhatFails(family, assemble(current, [], NO_RULES), timeout);
  const plan = async (): Promise<Plan> => {
    const live = seen ?? (await saveRules(family, timeout));
    const assembled = assemble(current, live.tables.keys(), live);
    return { family, assembled, live, stale: stale.map(({ path }) => path), untrusted, ...compare(assembled, live) };
  };
  const [warnings, planned] = await Promise.all([trial, plan()]);
  return { plan: planned, warnings };
}

const NO_RULES = readLive("");

/** Which live rules the text does not have, and whether it changes anything at all. */
function compare({ lines }: Assembled, live: Live): Pick<Plan, "lost" | "changes"> {
  const lost: string[] = [];
  const tables = new Map<string, string[]>();
  let open: string[] = [];
  for (const line of lines) {
    if (line.startsWith("*")) {
      open = [];
      tables.set(line.slice(1), open);
    } else if (line !== "COMMIT") open.push(line.replace(/ \[0:0\]$/, ""));
  }
  // A table that the kernel does not have yet is an empty one that accepts.
  let changes = [...tables].some(
    ([name, text]) => !live.tables.has(name) && text.some((line) => !/^:\S+ ACCEPT$/.test(line)),
  );
  for (const [name, table] of live.tables) {
    const text = tables.get(name) ?? [];
    const running = [...[...table.chains].map(([chain, policy]) => `:${chain} ${policy}`), ...table.lines];
    if (!sameTable(running, text)) changes = true;
    const known = new Set(text);
    const unknown = table.lines.filter((line) => !known.has(line));
    if (unknown.length === 0) continue;
    const keys = new Set(text.filter((line) => line.startsWith("-")).map((line) => keyOf(readWords(line))));
    for (const line of unknown) {
      if (!mayBeOurs(line) && !keys.has(keyOf(readWords(line)))) lost.push(line);
    }
  }
  return { lost, changes };
}

/** Whether two tables are the same: chains in any order, the rules of each chain in theirs, in whatever spelling. */
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
 * cannot be tried. Where all of their rules run already (`live`) it is not tried: then iptables takes them.
 */
export async function findBroken(
  family: Family,
  fragments: readonly Fragment[],
  live: Live,
  timeout: number,
): Promise<Failure | undefined> {
  const assembled = assemble(fragments, [], NO_RULES);
  if (assembled.problems.length === 0 && runs(assembled, live)) return undefined;
  const failed = await refuseWhatFails(family, assembled, timeout).then(() => undefined, asFailure);
  if (failed !== undefined) return failed.code === "fragment_invalid" ? failed : undefined;
  const read = await readOnHost(family, assembled.lines, timeout);
  return read.kind === "refused" ? refused(assembled, read.line, read.words) : undefined;
}

/** Whether the kernel has all chains and rules of a text, in whatever order, and perhaps more. */
function runs({ lines }: Assembled, live: Live): boolean {
  let table = "";
  return lines.every((line) => {
    if (line.startsWith("*")) table = line.slice(1);
    const running = live.tables.get(table);
    if (line.startsWith(":")) return builtInChains(table).includes(chainOf(line)) || running?.chains.has(chainOf(line));
    return !/^[[-]/.test(line) || running?.keys().has(keyOf(readWords(uncounted(line))));
  });
}

function chainOf(declaration: string): string {
  return declaration.slice(1).split(" ", 1)[0] ?? "";
}

/** Tries a text in a namespace. Returns a warning where it could not be tried. Throws Failure `fragment_invalid`, naming fragment, line and rule. */
export async function refuseWhatFails(family: Family, assembled: Assembled, timeout: number): Promise<string[]> {
  refuseProblems(assembled.problems);
  const trial = await tryLines(family, assembled.lines, timeout);
  if (trial.kind === "good") return [];
  if (trial.kind === "impossible") return [`the rules were not tried in a namespace of their own first: ${trial.why}`];
  throw refused(assembled, trial.line, trial.words);
}

function refused({ lines, origins }: Assembled, line: number | undefined, words: string): Failure {
  const rule = line === undefined ? undefined : lines[line];
  const origin = line === undefined ? undefined : origins[line];
  const where = origin ? `${origin.path} line ${origin.line}` : "the fragments together";
  const what = rule === undefined ? "" : ` '${rule}'`;
  return new Failure("fragment_invalid", `${where}: iptables refuses${what}: ${words}`, {
    ...(origin ? { path: origin.path, line: origin.line } : {}),
    ...(rule === undefined ? {} : { rule }),
    stderr: words,
  });
}

/** What the kernel refused though the trial did not, with the fragment where iptables says which line it was. */
function naming(assembled: Assembled, failure: Failure): Failure {
  const stderr = String(failure.facts["stderr"] ?? "");
  const line = lineOf(stderr);
  if (line === undefined || assembled.origins[line] === undefined) return failure;
  const { message, facts } = refused(assembled, line, complaintOf(stderr));
  return new Failure(failure.code, message, { ...facts, ...failure.facts }, { cause: failure });
}

function warningsOf({ family, stale, lost }: Plan): string[] {
  const word = family === "ipv4" ? "IPv4" : "IPv6";
  const left = stale.map((path) => `${path} is from before this boot; left out until 'create' confirms it`);
  if (lost.length === 0) return left;
  const more = lost.length > 3 ? ` and ${lost.length - 3} more` : "";
  return [...left, `${word} rules that stand in no fragment go: ${lost.slice(0, 3).join("; ")}${more}`];
}

/**
 * Loads the directories. Throws Failure: nothing was changed, or what was is put back; where the kernel had no rules yet,
 * the last good text is loaded, and the failure says so.
 */
export async function load(request: LoadRequest): Promise<Loaded> {
  return withLoadLock(Object.values(request.directories), request.timeout, async () => {
    const undo: Undo[] = [];
    const loading = orRollBack(undo, () => loadLocked(request, {}, undo));
    return loading.catch(async (error: unknown) => {
      throw await withLastGood(asFailure(error), request);
    });
  });
}

/**
 * The same for the holder of the load lock, who has perhaps just looked at the kernel, and who puts back what it has changed
 * when it fails: `undo` gets the steps.
 */
export async function loadLocked(request: LoadRequest, seen: Kernel = {}, undo: Undo[] = []): Promise<Loaded> {
  const planned = await planLoad(request, seen);
  for (const { family, assembled, live } of planned.plans.filter(({ changes }) => changes)) {
    undo.push(() => restoreSnapshot(family, live, undefined, request.timeout));
    await restoreRules(family, textOf(assembled), request.timeout).catch((error: unknown) => {
      throw naming(assembled, asFailure(error));
    });
  }
  return { ...planned, warnings: [...planned.warnings, ...(await keepLastGood(planned.plans, request))] };
}

function lastGood(family: Family, stateDirectory: string): string {
  return join(stateDirectory, `${family}.rules`);
}

/**
 * For the service's next boot, without the containers' rules; plain iptables-restore can load it. The rules are live: what
 * fails here is a warning.
 */
async function keepLastGood(plans: readonly Plan[], { stateDirectory }: LoadRequest): Promise<string[]> {
  if (stateDirectory === undefined) return [];
  try {
    await mkdir(stateDirectory, { recursive: true, mode: 0o700 });
    await clearTemporary(stateDirectory);
    for (const { family, assembled } of plans) {
      const { lines, origins } = assembled;
      const isLasting = (_: string, index: number) =>
        origins[index] !== CARRIED && !isContainers(basename(origins[index]?.path ?? ""));
      await replaceFragment(lastGood(family, stateDirectory), textOf({ lines: lines.filter(isLasting) }), {
        mode: 0o600,
      });
    }
    return [];
  } catch (error) {
    return [`the rules are loaded, but not kept for the next boot: ${wordsOf(error)}`];
  }
}

/** A host that boots is never open because of one bad file. */
async function withLastGood(failure: Failure, { directories, stateDirectory, timeout }: LoadRequest): Promise<Failure> {
  if (stateDirectory === undefined) return failure;
  const loaded: Family[] = [];
  const failed: string[] = [];
  for (const family of FAMILIES.filter((one) => directories[one] !== undefined)) {
    const live = await saveRules(family, timeout).catch(() => undefined);
    if (live === undefined || [...live.tables.values()].some(({ lines }) => lines.length > 0)) continue;
    try {
      await restoreRules(family, await readFile(lastGood(family, stateDirectory), "utf8"), timeout);
      loaded.push(family);
    } catch (error) {
      if (errno(error) !== "ENOENT") failed.push(`; the last good rules could not be loaded either: ${wordsOf(error)}`);
    }
  }
  if (loaded.length === 0 && failed.length === 0) return failure;
  const words = loaded.map((family) => (family === "ipv4" ? "IPv4" : "IPv6")).join(" and ");
  const done = words === "" ? "" : `; the kernel had no rules, so the last good ${words} rules were loaded instead`;
  const message = [failure.message, done, ...failed].join("");
  const told = new Failure(failure.code, message, { ...failure.facts, last_good: loaded }, { cause: failure });
  told.rolledBack = failure.rolledBack;
  told.changed = failure.changed || loaded.length > 0;
  return told;
}

/** What a failure of ours, or one of Node.js's, says. */
function wordsOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
