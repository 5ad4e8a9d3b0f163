// What other tools take for the same: CNI's portmap and netavark, Debian's packages, publish ports of one container.

import type { Host } from "../lab/host.ts";
import type { Command } from "./measure.ts";
import { BARE } from "./place.ts";

const ADDRESS = "10.89.0.2";
const NETWORK = "2f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9";

/** Shell: a network namespace of a container's, and nothing of a former run's. */
const NEW_NAMESPACE = `${BARE}; ip netns del rival 2> /dev/null; ip link del rival0 2> /dev/null; ip netns add rival`;

/** Writes what the tools are given for these ports, and says how they are started. */
export async function rivalsFor(host: Host, ports: readonly number[], rounds: number): Promise<Command[]> {
  const portmap = `/root/portmap-${ports.length}.json`;
  const netavark = `/root/netavark-${ports.length}.json`;
  await host.write(portmap, JSON.stringify(portmapConfiguration(ports)));
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
      before: NEW_NAMESPACE,
      rounds,
    },
    {
      name: "netavark",
      argv: ["/usr/lib/podman/netavark", "--config", "/run/netavark", "setup", "/run/netns/rival"],
      stdin: netavark,
      before: `${NEW_NAMESPACE}; mkdir -p /run/netavark`,
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
