// Who else has a hand in this host's packet filter: the other iptables backend, tables of nftables, firewalld.
// The kernel asks all of them about a packet, and each can refuse what the others let pass.

import type { Family } from "../docker/container.ts";
import { Failure } from "../errors.ts";
import { commandFailure, type Ran, run } from "../exec.ts";
import { type Live, readLive } from "../rules/live.ts";
import { builtInChains, readTables } from "../rules/table-text.ts";
import { restoreCommand } from "./iptables.ts";

export type Backend = "nft" | "legacy";

export interface OtherBackend {
  backend: Backend;
  live: Live;
}

/**
 * The rules of the iptables backend that the plain commands do not use; undefined if it has no command here, or holds
 * nothing. Where it says that there is more than it can print, the text has no rules, or breaks off: that is not nothing.
 *
 * Makes no tables of either backend, neither does a table of another network namespace appear (tried, 1.8.9 on 6.18).
 * Throws Failure of `run` for the plain command.
 */
export async function otherBackend(family: Family, timeoutSeconds: number): Promise<OtherBackend | undefined> {
  const plain = await run(restoreCommand(family), ["--version"], { timeoutSeconds });
  const backend = otherThan(plain.stdout);
  const live = await saveBackend(family, backend, timeoutSeconds).catch(() => undefined);
  if (live === undefined) return undefined;
  return holdsSomething(live) || untold(live) !== undefined ? { backend, live } : undefined;
}

/** The rules of a backend, as far as its command prints them. Throws Failure of `run`. */
export async function saveBackend(family: Family, backend: Backend, timeoutSeconds: number): Promise<Live> {
  return readLive((await run(commandOf(family, backend, "save"), [], { timeoutSeconds })).stdout);
}

/** What `iptables-restore --version` prints: "iptables-restore v1.8.9 (nf_tables)"; before 1.8 there was only legacy. */
export function otherThan(version: string): Backend {
  return version.includes("(nf_tables)") ? "legacy" : "nft";
}

/** Whether a backend has a rule, or a policy that refuses. Empty tables and chains do nothing. */
export function holdsSomething({ tables }: Live): boolean {
  return [...tables.values()].some(
    ({ chains, lines }) => lines.length > 0 || [...chains.values()].some((policy) => !["ACCEPT", "-"].includes(policy)),
  );
}

/** What a saved text does not hold, so that loading it would not bring back what was there. */
export function untold({ text }: Live): string | undefined {
  // "# Table `filter' contains incompatible base-chains, use 'nft' tool to list them." (tried, 1.8.9)
  const incompatible = /^# Table .*incompatible.*/m.exec(text)?.[0];
  if (incompatible !== undefined) return incompatible.slice(2);
  return readTables(text).problems[0]?.why;
}

/**
 * Empties the tables that were found in a backend: no rules, no user's chains, policies ACCEPT. A text that cannot be
 * loaded again is refused first.
 *
 * Throws Failure `reload_failed`, `permission_denied` and those of `run`.
 */
export async function emptyBackend(
  family: Family,
  backend: Backend,
  live: Live,
  timeoutSeconds: number,
): Promise<void> {
  const why = untold(live);
  if (why !== undefined) {
    const command = commandOf(family, backend, "save");
    const message = `the ${backend} tables are left alone: '${command}' does not print all that is in them (${why}); empty them by hand`;
    throw new Failure("reload_failed", message, { command, backend });
  }
  await load(family, backend, emptied(live), timeoutSeconds);
}

/** Carries out a text's lines on a backend's tables as they are: what it does not name stays. Throws likewise. */
export async function patchBackend(
  family: Family,
  backend: Backend,
  text: string,
  timeoutSeconds: number,
): Promise<void> {
  await load(family, backend, text, timeoutSeconds, ["--noflush"]);
}

/** Loads what `otherBackend` found: the way back from `emptyBackend`. Counters start at 0. Throws likewise. */
export async function restoreBackend(
  family: Family,
  backend: Backend,
  live: Live,
  timeoutSeconds: number,
): Promise<void> {
  await load(family, backend, live.text, timeoutSeconds);
}

/** The text that empties tables. The built-in chains are those that the kernel has: old ones have no INPUT in nat. */
export function emptied({ tables }: Live): string {
  const lines = [...tables].flatMap(([table, { chains }]) => [
    `*${table}`,
    ...[...chains].filter(([, policy]) => policy !== "-").map(([chain]) => `:${chain} ACCEPT [0:0]`),
    "COMMIT",
  ]);
  return lines.map((line) => `${line}\n`).join("");
}

async function load(
  family: Family,
  backend: Backend,
  text: string,
  timeoutSeconds: number,
  flags: string[] = [],
): Promise<void> {
  const ran = await run(commandOf(family, backend, "restore"), ["--wait", String(timeoutSeconds), ...flags], {
    timeoutSeconds: timeoutSeconds + 1,
    input: text,
  });
  if (ran.exitCode === 0) return;
  if (/permission denied|must be root/i.test(ran.stderr)) {
    throw commandFailure("permission_denied", "root is needed", ran);
  }
  throw commandFailure("reload_failed", `the rules of the ${backend} backend could not be replaced`, ran);
}

