// What can be wrong, found on the fragments, the kernel's rules and the containers as they are. Pure.

import type { Existing } from "../docker/find.ts";
import type { Network } from "../docker/network.ts";
import { type PublishedContainer, reachableOf } from "../docker/published.ts";
import type { Fragments } from "../fragments/by-family.ts";
import type { Problem } from "../generated/result.ts";
import { assemble, type Fragment } from "../iptables/assemble.ts";
import { DOCKER_USER } from "../iptables/docker-rules.ts";
import { readFragment } from "../iptables/fragment-text.ts";
import { type Drift, liveOwners, NOTHING_LIVE } from "../iptables/live.ts";
import { withoutChain } from "../iptables/packet.ts";
import { readClaims } from "../iptables/read.ts";
import { commentOf, readComment, readWords, spell } from "../iptables/rule.ts";
import { type PacketHost, PROXY, type TraceResult, trace } from "../iptables/trace.ts";
import { type Access, closingOf, describeAccess } from "../model/access.ts";
import { isLoopback } from "../model/addresses.ts";
import type { Failure } from "../model/errors.ts";
import { FAMILIES, FAMILY_WORDS } from "../model/family.ts";
import { optionWords, readHead } from "../model/options.ts";
import { containerOf, type Owner, ownerOf, spellOwner } from "../model/owner.ts";
import { spellPublish } from "../model/port-mapping.ts";
import { namesInComments } from "../nft/elements.ts";
import { byContainer, hasFileChanges, hasRules, type Item, type Kernel } from "../plan/item.ts";
import { describeStale, type StaleFragment } from "../plan/skipped.ts";
import { adviseHostRules } from "../plan/validate.ts";
import { ClaimIndex, claimantIn } from "../rules/claim-index.ts";
import { rangesOf } from "../rules/container-rules.ts";
import { probesOf } from "../rules/probe.ts";
import { nearest } from "../text/suggest.ts";

/**
 * The most dangerous first: what hides others and stops all loads, what leads packets to a wrong place, what others decide, what a boot
 * will lack, what is closed or only untidy.
 */
const BY_DANGER: readonly Problem["kind"][] = [
  ...(["unconfirmed", "settings_unusable", "daemon_unreachable", "fragment_invalid"] as const),
  ...([
    "list_unsupported",
    "rules_orphaned",
    "rules_surplus",
    "container_gone",
    "container_stopped",
    "container_rivals",
  ] as const),
  ...(["fragment_untrusted", "docker_proxy_untrusted", "base_outdated", "network_uncovered"] as const),
  ...([
    "list_overruled",
    "rules_shadowed",
    "firewall_foreign",
    "rules_undeclared",
    "daemon_settings",
    "network_overlaps",
  ] as const),
  ...(["service_unusable", "executable_missing", "service_inactive", "service_disabled", "watcher_down"] as const),
  ...([
    "list_unused",
    "list_unreadable",
    "list_interface",
    "rules_missing",
    "rules_disordered",
    "fragment_missing",
    "fragment_outdated",
  ] as const),
  ...(["fragment_stale", "answer_unusable"] as const),
];

export function byDanger(one: Problem, other: Problem): number {
  return BY_DANGER.indexOf(one.kind) - BY_DANGER.indexOf(other.kind);
}

/** What the client says of the containers. */
export interface Known {
  /** Those that run. */
  targets: readonly PublishedContainer[];
  /** Those among the others that exist, by the name or id that was asked for. */
  existing: ReadonlyMap<string, Existing>;
  /** The client's command, with the daemon that it is to ask. */
  client: string;
  /** Those that are left alone, and of them those whose fragments stay as they are. */
  left: ReadonlySet<string>;
  staying: ReadonlySet<string>;
  /** The paths of files that are to have rules; one may have both families, and rules in one of them alone. */
  lasting: ReadonlySet<string>;
}

/**
 * How one fragment's file and live rules differ from what they should be. `untrue` are containers that are left alone and whose
 * fragment is not true; `once` says what is to be fixed before rules can come.
 */
export function differences(item: Item, known: Known, untrue: readonly StaleFragment[], once: string): Problem[] {
  // That the kernel lacks it, too, is not said again.
  if (hasFileChanges(item)) return [{ ...fileProblem(item, known, untrue, once), ...aboutOf(item) }];
  return item.drift === undefined ? [] : driftProblems(item, item.drift, known, once);
}

