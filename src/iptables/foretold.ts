// What iptables will print of a text, from what it printed of another one: a trial is needed only for rules of which no trial has shown
// how this iptables prints them. Pure.
//
// Between two texts that differ in our own containers' rules alone, the answer is the former one without the rules that are gone, and
// with the new ones as they are written: of each of them a rule that differs in nothing but an address, a port or a name was tried
// before, and printed exactly so. Where anything else differs there is no answer.

import { canonicalSubnet } from "../model/addresses.ts";
import { readMark, withMark } from "./line-marks.ts";
import { builtInChains } from "./table-text.ts";

/** A text that was tried. */
export interface Tried {
  /** The lines that iptables-restore got. */
  text: string;
  /** The output of iptables-save, with each rule's mark (line-marks.ts). */
  marked: string;
  /** The shapes of rules that this iptables has printed as they were written. */
  shapes: readonly string[];
}

/** A table of a text: each is there once. */
interface Table {
  /** Its lines before the rules: chains and policies. */
  chains: string[];
  /** Rules by their line in the text, from 0 on. */
  rules: Map<number, string>;
}

/** What of a rule of ours may be another one's: the rule without its addresses, ports and names; undefined for what has none. */
export function shapeOf(line: string): string | undefined {
  const comment = / --comment "docker_iptables: [a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}" /;
  if (!line.startsWith("-A ") || !comment.test(line)) return undefined;
  return line
    .replace(comment, ' --comment "docker_iptables: NAME" ')
    .replaceAll(/ (-[sd]) ([0-9a-f.:]+)\/(32|128) /g, (words, option, address, length) =>
      isCanonical(address) ? ` ${option} ADDRESS/${length} ` : words,
    )
    .replaceAll(/ (--dport|--ctorigdstport) (\d+)(:\d+)? /g, (words, option, first, last) =>
      isPort(first) && (last === undefined || isRange(first, last.slice(1)))
        ? ` ${option} PORT${last === undefined ? "" : ":PORT"} `
        : words,
    )
    .replace(DESTINATION, (words, address, address6, port, range = "") => {
      const [, last = "", base = ""] = range.split(/[-/]/);
      const isGood = range === "" ? isPort(port) : isRange(port, last) && isPort(base);
      if (!isCanonical(address ?? address6) || !isGood) return words;
      return ` --to-destination ADDRESS:PORT${range === "" ? "" : "-PORT/PORT"}`;
    });
}

/** At the end of a DNAT. */
const DESTINATION = / --to-destination (?:(\d[\d.]+)|\[([0-9a-f:]+)\]):(\d+)(-\d+\/\d+)?$/;

/** As iptables-save spells it. Thousands are asked for, so most are not parsed. */
function isCanonical(address: string): boolean {
  const host = `${address}/128`;
  return address.includes(":") ? canonicalSubnet(host) === host : IPV4.test(address);
}

const IPV4 = /^(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}$/;

/** One that no iptables leaves out, as it does the ends of a range that is all ports. */
function isPort(text: string): boolean {
  return /^[1-9]\d{0,4}$/.test(text) && Number(text) < 65535;
}

function isRange(first: string, last: string): boolean {
  return isPort(first) && isPort(last) && Number(first) < Number(last);
}

/** The shapes of the rules that a trial has printed as they were written. */
export function shapesIn(lines: readonly string[], marked: string): Set<string> {
  const printed = new Map<number, string[]>();
  for (const line of marked.split("\n")) {
    if (!line.startsWith("-A ")) continue;
    const { text, at } = readMark(line);
    printed.set(at, [...(printed.get(at) ?? []), text]);
  }
  const same = lines.filter((line, at) => printed.get(at)?.length === 1 && printed.get(at)?.[0] === line);
  return new Set(same.flatMap((line) => shapeOf(line) ?? []));
}

