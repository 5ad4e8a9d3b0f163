// What a Docker daemon left that managed iptables, and that one which does not has no use for: found. Reads, and changes nothing.

import type { Network } from "../docker/network.ts";
import type { Fragments } from "../fragments/by-family.ts";
import { COMMANDS } from "../iptables/commands.ts";
import { type BridgeNetwork, DOCKER_TABLES } from "../iptables/docker-rules.ts";
import { leftoverText } from "../iptables/undeclared.ts";
import type { Family } from "../model/family.ts";
import { tableText, unreadableIn, type Variant } from "../netfilter/foreign-firewalls.ts";
import { bridgesOf, type PreflightFindings } from "./preflight.ts";

/** What is to be removed, as readable text. */
export type Leftover = { name: string; text: string } & (LeftRules | { kind: "table" });

/** Docker's rules in one backend and family. */
export interface LeftRules {
  kind: "rules";
  family: Family;
  /** Undefined for that of the plain commands. */
  backend: Variant | undefined;
  /** What distinguishes them when the kernel is read again. */
  fragments: readonly { text: string }[];
  bridges: readonly BridgeNetwork[];
}

/** For a host whose daemon leaves iptables alone. `future` are the fragments as they will be. */
export async function findLeftovers(
  { families, tables }: PreflightFindings,
  future: Fragments,
  networks: readonly Network[],
  timeout: number,
): Promise<Leftover[]> {
  const bridges = bridgesOf(networks);
  const found: Leftover[] = [];
  for (const { family, undeclared, other } of families) {
    const left = leftoverText(undeclared, false);
    const fragments = future[family] ?? [];
    if (left !== undefined) {
      found.push({
        kind: "rules",
        name: COMMANDS[family].save,
        text: left,
        family,
        backend: undefined,
        fragments,
        bridges,
      });
    }
    // What cannot be printed could not be restored.
    if (other === undefined || unreadableIn(other.live) !== undefined) continue;
    const { backend } = other;
    const others = leftoverText(other.undeclared, true);
    if (others === undefined) continue;
    const name = COMMANDS[family].save.replace("-", `-${backend}-`);
    found.push({ kind: "rules", name, text: others, family, backend, fragments: [], bridges });
  }
  for (const name of tables.map((table) => table.name).filter((table) => DOCKER_TABLES.includes(table))) {
    const text = await tableText(name, timeout);
    if (text !== undefined) found.push({ kind: "table", name, text });
  }
  return found;
}
