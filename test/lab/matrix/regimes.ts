/*
 * The regimes: whose rules the host has. Each starts from none.
 */

import type { Result } from "../../../src/generated/result.ts";
import { ask } from "../fixtures.ts";
import type { Host } from "../host.ts";
import { docker29Rules, type Setting } from "./docker29.ts";
import { CONTAINERS, look, type Place } from "./place.ts";

const COMMANDS = ["iptables", "ip6tables"];

const EMPTY = `*raw
COMMIT
*mangle
COMMIT
*nat
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
COMMIT
`;

export async function clear(host: Host): Promise<void> {
  await host.run("find", ["/etc/iptables.d", "/etc/ip6tables.d", "-mindepth", "1", "-delete"]);
  await host.run("rm", ["--force", "/etc/docker_iptables.json"]);
  for (const command of COMMANDS) await host.run(`${command}-restore`, [], { input: EMPTY });
  await host.run("sh", ["-c", "rm -rf /etc/nftables.d; nft delete table inet docker_iptables 2> /dev/null || true"]);
}

/** Whether packets between a bridge's ports pass iptables. */
export async function setBridgeNf(host: Host, on: boolean): Promise<void> {
  const values = COMMANDS.map((command) => `net.bridge.bridge-nf-call-${command}=${Number(on)}`);
  await host.run("sysctl", ["-qw", ...values]);
}

/** Docker 29's rules, by hand. */
export async function asDocker29(place: Place, setting: Setting): Promise<void> {
  await clear(place.host);
  await place.host.run("iptables-restore", [], { input: docker29Rules(place, "ipv4", setting) });
  await place.host.run("ip6tables-restore", [], { input: docker29Rules(place, "ipv6", setting) });
}

/** The product's: base and containers at once. */
export async function asOurs({ host }: Place, forward: "ACCEPT" | "DROP"): Promise<Result> {
  await clear(host);
  for (const command of COMMANDS) await host.run(command, ["-P", "FORWARD", forward]);
  return ask(host, { base: true, replace: true, container: Object.keys(CONTAINERS), ipv6: true, reload: "restore" });
}

/** The same in a table of our own in nftables. */
export async function asNft({ host }: Place): Promise<Result> {
  await clear(host);
  const backend = { backend: "nft" as const, reload: "restore" as const };
  return ask(host, { base: true, container: Object.keys(CONTAINERS), ipv6: true, ...backend });
}

/** The original's README: its base for docker0 alone, FORWARD's policy DROP, and our containers' fragments. IPv4. */
export async function byHand({ host }: Place): Promise<Result> {
  await clear(host);
  await host.run("iptables", ["-P", "FORWARD", "DROP"]);
  await host.write("/etc/iptables.d/10_docker", ORIGINAL_BASE);
  return ask(host, { container: Object.keys(CONTAINERS), reload: "restore" });
}

const ORIGINAL_BASE = `*nat
:DOCKER_CONTAINERS - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER_CONTAINERS
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER_CONTAINERS
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
COMMIT
*filter
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A FORWARD -i docker0 -o docker0 -j ACCEPT
COMMIT
`;

/** The original script's own rules: on a Docker since 1.9 it writes no bridge. Returns what iptables-restore says to them. */
export async function asOriginal({ host, addresses }: Place): Promise<string> {
  await clear(host);
  const address = addresses.web?.bridge?.ipv4;
  const fragment = `*nat
-A DOCKER_CONTAINERS ! -i  -p tcp -m tcp --dport 8080 -j DNAT --to-destination ${address}:80
COMMIT
*filter
-A FORWARD -d ${address} ! -i  -o  -p tcp -m tcp --dport 80 -j ACCEPT
COMMIT
`;
  const restored = await host.run("iptables-restore", [], { input: ORIGINAL_BASE + fragment, check: false });
  if (restored.exitCode === 0) throw new Error("iptables-restore took the original's rules");
  return restored.stderr;
}

/** The real daemon of the host with its own rules. Its containers start anew. */
export async function asOwn(place: Place): Promise<Place> {
  const { host } = place;
  await clear(host);
  const path = "/etc/docker/daemon.json";
  const settings = JSON.parse(await host.read(path));
  await host.write(path, JSON.stringify({ ...settings, iptables: true, ip6tables: true }));
  await host.systemctl(["restart", "docker"]);
  // As when the daemon turns forwarding on itself; here it was on already.
  for (const command of COMMANDS) await host.run(command, ["-P", "FORWARD", "DROP"]);
  for (const name of Object.keys(CONTAINERS)) await host.docker.cli("start", name);
  await host.docker.forget();
  return look(place);
}
