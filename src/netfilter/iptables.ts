// iptables-save and iptables-restore, of either family, in the caller's network namespace.

import { basename } from "node:path";
import { COMMANDS, restoreCommand } from "../iptables/commands.ts";
import { type Live, readLive } from "../iptables/live.ts";
import { readTables } from "../iptables/table-text.ts";
import { Failure } from "../model/errors.ts";
import type { Family } from "../model/family.ts";
import type { HostConfig } from "../model/request.ts";
import { commandFailure, type Ran, run } from "../system/exec.ts";
import { verbose } from "../system/verbose.ts";
import { CHAINS } from "./foreign-firewalls.ts";
import { across, Kept } from "./kept.ts";
import { hasLegacyTables } from "./legacy-tables.ts";

/**
 * Kept where iptables' own program for nftables says what they are: no generation tells of the legacy backend's tables. It tells of sets of
 * ipset's, too, as far as a rule names them: one that is named cannot be renamed, and a swap leaves the names (tried, 6.18).
 */
function keptRules(family: Family): Kept<Live> {
  return new Kept<Live>({
    name: family,
    command: COMMANDS[family].save,
    lasts: ({ besideLegacy }, { path }) => basename(path) === "xtables-nft-multi" && !besideLegacy,
    holds: async () => !(await hasLegacyTables(family)),
    left: {
      write: ({ text }) => text,
      read: (text) => (typeof text === "string" ? { ...readLive(text), besideLegacy: false } : undefined),
    },
  });
}

const saved: Record<Family, Kept<Live>> = { ipv4: keptRules("ipv4"), ipv6: keptRules("ipv6") };

/**
 * By iptables-nft the rules are nftables', and are not read again where nothing has changed. Throws Failure `command_failed`,
 * `permission_denied` and those of `run`.
 */
export function saveRules(family: Family, timeoutSeconds: number): Promise<Live> {
  return saved[family].read(() => saveNow(family, timeoutSeconds));
}

async function saveNow(family: Family, timeoutSeconds: number): Promise<Live> {
  const ran = await run(COMMANDS[family].save, [], { timeoutSeconds });
  if (ran.exitCode !== 0) throw failed(ran, "command_failed", "the live rules cannot be read");
  // What iptables-nft-save prints besides its text (tried, 1.8.9).
  return { ...readLive(ran.stdout), besideLegacy: /legacy tables present/.test(ran.stderr) };
}

/** Throws Failure of iptables-save. IPv6 is left out where there is no ip6tables, unless it is asked for. */
export async function readKernel(
  families: readonly Family[],
  { timeout, needsIpv6 }: HostConfig,
): Promise<Partial<Record<Family, Live>>> {
  const saved = await Promise.all(
    families.map(async (family) => {
      try {
        return [[family, await saveRules(family, timeout)] as const];
      } catch (error) {
        const dispensable = family === "ipv6" && !needsIpv6;
        if (dispensable && error instanceof Failure && error.code === "command_missing") return [];
        throw error;
      }
    }),
  );
  return Object.fromEntries(saved.flat());
}

/**
 * Whether the kernel has a table, be it empty: iptables-save shows only those in use. The legacy backend loads the table's
 * module for that (tried, 1.8.9); the nft backend has every table. Throws Failure as `saveRules`.
 */
export async function hasTable(family: Family, table: string, timeoutSeconds: number): Promise<boolean> {
  const ran = await run(COMMANDS[family].save, ["--table", table], { timeoutSeconds });
  if (ran.exitCode === 0) return true;
  // "Cannot initialize: Table does not exist (do you need to insmod?)" (iptables 1.8)
  if (/does not exist|insmod/.test(ran.stderr)) return false;
  throw failed(ran, "command_failed", `cannot find out whether there is a table ${table}`);
}

/**
 * One rule of a chain, as iptables prints it, from 1 on; "" where there is none, undefined where that is unknown, e.g. while
 * another process holds the xtables lock. Never throws.
 *
 * Of the ways to read a rule it is the cheapest (1.8.9): 9 ms of CPU, on either backend. In a chain of 10,000 rules it is 200 ms
 * with nft, as --check is; but --check of a jump reads the chain behind it, too (130 ms for 10,000 rules in nat), and iptables-save
 * all of the table (350 ms). legacy reads a table of 10,000 in 90 ms in either case. iptables-restore --test finds nothing missing
 * with nft.
 */
