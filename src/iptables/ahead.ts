// What is before a rule that should be the first of its chain, and may accept packets that are meant for that rule. Pure.

import type { LiveTable } from "./live.ts";
import { byChain, keyOf, type Rule, readChain, readTarget, readWords, uncounted } from "./rule.ts";

/**
 * The first live rule before `front`, in its chain, that may accept a packet to one of the bridges that `rules`, those of the
 * same fragment, are about; undefined where there is none. A rule that says no interface may accept any; one that rejects, or
 * counts, does no harm.
 */
export function acceptAhead(front: Rule, rules: readonly Rule[], live: LiveTable): string | undefined {
  const chain = readChain(front) ?? "";
  const place = live.ours.get(keyOf(front)) ?? 0;
  const before = live.lines.slice(0, place).filter((line) => line.startsWith(`-A ${chain} `));
  if (before.length === 0) return undefined;
  const bridges = new Set(
    rules
      .flatMap((rule) => outOf(rule) ?? [])
      .filter(({ negated }) => !negated)
      .map(({ name }) => name),
  );
  const accepts = acceptingTest([...bridges], byChain(live.lines));
  return before.find((line) => accepts(readWords(uncounted(line))));
}

/** Whether a rule, or a chain that it asks, may accept a packet that leaves by one of these. */
function acceptingTest(bridges: readonly string[], chains: ReadonlyMap<string, readonly string[]>) {
  const asked = new Set<string>();
  const accepts = (rule: Rule): boolean => {
    if (!bridges.some((bridge) => mayLeaveBy(rule, bridge))) return false;
    const target = readTarget(rule) ?? "";
    if (target === "ACCEPT") return true;
    // What was asked before had no answer that accepts, or the search had ended there.
    if (asked.has(target)) return false;
    asked.add(target);
    return (chains.get(target) ?? []).some((line) => accepts(readWords(line)));
  };
  return accepts;
}

function mayLeaveBy(rule: Rule, bridge: string): boolean {
  const out = outOf(rule);
  if (out === undefined) return true;
  const isIt = out.name.endsWith("+") ? bridge.startsWith(out.name.slice(0, -1)) : out.name === bridge;
  return isIt !== out.negated;
}

/** The interface by which a packet must leave, or must not. */
function outOf(rule: Rule): { name: string; negated: boolean } | undefined {
  const at = rule.indexOf("-o");
  return at < 0 ? undefined : { name: rule[at + 1] ?? "", negated: rule[at - 1] === "!" };
}
