// The guards are in the raw table, which a kernel may lack: then they are left out, and a warning says what stays open. Lists of who may
// connect are in mangle, and are not left out.

import type { Live } from "../iptables/live.ts";
import { FAMILIES, type Family } from "../model/family.ts";
import { hasTable } from "../netfilter/iptables.ts";
import type { ContainerFragment } from "../rules/desired-fragment.ts";
import type { ContainerRule } from "../rules/model.ts";
import type { Advice } from "../text/advice.ts";
import type { Kernel } from "./item.ts";

/**
 * The containers' fragments as this kernel can load them. A table that iptables-save shows is there; only if it shows none is the
 * kernel asked. If the kernel is not read, nothing is left out. Throws Failure of iptables-save.
 */
export async function fitDirectAccess(
  wanted: readonly ContainerFragment[],
  live: Kernel,
  timeoutSeconds: number,
): Promise<{ wanted: ContainerFragment[]; warnings: string[] }> {
  const lacking: Family[] = [];
  for (const family of FAMILIES) {
    const running = live[family];
    if (running === undefined || running.tables.has("raw")) continue;
    if (!wanted.some(({ meaning }) => meaning[family].some(isFilter))) continue;
    if (!(await hasTable(family, "raw", timeoutSeconds))) lacking.push(family);
  }
  return {
    wanted: lacking.length === 0 ? [...wanted] : wanted.map((one) => withoutFilters(one, lacking)),
    warnings: lacking.flatMap((family) => unguarded(wanted, family)),
  };
}

/** Throws Failure of iptables-save. */
export async function lackForLists(
  family: Family,
  running: Live | undefined,
  timeoutSeconds: number,
): Promise<Advice | undefined> {
  if (running === undefined || running.tables.has("mangle")) return undefined;
  if (await hasTable(family, "mangle", timeoutSeconds)) return undefined;
  const [word, module] = family === "ipv4" ? ["IPv4", "iptable_mangle"] : ["IPv6", "ip6table_mangle"];
  const what = `this kernel has no mangle table for ${word}`;
  return { what, hint: `'modprobe ${module}', or a kernel that has it` };
}

function withoutFilters(one: ContainerFragment, families: readonly Family[]): ContainerFragment {
  const meaning = { ...one.meaning };
  for (const family of families) meaning[family] = meaning[family].filter((rule) => !isFilter(rule));
  return { ...one, meaning };
}

function isFilter({ kind }: ContainerRule): boolean {
  return kind === "direct-access-filter" || kind === "direct-access-accept" || kind === "loopback-filter";
}

function unguarded(wanted: readonly ContainerFragment[], family: Family): string[] {
  const [word, module] = family === "ipv4" ? ["IPv4", "iptable_raw"] : ["IPv6", "ip6table_raw"];
  const owners = (filter: ContainerRule["kind"]) =>
    wanted
      .filter(({ meaning }) => meaning[family].some(({ kind }) => kind === filter))
      .map(({ owner }) => owner.name)
      .join(", ");
  const [local, direct] = [owners("loopback-filter"), owners("direct-access-filter")];
  const open = [
    ...(local === ""
      ? []
      : [`what ${local} publishes on 127.x can be reached by an on-link host that routes it to this host`]),
    ...(direct === "" ? [] : [`only the host rules in FORWARD protect the unpublished ports of ${direct}`]),
  ];
  return [`this kernel has no raw table for ${word} (module ${module}): ${open.join("; ")}`];
}
