// Who reaches a published port, as few views as tell the truth: where rules tell sources or interfaces apart, each group of clients
// that fares alike has one. Pure.

import { bitsOf, interfaceTowards, subnetOf } from "../model/addresses.ts";
import type { Source } from "../model/sources.ts";
import type { Probe, ProbeOrigin, Trip, Vantage } from "../rules/probe.ts";
import { type PacketHost, type TraceResult, trace } from "./trace.ts";

/** Clients that fare alike. */
export interface View {
  from: ProbeOrigin;
  /** The connection of one of them. */
  trip: Trip;
  arrival: TraceResult;
  /** Where they are not all of their kind: whose addresses are in these subnets, and in no narrower one of another view. */
  sources: Sources | undefined;
  /** Where they are not all: the interfaces by which they come. */
  interfaces: readonly string[] | undefined;
}

export interface Sources {
  subnets: readonly string[];
  /** What holds all clients of the kind, where this view is also of those that no view names. */
  rest: string | undefined;
}

/** More subnets are not tried, unless it is said: each is a walk through all rules. */
const MOST_SOURCES = 500;

/** How one client fared. */
interface Ended {
  trip: Trip;
  arrival: TraceResult;
  /** Equal for those that fare alike. */
  key: string;
}

/** A place, and how the clients of it fared: by the bits (addresses.ts) of the subnet that they stand for, ALL for the others. */
interface Asked {
  vantage: Vantage;
  cells: ReadonlyMap<string, Ended>;
}

const ALL = "";

/**
 * What becomes of the clients of one probe. What `list` allows is asked for, and is a view of its own. `left`: how many subnets that
 * rules name were not tried.
 */
export function viewsOf(
  host: PacketHost,
  { from, trip, vantages, except }: Probe,
  list: readonly Source[] | undefined,
  most = MOST_SOURCES,
): { views: View[]; left: number } {
  if (except === undefined) {
    return { views: [{ from, trip, arrival: trace(host, trip), sources: undefined, interfaces: undefined }], left: 0 };
  }
  // The container's own network is not asked for a list.
  const listed = from.kind === "machine" || from.kind === "other_bridge" ? list : undefined;
  const { asked, left } = ask(host, vantages, bitsOfAll(except), listed, most);
  const classes = alike(asked);
  const views = classes.flatMap((some) => {
    const names = some.map(({ vantage }) => vantage.trip.from ?? "");
    const interfaces = classes.length > 1 ? names : undefined;
    const origin =
      from.kind === "other_bridge" ? { ...from, bridge: (interfaces ?? names.slice(0, 1)).join(", ") } : from;
    return groups(some).map((one) => ({ from: origin, interfaces, ...one }));
  });
  return { views, left };
}

/** Asks for each subnet that a rule on the way names, from every place, until no more of them come up. */
function ask(
  host: PacketHost,
  vantages: readonly Vantage[],
  except: readonly string[],
  list: readonly Source[] | undefined,
  most: number,
): { asked: Asked[]; left: number } {
  const places = vantages.map((vantage) => ({ vantage, cells: new Map<string, Ended>() }));
  const family = vantages[0]?.trip.family === "ipv6" ? "6" : "4";
  const ofList = new Set(bitsOfAll((list ?? []).flatMap(({ subnet }) => subnet ?? [])));
  const known = new Set<string>(ofList);
  // One that the list names, then those that other rules tell apart.
  const inOrder = () => {
    const all = [...known].filter((one) => one.startsWith(family) && one.length > 1);
    const [first, ...rest] = all.filter((one) => ofList.has(one));
    return [...(first === undefined ? [] : [first]), ...all.filter((one) => !ofList.has(one)), ...rest];
  };
  const named = new Set<string>();
  const allowed = list?.map(({ subnet, by }) => ({ bits: subnet === undefined ? "" : bitsOf(subnet), by }));
  const outside = new Set(vantages.flatMap(({ trip }) => trip.from ?? []));
  for (let before = -1; before < known.size; ) {
    before = known.size;
    const cells = inOrder().slice(0, most);
    for (const { vantage, cells: ended } of places) {
      for (const cell of [...cells, ALL]) {
        const former = ended.get(cell);
        const source = sourceIn(cell, vantage, cells, except, former?.trip.source);
        if (source === former?.trip.source) continue;
        ended.delete(cell);
        if (source === undefined || (cell !== ALL && isElsewhere(source, vantage, outside, host))) continue;
        const trip = { ...vantage.trip, source };
        const arrival = trace(host, trip);
        const news = arrival.asked.filter((one) => !named.has(one));
        for (const one of news) named.add(one);
        for (const bits of bitsOfAll(news)) known.add(bits);
        ended.set(cell, { trip, arrival, key: keyOf(trip, arrival, allowed) });
      }
    }
  }
  return { asked: places, left: Math.max(0, inOrder().length - most) };
}

