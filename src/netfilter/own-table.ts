// Our own table in nftables: read, and changed by transactions. No other table is looked at.

import type { Failure } from "../model/errors.ts";
import { TABLE_WORDS } from "../nft/layout.ts";
import { type NftTable, readTable } from "../nft/table.ts";
import { commandFailure, type Ran, run } from "../system/exec.ts";
import { verbose } from "../system/verbose.ts";
import { readGeneration } from "./generation.ts";

/** What was listed last, and the generation of nftables in which it was so. */
let seen: { generation: number; table: NftTable | undefined } | undefined;

/**
 * Undefined where it is not there. Where nothing has changed since it was last listed it is not listed again. Throws Failure
 * `command_failed`, `permission_denied` and those of `run`.
 */
export async function readOwnTable(timeoutSeconds: number): Promise<NftTable | undefined> {
  const generation = await readGeneration();
  if (generation !== undefined && seen?.generation === generation) {
    verbose(() => `nft: nothing has changed since the last list (generation ${generation})`);
    return seen.table;
  }
  const table = await listOwnTable(timeoutSeconds);
  // A list that was read while something changed is nothing to rely on.
  const isSame = generation !== undefined && generation === (await readGeneration());
  seen = isSame ? { generation, table } : undefined;
  return table;
}

async function listOwnTable(timeoutSeconds: number): Promise<NftTable | undefined> {
  const ran = await run("nft", ["--json", "list", "table", ...TABLE_WORDS.split(" ")], { timeoutSeconds });
  if (ran.exitCode !== 0) {
    if (NO_TABLE.test(ran.stderr)) return undefined;
    throw failed(ran, "command_failed", "the live rules cannot be read");
  }
  const table = readTable(ran.stdout);
  if (table === undefined) throw failed(ran, "command_failed", "what nft prints of the live rules is no JSON");
  return table;
}

/** nft 1.0.6 and 1.1: "Error: No such file or directory". */
const NO_TABLE = /No such file or directory/;

/** The generation in which it was last there with its base chains. */
let there: number | undefined;

/** Whether it is there, with its base chains. Throws likewise. */
export async function hasOwnTable(timeoutSeconds: number): Promise<boolean> {
  const generation = await readGeneration();
  if (generation !== undefined && there === generation) return true;
  const words = [...TABLE_WORDS.split(" "), "nat_prerouting"];
  const ran = await run("nft", ["list", "chain", ...words], { timeoutSeconds });
  there = ran.exitCode === 0 ? generation : undefined;
  if (ran.exitCode === 0) return true;
  if (NO_TABLE.test(ran.stderr)) return false;
  throw failed(ran, "command_failed", "the live rules cannot be read");
}

/** Commands as one transaction: all of it, or nothing. Throws Failure `reload_failed`, `permission_denied` and those of `run`. */
export async function changeTable(lines: readonly string[], timeoutSeconds: number): Promise<void> {
  seen = undefined;
  const ran = await run("nft", ["-f", "-"], { timeoutSeconds, input: `${lines.join("\n")}\n` });
  if (ran.exitCode !== 0) throw failed(ran, "reload_failed", "the rules could not be loaded");
}

function failed(ran: Ran, code: "command_failed" | "reload_failed", what: string): Failure {
  if (/operation not permitted|must be root/i.test(ran.stderr))
    return commandFailure("permission_denied", "root is needed", ran);
  return commandFailure(code, what, ran);
}
