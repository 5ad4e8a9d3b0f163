// Fragments of containers that were not requested, and that claim what is requested: a port of the host, a container's address. The
// client says which container has it now: then the other's fragment is updated in the same transaction, or the call fails. Reads,
// and changes nothing.

import { dirname } from "node:path";
import { type Container, NAME } from "../docker/container.ts";
import { describePending, findConflicting, type Pending } from "../docker/find.ts";
import { describeNothingPublished } from "../docker/nothing-published.ts";
import type { PublishedContainer } from "../docker/published.ts";
import { type Fragments, textIn } from "../fragments/by-family.ts";
import { sortByBoot } from "../fragments/confirmed.ts";
import type { Fragment } from "../iptables/assemble.ts";
import { readFragment } from "../iptables/fragment-text.ts";
import { readClaims } from "../iptables/read.ts";
import { ConcurrentChange, Failure } from "../model/errors.ts";
import { FAMILIES, type Family } from "../model/family.ts";
import { containerOf } from "../model/owner.ts";
import { anyOr, spellPublish } from "../model/port-mapping.ts";
import type { Client } from "../model/request.ts";
import { type Claimant, ClaimIndex, claimantIn, claimantOf, type Shared, withAddresses } from "../rules/claim-index.ts";
import type { Ports } from "../rules/claims.ts";
import { type ContainerFragment, containerFragment } from "../rules/desired-fragment.ts";
import { verbose } from "../system/verbose.ts";
import type { HostRequest } from "./backend.ts";
import { closingFragmentFor, fragmentFor, keptOptions, optionsInRules, optionsOf } from "./desired.ts";
import type { Selection } from "./selection.ts";

/** Other containers' fragments as they should be, each once; without rules where the fragment is to be removed. */
export interface Conflicting {
  wanted: ContainerFragment[];
  warnings: string[];
}

/**
 * What becomes of the fragments that conflict with the requested ones. Without a conflict the client is not asked.
 *
 * A fragment whose container does not run is removed. One that is out of date is recreated, with the options that it keeps; one
 * from before this boot is removed, because nothing has requested it since. The client is asked once for all, and again only for
 * those that conflict with what was recreated. Throws Failure `port_conflict` where two containers run and claim one port, and
 * those of the client; ConcurrentChange where a requested one has been renamed since: it does not conflict with itself.
 */
export async function settleConflicts(
  { wanted: asked, addresses, names }: Pick<Selection, "wanted" | "addresses" | "names">,
  now: Fragments,
  { host, client, defaults, settings }: Asking,
): Promise<Conflicting> {
  const known = new ClaimIndex();
  for (const one of asked.map((wanted) => withAddresses(claimantOf(wanted), addresses))) {
    refuseSharedPorts(one, known.sharing(one));
    known.add(one);
  }
  const found: Conflicting = { wanted: [], warnings: [] };
  for (;;) {
    const clashes = conflictsWith([...asked, ...found.wanted], known, now);
    if (clashes.size === 0) return found;
    verbose(() => [...clashes.values()].map(({ path, what, owner }) => `conflict: ${path} claims ${what} of ${owner}`));
    // The requested network is that of the requested containers only.
    const kept = (container: Container) => optionsOf(container, now, defaults);
    const { network } = settings.values;
    const { targets, pending } = await findConflicting([...clashes.keys()], client, { optionsOf: kept, network });
    for (const { id, name } of targets) {
      const former = names.get(id);
      if (former !== undefined && former !== name) throw renamed(former, name);
    }
    const located = new Map(targets.map((target) => [target.name, target]));
    const unready = new Map(pending.map((one) => [one.name, one]));
    for (const [name, clash] of clashes) {
      // A name may also be the beginning of another container's id.
      const target = located.get(name);
      const why = unready.get(name) ?? { name, kind: "missing" };
      const { wanted, warnings } = await settleOne({ name, clash, target, why }, known, now, {
        host,
        client,
        defaults,
        settings,
      });
      known.add(claimantOf(wanted));
      found.wanted.push(wanted);
      found.warnings.push(...warnings);
    }
  }
}

function renamed(former: string, name: string): ConcurrentChange {
  const message = `the container ${former} was renamed to ${name} during this call; nothing was changed; retry`;
  return new ConcurrentChange(message, { containers: [former, name] });
}

