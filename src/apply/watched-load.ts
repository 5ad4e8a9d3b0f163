// A load by a service that is not ours and not understood: rules that it removed are detected, reported and restored.

import { lostRules } from "../iptables/lost.ts";
import { asFailure, type Failure } from "../model/errors.ts";
import { FAMILIES } from "../model/family.ts";
import { readKernel } from "../netfilter/iptables.ts";
import { type Host, type Look, TookAway } from "../plan/backend.ts";
import { readDirectories } from "../plan/directories.ts";
import { declaredIn } from "../plan/foreign-rules.ts";
import { type Kernel, ofFamily } from "../plan/item.ts";
import type { Unit } from "../systemd/units.ts";
import { ownersOf, someOf } from "../text/words.ts";

interface Watching {
  host: Host;
  /** Whether rules that no fragment declares are to be removed. */
  replaces: boolean;
}

/**
 * `load` has the services load. Returns warnings, and the kernel where it was looked at. Throws Failure as `load` does, and
 * TookAway `rules_not_live` where rules are gone that should not be.
 */
export async function loadWatched(
  units: readonly Unit[],
  load: () => Promise<string[]>,
  before: Look,
  watching: Watching,
): Promise<{ warnings: string[]; live: Kernel }> {
  const others = units.filter(({ ours }) => !ours);
  if (others.length === 0) return { warnings: await load(), live: {} };
  let failed: Failure | undefined;
  const warnings = await load().catch((error: unknown) => {
    failed = asFailure(error);
    return [];
  });
  const live = await readKernel(
    FAMILIES.filter((family) => before.live[family] !== undefined),
    watching.host,
  );
  const { gone, edited } = await lossesOf(live, others, before, watching);
  const names = others.map(({ name }) => name);
  if (gone.length > 0) throw tookAway(names, gone, failed);
  if (failed !== undefined) throw failed;
  if (edited.length === 0) return { warnings, live };
  const warning = `${names.join(" and ")} removed rules that are in no fragment, and fragments have changed since it last loaded them: ${someOf(edited)}`;
  return { warnings: [...warnings, warning], live };
}

/**
 * A rule that no fragment declares is another program's, or a person's; but where fragments have changed since the service
 * last loaded, it may have been one of theirs.
 */
async function lossesOf(after: Kernel, others: readonly Unit[], { items, live }: Look, { host, replaces }: Watching) {
  const gone: string[] = [];
  const edited: string[] = [];
  // A line that was deleted from a fragment is to be removed.
  const now = await declaredIn(await readDirectories(host), live, host, true);
  const isBehind = others.some(({ behind }) => behind);
  for (const family of FAMILIES) {
    const [before, left] = [live[family], after[family]];
    if (before === undefined || left === undefined) continue;
    const removed = lostRules(
      before,
      left,
      now[family] ?? [],
      ofFamily(items, family).map(({ former }) => former),
    );
    gone.push(...removed.declared);
    if (replaces) continue;
    for (const rule of removed.undeclared) (isBehind && ownersOf([rule]).length === 0 ? edited : gone).push(rule);
  }
  return { gone, edited };
}

function tookAway(services: readonly string[], gone: readonly string[], failed: Failure | undefined): TookAway {
  const message =
    `${failed === undefined ? "" : `${failed.message}; and `}${services.join(" and ")}, which docker_iptables did not write, removed rules that were live before: ` +
    `${someOf(gone)}. See what it does with 'systemctl cat ${services[0]}'; without it, reload: patch replaces only docker_iptables' own rules. If a fragment that had them was removed, have that service load first`;
  const facts = { ...failed?.facts, services, rules: gone.slice(0, MOST_LISTED) };
  return new TookAway(failed?.code ?? "rules_not_live", message, facts, { cause: failed });
}

const MOST_LISTED = 100;
