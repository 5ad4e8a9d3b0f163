// What the kernel has and no fragment declares: what a full load would remove, and the fragments that keep it. Pure.
//
// What a Docker daemon left that managed iptables itself is listed separately: our host rules and the containers' fragments replace
// it. Only rules that Docker is known to make count as Docker's; all others are the user's.

import { basename } from "node:path";
import { someOf } from "../text/words.ts";
import { type BridgeNetwork, DOCKER_CHAINS, DOCKER_USER, type DockerRules, dockerRulesOf } from "./docker-rules.ts";
import { isListChain } from "./list-chains.ts";
import type { Live, LiveTable } from "./live.ts";
import { isBareReturn, type Preserved, type PreservedTable, preservedOf } from "./preserved.ts";
import {
  byChain,
  COMMENTS,
  isInserted,
  isOurs,
  keyOf,
  type Rule,
  readAdded,
  readChain,
  readTarget,
  readWords,
  spell,
  unconditionalTarget,
  uncounted,
} from "./rule.ts";
import { builtInChains, tablesOf } from "./table-text.ts";

/** One family: what runs and is in no fragment. */
export interface Undeclared {
  /** A table without any is not there. */
  tables: ReadonlyMap<string, UndeclaredTable>;
  /** What is left over from a daemon that managed iptables. A table without any is not there. */
  dockers: ReadonlyMap<string, Leftover>;
}

/** What Docker left in one table. */
export interface Leftover {
  /** Docker's chains, and the one for the user where it holds nothing of his. */
  chains: readonly string[];
  /** As iptables-save prints them; in those chains, too. */
  rules: readonly string[];
  /** Whether FORWARD has the policy DROP, which Docker gives it. */
  drops: boolean;
}

export interface UndeclaredTable {
  /** The user-defined chains that the rules are in or jump to and no fragment declares. */
  chains: readonly string[];
  /** Built-in chain -> its policy, where it is not ACCEPT, which it would be after a boot. */
  policies: ReadonlyMap<string, string>;
  /** In the kernel's order. */
  rules: readonly UndeclaredRule[];
}

export interface UndeclaredRule {
  /** As iptables-save prints it. */
  line: string;
  /** Whether it belongs to the end of its built-in chain: what ends it for every packet, and what is behind. */
  last: boolean;
}

/** `fragments` are all that will be on disk, our own base included; `carried` is what a load keeps all the same. */
export function undeclaredOf(
  live: Live,
  fragments: readonly { text: string }[],
  networks: readonly BridgeNetwork[],
  carried: Preserved = preservedOf(live, fragments),
): Undeclared {
  const declared = declaredOf(fragments);
  const docker = dockerRulesOf(networks, live);
  const tables = new Map<string, UndeclaredTable>();
  const dockers = new Map<string, Leftover>();
  for (const [name, running] of live.tables) {
    const kept = carried.get(name) ?? NOTHING_CARRIED;
    const { table, leftover } = undeclaredTable(name, running, declared.get(name) ?? newDeclared(), docker, kept);
    if (leftover.rules.length + leftover.chains.length > 0) dockers.set(name, leftover);
    if (table.rules.length > 0 || table.policies.size > 0) tables.set(name, table);
  }
  return { tables, dockers };
}

const NOTHING_CARRIED: PreservedTable = { chains: [], lines: [], shared: new Set() };

/**
 * The text for `iptables-restore --noflush` that removes what Docker left, and nothing else; undefined where it left nothing.
 * `policies`: also FORWARD's DROP.
 */
export function leftoverText({ dockers }: Pick<Undeclared, "dockers">, policies: boolean): string | undefined {
  const text = [...dockers].flatMap(([table, { chains, rules, drops }]) => {
    const lines = [
      ...(drops && policies ? [":FORWARD ACCEPT [0:0]"] : []),
      ...rules.filter((rule) => !chains.includes(chainOf(rule))).map((rule) => `-D${rule.slice(2)}`),
      ...chains.map((chain) => `-F ${chain}`),
      ...chains.map((chain) => `-X ${chain}`),
    ];
    return lines.length === 0 ? [] : [`*${table}`, ...lines, "COMMIT", ""];
  });
  return text.length === 0 ? undefined : text.join("\n");
}

function chainOf(line: string): string {
  return /^-A (\S+)/.exec(line)?.[1] ?? "";
}

/** A line for each rule and policy, for messages: "-A INPUT -j DROP", ":FORWARD DROP", "nat: -A …". */
export function listUndeclared({ tables }: Pick<Undeclared, "tables">): string[] {
  return [...tables].flatMap(([name, { policies, rules }]) =>
    [...[...policies].map(([chain, policy]) => `:${chain} ${policy}`), ...rules.map(({ line }) => line)].map((line) =>
      name === "filter" ? line : `${name}: ${line}`,
    ),
  );
}

