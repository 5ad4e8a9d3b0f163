// What runs, is in no fragment, and is kept through every load: other programs change it while the host runs. That is a
// swarm's routing mesh, and the user's own chain, with what it asks. Pure.
//
// Docker never flushes DOCKER-USER: what fail2ban, crowdsec, ufw-docker or a person has put there stays until they remove it, and
// is not kept for the next boot.

import { DOCKER_CHAINS, DOCKER_USER } from "./docker-rules.ts";
import type { Live, LiveTable } from "./live.ts";
import { INGRESS_CHAIN, meshOf } from "./mesh.ts";
import { byChain, readChain, readTarget, readWords, uncounted } from "./rule.ts";
import { tablesOf } from "./table-text.ts";

/** What is kept of one table. */
export interface PreservedTable {
  /** The user-defined chains of the lines. */
  chains: readonly string[];
  /** As iptables-save prints them, in the order of each chain. */
  lines: readonly string[];
  /** Of the chains those that rules of others ask, too: whose they are as well, the lines do not say. */
  shared: ReadonlySet<string>;
}

/** By table; one of which nothing is kept is not there. */
export type Preserved = ReadonlyMap<string, PreservedTable>;

/** What a load of these fragments keeps. */
export function preservedOf(live: Live, fragments: readonly { text: string }[]): Preserved {
  const carried = new Map(preservedMesh(live, fragments));
  const users = usersOf(live.tables.get("filter"), fragments);
  if (users === undefined) return carried;
  const { chains, lines } = carried.get("filter") ?? { chains: [], lines: [] };
  carried.set("filter", { ...users, chains: [...chains, ...users.chains], lines: [...lines, ...users.lines] });
  return carried;
}

/** The mesh alone. */
export function preservedMesh(live: Live, fragments: readonly { text: string }[]): Preserved {
  return new Map(
    [...meshOf(live, fragments)].map(([name, lines]) => {
      const chains = lines.some((line) => line.includes(INGRESS_CHAIN)) ? [INGRESS_CHAIN] : [];
      return [name, { chains, lines, shared: new Set<string>() }];
    }),
  );
}

/** The text of a snapshot in which the kept part is another: its lines come first, as in a load. */
export function withPreserved({ text, tables }: Live, was: Preserved, is: Preserved): string {
  const lines: string[] = [];
  let table = "";
  let isBefore = false;
  for (const line of text.split("\n")) {
    if (line.startsWith("*")) {
      table = line.slice(1);
      isBefore = true;
    } else if (isBefore && !line.startsWith(":")) {
      isBefore = false;
      const { chains = [], lines: kept = [] } = is.get(table) ?? {};
      const missing = chains.filter((chain) => tables.get(table)?.chains.has(chain) !== true);
      lines.push(...missing.map((chain) => `:${chain} - [0:0]`), ...kept);
    }
    if (was.get(table)?.lines.includes(uncounted(line)) !== true) lines.push(line);
  }
  return lines.join("\n");
}

/** A rule that Docker makes there up to version 27, and that is not needed. */
export function isBareReturn(line: string): boolean {
  return line === `-A ${DOCKER_USER} -j RETURN`;
}

/** The user's chain and those that it asks, as far as no fragment has rules in them; undefined where one has rules in the first. */
function usersOf(table: LiveTable | undefined, fragments: readonly { text: string }[]): PreservedTable | undefined {
  if (table === undefined || !table.lines.some((line) => line.includes(`-A ${DOCKER_USER} `))) return undefined;
  const decided = decidedChains(fragments);
  if (decided.has(DOCKER_USER)) return undefined;
  const running = byChain(table.lines);
  const lines: string[] = [];
  const chains = new Set([DOCKER_USER]);
  for (const chain of chains) {
    for (const line of running.get(chain) ?? []) {
      const target = readTarget(readWords(line)) ?? "";
      if (DOCKER_CHAINS.has(target)) continue;
      lines.push(line);
      if (table.chains.get(target) === "-" && !decided.has(target)) chains.add(target);
    }
  }
  if (lines.every(isBareReturn)) return undefined;
  return { chains: [...chains], lines, shared: sharedOf(chains, running) };
}

/** The chains of the filter table that fragments have rules in. */
function decidedChains(fragments: readonly { text: string }[]): Set<string> {
  const sections = fragments.flatMap((one) => tablesOf(one).sections.filter(({ table }) => table === "filter"));
  const lines = sections.flatMap((section) => section.lines.map(({ text }) => readWords(uncounted(text))));
  return new Set(lines.flatMap((words) => readChain(words) ?? []));
}

/** Those of `chains` that other chains ask, and what those ask in their turn; the user's chain itself is never one. */
function sharedOf(chains: ReadonlySet<string>, running: ReadonlyMap<string, readonly string[]>): Set<string> {
  const asked = [...chains].filter((chain) => chain !== DOCKER_USER);
  // Others' rules may be many, and few are worth reading.
  const targets = (lines: readonly string[] = []) =>
    lines
      .filter((line) => asked.some((chain) => line.includes(` ${chain}`)))
      .map((line) => readTarget(readWords(line)) ?? "");
  const others = [...running].filter(([chain]) => !chains.has(chain)).flatMap(([, lines]) => targets(lines));
  const shared = new Set(others.filter((target) => asked.includes(target)));
  for (const chain of shared) for (const one of targets(running.get(chain))) if (asked.includes(one)) shared.add(one);
  return shared;
}
