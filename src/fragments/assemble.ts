// Many fragments -> one text for iptables-restore: each table once, each chain once, every policy stated. Pure.
//
// Given the fragments one after another, iptables-restore flushes nat again at every `*nat` line, and refuses a
// fragment that names a chain which an earlier one declared (tried, 1.8.9, both backends).

import type { Live } from "../rules/live.ts";
import { readWords, TABLES } from "../rules/rule.ts";
import { builtInChains, readTables } from "../rules/table-text.ts";

export interface Fragment {
  path: string;
  text: string;
}

export interface FragmentProblem {
  path: string;
  line: number;
  why: string;
}

interface Assembled {
  text: string;
  problems: FragmentProblem[];
}

/**
 * The fragments, in the order given, as one text.
 *
 * `alsoTables` are named even if no fragment names them: those of a fragment that is gone, so that its rules go.
 * A built-in chain whose policy no fragment states keeps the kernel's: on the nft backend a `*filter` without
 * `:FORWARD` resets a DROP policy to ACCEPT (tried).
 */
export function assemble(fragments: readonly Fragment[], alsoTables: Iterable<string>, live: Live): Assembled {
  const tables = new Map<string, { chains: Map<string, string>; lines: string[] }>();
  const problems: FragmentProblem[] = [];
  const open = (name: string) => {
    const table = tables.get(name) ?? { chains: new Map<string, string>(), lines: [] };
    tables.set(name, table);
    return table;
  };
  for (const { path, text } of fragments) {
    const read = readTables(text);
    for (const problem of read.problems) problems.push({ path, ...problem });
    for (const section of read.sections) {
      const table = open(section.table);
      for (const [chain, policy] of section.chains) {
        if (policy !== "-" || !table.chains.has(chain)) table.chains.set(chain, policy);
      }
      for (const line of section.lines) {
        const created = newChain(line.text);
        if (created === undefined) table.lines.push(line.text);
        else if (!table.chains.has(created)) table.chains.set(created, "-");
      }
    }
  }
  for (const name of alsoTables) open(name);
  const ordered = [...tables].sort(([a], [b]) => tableOrder(a) - tableOrder(b));
  const text = ordered.flatMap(([name, { chains, lines }]) => [
    `*${name}`,
    ...[...withPolicies(name, chains, live)].map(([chain, policy]) => `:${chain} ${policy} [0:0]`),
    ...lines,
    "COMMIT",
  ]);
  return { text: [...text, ""].join("\n"), problems };
}

/** `-N CHAIN` is a declaration in other words; as a line it would fail on a chain that is declared too. */
function newChain(line: string): string | undefined {
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