/** The texts of two fragments; undefined where one would be empty. */
export interface Adopted {
  /** For a name that sorts before all others. */
  first: string | undefined;
  /** For one that sorts behind the containers' fragments: after these rules a chain has ended. */
  last: string | undefined;
}

/** The fragments that declare what no other does. */
export function adopt({ tables }: Pick<Undeclared, "tables">): Adopted {
  const linesOf = (rules: readonly UndeclaredRule[], last: boolean) =>
    rules.filter((rule) => rule.last === last).map(({ line }) => line);
  const first = [...tables].flatMap(([name, { chains, policies, rules }]) =>
    section(name, [
      ...[...policies].map(([chain, policy]) => `:${chain} ${policy} [0:0]`),
      ...chains.map((chain) => `:${chain} - [0:0]`),
      ...linesOf(rules, false),
    ]),
  );
  const last = [...tables].flatMap(([name, { rules }]) => section(name, linesOf(rules, true)));
  return { first: adoptedText(FIRST, first), last: adoptedText(LAST, last) };
}

/** The names of those fragments. */
export const ADOPTED = { first: "00_existing", last: "95_existing" } as const;

/** Whether `setup --adopt` made a fragment, as its first line says. */
export function isAdopted({ text }: { text: string }): boolean {
  return text.split("\n", 1)[0]?.includes(BY_ADOPT) ?? false;
}

/**
 * Rules that were saved so, and that another fragment of the host now has, too: a sentence for each fragment that saved them.
 * `fragments` are one family's, in iptables' spelling; those without a path do not count.
 */
export function describeCopies(fragments: readonly { path: string; text: string }[]): string[] {
  const isSaved = ({ path }: { path: string }) => Object.values<string>(ADOPTED).includes(basename(path));
  const others = fragments.filter((one) => one.path !== "" && !isSaved(one));
  return fragments.filter(isSaved).flatMap((saved) => {
    const mine = declaredOf([saved]);
    const holders = others.filter((other) => copiesOf(mine, other).length > 0);
    const copies = [...new Set(holders.flatMap((other) => copiesOf(mine, other)))];
    if (copies.length === 0) return [];
    const where = [...new Set(holders.map(({ path }) => path))].join(", ");
    return [
      `${saved.path} has ${someOf(copies)}, which are now also in ${where}: delete them from ${saved.path}, where '--adopt' saved them, or they stay after you delete them there`,
    ];
  });
}

function copiesOf(mine: ReadonlyMap<string, Declared>, other: { text: string }): string[] {
  return [...declaredOf([other])].flatMap(([table, { lines }]) =>
    [...lines].filter((line) => mine.get(table)?.lines.has(line)),
  );
}

const BY_ADOPT = "'setup --adopt' saved them";
const SAVED = `ran here before docker_iptables was set up; ${BY_ADOPT}. They are yours to edit.`;
const FIRST = `# Rules that ${SAVED}`;
const LAST = `# Rules that end a chain for every packet, so that they come last, and ${SAVED}`;

function section(table: string, lines: readonly string[]): string[] {
  return lines.length === 0 ? [] : [`*${table}`, ...lines, "COMMIT"];
}

function adoptedText(head: string, lines: readonly string[]): string | undefined {
  return lines.length === 0 ? undefined : [head, ...lines, ""].join("\n");
}

/** What the fragments say of one table. */
interface Declared {
  /** The lines of rules, without counters. */
  lines: Set<string>;
  /** Chains of their own. */
  chains: Set<string>;
  /** Built-in chains whose policy is stated. */
  policies: Set<string>;
  /** Made when first needed. */
  keys(): Keys;
}

/** The keys of rules. */
interface Keys {
  all: ReadonlySet<string>;
  /** Those of rules of ours without our comment. */
  bare: ReadonlySet<string>;
}

function newDeclared(): Declared {
  const lines = new Set<string>();
  let made: Keys | undefined;
  const keys = () => {
    made ??= keysOf([...lines].map(readWords));
    return made;
  };
  return { lines, chains: new Set(), policies: new Set(), keys };
}

function declaredOf(fragments: readonly { text: string }[]): Map<string, Declared> {
  const tables = new Map<string, Declared>();
  for (const fragment of fragments) {
    for (const { table, chains, lines } of tablesOf(fragment).sections) {
      const into = tables.get(table) ?? newDeclared();
      tables.set(table, into);
      for (const [chain, policy] of chains) (policy === "-" ? into.chains : into.policies).add(chain);
      for (const line of lines) addLine(into, uncounted(line.text));
    }
  }
  return tables;
}

