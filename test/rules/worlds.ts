// Arbitrary containers with their networks and host, as documents, and what was published in plain terms:
// the material of the property tests.

import fc from "fast-check";
import type { Given } from "./pipeline.ts";

type Binding = { HostIp: string; HostPort: string };

export interface World {
  given: Given;
  publishes: { hostIp: string; hostPort: number; containerPort: number; protocol: string }[];
  /** Every address of the container by its bridge, internal networks too. */
  addresses: { address: string; bridge: string; network: string; internal: boolean }[];
  /** No docker-proxy serves the container. */
  hairpin: boolean;
  /** Ports of the container's own that Docker opens where a network routes. */
  directs: { hostIp: string; containerPort: number; protocol: string }[];
  /** By the bridge: how its network lets others in, and the interfaces that it trusts. */
  access: Record<string, { ipv4: string; ipv6: string; trusted: readonly string[] }>;
}

const port = fc.oneof(fc.integer({ min: 1, max: 65535 }), fc.constantFrom(80, 81, 443, 8080));
const hostIp = fc.constantFrom(
  ...["0.0.0.0", "", "::", "127.0.0.1", "127.0.0.53", "127.255.255.254", "192.0.2.10", "198.51.100.4"],
  ...["::1", "2001:db8::10", "2001:DB8:0:0::11", "128.0.0.1", "12.7.0.1"],
);
const publish = fc.record({
  hostIp,
  hostPort: port,
  containerPort: port,
  protocol: fc.constantFrom("tcp", "udp", "sctp"),
});

/** Ports that follow each other, on one address, equal or shifted. */
const range = fc
  .record({
    hostIp,
    protocol: fc.constantFrom("tcp", "udp"),
    count: fc.integer({ min: 2, max: 5 }),
    shift: fc.constantFrom(0, 0, 1000, -7),
  })
  .map(({ hostIp, protocol, count, shift }) =>
    Array.from({ length: count }, (_, index) => ({
      hostIp,
      protocol,
      hostPort: 8000 + index,
      containerPort: 8000 + index + shift,
    })),
  );

const mostly = (value: boolean) => fc.constantFrom(value, value, value, !value);

const mode = fc.constantFrom("nat", "nat", "nat-unprotected", "routed", "isolated", undefined);

const direct = fc.record({
  hostIp: fc.constantFrom("0.0.0.0", "::"),
  containerPort: port,
  protocol: fc.constantFrom("tcp", "udp"),
});

const network = fc.record({
  name: fc.stringMatching(/^[a-z][a-z0-9_.-]{0,8}$/),
  ipv4: mostly(true),
  ipv6: fc.boolean(),
  gateways: fc.boolean(),
  internal: mostly(false),
  mode4: mode,
  mode6: mode,
  trusted: fc.subarray(["eth0", "wg0"]),
  priority: fc.integer({ min: -2, max: 2 }),
});