/** What a trial of these lines would print, with their marks; undefined where only a trial can tell. `isOurs`: a line of a container of ours. */
export function foretell(
  { text, marked, shapes }: Tried,
  lines: readonly string[],
  isOurs: (line: number) => boolean,
): string | undefined {
  const [before, after] = [tablesIn(text.split("\n")), tablesIn(lines)];
  if (before === undefined || after === undefined) return undefined;
  const known = new Set(shapes);
  const moved = new Map<number, number>();
  const added = new Set<number>();
  for (const [name, table] of after) {
    const former = before.get(name);
    const isSame =
      former === undefined
        ? table.chains.every((line) => isUntouched(line, name))
        : former.chains.join("\n") === table.chains.join("\n");
    if (!isSame) return undefined;
    pair(former?.rules ?? new Map(), table.rules, moved, added);
  }
  const isKnown = (line: number) => isOurs(line) && known.has(shapeOf(lines[line] ?? "") ?? "");
  if (![...added].every(isKnown)) return undefined;
  return print(marked, after, moved, added);
}

function isUntouched(line: string, table: string): boolean {
  return builtInChains(table).some((chain) => line === `:${chain} ACCEPT [0:0]`);
}

/** Undefined where a line does anything but to append a rule, or to insert one before all others. */
function tablesIn(lines: readonly string[]): Map<string, Table> | undefined {
  const tables = new Map<string, Table>();
  let open: Table | undefined;
  for (const [at, line] of lines.entries()) {
    if (line.startsWith("*")) {
      open = { chains: [], rules: new Map() };
      tables.set(line.slice(1), open);
    } else if (line === "COMMIT") open = undefined;
    else if (line.startsWith(":")) open?.chains.push(line);
    else if (/^-[AI] [^\s"]+ [-!]/.test(line)) open?.rules.set(at, line);
    else return undefined;
  }
  return tables;
}

/** Pairs the rules that stay, wherever they stand (`moved`, by line), and finds those that are new (`added`). */
function pair(
  before: ReadonlyMap<number, string>,
  after: ReadonlyMap<number, string>,
  moved: Map<number, number>,
  added: Set<number>,
): void {
  const former = new Map<string, number[]>();
  for (const [at, line] of before) former.set(line, [...(former.get(line) ?? []), at]);
  for (const [at, line] of after) {
    const was = former.get(line)?.shift();
    if (was === undefined) added.add(at);
    else moved.set(was, at);
  }
}

/** The output for the new lines. In each chain what was inserted comes first, the last first, and then what was appended, in order. */
function print(
  marked: string,
  tables: ReadonlyMap<string, Table>,
  moved: ReadonlyMap<number, number>,
  added: ReadonlySet<number>,
): string | undefined {
  const printed = new Map<number, string[]>();
  const chains = new Map<string, string[]>();
  const head: string[] = [];
  let name = "";
  for (const line of marked.split("\n")) {
    if (line.startsWith("#")) head.push(line);
    if (line.startsWith("*")) name = line.slice(1);
    if (line.startsWith(":")) chains.set(name, [...(chains.get(name) ?? []), line]);
    if (!line.startsWith("-A ")) continue;
    const { text, at } = readMark(line);
    if (at < 0) return undefined;
    const now = moved.get(at);
    if (now !== undefined) printed.set(now, [...(printed.get(now) ?? []), withMark(text, now, "comment")]);
  }
  const text = [...tables].flatMap(([table, { rules, chains: stated }]) => {
    const byChain = new Map<string, { front: string[][]; rest: string[][] }>();
    for (const [at, line] of rules) {
      const chain = line.split(" ", 2)[1] ?? "";
      const own = byChain.get(chain) ?? { front: [], rest: [] };
      byChain.set(chain, own);
      const lines = added.has(at) ? [withMark(line, at, "comment")] : (printed.get(at) ?? []);
      (line.startsWith("-I") ? own.front : own.rest).push(lines);
    }
    const all = [...byChain.values()].flatMap(({ front, rest }) => [...front.reverse(), ...rest]);
    return [`*${table}`, ...(chains.get(table) ?? stated), ...all.flat(), "COMMIT"];
  });
  return [...head.slice(0, 1), ...text, ""].join("\n");
}
