// What a Docker daemon left that managed iptables, and that one which does not has no use for: found, taken away, put back.

import type { Family } from "./docker/container.ts";
import type { Network } from "./docker/network.ts";
import type { Fragments } from "./fragments/by-family.ts";
import { COMMANDS, patchRules, saveRules } from "./kernel/iptables.ts";
import {
  type Backend,
  deleteTable,
  patchBackend,
  restoreBackend,
  restoreTable,
  saveBackend,
  tableText,
  untold,
} from "./kernel/others.ts";
import { restoreSnapshot } from "./kernel/snapshot.ts";
import { type BridgeNetwork, DOCKERS_TABLES } from "./rules/dockers.ts";
import type { Live } from "./rules/live.ts";
import { leftoverText, undeclaredOf } from "./rules/undeclared.ts";
import { type Around, bridgesOf } from "./traps.ts";
import type { Undo } from "./undo.ts";

/** What is to go, as a text that a person can read. */
export type Leftover = { name: string; text: string } & (LeftRules | { kind: "table" });

/** Docker's rules in one backend and family. */
interface LeftRules {
  kind: "rules";
  family: Family;
  /** Undefined for that of the plain commands. */
  backend: Backend | undefined;
  /** What tells them apart when the kernel is looked at again. */
  fragments: readonly { text: string }[];
  bridges: readonly BridgeNetwork[];
}

/** For a host whose daemon leaves iptables alone. `future` are the fragments as they will be. */
export async function findLeftovers(
  { families, tables }: Around,
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
    // What cannot be printed could not be put back.
    if (other === undefined || untold(other.live) !== undefined) continue;
    const { backend } = other;
    const others = leftoverText(other.undeclared, true);
    if (others === undefined) continue;
    const name = COMMANDS[family].save.replace("-", `-${backend}-`);
    found.push({ kind: "rules", name, text: others, family, backend, fragments: [], bridges });
  }
  for (const name of tables.map((table) => table.name).filter((table) => DOCKERS_TABLES.includes(table))) {
    const text = await tableText(name, timeout);
    if (text !== undefined) found.push({ kind: "table", name, text });
  }
  return found;
}

/** Takes it away as far as it is still there; `undo` gets the way back. Throws Failure of iptables and nft. */
export async function removeLeftover(leftover: Leftover, undo: Undo[], timeout: number): Promise<void> {
  if (leftover.kind === "rules") return removeRules(leftover, undo, timeout);
  const { name } = leftover;
  const text = await tableText(name, timeout);
  if (text === undefined) return;
  undo.push(async () => {
    if ((await tableText(name, timeout)) !== undefined) return undefined;
    await restoreTable(name, text, timeout);
    return `the nftables table ${name}`;
  });
  await deleteTable(name, timeout);
}

async function removeRules({ family, backend, fragments, bridges }: LeftRules, undo: Undo[], timeout: number) {
  const save = () => (backend === undefined ? saveRules(family, timeout) : saveBackend(family, backend, timeout));
  const before = await save();
  const text = leftoverText(undeclaredOf(before, fragments, bridges), backend !== undefined);
  if (text === undefined) return;
  let left: Live | undefined;
  undo.push(async () => {
    if (backend === undefined) return restoreSnapshot(family, before, left, timeout);
    await restoreBackend(family, backend, before, timeout);
    return `the rules of the ${backend} backend`;
  });
  if (backend === undefined) await patchRules(family, text, timeout);
  else await patchBackend(family, backend, text, timeout);
  left = await save();
}
