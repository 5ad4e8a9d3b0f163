// What must hold before anything is written, and what is a warning only: seen on the fragments as they will be. Pure.

import { basename, dirname, join } from "node:path";
import { compareNames, type Fragments } from "../fragments/by-family.ts";
import { assemble, type Fragment, refuseProblems } from "../iptables/assemble.ts";
import { isManaged } from "../iptables/fragment-text.ts";
import { hasDockersRules, NOTHING_LIVE } from "../iptables/live.ts";
import { dnatChain } from "../iptables/read.ts";
import { readTarget, readWords } from "../iptables/rule.ts";
import { tablesOf } from "../iptables/table-text.ts";
import type { Directories } from "../model/directories.ts";
import { Failure } from "../model/errors.ts";
import { FAMILIES, type Family } from "../model/family.ts";
import { containerOf, isHostFile, spellOwner } from "../model/owner.ts";
import type { Request } from "../model/request.ts";
import { type Advice, adviceSentence } from "../text/advice.ts";
import { type FileChange, hasRules, type Item, isContainers, type Kernel } from "./item.ts";

/** The directories' fragments with these changes. */
export function withChanges(
  now: Fragments,
  { files, items }: { files: readonly FileChange[]; items: readonly Item[] },
  directories: Directories,
): Fragments {
  const changed = new Set([...files, ...items].map(({ path }) => path));
  const future = FAMILIES.map((family) => {
    const own = items.filter((item) => item.family === family);
    const here = [
      ...files.flatMap(({ path, after }) => (dirname(path) === directories[family] ? ofText(path, after) : [])),
      ...own.flatMap(({ path, owner, fragment, after }) => {
        const file = after === fragment ? {} : { file: after };
        return ofText(path, fragment).map((one) => ({ ...one, owner, ...file }));
      }),
    ];
    const kept = (now[family] ?? []).filter(({ path }) => !changed.has(path));
    return [family, [...kept, ...here].sort((a, b) => compareNames(basename(a.path), basename(b.path)))] as const;
  });
  return Object.fromEntries(future);
}

function ofText(path: string, text: string | undefined): Pick<Fragment, "path" | "text">[] {
  return text === undefined ? [] : [{ path, text }];
}

/** Throws Failure `chain_not_declared`, `chain_not_reached`; with `reload: restore` and `patch` also `fragment_invalid`. */
export function validate(
  items: readonly Item[],
  future: Fragments,
  { host, defaults, loading: { reload } }: Pick<Request, "host" | "defaults" | "loading">,
): void {
  const families = new Set(items.filter(hasRules).map(({ family }) => family));
  for (const family of families) {
    const fragments = future[family] ?? [];
    const own = items.filter((item) => item.family === family);
    if (own.some(({ wanted }) => dnatChain(wanted) !== undefined || wanted.has("filter")))
      refuseUnreachedChain(fragments, defaults.chain, host.directories[family]);
    // A patch loads nothing of others, so their broken fragment is no obstacle.
    const loaded = reload === "patch" ? fragments.filter(({ text }) => isManaged(text)) : fragments;
    if (reload === "restore" || reload === "patch") {
      refuseProblems(assemble(loaded, [], NOTHING_LIVE).problems);
    }
  }
}

function refuseUnreachedChain(fragments: readonly Fragment[], chain: string, directory: string): void {
  const nat = fragments.flatMap((one) => tablesOf(one).sections.filter(({ table }) => table === "nat"));
  const some = (holds: (words: string[]) => boolean) =>
    nat.some(({ lines }) => lines.some(({ text }) => holds(readWords(text))));
  const creates = ([option, name]: string[]) => (option === "-N" || option === "--new-chain") && name === chain;
  if (!nat.some(({ chains }) => chains.has(chain)) && !some(creates)) {
    throw new Failure(
      "chain_not_declared",
      `no fragment in ${directory} declares the chain ${chain} of the nat table; run 'docker_iptables setup' once (or give ` +
        `base: true), which writes ${join(directory, "10_docker")}; or name another chain with chain`,
      { chain, path: directory },
    );
  }
  const jumps = (words: string[]) =>
    words.some((word, at) => /^(-j|--jump|-g|--goto)$/.test(word) && words[at + 1] === chain);
  if (!some(jumps)) {
    throw new Failure(
      "chain_not_reached",
      `no fragment in ${directory} jumps to the chain ${chain} of the nat table, so its rules would never match; add ` +
        `'-A PREROUTING -m addrtype --dst-type LOCAL -j ${chain}' where it is declared, or have 'docker_iptables setup' write both`,
      { chain, path: directory },
    );
  }
}

/**
 * Containers whose bridge no fragment of the host names: then their replies may be dropped, and they reach nothing. A fragment that
 * accepts all replies, on any interface, counts, too.
 */
