// A packet filter in memory: what plan and apply ask of a backend, without a kernel. A rule's line is its meaning.

import { sortByBoot } from "../../src/fragments/confirmed.ts";
import { readFragments } from "../../src/fragments/directory.ts";
import type { Written } from "../../src/iptables/fragment-text.ts";
import { managedHeader } from "../../src/iptables/fragment-text.ts";
import type { Drift, Live, Tables } from "../../src/iptables/live.ts";
import type { Rule } from "../../src/iptables/rule.ts";
import { Failure } from "../../src/model/errors.ts";
import { FAMILIES, type Family } from "../../src/model/family.ts";
import { fileOf, ownerOfFile, readOwner, spellOwner } from "../../src/model/owner.ts";
import type { HostConfig } from "../../src/model/request.ts";
import type { Backend, BeforeLoad, Host, Locks, Look, Lookout, Undo, WaysBack, Work } from "../../src/plan/backend.ts";
import { NOTHING_PLANNED } from "../../src/plan/host-plan.ts";
import type { Item, Kernel } from "../../src/plan/item.ts";
import { NOBODY_AROUND } from "../../src/plan/preflight.ts";
import type { DesiredFragment } from "../../src/rules/desired-fragment.ts";

/** Owner, as it is spelled -> lines. */
type Rules = Record<string, string[]>;

/** What a load does instead of what it should. */
export type Fault =
  /** Before anything is changed, or once this family is. */
  | { kind: "refuses" | "fails-after"; family: Family }
  /** It says that it is done, and has left this owner's rules out. */
  | { kind: "loses"; owner: string };

export class MemoryBackend implements Backend {
  readonly kernel: Record<Family, Rules> = { ipv4: {}, ipv6: {} };
  /** Of the next load. */
  fault: Fault | undefined;
  /** What `validate` refuses: a word in a fragment. */
  refused: string | undefined;
  readonly calls: string[] = [];

  hasOneDirectory = false;
  fileOf = fileOf;
  readFragments = readFragments;
  listRules = () => ({ ipv4: {}, ipv6: {} });

  write = (fragment: DesiredFragment): Written => {
    const owner = spellOwner(fragment.owner);
    const written: Written = { rules: { ipv4: {}, ipv6: {} }, texts: {}, fragments: {} };
    for (const family of FAMILIES) {
      const lines = fragment.meaning[family].map((rule) => `-${owner} ${JSON.stringify(rule)}`);
      if (lines.length === 0) continue;
      written.rules[family] = { filter: lines.map((line) => [line]) };
      written.texts[family] = [managedHeader(owner), ...lines, ""].join("\n");
    }
    return { ...written, fragments: written.texts };
  };

  parse = (text: string): Tables => {
    const lines = linesOf(text);
    return new Map(lines.length === 0 ? [] : [["filter", lines.map((line): Rule => [line])]]);
  };

  read = async (families: readonly Family[]): Promise<Kernel> => {
    this.calls.push("read");
    return Object.fromEntries(families.map((family) => [family, liveOf(this.kernel[family])]));
  };

  former = async () => ({ kernel: [], tables: [], bare: [], containers: [], armed: [] });
  putBack = async () => [];

  ownersIn = (live: Live) => Object.keys(rulesIn(live)).map(readOwner);

  compare = ({ owner, wanted }: Pick<Item, "owner" | "wanted">, live: Live): Drift => {
    const running = new Set(rulesIn(live)[spellOwner(owner)] ?? []);
    const rules = wanted.get("filter") ?? [];
    const lines = new Set(rules.map(([line = ""]) => line));
    return {
      missing: rules.flat().filter((line) => !running.has(line)),
      surplus: [...running].filter((line) => !lines.has(line)).length,
      disordered: false,
    };
  };

  changedDnats = () => new Map();
  fit = async (wanted: Parameters<Backend["fit"]>[0]) => ({ wanted: [...wanted], warnings: [] });
  lackForLists = async () => undefined;
  planHost = async () => NOTHING_PLANNED;

  validate = (items: readonly Item[]) => {
    const { refused } = this;
    const bad = items.find(({ after }) => refused !== undefined && after?.includes(refused));
    if (bad !== undefined) throw new Failure("fragment_invalid", `${bad.path} is refused`);
  };

  nameRule = (rule: string) => rule;
  warnOfDaemon = () => [];
  warnOfHost = () => [];
  warnOfBarriers = () => [];
  otherFirewalls = async () => ({ tables: [], iptables: [] });
  chooseLoader: Backend["chooseLoader"] = async () => ({ kind: "restore" });

  commandFor = (family: Family) => `load ${family}`;
  refuseNewcomers = async () => {};

  waysBack = (families: readonly Family[], { live }: BeforeLoad, locks: Locks, _host: Host): WaysBack => {
    const back = (family: Family): Undo => {
      const before = rulesIn(live[family]);
      return () =>
        locks.holding([family], async () => {
          if (JSON.stringify(this.kernel[family]) === JSON.stringify(before)) return undefined;
          this.kernel[family] = before;
          return `the ${family} rules`;
        });
    };
    return { snapshots: families.map(back), salvages: [] };
  };

  load = async (families: readonly Family[], _before: Look, { request }: Work) => {
    const { fault } = this;
    this.fault = undefined;
    for (const family of families) {
      this.calls.push(`load ${family}`);
      if (fault?.kind === "refuses" && fault.family === family)
        throw new Failure("reload_failed", "the load is refused");
      this.kernel[family] = await this.#rulesOf(family, request.host);
      if (fault?.kind === "loses") delete this.kernel[family][fault.owner];
      if (fault?.kind === "fails-after" && fault.family === family)
        throw new Failure("reload_failed", "the load failed");
    }
    return { reloaded: families.map(this.commandFor), warnings: [], live: {} };
  };

  async #rulesOf(family: Family, { directories }: HostConfig): Promise<Rules> {
    const directory = directories[family];
    const { current } = await sortByBoot(directory, await readFragments(directory));
    const rules: Rules = {};
    for (const { path, text } of current) {
      const owner = ownerOfFile(path);
      if (owner !== undefined && linesOf(text).length > 0) rules[spellOwner(owner)] = linesOf(text);
    }
    return rules;
  }

  remove = async (family: Family, gone: readonly Item[]): Promise<Live> => {
    this.calls.push(`remove ${family}`);
    for (const { owner } of gone) delete this.kernel[family][spellOwner(owner)];
    return liveOf(this.kernel[family]);
  };

  removeOthers = async () => {};
  leave = async () => {};
  whereElse = async () => [];
  formerRules = async () => [];
  keepConfirmed = async () => [];
  loadHost = async () => ({ changed: [], untrusted: [], warnings: [] });
  flags = () => [];
  lookAround: Backend["lookAround"] = async ({ now }) => ({ declared: now, found: NOBODY_AROUND });
  findBroken = async () => undefined;
  findForeign = async () => [];
  lookout = (): Lookout => ({ next: 0, flushes: 0, learn: () => {}, look: async () => [] });
}

function linesOf(text: string): string[] {
  return text.split("\n").filter((line) => line.startsWith("-"));
}

function liveOf(rules: Rules): Live {
  return { text: JSON.stringify(rules), tables: new Map() };
}

function rulesIn(live: Live | undefined): Rules {
  return JSON.parse(live?.text ?? "{}");
}
