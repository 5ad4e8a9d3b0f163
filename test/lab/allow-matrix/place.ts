/*
 * The place of the matrix of sources: a host with two LANs, a client machine that a list names, one that none does, one behind
 * the host's second interface; containers on three networks, and the table of what they publish and from where each port is to be
 * reached. Nothing here is read from the product.
 */

import type { Client } from "../client.ts";
import type { Host } from "../host.ts";
import type { Lab } from "../lab.ts";
import type { PlaceOptions } from "../matrix/place.ts";
import type { Prober } from "../probe.ts";

export type Family = "ipv4" | "ipv6";
export type Protocol = "tcp" | "udp";

/** The host's addresses: those of its first LAN, those of the other one, and loopback. */
export const HOST_ADDRESSES = {
  first: "198.51.100.10",
  first6: "2001:db8:1::10",
  other: "203.0.113.10",
  other6: "2001:db8:9::10",
  loopback: "127.0.0.1",
  loopback6: "::1",
} as const;
export type HostAddress = keyof typeof HOST_ADDRESSES;

/** The host's second interface; the first is eth0. */
export const OTHER_INTERFACE = "eth1";

/** Network -> its bridge and subnets. */
export const NETWORKS = {
  bridge: { bridge: "docker0", ipv4: "172.17.0.0/16", ipv6: "2001:db8:2::/64" },
  app: { bridge: "br-app", ipv4: "172.20.0.0/24", ipv6: "2001:db8:3::/64" },
  far: { bridge: "br-far", ipv4: "172.22.0.0/24", ipv6: "2001:db8:4::/64" },
} as const;
export type Network = keyof typeof NETWORKS;

interface Container {
  network: Network;
  /** As for --publish. */
  publishes: readonly string[];
  listens: readonly string[];
  labels?: Readonly<Record<string, string>>;
  /** The argument `allow`; undefined where a call gives none. */
  allow?: Readonly<Record<string, readonly string[]>>;
}

const { first, other } = HOST_ADDRESSES;
const first6 = `[${HOST_ADDRESSES.first6}]`;

/** The host's settings: groups, and who may connect where neither an argument nor a label has a list. */
export const SETTINGS = {
  sources: { office: ["198.51.100.100", "2001:db8:1::100", "172.22.0.0/24"] },
  allow: { "8280-8281": ["eth1", "198.51.100.101"] },
};

export const CONTAINERS = {
  web: {
    network: "bridge",
    publishes: [
      ...["8080:80/tcp", "8080:80/udp", "8081:80/tcp", "8082:80/tcp", "8082:80/udp"],
      ...[`${first}:8083:80/tcp`, `${first6}:8084:80/tcp`, "127.0.0.1:8085:80/tcp", "[::]:8086:80/tcp"],
      ...["8087:81/tcp", "8088:81/tcp", "8089:82/tcp", `${first}:8090:80/tcp`, `${other}:8090:80/tcp`],
      ...["8100-8109:8100-8109/tcp", "8200-8202:8300-8302/tcp"],
    ],
    listens: ["80-82", "8100-8109", "8300-8302"],
    allow: {
      "8080/tcp": ["198.51.100.100", "2001:db8:1::100"],
      "8080/udp": ["eth1"],
      "8082": [],
      "198.51.100.10:8083/tcp": ["@office"],
      "8083": [],
      "[2001:db8:1::10]:8084": ["2001:db8:1::100/128"],
      "8085": [],
      "8086/tcp": ["2001:db8:9::/64"],
      "8087": ["198.51.100.0/24"],
      "8088": ["eth1"],
      "203.0.113.10:8090/tcp": ["eth1"],
      "8090": ["198.51.100.100"],
      "8100-8109": ["eth1"],
      "8104/tcp": ["198.51.100.101", "2001:db8:1::101"],
      "8106-8107/tcp": ["172.22.0.0/24", "2001:db8:4::/64"],
      "8200-8202/tcp": ["2001:db8:1::/64", "172.20.0.0/24"],
    },
  },
  app: {
    network: "app",
    publishes: ["8180:80/tcp", "8180:80/udp", "8181:80/tcp", `${first}:8182:81/tcp`],
    listens: ["80-82"],
    allow: {
      "*": ["198.51.100.100", "2001:db8:1::100"],
      "8180/udp": ["docker0"],
      "8181": ["172.22.0.0/24", "2001:db8:4::/64"],
    },
  },
  labelled: {
    network: "bridge",
    publishes: ["8280:80/tcp", "8281:80/tcp", "8282:81/tcp"],
    listens: ["80-81"],
    labels: { "docker_iptables.allow.8280/tcp": "203.0.113.0/24, 198.51.100.0/24, 2001:db8:9::/64" },
  },
  peer: { network: "bridge", publishes: ["8380:80/tcp"], listens: ["80"] },
  far: { network: "far", publishes: ["8480:80/tcp"], listens: ["80"], allow: { "*": [] } },
} as const satisfies Record<string, Container>;
export type ContainerName = keyof typeof CONTAINERS;

