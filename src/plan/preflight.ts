// What setup has to check first: live rules that are in no fragment, which a load would remove, and what else filters packets.
// Found, reported, refused, or adopted as fragments.

import { join } from "node:path";
import type { Network } from "../docker/network.ts";
import type { Fragments } from "../fragments/by-family.ts";
import { readOwn } from "../fragments/directory.ts";
import type { BridgeNetwork } from "../iptables/docker-rules.ts";
import { NOTHING_LIVE } from "../iptables/live.ts";
import { INGRESS_CHAIN, meshOf } from "../iptables/mesh.ts";
import { preservedMesh, preservedOf } from "../iptables/preserved.ts";
import { ADOPTED, adopt, listUndeclared, type Undeclared, undeclaredOf } from "../iptables/undeclared.ts";
import type { Directories } from "../model/directories.ts";
import { Failure } from "../model/errors.ts";
import { FAMILY_WORDS, type Family } from "../model/family.ts";
import type { Loading } from "../model/request.ts";
import {
  type BackendRules,
  firewalldPlaces,
  firewalldRuns,
  foreignTables,
  type OtherBackend,
  otherBackend,
  unreadableIn,
} from "../netfilter/foreign-firewalls.ts";
import { adviseNetworks, findNetavark, isNetavarksRule, NETAVARK_TABLE, type Netavark } from "../netfilter/netavark.ts";
import { decides, type NftTable } from "../netfilter/nft-tables.ts";
import { type Advice, adviceSentence } from "../text/advice.ts";
import { ownersOf, someOf } from "../text/words.ts";
import type { FileChange, Kernel } from "./item.ts";
import type { Leftover } from "./leftovers.ts";

/** Who else has a hand in the packet filter. */
export interface PreflightFindings {
  families: { family: Family; undeclared: Undeclared; other: Other | undefined; mesh: boolean }[];
  /** Tables of nftables that filter at the hooks of our rules. */
  tables: NftTable[];
  firewalld: boolean;
  /** The bridges of which firewalld rejects what containers send, because it has them in no zone. */
  unzoned: string[];
  /** podman's own firewall, where it has rules for the networks. */
  netavark: Netavark | undefined;
  /** iptables' rules, where no backend of it is ours. */
  iptables: BackendRules[];
}

export const NOBODY_AROUND: PreflightFindings = {
  families: [],
  tables: [],
  firewalld: false,
  unzoned: [],
  netavark: undefined,
  iptables: [],
};

/** The other backend, and what in it is not of a Docker daemon that managed iptables. */
type Other = OtherBackend & { undeclared: Undeclared };

/** What preflight reads. */
interface Scene {
  families: readonly Family[];
  /** The fragments as they will be. */
  future: Fragments;
  networks: readonly Network[];
  live: Kernel;
}

/** Throws Failure of `run`. */
export async function runPreflight(
  { families, future, networks, live }: Scene,
  timeout: number,
): Promise<PreflightFindings> {
  const bridges = bridgesOf(networks);
  const [tables, firewalld, ...found] = await Promise.all([
    foreignTables(timeout),
    firewalldRuns(timeout),
    ...families.map(async (family) => {
      const [running, fragments] = [live[family] ?? NOTHING_LIVE, future[family] ?? []];
      const theirs = await otherBackend(family, timeout);
      const other = theirs && {
        ...theirs,
        undeclared: undeclaredOf(theirs.live, [], bridges, preservedMesh(theirs.live, [])),
      };
      // What it has in DOCKER-USER would be a fragment's once it is adopted, and fragments then decide alone.
      const saved = Object.values(other === undefined ? {} : adopt(other.undeclared)).map((text = "") => ({ text }));
      const carried = preservedOf(running, [...fragments, ...saved]);
      return {
        family,
        undeclared: undeclaredOf(running, fragments, bridges, carried),
        other,
        mesh: meshOf(running, fragments).size > 0,
      };
    }),
  ]);
  const rules = found.flatMap(({ undeclared }) => listUndeclared(undeclared));
  const netavark = findNetavark(networks, tables, rules);
  const unzoned = firewalld ? await findUnzoned(networks, timeout) : [];
  return { families: found, tables: tables.filter(decides), firewalld, unzoned, netavark, iptables: [] };
}

/** The bridges that a firewalld that runs has in no zone. An internal network sends nothing through the host. */
export async function findUnzoned(networks: readonly Network[], timeout: number): Promise<string[]> {
  const places = await firewalldPlaces(timeout);
  return networks.flatMap(({ bridge, internal, subnets }) => {
    if (places === undefined || bridge === undefined || internal) return [];
    return [bridge, ...subnets.ipv4, ...subnets.ipv6].some((place) => places.has(place)) ? [] : [bridge];
  });
}

