// Who may connect to a container's ports: of what its own lists, its labels, its image's and the host's settings say, what decides. Pure.

import type { Advice } from "../text/advice.ts";
import { type Allow, type AllowList, type Groups, keysWithout, listFor, readAllow } from "./allow.ts";
import { Failure } from "./errors.ts";
import type { PortMapping } from "./port-mapping.ts";
import { MOST_SPELLED, narrowed, type Source, spellSources } from "./sources.ts";

/** What is said of who may connect to a container's ports, by whom. */
export interface Said {
  /** The call that names the container, or its last call by name. */
  own?: Allow | undefined;
  /** Its labels. */
  label?: Allow | undefined;
  /** Those among its labels that its image carries: who makes an image may write into it what he likes. */
  image?: Allow | undefined;
  /** The host's settings. */
  host?: Allow | undefined;
  /** Whether the label decides in the place of the settings, instead of narrowing them; of an image it never does. */
  trustsLabels?: boolean | undefined;
}

/** Which of a container's labels are its image's: all of them where that cannot be known. */
export function apartFromImage(labels: Allow, image: Allow | undefined): { label: Allow; image: Allow } {
  const isImages = ([key, words]: [string, Allow[string]]) =>
    image === undefined || (Object.hasOwn(image, key) && image[key]?.join() === words?.join());
  const all = Object.entries(labels);
  return {
    label: Object.fromEntries(all.filter((one) => !isImages(one))),
    image: Object.fromEntries(all.filter(isImages)),
  };
}

export interface Decided {
  /** Undefined: everyone. */
  allowedTo: (publish: Publish) => readonly Source[] | undefined;
  /** Which ports are closed to other machines because what is said of them cannot be read, and why. */
  closed: Advice | undefined;
  /** What a label allows beyond the settings, and which of its keys is about no port. */
  told: string[];
  /** Keys of its own lists that are about none of its ports: what they were to keep out of another one comes in. */
  unused: string[];
  /** The same of its own labels, where everyone may connect to a port of it: perhaps to that which was meant. */
  idle: string[];
}

/** What the labels allow, of that what narrows them does, too; and what it does not. */
interface Labelled {
  /** Which label, and what narrows it, for a message. */
  whose: string;
  within: string;
  key: string;
  sources: readonly Source[];
  beyond: readonly Source[];
}

type Publish = Pick<PortMapping, "hostAddress" | "hostPort" | "protocol">;

const OWN = {
  whose: "its own lists",
  remedy: "correct the settings, then 'docker_iptables sync'; or give it new lists",
};
/** What others may choose has a limit. */
const LABEL = { whose: "its label", remedy: "correct the label, and recreate the container", most: 2000 };
const IMAGE = {
  ...LABEL,
  whose: "its image's label",
  remedy: "give the container a label of that name, and recreate it",
};
const HOST = { whose: "the settings", remedy: "correct them" };

/**
 * For each publish the first with a list about it decides: the own, the label, the settings. A label only narrows the settings, unless they
 * trust it; the label of an image only narrows whatever else there is. What cannot be read closes all ports of the container to other machines
 * but those that a list of its own decides about: whom it was to keep out is not let in. So does a key about none of its ports where a network
 * routes (`isRouted`): it may name a port of the host that was asked for, and there is none.
 */