/** A port of the host, and from where it is to be reached. */
export interface Port {
  container: ContainerName;
  /** "every" is every address of both families, "every6" every IPv6 one. */
  on: "every" | "every6" | HostAddress;
  port: number;
  to: number;
  protocol: Protocol;
  /** Subnets and interfaces; of "subnet interface" both must be. Undefined: everyone. */
  from: readonly string[] | undefined;
}

const EVERYONE = undefined;
const FRIEND = ["198.51.100.100/32", "2001:db8:1::100/128"];
const BY_OTHER = ["eth1"];
const FAR = ["172.22.0.0/24", "2001:db8:4::/64"];

/** Which list decides is said here by hand. */
export const PORTS: readonly Port[] = [
  { container: "web", on: "every", port: 8080, to: 80, protocol: "tcp", from: FRIEND },
  { container: "web", on: "every", port: 8080, to: 80, protocol: "udp", from: BY_OTHER },
  { container: "web", on: "every", port: 8081, to: 80, protocol: "tcp", from: EVERYONE },
  { container: "web", on: "every", port: 8082, to: 80, protocol: "tcp", from: [] },
  { container: "web", on: "every", port: 8082, to: 80, protocol: "udp", from: [] },
  { container: "web", on: "first", port: 8083, to: 80, protocol: "tcp", from: ["198.51.100.100/32", "172.22.0.0/24"] },
  { container: "web", on: "first6", port: 8084, to: 80, protocol: "tcp", from: ["2001:db8:1::100/128"] },
  { container: "web", on: "loopback", port: 8085, to: 80, protocol: "tcp", from: [] },
  { container: "web", on: "every6", port: 8086, to: 80, protocol: "tcp", from: ["2001:db8:9::/64"] },
  { container: "web", on: "every", port: 8087, to: 81, protocol: "tcp", from: ["198.51.100.0/24"] },
  { container: "web", on: "every", port: 8088, to: 81, protocol: "tcp", from: BY_OTHER },
  { container: "web", on: "every", port: 8089, to: 82, protocol: "tcp", from: EVERYONE },
  { container: "web", on: "first", port: 8090, to: 80, protocol: "tcp", from: ["198.51.100.100/32"] },
  { container: "web", on: "other", port: 8090, to: 80, protocol: "tcp", from: BY_OTHER },
  { container: "web", on: "every", port: 8100, to: 8100, protocol: "tcp", from: BY_OTHER },
  {
    container: "web",
    on: "every",
    port: 8104,
    to: 8104,
    protocol: "tcp",
    from: ["198.51.100.101/32", "2001:db8:1::101/128"],
  },
  { container: "web", on: "every", port: 8105, to: 8105, protocol: "tcp", from: BY_OTHER },
  { container: "web", on: "every", port: 8106, to: 8106, protocol: "tcp", from: FAR },
  { container: "web", on: "every", port: 8107, to: 8107, protocol: "tcp", from: FAR },
  { container: "web", on: "every", port: 8109, to: 8109, protocol: "tcp", from: BY_OTHER },
  {
    container: "web",
    on: "every",
    port: 8200,
    to: 8300,
    protocol: "tcp",
    from: ["2001:db8:1::/64", "172.20.0.0/24"],
  },
  {
    container: "web",
    on: "every",
    port: 8202,
    to: 8302,
    protocol: "tcp",
    from: ["2001:db8:1::/64", "172.20.0.0/24"],
  },
  { container: "app", on: "every", port: 8180, to: 80, protocol: "tcp", from: FRIEND },
  { container: "app", on: "every", port: 8180, to: 80, protocol: "udp", from: ["docker0"] },
  { container: "app", on: "every", port: 8181, to: 80, protocol: "tcp", from: FAR },
  { container: "app", on: "first", port: 8182, to: 81, protocol: "tcp", from: FRIEND },
  {
    container: "labelled",
    on: "every",
    port: 8280,
    to: 80,
    protocol: "tcp",
    from: ["203.0.113.0/24 eth1", "198.51.100.0/24 eth1", "198.51.100.101/32", "2001:db8:9::/64 eth1"],
  },
  { container: "labelled", on: "every", port: 8281, to: 80, protocol: "tcp", from: ["eth1", "198.51.100.101/32"] },
  { container: "labelled", on: "every", port: 8282, to: 81, protocol: "tcp", from: EVERYONE },
  { container: "peer", on: "every", port: 8380, to: 80, protocol: "tcp", from: EVERYONE },
  { container: "far", on: "every", port: 8480, to: 80, protocol: "tcp", from: [] },
];

