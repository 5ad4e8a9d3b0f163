// What setup must not walk into: rules that run and stand in no fragment, which a load would lose, and who else decides about
// packets. Found, told, refused, or adopted as fragments.

import { join } from "node:path";
import type { Family } from "./docker/container.ts";
import type { Daemon } from "./docker/daemon.ts";
import type { Network } from "./docker/network.ts";
import { Failure } from "./errors.ts";
import type { Fragments } from "./fragments/by-family.ts";
import { readOwn } from "./fragments/directory.ts";
import type { Arguments } from "./generated/arguments.ts";
import { firewalldRuns, foreignTables, type OtherBackend, otherBackend } from "./kernel/others.ts";
import { hasDockersRules, readLive } from "./rules/live.ts";
import { adopt, listUndeclared, type Undeclared, undeclaredOf } from "./rules/undeclared.ts";
import { directoryOf, type FileChange, type Kernel } from "./survey.ts";

/** Who else has a hand in the packet filter. */
export interface Around {
  families: { family: Family; undeclared: Undeclared; other: OtherBackend | undefined }[];
  tables: string[];
  firewalld: boolean;
}

/** `future` are the fragments as they will be, `live` is the kernel. Throws Failure of `run`. */
export async function lookForTraps(
  families: readonly Family[],
  future: Fragments,
  networks: readonly Network[],
  live: Kernel,
  { timeout }: Arguments,
): Promise<Around> {
  const bridges = networks.flatMap(({ bridge, subnets }) =>
    bridge === undefined ? [] : [{ bridge, subnets: [...subnets.ipv4, ...subnets.ipv6] }],
  );
  const [tables, firewalld, ...found] = await Promise.all([
    foreignTables(timeout),
    firewalldRuns(timeout),
    ...families.map(async (family) => ({
      family,
      undeclared: undeclaredOf(live[family] ?? readLive(""), future[family] ?? [], bridges),
      other: await otherBackend(family, timeout),
    })),
  ]);
  return { families: found, tables, firewalld };
}

const WORDS: Record<Family, string> = { ipv4: "IPv4", ipv6: "IPv6" };

/**
 * What a load would lose, and what would stay and decide beside our rules, in a person's words. Policies alone do not stop a
 * host that is set up already (`isSetUp`), and are told: a load keeps them, and Docker's FORWARD DROP outlasts its chains.
 */
export function describeTraps(
  { families, tables, firewalld }: Around,
  daemon: Daemon | undefined,
  live: Kernel,
  { reload }: Arguments,
  isSetUp: boolean,
): { lost: string[]; kept: string[]; told: string[] } {
  const lost: string[] = [];
  const kept: string[] = [];
  const told: string[] = [];
  for (const { family, undeclared, other } of families) {
    const rules = listUndeclared(undeclared);
    if (isSetUp && rules.length > 0 && onlyPolicies(undeclared)) {
      told.push(
        `no fragment states ${WORDS[family]} policies, which last until the next boot: ${someOf(rules)}; adopt keeps them`,
      );
    } else if (rules.length > 0) {
      lost.push(`${WORDS[family]} rules that no fragment declares: ${someOf(rules)}${ownersOf(rules)}`);
    }
    if (other !== undefined) {
      const into = reload === "patch" ? kept : lost;
      const lines = [...other.live.tables.values()].flatMap((table) => table.lines);
      into.push(`${WORDS[family]} rules in the ${other.backend} backend, which decide as well: ${someOf(lines)}`);
    }
    const running = live[family];
    const setting = family === "ipv4" ? "iptables" : "ip6tables";
    const manages = daemon !== undefined && (daemon[setting] !== false || daemon.changedSince);
    if (manages && running && hasDockersRules(running)) {
      kept.push(
        `${WORDS[family]} rules of the Docker daemon, which manages them itself and would make them again, until it is started with "${setting}": false in its daemon.json`,
      );
    }
  }
  if (tables.length > 0) kept.push(`nftables tables of others, which decide as well: ${tables.join(", ")}`);
  if (firewalld && reload === "systemd") kept.push("firewalld runs, and starting iptables.service stops it");
  return { lost, kept, told };
}

function onlyPolicies({ tables }: Undeclared): boolean {
  return [...tables.values()].every(({ rules }) => rules.length === 0);
}

/** Programs that make their rules again at each start, by the names of their chains. */
const OWNERS: readonly [RegExp, string][] = [
  [/ ufw6?-/, "ufw"],
  [/ f2b-/, "fail2ban"],
  [/ LIBVIRT_/, "libvirt"],
  [/ KUBE-/, "Kubernetes"],
  [/ (FWDI|FWDO|INPUT_direct|FORWARD_direct)/, "firewalld"],
];

function ownersOf(rules: readonly string[]): string {
  const owners = OWNERS.filter(([pattern]) => rules.some((rule) => pattern.test(rule))).map(([, name]) => name);
  if (owners.length === 0) return "";
  return ` (they look like those of ${owners.join(" and ")}, which makes its rules itself: reload: patch leaves them to it)`;
}

/** Some of many, in words. */
export function someOf(rules: readonly string[]): string {
  const told = rules.slice(0, 3).map((rule) => `'${rule}'`);
  return `${told.join(", ")}${rules.length > 3 ? ` and ${rules.length - 3} more` : ""}`;
}

/** Throws Failure `rules_undeclared`. */
export function refuseTraps(traps: readonly string[], { families, tables }: Around): void {
  if (traps.length === 0) return;
  const rules = families.flatMap(({ family, undeclared }) =>
    listUndeclared(undeclared).map((rule) => `${WORDS[family]} ${rule}`),
  );
  throw new Failure(
    "rules_undeclared",
    `this host has more than its fragments say, and the next reload would lose or fight it: ${traps.join("; ")}. Choose: adopt ` +
      "(save these rules as the fragments 00_existing and 95_existing), replace (go on without them), or reload: patch " +
      "(exchange only docker_iptables' own rules, and leave all others alone)",
    { traps, rules: rules.slice(0, MOST_TOLD), tables },
  );
}

const MOST_TOLD = 100;

/** 00_existing sorts before the base, 95_existing behind all containers. Throws Failure `fragment_foreign`. */
export async function adoptedFiles(families: Around["families"], args: Arguments): Promise<FileChange[]> {
  const files: FileChange[] = [];
  for (const { family, undeclared, other } of families) {
    const all = other === undefined ? [undeclared] : [undeclared, undeclaredOf(other.live, [], [])];
    const texts = all.map(adopt);
    for (const [name, text] of [
      ["00_existing", texts.map(({ first }) => first ?? "").join("")],
      ["95_existing", texts.map(({ last }) => last ?? "").join("")],
    ] as const) {
      if (text === "") continue;
      const path = join(directoryOf(family, args), name);
      const before = await readOwn(path);
      if (before !== undefined) {
        const message = `${path} is there already, from an earlier adopt perhaps, and is not overwritten: add what is new to it or to another fragment, or move it away; new: ${someOf(listUndeclared(undeclared))}`;
        throw new Failure("fragment_foreign", message, { path });
      }
      files.push({ path, before, after: text });
    }
  }
  return files;
}