type Asking = Pick<HostRequest, "host" | "client" | "defaults" | "settings">;

interface Clash {
  path: string;
  text: string;
  /** The port or the address, in words. */
  what: string;
  /** Whose it is today. */
  owner: string;
}

/** The containers not among these whose fragments claim what one of these claims, each with one such clash. */
export function conflictsWith(
  wanted: readonly ContainerFragment[],
  known: ClaimIndex,
  now: Fragments,
): Map<string, Clash> {
  const owners = new Set(wanted.map(({ owner }) => owner.name));
  const clashes = new Map<string, Clash>();
  for (const family of FAMILIES) {
    for (const one of now[family] ?? []) {
      const { path, text } = one;
      const name = containerOf(one) ?? "";
      if (!NAME.test(name) || owners.has(name) || clashes.has(name) || !known.mayShare(text, family)) continue;
      const theirs = claimantIn(family, name, readClaims(readFragment(text)));
      for (const { claimant, ports, address } of known.sharing(theirs)) {
        const what = ports ? spell(ports, family) : address;
        if (what !== undefined) clashes.set(name, { path, text, what, owner: claimant.owner });
      }
    }
  }
  return clashes;
}

interface Found {
  name: string;
  clash: Clash;
  target: PublishedContainer | undefined;
  /** Without a target: why there is none. */
  why: Pending;
}

/** One conflicting container's fragment as it should be. Throws Failure `port_conflict`. */
async function settleOne(
  { name, clash: { path, text, what, owner }, target, why }: Found,
  known: ClaimIndex,
  now: Fragments,
  { host, client, defaults }: Asking,
): Promise<{ wanted: ContainerFragment; warnings: string[] }> {
  const goes = (reason: string) => ({
    wanted: containerFragment(name, undefined, keptOptions(name, now, defaults)),
    warnings: [`stale fragment ${path} is removed: ${reason}, and ${what} now belongs to ${owner}`],
  });
  if (target === undefined) return goes(`the container ${name} ${describePending(why)}`);
  if (target.nothingPublished !== undefined) return goes(describeNothingPublished(name, target.nothingPublished));
  const { wanted, warnings } = fragmentFor(target, optionsInRules(name, now, defaults), defaults);
  const shared = known.sharing(claimantOf(wanted));
  refuseSharedPorts({ owner: name }, shared);
  if (!target.enabled) {
    const gone = goes(`the container ${name} is disabled by its label`);
    return { ...gone, wanted: closingFragmentFor(target, defaults)?.wanted ?? gone.wanted };
  }
  if (await isStale({ path, text })) return goes("it is from before this boot");
  const { fragments } = host.backend.write(wanted);
  const changes = FAMILIES.some((family) => textIn(now, family, name) !== fragments[family]);
  return {
    wanted,
    warnings: [
      ...(changes ? [`${path} is out of date and is updated: ${what} now belongs to ${owner}`] : []),
      ...warnOfSharedAddress(name, shared, client),
      ...target.warnings,
      ...warnings,
    ],
  };
}

function refuseSharedPorts({ owner }: Pick<Claimant, "owner">, shared: readonly Shared[]): void {
  for (const { claimant: other, family, ports } of shared) {
    if (ports === undefined) continue;
    const message =
      `the containers ${other.owner} and ${owner} both run and publish ${spell(ports, family)}; ` +
      "stop one of them, or publish it on another port or host address";
    throw new Failure("port_conflict", message, {
      containers: [other.owner, owner],
      address: anyOr(ports.hostAddress, family),
      port: ports.first,
      protocol: ports.protocol,
    });
  }
}

function warnOfSharedAddress(name: string, shared: readonly Shared[], { client }: Client): string[] {
  return shared.flatMap(({ claimant: other, address }) =>
    address === undefined ? [] : [`${client} says that ${name} and ${other.owner} both have the address ${address}`],
  );
}

async function isStale(fragment: Fragment): Promise<boolean> {
  return (await sortByBoot(dirname(fragment.path), [fragment])).stale.length > 0;
}

function spell({ hostAddress, protocol, first, last }: Ports, family: Family): string {
  return spellPublish({ family, hostAddress, hostPort: first, protocol }, last - first + 1);
}
