// What lists of who may connect ask of this host: that each key is about a port, each interface is one by which packets come, and what
// must be closed can be closed. Reads, and changes nothing.

import { mappingsOf, type PublishedContainer } from "../docker/published.ts";
import { type Allow, type Groups, keysWithout, readAllow, readKeys } from "../model/allow.ts";
import { Failure } from "../model/errors.ts";
import { FAMILIES, type Family } from "../model/family.ts";
import { spellPublish } from "../model/port-mapping.ts";
import type { ContainerFragment } from "../rules/desired-fragment.ts";
import type { ContainerRule } from "../rules/model.ts";
import { masterOf, readInterfaces } from "../system/interfaces.ts";
import { inLanes } from "../system/lanes.ts";
import { type Advice, adviceSentence } from "../text/advice.ts";
import type { HostRequest } from "./backend.ts";
import type { Kernel } from "./item.ts";

/** Of one container's lists. */
export interface ListAdvice extends Advice {
  container: string;
}

/** A key that is about no port of what a call names is a mistake. Throws Failure `arguments_invalid`. */
export function refuseKeys(targets: readonly PublishedContainer[], allow: Allow): void {
  const publishes = targets.flatMap(mappingsOf);
  const [key] = keysWithout(publishes, readKeys(allow));
  if (key === undefined) return;
  const some = publishes.slice(0, 10).map((publish) => spellPublish(publish));
  const shown = some.length === 0 ? "nothing" : `${some.join(", ")}${publishes.length > 10 ? ", …" : ""}`;
  const names = targets.map(({ name }) => name).join(", ");
  throw new Failure("arguments_invalid", `allow: '${key}' is about none of its ports: ${names} publishes ${shown}`);
}

/** A port of a bridge that a call itself names is a mistake, too. Throws Failure `arguments_invalid`. */
export async function refusePorts(allow: Allow, groups: Groups): Promise<void> {
  const names = readAllow(allow, groups).flatMap(({ sources }) => sources.flatMap(({ by }) => by ?? []));
  for (const name of new Set(names)) {
    const master = await masterOf(name);
    if (master === undefined) continue;
    const { what, hint } = enslaved(name, master);
    throw new Failure("arguments_invalid", `allow: ${what}; ${hint}`, { interface: name, master });
  }
}

function enslaved(name: string, master: string): Advice {
  const what = `${name} is a port of ${master}, and the rules see what comes by it as ${master}'s, so it lets nobody in`;
  return { what, hint: `name ${master} in its place` };
}

/** Interfaces that lists name, and by which nobody comes in: they are not there, or not seen. */
export async function adviseInterfaces(wanted: readonly ContainerFragment[]): Promise<ListAdvice[]> {
  const named = wanted.map(({ owner, meaning }) => {
    const sources = FAMILIES.flatMap((family) => meaning[family].flatMap((rule) => sourcesOf(rule) ?? []));
    return { container: owner.name, by: [...new Set(sources.flatMap((one) => one.by ?? []))] };
  });
  const all = new Set(named.flatMap(({ by }) => by));
  if (all.size === 0) return [];
  const { names } = await readInterfaces();
  const present = [...all].filter((name) => names.has(name));
  const masters = new Map(await inLanes(present, async (name) => [name, await masterOf(name)] as const));
  return named.flatMap(({ container, by }) => {
    const missing = by.filter((name) => !names.has(name));
    const advice = by.flatMap((name) => {
      const master = masters.get(name);
      return master === undefined ? [] : [enslaved(name, master)];
    });
    if (missing.length > 0) advice.unshift(adviseMissing(missing));
    return advice.map(({ what, hint }) => ({ container, what: `a list of ${container}: ${what}`, hint }));
  });
}

function adviseMissing(names: readonly string[]): Advice {
  const [are, let_] =
    names.length === 1 ? ["is no network interface", "it lets"] : ["are no network interfaces", "they let"];
  const some = names.length > 20 ? `${names.slice(0, 20).join(", ")} and ${names.length - 20} more` : names.join(", ");
  const what = `${some} ${are} of this host, so ${let_} nobody in until there is one of that name`;
  return { what, hint: "'ip link' lists them; the name of a group is written with @ before" };
}

function sourcesOf(rule: ContainerRule) {
  return "sources" in rule ? rule.sources : undefined;
}

/**
 * Containers whose lists this host cannot keep whole, and what it lacks. `families` are those with a directory, `live` is the kernel,
 * empty where it is not asked. Throws Failure of iptables-save.
 */
export async function adviseUnkept(
  wanted: readonly ContainerFragment[],
  families: readonly Family[],
  live: Kernel,
  { host }: Pick<HostRequest, "host">,
): Promise<ListAdvice[]> {
  const found: ListAdvice[] = [];
  for (const family of FAMILIES) {
    const listed = wanted.filter(({ meaning }) => meaning[family].some(sourcesOf));
    if (listed.length === 0) continue;
    const lack = await lackOf(family, families, live, host);
    if (lack === undefined) continue;
    for (const { owner } of listed) {
      const what = `the lists of ${owner.name} cannot be kept: ${lack.what}`;
      found.push({ container: owner.name, what, hint: lack.hint });
    }
  }
  return found;
}

async function lackOf(
  family: Family,
  families: readonly Family[],
  live: Kernel,
  host: HostRequest["host"],
): Promise<Advice | undefined> {
  // Where the kernel is asked at all, a family that is not there has no command.
  if (live.ipv4 !== undefined && families.includes(family) && live[family] === undefined) {
    const what = "what docker-proxy answers over IPv6 must be closed, too, and there is no ip6tables";
    return { what, hint: "install it, or boot the host with ipv6.disable=1" };
  }
  if (!families.includes(family)) {
    const directory = host.directories[family];
    const what = `what docker-proxy answers over IPv6 must be closed, too, and there is no ${directory} for that`;
    return { what, hint: "'docker_iptables setup' makes it where there is ip6tables" };
  }
  return host.backend.lackForLists(family, live[family], host.timeout);
}

/**
 * The containers whose lists this host keeps, and what is said of the others: where a call names them it fails, and else their fragments
 * stay as they are. Throws Failure `list_unsupported`.
 */
export async function holdLists(
  wanted: readonly ContainerFragment[],
  families: readonly Family[],
  live: Kernel,
  { host, subject }: Pick<HostRequest, "host" | "subject">,
): Promise<{ wanted: ContainerFragment[]; warnings: string[] }> {
  const unkept = await adviseUnkept(wanted, families, live, { host });
  const [first] = unkept;
  if (first !== undefined && !subject.all)
    throw new Failure("list_unsupported", adviceSentence(first), { container: first.container });
  const names = new Set(unkept.map(({ container }) => container));
  return {
    wanted: wanted.filter(({ owner }) => !names.has(owner.name)),
    warnings: [
      ...unkept.map((one) => `${one.container} is skipped, and everybody may reach its ports: ${adviceSentence(one)}`),
      ...(await adviseInterfaces(wanted)).map(adviceSentence),
    ],
  };
}
