// The packet filter as plan and apply see it: how our rules are written for it, what is live, what differs, and how it takes them,
// as one transaction with a way back. Each backend is one object of this kind (apply/iptables-backend.ts), chosen once, in main.ts;
// nobody else asks which one it is.

import type { Network } from "../docker/network.ts";
import type { Fragments } from "../fragments/by-family.ts";
import type { Result } from "../generated/result.ts";
import type { Unconfirmed } from "../generated/unconfirmed.ts";
import type { Fragment } from "../iptables/assemble.ts";
import type { BridgeNetwork } from "../iptables/docker-rules.ts";
import type { Written } from "../iptables/fragment-text.ts";
import type { Drift, Live, Tables } from "../iptables/live.ts";
import type { Access } from "../model/access.ts";
import type { Directories } from "../model/directories.ts";
import { Failure } from "../model/errors.ts";
import type { Family } from "../model/family.ts";
import type { Owner } from "../model/owner.ts";
import type { HostConfig, Loading, Request } from "../model/request.ts";
import type { OtherFirewalls } from "../netfilter/foreign-firewalls.ts";
import type { ContainerFragment, DesiredFragment } from "../rules/desired-fragment.ts";
import type { Changes } from "../rules/flows.ts";
import type { Advice } from "../text/advice.ts";
import type { ForeignRules } from "./foreign-rules.ts";
import type { HostPlan } from "./host-plan.ts";
import type { Item, Kernel } from "./item.ts";
import type { Loadable, Loader } from "./loader.ts";
import type { Load } from "./plan.ts";
import type { PreflightFindings } from "./preflight.ts";
import type { HostScene } from "./setup.ts";
import type { Survey } from "./survey.ts";
import type { Former } from "./unconfirmed.ts";

/** This host: what a request says of it, and its packet filter. */
export interface Host extends HostConfig {
  backend: Backend;
  /** The same host with the backend that it has not: a setup brings along what that has of ours. */
  other?: Host;
}

/** A request to this host. */
export type HostRequest = Omit<Request, "host"> & { host: Host };

export interface Backend {
  /** Whether one directory, and one file of each fragment, has both families. */
  hasOneDirectory: boolean;
  /** The name of an owner's file. Pure. */
  fileOf(owner: Owner): string;
  /** A fragment as its files have it: the same one gives the same bytes. Pure. */
  write(fragment: DesiredFragment): Written;
  /** What such a file says, in iptables' words. Pure. */
  parse(text: string, family: Family, owner: Owner): Tables;
  /** The rules of fragments as the answer names them. Pure. */
  listRules(fragments: readonly DesiredFragment[]): NonNullable<Result["rules"]>;
  /** The fragments of directories that are there, in their order. Throws Failure `directory_unusable`. */
  readFragments(directory: string, family: Family): Promise<Fragment[]>;

  /** What is live. A family that this host does not have is left out. Throws Failure of its program. */
  read(families: readonly Family[], host: HostConfig): Promise<Kernel>;
  /** Whose rules are live, each once. Pure. */
  ownersIn(live: Live): Owner[];
  /** A rule of what is live, as a person finds it in the kernel. Pure. */
  nameRule(rule: string, live: Live): string;
  /** What differs between the kernel and the fragment that should be there, whose former text is perhaps live. Pure. */
  compare(
    fragment: Pick<Item, "owner" | "family" | "wanted" | "former"> & { text: string | undefined },
    live: Live,
  ): Drift;
  /** Which UDP publishes change; `live` is the kernel before. Pure. */
  changedDnats(items: readonly Item[], live: Kernel): Map<Family, Changes>;

