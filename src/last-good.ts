// The text that a boot falls back to: what last ran and was right, whoever loaded it, without the containers' rules, which may be
// another's addresses by then.
//
// On disk: FAMILY.rules of the state; plain iptables-restore can load it, and the units do where docker_iptables cannot run.

import { basename } from "node:path";
import type { Family } from "./docker/container.ts";
import { type Assembled, CARRIED, textOf } from "./fragments/assemble.ts";
import { isContainers } from "./rules/fragment-text.ts";
import { keepLastingState, stateOf } from "./state.ts";

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
