// Our own table in nftables: read, and changed by transactions. No other table is looked at.

import type { Failure } from "../model/errors.ts";
import { TABLE_WORDS } from "../nft/layout.ts";
import { type NftTable, readTable } from "../nft/table.ts";
import { tableAsJson, tableFromJson } from "../nft/table-json.ts";
import { commandFailure, type Ran, run } from "../system/exec.ts";
import { across, Kept } from "./kept.ts";

const NFT = "nft";

/** A table that is not there is not left to the next run: what comes first then is a setup. */
const listed = new Kept<NftTable | undefined>({
  name: "inet",
  command: NFT,
  left: { write: (table) => table && tableAsJson(table), read: tableFromJson },
});
const presence = new Kept<boolean>({ name: "presence", command: NFT });

/** Undefined where it is not there. Throws Failure `command_failed`, `permission_denied` and those of `run`. */
export function readOwnTable(timeoutSeconds: number): Promise<NftTable | undefined> {
  return listed.read(() => listOwnTable(timeoutSeconds));
}

async function listOwnTable(timeoutSeconds: number): Promise<NftTable | undefined> {
  const ran = await run(NFT, ["--json", "list", "table", ...TABLE_WORDS.split(" ")], { timeoutSeconds });
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

/** Whether it is there, with its base chains. Throws likewise. */
export function hasOwnTable(timeoutSeconds: number): Promise<boolean> {
  return presence.read(async () => {
    const words = [...TABLE_WORDS.split(" "), "nat_prerouting"];
    const ran = await run(NFT, ["list", "chain", ...words], { timeoutSeconds });
    if (ran.exitCode === 0) return true;
    if (NO_TABLE.test(ran.stderr)) return false;
    throw failed(ran, "command_failed", "the live rules cannot be read");
  });
}

/** Commands as one transaction: all of it, or nothing. Throws Failure `reload_failed`, `permission_denied` and those of `run`. */
export async function changeTable(lines: readonly string[], timeoutSeconds: number): Promise<void> {
  const input = `${lines.join("\n")}\n`;
  const load = () => run(NFT, ["-f", "-"], { timeoutSeconds, input });
  const { result: ran } = await across([listed.name, presence.name], 1, load, ({ exitCode }) => exitCode === 0);
  if (ran.exitCode !== 0) throw failed(ran, "reload_failed", "the rules could not be loaded");
}

/** Why nft would not load a file of this text, in its words; undefined where it would. Nothing is loaded. Throws those of `run`. */
export async function refusalOf(text: string, timeoutSeconds: number): Promise<string | undefined> {
  const ran = await run(NFT, ["--check", "-f", "-"], { timeoutSeconds, input: text });
  return ran.exitCode === 0 ? undefined : ran.stderr;
}

function failed(ran: Ran, code: "command_failed" | "reload_failed", what: string): Failure {
  if (/operation not permitted|must be root/i.test(ran.stderr))
    return commandFailure("permission_denied", "root is needed", ran);
  return commandFailure(code, what, ran);
}
