// Rules of ours that are looked for now and then, to notice that a table was flushed. Pure.

import type { Family } from "../model/family.ts";
import { type Owner, readOwner } from "../model/owner.ts";
import type { Live } from "./live.ts";
import { commentOf, mayBeOurs, type Rule, readChain, readComment, readWords } from "./rule.ts";

/** One rule that represents all of ours in its table. */
export interface Canary {
  family: Family;
  table: string;
  chain: string;
  /** In its chain, from 1 on. */
  place: number;
  /** As iptables prints it. */
  line: string;
  rule: Rule;
  owner: Owner;
}

/**
 * One of each table in which rules of ours are: one of the host rules first, which are removed only with `setup --remove` (in nat
 * the jump of PREROUTING, without which the containers' rules never match). Where the host rules are not ours, a container's.
 */
export function canariesOf(family: Family, { tables }: Live): Canary[] {
  return [...tables].flatMap(([table, { lines }]) => {
    const base = lines.findIndex((line) => line.includes(`"${commentOf("(")}`));
    const at = base < 0 ? lines.findIndex(mayBeOurs) : base;
    const line = lines[at] ?? "";
    const rule = readWords(line);
    const [chain, comment] = [readChain(rule), readComment(rule)];
    if (chain === undefined || comment?.startsWith(commentOf("")) !== true) return [];
    const place = lines.slice(0, at + 1).filter((one) => one.startsWith(`-A ${chain} `)).length;
    return [{ family, table, chain, place, line, rule, owner: readOwner(comment.slice(commentOf("").length)) }];
  });
}