export const world: fc.Arbitrary<World> = fc
  .record({
    name: fc.stringMatching(/^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,30}$/),
    publishes: fc.array(publish, { maxLength: 12 }),
    ranges: fc.array(range, { maxLength: 2 }),
    directs: fc.array(direct, { maxLength: 3 }),
    networks: fc.uniqueArray(network, { minLength: 1, maxLength: 4, selector: ({ name }) => name }),
    priorities: fc.boolean(),
    ipv6: fc.boolean(),
    guards: fc.boolean(),
    routed: fc.boolean(),
    proxied: mostly(false),
    filtered: fc.subarray(["ipv4", "ipv6"] as const),
  })
  .map(
    ({ name, publishes: single, ranges, directs, networks, priorities, ipv6, guards, routed, proxied, filtered }) => {
      const places = networks.map((one, index) => ({
        ...one,
        id: `${index}`.repeat(64),
        bridge: `br-${`${index}`.repeat(12)}`,
        address4: one.ipv4 ? `172.${20 + index}.0.2` : "",
        address6: one.ipv6 ? `fd00:${20 + index}::2` : "",
      }));
      const publishes = [...single, ...ranges.flat()];
      const Ports: Record<string, Binding[]> = {};
      for (const { hostIp, hostPort, containerPort, protocol } of publishes) {
        const key = `${containerPort}/${protocol}`;
        Ports[key] = [...(Ports[key] ?? []), { HostIp: hostIp, HostPort: String(hostPort) }];
      }
      for (const { hostIp, containerPort, protocol } of directs) {
        const key = `${containerPort}/${protocol}`;
        Ports[key] = [...(Ports[key] ?? []), { HostIp: hostIp, HostPort: "" }];
      }
      const Networks = Object.fromEntries(
        places.map((one) => [
          one.name,
          {
            NetworkID: one.id,
            IPAddress: one.address4,
            GlobalIPv6Address: one.address6,
            Gateway: one.gateways && one.ipv4 ? `172.${one.id[0]}.0.1` : "",
            IPv6Gateway: one.gateways && one.ipv6 ? "fd00::1" : "",
            ...(priorities ? { GwPriority: one.priority } : {}),
          },
        ]),
      );
      return {
        given: {
          args: { container: name, ipv6, guards },
          inspect: [{ Id: "c", Name: `/${name}`, State: { Running: true }, NetworkSettings: { Ports, Networks } }],
          networks: places.map((one) => ({
            ...{ Name: one.name, Id: one.id, Driver: "bridge", Internal: one.internal },
            Options: optionsOf({
              gateway_mode_ipv4: one.mode4,
              gateway_mode_ipv6: one.mode6,
              trusted_host_interfaces: one.trusted.length > 0 ? one.trusted.join(":") : undefined,
            }),
          })),
          interfaces: {
            names: places.map(({ bridge }) => bridge),
            subnets: places.flatMap(({ bridge }, index) => [
              { name: bridge, cidr: `172.${20 + index}.0.1/16` },
              { name: bridge, cidr: `fd00:${20 + index}::1/64` },
              { name: bridge, cidr: "fe80::1/64" },
            ]),
          },
          proxying: {
            routed: routed ? places.map(({ bridge }) => bridge) : [],
            proxied: proxied ? places.flatMap(({ address4, address6 }) => [address4, address6].filter(Boolean)) : [],
            filtered: [...filtered],
          },
        },
        publishes,
        addresses: places.flatMap(({ bridge, address4, address6, internal }, index) => [
          ...(address4 === "" ? [] : [{ address: address4, bridge, network: `172.${20 + index}.0.0/16`, internal }]),
          ...(address6 === "" ? [] : [{ address: address6, bridge, network: `fd00:${20 + index}::/64`, internal }]),
        ]),
        directs,
        access: Object.fromEntries(
          places.map(({ bridge, mode4 = "nat", mode6 = "nat", trusted }) => [
            bridge,
            { ipv4: mode4, ipv6: mode6, trusted },
          ]),
        ),
        hairpin: routed && !proxied,
      };
    },
  );

function optionsOf(given: Record<string, string | undefined>): Record<string, string> {
  const said = Object.entries(given).flatMap(([name, value]) =>
    value === undefined ? [] : [[`com.docker.network.bridge.${name}`, value] as const],
  );
  return Object.fromEntries(said);
}

/** The same world in a different order: ports, bindings, networks, network documents and interfaces. */
export function shuffled({ inspect, networks, interfaces, ...rest }: Given, seed: number): Given {
  let state = seed;
  const mix = <T>(list: readonly T[]): T[] => {
    const keyed = list.map((item) => {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0;
      return { item, key: state };
    });
    return keyed.sort((a, b) => a.key - b.key).map(({ item }) => item);
  };
  const mixKeys = <T>(object: Record<string, T>) => Object.fromEntries(mix(Object.entries(object)));
  const [document] = structuredClone(inspect) as [
    { NetworkSettings: { Ports: Record<string, Binding[]>; Networks: Record<string, unknown> } },
  ];
  const { Ports, Networks } = document.NetworkSettings;
  document.NetworkSettings.Ports = mixKeys(
    Object.fromEntries(Object.entries(Ports).map(([key, bindings]) => [key, mix(bindings)])),
  );
  document.NetworkSettings.Networks = mixKeys(Networks);
  return {
    ...rest,
    inspect: [document],
    networks: mix(networks),
    interfaces: { ...interfaces, names: mix(interfaces.names) },
  };
}