function addLine({ lines, chains, policies }: Declared, line: string): void {
  lines.add(line);
  if (/^-(A|-append) /.test(line)) return;
  const [option, chain] = readWords(line);
  if (chain === undefined) return;
  if (option === "-N" || option === "--new-chain") chains.add(chain);
  if (option === "-P" || option === "--policy") policies.add(chain);
}

function keysOf(lines: readonly Rule[]): Keys {
  const all = new Set<string>();
  const bare = new Set<string>();
  for (const words of lines) {
    const rule = readAdded(words)?.rule;
    if (rule === undefined) continue;
    all.add(keyOf(rule));
    // What we insert replaces no rule of the original script or of Docker.
    if (!isOurs(rule) || isInserted(words)) continue;
    const at = rule.indexOf("--comment");
    bare.add(keyOf([...rule.slice(0, at - 2), ...rule.slice(at + 2)]));
  }
  return { all, bare };
}

/** A live rule that no fragment declares as it is. */
interface ForeignRule {
  /** Its place in the table. */
  at: number;
  line: string;
  words: Rule;
  key: string;
  chain: string;
  target: string | undefined;
  /** Whether a rule of ours does the same: then it is declared, unless it is Docker's. */
  isReplaced: boolean;
}

function undeclaredTable(
  name: string,
  running: LiveTable,
  declared: Declared,
  docker: DockerRules,
  carried: PreservedTable,
): { table: UndeclaredTable; leftover: Leftover } {
  const stays = new Set(carried.lines.filter((line) => !carried.shared.has(chainOf(line))));
  const foreign = foreignRulesOf(running, declared).filter(({ line }) => !stays.has(line));
  const { isDockers, used } = dockersTest(name, foreign, declared, docker, carried);
  const theirs = new Set(foreign.filter(isDockers).map(({ at }) => at));
  const kept = foreign.filter(({ at, isReplaced }) => !theirs.has(at) && !isReplaced);
  const needed = new Set(kept.flatMap(({ chain, target }) => [chain, target]));
  const isOthers = (chain: string) =>
    !chain.startsWith("DOCKER") && !isListChain(chain) && !carried.chains.includes(chain);
  // Empty chains that nothing jumps to stay, too, with their fellows: ufw's scripts flush some by name.
  const isKept = (chain: string) => needed.has(chain) || (kept.length > 0 && isOthers(chain));
  const chains = [...running.chains].filter(
    ([chain, policy]) => policy === "-" && isKept(chain) && !declared.chains.has(chain),
  );
  const dockersDrop = name === "filter" && [...running.chains.keys()].some((chain) => DOCKER_CHAINS.has(chain));
  const policies = [...running.chains].filter(
    ([chain, policy]) =>
      policy !== "-" &&
      policy !== "ACCEPT" &&
      !declared.policies.has(chain) &&
      !(dockersDrop && chain === "FORWARD" && policy === "DROP"),
  );
  const last = lastOf(name, running, kept, theirs);
  const rules = kept.map(({ at, line }) => ({ line, last: last.has(at) }));
  return {
    table: { chains: chains.map(([chain]) => chain), policies: new Map(policies), rules },
    leftover: {
      chains: [...running.chains.keys()].filter(
        (chain) =>
          (DOCKER_CHAINS.has(chain) || (chain === DOCKER_USER && !used)) &&
          !declared.chains.has(chain) &&
          !carried.chains.includes(chain),
      ),
      // A chain of the user's keeps its end.
      rules: foreign.filter(({ at, line }) => theirs.has(at) && !(used && isBareReturn(line))).map(({ line }) => line),
      drops: dockersDrop && running.chains.get("FORWARD") === "DROP" && !declared.policies.has("FORWARD"),
    },
  };
}

function foreignRulesOf({ lines }: LiveTable, declared: Declared): ForeignRule[] {
  return lines.flatMap((counted, at): ForeignRule[] => {
    const line = uncounted(counted);
    if (declared.lines.has(line)) return [];
    const words = readWords(line);
    const chain = readChain(words);
    if (chain === undefined || isOurs(words)) return [];
    const key = keyOf(words);
    const { all, bare } = declared.keys();
    return all.has(key) ? [] : [{ at, line, words, key, chain, target: readTarget(words), isReplaced: bare.has(key) }];
  });
}

