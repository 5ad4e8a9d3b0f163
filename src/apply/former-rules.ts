// iptables' rules as they were before a change that waits for its confirmation: read, and put back.

import { existingFamilies, readFragments } from "../fragments/directory.ts";
import type { FormerRules, FormerTable, Unconfirmed } from "../generated/unconfirmed.ts";
import { hasRuleLines } from "../iptables/fragment-text.ts";
import { type Live, liveOwners, readLive } from "../iptables/live.ts";
import { preservedOf, withPreserved } from "../iptables/preserved.ts";
import { goneLines, withoutLines } from "../iptables/removal.ts";
import { asFailure, Failure } from "../model/errors.ts";
import type { Family } from "../model/family.ts";
import { containerOf, containerOwner, containersAmong, type Owner } from "../model/owner.ts";
import type { HostConfig } from "../model/request.ts";
import { restoreBackend, restoreTable, saveBackend, tableText } from "../netfilter/foreign-firewalls.ts";
import { readKernel, saveRules } from "../netfilter/iptables.ts";
import { restoreSnapshot } from "../netfilter/snapshot.ts";
import { TABLE_WORDS } from "../nft/layout.ts";
import { isContainers } from "../plan/item.ts";
import type { Load } from "../plan/plan.ts";
import type { Former } from "../plan/unconfirmed.ts";
import { keepLastingState, keepState, readState, removeKept, stateOf } from "../system/state.ts";
import { differs } from "./load.ts";
import { dropChains, patchOwnRules, removeRules } from "./patch.ts";

/** Before this is loaded. For the holder of the write lock. Throws Failure of iptables-save, of nft, and of the directories. */
export async function readFormer({ base, found, loader }: Load, chain: string, host: HostConfig): Promise<Former> {
  const { directories, timeout } = host;
  const families = await existingFamilies(directories);
  const rules = base.leftovers.filter((one) => one.kind === "rules");
  const loads = loader.kind === "restore" || loader.kind === "systemd";
  const isWhole = (family: Family) => loads || rules.some((one) => one.family === family && one.backend === undefined);
  const kernel = await readFormerRules(families, isWhole, host);
  const bare = kernel.map(({ family }) => family).filter((family) => isBare(family));
  const armed = loads
    ? await holdingUnloaded(
        families.filter((family) => !bare.includes(family)),
        host,
      )
    : [];
  await keepFormerLastGood(
    kernel.filter(({ family }) => armed.includes(family)),
    host,
  );
  for (const { family, other } of base.others)
    kernel.push({ family, variant: other.backend, isWhole: true, text: other.live.text, record: null });
  for (const { family, backend } of rules) {
    if (backend === undefined) continue;
    const { text } = await saveBackend(family, backend, timeout);
    kernel.push({ family, variant: backend, isWhole: true, text, record: null });
  }
  const tables: Former["tables"] = [];
  for (const { name } of base.leftovers.filter((one) => one.kind === "table")) {
    const text = await tableText(name, timeout);
    if (text !== undefined) tables.push({ name, text });
  }
  const table = base.move && (await tableText(TABLE_WORDS, timeout));
  if (table !== undefined) tables.push({ name: TABLE_WORDS, text: table });
  const fragments = await Promise.all(families.map((family) => readFragments(directories[family])));
  const containers = fragments.flat().flatMap(({ path }) => (containerOf(path) === undefined ? [] : path));
  return { kernel, tables, bare, containers, armed };

  function isBare(family: Family): boolean {
    const own = found.items.filter((item) => item.family === family && !isContainers(item));
    if (own.some(({ before }) => before !== undefined)) return false;
    const text = kernel.find((one) => one.family === family)?.text ?? "";
    return readLive(text).tables.get("nat")?.chains.has(chain) !== true;
  }
}

/** The families of which a load would bring other rules than those that run; in doubt, too. */
async function holdingUnloaded(families: readonly Family[], { directories, timeout }: HostConfig): Promise<Family[]> {
  const differing = families.map(async (family) =>
    (await differs({ families: [family], directories, timeout }).catch(() => true)) ? [family] : [],
  );
  return (await Promise.all(differing)).flat();
}

/** Of what the plain commands print. Throws Failure of iptables-save. */
export async function readFormerRules(
  families: readonly Family[],
  isWhole: (family: Family) => boolean,
  host: HostConfig,
): Promise<FormerRules[]> {
  const live = await readKernel(families, host);
  const found = families.map(async (family): Promise<FormerRules[]> => {
    const text = live[family]?.text;
    if (text === undefined) return [];
    const record = (await readState(stateOf(family, host.directories[family]), "left")) ?? null;
    return [{ family, variant: null, isWhole: isWhole(family), text, record }];
  });
  return (await Promise.all(found)).flat();
}

