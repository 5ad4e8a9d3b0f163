// The text that a boot falls back to: what last ran and was right, whoever loaded it, without the containers' rules, which may be
// another's addresses by then.
//
// On disk: FAMILY.rules of the state; plain iptables-restore can load it, and the units do where docker_iptables cannot run.

import { basename } from "node:path";
import { type Assembled, assemble, type Fragment, PRESERVED, textOf } from "../iptables/assemble.ts";
import { isManaged } from "../iptables/fragment-text.ts";
import { NOTHING_LIVE } from "../iptables/live.ts";
import { commentOf, isInserted, mayBeOurs, readWords } from "../iptables/rule.ts";
import { readTables, type Section } from "../iptables/table-text.ts";
import type { Family } from "../model/family.ts";
import { containerOf, HOST_FILES, hostOwner, isHostFile, spellOwner } from "../model/owner.ts";
import { keepLastingState, readState, stateOf } from "../system/state.ts";

/** The rules are live: what fails here is a warning. For the holder of the load lock. */
export async function keepLastGood(
  family: Family,
  directory: string,
  { lines, origins }: Assembled,
): Promise<string[]> {
  const paths = new Set(origins.map((origin) => origin?.path ?? ""));
  const fleeting = new Set([...paths].filter((path) => containerOf(path) !== undefined));
  const isLasting = (_: string, at: number) => origins[at] !== PRESERVED && !fleeting.has(origins[at]?.path ?? "");
  try {
    await keepLastingState(stateOf(family, directory), "rules", textOf({ lines: lines.filter(isLasting) }));
    return [];
  } catch (error) {
    return [
      `the rules are loaded, but not stored for the next boot: ${error instanceof Error ? error.message : String(error)}`,
    ];
  }
}

/**
 * The same after a patch, which exchanges our rules alone: of the others a boot gets what an earlier load has kept, and where it has
 * kept nothing, or what cannot be read, nothing is written, for a boot would take our rules for all that there is. On a host that is
 * set up for patch (`alone`) they are.
 */
export async function keepOurLastGood(
  family: Family,
  directory: string,
  fragments: readonly Fragment[],
  alone: boolean,
): Promise<string[]> {
  const kept = await readState(stateOf(family, directory), "rules");
  const { sections, problems } = readTables(kept ?? "");
  if (kept === undefined ? !alone : problems.length > 0) return [];
  const ours = fragments.filter((one) => isManaged(one.text) && isHostFile(one));
  return keepLastGood(family, directory, assemble(among(sections, ours), [], NOTHING_LIVE));
}

/** The host rules' files instead of those that the text has: what came before one of them, or after it, still does. */
function among(kept: readonly Section[], base: readonly Fragment[]): Fragment[] {
  const parts: string[][] = HOST_FILES.map(() => []);
  const behind: string[] = [];
  for (const { table, chains, lines } of kept) {
    const rules = lines.map(({ text }) => text);
    // What we insert is at the end of the text, and comes first.
    const lastOf = HOST_FILES.map((file) =>
      rules
        .map((rule) => rule.includes(`"${commentOf(spellOwner(hostOwner(file)))}"`) && !isInserted(readWords(rule)))
        .lastIndexOf(true),
    );
    const declared = [...chains].map(([chain, policy]) => `:${chain} ${policy} [0:0]`);
    const others = (from: number, to: number) => rules.slice(from, to).filter((rule) => !mayBeOurs(rule));
    let from = 0;
    for (const [index, last] of lastOf.entries()) {
      parts[index]?.push(`*${table}`, ...(index === 0 ? declared : []), ...others(from, last + 1), "COMMIT");
      from = Math.max(from, last + 1);
    }
    behind.push(`*${table}`, ...others(from, rules.length), "COMMIT");
  }
  const asFragment = (lines: readonly string[]) => ({ path: "kept", text: [...lines, ""].join("\n") });
  const before = HOST_FILES.flatMap((file, index) => [
    asFragment(parts[index] ?? []),
    ...base.filter(({ path }) => basename(path) === file),
  ]);
  return [...before, asFragment(behind)];
}
