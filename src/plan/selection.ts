// Which containers a call is about, and the fragments that they should have. Reads, and changes nothing.

import { inspectContainers } from "../docker/client.ts";
import { type Container, NAME } from "../docker/container.ts";
import {
  CONTAINER_ID,
  describePending,
  findPublished,
  findRunning,
  type Listener,
  type Skipped,
  withNearNames,
} from "../docker/find.ts";
import { warnOfUntrusted } from "../docker/proxy.ts";
import type { PublishedContainer } from "../docker/published.ts";
import { type Fragments, ownersIn, textIn } from "../fragments/by-family.ts";
import { keysWithout, readKeys } from "../model/allow.ts";
import { Failure } from "../model/errors.ts";
import { FAMILIES } from "../model/family.ts";
import { droppedOptions, type Options, readHead } from "../model/options.ts";
import { containersAmong, hasHostRules } from "../model/owner.ts";
import type { Defaults, Request } from "../model/request.ts";
import { isShortened, namesInComments } from "../nft/elements.ts";
import { type Addresses, ClaimIndex, claimantOf } from "../rules/claim-index.ts";
import type { NoRules } from "../rules/container-rules.ts";
import { type ContainerFragment, containerFragment } from "../rules/desired-fragment.ts";
import type { Host, HostRequest } from "./backend.ts";
import { closingFragmentFor, fragmentFor, keptOptions, type Listed, optionsOf } from "./desired.ts";
import { hasChanges, type Kernel } from "./item.ts";
import { refuseKeys, refusePorts } from "./lists.ts";
import { describeStale, sortSkipped } from "./skipped.ts";
import { familiesOf, survey } from "./survey.ts";

export interface Selection {
  /** Without a rule where the fragment is to be removed. */
  wanted: ContainerFragment[];
  /** Of those that were named, also where no rule leads: another's fragment must not lead there either. */
  addresses: Addresses;
  /** Id -> name of the containers that were found. */
  names: ReadonlyMap<string, string>;
  /** Containers whose rules check mode cannot predict. */
  pending: string[];
  /** Those without a rule, or with nothing to do, and why. */
  notPublished: NotPublished[];
  /** Names of running containers whose fragments stay as they are, because they are true. */
  left: string[];
  /** Whether some container was waited for. */
  waited: boolean;
  warnings: string[];
}

export interface NotPublished {
  name: string;
  /** `others` have what this one has not: perhaps one of those names was meant. */
  why: NoRules | { kind: "absent_already"; what: "fragment" | "rules"; others: ReadonlySet<string> };
}

/** What of a request decides whom it is about, and what they should have. */
export type SelectionRequest = Pick<
  HostRequest,
  "subject" | "host" | "client" | "defaults" | "loading" | "options" | "waitTimeout" | "check"
>;

const NOBODY: Selection = {
  wanted: [],
  addresses: new Map(),
  names: new Map(),
  pending: [],
  notPublished: [],
  left: [],
  waited: false,
  warnings: [],
};

/**
 * `here` are the fragments from before the client is asked; only `all` reads them. In check mode it does not wait. Throws Failure:
 * of the client, of `findTargets`.
 */
export async function select(
  request: SelectionRequest,
  here: Fragments,
  signal: AbortSignal,
  listener: Listener,
): Promise<Selection> {
  const { all, state, containers } = request.subject;
  if (all) return state === "present" ? askForRunning(request, here) : askForNobody(here);
  if (state === "absent") return askForAbsent(request);
  return containers.length === 0 ? NOBODY : askForNamed(request, here, signal, listener);
}

async function askForNamed(
  request: SelectionRequest,
  here: Fragments,
  signal: AbortSignal,
  listener: Listener,
): Promise<Selection> {
  const { subject, check } = request;
  if (check && !subject.base && !hasHostRules(Object.values(here).flat())) return notSetUp(subject.containers);
  return selectNamed(request, here, signal, listener);
}

