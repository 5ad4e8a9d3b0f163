// A text for iptables-restore in which no rule's place hangs on another: each insertion is an appended rule where it ends up, so
// that any rule can be taken out. Pure.

import type { Assembled } from "./assemble.ts";
import { readRule, spell } from "./rule.ts";

type Lines = Pick<Assembled, "lines" | "origins">;
interface Line {
  text: string;
  origin: Assembled["origins"][number];
}

/** Tables with other commands than rules that come and chains that are made stay as they are. */
export function inOrder({ lines, origins }: Lines): Lines {
  const ordered: Line[] = [];
  let open: Line[] = [];
  for (const [at, text] of lines.entries()) {
    open.push({ text, origin: origins[at] });
    if (text !== "COMMIT") continue;
    ordered.push(...orderTable(open));
    open = [];
  }
  const all = [...ordered, ...open];
  return { lines: all.map(({ text }) => text), origins: all.map(({ origin }) => origin) };
}

function orderTable(table: readonly Line[]): readonly Line[] {
  const first: Line[] = [];
  const chains = new Map<string, Line[]>();
  for (const line of table.slice(0, -1)) {
    const { text } = line;
    const [command = "", chain = "", number = ""] = /^[[-]/.test(text) ? readRule(text) : [];
    if (command === "" || command === "-N" || command === "-P") {
      first.push(line);
      continue;
    }
    const rules = chains.get(chain) ?? [];
    chains.set(chain, rules);
    const place = /^\d+$/.test(number) ? Number(number) - 1 : 0;
    if (command === "-A") rules.push(line);
    // iptables refuses a place that is not there.
    else if (command !== "-I" || place < 0 || place > rules.length) return table;
    else rules.splice(place, 0, { ...line, text: appended(text) });
  }
  return [...first, ...[...chains.values()].flat(), ...table.slice(-1)];
}

function appended(text: string): string {
  const [, chain = "", ...rest] = readRule(text);
  return spell(["-A", chain, ...(/^\d+$/.test(rest[0] ?? "") ? rest.slice(1) : rest)]);
}