export function decide(said: Said, groups: Groups, publishes: readonly PortMapping[], isRouted = false): Decided {
  const own = readOf(OWN, said.own, groups);
  const host = readOf(HOST, said.host, groups);
  if (isUnreadable(own)) return closedAll(own);
  if (isUnreadable(host)) return closedAll(host);
  const isOwn = (publish: Publish) => listFor(publish, own) !== undefined;
  const label = readOf(LABEL, said.label, groups);
  const image = readOf(IMAGE, said.image, groups);
  if (isUnreadable(label) || isUnreadable(image)) {
    const why = [label, image].find(isUnreadable) as Unreadable;
    if (!publishes.some(isOwn)) return closedAll(why);
    const allowedTo = (publish: Publish) => listFor(publish, own)?.sources ?? [];
    const closed = publishes.every(isOwn) ? undefined : adviseClosed("the ports without a list of its own", why);
    return { allowedTo, closed, told: [], unused: keysWithout(publishes, own), idle: [] };
  }
  const labelled = labelledBy({ label, image, host }, said.trustsLabels ?? false);
  const told = new Set<string>();
  for (const one of new Set(publishes.filter((publish) => !isOwn(publish)).map(labelled))) {
    if (one === undefined || one.beyond.length === 0) continue;
    told.add(`${one.whose} for ${one.key} allows ${spellSources(one.beyond)}, which ${one.within} do not`);
  }
  const idle = keysWithout(publishes, [...label, ...image]);
  const unused = keysWithout(publishes, own);
  const astray = isRouted ? [...unused, ...idle] : [];
  if (astray.length > 0) {
    const allowedTo = (publish: Publish) => listFor(publish, own)?.sources ?? labelled(publish)?.sources ?? [];
    const isListed = (publish: Publish) => isOwn(publish) || labelled(publish) !== undefined;
    const closed = publishes.every(isListed) ? undefined : adviseAstray(astray);
    return { allowedTo, closed, told: [...told], unused, idle: [] };
  }
  if (idle.length > 0) told.add(`its label for ${someKeys(idle)} is about none of its ports`);
  const allowedTo = (publish: Publish) =>
    listFor(publish, own)?.sources ?? labelled(publish)?.sources ?? listFor(publish, host)?.sources;
  const isOpen = publishes.some((publish) => allowedTo(publish) === undefined);
  return {
    allowedTo,
    closed: undefined,
    told: [...told],
    unused,
    idle: isOpen ? keysWithout(publishes, label) : [],
  };
}

type Lists = Record<"label" | "image" | "host", readonly AllowList[]>;

/** What a publish's labels allow; undefined where none is about it. */
function labelledBy({ label, image, host }: Lists, trusts: boolean): (publish: Publish) => Labelled | undefined {
  // Many ports share their lists, which may be long.
  const known = new Map<string, Labelled>();
  return (publish) => {
    const [own, images] = [listFor(publish, label), listFor(publish, image)];
    const list = own ?? images;
    if (list === undefined) return undefined;
    const limits = [own && images, trusts && own ? undefined : listFor(publish, host)];
    const key = [list, ...limits].map((one) => one?.key ?? "").join("\n");
    const made =
      known.get(key) ??
      limits.reduce(narrowedBy, {
        whose: own ? "its label" : "its image's label",
        within: own && images ? "the settings, or its image's label," : "the settings",
        ...{ key: list.key, sources: list.sources, beyond: [] },
      });
    known.set(key, made);
    return made;
  };
}

function narrowedBy(labelled: Labelled, within: AllowList | undefined): Labelled {
  if (within === undefined) return labelled;
  const { sources, beyond } = narrowed(labelled.sources, within.sources);
  return { ...labelled, sources, beyond: [...labelled.beyond, ...beyond] };
}

/** Not all of many. */
export function someKeys(keys: readonly string[]): string {
  const more = keys.length - MOST_SPELLED;
  return [...keys.slice(0, MOST_SPELLED), ...(more > 0 ? [`${more} more`] : [])].join(", ");
}

function closedAll(why: Unreadable): Decided {
  return { allowedTo: () => [], closed: adviseClosed("all ports", why), told: [], unused: [], idle: [] };
}

function adviseAstray(keys: readonly string[]): Advice {
  const what = `the ports without a list are closed to other machines: a list for ${someKeys(keys)} is about none of its ports, and where a network routes others connect to the container's own`;
  return { what, hint: "name the container's port in the list" };
}

function adviseClosed(ports: string, { whose, message, remedy }: Unreadable): Advice {
  return { what: `${ports} are closed to other machines: in ${whose}, ${message}`, hint: remedy };
}

/** Lists that cannot be read. */
interface Unreadable {
  whose: string;
  message: string;
  /** What puts that right. */
  remedy: string;
}

function readOf(
  { whose, remedy, most }: Omit<Unreadable, "message"> & { most?: number },
  allow: Allow = {},
  groups: Groups,
): AllowList[] | Unreadable {
  const words = Object.values(allow).reduce((sum, sources = []) => sum + 1 + sources.length, 0);
  if (most !== undefined && words > most)
    return { whose, remedy, message: `there are more than ${most} ports and sources` };
  try {
    return readAllow(allow, groups);
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    return { whose, remedy, message: error.message.replace(/^allow: /, "") };
  }
}

function isUnreadable(one: AllowList[] | Unreadable): one is Unreadable {
  return !Array.isArray(one);
}
