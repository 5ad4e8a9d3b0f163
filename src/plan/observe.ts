// observe: whom a call is about, what the client says of them, and this host as it is. Reads, and changes nothing.

import { findNetworks, type Listener, type Networks } from "../docker/find.ts";
import { directoryExists, missingDirectory } from "../fragments/directory.ts";
import type { Family } from "../model/family.ts";
import { setsUp } from "../model/request.ts";
import type { Host, HostRequest } from "./backend.ts";
import { type Answer, readStamped, type SeenDirectories } from "./concurrency.ts";
import type { Kernel } from "./item.ts";
import { type Selection, type SelectionRequest, select, withOrphans } from "./selection.ts";
import { familiesOf } from "./survey.ts";

export interface Observed extends LookedAt {
  asked: Selection;
  answer: Answer;
  /** Those that the call is about. */
  families: Family[];
  /** Of the daemon; none unless the host's own rules need them. */
  networks: Networks;
}

/** The host. */
interface LookedAt {
  /** Families that this host has. */
  families: Family[];
  /** The kernel; empty where it is not asked. */
  live: Kernel;
  seen: SeenDirectories;
}

const NO_NETWORKS = Promise.resolve<Networks>({ networks: [], unusable: [] });

/**
 * The client and this host need not wait for each other. But of two failures the client's is reported, and after a wait for a
 * container the host is read again. Throws Failure.
 */
export async function observe(request: SelectionRequest, signal: AbortSignal, listener: Listener): Promise<Observed> {
  const { subject, host, client, loading } = request;
  // A fragment that is written after this read is from a process that asks the client later, and not this call's to change.
  const before = await readStamped(host).catch(orLater(subject.all));
  const since = performance.now();
  // The daemon's networks are requested first: if its socket starts it, it makes rules before it answers.
  const asking = setsUp(subject) ? findNetworks(client) : NO_NETWORKS;
  const looking = asking.then(
    () => lookAround(request, before),
    () => lookAround(request, before),
  );
  looking.catch(() => {});
  const named = await select(request, before?.now ?? {}, signal, listener);
  const { families, live, seen } = await (named.waited ? lookAround(request) : looking);
  return {
    asked: subject.all ? withOrphans(named, seen.now, live, host) : named,
    answer: { wanted: named.wanted, since, waited: named.waited },
    families: families.filter((family) => !subject.base || loading.reload === "none" || live[family] !== undefined),
    live,
    seen,
    networks: await asking,
  };
}

/** Of two failures the client's is reported, which is asked at the same time: then the directories' comes later, or not at all. */
function orLater(all: boolean): (error: unknown) => undefined {
  return (error) => {
    if (all) throw error;
    return undefined;
  };
}

/**
 * Where there is no directory there is nothing to be removed, unless the kernel has rules of ours; of IPv6 a host may have none. Throws
 * Failure `directory_unusable`.
 */
async function refuseOrphaned(families: readonly Family[], host: Host): Promise<void> {
  const required: Family[] = host.needsIpv6 ? ["ipv4", "ipv6"] : ["ipv4"];
  const missing = required.filter((family) => !families.includes(family));
  const live = missing.length === 0 ? {} : await host.backend.read(missing, host);
  for (const family of missing) {
    const running = live[family];
    if (running !== undefined && host.backend.ownersIn(running).length > 0)
      throw missingDirectory(host.directories[family]);
  }
}

/** The host's families, its kernel's rules, and its directories unless they were looked at before. */
async function lookAround(
  { subject, host, loading, check }: Pick<HostRequest, "subject" | "host" | "loading" | "check">,
  before?: SeenDirectories,
): Promise<LookedAt> {
  // Of a host that is not set up a prediction for names says so (selection.ts).
  const isPredicted = check && !subject.all && !(await directoryExists(host.directories.ipv4));
  const isLenient = subject.state === "absent" || isPredicted;
  const families = await familiesOf(host, setsUp(subject) ? "make" : isLenient ? "skip" : "refuse");
  if (subject.state === "absent" && loading.reload !== "none") await refuseOrphaned(families, host);
  const [live, seen] = await Promise.all([
    loading.reload === "none" ? {} : host.backend.read(families, host),
    before ?? readStamped(host),
  ]);
  return { families, live, seen };
}
