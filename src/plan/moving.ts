// A host that changes its backend: what the former one has of ours becomes fragments of the new one, and goes. Reads, and changes nothing.

import type { Fragments } from "../fragments/by-family.ts";
import { ownersIn, textIn } from "../fragments/by-family.ts";
import { sortByBoot } from "../fragments/confirmed.ts";
import { readOwn } from "../fragments/directory.ts";
import type { Fragment } from "../iptables/assemble.ts";
import { isManaged, readFragment, writeFragment } from "../iptables/fragment-text.ts";
import { readMeaning } from "../iptables/read.ts";
import { Failure } from "../model/errors.ts";
import { FAMILIES } from "../model/family.ts";
import type { Options } from "../model/options.ts";
import { containerOf, HOST_FILES, ownerOf } from "../model/owner.ts";
import { setsUp } from "../model/request.ts";
import { type ContainerFragment, containerFragment } from "../rules/desired-fragment.ts";
import { NO_RULES } from "../rules/model.ts";
import type { PlannedUnit } from "../systemd/install.ts";
import { planRemoval } from "../systemd/install.ts";
import { retryTimerOf } from "../systemd/unit-text.ts";
import { someOf } from "../text/words.ts";
import type { Host, HostRequest } from "./backend.ts";
import { keptOptions } from "./desired.ts";
import { readDirectories } from "./directories.ts";
import type { FileChange } from "./item.ts";
import { loadersOf } from "./services.ts";

export interface Move {
  /** The host as it was. */
  from: Host;
  /** Its fragments. */
  now: Fragments;
  /** What its containers have, for the new backend. */
  containers: ContainerFragment[];
  /** Its files of ours, which are removed. */
  files: FileChange[];
  warnings: string[];
}

/**
 * Undefined where the other backend has no host rules of ours. Throws Failure `fragment_foreign` where its directories have fragments of
 * others, which nothing would load any more.
 */
export async function findMove(request: Pick<HostRequest, "subject" | "host" | "defaults">): Promise<Move | undefined> {
  const { subject, host, defaults } = request;
  const { other } = host;
  if (!setsUp(subject) || other === undefined) return undefined;
  const now = await readDirectories(other);
  const all = Object.values(now).flat();
  const isOurs = (one: Fragment) => ownerOf(one) !== undefined && isManaged(one.text);
  const isHosts = (one: Fragment) => {
    const owner = ownerOf(one);
    return owner?.kind === "host" && owner.file === HOST_FILES[0] && isManaged(one.text);
  };
  if (!all.some(isHosts)) return undefined;
  const foreign = [...new Set(all.filter((one) => !isOurs(one)).map(({ path }) => path))];
  if (foreign.length > 0) {
    const message = `${someOf(foreign)} of the other backend are not docker_iptables', and nothing would load them once its service is gone: move them to where another service loads them, and run setup again`;
    throw new Failure("fragment_foreign", message, { paths: foreign });
  }
  const current = await withoutStale(now, other);
  const containers = [...ownersIn(current)]
    .sort()
    .map((name) => convert(name, current, keptOptions(name, now, defaults), defaults.chain));
  return {
    from: other,
    now,
    containers: containers.map(({ fragment }) => fragment),
    files: await Promise.all(
      [...new Set(all.map(({ path }) => path))].map(async (path) => ({
        path,
        before: await readOwn(path),
        after: undefined,
      })),
    ),
    warnings: containers
      .filter(({ isWhole }) => !isWhole)
      .map(
        ({ fragment: { owner } }) =>
          `the fragment of ${owner.name} has rules that docker_iptables does not write: 'docker_iptables create ${owner.name}' publishes it anew`,
      ),
  };
}

/** What is from before this boot is not brought along. */
async function withoutStale(now: Fragments, { directories }: Host): Promise<Fragments> {
  const sorted = FAMILIES.map(async (family) => {
    const { current } = await sortByBoot(directories[family], now[family] ?? []);
    return [family, current.filter((one) => containerOf(one) !== undefined)] as const;
  });
  return Object.fromEntries(await Promise.all(sorted));
}

function convert(name: string, now: Fragments, options: Options, chain: string) {
  const meaning = { ...NO_RULES };
  let isWhole = true;
  for (const family of FAMILIES) {
    const rules = readFragment(textIn(now, family, name) ?? "");
    meaning[family] = readMeaning(rules);
    // Whether they are all that it has.
    const chain = rules.get("nat")?.find((rule) => rule.includes("DNAT"))?.[1] ?? "";
    const again = writeFragment(
      containerFragment(name, { meaning: { ...NO_RULES, [family]: meaning[family] }, chain }),
    );
    const count = (some: Iterable<readonly unknown[]>) => [...some].flat().length;
    isWhole &&= count(rules.values()) === count(Object.values(again.rules[family]));
  }
  return { fragment: containerFragment(name, { meaning, chain: options.chain ?? chain }, options), isWhole };
}

/** The services of the former backend that go: those that are not the new one's. */
export function planFormerUnits({ from }: Move, staying: readonly PlannedUnit[]): Promise<PlannedUnit[]> {
  const names = loadersOf(from).filter((name) => !staying.some((unit) => unit.name === name));
  return planRemoval([...names, ...names.map(retryTimerOf)], from.timeout);
}
