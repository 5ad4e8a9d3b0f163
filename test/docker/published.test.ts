// locate, where one container alone does not show it: other containers' networks, equal names, several subnets.

import { describe, expect, test } from "vitest";
import { type Container, readContainer } from "../../src/docker/container.ts";
import { readNetwork } from "../../src/docker/network.ts";
import { isOnKnownBridge, locate } from "../../src/docker/published.ts";
import { routeTo } from "../../src/system/routes.ts";

const ID = { mine: "a".repeat(64), other: "b".repeat(64) };
const BRIDGE = { mine: "br-aaaaaaaaaaaa", other: "br-bbbbbbbbbbbb" };
const interfaces = { names: new Set(Object.values(BRIDGE)), subnets: [], routes: [], hasIpv6: true };

function container(Networks: Record<string, Record<string, unknown>>): Container {
  const Ports = { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8080" }] };
  return readContainer({ Id: "c1", Name: "/web", State: { Running: true }, NetworkSettings: { Ports, Networks } });
}

test("of two networks with one name, the one with the container's network id counts", () => {
  const web = container({ front: { NetworkID: ID.mine, IPAddress: "172.18.0.2", Gateway: "172.18.0.1" } });
  const networks = [ID.other, ID.mine].map((Id) => readNetwork({ Name: "front", Id, Driver: "bridge" }));
  expect(locate(web, networks, interfaces).publishing.ipv4).toEqual({
    family: "ipv4",
    address: "172.18.0.2",
    bridge: BRIDGE.mine,
  });
});

test("networks that the container is not in make no difference", () => {
  const web = container({ front: { NetworkID: ID.mine, IPAddress: "172.18.0.2", Gateway: "172.18.0.1" } });
  const front = readNetwork({ Name: "front", Id: ID.mine, Driver: "bridge" });
  const back = readNetwork({ Name: "back", Id: ID.other, Driver: "bridge", Internal: true });
  expect(locate(web, [back, front], interfaces)).toEqual(locate(web, [front], interfaces));
});

test("docker_gwbridge counts only for its own members", () => {
  const mesh = { Name: "mesh", Id: ID.mine, Driver: "overlay" };
  const gateway = {
    Name: "docker_gwbridge",
    Id: ID.other,
    Driver: "bridge",
    Containers: { another: { IPv4Address: "172.24.0.3/16" } },
  };
  const web = container({ mesh: { NetworkID: ID.mine, IPAddress: "10.0.1.5" } });
  const target = locate(web, [mesh, gateway].map(readNetwork), interfaces);
  expect(target.publishing).toEqual({});
  expect(target.warnings).toEqual([
    expect.stringContaining("in overlay networks only, without an address in docker_gwbridge"),
  ]);
});

test("an idle container needs no bridge on this host", () => {
  const idle = readContainer({
    Name: "/web",
    State: { Running: true },
    NetworkSettings: { Ports: {}, Networks: { front: { IPAddress: "172.18.0.2" } } },
  });
  expect(locate(idle, [], interfaces)).toMatchObject({ nothingPublished: { kind: "no_port" }, endpoints: [] });
});

describe("a bridge that no fragment names", () => {
  const nerdctls = readNetwork({ Name: "bridge", Id: ID.mine, IPAM: { Config: [{ Subnet: "10.4.0.0/24" }] } });
  const host = {
    names: new Set(["wide", "nerdctl0", "lan"]),
    subnets: [
      { name: "wide", cidr: "10.0.0.1/8" },
      { name: "lan", cidr: "192.0.2.1/24" },
    ],
    routes: routeTo("nerdctl0", "10.4.0.0/24"),
    hasIpv6: true,
  };
  const at = (IPAddress: string) => container({ "unknown-eth0": { IPAddress } });

  test("is that of the client's only network with the container's address", () => {
    expect(locate(at("10.4.0.5"), [nerdctls], host).endpoints.map(({ bridge }) => bridge)).toEqual(["nerdctl0"]);
  });

  test("is not known where the kernel sends its packets elsewhere", () => {
    const elsewhere = { ...host, routes: routeTo("wide", "10.0.0.0/8") };
    expect(() => locate(at("10.4.0.5"), [nerdctls], elsewhere)).toThrow(/the bridge of .* is not known/);
  });

  test("is nerdctl's own, in whose subnet it is, where the client shows no network", () => {
    const shown = { ...host, routes: routeTo("nerdctl0", "10.4.0.1/24") };
    const bridges = (networks: Parameters<typeof locate>[1]) =>
      locate(at("10.4.0.5"), networks, shown).endpoints.map(({ bridge }) => bridge);
    expect(bridges([])).toEqual(["nerdctl0"]);
    expect(() => locate(at("10.4.1.5"), [], shown)).toThrow(/is not known/);
    expect(() => bridges([{ ...nerdctls, subnets: { ipv4: ["10.9.0.0/24"], ipv6: [] } }])).toThrow(/is not known/);
  });

  test.each([
    ["an interface's subnet holds it, and no network's", "192.0.2.9", [nerdctls]],
    ["two networks hold it", "10.4.0.5", [nerdctls, { ...nerdctls, name: "other", id: ID.other }]],
  ])("is not known where %s", (_, address, networks) => {
    expect(() => locate(at(address), networks, host)).toThrow(/the bridge of .* is not known/);
  });
});

describe("the bridge that the network's id names", () => {
  const interfaces = (...subnets: [string, string][]) => ({
    names: new Set(subnets.map(([name]) => name)),
    subnets: subnets.map(([name, cidr]) => ({ name, cidr })),
    routes: subnets.flatMap(([name, cidr]) => routeTo(name, cidr)),
    hasIpv6: true,
  });
  const NETWORK = { NetworkID: ID.mine, IPAddress: "172.18.0.2", Gateway: "172.18.0.1" };
  const web = container({ front: NETWORK });

  test("needs no question where it has the gateway's address", () => {
    expect(isOnKnownBridge(web, interfaces([BRIDGE.mine, "172.18.0.1/16"]))).toBe(true);
    for (const more of [{}, { GwPriority: 0 }]) {
      const onDefault = container({ bridge: { ...NETWORK, ...more } });
      expect(isOnKnownBridge(onDefault, interfaces(["docker0", "172.18.0.1/16"]))).toBe(true);
    }
  });

  test.each([
    ["another interface has it", web, [["virbr0", "172.18.0.1/16"]]],
    [
      "another interface has it, too",
      web,
      [
        [BRIDGE.mine, "172.18.0.1/16"],
        ["virbr0", "172.18.0.1/16"],
      ],
    ],
    [
      "the bridge has another one",
      web,
      [
        [BRIDGE.mine, "172.18.0.2/16"],
        ["virbr0", "172.18.0.1/16"],
      ],
    ],
    ["it is another network's", web, [[BRIDGE.other, "172.18.0.1/16"]]],
    ["the id is a name", container({ front: { ...NETWORK, NetworkID: "front" } }), [["docker0", "172.18.0.1/16"]]],
    [
      "only one of two families has it",
      container({ front: { ...NETWORK, GlobalIPv6Address: "fd00::2", IPv6Gateway: "fd00::1" } }),
      [[BRIDGE.mine, "172.18.0.1/16"]],
    ],
    [
      "the network may have options of Docker 28",
      container({ front: { ...NETWORK, GwPriority: 0 } }),
      [[BRIDGE.mine, "172.18.0.1/16"]],
    ],
    ["there are two networks", container({ front: NETWORK, back: NETWORK }), [[BRIDGE.mine, "172.18.0.1/16"]]],
    [
      "a part of its subnet is elsewhere",
      web,
      [
        [BRIDGE.mine, "172.18.0.1/16"],
        ["tun0", "172.18.9.1/24"],
      ],
    ],
  ] as [string, Container, [string, string][]][])("is asked for where %s", (_, one, subnets) => {
    expect(isOnKnownBridge(one, interfaces(...subnets))).toBe(false);
  });

  test("is not taken from another network of the same name", () => {
    const networks = [readNetwork({ Name: "front", Id: ID.other, Driver: "bridge" })];
    const host = interfaces([BRIDGE.other, "172.19.0.1/16"], ["virbr0", "172.18.0.1/16"]);
    expect(() => locate(web, networks, host)).toThrow(/the bridge of .* is not known/);
  });

  test("is not taken from another network that is called as this one's id", () => {
    const networks = [readNetwork({ Name: ID.mine, Id: ID.other, Driver: "bridge" })];
    const host = interfaces([BRIDGE.other, "172.18.0.1/16"]);
    expect(() => locate(web, networks, host)).toThrow(/the bridge of .* is not known/);
  });
});