/** Which undeclared rules of a table are Docker's own, and whether its chain for the user holds anything of his. */
function dockersTest(
  table: string,
  foreign: readonly ForeignRule[],
  declared: Declared,
  docker: DockerRules,
  carried: PreservedTable,
): { isDockers: (rule: ForeignRule) => boolean; used: boolean } {
  // A RETURN of Docker's is at the chain's end; one with rules behind it keeps packets from them.
  const byUser = foreign.filter(
    ({ chain, line, target }) => chain === DOCKER_USER && !isBareReturn(line) && !DOCKER_CHAINS.has(target ?? ""),
  );
  const lastByUser = byUser.at(-1)?.at ?? -1;
  const naming = [...declared.lines]
    .filter((line) => line.includes(DOCKER_USER))
    .map((line) => readAdded(readWords(line))?.rule ?? []);
  const used =
    byUser.length > 0 ||
    carried.chains.includes(DOCKER_USER) ||
    naming.some((rule) => rule[1] === DOCKER_USER && !isBareReturn(spell(rule)));
  // Then our own jump, or one of the user's, does what Docker's did.
  const hasJump = naming.some((rule) => rule[1] === "FORWARD" && unconditionalTarget(spell(rule)) === DOCKER_USER);
  const isKnown = docker(table);
  const isDockers = ({ at, line, words, key, chain, target }: ForeignRule) => {
    if (DOCKER_CHAINS.has(chain) || DOCKER_CHAINS.has(target ?? "")) return true;
    if (chain === DOCKER_USER && isBareReturn(line)) return at > lastByUser;
    if (line === `-A FORWARD -j ${DOCKER_USER}` && hasJump) return true;
    return (target === DOCKER_USER && !used && !hasJump) || isKnown(words, key);
  };
  return { isDockers, used };
}

const LOGS = new RegExp(
  String.raw`^-A \S+ ${COMMENTS}(?:-m limit --limit \S+ (?:--limit-burst \d+ )?)?${COMMENTS}-j (?:LOG|NFLOG)(?: |$)`,
);
const VERDICT = /^(ACCEPT|DROP|REJECT|QUEUE)$/;

/**
 * The places of the undeclared rules at the end of built-in chains: from the first rule on that ends the chain for every
 * packet, be it declared or not, and what logs right before it.
 */
function lastOf(
  table: string,
  running: LiveTable,
  kept: readonly ForeignRule[],
  dockers: ReadonlySet<number>,
): ReadonlySet<number> {
  const builtIn = new Set(builtInChains(table));
  const keeping = new Map(kept.map((rule) => [rule.at, rule]));
  const endsAll = endingChains(running);
  const last = new Set<number>();
  const ended = new Set<string>();
  const logging = new Map<string, number[]>();
  for (const [at, counted] of running.lines.entries()) {
    const line = uncounted(counted);
    const chain = chainOf(line);
    if (!builtIn.has(chain) || dockers.has(at)) continue;
    const target = unconditionalTarget(line) ?? "";
    // What DOCKER-USER decides it decides before the containers' rules: its jump stays in front.
    if (
      !ended.has(chain) &&
      (target === "RETURN" || VERDICT.test(target) || (target !== DOCKER_USER && endsAll(target)))
    ) {
      ended.add(chain);
      for (const log of logging.get(chain) ?? []) last.add(log);
    }
    if (!keeping.has(at)) continue;
    if (ended.has(chain)) last.add(at);
    else if (!LOGS.test(line)) logging.delete(chain);
    else if (logging.has(chain)) logging.get(chain)?.push(at);
    else logging.set(chain, [at]);
  }
  return last;
}

/** Whether a chain of its own has a verdict for every packet, so that none returns from it. */
function endingChains({ lines, chains }: LiveTable): (chain: string) => boolean {
  let rules: Map<string, string[]> | undefined;
  const known = new Map<string, boolean>();
  const endsAll = (chain: string): boolean => {
    if (chains.get(chain) !== "-") return false;
    const cached = known.get(chain);
    if (cached !== undefined) return cached;
    rules ??= byChain(lines);
    known.set(chain, false); // A jump back to here, which no kernel takes, ends nothing.
    const ends = endsRules(rules.get(chain) ?? [], endsAll);
    known.set(chain, ends);
    return ends;
  };
  return endsAll;
}

function endsRules(lines: readonly string[], endsAll: (chain: string) => boolean): boolean {
  for (const line of lines) {
    const always = unconditionalTarget(line) ?? "";
    if (VERDICT.test(always) || endsAll(always)) return true;
    const words = readWords(line);
    const target = readTarget(words) ?? "";
    // From a chain that a goto entered a packet returns to where this one was called.
    if (target === "RETURN" || (words.includes("-g") && !endsAll(target))) return false;
  }
  return false;
}
