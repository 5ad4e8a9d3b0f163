/*
 * The regimes of the matrix of sources: under which base, settings and arguments the lists are made. Each starts from no rules.
 */

import type { Result } from "../../../src/generated/result.ts";
import { ask } from "../fixtures.ts";
import { clear, setBridgeNf } from "../matrix/regimes.ts";
import type { Setting } from "./expected.ts";
import { CONTAINERS, type ContainerName, type Family, NETWORKS, type Place, SETTINGS } from "./place.ts";

export interface Regime extends Omit<Setting, "userlandProxy"> {
  reload: "restore" | "patch" | "systemd";
  backend?: "iptables" | "nft";
}

/** Makes the rules of all containers, those with lists by a call of their own each. */
export async function apply(place: Place, regime: Regime, userlandProxy: boolean): Promise<void> {
  const { host } = place;
  const { base, reload, ipv6, guards, bridgeNf, backend = "iptables" } = regime;
  // What iptables drops our table in nftables cannot let pass.
  const forward = backend === "nft" ? "ACCEPT" : "DROP";
  await clear(host);
  await setBridgeNf(host, bridgeNf);
  await host.run("iptables", ["-P", "FORWARD", forward]);
  // Without IPv6 rules there is nothing that would let containers talk to each other.
  await host.run("ip6tables", ["-P", "FORWARD", ipv6 ? forward : "ACCEPT"]);
  await host.write("/etc/docker_iptables.json", JSON.stringify(SETTINGS));
  const common = { ipv6, guards, reload, backend };
  if (base === "ours") done(await ask(host, { base: true, replace: backend === "iptables", ...common }));
  else {
    await host.write("/etc/iptables.d/10_host", handBase("ipv4", userlandProxy));
    await host.write("/etc/ip6tables.d/10_host", handBase("ipv6", userlandProxy));
    for (const [command, family] of [
      ["iptables-restore", "iptables.d"],
      ["ip6tables-restore", "ip6tables.d"],
    ] as const)
      await host.run(command, [], { input: await host.read(`/etc/${family}/10_host`) });
  }
  for (const [name, container] of Object.entries(CONTAINERS)) {
    if (!("allow" in container)) continue;
    done(await ask(host, { container: name, allow: container.allow, ...common }));
  }
  const others = (Object.keys(CONTAINERS) as ContainerName[]).filter((name) => !("allow" in CONTAINERS[name]));
  done(await ask(host, { container: others, ...common }));
}

/** Throws where a call has changed nothing. */
export function done(result: Result): void {
  if (result.failed || !result.changed) throw new Error(`not made: ${result.msg}`);
}

/** A person's: as short as it can be, and nothing of it stands in the way of what is established. */
function handBase(family: Family, userlandProxy: boolean): string {
  const loopback = family === "ipv4" ? "127.0.0.0/8" : "::1/128";
  const networks = Object.values(NETWORKS);
  const toSelf = userlandProxy
    ? []
    : networks.map(({ bridge }) => `-A POSTROUTING -o ${bridge} -m addrtype --src-type LOCAL -j MASQUERADE`);
  return [
    "*nat",
    ":DOCKER_CONTAINERS - [0:0]",
    "-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER_CONTAINERS",
    `-A OUTPUT ${userlandProxy ? `! -d ${loopback} ` : ""}-m addrtype --dst-type LOCAL -j DOCKER_CONTAINERS`,
    ...networks.map(({ bridge, [family]: subnet }) => `-A POSTROUTING -s ${subnet} ! -o ${bridge} -j MASQUERADE`),
    ...toSelf,
    "COMMIT",
    "*filter",
    "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    ...networks.map(({ bridge }) => `-A FORWARD -i ${bridge} -j ACCEPT`),
    "COMMIT",
    "",
  ].join("\n");
}