/** What is on the link of another interface does not come by this one. */
function isElsewhere(
  source: string,
  { trip }: Vantage,
  outside: ReadonlySet<string>,
  { subnets }: PacketHost,
): boolean {
  const by = interfaceTowards(source, subnets);
  return by !== undefined && by !== trip.from && outside.has(by);
}

/** Who fares alike: where they end, as whom, for which reason, unless what; and whether the list allows them. */
function keyOf(
  { source, from }: Trip,
  { reached, why, doubts }: TraceResult,
  allowed: readonly { bits: string | undefined; by: string | undefined }[] | undefined,
): string {
  const seenAs = reached?.seenAs === source ? "itself" : reached?.seenAs;
  const own = bitsOf(source) ?? "";
  const isAllowed = allowed?.some(
    ({ bits, by }) => (by === undefined || by === from) && bits !== undefined && own.startsWith(bits),
  );
  return JSON.stringify([reached?.address, reached?.port, seenAs, why, doubts, isAllowed]);
}

/** An address of a cell that is in no narrower one; the former one as long as it is right. Undefined where there is none. */
function sourceIn(
  cell: string,
  { trip, within }: Vantage,
  cells: readonly string[],
  except: readonly string[],
  former: string | undefined,
): string | undefined {
  const all = bitsOf(within ?? "") ?? (trip.family === "ipv6" ? "6" : "4");
  // What holds all of them tells none apart.
  if (cell !== ALL && (!cell.startsWith(all) || cell.length === all.length)) return undefined;
  const start = cell === ALL ? all : cell;
  const holes = [
    ...cells.filter((one) => one.startsWith(start) && one.length > start.length),
    ...except.filter((one) => one.startsWith(start) || start.startsWith(one)),
  ];
  const isFree = (bits: string | undefined) =>
    bits?.startsWith(start) === true && !holes.some((hole) => bits.startsWith(hole));
  const preferred = former ?? trip.source;
  if (isFree(bitsOf(preferred))) return preferred;
  const length = trip.family === "ipv6" ? 129 : 33;
  // A subnet's first address is no host's, unless it is one of two.
  const first = start.length < length - 1 ? [start.padEnd(length, "0")] : [];
  return addressIn(freeIn(start, [...holes, ...first]) ?? freeIn(start, holes), length);
}

/** The first subnet that has no hole. */
function freeIn(bits: string, holes: readonly string[]): string | undefined {
  if (holes.some((hole) => bits.startsWith(hole))) return undefined;
  const inner = holes.filter((hole) => hole.startsWith(bits));
  if (inner.length === 0) return bits;
  return freeIn(`${bits}0`, inner) ?? freeIn(`${bits}1`, inner);
}

/** The first address that a host may have. */
function addressIn(bits: string | undefined, length: number): string | undefined {
  if (bits === undefined) return undefined;
  const address = bits.length === length ? bits : bits.padEnd(length - 1, "0").padEnd(length, "1");
  return subnetOf(address).replace(/\/\d+$/, "");
}

/** Places whose clients fare alike, wherever they are. */
function alike(asked: readonly Asked[]): Asked[][] {
  const classes: Asked[][] = [];
  for (const one of asked) {
    const same = classes.find((some) =>
      some.every(({ cells }) => [...one.cells].every(([cell, { key }]) => (cells.get(cell)?.key ?? key) === key)),
    );
    if (same) same.push(one);
    else classes.push([one]);
  }
  return classes;
}

/** The clients of some places that fare alike; those first that are named. */
function groups(places: readonly Asked[]): Pick<View, "trip" | "arrival" | "sources">[] {
  const cells = new Map<string, Ended>();
  for (const one of places) for (const [cell, ended] of one.cells) if (!cells.has(cell)) cells.set(cell, ended);
  const above = (cell: string) => {
    const wider = [...cells.keys()].filter((one) => one.length < cell.length && cell.startsWith(one));
    return cells.get(wider.reduce((narrowest, one) => (one.length > narrowest.length ? one : narrowest), ALL))?.key;
  };
  const byKey = new Map<string, string[]>();
  for (const [cell, { key }] of cells) byKey.set(key, [...(byKey.get(key) ?? []), cell]);
  const within = places[0]?.vantage.within;
  const everything = within ?? (places[0]?.vantage.trip.family === "ipv6" ? "::/0" : "0.0.0.0/0");
  const found = [...byKey].flatMap(([key, members]) => {
    const named = members.filter((cell) => cell !== ALL && above(cell) !== key);
    const hasRest = members.includes(ALL);
    const ended = cells.get(hasRest ? ALL : (named[0] ?? ALL));
    if (ended === undefined) return [];
    const sources = { subnets: named.map(subnetOf), rest: hasRest ? everything : undefined };
    return [{ trip: ended.trip, arrival: ended.arrival, sources: byKey.size > 1 ? sources : undefined }];
  });
  return found.sort((a, b) => Number(a.sources?.rest !== undefined) - Number(b.sources?.rest !== undefined));
}

function bitsOfAll(subnets: readonly string[]): string[] {
  return subnets.flatMap((one) => bitsOf(one) ?? []);
}
