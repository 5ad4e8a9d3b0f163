// A rule's words, taken apart: the one reader of what a rule matches and does. Pure.

import { type Rule, readChain } from "./rule.ts";

/** A match option with its values: `! -i docker0`. */
export interface Clause {
  negated: boolean;
  option: string;
  values: readonly string[];
}

export interface ParsedRule {
  /** Undefined for a line that adds no rule. */
  chain: string | undefined;
  clauses: readonly Clause[];
  /** "" where it has none. */
  target: string;
  isGoto: boolean;
  /** What follows the target: `--to-destination 172.17.0.2:80`. */
  targetOptions: readonly string[];
}

/** A rule in the words of iptables-save, which the same array of words is read from once. */
export function parseRule(rule: Rule): ParsedRule {
  const known = PARSED.get(rule) ?? parse(rule);
  PARSED.set(rule, known);
  return known;
}

const PARSED = new WeakMap<Rule, ParsedRule>();

function parse(rule: Rule): ParsedRule {
  const words = rule.slice(2);
  const at = words.findIndex((word, index) => /^(-j|--jump|-g|--goto)$/.test(word) && words[index - 1] !== "--comment");
  const clauses: { negated: boolean; option: string; values: string[] }[] = [];
  let negated = false;
  for (const word of at < 0 ? words : words.slice(0, at)) {
    const last = clauses.at(-1);
    // A comment may look like an option.
    const isValue = last?.option === "--comment" && last.values.length === 0;
    if (word === "!" && !isValue) negated = true;
    else if (word.startsWith("-") && !isValue) {
      clauses.push({ negated, option: word, values: [] });
      negated = false;
    } else last?.values.push(word);
  }
  return {
    chain: readChain(rule),
    clauses,
    target: (at < 0 ? undefined : words[at + 1]) ?? "",
    isGoto: /^(-g|--goto)$/.test(words[at] ?? ""),
    targetOptions: at < 0 ? [] : words.slice(at + 2),
  };
}

/** The first value of a match option; undefined where the rule does not have it, or only its opposite. */
export function matchOf({ clauses }: ParsedRule, option: string, negated = false): string | undefined {
  return clauses.find((one) => one.option === option && one.negated === negated)?.values[0];
}

/** The value of an option of the target. */
export function targetOptionOf({ targetOptions }: ParsedRule, option: string): string | undefined {
  const at = targetOptions.indexOf(option);
  return at < 0 ? undefined : targetOptions[at + 1];
}
