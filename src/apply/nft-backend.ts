// nftables as a backend (plan/backend.ts): a table of our own, whose fragments are in one directory for both families.

import { basename, join } from "node:path";
import { untrustedIn } from "../fragments/access.ts";
import { directoryExists, missingDirectory } from "../fragments/directory.ts";
import {
  confirmedDirectoryOf,
  nftFileOf,
  ownerOfNftFile,
  readNftFiles,
  readNftFragments,
} from "../fragments/nft-directory.ts";
import { changedDnats } from "../iptables/changed-dnats.ts";
import type { Directories } from "../model/directories.ts";
import { asFailure, Failure, orElse } from "../model/errors.ts";
import { FAMILIES } from "../model/family.ts";
import { containerOf, HOST_FILES, spellOwner } from "../model/owner.ts";
import { setsUp } from "../model/request.ts";
import { mayLoad, unconfirmedFailure } from "../model/unconfirmed.ts";
import { everybodyElse, firewalldRuns, saveBackend, tableText, usesLegacy } from "../netfilter/foreign-firewalls.ts";
import { saveRules } from "../netfilter/iptables.ts";
import { decides } from "../netfilter/nft-tables.ts";
import { changeTable, readOwnTable } from "../netfilter/own-table.ts";
import { compareNft } from "../nft/compare.ts";
import { CHAIN, listNftRules, readNft, writeNft } from "../nft/fragment-text.ts";
import { NftLive, nftOwners } from "../nft/live.ts";
import { withTexts } from "../nft/snapshot.ts";
import { changesFor } from "../nft/table.ts";
import type { Backend, LoadedHost, LoadHostRequest } from "../plan/backend.ts";
import { hasRules, type Item, isContainers, type Kernel } from "../plan/item.ts";
import { planNftHost, readIptables } from "../plan/nft-setup.ts";
import type { Load } from "../plan/plan.ts";
import { findUnzoned, NOBODY_AROUND } from "../plan/preflight.ts";
import type { Former } from "../plan/unconfirmed.ts";
import { warnOfHost } from "../plan/validate.ts";
import { withLoadLock } from "../system/lock.ts";
import { findUnconfirmed, readNow } from "../system/unconfirmed-file.ts";
import { isLoader } from "../systemd/install.ts";
import { isShuttingDown } from "../systemd/units.ts";
import { putBackOther, putBackTable } from "./former-rules.ts";
import { removeOthers } from "./iptables-load.ts";
import { leaveNft } from "./leaving.ts";
import { trustAgain } from "./load.ts";
import {
  differsFrom,
  loadLastGood,
  loadNft,
  loadTable,
  NFT,
  type NftPlace,
  nftWaysBack,
  readNft as readLive,
  removeFromTable,
} from "./nft-load.ts";
import { NftLookout } from "./nft-lookout.ts";

/** `directory` is that of the fragments. */
export function nftBackend(directory: string): Backend {
  const confirmed = confirmedDirectoryOf(directory);
  return {
    hasOneDirectory: true,
    fileOf: nftFileOf,
    write: (fragment) => writeNft(fragment, confirmed),
    parse: (text, family, owner) => new Map(Object.entries(readNft(text, owner).words.rules[family])),
    listRules: (fragments) => ({ inet: listNftRules(fragments, confirmed) }),
    readFragments: readNftFragments,

    read: (families, { timeout }) => readLive(families, timeout),
    ownersIn: (live) => (live instanceof NftLive && live.table !== undefined ? nftOwners(live.table) : []),
    nameRule: (rule, live) => (live instanceof NftLive ? live.origin(rule) : rule),
    compare({ owner, family, text }, live) {
      const { table } = readNft(text ?? "", owner);
      return compareNft(spellOwner(owner), family, table, live instanceof NftLive ? live.table : undefined);
    },
    // The words of what runs are made for it, and most hosts publish no UDP.
    changedDnats: (items, live) => (mentionsUdp(items, live) ? changedDnats(items, live) : new Map()),

    fit: async (wanted) => ({ wanted: [...wanted], warnings: [] }),
    lackForLists: async () => undefined,
    planHost: planNftHost,
    validate: (items, future) => refuseWithoutTable(items, Object.values(future).flat(), directory),
    warnOfDaemon: () => [],
    warnOfHost: (items, future) => warnOfHost(items, future, CHAIN),
    warnOfBarriers: () => [],
    otherFirewalls: (_live, timeout) => everybodyElse(timeout),
    async chooseLoader({ base }, { subject, host, loading: { reload } }) {
      if (reload === "none") return { kind: "none" };
      if (setsUp(subject) && reload === "systemd") return { kind: "systemd", units: base.units.filter(isLoader) };
      const ends = reload === "systemd" && subject.state === "absent" && (await isShuttingDown(host.timeout));
      return ends ? { kind: "shutdown" } : { kind: "restore" };
    },

    commandFor: () => NFT,
    refuseNewcomers: async () => {},
    waysBack: nftWaysBack,
    load: loadNft,
    remove: removeFromTable,
    removeOthers,
    leave: (host, _chain, undo) => leaveNft(host, undo),
    former: (load, _chain, { timeout }) => readFormer(load, directory, timeout),
    async putBack({ kernel, tables }, host) {
      const done: string[] = [];
      for (const former of kernel) done.push(...(await putBackOther(former, host)));
      for (const table of tables) done.push(...(await putBackTable(table, host)));
      const former = kernel.find(({ variant, isWhole }) => variant === null && isWhole);
      const place = { directory, timeout: host.timeout };
      if (former !== undefined) await changeTable(former.text.split("\n"), host.timeout);
      const changed = former !== undefined || (await loadTable(place)).changed;
      return changed ? [...done, "docker_iptables' own rules"] : done;
    },
    async formerRules(_families, { timeout }) {
      const table = await readOwnTable(timeout);
      const text = changesFor(withTexts(table ?? EMPTY), undefined).join("\n");
      return [{ family: "ipv4", variant: null, isWhole: true, text, record: null }];
    },
    async keepConfirmed(_family, _isWhole, { timeout }) {
      const { warnings } = await loadTable({ directory, timeout, isConfirmed: true });
      return warnings;
    },
    loadHost: (request) => loadHost(directory, request),
    flags: () => ["--backend", "nft", "--nftables-dir", directory],

    async lookAround({ now, networks }, { timeout }) {
      const unzoned = (await firewalldRuns(timeout)) ? await findUnzoned(networks, timeout) : [];
      const { tables, iptables } = await everybodyElse(timeout);
      const found = { ...NOBODY_AROUND, unzoned, tables: tables.filter(decides), iptables };
      return { declared: now, found };
    },
    async findBroken(_fragments, family) {
      if (family !== "ipv4") return undefined;
      const files = await readNftFiles(directory);
      const broken = files.find(({ read }) => read.strange.length > 0);
      if (broken === undefined) return undefined;
      const { path, read } = broken;
      const message = `${path} line ${read.strange[0]}: not written by docker_iptables, and not loaded`;
      return new Failure("fragment_invalid", message, { path, line: read.strange[0] });
    },
    findForeign: async () => [],
    lookout: ({ timeout }) => new NftLookout(timeout),
    whereElse: async () => [],
  };
}

