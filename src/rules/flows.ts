// Which UDP publishes a transaction changes, and which of the kernel's flows do not match them any more. Pure.
//
// A DNAT rule decides on a flow's first packet only. A client that keeps sending stays with what it met first: the address
// that the container had before, or docker-proxy.

import { isLoopback, isWithin, withoutPrefix } from "../model/addresses.ts";
import type { Interfaces } from "../system/interfaces.ts";
import { type Dnat, portAt } from "./model.ts";

/** One family's UDP publishes, where some of them change. */
export interface Changes {
  /** As they should be, in the order in which they match. */
  wanted: Dnat[];
  /** Those of `wanted` that were not there, in the file or in the kernel. */
  fresh: ReadonlySet<Dnat>;
  /** As they were, in the file or in the kernel, and should not be any more. */
  gone: Dnat[];
}

/** A UDP flow: source and destination of its first packet, and who replies. */
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
  const now = wanted.find((dnat) => matches(dnat, flow));
  if (now !== undefined && leadsTo(now, flow)) return false;
  const servedHere = flow.replySource === flow.destination && flow.replyPort === flow.port;
  if (servedHere) return now !== undefined && fresh.has(now) && takes(now, flow, subnets, own);
  // A flow that a foreign rule redirects never reached ours.
  return gone.some((dnat) => matches(dnat, flow) && leadsTo(dnat, flow));
}

function matches({ hostAddress, ports }: Dnat, { destination, port }: Flow): boolean {
  return port >= ports.first && port <= ports.last && (hostAddress === undefined || hostAddress === destination);
}

function leadsTo({ to }: Dnat, flow: Flow): boolean {
  return flow.replySource === to.address && flow.replyPort === portAt(to, flow.port);
}

/** Whether a flow that this host serves itself is not docker-proxy's to keep: the loopback's, a link-local client's, the bridge's own. */
function takes(
  { exceptFrom }: Dnat,
  { source, destination }: Flow,
  subnets: Subnets,
  own: ReadonlySet<string>,
): boolean {
  if (isLoopback(destination) || /^fe[89ab].:/.test(source)) return false;
  if (own.has(source)) return true;
  return !subnets.some(({ name, cidr }) => name === exceptFrom && isWithin(source, cidr));
}
