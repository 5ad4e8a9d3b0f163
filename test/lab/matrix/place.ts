/*
 * The place that the matrix probes: a host with two LAN addresses of each family, its networks and containers, two
 * clients, and what each container publishes, as the matrix's own table. Nothing here is read from the product.
 */

import type { Client } from "../client.ts";
import type { Host } from "../host.ts";
import type { Lab } from "../lab.ts";
import type { Prober } from "../probe.ts";

export type Family = "ipv4" | "ipv6";
export type Protocol = "tcp" | "udp";

/** The host's addresses, by name. */
export const HOST_ADDRESSES = ["first", "second", "first6", "second6", "loopback", "loopback6"] as const;
export type HostAddress = (typeof HOST_ADDRESSES)[number];

export interface Network {
  /** Named on creation; Docker makes it from the network's id where it is undefined. */
  bridge?: string;
  subnets: Partial<Record<Family, string>>;
  gateways: Partial<Record<Family, string>>;
  internal?: true;
}

export const NETWORKS: Record<string, Network> = {
  bridge: {
    bridge: "docker0",
    subnets: { ipv4: "172.17.0.0/16", ipv6: "2001:db8:2::/64" },
    gateways: { ipv4: "172.17.0.1", ipv6: "2001:db8:2::1" },
  },
  app: {
    bridge: "br-app",
    subnets: { ipv4: "172.20.0.0/24", ipv6: "2001:db8:3::/64" },
    gateways: { ipv4: "172.20.0.1", ipv6: "2001:db8:3::1" },
  },
  // Sorts before app, which has a gateway in more families.
  alone: { subnets: { ipv4: "172.21.0.0/24" }, gateways: { ipv4: "172.21.0.1" } },
  other: {
    bridge: "br-other",
    subnets: { ipv4: "172.22.0.0/24", ipv6: "2001:db8:4::/64" },
    gateways: { ipv4: "172.22.0.1", ipv6: "2001:db8:4::1" },
  },
  inner: {
    bridge: "br-inner",
    subnets: { ipv4: "172.23.0.0/24", ipv6: "2001:db8:5::/64" },
    gateways: { ipv4: "172.23.0.1", ipv6: "2001:db8:5::1" },
    internal: true,
  },
};

export interface PortMapping {
  /** "every" is every address of both families, "every6" every IPv6 one. */
  on: "every" | "every6" | HostAddress;
  port: number;
  to: number;
  /** How many ports follow; 1 by default. */
  count?: number;
  protocol?: Protocol;
}

export interface Container {
  networks: readonly string[];
  /** The network that publishes; none where Docker makes no rule for the container. */
  publishing?: string;
  publishes: readonly PortMapping[];
  /** The ports that its server listens on. */
  listens: readonly string[];
}

export const CONTAINERS: Record<string, Container> = {
  web: {
    networks: ["bridge"],
    publishing: "bridge",
    publishes: [
      { on: "every", port: 8080, to: 80 },
      { on: "every", port: 8080, to: 80, protocol: "udp" },
      { on: "every", port: 8081, to: 80 },
      { on: "first", port: 8082, to: 80 },
      { on: "first", port: 8082, to: 80, protocol: "udp" },
      { on: "loopback", port: 8083, to: 80 },
      { on: "loopback", port: 8083, to: 80, protocol: "udp" },
      { on: "loopback6", port: 8084, to: 80 },
      { on: "every6", port: 8085, to: 80 },
      { on: "first6", port: 8086, to: 80 },
      { on: "first6", port: 8086, to: 80, protocol: "udp" },
      { on: "first", port: 8087, to: 80 },
      { on: "second", port: 8087, to: 81 },
      { on: "every", port: 9000, to: 9000, count: 3 },
      { on: "every", port: 9100, to: 9200, count: 3 },
    ],
    // 82 is exposed and not published.
    listens: ["80-82", "9000-9002", "9200-9202"],
  },
  app: {
    networks: ["app"],
    publishing: "app",
    publishes: [
      { on: "every", port: 8180, to: 80 },
      { on: "every", port: 8180, to: 80, protocol: "udp" },
      { on: "first", port: 8182, to: 80 },
      { on: "loopback", port: 8183, to: 80 },
    ],
    listens: ["80-82"],
  },
  alone: {
    networks: ["alone"],
    publishing: "alone",
    publishes: [{ on: "every", port: 8280, to: 80 }],
    listens: ["80-82"],
  },
  both: {
    networks: ["alone", "app"],
    publishing: "app",
    publishes: [{ on: "every", port: 8380, to: 80 }],
    listens: ["80-82"],
  },
  inner: { networks: ["inner"], publishes: [{ on: "every", port: 8480, to: 80 }], listens: ["80-82"] },
  macvlan: { networks: ["macvlan"], publishes: [{ on: "every", port: 8580, to: 80 }], listens: ["80-82"] },
  hosted: { networks: ["host"], publishes: [], listens: ["8680"] },
  peer: { networks: ["bridge"], publishes: [], listens: ["80-82"] },
  other: { networks: ["other"], publishes: [], listens: ["80-82"] },
};