/** What to do that firewalld, where it stays, lets containers send. */
export function adviseUnzoned(bridges: readonly string[]): Advice[] {
  if (bridges.length === 0) return [];
  const words = bridges.map((bridge) => `--add-interface=${bridge}`).join(" ");
  return [
    {
      what: `firewalld has ${bridges.join(", ")} in no zone, and rejects what containers there send to others and to this host`,
      hint: `'firewall-cmd --permanent --zone=trusted ${words}' and 'firewall-cmd --reload' have it accept that`,
    },
  ];
}

/** The networks' bridges, as Docker's own rules name them. */
export function bridgesOf(networks: readonly Network[]): BridgeNetwork[] {
  return networks.flatMap(({ bridge, subnets, hostAddress, trustedInterfaces }) => {
    if (bridge === undefined) return [];
    const own = { subnets: [...subnets.ipv4, ...subnets.ipv6], sources: Object.values(hostAddress) };
    return [{ bridge, ...own, trustedInterfaces }];
  });
}

/**
 * What a load would remove, and what would stay and filter in addition to our rules, in sentences. Policies alone do not stop a
 * host that is set up already (`isSetUp`), and are reported: a load keeps them. FORWARD's DROP, which Docker sets and which
 * outlasts its chains, stops no host, and is reported once, before there are host rules.
 */
export function describePreflight(
  { families, tables, firewalld, unzoned, netavark }: PreflightFindings,
  { reload, adopt, replace }: Loading,
  isSetUp: boolean,
): { removed: string[]; kept: string[]; reported: string[] } {
  const removed: string[] = [];
  const kept: string[] = [];
  const reported: string[] = [];
  for (const { family, undeclared, other, mesh } of families) {
    const word = FAMILY_WORDS[family];
    const rules = listUndeclared(undeclared);
    const isDockersDrop = rules.length === 0 && undeclared.dockers.get("filter")?.drops === true;
    if (isDockersDrop || isLikeDockers(rules)) {
      if (!isSetUp) reported.push(describeDrop(family));
    } else if (isSetUp && rules.length > 0 && onlyPolicies(undeclared)) {
      reported.push(
        `${word} policies that no fragment sets last until the next boot: ${someOf(rules)}; adopt: true keeps them`,
      );
    } else if (rules.length > 0) {
      removed.push(`${word} rules that no fragment declares: ${someOf(rules)}${leaveThem(rules)}`);
    }
    if (mesh && !isSetUp) {
      reported.push(
        `this host is in a swarm, and dockerd publishes its services with its own ${word} rules (${INGRESS_CHAIN}): each load keeps them; reload: patch does not touch them`,
      );
    }
    if (other !== undefined) {
      const stays = reload === "patch" || holdsMesh(other) || (isSetUp && !adopt && !replace);
      const into = stays ? kept : removed;
      into.push(`${word} rules in the ${other.backend} backend, which also filter packets: ${listOther(other)}`);
    }
  }
  if (netavark !== undefined) kept.push(adviceSentence(adviseNetworks(netavark)));
  const others = withoutNetavark(tables, netavark).map(({ name }) => name);
  if (others.length > 0)
    kept.push(`nftables tables of other programs, which also filter packets: ${others.join(", ")}`);
  if (firewalld && reload === "systemd") kept.push("firewalld is running, and starting iptables.service stops it");
  else kept.push(...adviseUnzoned(unzoned).map(adviceSentence));
  return { removed, kept, reported };
}

function describeDrop(family: Family): string {
  return `${FAMILY_WORDS[family]} FORWARD has the policy DROP, which a Docker daemon that manages iptables sets; it stays until the next boot and does not affect these rules`;
}

/** Whether there is nothing but the policy that Docker sets, and that outlasts its chains. */
function isLikeDockers(rules: readonly string[]): boolean {
  return rules.length === 1 && rules[0] === ":FORWARD DROP";
}

/** Those of which nothing else is said. */
export function withoutNetavark(tables: readonly NftTable[], netavark: Netavark | undefined): NftTable[] {
  return tables.filter(({ name }) => netavark?.driver !== "nftables" || name !== NETAVARK_TABLE);
}

/** What is around once these have gone. */
export function withoutLeftovers(
  { families, tables, ...around }: PreflightFindings,
  leftovers: readonly Leftover[],
): PreflightFindings {
  const emptied = families.map((one) => {
    const { family, other } = one;
    const isLeft = leftovers.some(
      (left) => left.kind === "rules" && left.family === family && left.backend !== undefined,
    );
    return isLeft && other?.undeclared.tables.size === 0 && !holdsMesh(other) ? { ...one, other: undefined } : one;
  });
  const gone = new Set(leftovers.map(({ name }) => name));
  return { families: emptied, tables: tables.filter(({ name }) => !gone.has(name)), ...around };
}