function mentionsUdp(items: readonly Item[], live: Kernel): boolean {
  const isIn = (text: string | undefined) => text?.includes(" udp . ") === true;
  if (items.some(({ before, after }) => isIn(before?.text) || isIn(after))) return true;
  const table = live.ipv4 instanceof NftLive ? live.ipv4.table : undefined;
  return [...(table?.sets ?? [])].some(
    ([name, { elements }]) => name.startsWith("publish") && [...elements.keys()].some((key) => key.includes("udp . ")),
  );
}

const EMPTY = { sets: new Map(), chains: new Map() };

/** Elements are of no use without the chains that look them up. Throws Failure `chain_not_declared`. */
function refuseWithoutTable(items: readonly Item[], future: readonly { path: string }[], directory: string): void {
  const [first] = HOST_FILES;
  const isFirst = ({ path }: { path: string }) => {
    const owner = ownerOfNftFile(basename(path));
    return owner?.kind === "host" && owner.file === first;
  };
  if (!items.some(hasRules) || future.some(isFirst)) return;
  const path = join(directory, `${first}.nft`);
  const message = `this host is not set up for nftables: ${path} does not exist; 'docker_iptables setup' writes it, with the host rules`;
  throw new Failure("chain_not_declared", message, { path });
}

/** The verb load. */
async function loadHost(directory: string, { host, check }: LoadHostRequest): Promise<LoadedHost> {
  const { timeout } = host;
  if (!(await directoryExists(directory))) throw missingDirectory(directory);
  const place = { directory, timeout };
  const fragments = await readNftFiles(directory);
  const untrusted = await untrustedIn(directory, fragments);
  const loaded = check
    ? { changed: await differsFrom(place), warnings: [] }
    : await withLoadLock([directory], timeout, async () => {
        const loading = refuseDistrusted(place, host.directories).then(() => loadTable(place));
        return loading.catch(async (error: unknown) => {
          throw await loadLastGood(place, asFailure(error));
        });
      });
  return { changed: loaded.changed ? [...FAMILIES] : [], untrusted, warnings: loaded.warnings };
}

/**
 * What was put back because nobody confirmed it is not loaded until its fragments say again what runs. Throws Failure `unconfirmed`.
 */
async function refuseDistrusted(place: NftPlace, directories: Directories): Promise<void> {
  const change = await findUnconfirmed(directories);
  if (change === undefined) return;
  const now = await readNow();
  if (!mayLoad(change, "ipv4", now) && (await differsFrom(place))) throw unconfirmedFailure(change, now);
  await trustAgain(FAMILIES, directories);
}

/** What Docker left, which this takes away; our own rules are what the fragments say. Throws Failure of the directory and of iptables. */
async function readFormer({ base, found }: Load, directory: string, timeout: number): Promise<Former> {
  // Once it is confirmed, a boot falls back to what runs.
  const kernel: Former["kernel"] = [{ family: "ipv4", variant: null, isWhole: false, text: "", record: null }];
  const tables: Former["tables"] = [];
  for (const one of base.leftovers) {
    if (one.kind === "table") {
      const text = await tableText(one.name, timeout);
      if (text !== undefined) tables.push({ name: one.name, text });
      continue;
    }
    const { family, backend } = one;
    const live = backend === undefined ? await saveRules(family, timeout) : await saveBackend(family, backend, timeout);
    const variant = backend ?? (usesLegacy(live) ? "legacy" : "nft");
    kernel.push({ family, variant, isWhole: true, text: live.text, record: null });
  }
  if (base.move !== undefined) {
    const running = await readIptables(timeout);
    for (const family of FAMILIES) {
      const live = running[family];
      if (live === undefined) continue;
      kernel.push({
        family,
        variant: usesLegacy(live) ? "legacy" : "nft",
        isWhole: true,
        text: live.text,
        record: null,
      });
    }
  }
  const files = await readNftFiles(directory).catch(orElse([]));
  const containers = files.filter((one) => containerOf(one) !== undefined).map(({ path }) => path);
  const isBare = !found.items.some((item) => !isContainers(item) && item.before !== undefined);
  return { kernel, tables, bare: isBare ? [...FAMILIES] : [], containers, armed: [] };
}