export function adviseUncovered(items: readonly Item[], future: Fragments): Advice[] {
  const lacking = new Set<string>();
  const covered = new Map<string, boolean>();
  const covers = (family: Family, bridge: string) => {
    const covering = (one: Fragment) => containerOf(one) === undefined && names(one, bridge);
    const known = covered.get(`${family} ${bridge}`) ?? (future[family] ?? []).some(covering);
    covered.set(`${family} ${bridge}`, known);
    return known;
  };
  for (const { owner, family, wanted } of items.filter(isContainers)) {
    const bridge = bridgeOf(wanted.get("filter")?.[0] ?? []);
    if (bridge === undefined || covers(family, bridge)) continue;
    lacking.add(
      `the host rules do not cover the bridge ${bridge} of ${spellOwner(owner)}'s network: its replies may be dropped, and it may have no connection to other hosts`,
    );
  }
  const hint = isForeign(future)
    ? "add the missing rules to the host rules, which docker_iptables did not write"
    : "'docker_iptables setup' adds the missing rules";
  return [...lacking].map((what) => ({ what, hint }));
}

function bridgeOf(accept: readonly string[]): string | undefined {
  return accept[accept.indexOf("-o") + 1];
}

function names(fragment: Fragment, bridge: string): boolean {
  return tablesOf(fragment).sections.some(({ lines }) =>
    lines.some((line) => coversBridge(readWords(line.text), bridge)),
  );
}

function coversBridge(rule: readonly string[], bridge: string): boolean {
  const interfaces = rule.filter((_, at) => /^(-[io]|--(in|out)-interface)$/.test(rule[at - 1] ?? ""));
  if (interfaces.length === 0) return rule.some((word) => word.split(",").includes("ESTABLISHED"));
  return interfaces.some((name) => name === bridge || (name.endsWith("+") && bridge.startsWith(name.slice(0, -1))));
}

/**
 * Containers for which the host rules' jump from OUTPUT is wrong: without docker-proxy the chain must get packets to 127.0.0.1, and
 * with it must not. The daemon's `userland-proxy` was changed since, or the host rules were written by hand.
 */
export function adviseLoopback(items: readonly Item[], future: Fragments, chain: string): Advice[] {
  // A container's has none, and may have many rules.
  const others = (future.ipv4 ?? []).filter(({ text }) => text.includes("OUTPUT"));
  const jumps = others.flatMap((one) =>
    tablesOf(one).sections.flatMap(({ table, lines }) =>
      table === "nat" ? lines.map((line) => readWords(line.text)).filter((rule) => jumpsFromOutput(rule, chain)) : [],
    ),
  );
  const passes = jumps.some((rule) => !rule.some((word, at) => word === "!" && rule[at + 2]?.startsWith("127.")));
  const unfit = items.filter(({ family, meaning, wanted }) => {
    const dnats = dnatChain(wanted) === chain ? meaning.filter((rule) => rule.kind === "dnat") : [];
    return family === "ipv4" && dnats.length > 0 && dnats.some(({ exceptFrom }) => exceptFrom !== undefined) === passes;
  });
  if (unfit.length === 0) return [];
  const owners = unfit.map(({ owner }) => spellOwner(owner)).join(", ");
  const why = passes
    ? `docker-proxy serves ${owners}, and the host rules keep packets to 127.0.0.1 away from it`
    : `no docker-proxy serves ${owners}, and the host rules keep packets to 127.0.0.1 out of the chain ${chain}`;
  const what = `${why}: the published ports may not be reachable at 127.0.0.1 on this host`;
  const hint = isForeign(future)
    ? "change the jump in the host rules, which docker_iptables did not write"
    : "'docker_iptables setup' fixes it";
  return [{ what, hint }];
}

/** Whether somebody else wrote the host rules, which setup does not overwrite. */
function isForeign(fragments: Fragments): boolean {
  return Object.values(fragments)
    .flat()
    .some((one) => isHostFile(one) && !isManaged(one.text));
}

function jumpsFromOutput(rule: readonly string[], chain: string): boolean {
  return rule[1] === "OUTPUT" && readTarget(rule) === chain;
}

/** That the Docker daemon has rules of its own here. */
export function warnOfDaemon(live: Kernel): string[] {
  const daemons = Object.entries(live).filter(([, rules]) => hasDockersRules(rules));
  return daemons.map(
    ([family]) =>
      `the Docker daemon manages ${family === "ipv4" ? "iptables" : "ip6tables"} itself (nat jumps to its chain DOCKER); ` +
      `start it with --${family === "ipv4" ? "iptables" : "ip6tables"}=false, or do not use docker_iptables`,
  );
}

/** What the host's own rules lack for these containers. */
export function adviseHostRules(items: readonly Item[], future: Fragments, chain: string): Advice[] {
  return [...adviseUncovered(items, future), ...adviseLoopback(items, future, chain)];
}

export function warnOfHost(items: readonly Item[], future: Fragments, chain: string): string[] {
  return adviseHostRules(items, future, chain).map(adviceSentence);
}
