// Which UDP publishes a transaction changes, and which of the kernel's flows go another way than these now say. Pure.
//
// A DNAT rule decides on a flow's first packet only. A client that keeps sending stays with what it met first: the address
// that the container had before, or docker-proxy.

import { isLoopback, isWithin, withoutHostMask, withoutPrefix } from "../model/addresses.ts";
import { FAMILIES, type Family } from "../model/family.ts";
import type { Interfaces } from "../system/interfaces.ts";
import { type Destination, portAt, readDestination } from "./dnat.ts";
import type { Drift, Live, Tables } from "./live.ts";
import { commentOf, keyOf, type Rule, readComment, readWords } from "./rule.ts";

/** A DNAT rule for UDP: what comes for some ports of this host goes to a container. */
export interface Forward extends Destination {
  /** Undefined: any address of this host. */
  hostAddress: string | undefined;
  firstPort: number;
  lastPort: number;
  /** The bridge whose own containers the rule leaves to docker-proxy; undefined: none. */
  bridge: string | undefined;
}

/** Reads a DNAT rule for UDP; undefined for any other, and for one with a match that none of ours has. */
export function readForward(rule: Rule): Forward | undefined {
  const options = new Map<string, string>();
  for (let at = 2; at < rule.length; at += 2) {
    const option = rule[at] === "!" ? `! ${rule[++at]}` : (rule[at] ?? "");
    if (!/^(-[dpmj]|! -[is]|--(dport|comment|to-destination))$/.test(option)) return undefined;
    options.set(option, rule[at + 1] ?? "");
  }
  if (options.get("-p") !== "udp" || options.get("-j") !== "DNAT") return undefined;
  const [, first, last = first] = /^(\d+)(?::(\d+))?$/.exec(options.get("--dport") ?? "") ?? [];
  const to = readDestination(options.get("--to-destination") ?? "");
  const asked = options.get("-d");
  const hostAddress = asked && withoutHostMask(asked);
  if (first === undefined || to === undefined || hostAddress?.includes("/")) return undefined;
  return { hostAddress, firstPort: Number(first), lastPort: Number(last), bridge: options.get("! -i"), ...to };
}

/** One family's UDP publishes, where some of them change. */
export interface Changes {
  /** As they should be, in the order in which they match. */
  wanted: Forward[];
  /** Those of `wanted` that were not there, in the file or in the kernel. */
  fresh: ReadonlySet<Forward>;
  /** As they were, in the file or in the kernel, and should not be any more. */
  gone: Forward[];
}

/** One fragment in one family, before and after. */
interface Changing {
  owner: string;
  family: Family;
  former: Tables;
  wanted: Tables;
  drift: Drift | undefined;
}

/** `live` is the kernel before. A family without a UDP publish that changes is left out. */
export function changedForwards(items: readonly Changing[], live: Partial<Record<Family, Live>>): Map<Family, Changes> {
  const changes = new Map<Family, Changes>();
  for (const family of FAMILIES) {
    const wanted: Forward[] = [];
    const fresh = new Set<Forward>();
    const gone: Forward[] = [];
    for (const item of items.filter((one) => one.family === family)) {
      const inFile = forwardsByKey(item.former.get("nat") ?? []);
      const rules = forwardsByKey(item.wanted.get("nat") ?? []);
      const missing = forwardsByKey(item.drift?.missing ?? []);
      for (const [key, forward] of rules) {
        wanted.push(forward);
        if (!inFile.has(key) || missing.has(key) || item.drift?.unreached !== undefined) fresh.add(forward);
      }
      const running = forwardsByKey(liveRulesOf(item.owner, rules, live[family]));
      for (const [key, forward] of new Map([...inFile, ...running])) if (!rules.has(key)) gone.push(forward);
    }
    if (fresh.size > 0 || gone.length > 0) changes.set(family, { wanted, fresh, gone });
  }
  return changes;
}

function forwardsByKey(rules: readonly Rule[]): Map<string, Forward> {
  const forwards = new Map<string, Forward>();
  for (const rule of rules) {
    const forward = rule.includes("udp") ? readForward(rule) : undefined;
    if (forward !== undefined) forwards.set(keyOf(rule), forward);
  }
  return forwards;
}

