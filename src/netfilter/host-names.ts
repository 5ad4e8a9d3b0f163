// The host names in rules, and their addresses. iptables resolves them one after the other: a name server that is silent costs 20 s
// a name, and the order of several addresses differs from run to run (tried, 1.8.9). So they are resolved here, once, in parallel,
// with one deadline, as getaddrinfo(3) does (getent(1)).

import { isIPv4, isIPv6 } from "node:net";
import { readWords, shortOption, spell, uncounted } from "../iptables/rule.ts";
import type { Family } from "../model/family.ts";
import { run } from "../system/exec.ts";
import { inLanes } from "../system/lanes.ts";

/** Name -> its addresses, sorted; none where it does not resolve. */
export type Names = ReadonlyMap<string, readonly string[]>;

const OPTIONS = /^(-[sd]|--ct(orig|repl)(src|dst))$/;
/** What is neither an address nor an option. */
const NAME = /^(?![\d.]+$)[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?$/;

/** All names that these lines have in place of an address. */
export function namesIn(lines: readonly string[]): string[] {
  return [...new Set(lines.filter(mayName).flatMap((line) => readWords(line).flatMap(namesOf)))];
}

/** Few rules have a name, and words are dear. */
function mayName(line: string): boolean {
  return MAY_NAME.test(line) && /^[[-]/.test(line);
}

const MAY_NAME = /\s(?:-[sd]|--(?:src|so|ds|dest|ct)[a-z]*)\s+(?:\S*,)?[^\s/,:]*[A-Za-z_][^\s/,:]*(?:[\s/,]|$)/;

function namesOf(word: string, at: number, rule: readonly string[]): string[] {
  if (!OPTIONS.test(shortOption(rule[at - 1] ?? "")) || rule[at - 2] === "--comment") return [];
  return word.split(",").flatMap((one) => {
    const name = one.split("/")[0] ?? "";
    return NAME.test(name) ? [name] : [];
  });
}

/** At once: each mostly waits. */
const LANES = 32;

/** Asks for all at once. What does not answer in time does not resolve. Throws Failure of `run`. */
export async function resolveNames(family: Family, names: readonly string[], timeoutSeconds: number): Promise<Names> {
  const end = performance.now() + timeoutSeconds * 1000;
  const found = await inLanes(names, async (name) => [name, await resolve(family, name, end)] as const, LANES);
  return new Map(found);
}

async function resolve(family: Family, name: string, end: number): Promise<string[]> {
  const hosts = await ask(family === "ipv4" ? "ahostsv4" : "ahostsv6", name, end);
  // ahostsv6 prints IPv4 addresses as ::ffff:192.0.2.1.
  const isOne = family === "ipv4" ? isIPv4 : (one: string) => isIPv6(one) && !/^::ffff:\d+\./i.test(one);
  const addresses = hosts.map((line) => line.split(" ")[0] ?? "").filter(isOne);
  if (addresses.length > 0 || family === "ipv6") return [...new Set(addresses)].sort();
  // "loopback 127.0.0.0", of /etc/networks.
  return (await ask("networks", name, end)).map((line) => line.split(/\s+/)[1] ?? "").filter(isIPv4);
}

/** The lines of an answer; none where there is none until `end`. */
async function ask(database: string, name: string, end: number): Promise<string[]> {
  const timeoutSeconds = (end - performance.now()) / 1000;
  if (timeoutSeconds <= 0) return [];
  const ran = await run("getent", [database, name], { timeoutSeconds }).catch(() => undefined);
  return ran?.exitCode === 0 ? ran.stdout.split("\n") : [];
}

/** The line with the addresses of its names; as it is where one does not resolve. */
export function withAddresses(line: string, names: Names): string {
  if (names.size === 0 || !mayName(line)) return line;
  const counters = line.slice(0, line.length - uncounted(line).length);
  const rule = readWords(uncounted(line));
  const resolved = rule.map((word, at) => (namesOf(word, at, rule).length === 0 ? word : addressesOf(word, names)));
  return resolved.every((word, at) => word === rule[at]) ? line : counters + spell(resolved);
}

function addressesOf(word: string, names: Names): string {
  return word
    .split(",")
    .flatMap((one) => {
      const [name = "", ...mask] = one.split("/");
      const addresses = names.get(name) ?? [];
      return addresses.length === 0 ? [one] : addresses.map((address) => [address, ...mask].join("/"));
    })
    .join(",");
}
