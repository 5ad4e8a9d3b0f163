// What other tools take for the same: CNI's portmap and netavark, Debian's packages, publish ports of one container, by iptables or nftables.

import type { Host } from "../lab/host.ts";
import type { Command } from "./measure.ts";
import { BARE } from "./place.ts";

const ADDRESS = "10.89.0.2";
const NETWORK = "2f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9";

/** Shell: a network namespace of a container's, and nothing of a former run's. */
const NEW_NAMESPACE = "ip netns del rival 2> /dev/null; ip link del rival0 2> /dev/null; ip netns add rival";

/** Shell: nothing of theirs is in nftables. */
export const BARE_NFT =
  "for table in 'ip cni_hostport' 'ip6 cni_hostport' 'inet netavark'; do nft delete table $table 2> /dev/null; done";

/** Whether both of this host can write nftables: Debian's portmap does not say its version, but a release that has such a one is sid. */
export async function canUseNft(host: Host): Promise<boolean> {
  const { exitCode } = await host.run("grep", ["-q", "cni_hostport", "/usr/lib/cni/portmap"], { check: false });
  return exitCode === 0;
}

/** Writes what the tools are given for these ports, and says how they are started. */
export async function rivalsFor(
  host: Host,
  ports: readonly number[],
  rounds: number,
  backend: "iptables" | "nft" = "iptables",
): Promise<Command[]> {
  const [bare, flavour, variables]: [string, object, Record<string, string>] =
    backend === "nft"
      ? [`${BARE_NFT}; ${NEW_NAMESPACE}`, { backend: "nftables" }, { NETAVARK_FW: "nftables" }]
      : [`${BARE}; ${NEW_NAMESPACE}`, {}, {}];
  const portmap = `/root/portmap-${ports.length}.json`;
  const netavark = `/root/netavark-${ports.length}.json`;
  await host.write(portmap, JSON.stringify({ ...portmapConfiguration(ports), ...flavour }));
  await host.write(netavark, JSON.stringify(netavarkConfiguration(ports)));
  return [
    {
      name: "CNI portmap",
      argv: ["/usr/lib/cni/portmap"],
      stdin: portmap,
      env: {
        CNI_COMMAND: "ADD",
        CNI_CONTAINERID: "rival",
        CNI_NETNS: "/run/netns/rival",
        CNI_IFNAME: "eth0",
        CNI_PATH: "/usr/lib/cni",
      },
      before: bare,
      rounds,
    },
    {
      name: "netavark",
      argv: ["/usr/lib/podman/netavark", "--config", "/run/netavark", "setup", "/run/netns/rival"],
      stdin: netavark,
      env: variables,
      before: `${bare}; mkdir -p /run/netavark`,
      rounds,
    },
  ];
}

function portmapConfiguration(ports: readonly number[]) {
  return {
    cniVersion: "0.4.0",
    name: "rival",
    type: "portmap",
    capabilities: { portMappings: true },
    runtimeConfig: {
      portMappings: ports.map((port) => ({ hostPort: port, containerPort: port, protocol: "tcp" })),
    },
    prevResult: {
      cniVersion: "0.4.0",
      interfaces: [{ name: "rival0" }, { name: "eth0", sandbox: "/run/netns/rival" }],
      ips: [{ version: "4", address: `${ADDRESS}/24`, gateway: "10.89.0.1", interface: 1 }],
      dns: {},
    },
  };
}

function netavarkConfiguration(ports: readonly number[]) {
  return {
    container_id: NETWORK.replace(/^./, "3"),
    container_name: "rival",
    port_mappings: ports.map((port) => ({
      host_ip: "",
      container_port: port,
      host_port: port,
      range: 1,
      protocol: "tcp",
    })),
    networks: { rival: { static_ips: [ADDRESS], interface_name: "eth0" } },
    network_info: {
      rival: {
        name: "rival",
        id: NETWORK,
        driver: "bridge",
        network_interface: "rival0",
        subnets: [{ subnet: "10.89.0.0/24", gateway: "10.89.0.1" }],
        ipv6_enabled: false,
        internal: false,
        dns_enabled: false,
      },
    },
  };
}
