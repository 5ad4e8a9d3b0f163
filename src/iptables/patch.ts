// Fragments and live rules -> the text for `iptables-restore --noflush` that exchanges our rules and no others. Pure.
//
// Between iptables-save and iptables-restore another process may change a chain: nothing prevents it. So a rule of ours is deleted
// by its text (a number might hit a foreign rule), and a chain is created with -N (a second `:CHAIN` would flush it). Only
// insertions have numbers; at worst such a rule ends up next to its place. A number refers to the chain as the lines before it
// leave it, with both backends (tried).
//
// Where our rules are put: a live rule that a foreign fragment declares is an anchor, and ours stay on the side of it on which a
// full load would put them. Between two anchors new rules join the ones that are there; when there are none, they are appended, but
// before a rule that ends the chain for every packet. What we insert is put at the front of its chain, before all others, and moved
// back there when another rule was inserted before it.

import { isManaged } from "./fragment-text.ts";
import { increasing } from "./increasing.ts";
import { idleLists } from "./list-chains.ts";
import type { Live, LiveTable, Tables } from "./live.ts";
import {
  byChain,
  isInserted,
  isOurs,
  keyOf,
  mayBeOurs,
  type Rule,
  readAdded,
  readChain,
  readTarget,
  readWords,
  spell,
  TABLES,
  unconditionalTarget,
  uncounted,
} from "./rule.ts";
import { tablesOf } from "./table-text.ts";

/** A rule that should be there: ours, or a foreign one that serves as an anchor. There are many of those, and few are ever read. */
class Declared {
  ours: boolean;
  readonly line: string;
  /** Whether it is ours and belongs before all others, whoever inserts them. */
  readonly front: boolean;
  #words: Rule | undefined;

  constructor(line: string, ours: boolean, inserted = false) {
    this.line = uncounted(line);
    this.ours = ours || (mayBeOurs(line) && isOurs(this.words));
    this.front = inserted && this.ours;
  }

  get words(): Rule {
    this.#words ??= readWords(this.line);
    return this.#words;
  }

  get key(): string {
    return keyOf(this.words);
  }
}

interface GoalTable {
  /** Chains of their own that fragments declare. */
  declared: Set<string>;
  chains: Map<string, Declared[]>;
  /** Key of a rule of ours without our comment -> how many live ones are ours. */
  bare: Map<string, number>;
}

/** One family's rules as they should be. */
export type Goal = ReadonlyMap<string, GoalTable>;

/**
 * What the fragments, in their order, require of the kernel. Our fragments are those with our header line.
 *
 * `former` are the rules of fragments that were replaced: the original script's carry no comment, and only from the
 * file is it known that they were ours. Where nothing live jumps to a chain that our rules need, the jumps that other
 * fragments declare count as ours: without them our rules would never match.
 */
export function goalOf(fragments: readonly { text: string }[], former: readonly Tables[], live: Live): Goal {
  const goal = new Map<string, GoalTable>();
  for (const fragment of fragments) {
    const ours = isManaged(fragment.text);
    for (const { table, chains, lines } of tablesOf(fragment).sections) {
      const into = goalTable(goal, table);
      for (const [chain, policy] of chains) if (policy === "-") into.declared.add(chain);
      for (const line of lines) addLine(into, line.text, ours);
    }
  }
  for (const [name, table] of goal) {
    for (const rules of table.chains.values()) rules.sort((a, b) => Number(b.front) - Number(a.front));
    takeNeeded(table, live.tables.get(name)?.lines ?? []);
    countBare(table);
  }
  for (const [table, rules] of former.flatMap((tables) => [...tables])) addFormer(goalTable(goal, table), rules);
  return goal;
}