/**
 * What a boot falls back to if the fragments are not confirmed, on a host that has kept nothing yet: what runs, without the containers'
 * rules. Throws Failure `write_failed`, `permission_denied`.
 */
export async function keepFormerLastGood(kernel: readonly FormerRules[], { directories }: HostConfig): Promise<void> {
  for (const { family, text } of kernel) {
    const state = stateOf(family, directories[family]);
    const live = readLive(text);
    if (live.tables.size === 0 || (await readState(state, "rules")) !== undefined) continue;
    const owners = containersAmong(liveOwners(live)).map(containerOwner);
    await keepLastingState(state, "rules", withoutLines(live, goneLines(asGone(owners), [], live)));
  }
}

function asGone(owners: readonly Owner[]) {
  return owners.map((owner) => ({ owner, former: new Map() }));
}

/**
 * Puts them back, but for containers' rules, which are made those of the fragments as they are now. For the holder of both locks. Says
 * what it put back. What cannot be put back stops nothing else. Throws Failure of iptables, of nft, and of the directory.
 */
export async function putBackRules(change: Unconfirmed, host: HostConfig): Promise<string[]> {
  const done: string[] = [];
  const failures: Failure[] = [];
  const step = (what: () => Promise<readonly string[]>) =>
    what().then(
      (said) => void done.push(...said),
      (error: unknown) => void failures.push(asFailure(error)),
    );
  for (const former of change.kernel.filter(({ variant }) => variant === null))
    await step(() => putBackFamily(former, change, host));
  for (const former of change.kernel) await step(() => putBackOther(former, host));
  for (const table of change.tables) await step(() => putBackTable(table, host));
  const [first] = failures;
  if (first === undefined) return done;
  throw new Failure(first.code, failures.map(({ message }) => message).join("; "), first.facts, { cause: first });
}

export async function putBackOther({ family, variant, text }: FormerRules, { timeout }: HostConfig): Promise<string[]> {
  if (variant === null) return [];
  await restoreBackend(family, variant, readLive(text), timeout);
  return [`the rules of the ${variant} backend`];
}

export async function putBackTable({ name, text }: FormerTable, { timeout }: HostConfig): Promise<string[]> {
  if ((await tableText(name, timeout)) !== undefined) return [];
  await restoreTable(name, text, timeout);
  return [`the nftables table ${name}`];
}

async function putBackFamily(
  { family, isWhole, text, record }: FormerRules,
  { chain, bare, isSetUp }: Unconfirmed,
  host: HostConfig,
): Promise<string[]> {
  const { timeout } = host;
  const directory = host.directories[family];
  const former = readLive(text);
  const what = isWhole ? await restoreWhole(family, former, host) : undefined;
  const before = await saveRules(family, timeout);
  const hadOurs = liveOwners(former).length > 0;
  const after = hadOurs
    ? await patchOwnRules({ family, directory, timeout }, { former: [], gone: [], before }, () => {})
    : await removeRules(family, asGone(liveOwners(before)), host);
  if (!isSetUp || bare.includes(family)) await dropChains(family, chain, host);
  const state = stateOf(family, directory);
  if (record === null) await removeKept(state, "left");
  else await keepState(state, "left", record);
  if (what !== undefined) return [what];
  return after === before ? [] : [`docker_iptables' own ${family} rules`];
}

/**
 * Without the rules of containers that have been unpublished since; what every load keeps (the user's chain, a swarm's mesh) is as others
 * have it by now.
 */
async function restoreWhole(
  family: Family,
  snapshot: Live,
  { directories, timeout }: HostConfig,
): Promise<string | undefined> {
  const fragments = await readFragments(directories[family]);
  const published = new Set(
    fragments.filter(({ text }) => hasRuleLines(text)).flatMap(({ path }) => containerOf(path) ?? []),
  );
  const gone = containersAmong(liveOwners(snapshot)).filter((name) => !published.has(name));
  const now = await saveRules(family, timeout);
  const carried = readLive(withPreserved(snapshot, preservedOf(snapshot, fragments), preservedOf(now, fragments)));
  const former = asGone(gone.map(containerOwner));
  return restoreSnapshot(family, carried, undefined, timeout, goneLines(former, fragments, carried));
}