/** Whose a problem is. */
function aboutOf({ owner, path }: Item): Pick<Problem, "container" | "path"> {
  return { ...(owner.kind === "container" ? { container: owner.name } : {}), path };
}

/** How the kernel's rules differ. */
function driftProblems(item: Item, drift: Drift, known: Known, once: string): Problem[] {
  const [first] = drift.missing;
  const rules = `${FAMILY_WORDS[item.family]} rules of ${item.owner.kind === "container" ? item.owner.name : item.owner.file}`;
  const mend =
    item.owner.kind === "container" ? republishing(item.owner.name, item.fragment, known) : "'docker_iptables setup'";
  const problem = (kind: Problem["kind"], msg: string, hint: string, rule?: string): Problem => ({
    ...{ kind, ...aboutOf(item), ...(rule === undefined ? {} : { rule }) },
    ...{ msg, hint: `${hint}${once}` },
  });
  const problems: Problem[] = [];
  if (first !== undefined) {
    const more = drift.missing.length > 1 ? ` and ${drift.missing.length - 1} more` : "";
    const msg = `the kernel lacks ${rules}: '${first}'${more}`;
    problems.push(problem("rules_missing", msg, `${mend} restores them`, first));
  }
  if (drift.surplus > 0) {
    const msg = `the kernel has ${drift.surplus} ${rules} too many`;
    problems.push(problem("rules_surplus", msg, `${mend} removes them`));
  }
  if (drift.disordered) {
    problems.push(
      problem("rules_disordered", `the ${rules} are in a different order in the kernel`, `${mend} fixes it`),
    );
  }
  if (drift.ahead !== undefined) {
    const msg = `'${drift.ahead}' comes before the jump to ${DOCKER_USER} in FORWARD, and accepts packets that ${DOCKER_USER} may block`;
    problems.push(problem("rules_shadowed", msg, `${mend} moves the jump to the front`, drift.ahead));
  }
  if (drift.unreached !== undefined && first === undefined) {
    const msg = `nothing live jumps to the chain ${drift.unreached}, so the ${rules} never match`;
    problems.push(problem("rules_shadowed", msg, `${mend} fixes it`));
  }
  return problems;
}

/** What publishes a container again, as it was: a call by name drops the options that its fragment keeps, lists among them. */
export function republishing(
  name: string,
  fragment: string | undefined,
  { left, staying }: Pick<Known, "left" | "staying">,
): string {
  const words = fragment === undefined ? [] : optionWords(readHead(fragment)).map((one) => one.replaceAll("'", '"'));
  // Only a call by name publishes what is left alone.
  if (staying.has(name)) return `'${["docker_iptables create", name, ...words].join(" ")}'`;
  return words.length > 0 || left.has(name)
    ? "'docker_iptables sync'"
    : `'docker_iptables create ${name}' or 'docker_iptables sync'`;
}

function fileProblem(
  item: Item,
  known: Known,
  untrue: readonly StaleFragment[],
  once: string,
): Pick<Problem, "kind" | "msg" | "hint" | "since"> {
  const { path, before, owner } = item;
  const publish = owner.kind === "host" ? "" : republishing(owner.name, item.after, known);
  if (owner.kind === "host") {
    const msg = `${path} does not match the daemon's networks, or the settings`;
    return { kind: "base_outdated", msg, hint: `'docker_iptables setup' fixes it${once}` };
  }
  const container = owner.name;
  if (before === undefined) {
    const msg = `${container} runs and publishes ports, but there is no ${path}`;
    return { kind: "fragment_missing", msg, hint: `${publish} creates it${once}` };
  }
  if (known.lasting.has(path)) {
    const msg = `${path} is out of date: the address or the ports of ${container} have changed, or the settings`;
    return { kind: "fragment_outdated", msg, hint: `${publish} fixes it${once}` };
  }
  const left = untrue.find(({ name }) => name === container);
  if (left !== undefined) {
    const msg = `${path} is stale: ${describeStale(left)}`;
    return { kind: "fragment_outdated", msg, hint: "'docker_iptables sync' removes it" };
  }
  const hint = `'docker_iptables delete ${container}' or 'docker_iptables sync' removes it`;
  if (known.targets.some(({ name }) => name === container)) {
    const msg = `${path} is stale: the container ${container} publishes no port of this fragment`;
    return { kind: "fragment_outdated", msg, hint };
  }
  return goneProblem(container, known.existing.get(container), path, known.client);
}