/** The rollback: our rules as a snapshot has them. */
export function goalOfSnapshot(snapshot: Live, undone: Goal): Goal {
  const goal = new Map<string, GoalTable>();
  for (const name of new Set([...undone.keys(), ...snapshot.tables.keys()])) {
    const bare = undone.get(name)?.bare ?? new Map<string, number>();
    const running = snapshot.tables.get(name);
    const chains = new Map<string, Declared[]>();
    for (const [chain, lines] of byChain(running?.lines ?? [])) {
      chains.set(
        chain,
        readRunning(lines, bare).map(({ line, ours }) => new Declared(line, ours)),
      );
    }
    goal.set(name, { declared: new Set(running?.chains.keys()), chains, bare });
  }
  return goal;
}

/** The text that makes our live rules those of the goal; undefined when they are. */
export function patchText(goal: Goal, live: Live): string | undefined {
  const order: readonly string[] = TABLES;
  const names = new Set([...goal.keys(), ...live.tables.keys()]);
  const text = [...names]
    .sort((a, b) => order.indexOf(a) - order.indexOf(b))
    .flatMap((name) => {
      const lines = patchTable(goal.get(name), live.tables.get(name));
      return lines.length === 0 ? [] : [`*${name}`, ...lines, "COMMIT"];
    });
  return text.length === 0 ? undefined : [...text, ""].join("\n");
}

function goalTable(goal: Map<string, GoalTable>, name: string): GoalTable {
  const table = goal.get(name) ?? { declared: new Set(), chains: new Map(), bare: new Map() };
  goal.set(name, table);
  return table;
}

function addLine({ declared, chains }: GoalTable, line: string, ours: boolean): void {
  const [option, chain] = headOf(uncounted(line));
  if (chain === undefined) return;
  if (option === "-N" || option === "--new-chain") declared.add(chain);
  if (readChain([option, chain]) === undefined) return;
  const rules = chains.get(chain) ?? [];
  chains.set(chain, rules);
  if (!isInserted([option])) {
    rules.push(new Declared(line, ours));
    return;
  }
  const added = readAdded(readWords(uncounted(line)));
  if (added !== undefined) rules.splice(added.place ?? 0, 0, new Declared(spell(added.rule), ours, true));
}

/** A line's first two words, which are seldom quoted. */
function headOf(line: string): [option: string, chain: string | undefined] {
  const [, option, chain] = /^([^\s"]+) ([^\s"]+)(?: |$)/.exec(line) ?? ["", ...readWords(line)];
  return [option ?? "", chain];
}

/** Decides about the rules that are both ours and foreign: the jumps to our chains, and what both declare. */
function takeNeeded({ chains }: GoalTable, lines: readonly string[]): void {
  const running = byChain(lines);
  const needed = new Set([...chains].filter(([, rules]) => rules.some(({ ours }) => ours)).map(([chain]) => chain));
  const names = [...needed];
  const mentions = (line: string) => names.some((chain) => line.includes(chain));
  for (const [chain, rules] of chains) {
    const jumps = rules.filter((rule) => !rule.ours && mentions(rule.line) && needed.has(readTarget(rule.words) ?? ""));
    if (jumps.length > 0) {
      const reached = new Set((running.get(chain) ?? []).map((line) => readTarget(readWords(line))));
      for (const rule of jumps) rule.ours = !reached.has(readTarget(rule.words));
    }
    const bare = rules.filter((rule) => rule.ours && !isOurs(rule.words));
    const foreign = new Set(bare.length === 0 ? [] : rules.filter(({ ours }) => !ours).map(({ key }) => key));
    const shared = bare.filter(({ key }) => foreign.has(key));
    if (shared.length === 0) continue;
    const keys = new Set((running.get(chain) ?? []).map((line) => keyOf(readWords(line))));
    for (const rule of shared) if (keys.has(rule.key)) rule.ours = false;
  }
}

function countBare({ chains, bare }: GoalTable): void {
  for (const { key } of [...chains.values()].flat().filter((rule) => rule.ours && !isOurs(rule.words))) {
    bare.set(key, (bare.get(key) ?? 0) + 1);
  }
}