/** Where probes start: two clients of the LAN, of which the second has routes to all that is behind the host; the host; containers. */
export const VANTAGES = ["remote", "routed", "host", "web", "peer", "app", "both", "other", "inner"] as const;
export type Vantage = (typeof VANTAGES)[number];

export interface Place {
  host: Host;
  hostAddresses: Record<HostAddress, string>;
  /** Network -> its bridge. */
  bridges: Record<string, string>;
  /** Container -> network -> its addresses there. */
  addresses: Record<string, Record<string, Partial<Record<Family, string>>>>;
  clients: Record<"remote" | "routed", Client>;
  probers: Record<Vantage, Pick<Prober, "connect">>;
}

export function familyOf(address: string): Family {
  return address.includes(":") ? "ipv6" : "ipv4";
}

/** The kinds of host that are measured. */
export const KINDS: readonly PlaceOptions[] = [
  { backend: "nft", userlandProxy: true },
  { backend: "nft", userlandProxy: false },
  { backend: "legacy", userlandProxy: true },
  { backend: "legacy", userlandProxy: false },
];

export interface PlaceOptions {
  backend: "nft" | "legacy";
  userlandProxy: boolean;
}

/** Boots the host and starts all its containers. */
export async function makePlace(lab: Lab, { backend, userlandProxy }: PlaceOptions): Promise<Place> {
  const host = await lab.host({ name: "matrix", backend, docker: { ipv6: true, userlandProxy } });
  const clients = { remote: await lab.client("remote"), routed: await lab.client("routed") };
  const second = host.address.replace(/\d+$/, "60");
  const second6 = host.address6.replace(/\d+$/, "60");
  await host.run("ip", ["address", "add", `${second}/24`, "dev", "eth0"]);
  await host.run("ip", ["address", "add", `${second6}/64`, "dev", "eth0", "nodad"]);
  // Hundreds of closed ports answer at once; the kernel would leave most of those answers out.
  // What is refused is asked of conntrack afterwards, all at once.
  const settled = "net.netfilter.nf_conntrack_tcp_timeout_close=120";
  await host.run("sysctl", ["-qw", "net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0", settled]);
  await makeNetworks(host);
  await routeAll(clients.routed, host);
  const hostAddresses = {
    first: host.address,
    second,
    first6: host.address6,
    second6,
    loopback: "127.0.0.1",
    loopback6: "::1",
  };
  for (const [name, container] of Object.entries(CONTAINERS))
    await startContainer(host, name, container, hostAddresses);
  return look({ host, hostAddresses, clients });
}