function commandOf(family: Family, backend: Backend, what: "save" | "restore"): string {
  return `${family === "ipv4" ? "iptables" : "ip6tables"}-${backend}-${what}`;
}

/**
 * The nftables tables of others that can refuse packets, such as "inet firewalld": some base chain of theirs has a rule,
 * or a policy other than accept. Chains of iptables-nft are not among them; a base chain that somebody else put into one
 * of its tables is, under the table's name, and iptables-restore would delete that chain (tried, 1.8.9).
 *
 * [] also where nft is not installed, or cannot tell.
 */
export async function foreignTables(timeoutSeconds: number): Promise<string[]> {
  const suspects = foreignBaseChains(await nft(["list", "chains"], timeoutSeconds));
  const tables = new Map<string, BaseChain[]>();
  for (const chain of suspects) {
    const name = `${chain.family} ${chain.table}`;
    tables.set(name, [...(tables.get(name) ?? []), chain]);
  }
  const found: string[] = [];
  for (const [name, chains] of tables) {
    if (chains.some(({ policy }) => policy !== "accept") || (await haveRules(chains, timeoutSeconds))) found.push(name);
  }
  return found;
}

interface BaseChain {
  family: string;
  table: string;
  name: string;
  policy: unknown;
}

/** The base chains in the JSON of `nft list chains` that are not those of iptables-nft (libnftables-json(5)). */
export function foreignBaseChains(json: string | undefined): BaseChain[] {
  return objectsOf(json, "chain").flatMap(({ family, table, name, hook, policy }) => {
    const named = typeof family === "string" && typeof table === "string" && typeof name === "string";
    if (!named || typeof hook !== "string") return [];
    const ofIptables = ["ip", "ip6"].includes(family) && builtInChains(table).includes(name);
    return ofIptables ? [] : [{ family, table, name, policy }];
  });
}

/** Whether some of these chains of one table has a rule; also if that cannot be found out. */
async function haveRules(chains: readonly BaseChain[], timeoutSeconds: number): Promise<boolean> {
  const { family, table } = chains[0] ?? { family: "", table: "" };
  // nft joins its arguments and parses them: only a plain identifier is sure to be one word of its language.
  if (!/^[a-zA-Z_][\w./\\-]*$/.test(table)) return true;
  // Without the elements of sets: blocklists are long.
  const json = await nft(["--terse", "list", "table", family, table], timeoutSeconds);
  if (json === undefined) return true;
  return objectsOf(json, "rule").some(({ chain }) => chains.some(({ name }) => name === chain));
}

/** A table as nft prints it, which `nft -f` takes back; undefined where it is not there, or cannot be had. */
export async function tableText(name: string, timeoutSeconds: number): Promise<string | undefined> {
  const ran = await run("nft", ["--stateless", "list", "table", ...name.split(" ")], { timeoutSeconds }).catch(
    () => undefined,
  );
  return answerOf(ran);
}

/** Throws Failure `reload_failed` and those of `run`. */
export async function deleteTable(name: string, timeoutSeconds: number): Promise<void> {
  const ran = await run("nft", ["delete", "table", ...name.split(" ")], { timeoutSeconds });
  if (ran.exitCode !== 0) throw commandFailure("reload_failed", `the nftables table ${name} could not be removed`, ran);
}

/** The way back from `deleteTable`. Throws likewise. */
export async function restoreTable(name: string, text: string, timeoutSeconds: number): Promise<void> {
  const ran = await run("nft", ["-f", "-"], { timeoutSeconds, input: text });
  if (ran.exitCode !== 0)
    throw commandFailure("reload_failed", `the nftables table ${name} could not be put back`, ran);
}

async function nft(args: readonly string[], timeoutSeconds: number): Promise<string | undefined> {
  return answerOf(await run("nft", ["--json", ...args], { timeoutSeconds }).catch(() => undefined));
}

function answerOf(ran: Ran | undefined): string | undefined {
  return ran?.exitCode === 0 ? ran.stdout : undefined;
}

/** The objects of one kind in what nft prints; [] for any other text. */
function objectsOf(json: string | undefined, kind: "chain" | "rule"): Record<string, unknown>[] {
  try {
    const list = asRecord(JSON.parse(json ?? ""))["nftables"];
    return Array.isArray(list) ? list.map((entry) => asRecord(asRecord(entry)[kind])) : [];
  } catch {
    return [];
  }
}

function asRecord(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? { ...value } : {};
}

/**
 * Whether firewalld runs, or is about to. It and an iptables.service exclude each other: systemd stops the one when the
 * other starts (`Conflicts=` in firewalld.service).
 */
export async function firewalldRuns(timeoutSeconds: number): Promise<boolean> {
  const args = ["is-active", "firewalld.service"];
  const ran = await run("systemctl", args, { timeoutSeconds }).catch(() => undefined);
  return ["active", "reloading", "refreshing", "activating"].includes(ran?.stdout.trim() ?? "");
}
