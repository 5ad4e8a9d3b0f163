// The routing mesh of a swarm: what dockerd keeps in the kernel for the ports that services publish on every node, also with
// iptables=false (moby: libnetwork, service_linux.go). It is made when a service is created, and is not restored if it is removed.
// Pure.

import { GATEWAY_BRIDGE } from "../docker/network.ts";
import type { Live, LiveTable } from "./live.ts";
import { keyOf, readWords, uncounted } from "./rule.ts";

/** dockerd's chain for it, in nat and filter. */
export const INGRESS_CHAIN = "DOCKER-INGRESS";

/** By table: the lines that are the mesh's, as iptables-save prints them, in the kernel's order. */
export type Mesh = ReadonlyMap<string, readonly string[]>;

/**
 * The mesh that runs and that no fragment speaks of; empty where no service publishes a port: the bare chain and its jumps,
 * which a swarm leaves behind, dockerd makes again with the next port.
 */
export function meshOf(live: Live, fragments: readonly { text: string }[]): Mesh {
  if (!isUsed(live.tables.get("nat")) || fragments.some(({ text }) => text.includes(INGRESS_CHAIN))) return new Map();
  const mesh = [...live.tables].map(([name, { lines }]) => [name, lines.filter(isMeshes).map(uncounted)] as const);
  return new Map(mesh.filter(([, lines]) => lines.length > 0));
}

function isUsed(nat: LiveTable | undefined): boolean {
  if (nat === undefined || !nat.targets.has(INGRESS_CHAIN)) return false;
  return nat.lines.some((line) => uncounted(line).startsWith(`-A ${INGRESS_CHAIN} `) && / -j DNAT /.test(line));
}

/** What the node itself sends to a service leaves with the bridge's address. */
const FROM_NODE = keyOf(readWords(`-A POSTROUTING -o ${GATEWAY_BRIDGE} -m addrtype --src-type LOCAL -j MASQUERADE`));

function isMeshes(line: string): boolean {
  if (new RegExp(`^(\\[\\d+:\\d+\\] )?-A ${INGRESS_CHAIN} | -[jg] ${INGRESS_CHAIN}$`).test(line)) return true;
  return line.includes(GATEWAY_BRIDGE) && keyOf(readWords(uncounted(line))) === FROM_NODE;
}