/** Of a container that does not run, whose rules still lead to its former address. */
function goneProblem(
  container: string,
  idle: Existing | undefined,
  path: string,
  client: string,
): Pick<Problem, "kind" | "msg" | "hint" | "since"> {
  if (idle === undefined) {
    const msg = `${path} is stale: the container ${container} does not exist`;
    const hint = `'docker_iptables delete ${container}' removes it, 'docker_iptables sync' all that are stale`;
    return { kind: "container_gone", msg, hint };
  }
  const msg = `${path} is stale: the container ${container} ${describeIdle(idle)}`;
  const hint = `'${client} start ${container}' starts it; 'docker_iptables sync' removes its rules until it is published again`;
  return { kind: "container_stopped", ...sinceOf(idle), msg, hint };
}

/** Containers that were named, and that do not run and have no rules: nothing else is said of them. */
export function notRunning(names: readonly string[], known: Known, others: readonly string[]): Problem[] {
  const all = names.filter((name) => known.existing.get(name)?.running !== true);
  return all.map((container): Problem => {
    const idle = known.existing.get(container);
    if (idle !== undefined) {
      const [msg, hint] = [
        `the container ${container} ${describeIdle(idle)}`,
        `'${known.client} start ${container}' starts it`,
      ];
      return { kind: "container_stopped", container, ...sinceOf(idle), msg, hint };
    }
    const near = nearest(container, others);
    const hint = near === undefined ? `'${known.client} ps --all' lists all containers` : `did you mean ${near}?`;
    return { kind: "container_gone", container, msg: `the container ${container} does not exist`, hint };
  });
}

function describeIdle({ status, ended }: Existing): string {
  if (ended === undefined) return `is ${status}`;
  return `is ${status}, with exit status ${ended.exitCode}, since ${ended.at}`;
}

function sinceOf({ ended }: Existing): Pick<Problem, "since"> {
  return ended === undefined ? {} : { since: ended.at };
}

/** Two containers that claim one port, in their fragments or in those that they should have. */
export function rivals(
  now: Fragments,
  items: readonly Item[],
  { targets, client }: Pick<Known, "targets" | "client">,
): Problem[] {
  const problems: Problem[] = [];
  for (const family of FAMILIES) {
    const known = new ClaimIndex();
    const lacking = items.filter((item) => item.family === family && item.before === undefined);
    const written = (now[family] ?? []).map((one) => ({ ...one, rules: readFragment(one.text) }));
    for (const one of [...written, ...lacking.map(({ owner, path, wanted }) => ({ owner, path, rules: wanted }))]) {
      const { path, rules } = one;
      const container = containerOf(one);
      if (container === undefined) continue;
      const claimant = claimantIn(family, container, readClaims(rules));
      for (const { claimant: other, ports } of known.sharing(claimant)) {
        // A container that was read twice may have changed in between: it does not conflict with itself.
        if (ports === undefined || other.owner === container) continue;
        const { hostAddress, first, last, protocol } = ports;
        const port = spellPublish({ family, hostAddress, hostPort: first, protocol }, last - first + 1);
        const msg = `${other.owner} and ${container} both claim ${port}: the first one gets all packets`;
        // Where one of them does not run, its rules alone are too many.
        const idle = [container, other.owner].find((name) => !targets.some((target) => target.name === name));
        const hint =
          idle === undefined
            ? `'${client} stop ${container}' or '${client} stop ${other.owner}', then 'docker_iptables sync' removes its rules`
            : `'docker_iptables sync' removes the rules of ${idle}, which does not run`;
        problems.push({ kind: "container_rivals", container, path, msg, hint });
      }
      known.add(claimant);
    }
  }
  return problems;
}

/**
 * Live rules with our comment whose fragment is not there, and is not missed: `known` owners are reported otherwise. `loads`:
 * whether a load would work.
 */
export function orphans(now: Fragments, live: Kernel, known: readonly string[], loads: boolean): Problem[] {
  return FAMILIES.flatMap((family) => {
    const declared = (now[family] ?? []).flatMap((one) => ownerOf(one) ?? []).map(spellOwner);
    const owners = namesInComments([...declared, ...known]);
    const isKnown = (owner: Owner) => owners.has(spellOwner(owner));
    return liveOwners(live[family] ?? NOTHING_LIVE)
      .filter((owner) => !isKnown(owner))
      .map((owner): Problem => {
        const word = FAMILY_WORDS[family];
        const msg = `the kernel has ${word} rules of ${spellOwner(owner)}, and no fragment has them`;
        const hint = `'docker_iptables sync'${loads ? " or 'docker_iptables load'" : ""} removes them`;
        return { kind: "rules_orphaned", ...(owner.kind === "container" ? { container: owner.name } : {}), msg, hint };
      });
  });
}

