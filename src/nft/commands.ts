// nft's commands for our table, a line each: written, and read again. Pure.

import { TABLE_WORDS } from "./layout.ts";

/** A line of ours, read. */
export type Command =
  | { kind: "add table" }
  | { kind: "add set" | "add map"; name: string; type: string }
  | { kind: "add chain"; name: string; hook: string | undefined }
  | { kind: "flush chain" | "flush set" | "flush map"; name: string }
  | { kind: "add rule"; name: string; rule: string }
  | { kind: "add element"; name: string; key: string; comment: string; value: string | undefined };

export const ADD_TABLE = `add table ${TABLE_WORDS}`;
export const DELETE_TABLE = `delete table ${TABLE_WORDS}`;

/** `type` is `inet_proto . inet_service : ipv4_addr; flags interval`. */
export function addSet(kind: "set" | "map", name: string, type: string): string {
  return `add ${kind} ${TABLE_WORDS} ${name} { type ${type}; }`;
}

/** `hook` is `filter forward -150 accept`: its type, hook, priority and policy. */
export function addChain(name: string, hook: string | undefined): string {
  const [type, at, priority, policy] = hook?.split(" ") ?? [];
  const base = hook === undefined ? "" : ` { type ${type} hook ${at} priority ${priority}; policy ${policy}; }`;
  return `add chain ${TABLE_WORDS} ${name}${base}`;
}

export function addRule(chain: string, rule: string): string {
  return `add rule ${TABLE_WORDS} ${chain} ${rule}`;
}

/** What a set, a map or a chain holds is deleted, or it itself. */
export function emptyOrDelete(verb: "flush" | "delete", kind: "set" | "map" | "chain", name: string): string {
  return `${verb} ${kind} ${TABLE_WORDS} ${name}`;
}

/** Many in one command: nft takes them faster. None are no command. */
export function elementsCommand(verb: "add" | "delete", name: string, elements: readonly string[]): string[] {
  return elements.length === 0 ? [] : [`${verb} element ${TABLE_WORDS} ${name} { ${elements.join(", ")} }`];
}

export function spellElement(key: string, comment: string | undefined, value: string | undefined): string {
  const words = comment === undefined ? key : `${key} comment "${comment}"`;
  return value === undefined ? words : `${words} : ${value}`;
}

const LINE = new RegExp(
  `^(add (?:set|map|element|chain|rule)|flush (?:chain|set|map)) ${TABLE_WORDS} (\\w+)(?: (.*))?$`,
);

/** None of ours has what would end a command, or begin a block, a variable or a comment. */
const ONE_COMMAND = /^[^;{}$#\\\n]*$/;

/** Undefined for a line that is none of these. */
export function readCommand(line: string): Command | undefined {
  if (line === ADD_TABLE) return { kind: "add table" };
  const [, verb = "", name = "", rest = ""] = LINE.exec(line) ?? [];
  switch (verb) {
    case "add set":
    case "add map": {
      const type = /^\{ type ([\w.: ]+(?:; flags interval)?);? \}$/.exec(rest)?.[1];
      return type === undefined ? undefined : { kind: verb, name, type };
    }
    case "add element": {
      const [, key, comment, value] = /^\{ (.*?) comment "(.*?)"(?: : (.*))? \}$/.exec(rest) ?? [];
      if (key === undefined || comment === undefined || !ONE_COMMAND.test(`${key}${comment}${value}`)) return undefined;
      return { kind: verb, name, key, comment, value };
    }
    case "add chain": {
      const hook = /^\{ type (\w+) hook (\w+) priority (-?\d+); policy (\w+); \}$/.exec(rest);
      if (rest !== "" && hook === null) return undefined;
      return { kind: verb, name, hook: hook?.slice(1).join(" ") };
    }
    case "add rule":
      return rest === "" || !ONE_COMMAND.test(rest) ? undefined : { kind: verb, name, rule: rest };
    case "flush chain":
    case "flush set":
    case "flush map":
      return rest === "" ? { kind: verb, name } : undefined;
    default:
      return undefined;
  }
}
