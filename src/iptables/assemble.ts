// Many fragments -> one text for iptables-restore: each table once, each chain once, every policy stated. Pure.
//
// Given the fragments one after another, iptables-restore flushes nat again at every `*nat` line, and refuses a
// fragment that names a chain which an earlier one declared (tried, 1.8.9, both backends).

import type { Access } from "../model/access.ts";
import { Failure } from "../model/errors.ts";
import type { Owner } from "../model/owner.ts";
import type { Live } from "./live.ts";
import { preservedOf } from "./preserved.ts";
import { isInserted, mayBeOurs, readWords, TABLES, uncounted } from "./rule.ts";
import { builtInChains, tablesOf } from "./table-text.ts";

export interface Fragment {
  path: string;
  /** In iptables' words, whatever those of its file are. */
  text: string;
  /** Undefined where the file's name says it. */
  owner?: Owner;
  /** As the file has it, where that is not the text. */
  file?: string;
  /** Undefined of one that is not written yet. */
  access?: Access;
}

export interface FragmentProblem {
  path: string;
  line: number;
  why: string;
}

export interface Assembled {
  /** The lines of the text, without their ends. */
  lines: string[];
  /** Where each line comes from; undefined for what no fragment wrote: table names, policies, COMMIT. */
  origins: (Origin | undefined)[];
  problems: FragmentProblem[];
}

interface Origin {
  path: string;
  line: number;
}

/** The origin of what was not written, and runs: it is nothing for the next boot. */
export const PRESERVED: Origin = { path: "", line: 0 };

interface Line {
  text: string;
  origin: Origin;
}

interface Table {
  chains: Map<string, string>;
  rules: Line[];
  /** What we insert. */
  front: Line[];
}

function newTable(): Table {
  return { chains: new Map(), rules: [], front: [] };
}

/**
 * The fragments, in the order given, as one text.
 *
 * `alsoTables` are named even if no fragment names them, so that they are emptied. A built-in chain whose policy no fragment states
 * keeps the kernel's: on the nft backend a `*filter` without `:FORWARD` resets a DROP policy to ACCEPT (tried). What a load keeps
 * comes first, a swarm's jumps where dockerd puts them. What we insert comes last, so that it ends up before anything that other
 * fragments insert.
 */
export function assemble(fragments: readonly Fragment[], alsoTables: Iterable<string>, live: Live): Assembled {
  const { tables, problems } = collect(fragments);
  for (const name of alsoTables) if (!tables.has(name)) tables.set(name, newTable());
  const carried = preservedOf(live, fragments);
  const assembled: Assembled = { lines: [], origins: [], problems };
  const add = (line: string, origin?: Origin) => {
    assembled.lines.push(line);
    assembled.origins.push(origin);
  };
  for (const [name, { chains, rules, front }] of [...tables].sort(([a], [b]) => tableOrder(a) - tableOrder(b))) {
    add(`*${name}`);
    for (const [chain, policy] of withPolicies(name, chains, live)) add(`:${chain} ${policy} [0:0]`);
    const kept = carried.get(name);
    for (const chain of kept?.chains ?? []) if (!chains.has(chain)) add(`:${chain} - [0:0]`, PRESERVED);
    for (const line of kept?.lines ?? []) add(line, PRESERVED);
    for (const { text, origin } of [...rules, ...front]) add(text, origin);
    add("COMMIT");
  }
  return assembled;
}

/** A file that is no fragment at all may have a problem a line. */
const MOST_LISTED = 20;

/** Throws Failure `fragment_invalid`, naming file and line, if there is a problem. */
export function refuseProblems(problems: readonly FragmentProblem[]): void {
  const [first] = problems;
  if (first === undefined) return;
  throw new Failure("fragment_invalid", `${first.path} line ${first.line}: ${first.why}`, {
    ...first,
    problems: problems.slice(0, MOST_LISTED),
  });
}

/** The text for iptables-restore. */
export function textOf({ lines }: Pick<Assembled, "lines">): string {
  return [...lines, ""].join("\n");
}

/** All sections of all fragments, by table. A chain that is declared again keeps its rules, and its policy against "-". */
function collect(fragments: readonly Fragment[]) {
  const tables = new Map<string, Table>();
  const problems: FragmentProblem[] = [];
  for (const fragment of fragments) {
    const { path } = fragment;
    const read = tablesOf(fragment);
    for (const problem of read.problems) problems.push({ path, ...problem });
    for (const section of read.sections) {
      const table = tables.get(section.table) ?? newTable();
      tables.set(section.table, table);
      for (const [chain, policy] of section.chains) {
        if (policy !== "-" || !table.chains.has(chain)) table.chains.set(chain, policy);
      }
      for (const line of section.lines) {
        const created = newChain(line.text);
        if (created === undefined) {
          const rules = isFront(line.text) ? table.front : table.rules;
          rules.push({ text: line.text, origin: { path, line: line.number } });
        } else if (!table.chains.has(created)) table.chains.set(created, "-");
      }
    }
  }
  return { tables, problems };
}

/** Whether a line is one that we insert; most can be told apart without their words. */
export function isFront(line: string): boolean {
  return /-I|--ins/.test(line) && mayBeOurs(line) && isInserted(readWords(uncounted(line)));
}

/** `-N CHAIN` is a declaration in other words; as a line it would fail on a chain that is declared too. */
function newChain(line: string): string | undefined {
  if (!line.startsWith("-N") && !line.startsWith("--new-chain")) return undefined;
  const [option, chain] = readWords(line);
  return option === "-N" || option === "--new-chain" ? chain : undefined;
}

/** A "-" states no policy; for a built-in chain the nft backend would take it for ACCEPT (tried). */
function withPolicies(table: string, chains: Map<string, string>, live: Live): Map<string, string> {
  const running = live.tables.get(table)?.chains;
  const all = new Map<string, string>();
  for (const chain of builtInChains(table)) {
    const stated = chains.get(chain) ?? "-";
    all.set(chain, stated === "-" ? (running?.get(chain) ?? "ACCEPT") : stated);
  }
  for (const [chain, policy] of chains) if (!all.has(chain)) all.set(chain, policy);
  return all;
}

function tableOrder(name: string): number {
  const order: readonly string[] = TABLES;
  return order.includes(name) ? order.indexOf(name) : -1;
}
