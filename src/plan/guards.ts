// The guards stand in the raw table, which a kernel may lack: then they are left out, and it is told what stays open.

import { FAMILIES, type Family } from "../model/family.ts";
import { hasTable } from "../netfilter/iptables.ts";
import { isDirectGuard } from "../rules/claims.ts";
import { containerFragment, type DesiredFragment } from "../rules/fragment-text.ts";
import type { Kernel } from "./item.ts";

/**
 * The containers' fragments as this kernel can load them. A table that iptables-save shows is there; only where it shows
 * none is it asked for. Where the kernel is not looked at, nothing is left out. Throws Failure of iptables-save.
 */
export async function fitDirectAccess(
  wanted: readonly DesiredFragment[],
  live: Kernel,
  timeoutSeconds: number,
): Promise<{ wanted: DesiredFragment[]; warnings: string[] }> {
  const lacking: Family[] = [];
  for (const family of FAMILIES) {
    const running = live[family];
    if (running === undefined || running.tables.has("raw")) continue;
    if (!wanted.some(({ rules }) => rules[family].raw)) continue;
    if (!(await hasTable(family, "raw", timeoutSeconds))) lacking.push(family);
  }
  return {
    wanted: lacking.length === 0 ? [...wanted] : wanted.map((one) => withoutRaw(one, lacking)),
    warnings: lacking.flatMap((family) => unguarded(wanted, family)),
  };
}

function withoutRaw({ owner, rules, options }: DesiredFragment, families: readonly Family[]): DesiredFragment {
  const left = { ...rules };
  for (const family of families) {
    const { raw: _, ...others } = rules[family];
    left[family] = others;
  }
  return containerFragment(owner, left, options);
}

function unguarded(wanted: readonly DesiredFragment[], family: Family): string[] {
  const [word, module] = family === "ipv4" ? ["IPv4", "iptable_raw"] : ["IPv6", "ip6table_raw"];
  const owners = (isLoopback: boolean) =>
    wanted
      .filter(({ rules }) => rules[family].raw?.some((rule) => isDirectGuard(rule) !== isLoopback))
      .map(({ owner }) => owner)
      .join(", ");
  const [local, direct] = [owners(true), owners(false)];
  const open = [
    ...(local === ""
      ? []
      : [`what ${local} publishes on 127.x can be reached by a neighbour who routes it to this host`]),
    ...(direct === "" ? [] : [`only the base's rules in FORWARD keep others from the unpublished ports of ${direct}`]),
  ];
  return [`this kernel has no raw table for ${word} (module ${module}): ${open.join("; ")}`];
}
