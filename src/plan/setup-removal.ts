// What there is to do to remove the host's own rules, besides their files. Reads, and changes nothing.

import type { Fragments } from "../fragments/by-family.ts";
import { hasRuleLines } from "../iptables/fragment-text.ts";
import { isAdopted } from "../iptables/undeclared.ts";
import { Failure } from "../model/errors.ts";
import { FAMILIES } from "../model/family.ts";
import { containerOf } from "../model/owner.ts";
import type { HostConfig, Request } from "../model/request.ts";
import { isKept, stateOf } from "../system/state.ts";
import { type PlannedUnit, planRemoval, WATCH_UNIT } from "../systemd/install.ts";
import { retryTimerOf } from "../systemd/unit-text.ts";
import { someOf } from "../text/words.ts";
import { type HostPlan, NOTHING_PLANNED } from "./host-plan.ts";
import type { Item } from "./item.ts";
import { loadersOf } from "./services.ts";
import { withChanges } from "./validate.ts";

/** Throws Failure `base_in_use`, and those of systemctl. */
export async function planHostRemoval(
  items: readonly Item[],
  now: Fragments,
  { host, loading }: Pick<Request, "host" | "loading">,
): Promise<HostPlan> {
  const future = Object.values(withChanges(now, { files: [], items }, host.directories)).flat();
  const units = loading.reload === "none" ? [] : await unitsToRemove(host, loading.reload === "systemd");
  const left = future.filter((one) => containerOf(one) !== undefined && hasRuleLines(one.text)).map(({ path }) => path);
  refuseInUse(left, units);
  const kept = future.filter(isAdopted);
  const warnings = kept.map(({ path }) => `${path} is kept: 'setup --adopt' made it, and its rules are yours`);
  const states = await Promise.all(FAMILIES.map((family) => isKept(stateOf(family, host.directories[family]))));
  return { ...NOTHING_PLANNED, units, dropsState: states.includes(true), warnings };
}

/** Without systemd there are no services to remove, unless they are what loads (`isNeeded`). */
async function unitsToRemove(host: HostConfig, isNeeded: boolean): Promise<PlannedUnit[]> {
  const loaders = loadersOf(host);
  const names = [...loaders, WATCH_UNIT, ...loaders.map(retryTimerOf)];
  return planRemoval(names, host.timeout).catch((error: unknown) => {
    const isThere = !(error instanceof Failure) || !["command_missing", "command_failed"].includes(error.code);
    if (isThere || isNeeded) throw error;
    return [];
  });
}

function refuseInUse(paths: readonly string[], units: readonly PlannedUnit[]): void {
  if (paths.length === 0) return;
  const watches = units.some(({ name, start }) => name === WATCH_UNIT && !start);
  const first = watches ? `'systemctl disable --now ${WATCH_UNIT}', which would publish them again, and then ` : "";
  const message = `container fragments still depend on the host rules: ${someOf(paths)}; first ${first}'docker_iptables delete --all'`;
  throw new Failure("base_in_use", message, { paths });
}