  /** The containers' fragments as this kernel can take them, and what stays open where it cannot. */
  fit(
    wanted: readonly ContainerFragment[],
    live: Kernel,
    timeoutSeconds: number,
  ): Promise<{ wanted: ContainerFragment[]; warnings: string[] }>;
  /** What of this family's kernel a list of who may connect needs, and is not there. Throws Failure of its program. */
  lackForLists(family: Family, live: Live | undefined, timeoutSeconds: number): Promise<Advice | undefined>;
  /** What there is to do for the host besides its own fragments. Throws Failure for what cannot work. */
  planHost(scene: HostScene, request: HostPlanRequest): Promise<HostPlan>;
  /** Throws Failure where the fragments, as they will be, cannot be loaded. Pure. */
  validate(
    items: readonly Item[],
    future: Fragments,
    request: Pick<HostRequest, "host" | "defaults" | "loading">,
  ): void;
  /** That the Docker daemon has rules of its own here. Pure. */
  warnOfDaemon(live: Kernel): string[];
  /** What the host's own rules, as they will be, lack for these containers. Pure. */
  warnOfHost(items: readonly Item[], future: Fragments, chain: string): string[];
  /** Other rules that hide ours in the kernel as it is now. Pure. */
  warnOfBarriers(items: readonly Item[], live: Kernel): string[];
  /** Everybody else who filters packets; a firewall that cannot be asked is left out. Throws Failure `resources_exhausted`. */
  otherFirewalls(live: Kernel, timeoutSeconds: number): Promise<OtherFirewalls>;
  /** How the kernel will get the rules: chosen before anything is written. Throws Failure. */
  chooseLoader(
    loadable: Loadable,
    request: Pick<HostRequest, "subject" | "host" | "loading" | "confirm">,
  ): Promise<Loader>;

  /** What a person runs to load a family's rules, for the answer. */
  commandFor(family: Family): string;
  /** Under the lock, after the look and before the load. Throws ConcurrentChange where a load would lose what came meanwhile. */
  refuseNewcomers(work: Work, live: Kernel, families: readonly Family[]): Promise<void>;
  /** The ways back of a load that replaces all rules of these families: there before the kernel is touched. */
  waysBack(families: readonly Family[], before: BeforeLoad, locks: Locks, host: Host): WaysBack;
  /** Has the kernel take what the directories say, in the way that was chosen. `work.undo` gets what only this way knows. */
  load(families: readonly Family[], before: Look, work: Work): Promise<Reloaded>;
  /** Takes what fragments that are gone left in the kernel out of it, whatever the others are like. Returns what is live. */
  remove(
    family: Family,
    gone: readonly Item[],
    request: Pick<HostRequest, "subject" | "host" | "defaults">,
  ): Promise<Live>;
  /** Another backend's rules, and what Docker left; the last step of a setup. */
  removeOthers(work: Work): Promise<void>;
  /** Takes all rules of ours away, because another backend has them now; `undo` gets the way back. Throws Failure of its program. */
  leave(host: HostConfig, chain: string, undo: Undo[]): Promise<void>;
  /** What it takes to put back the kernel's rules, before this is loaded; `chain` is that of containers' rules. */
  former(load: Load, chain: string, host: HostConfig): Promise<Former>;
  /** Puts them back, but for containers' rules, which are made those of their fragments. Says what. */
  putBack(change: Unconfirmed, host: HostConfig): Promise<string[]>;
  /** Rules that ran before a load that waits; a boot falls back to them. For the holder of the write lock. Throws Failure. */
  formerRules(families: readonly Family[], host: HostConfig): Promise<Unconfirmed["kernel"]>;
  /** Once what runs of a family is confirmed: a boot falls back to it. Says what is not so. For the holder of its load lock. */
  keepConfirmed(family: Family, isWhole: boolean, host: HostConfig, loading: Loading): Promise<string[]>;
  /** The verb load. Throws Failure as it: of the fragments, of the directories, of its program. */
  loadHost(request: LoadHostRequest): Promise<LoadedHost>;
  /** The flags that say where this host's fragments are, for a command that others start. Pure. */
  flags(directories: Directories): string[];