export async function ruleAt(
  family: Family,
  { table, chain, place }: { table: string; chain: string; place: number },
  timeoutSeconds: number,
): Promise<string | undefined> {
  const args = ["--wait", "1", "--table", table, "--list-rules", chain, String(place)];
  const ran = await run(COMMANDS[family].single, args, { timeoutSeconds }).catch(() => undefined);
  if (ran === undefined) return undefined;
  if (ran.exitCode === 0) return ran.stdout.trim();
  return NO_CHAIN.test(ran.stderr) ? "" : undefined;
}

/** What legacy and nft say of a chain that is not there (tried, 1.8.9). */
const NO_CHAIN = /No chain\/target\/match by that name|does not exist|is incompatible, use 'nft' tool/;

/**
 * Loads a text: each table that it names is replaced in one step, the others stay. Waits for the xtables lock.
 * Throws Failure `reload_failed`, `permission_denied` and those of `run`.
 */
export async function restoreRules(family: Family, text: string, timeoutSeconds: number): Promise<void> {
  refuseFailed((await restore(family, [], text, timeoutSeconds)).ran);
}

/** Applies a text's lines to the tables as they are: what it does not name is unchanged, counters included. Throws likewise. */
export async function patchRules(family: Family, text: string, timeoutSeconds: number): Promise<void> {
  refuseFailed((await restore(family, ["--noflush"], text, timeoutSeconds)).ran);
}

/**
 * The same with lines that are made of these rules and hold for no others. Whether it is certain that the kernel had them then, and has
 * nothing but the outcome now; if not, some of the lines may have been applied, or all, and others' changes stand beside them. Never
 * certain by Node.js, by the legacy backend, or where a script is in iptables-save's place. Throws those of `run`.
 */
export function exchangeRules(family: Family, before: Live, text: string, timeoutSeconds: number): Promise<boolean> {
  // In turn: the other family's would come between.
  const exchanged = exchanging.then(() => exchangeNow(family, before, text, timeoutSeconds));
  exchanging = exchanged.then(
    () => {},
    () => {},
  );
  return exchanged;
}

let exchanging = Promise.resolve();

async function exchangeNow(family: Family, before: Live, text: string, timeoutSeconds: number): Promise<boolean> {
  const generation = await saved[family].generationOf(before);
  if (generation === undefined) return false;
  const { from } = await restore(family, ["--noflush"], text, timeoutSeconds);
  if (from !== generation)
    verbose(() => "load: the difference was refused, or others' changes came between: all of these tables is loaded");
  return from === generation;
}

async function restore(family: Family, flags: string[], text: string, timeoutSeconds: number) {
  const load = () =>
    run(restoreCommand(family), ["--wait", String(timeoutSeconds), ...flags], {
      timeoutSeconds: timeoutSeconds + 1,
      input: text,
    });
  const { result, from } = await across([family, CHAINS], transactionsIn(text), load, ({ exitCode }) => exitCode === 0);
  return { ran: result, from };
}

function refuseFailed(ran: Ran): void {
  if (ran.exitCode !== 0) throw failed(ran, "reload_failed", "the rules could not be loaded");
}

/**
 * How many transactions iptables-nft-restore makes of a text: one for each table, which may have chains then that it had not (tried, 1.8.9, 1.8.11, 1.8.13).
 * Undefined where a table has no rule: one that changes nothing is not counted.
 */
export function transactionsIn(text: string): number | undefined {
  const { sections, problems } = readTables(text);
  return problems.length === 0 && sections.every(({ lines }) => lines.length > 0) ? sections.length : undefined;
}

/** The backends (nft, legacy) whose tables hold rules with this text; for the message when rules are not where they should be. */
export async function backendsWith(family: Family, text: string, timeoutSeconds: number): Promise<string[]> {
  const found: string[] = [];
  for (const backend of ["nft", "legacy"]) {
    const command = `${family === "ipv4" ? "iptables" : "ip6tables"}-${backend}-save`;
    const ran = await run(command, [], { timeoutSeconds }).catch(() => undefined);
    if (ran?.exitCode === 0 && ran.stdout.includes(text)) found.push(backend);
  }
  return found;
}

function failed(ran: Ran, code: "command_failed" | "reload_failed", what: string): Failure {
  if (/permission denied|must be root/i.test(ran.stderr))
    return commandFailure("permission_denied", "root is needed", ran);
  return commandFailure(code, what, ran);
}