/** A swarm's routing mesh in the other backend: dockerd runs another iptables than the plain commands. */
export function holdsMesh({ live }: Other): boolean {
  return meshOf(live, []).size > 0;
}

/** Some of its rules and policies, in words. */
export function listOther({ backend, live, undeclared }: Other): string {
  if (holdsMesh({ backend, live, undeclared }))
    return `a swarm's (${INGRESS_CHAIN}); dockerd must use the same iptables as this host's plain commands`;
  const rules = listUndeclared(undeclared);
  return rules.length > 0 ? someOf(rules) : (unreadableIn(live) ?? "left by a Docker daemon");
}

function onlyPolicies({ tables }: Undeclared): boolean {
  return [...tables.values()].every(({ rules }) => rules.length === 0);
}

function leaveThem(rules: readonly string[]): string {
  const owners = ownersOf(rules);
  if (owners.length === 0) return "";
  return ` (they look like those of ${owners.join(" and ")}, which manages them itself: reload: patch does not touch them)`;
}

/**
 * podman would publish the same ports. Rules of its iptables driver go with those that a load replaces; its table is podman's, and
 * while that is set to make it nobody else can take it away for long. Throws Failure `rules_undeclared`.
 */
export function refuseNetavark({ netavark, families }: PreflightFindings, { replace }: Loading): void {
  if (netavark === undefined || (netavark.driver === "iptables" && replace)) return;
  const why = adviceSentence(adviseNetworks(netavark));
  const rules = families.flatMap(({ undeclared }) => listUndeclared(undeclared)).filter(isNetavarksRule);
  const tables = netavark.driver === "nftables" ? [NETAVARK_TABLE] : [];
  throw new Failure("rules_undeclared", `${why}, and run docker_iptables again`, {
    traps: [why],
    rules: rules.slice(0, MOST_LISTED),
    tables,
  });
}

/** Throws Failure `rules_undeclared`. */
export function refusePreflight(found: readonly string[], { families, tables }: PreflightFindings): void {
  if (found.length === 0) return;
  const rules = families.flatMap(({ family, undeclared }) =>
    listUndeclared(undeclared).map((rule) => `${FAMILY_WORDS[family]} ${rule}`),
  );
  throw new Failure(
    "rules_undeclared",
    `this host has rules that are not in its fragments, and the next reload would remove or conflict with them: ${found.join("; ")}. Choose: adopt: true ` +
      "(save these rules as the fragments 00_existing and 95_existing), replace: true (let the load remove them), or reload: patch " +
      "(replace only docker_iptables' own rules)",
    { traps: found, rules: rules.slice(0, MOST_LISTED), tables: tables.map(({ name }) => name) },
  );
}

const MOST_LISTED = 100;

/**
 * 00_existing sorts before the host rules, 95_existing after all containers. The policy that Docker sets is not saved where the host
 * rules are there already (`isSetUp`): the setup that removed Docker's chains did not save it either. Throws Failure `fragment_foreign`.
 */
export async function adoptedFiles(
  families: PreflightFindings["families"],
  directories: Directories,
  isSetUp: boolean,
): Promise<{ files: FileChange[]; warnings: string[] }> {
  const files: FileChange[] = [];
  const warnings: string[] = [];
  for (const { family, undeclared, other } of families) {
    if (isSetUp && other === undefined && isLikeDockers(listUndeclared(undeclared))) {
      warnings.push(`${describeDrop(family)}; adopt: true does not save it, but a fragment can have it`);
      continue;
    }
    const all = other === undefined ? [undeclared] : [undeclared, other.undeclared];
    const texts = all.map(adopt);
    for (const [name, text] of [
      [ADOPTED.first, texts.map(({ first }) => first ?? "").join("")],
      [ADOPTED.last, texts.map(({ last }) => last ?? "").join("")],
    ] as const) {
      if (text === "") continue;
      const path = join(directories[family], name);
      const before = await readOwn(path);
      if (before !== undefined) {
        const message = `${path} already exists, perhaps from an earlier adopt, and is not overwritten: add the new rules to it or to another fragment, or move it away; new rules: ${someOf(listUndeclared(undeclared))}`;
        throw new Failure("fragment_foreign", message, { path });
      }
      files.push({ path, before, after: text });
    }
  }
  return { files, warnings };
}