/** Fragments that iptables-restore would refuse for their form. */
export function brokenFragments(fragments: readonly Fragment[]): Problem[] {
  return assemble(fragments, [], NOTHING_LIVE).problems.map(({ path, line, why }) =>
    brokenFragment(`${path} line ${line}: ${why}`, path, line),
  );
}

/** Directories and fragments that users other than root can change. */
export function untrusted(found: readonly Access[]): Problem[] {
  return found.map((access) => {
    const container = containerOf(access.path);
    const about = container === undefined ? {} : { container };
    const msg = `${describeAccess(access)}, and with it this host's rules`;
    return { kind: "fragment_untrusted", ...about, path: access.path, msg, hint: closingOf(access) };
  });
}

/** What iptables refused in a trial. */
export function refusedFragment({ message, facts: { path, line, rule } }: Failure): Problem {
  return {
    ...brokenFragment(message, typeof path === "string" ? path : undefined, typeof line === "number" ? line : 0),
    ...(typeof rule === "string" ? { rule } : {}),
  };
}

function brokenFragment(what: string, path: string | undefined, line: number): Problem {
  const hint = path === undefined ? {} : { hint: `'${spell(["sed", "-n", `${line}p`, path])}' shows the line` };
  const msg = `${what}; nothing is loaded until it is fixed`;
  return { kind: "fragment_invalid", ...(path === undefined ? {} : { path, line }), msg, ...hint };
}

/** What to do before rules can be loaded, as the end of an advice; empty where they can. */
export function onceFixed([first]: readonly Problem[]): string {
  if (first === undefined) return "";
  return first.path === undefined
    ? ", once the fragments can be loaded"
    : `, once ${first.path} line ${first.line} is fixed`;
}

/** Networks without a base, and a base that does not fit docker-proxy. */
export function uncovered(items: readonly Item[], now: Fragments, once: string, chain: string): Problem[] {
  const lasting = items.filter(hasRules);
  return adviseHostRules(lasting, now, chain).map(({ what, hint }) => ({
    kind: "network_uncovered",
    ...{ msg: what, hint: `${hint}${once}` },
  }));
}

/**
 * Publishes whose rules are live and still do not get another machine's packets, because a foreign rule decides. What DOCKER-USER
 * blocks, the user means to block.
 */
export function shadows(
  items: readonly Item[],
  targets: readonly PublishedContainer[],
  networks: readonly Network[],
  host: PacketHost,
): Problem[] {
  const owned = byContainer(items);
  return targets.flatMap((target) => {
    const own = owned.get(target.name) ?? [];
    return FAMILIES.flatMap((family): Problem[] => {
      const item = own.find((one) => one.family === family);
      if (item?.drift === undefined || !hasRules(item) || item.drift.missing.length > 0) return [];
      const publishes = reachableOf(target, family).filter((one) => !isLoopback(one.hostAddress ?? ""));
      return rangesOf(publishes).flatMap((range): Problem[] => {
        const publish = { family, ...range };
        const view = probesOf(publish, target, networks, host).find(({ from }) => from.kind === "machine");
        if (view === undefined) return [];
        // What docker-proxy answers did not come by its rules either, which are live.
        const arrives = ({ reached, by }: TraceResult) =>
          target.endpoints.some(({ address }) => address === reached?.address) && !by.includes(PROXY);
        const arrival = trace(host, view.trip);
        const rule = arrival.by.find((one) => one !== PROXY && readComment(readWords(one)) !== commentOf(target.name));
        if (arrives(arrival) || rule === undefined || arrives(trace(withoutUsers(host), view.trip))) return [];
        const msg = `${spellPublish(publish, range.count)} of ${target.name} is not reachable: '${rule}' comes before its rules`;
        const hint = `'docker_iptables explain ${target.name}' shows the path`;
        return [{ kind: "rules_shadowed", container: target.name, rule, msg, hint }];
      });
    });
  });
}

/** As if the user had no rules in DOCKER-USER. */
export function withoutUsers(host: PacketHost): PacketHost {
  const rulings = Object.entries(host.rulings).map(([family, ruling]) => [
    family,
    withoutChain(ruling, "filter", DOCKER_USER),
  ]);
  return { ...host, rulings: Object.fromEntries(rulings) };
}
