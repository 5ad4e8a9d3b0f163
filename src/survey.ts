// What is there and what should be: the containers' fragments and the kernel, compared. Reads, and changes nothing.

import { realpath } from "node:fs/promises";
import { join } from "node:path";
import { FAMILIES, type Family } from "./docker/container.ts";
import { Failure } from "./errors.ts";
import { isConfirmed } from "./fragments/confirmed.ts";
import { directoryExists, missingDirectory, type Own, readOwn } from "./fragments/directory.ts";
import type { Arguments } from "./generated/arguments.ts";
import { saveRules } from "./kernel/iptables.ts";
import { fragmentName, fragmentText, readFragment } from "./rules/fragment-text.ts";
import { compareLive, type Drift, drifts, type Live, type Tables } from "./rules/live.ts";
import type { Ruleset } from "./rules/rule.ts";

/** One container and the rules that it should have; none of them for `absent`. */
export interface Wanted {
  name: string;
  rules: Ruleset;
}

/** One container's fragment in one family: as it is, as it should be, and how the kernel differs. */
export interface Item {
  container: string;
  family: Family;
  path: string;
  before: Own | undefined;
  after: string | undefined;
  former: Tables;
  wanted: Tables;
  /** Undefined where the kernel is not asked (`reload: none`). */
  drift: Drift | undefined;
}

export interface Survey {
  items: Item[];
  /** Paths of wanted fragments that do not count as of this boot yet, so that a load would leave them out. */
  unconfirmed: string[];
  live: Partial<Record<Family, Live>>;
}

export function fileChanges({ before, after }: Item): boolean {
  return before?.text !== after;
}

export function itemChanges(item: Item): boolean {
  return fileChanges(item) || (item.drift !== undefined && drifts(item.drift));
}

export function directoryOf(family: Family, args: Arguments): string {
  return family === "ipv4" ? args.iptables_dir : args.ip6tables_dir;
}

/**
 * Throws Failure `directory_unusable`, `fragment_not_a_file`, and those of iptables-save. A host without IPv6 fragments
 * (no directory, no ip6tables) is one without IPv6, unless `ipv6` asks for it.
 */
export async function survey(wanted: readonly Wanted[], args: Arguments): Promise<Survey> {
  const families = await familiesOf(args);
  const [live, owns] = await Promise.all([
    args.reload === "none" ? {} : readKernel(families, args),
    Promise.all(wanted.flatMap(({ name, rules }) => families.map((family) => readItem(name, rules, family, args)))),
  ]);
  const lasting = owns.filter(({ after }) => after !== undefined).map(({ path }) => path);
  const confirmed = await Promise.all(lasting.map(isConfirmed));
  return {
    items: owns.map((item) => compare(item, live)),
    unconfirmed: lasting.filter((_, index) => !confirmed[index]),
    live,
  };
}

/** The same items, compared with the kernel as it is now. */
export async function surveyKernel(items: readonly Item[], args: Arguments): Promise<Omit<Survey, "unconfirmed">> {
  const live = await readKernel(await familiesOf(args), args);
  return { items: items.map((item) => compare(item, live)), live };
}

async function familiesOf(args: Arguments): Promise<Family[]> {
  const existing = await Promise.all(FAMILIES.map((family) => directoryExists(directoryOf(family, args))));
  await refuseOneForBoth(args);
  return FAMILIES.filter((family, index) => {
    if (existing[index]) return true;
    if (family === "ipv6" && !args.ipv6) return false;
    throw missingDirectory(directoryOf(family, args));
  });
}

/** In one directory for both families, each would take the other's fragment for its own. */
async function refuseOneForBoth({ iptables_dir, ip6tables_dir }: Arguments): Promise<void> {
  const [first, second] = await Promise.all(
    [iptables_dir, ip6tables_dir].map((path) => realpath(path).catch(() => path)),
  );
  if (first !== second) return;
  const message = `iptables_dir and ip6tables_dir are one directory, ${first}; each family needs its own`;
  throw new Failure("arguments_invalid", message, { path: first });
}

async function readKernel(families: readonly Family[], args: Arguments): Promise<Partial<Record<Family, Live>>> {
  const saved = await Promise.all(
    families.map(async (family) => {
      try {
        return [[family, await saveRules(family, args.timeout)] as const];
      } catch (error) {
        const dispensable = family === "ipv6" && !args.ipv6;
        if (dispensable && error instanceof Failure && error.code === "command_missing") return [];
        throw error;
      }
    }),
  );
  return Object.fromEntries(saved.flat());
}

async function readItem(
  container: string,
  rules: Ruleset,
  family: Family,
  args: Arguments,
): Promise<Omit<Item, "drift">> {
  const path = join(directoryOf(family, args), fragmentName(container));
  const before = await readOwn(path);
  return {
    container,
    family,
    path,
    before,
    after: fragmentText(container, rules[family]),
    former: readFragment(before?.text ?? ""),
    wanted: new Map(Object.entries(rules[family])),
  };
}

function compare(item: Omit<Item, "drift">, live: Partial<Record<Family, Live>>): Item {
  const running = live[item.family];
  return { ...item, drift: running && compareLive(item.container, item.wanted, item.former, running) };
}