/** The containers that a call names. In check mode it does not wait. Throws as `select`. */
export async function selectNamed(
  { subject, client, defaults, options, waitTimeout, check }: SelectionRequest,
  here: Fragments,
  signal: AbortSignal,
  listener: Listener,
): Promise<Selection> {
  const wait = check ? undefined : waitTimeout;
  const { network } = defaults;
  const ofOne = (container: Container) => (subject.containers.length > 1 ? aboutPorts(options, container) : options);
  const found = await findPublished(subject.containers, client, ofOne, { wait, signal, listener, network });
  const { targets, pending, waited } = found;
  const { allow = {} } = options;
  if (pending.length === 0) refuseKeys(targets, allow);
  await refusePorts(allow, defaults.groups);
  const { wanted, notPublished, warnings } = makeAll(targets, defaults);
  const dropped = targets.flatMap((target) => warnOfDropped(target.name, target.options, here));
  const unknown = (await withNearNames(pending, client)).map(
    (one) => `the container ${one.name} ${describePending(one)}: its rules cannot be predicted yet`,
  );
  return {
    ...NOBODY,
    wanted,
    addresses: new Map(targets.map((target) => [target.name, target.addresses])),
    names: namesById(targets),
    pending: pending.map(({ name }) => name),
    notPublished,
    waited,
    warnings: [...unknown, ...found.warnings, ...warnings, ...dropped],
  };
}

/** Of lists that several containers are given, those about the ports of one. */
function aboutPorts({ allow, ...options }: Options, { publishes }: Container): Options {
  if (allow === undefined) return options;
  const idle = new Set(keysWithout(publishes, readKeys(allow)));
  const own = Object.entries(allow).filter(([key]) => !idle.has(key));
  // As if it were given none: what it had is told.
  return own.length === 0 && idle.size > 0 ? options : { ...options, allow: Object.fromEntries(own) };
}

/** A prediction for a host whose setup is predicted, too, as a play or a highstate does: setup will come first. */
function notSetUp(names: readonly string[]): Selection {
  const warning = `this host is not set up: the rules of ${names.join(", ")} cannot be predicted until 'docker_iptables setup' has run`;
  return { ...NOBODY, pending: [...names], warnings: [warning] };
}

/** A call that names a container is declarative: what an earlier one gave, and this one does not, is gone. */
function warnOfDropped(name: string, options: Options, here: Fragments): string[] {
  const former = FAMILIES.map((family) => textIn(here, family, name)).find((text) => text !== undefined);
  const dropped = former === undefined ? [] : droppedOptions(readHead(former), options);
  return dropped.length === 0
    ? []
    : [`${name}: this call does not give ${dropped.join(" ")}, as an earlier call did; it is dropped`];
}

function namesById(targets: readonly PublishedContainer[]): Map<string, string> {
  return new Map(targets.flatMap(({ id, name }) => (id === "" ? [] : [[id, name]])));
}

function makeAll(
  targets: readonly PublishedContainer[],
  defaults: Defaults,
): Pick<Selection, "wanted" | "notPublished" | "warnings"> {
  const made = targets.map((target) => ({ target, ...fragmentFor(target, defaults, defaults) }));
  return {
    wanted: made.map(({ wanted }) => wanted),
    notPublished: made.flatMap(({ target: { name }, none }) => (none === undefined ? [] : [{ name, why: none }])),
    warnings: made.flatMap(({ target, warnings }) => [...target.warnings, ...warnings]),
  };
}

/** Every running container that publishes, and the fragments of those that do not run any more. */
async function askForRunning(
  { client, defaults }: Pick<Request, "client" | "defaults">,
  here: Fragments,
): Promise<Selection> {
  const owners = ownersIn(here);
  const { targets, left, unusable, warnings, untrusted } = await findRunning(owners, client, {
    optionsOf: (container) => optionsOf(container, here, defaults),
    network: defaults.network,
  });
  const { staying, untrue } = sortSkipped(left, here);
  const made = makeAll(
    targets.filter(({ nothingPublished }) => nothingPublished === undefined),
    defaults,
  );
  const { wanted, warnings: rivals } = withoutRivals(made.wanted, owners);
  // It may be recreated under its name, as compose does.
  const closing = closingOf(left, staying, defaults);
  const closings = closing.map((one) => one.wanted);
  const closed = new Set(closings.map(({ owner }) => owner.name));
  const keepingOptions = (owner: string) => containerFragment(owner, undefined, keptOptions(owner, here, defaults));
  const known = new Set([...staying, ...[...wanted, ...closings].map(({ owner }) => owner.name)]);
  const gone = [...owners].filter((owner) => !known.has(owner)).map(keepingOptions);
  return {
    ...NOBODY,
    wanted: [...wanted, ...closings, ...gone].sort(byOwner),
    names: namesById(targets),
    left: [...staying],
    warnings: [
      ...unusable.map(({ msg }) => `${msg}; it is skipped`),
      ...warnings,
      ...warnOfUntrusted(untrusted),
      ...untrue.map((one) => `${describeStale(one)}: ${closed.has(one.name) ? "its lists alone stay" : "they go"}`),
      ...[...made.warnings, ...closing.flatMap((one) => one.warnings)],
      ...rivals,
    ],
  };
}

