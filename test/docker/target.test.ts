// locate, where one container alone does not show it: other containers' networks, equal names, several subnets.

import { expect, test } from "vitest";
import { type Container, readContainer } from "../../src/docker/container.ts";
import { readNetwork } from "../../src/docker/network.ts";
import { locate } from "../../src/docker/target.ts";

const ID = { mine: "a".repeat(64), other: "b".repeat(64) };
const BRIDGE = { mine: "br-aaaaaaaaaaaa", other: "br-bbbbbbbbbbbb" };
const interfaces = { names: new Set(Object.values(BRIDGE)), subnets: [] };

function container(Networks: Record<string, Record<string, string>>): Container {
  const Ports = { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8080" }] };
  return readContainer({ Id: "c1", Name: "/web", State: { Running: true }, NetworkSettings: { Ports, Networks } });
}

test("of two networks with one name, the one with the container's network id counts", () => {
  const web = container({ front: { NetworkID: ID.mine, IPAddress: "172.18.0.2", Gateway: "172.18.0.1" } });
  const networks = [ID.other, ID.mine].map((Id) => readNetwork({ Name: "front", Id, Driver: "bridge" }));
  expect(locate(web, networks, interfaces, undefined).publishing.ipv4).toEqual({
    family: "ipv4",
    address: "172.18.0.2",
    bridge: BRIDGE.mine,
  });
});

test("networks that the container is not in make no difference", () => {
  const web = container({ front: { NetworkID: ID.mine, IPAddress: "172.18.0.2", Gateway: "172.18.0.1" } });
  const front = readNetwork({ Name: "front", Id: ID.mine, Driver: "bridge" });
  const back = readNetwork({ Name: "back", Id: ID.other, Driver: "bridge", Internal: true });
  expect(locate(web, [back, front], interfaces, undefined)).toEqual(locate(web, [front], interfaces, undefined));
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
  const target = locate(web, [mesh, gateway].map(readNetwork), interfaces, undefined);
  expect(target.publishing).toEqual({});
  expect(target.warnings).toEqual([expect.stringContaining("no address in any bridged network")]);
});

test("an idle container needs no bridge on this host", () => {
  const idle = readContainer({
    Name: "/web",
    State: { Running: true },
    NetworkSettings: { Ports: {}, Networks: { front: { IPAddress: "172.18.0.2" } } },
  });
  expect(locate(idle, [], interfaces, undefined)).toMatchObject({ idle: "web publishes no port", endpoints: [] });
});

test("the narrowest subnet that holds the address is the bridge's, in either order and family", () => {
  const web = container({ "unknown-eth0": { IPAddress: "10.4.0.5", GlobalIPv6Address: "fd00:0:0:4::5" } });
  const subnets = [
    { name: "wide", cidr: "10.0.0.1/8" },
    { name: "near", cidr: "10.4.0.1/24" },
    { name: "other", cidr: "10.4.1.1/24" },
    { name: "wide", cidr: "fd00::1/32" },
    { name: "near", cidr: "fd00:0:0:4::1/64" },
  ];
  for (const order of [subnets, [...subnets].reverse()]) {
    const target = locate(web, [], { names: new Set(["wide", "near", "other"]), subnets: order }, undefined);
    expect(target.endpoints.map(({ bridge }) => bridge)).toEqual(["near", "near"]);
  }
});
