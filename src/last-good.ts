// The text that a boot falls back to: what last ran and was right, whoever loaded it, without the containers' rules, which may be
// another's addresses by then.
//
// On disk: FAMILY.rules of the state; plain iptables-restore can load it, and the units do where docker_iptables cannot run.

import { basename } from "node:path";
import type { Family } from "./docker/container.ts";
import { type Assembled, assemble, CARRIED, type Fragment, textOf } from "./fragments/assemble.ts";
import { BASE_FILES } from "./rules/base-rules.ts";
import { isContainers, isMarked } from "./rules/fragment-text.ts";
import { readLive } from "./rules/live.ts";
import { mayBeOurs } from "./rules/rule.ts";
import { readTables } from "./rules/table-text.ts";
import { keepLastingState, pathOf, readState, stateOf } from "./state.ts";

/** The rules are live: what fails here is a warning. For the holder of the load lock. */
export async function keepLastGood(
  family: Family,
  directory: string,
  { lines, origins }: Assembled,
): Promise<string[]> {
  const isLasting = (_: string, at: number) =>
    origins[at] !== CARRIED && !isContainers(basename(origins[at]?.path ?? ""));
  try {
    await keepLastingState(stateOf(family, directory), "rules", textOf({ lines: lines.filter(isLasting) }));
    return [];
  } catch (error) {
    return [
      `the rules are loaded, but not kept for the next boot: ${error instanceof Error ? error.message : String(error)}`,
    ];
  }
}

/** The same after a patch, which exchanges our rules alone: of the others a boot gets what an earlier load has kept. */
export async function keepOurLastGood(
  family: Family,
  directory: string,
  fragments: readonly Fragment[],
): Promise<string[]> {
  const state = stateOf(family, directory);
  const lines = ((await readState(state, "rules")) ?? "").split("\n");
  const others = { path: pathOf(state, "rules"), text: lines.filter((line) => !mayBeOurs(line)).join("\n") };
  // Out of a text that is no rules nothing is kept.
  const kept = readTables(others.text).problems.length === 0 ? [others] : [];
  const ours = fragments.filter(({ text }) => isMarked(text));
  const isHead = ({ path }: Fragment) => basename(path) === BASE_FILES[0];
  const all = [...ours.filter(isHead), ...kept, ...ours.filter((one) => !isHead(one))];
  return keepLastGood(family, directory, assemble(all, [], readLive("")));
}