async function makeNetworks(host: Host): Promise<void> {
  for (const [name, { bridge, subnets, internal }] of Object.entries(NETWORKS)) {
    if (name === "bridge") continue;
    const { ipv4 = "", ipv6 } = subnets;
    await host.docker.cli(
      ...["network", "create", "--subnet", ipv4],
      ...(ipv6 === undefined ? [] : ["--ipv6", "--subnet", ipv6]),
      ...(bridge === undefined ? [] : ["--opt", `com.docker.network.bridge.name=${bridge}`]),
      ...(internal ? ["--internal"] : []),
      name,
    );
  }
  const lan = ["--subnet", "198.51.100.0/24", "--ip-range", "198.51.100.128/28", "--opt", "parent=eth0"];
  await host.docker.cli("network", "create", "--driver", "macvlan", ...lan, "macvlan");
}

/** As an on-link host can that knows the host's networks. */
async function routeAll(client: Client, host: Host): Promise<void> {
  for (const { subnets } of Object.values(NETWORKS)) {
    for (const subnet of Object.values(subnets)) {
      await client.route(subnet, subnet.includes(":") ? host.address6 : host.address);
    }
  }
  await client.route("127.0.0.1/32", host.address);
}

async function startContainer(
  host: Host,
  name: string,
  { networks, publishes, listens }: Container,
  addresses: Record<HostAddress, string>,
): Promise<void> {
  const [network = "", ...more] = networks;
  await host.docker.run(name, {
    network,
    publish: publishes.map((publish) => publishText(publish, addresses)),
    ports: listens,
    options: ["--expose", "82"],
  });
  for (const one of more) await host.docker.cli("network", "connect", one, name);
}

/** As for --publish. */
function publishText(
  { on, port, to, count = 1, protocol = "tcp" }: PortMapping,
  addresses: Record<HostAddress, string>,
) {
  const range = (first: number) => (count === 1 ? `${first}` : `${first}-${first + count - 1}`);
  const address = on === "every" ? "" : on === "every6" ? "[::]:" : `${bracketed(addresses[on])}:`;
  return `${address}${range(port)}:${range(to)}/${protocol}`;
}

export function bracketed(address: string): string {
  return address.includes(":") ? `[${address}]` : address;
}

/** Docker 26 gives a container of an internal network no way out (tried; 20.10 does), and who may do so there gives it one. */
async function routeOut(host: Host): Promise<void> {
  const pid = String((await host.docker.inspect("inner")).State.Pid);
  for (const gateway of Object.values(NETWORKS["inner"]?.gateways ?? {})) {
    const family = gateway.includes(":") ? "-6" : "-4";
    await host.run("nsenter", ["--net", "-t", pid, "ip", family, "route", "replace", "default", "via", gateway]);
  }
}

/** What Docker has given the containers; to be asked again after they were restarted. */
export async function look({
  host,
  hostAddresses,
  clients,
}: Pick<Place, "host" | "hostAddresses" | "clients">): Promise<Place> {
  await routeOut(host);
  const names = Object.keys(CONTAINERS);
  const documents = JSON.parse((await host.docker.cli("inspect", ...names)).stdout);
  const addresses: Place["addresses"] = {};
  for (const [index, name] of names.entries()) {
    addresses[name] = {};
    for (const [network, { IPAddress, GlobalIPv6Address }] of Object.entries<Record<string, string>>(
      documents[index].NetworkSettings.Networks,
    )) {
      addresses[name][network] = {
        ...(IPAddress ? { ipv4: IPAddress } : {}),
        ...(GlobalIPv6Address ? { ipv6: GlobalIPv6Address } : {}),
      };
    }
  }
  const found = JSON.parse((await host.docker.cli("network", "inspect", ...Object.keys(NETWORKS))).stdout);
  const bridges = Object.entries(NETWORKS).map(([name, { bridge }], index) => [
    name,
    bridge ?? `br-${found[index].Id.slice(0, 12)}`,
  ]);
  const probers = Object.fromEntries(
    await Promise.all(
      VANTAGES.map(async (name) => {
        if (name === "host") return [name, host];
        if (name === "remote" || name === "routed") return [name, clients[name]];
        return [name, await host.docker.prober(name)];
      }),
    ),
  );
  return { host, hostAddresses, bridges: Object.fromEntries(bridges), addresses, clients, probers };
}
