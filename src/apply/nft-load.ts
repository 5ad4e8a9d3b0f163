// How nftables takes the rules: our own table becomes what the directory says, by one transaction of what differs. No other table is touched.

import { currentFiles, linkConfirmed, type NftFile } from "../fragments/nft-directory.ts";
import type { Live } from "../iptables/live.ts";
import { asFailure, type Failure } from "../model/errors.ts";
import { FAMILIES, type Family } from "../model/family.ts";
import { containerOf } from "../model/owner.ts";
import { type HostConfig, removesHost } from "../model/request.ts";
import { changeTable, readOwnTable } from "../netfilter/own-table.ts";
import { declared } from "../nft/layout.ts";
import { liveOf, NftLive } from "../nft/live.ts";
import { withoutOwners, withTexts } from "../nft/snapshot.ts";
import { changesFor, type NftTable, NOTHING, readLines } from "../nft/table.ts";
import type { BeforeLoad, HostRequest, Locks, Look, Reloaded, WaysBack, Work } from "../plan/backend.ts";
import { type Item, isContainers, type Kernel } from "../plan/item.ts";
import { keepLastingState, readState, stateOf } from "../system/state.ts";
import { whatWaits } from "../system/unconfirmed-file.ts";
import { verbose } from "../system/verbose.ts";
import { loadUnit } from "../systemd/units.ts";

/** What loads, as the answer names it. */
export const NFT = "nft";

/** The directory, and the limit of each command in seconds. */
export interface NftPlace {
  directory: string;
  timeout: number;
  /** Whether a boot falls back to this though a change waits: it has just been confirmed. */
  isConfirmed?: true;
}

export interface NftLoaded {
  /** Whether anything differed. */
  changed: boolean;
  warnings: string[];
}

/** For the holder of the load lock. Throws Failure of nft, and of the directory: then nothing was changed. */
export async function loadTable(place: NftPlace): Promise<NftLoaded> {
  const { current, ...loaded } = await changeToFiles(place, await readOwnTable(place.timeout));
  return { ...loaded, warnings: [...loaded.warnings, ...(await keepGood(place, current))] };
}

/** The load itself; `table` is as it has just been read. */
async function changeToFiles(
  { directory, timeout }: NftPlace,
  table: NftTable | undefined,
): Promise<NftLoaded & { current: readonly NftFile[] }> {
  const { current, stale } = await currentFiles(directory);
  const lines = changesFor(goalOf(current), table);
  verbose(() => `load: ${lines.length === 0 ? "live already" : `${lines.length} commands`}: ${directory}`);
  if (lines.length > 0) await changeTable(lines, timeout);
  const skipped = stale.map(({ path }) => `${path} is from before this boot; skipped until 'create' confirms it`);
  return { changed: lines.length > 0, warnings: [...current.flatMap(warnOfStrange), ...skipped], current };
}

/** What these files say together; an element that two of them state is the host's, else the first one's. Pure. */
export function goalOf(files: readonly NftFile[]): NftTable {
  const isHosts = (one: NftFile) => containerOf(one) === undefined;
  const sorted = [...files.filter(isHosts), ...files.filter((one) => !isHosts(one))];
  return readLines(
    sorted.flatMap(({ file }) => file.split("\n")),
    declared(),
  ).table;
}

/** Lines that docker_iptables does not write. */
function warnOfStrange({ path, read: { strange } }: NftFile): string[] {
  const [first, ...more] = strange;
  if (first === undefined) return [];
  const others = more.length === 0 ? "" : ` and ${more.length} more`;
  return [
    `${path} line ${first}${others}: not written by docker_iptables, and not loaded; put it into a table of your own`,
  ];
}

/** What a boot falls back to, the host's own part, and what counts in this boot. What fails here is a warning: the rules are live. */
async function keepGood({ directory, isConfirmed }: NftPlace, current: readonly NftFile[]): Promise<string[]> {
  const own = current.filter((one) => containerOf(one) === undefined);
  try {
    await linkConfirmed(directory, current);
    // While a change waits, a boot still falls back to what ran before it.
    if (!isConfirmed && (await whatWaits({ ipv4: directory, ipv6: directory })) !== undefined) return [];
    await keepLastingState(stateOf("ipv4", directory), "rules", [...changesFor(goalOf(own), undefined), ""].join("\n"));
    return [];
  } catch (error) {
    return [`the rules are loaded, but not kept for the next boot: ${asFailure(error).message}`];
  }
}