  /** Who else has a hand in the packet filter, and what the fragments declare, as it runs. Throws Failure of its program. */
  lookAround(scene: AroundScene, host: HostConfig): Promise<Around>;
  /** What stops a load of these fragments of one family; undefined where nothing does. */
  findBroken(
    fragments: readonly Fragment[],
    family: Family,
    live: Live,
    host: HostConfig,
  ): Promise<Failure | undefined>;
  /** Live rules of others, which a load would remove. What Docker left for `bridges` is none. */
  findForeign(
    live: Kernel,
    now: Fragments,
    host: HostConfig,
    bridges: readonly BridgeNetwork[],
  ): Promise<ForeignRules[]>;
  /** Whoever notices that rules of ours were flushed. */
  lookout(host: Host): Lookout;

  /** Where else rules with an owner's comment are, for the message when they are not where they should be: "nft", "legacy". */
  whereElse(owner: Owner, family: Family, host: HostConfig): Promise<string[]>;
}

/** What the verb load is asked for. */
export interface LoadHostRequest {
  host: HostConfig;
  check: boolean;
  families: readonly Family[];
  /** Whether rules stay that no fragment declares. */
  keepUndeclared: boolean;
}

export interface LoadedHost {
  /** The families whose rules were others. */
  changed: Family[];
  /** What users other than root can change, of the directories and their fragments. */
  untrusted: Access[];
  warnings: string[];
}

/** What is looked at for status. */
export interface AroundScene {
  families: readonly Family[];
  now: Fragments;
  networks: readonly Network[];
  live: Kernel;
}

export interface Around {
  declared: Fragments;
  found: PreflightFindings;
}

/** Checks now and then whether rules of ours are still there. */
export interface Lookout {
  /** performance.now() at which the next check is due. */
  readonly next: number;
  /** How many flushes there were lately. */
  readonly flushes: number;
  /** The kernel as a sync has left it; a family that is not in it is as it was. */
  learn(live: Kernel): void;
  /** What was flushed since. Never throws: a check that fails is no flush. */
  look(): Promise<FlushedTable[]>;
}

/** A table in which rules of ours were; of both families without one. */
export interface FlushedTable {
  family?: Family;
  table: string;
}

export type HostPlanRequest = Pick<
  HostRequest,
  "settings" | "origins" | "subject" | "host" | "client" | "loading" | "watches"
>;

/** A step back. It returns what it put back, or undefined when there was no need. */
export type Undo = () => Promise<string | undefined>;

/** The load locks of one call: what is done while they are held does not wait for them. Throws Failure `locked`. */
export interface Locks {
  holding<T>(families: readonly Family[], steps: () => Promise<T>): Promise<T>;
}

export type ReloadRequest = Pick<HostRequest, "subject" | "host" | "defaults" | "loading">;

/** What the steps of one load share. */
export interface Work {
  load: Load;
  undo: Undo[];
  locks: Locks;
  request: ReloadRequest;
}

/** Fragments, and the kernel, as they are. */
export type Look = Pick<Survey, "items" | "live">;

export interface Reloaded {
  reloaded: string[];
  warnings: string[];
  /** The kernel afterwards; empty where it was not looked at. */
  live: Kernel;
}

/** A load took rules away that should have stayed: they are put back, whatever else is not undone. */
export class TookAway extends Failure {}

export interface WaysBack {
  /** To the rules that ran before; without those that are removed. */
  snapshots: Undo[];
  /** Where nothing ran: once the files are as they were, what can be loaded of them. */
  salvages: Undo[];
}

/** What is about to be loaded. */
export interface BeforeLoad {
  items: readonly Item[];
  live: Kernel;
  /** The kernel as this call leaves it; filled in once it is known. */
  left: Kernel;
  /** What nothing brings back. */
  going: readonly Item[];
  /** Whether a service loads: one that failed has perhaps put back what it could. */
  isService: boolean;
}