/** What a foreign fragment also declares counts as foreign. */
function addFormer({ chains, bare }: GoalTable, rules: readonly Rule[]): void {
  const counts = new Map<string, number>();
  for (const rule of rules.filter((rule) => readChain(rule) !== undefined && !isOurs(rule))) {
    const key = keyOf(rule);
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  if (counts.size === 0) return;
  const foreign = new Set([...chains.values()].flat().flatMap((rule) => (rule.ours ? [] : [rule.key])));
  for (const [key, count] of counts) if (!foreign.has(key)) bare.set(key, Math.max(count, bare.get(key) ?? 0));
}

function patchTable(goal: GoalTable | undefined, running: LiveTable | undefined): string[] {
  const live = byChain(running?.lines ?? []);
  const bareChains = [...(goal?.bare.keys() ?? [])].map((key) => key.split("\n", 1)[0] ?? "");
  const wanted = [...(goal?.chains ?? [])].filter(([, rules]) => rules.some(({ ours }) => ours));
  const touched = new Set([...wanted.map(([chain]) => chain), ...bareChains]);
  for (const [chain, lines] of live) if (lines.some(mayBeOurs)) touched.add(chain);
  const needed = wanted.flatMap(([chain, rules]) => [
    chain,
    ...rules.filter(({ ours }) => ours).map(({ words }) => readTarget(words)),
  ]);
  const created = [...new Set(needed)].filter(
    (chain) => chain !== undefined && goal?.declared.has(chain) && !running?.chains.has(chain),
  );
  const edits = [...touched].map((chain) =>
    patchChain(chain, goal?.chains.get(chain) ?? [], readRunning(live.get(chain) ?? [], goal?.bare ?? new Map())),
  );
  const stays = new Set(needed);
  const idle = idleLists(running, mayBeOurs).filter((chain) => !stays.has(chain));
  return [
    ...created.map((chain) => `-N ${chain}`),
    ...edits.flatMap(({ deletions }) => deletions),
    ...edits.flatMap(({ insertions }) => insertions),
    ...idle.map((chain) => `-X ${chain}`),
  ];
}

/** A rule in the kernel. */
interface Running {
  line: string;
  key: string;
  ours: boolean;
}

function readRunning(lines: readonly string[], bare: ReadonlyMap<string, number>): Running[] {
  const left = new Map(bare);
  return lines.map((line) => {
    const words = readWords(line);
    const key = keyOf(words);
    if (isOurs(words)) return { line, key, ours: true };
    const more = left.get(key) ?? 0;
    left.set(key, more - 1);
    return { line, key, ours: more > 0 };
  });
}

function patchChain(chain: string, wanted: readonly Declared[], live: readonly Running[]) {
  const places = placesOf(wanted, live);
  const anchors = increasing(
    live.flatMap((rule, at) => (!rule.ours && places[at] !== undefined ? [at] : [])),
    (at) => places[at] ?? 0,
  );
  const gapOfPlace = gaps(wanted.length, new Set(anchors.map((at) => places[at])));
  const gapOfLive = gaps(live.length, new Set(anchors));
  const firstOthers = live.findIndex(({ ours }) => !ours);
  const candidates = live.flatMap(({ ours }, at) => {
    const place = places[at];
    const isBehindForeign = place !== undefined && wanted[place]?.front && firstOthers >= 0 && firstOthers < at;
    return ours && !isBehindForeign && place !== undefined && gapOfPlace[place] === gapOfLive[at] ? [at] : [];
  });
  const kept = withoutHalfTwins(
    live,
    increasing(candidates, (at) => places[at] ?? 0),
  );
  const deletions = live.flatMap(({ ours, line }, at) =>
    ours && !kept.has(at) ? [`-D ${chain} ${specOf(line)}`] : [],
  );
  const after = insertAfter(wanted, live, kept, places, gapOfPlace, gapOfLive);
  return { deletions, insertions: insertionLines(chain, live, kept, after) };
}

/** Each live rule's place among the wanted ones; of equal rules the first is the first. */
function placesOf(wanted: readonly Declared[], live: readonly Running[]): (number | undefined)[] {
  const free = new Map<string, number[]>();
  const name = ({ key, ours }: Declared | Running) => `${ours ? "ours" : "theirs"}\n${key}`;
  for (const [place, rule] of [...wanted.entries()].reverse()) {
    const known = free.get(name(rule));
    if (known) known.push(place);
    else free.set(name(rule), [place]);
  }
  return live.map((rule) => free.get(name(rule))?.pop());
}

/** For each index, and for the end, how many anchors are before it. */
function gaps(length: number, anchors: ReadonlySet<number | undefined>): number[] {
  const counts: number[] = [];
  let count = 0;
  for (let at = 0; at <= length; at++) {
    counts.push(count);
    if (anchors.has(at)) count++;
  }
  return counts;
}

/** -D takes the first of equal rules: if one of them is to be removed, all are, and the others are added again in their places. */
function withoutHalfTwins(live: readonly Running[], kept: readonly number[]): Set<number> {
  const keeping = new Set(kept);
  const going = new Set(live.filter(({ ours }, at) => ours && !keeping.has(at)).map(({ line }) => line));
  return new Set(kept.filter((at) => !going.has(live[at]?.line ?? "")));
}

/** Index of a live rule, or -1 for the chain's start -> the specs to insert right after it. */
function insertAfter(
  wanted: readonly Declared[],
  live: readonly Running[],
  kept: ReadonlySet<number>,
  places: readonly (number | undefined)[],
  gapOfPlace: readonly number[],
  gapOfLive: readonly number[],
): Map<number, string[]> {
  const settled = new Map([...kept].map((at) => [places[at], at]));
  // Where the rules of a gap are put before one of ours is met: before its first live one of ours, or to the gap's end.
  const starts = new Map<number, number>();
  for (const at of kept) {
    const gap = gapOfLive[at] ?? 0;
    if (!starts.has(gap) && !wanted[places[at] ?? -1]?.front) starts.set(gap, at - 1);
  }
  for (const [at, rule] of live.entries()) {
    const gap = gapOfLive[at] ?? 0;
    if (!starts.has(gap) && !rule.ours && endsChain(rule.line)) starts.set(gap, at - 1);
  }
  const ends = new Map(gapOfLive.map((gap, at) => [gap, at - 1]));
  const insertions = new Map<number, string[]>();
  let gap = -1;
  let at = -1;
  for (const [place, { ours, line, front }] of wanted.entries()) {
    if (!ours) continue;
    const here = gapOfPlace[place] ?? 0;
    const existing = settled.get(place);
    if (front) {
      if (existing === undefined) insertions.set(-1, [...(insertions.get(-1) ?? []), specOf(line)]);
      continue;
    }
    if (here !== gap) at = starts.get(here) ?? ends.get(here) ?? -1;
    gap = here;
    if (existing !== undefined) at = existing;
    else if (insertions.has(at)) insertions.get(at)?.push(specOf(line));
    else insertions.set(at, [specOf(line)]);
  }
  return insertions;
}

/** Front to back: each number depends on everything before it. */
function insertionLines(
  chain: string,
  live: readonly Running[],
  kept: ReadonlySet<number>,
  after: ReadonlyMap<number, readonly string[]>,
): string[] {
  const lines: string[] = [];
  let left = live.filter(({ ours }, at) => !ours || kept.has(at)).length;
  let number = 1;
  for (let at = -1; at < live.length; at++) {
    if (at >= 0 && (!live[at]?.ours || kept.has(at))) {
      number++;
      left--;
    }
    for (const spec of after.get(at) ?? []) {
      lines.push(left === 0 ? `-A ${chain} ${spec}` : `-I ${chain} ${number} ${spec}`);
      number++;
    }
  }
  return lines;
}

/** What follows "-A CHAIN". */
function specOf(line: string): string {
  return uncounted(line).replace(/^\S+\s+\S+\s*/, "");
}

/** Whether no packet gets past a rule: a verdict without a condition. */
function endsChain(line: string): boolean {
  return /^(ACCEPT|DROP|REJECT|RETURN|QUEUE)$/.test(unconditionalTarget(line) ?? "");
}
