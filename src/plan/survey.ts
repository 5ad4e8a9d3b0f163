// What is there and what should be: our fragments and the kernel, compared. Reads, and changes nothing.

import { realpath } from "node:fs/promises";
import { join } from "node:path";
import { misfiledOf } from "../fragments/confirmed.ts";
import { directoryExists, missingDirectory, readOwn } from "../fragments/directory.ts";
import type { Written } from "../iptables/fragment-text.ts";
import type { Directories } from "../model/directories.ts";
import { Failure } from "../model/errors.ts";
import { FAMILIES, type Family } from "../model/family.ts";
import type { DesiredFragment } from "../rules/desired-fragment.ts";
import { inLanes } from "../system/lanes.ts";
import { verbose } from "../system/verbose.ts";
import type { Host } from "./backend.ts";
import { describeComparison } from "./comparison.ts";
import { hasRules, type Item, isContainers, type Kernel } from "./item.ts";

export interface Survey {
  items: Item[];
  /**
   * Paths of containers' fragments whose place on the list of this boot's is wrong: wanted, and a load would leave them out, or
   * gone, and one of that name would count.
   */
  misfiled: string[];
  live: Kernel;
}

/**
 * Throws Failure `fragment_not_a_file`, `directory_unusable`. `families` are those that the fragments are for, `live` is the
 * kernel, empty where it is not asked.
 */
export async function survey(
  wanted: readonly DesiredFragment[],
  families: readonly Family[],
  live: Kernel,
  host: Host,
): Promise<Survey> {
  const each = wanted.flatMap((one) => families.map((family) => ({ one, family })));
  const written = new Map(wanted.map((one) => [one, host.backend.write(one)]));
  const owns = await inLanes(each, ({ one, family }) => readItem(one, written.get(one) as Written, family, host));
  // A file may have both families, and rules in one of them alone.
  const lasting = new Set(owns.filter(hasRules).map(({ path }) => path));
  const entries = owns.filter(isContainers).map(({ path }) => ({ path, lasts: lasting.has(path) }));
  const items = compareWithKernel(owns, live, host);
  verbose(() => describeComparison(items, "files and kernel"));
  return { items, misfiled: await misfiledOf(entries), live };
}

/** The same items, compared with the kernel as it is now. Families that were seen just now are not looked at again. */
export async function surveyKernel(
  items: readonly Item[],
  host: Host,
  seen: Kernel = {},
): Promise<Omit<Survey, "misfiled">> {
  const unseen = FAMILIES.filter((one) => seen[one] === undefined && items.some(({ family }) => family === one));
  const live = { ...(await host.backend.read(unseen, host)), ...seen };
  const compared = compareWithKernel(items, live, host);
  verbose(() => describeComparison(compared, "kernel"));
  return { items: compared, live };
}

/**
 * Throws Failure `directory_unusable`, `arguments_invalid`. A host without a directory for IPv6 fragments is one without IPv6,
 * unless that is requested. `missing` are to be made, are those of families of which nothing is there to be removed, or are a failure.
 */
export async function familiesOf(
  { directories, needsIpv6, backend }: Host,
  missing: "make" | "skip" | "refuse" = "refuse",
): Promise<Family[]> {
  const existing = await Promise.all(FAMILIES.map((family) => directoryExists(directories[family])));
  if (!backend.hasOneDirectory) await refuseOneForBoth(directories);
  return FAMILIES.filter((family, index) => {
    if (existing[index] || missing === "make") return true;
    if (missing === "skip" || (family === "ipv6" && !needsIpv6)) return false;
    throw missingDirectory(directories[family]);
  });
}

/** In one directory for both families, each would take the other's fragment for its own. */
async function refuseOneForBoth({ ipv4, ipv6 }: Directories): Promise<void> {
  const [first, second] = await Promise.all([ipv4, ipv6].map((path) => realpath(path).catch(() => path)));
  if (first !== second) return;
  const message = `iptables_dir and ip6tables_dir are one directory, ${first}; each family needs its own`;
  throw new Failure("arguments_invalid", message, { path: first });
}

/** What the kernel lacks and has too many of each. Undefined drift where it is not asked. */
function compareWithKernel(items: readonly Omit<Item, "drift">[], live: Kernel, { backend }: Host): Item[] {
  return items.map((item) => {
    const running = live[item.family];
    return { ...item, drift: running && backend.compare({ ...item, text: item.after }, running) };
  });
}

async function readItem(
  fragment: DesiredFragment,
  { rules, texts, fragments }: Written,
  family: Family,
  { directories, backend }: Host,
): Promise<Omit<Item, "drift">> {
  const { owner } = fragment;
  const path = join(directories[family], backend.fileOf(owner));
  const before = await readOwn(path);
  return {
    owner,
    family,
    path,
    before,
    after: texts[family],
    fragment: fragments[family],
    former: backend.parse(before?.text ?? "", family, owner),
    wanted: new Map(Object.entries(rules[family])),
    meaning: "options" in fragment ? fragment.meaning[family] : [],
  };
}