/**
 * The last good rules, where the host has none at all: what a boot falls back to when `why` has stopped the load. Returns what to say of
 * it. For the holder of the load lock.
 */
export async function loadLastGood({ directory, timeout }: NftPlace, why: Failure): Promise<Failure> {
  const kept = await readState(stateOf("ipv4", directory), "rules");
  if (kept === undefined || (await readOwnTable(timeout).catch(() => NOTHING)) !== undefined) return why;
  await changeTable(kept.split("\n"), timeout);
  why.message += "; the last good rules were loaded instead";
  return why;
}

/** `Backend.load`. */
export async function loadNft(
  _families: readonly Family[],
  { live }: Look,
  { load, locks, request }: Work,
): Promise<Reloaded> {
  const { host } = request;
  const { loader } = load;
  if (loader.kind === "unusable") throw loader.why;
  const place = { directory: host.directories.ipv4, timeout: host.timeout };
  const units = loader.kind === "systemd" ? loader.units.filter(({ start }) => start) : [];
  const warnings: string[] = [];
  // They load the directory; what is live already is not loaded again.
  for (const unit of units) warnings.push(...(await loadUnit(unit, host.timeout)));
  const seen = units.length === 0 && live.ipv4 instanceof NftLive ? live.ipv4 : undefined;
  return locks.holding(FAMILIES, async () => {
    const before = seen === undefined ? await readOwnTable(place.timeout) : seen.table;
    const { current, ...loaded } = await changeToFiles(place, before);
    // What is kept for a boot and the look at what is live do not wait for each other.
    const looking = readNft(FAMILIES, place.timeout);
    looking.catch(() => {});
    const kept = await keepGood(place, current);
    const after = await looking;
    const reloaded = [...units.map(({ name }) => name), ...(loaded.changed ? [NFT] : [])];
    return { reloaded, warnings: [...warnings, ...loaded.warnings, ...kept], live: after };
  });
}

/** `Backend.waysBack`. A transaction that failed has changed nothing; these are for what fails behind it. */
export function nftWaysBack(
  families: readonly Family[],
  { live, items, going }: BeforeLoad,
  locks: Locks,
  { directories, timeout }: HostConfig,
): WaysBack {
  const before = live.ipv4 ?? live.ipv6;
  if (families.length === 0 || !(before instanceof NftLive)) return { snapshots: [], salvages: [] };
  const { table } = before;
  const place = { directory: directories.ipv4, timeout };
  const isFirst = items.some((item) => !isContainers(item) && item.before === undefined);
  // A rollback never leads to an open host.
  if (table === undefined && !isFirst) {
    const salvage = async () => ((await loadTable(place)).changed ? "what the fragments say" : undefined);
    return { snapshots: [], salvages: [() => locks.holding(FAMILIES, salvage).catch(() => undefined)] };
  }
  const owners = going.map(({ owner }) => owner);
  const back = async () => {
    const former = table === undefined ? NOTHING : withTexts(withoutOwners(table, owners));
    const lines = changesFor(former, await readOwnTable(timeout));
    if (lines.length > 0) await changeTable(lines, timeout);
    return lines.length === 0 ? undefined : "the rules";
  };
  return { snapshots: [() => locks.holding(FAMILIES, back)], salvages: [] };
}

/** `Backend.remove`. */
export async function removeFromTable(
  family: Family,
  gone: readonly Item[],
  { subject, host }: Pick<HostRequest, "subject" | "host">,
): Promise<Live> {
  const table = await readOwnTable(host.timeout);
  if (table !== undefined) {
    const owners = gone.map(({ owner }) => owner);
    const left = removesHost(subject) ? NOTHING : withTexts(withoutOwners(table, owners));
    const lines = changesFor(left, table);
    if (lines.length > 0) await changeTable(lines, host.timeout);
  }
  return (await readNft([family], host.timeout))[family] as Live;
}

/** `Backend.read`. */
export async function readNft(families: readonly Family[], timeout: number): Promise<Kernel> {
  const live = families.length === 0 ? undefined : liveOf(await readOwnTable(timeout));
  return Object.fromEntries(families.map((family) => [family, live?.[family]]));
}

/** Whether a load would change anything. Throws as `loadTable`. */
export async function differsFrom({ directory, timeout }: NftPlace): Promise<boolean> {
  const { current } = await currentFiles(directory);
  return changesFor(goalOf(current), await readOwnTable(timeout)).length > 0;
}