/** What runs under an owner's comment, if any of it is not wanted: a run that was killed wrote the file and loaded nothing. */
function liveRulesOf(owner: string, wanted: ReadonlyMap<string, Forward>, live: Live | undefined): Rule[] {
  const nat = live?.tables.get("nat");
  if (nat?.byComment.get(commentOf(owner))?.every((key) => wanted.has(key)) ?? true) return [];
  const lines = nat?.lines.filter((line) => line.includes(commentOf(owner))) ?? [];
  return lines.map(readWords).filter((rule) => readComment(rule) === commentOf(owner));
}

/** A UDP flow: whom its first packet came from and asked for, and who answers. */
export interface Flow {
  source: string;
  destination: string;
  port: number;
  replySource: string;
  replyPort: number;
}

const FLOW = /^udp +17 \d+ src=(\S+) dst=(\S+) sport=\d+ dport=(\d+) (?:.* )?src=(\S+) dst=\S+ sport=(\d+) dport=\d/;

/** Reads what `conntrack -L -p udp` prints; a line that is none of its own is left out. */
export function readFlows(text: string): Flow[] {
  return text.split("\n").flatMap((line) => {
    const [, source, destination, port, replySource, replyPort] = FLOW.exec(line) ?? [];
    if (source === undefined || destination === undefined || replySource === undefined) return [];
    return [{ source, destination, port: Number(port), replySource, replyPort: Number(replyPort) }];
  });
}

type Subnets = Interfaces["subnets"];

/** The flows that have all of this in common; without `source` whomever they came from. */
export type Selector = Omit<Flow, "source"> & { source?: string };

/** As few selectors as take the stale flows and no other of `flows`. `subnets` are this host's addresses. */
export function selectStale(flows: readonly Flow[], changes: Changes, subnets: Subnets): Selector[] {
  const own = new Set(subnets.map(({ cidr }) => withoutPrefix(cidr)));
  const stale: Flow[] = [];
  const kept = new Set<string>();
  for (const flow of flows) {
    if (!own.has(flow.destination) && !isLoopback(flow.destination)) continue;
    if (isStale(flow, changes, subnets, own)) stale.push(flow);
    else kept.add(groupOf(flow));
  }
  const selectors = new Map<string, Selector>();
  for (const flow of stale) {
    const { source, ...rest } = flow;
    const group = groupOf(flow);
    if (kept.has(group)) selectors.set(`${group} ${source}`, flow);
    else selectors.set(group, rest);
  }
  return [...selectors.values()];
}

function groupOf({ destination, port, replySource, replyPort }: Flow): string {
  return [destination, port, replySource, replyPort].join(" ");
}

function isStale(flow: Flow, { wanted, fresh, gone }: Changes, subnets: Subnets, own: ReadonlySet<string>): boolean {
  const now = wanted.find((forward) => matches(forward, flow));
  if (now !== undefined && leadsTo(now, flow)) return false;
  const servedHere = flow.replySource === flow.destination && flow.replyPort === flow.port;
  if (servedHere) return now !== undefined && fresh.has(now) && takes(now, flow, subnets, own);
  // Where another hand's rule sends a flow, ours never saw it.
  return gone.some((forward) => matches(forward, flow) && leadsTo(forward, flow));
}

function matches({ hostAddress, firstPort, lastPort }: Forward, { destination, port }: Flow): boolean {
  return port >= firstPort && port <= lastPort && (hostAddress === undefined || hostAddress === destination);
}

function leadsTo(forward: Forward, flow: Flow): boolean {
  return flow.replySource === forward.address && flow.replyPort === portAt(forward, flow.port);
}

/** Whether a flow that this host serves itself is not docker-proxy's to keep: the loopback's, a link-local client's, the bridge's own. */
function takes(
  { bridge }: Forward,
  { source, destination }: Flow,
  subnets: Subnets,
  own: ReadonlySet<string>,
): boolean {
  if (isLoopback(destination) || /^fe[89ab].:/.test(source)) return false;
  if (own.has(source)) return true;
  return !subnets.some(({ name, cidr }) => name === bridge && isWithin(source, cidr));
}
