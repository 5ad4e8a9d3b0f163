// The rules that a load of a service that is not ours removed. Pure.

import { readFragment } from "./fragment-text.ts";
import type { Live, Tables } from "./live.ts";
import { preservedMesh } from "./preserved.ts";
import { isOurs, keyOf, readWords } from "./rule.ts";
import { tablesOf } from "./table-text.ts";
import { listUndeclared, undeclaredOf } from "./undeclared.ts";

/** Rules and policies that ran before and do not run now, each as `listUndeclared` spells it. */
export interface Lost {
  /** What a fragment declares. */
  declared: string[];
  /** What none does: of other programs, of a person, or of a fragment that was changed since. */
  undeclared: string[];
}

/**
 * `fragments` are the directory's as they are now; what they replace (`former`) is to be removed, as are rules of ours that no
 * fragment has any more, and what Docker left.
 */
export function lostRules(
  before: Live,
  after: Live,
  fragments: readonly { text: string }[],
  former: readonly Tables[],
): Lost {
  const going = new Set(former.flatMap((tables) => [...tables.values()].flat().map(keyOf)));
  const here = new Set(allOf(after));
  const changed = changedPolicies(fragments);
  const gone = allOf(before).filter(
    (line) => !here.has(line) && !changed(line) && !going.has(keyOf(readWords(withoutTable(line)))),
  );
  const strange = new Set(strangeTo(fragments, before));
  return {
    declared: [...oursGone(before, after, fragments), ...gone.filter((line) => !strange.has(line))],
    undeclared: gone.filter((line) => strange.has(line)),
  };
}

function allOf(live: Live): string[] {
  return strangeTo([], live);
}

/** What the fragments do not declare; a foreign load keeps no chain of the user's. A swarm's is dockerd's to change. */
function strangeTo(fragments: readonly { text: string }[], live: Live): string[] {
  return listUndeclared(undeclaredOf(live, fragments, [], preservedMesh(live, fragments)));
}

/** Rules of ours that a fragment has: those of other containers, too. */
function oursGone(before: Live, after: Live, fragments: readonly { text: string }[]): string[] {
  const declared = declaredByUs(fragments);
  return [...before.tables].flatMap(([table, { lines }]) => {
    const here = new Set(after.tables.get(table)?.lines);
    return lines
      .filter((line) => !here.has(line) && declared.has(keyOf(readWords(line))))
      .map((line) => (table === "filter" ? line : `${table}: ${line}`));
  });
}

function declaredByUs(fragments: readonly { text: string }[]): Set<string> {
  const rules = fragments.flatMap(({ text }) => [...readFragment(text).values()].flat());
  return new Set(rules.filter(isOurs).map(keyOf));
}

/** Whether a line is a policy, and the fragments state another one by now. */
function changedPolicies(fragments: readonly { text: string }[]): (line: string) => boolean {
  const stated = new Map<string, string>();
  for (const fragment of fragments) {
    for (const { table, chains } of tablesOf(fragment).sections) {
      for (const [chain, policy] of chains)
        stated.set(table === "filter" ? `:${chain}` : `${table}: :${chain}`, policy);
    }
  }
  return (line) => {
    const [, chain = "", policy] = /^((?:\w+: )?:\S+) (\S+)$/.exec(line) ?? [];
    return stated.has(chain) && stated.get(chain) !== policy;
  };
}

function withoutTable(line: string): string {
  return line.replace(/^\w+: /, "");
}