/** Where probes start. The stranger also routes the containers' subnets and 127.0.0.1 to the host; the friend the former. */
export const VANTAGES = ["friend", "stranger", "side", "host", "web", "app", "peer", "far"] as const;
export type Vantage = (typeof VANTAGES)[number];

export interface Place {
  host: Host;
  /** The major version of the daemon. */
  docker: number;
  clients: Record<"friend" | "stranger" | "side", Client>;
  /** Who has which address, towards the host and the containers. */
  addresses: Record<Exclude<Vantage, "host"> | "labelled", Record<Family, string>>;
  probers: Record<Vantage, Pick<Prober, "connect">>;
}

/** Boots the host, plugs in the clients and starts all containers. */
export async function makePlace(lab: Lab, { backend, userlandProxy }: PlaceOptions): Promise<Place> {
  const host = await lab.host({ name: "sources", backend, docker: { ipv6: true, userlandProxy } });
  const clients = await makeClients(lab, host);
  await host.run("sysctl", ["-qw", "net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0"]);
  for (const [name, { bridge, ipv4, ipv6 }] of Object.entries(NETWORKS)) {
    if (name === "bridge") continue;
    const subnets = ["--subnet", ipv4, "--ipv6", "--subnet", ipv6];
    await host.docker.cli(
      ...["network", "create", ...subnets, "--opt", `com.docker.network.bridge.name=${bridge}`, name],
    );
  }
  const addresses = {
    friend: addressesOf(clients.friend),
    stranger: addressesOf(clients.stranger),
    side: SIDE,
  } as Place["addresses"];
  const probers: Partial<Place["probers"]> = { host, ...clients };
  for (const [name, container] of Object.entries(CONTAINERS) as [ContainerName, Container][]) {
    const labels = Object.entries(container.labels ?? {}).flatMap(([label, value]) => ["--label", `${label}=${value}`]);
    await host.docker.run(name, {
      network: container.network,
      publish: container.publishes,
      ports: container.listens,
      options: labels,
    });
    addresses[name] = { ipv4: await host.docker.address(name), ipv6: await host.docker.address6(name) };
    if (name !== "labelled") probers[name] = await host.docker.prober(name);
  }
  const { stdout } = await host.docker.cli("version", "--format", "{{.Server.Version}}");
  return { host, docker: Number.parseInt(stdout, 10), clients, addresses, probers: probers as Place["probers"] };
}

const SIDE: Record<Family, string> = { ipv4: "203.0.113.100", ipv6: "2001:db8:9::100" };

function addressesOf({ address: ipv4, address6: ipv6 }: Client): Record<Family, string> {
  return { ipv4, ipv6 };
}

/** The clients, with ways to all that is behind the host. */
export async function makeClients(lab: Lab, host: Host): Promise<Place["clients"]> {
  const friend = await lab.client("friend");
  const stranger = await lab.client("stranger");
  const side = await lab.client("side");
  await plugIn(lab, host, side);
  const subnets = Object.values(NETWORKS).flatMap(({ ipv4, ipv6 }) => [ipv4, ipv6]);
  for (const client of [friend, stranger]) {
    for (const subnet of [...subnets, "203.0.113.0/24", "2001:db8:9::/64"]) {
      await client.route(subnet, subnet.includes(":") ? host.address6 : host.address);
    }
  }
  await stranger.route("127.0.0.1/32", host.address);
  return { friend, stranger, side };
}

/** Takes a client off the LAN and puts it behind the host's second interface. */
async function plugIn({ world }: Lab, host: Host, { name }: Client): Promise<void> {
  const script = `
    touch /run/netns/plug
    mount --bind /proc/${host.pid}/ns/net /run/netns/plug
    ip -n ${name} link del eth0
    ip -n plug link add ${OTHER_INTERFACE} type veth peer name eth0 netns ${name}
    ip -n plug link set ${OTHER_INTERFACE} up
    ip -n plug address add ${HOST_ADDRESSES.other}/24 dev ${OTHER_INTERFACE}
    ip -n plug address add ${HOST_ADDRESSES.other6}/64 dev ${OTHER_INTERFACE} nodad
    ip -n ${name} link set eth0 up
    ip -n ${name} address add ${SIDE.ipv4}/24 dev eth0
    ip -n ${name} address add ${SIDE.ipv6}/64 dev eth0 nodad
    ip -n ${name} route add default via ${HOST_ADDRESSES.other}
    ip -n ${name} route add default via ${HOST_ADDRESSES.other6}
    umount /run/netns/plug
    rm /run/netns/plug`;
  await world.run("sh", ["-euc", script]);
}