/** Of those that are left alone, and whose fragments do not stay: what their lists close. */
export function closingOf(left: readonly Skipped[], staying: ReadonlySet<string>, defaults: Defaults): Listed[] {
  return left.flatMap(({ name, target }) =>
    target === undefined || staying.has(name) ? [] : (closingFragmentFor(target, defaults) ?? []),
  );
}

/**
 * Of two running containers that claim one port one is left out, or nothing could be published: the one that has no
 * fragment yet, else the later name.
 */
function withoutRivals(
  wanted: readonly ContainerFragment[],
  owners: ReadonlySet<string>,
): Pick<Selection, "wanted" | "warnings"> {
  const first = ({ owner }: ContainerFragment) => (owners.has(owner.name) ? 0 : 1);
  const kept: ContainerFragment[] = [];
  const claimed = new ClaimIndex();
  const warnings: string[] = [];
  for (const one of [...wanted].sort((a, b) => first(a) - first(b) || byOwner(a, b))) {
    const claimant = claimantOf(one);
    const rival = claimed.sharing(claimant).find(({ ports }) => ports !== undefined)?.claimant;
    if (rival === undefined) {
      kept.push(one);
      claimed.add(claimant);
    } else {
      warnings.push(
        `${one.owner.name} is skipped: it publishes a port that ${rival.owner} publishes too; stop one of them`,
      );
    }
  }
  return { wanted: kept, warnings };
}

function byOwner(a: ContainerFragment, b: ContainerFragment): number {
  return a.owner.name < b.owner.name ? -1 : 1;
}

/** No container at all: every container's fragment is removed. Docker is not asked. */
function askForNobody(here: Fragments): Selection {
  const owners = [...ownersIn(here)].sort();
  return { ...NOBODY, wanted: owners.map((owner) => containerFragment(owner)) };
}

/** Also the containers of which only the kernel still has rules: those are removed. */
export function withOrphans(asked: Selection, now: Fragments, live: Kernel, { backend }: Host): Selection {
  const known = namesInComments([...ownersIn(now), ...asked.left, ...asked.wanted.map(({ owner }) => owner.name)]);
  const owners = new Set(containersAmong(Object.values(live).flatMap((one) => backend.ownersIn(one))));
  // A comment in the kernel may hold anything.
  const isName = (word: string) => NAME.test(word) || isShortened(word);
  const orphans = [...owners].filter((owner) => isName(owner) && !known.has(owner));
  return { ...asked, wanted: [...asked.wanted, ...orphans.map((owner) => containerFragment(owner))].sort(byOwner) };
}

/** Docker is not needed, save to find the name that belongs to an id. */
async function askForAbsent(request: SelectionRequest): Promise<Selection> {
  const names = new Set<string>();
  const warnings: string[] = [];
  for (const name of request.subject.containers)
    names.add(CONTAINER_ID.test(name) ? await resolveId(name, request, warnings) : name);
  return { ...NOBODY, wanted: [...names].map((name) => containerFragment(name)), warnings };
}

async function resolveId(
  id: string,
  { host, client, loading }: Pick<HostRequest, "host" | "client" | "loading">,
  warnings: string[],
): Promise<string> {
  const families = await familiesOf(host);
  const live = loading.reload === "none" ? {} : await host.backend.read(families, host);
  const { items } = await survey([containerFragment(id)], families, live, host);
  if (items.some(hasChanges)) return id;
  const containers = await inspectContainers(client, [id]).catch((error: unknown) =>
    error instanceof Failure ? error : Promise.reject(error),
  );
  if (containers instanceof Failure) {
    warnings.push(
      `${id} looks like a container's id, and its name cannot be looked up: ${containers.message}; give the name`,
    );
    return id;
  }
  const container = containers.usable.find((one) => one.id.startsWith(id));
  if (container !== undefined) return container.name;
  warnings.push(`${id} looks like a container's id, and there is no such container any more; give the name`);
  return id;
}
