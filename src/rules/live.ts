// The kernel's rules, as iptables-save prints them, and what differs from the rules that should be there. Pure.

import { acceptAhead } from "./ahead.ts";
import {
  commentOf,
  isInserted,
  keyOf,
  mayBeOurs,
  type Rule,
  readChain,
  readComment,
  readWords,
  unconditionalTarget,
} from "./rule.ts";
import { builtInChains, readTables } from "./table-text.ts";

/** One family's rules in the kernel. */
export interface Live {
  /** The output of iptables-save, word for word: the snapshot to go back to. */
  text: string;
  tables: ReadonlyMap<string, LiveTable>;
  /** Whether the legacy backend has tables, too. */
  besideLegacy?: boolean;
}

export interface LiveTable {
  /** Chain -> policy; "-" for a user's chain. */
  chains: ReadonlyMap<string, string>;
  /** Lines as they stand. */
  lines: readonly string[];
  /** Key of each rule that carries a comment of ours -> its place in the table. */
  ours: ReadonlyMap<string, number>;
  /** What some rule jumps or goes to. */
  targets: ReadonlySet<string>;
  /** Comment of ours -> keys of the rules that carry it. */
  byComment: ReadonlyMap<string, readonly string[]>;
  /** Keys of all rules; made when first asked for, because other people's rules may be many. */
  keys(): ReadonlySet<string>;
}

/** Reads the output of iptables-save or ip6tables-save. */
export function readLive(text: string): Live {
  const tables = new Map<string, LiveTable>();
  for (const { table, chains, lines } of readTables(text).sections) {
    tables.set(
      table,
      liveTable(
        chains,
        lines.map((line) => line.text),
      ),
    );
  }
  return { text, tables };
}

function liveTable(chains: Map<string, string>, lines: string[]): LiveTable {
  const ours = new Map<string, number>();
  const byComment = new Map<string, string[]>();
  const targets = new Set<string>();
  for (const [index, line] of lines.entries()) {
    const target = / (?:-j|-g|--jump|--goto) (\S+)/.exec(line)?.[1];
    if (target !== undefined) targets.add(target);
    if (!mayBeOurs(line)) continue;
    const rule = readWords(line);
    const comment = readComment(rule);
    if (comment === undefined || readChain(rule) === undefined) continue;
    const key = keyOf(rule);
    if (!ours.has(key)) ours.set(key, index);
    const known = byComment.get(comment);
    if (known) known.push(key);
    else byComment.set(comment, [key]);
  }
  let all: Set<string> | undefined;
  const keys = () => {
    all ??= new Set(lines.map((line) => keyOf(readWords(line))));
    return all;
  };
  return { chains, lines, ours, targets, byComment, keys };
}

/** Whose rules of ours run: a container's name, a file of the base in parentheses, or whatever somebody wrote there. */
export function liveOwners({ tables }: Live): Set<string> {
  const comments = [...tables.values()].flatMap(({ byComment }) => [...byComment.keys()]);
  return new Set(comments.map((comment) => comment.slice(commentOf("").length)));
}

/** What differs between the rules of one fragment of ours and the kernel. */
export interface Drift {
  /** Rules that should be live and are not. */
  missing: Rule[];
  /** How many live rules carry the fragment's comment, or stood in its former text, and should not be there. */
  surplus: number;
  /** All are there, in another order. */
  disordered: boolean;
  /** A live rule before one that should stand in front, and that may accept what goes to the fragment's bridges. */
  ahead?: string | undefined;
  /** A chain of the DNAT rules to which nothing live jumps, so that they never match. */
  unreached?: string;
}

export function drifts({ missing, surplus, disordered, ahead, unreached }: Drift): boolean {
  return missing.length > 0 || surplus > 0 || disordered || ahead !== undefined || unreached !== undefined;
}

/** Rules by table. */
export type Tables = ReadonlyMap<string, readonly Rule[]>;

/**
 * Compares the wanted rules of one fragment, in one family, with the kernel. `owner` is whose they are in their comment.
 *
 * `former` are the rules of the fragment that is being replaced: those of the original script carry no comment, and
 * only from the file is it known that they were this container's.
 */
export function compareLive(owner: string, wanted: Tables, former: Tables, live: Live): Drift {
  const drift: Drift = { missing: [], surplus: 0, disordered: false };
  for (const table of new Set([...wanted.keys(), ...former.keys(), ...live.tables.keys()])) {
    const rules = wanted.get(table) ?? [];
    const running = live.tables.get(table);
    const keys = new Set(rules.map(keyOf));
    const places = new Map<string, number>();
    for (const rule of rules) {
      const place = running?.ours.get(keyOf(rule));
      const chain = readChain(rule) ?? "";
      if (place === undefined) drift.missing.push(rule);
      else if (place < (places.get(chain) ?? -1)) drift.disordered = true;
      else places.set(chain, place);
      if (running !== undefined && isInserted(rule)) drift.ahead ??= acceptAhead(rule, rules, running);
    }
    const strays = running?.byComment.get(commentOf(owner)) ?? [];
    drift.surplus += strays.filter((key) => !keys.has(key)).length;
    const uncommented = (former.get(table) ?? []).filter((rule) => readComment(rule) !== commentOf(owner));
    drift.surplus += uncommented.map(keyOf).filter((key) => !keys.has(key) && running?.keys().has(key)).length;
  }
  const builtIn: readonly (string | undefined)[] = builtInChains("nat");
  const chain = wanted
    .get("nat")
    ?.map(readChain)
    .find((one) => !builtIn.includes(one));
  if (chain !== undefined && !live.tables.get("nat")?.targets.has(chain)) drift.unreached = chain;
  return drift;
}

/** The first rule of a chain that refuses every packet that comes so far, and which live rules of ours stand behind it. */
export function barrierOf(
  table: string,
  chain: string,
  { tables }: Live,
): { rule: string; hides: (ours: Rule) => boolean } | undefined {
  const running = tables.get(table);
  const refusesAll = (line: string) =>
    line.startsWith(`-A ${chain} `) && /^(DROP|REJECT)$/.test(unconditionalTarget(line) ?? "");
  const place = running?.lines.findIndex(refusesAll) ?? -1;
  const rule = running?.lines[place];
  return rule === undefined ? undefined : { rule, hides: (ours) => (running?.ours.get(keyOf(ours)) ?? -1) > place };
}

/** Whether Docker keeps rules of its own: something in nat jumps to its chain DOCKER. */
export function hasDockersRules({ tables }: Live): boolean {
  return (tables.get("nat")?.lines ?? []).some((line) => / -j DOCKER(\s|$)/.test(line));
}

/** The text without what changes by itself: counters and the comments with date and version. */
export function withoutCounters(text: string): string {
  return text
    .split("\n")
    .filter((line) => !line.startsWith("#"))
    .map((line) => line.replace(/ ?\[\d+:\d+\]/, ""))
    .join("\n");
}
