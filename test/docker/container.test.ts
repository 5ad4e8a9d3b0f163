// readContainer, where a golden case would show too little: spellings, order, and what is let through.

import { describe, expect, test } from "vitest";
import { type Container, readAddress, readContainer, readInterface } from "../../src/docker/container.ts";
import type { ContainerDocument } from "../../src/generated/container.ts";
import { Failure } from "../../src/model/errors.ts";

type Ports = NonNullable<ContainerDocument["NetworkSettings"]>["Ports"];

function withPorts(Ports: Ports): Container {
  return readContainer({ Id: "a1", Name: "/web", State: { Running: true }, NetworkSettings: { Ports } });
}

function publishesOn(HostIp: string | null): object | undefined {
  return withPorts({ "80/tcp": [{ HostIp, HostPort: "8080" }] }).publishes[0];
}

describe("a host address", () => {
  test.each([
    ["0.0.0.0", "ipv4", undefined],
    ["", "ipv4", undefined],
    [null, "ipv4", undefined],
    ["192.0.2.1", "ipv4", "192.0.2.1"],
    ["::", "ipv6", undefined],
    ["0:0:0:0:0:0:0:0", "ipv6", undefined],
    ["[::]", "ipv6", undefined],
    ["[2001:DB8::1]", "ipv6", "2001:db8::1"],
    ["fd00:0:0:1:0:0:0:9", "ipv6", "fd00:0:0:1::9"],
    ["fd00:0:1:2:3:4:5:6", "ipv6", "fd00:0:1:2:3:4:5:6"],
  ])("%j is %s %s", (text, family, hostAddress) => {
    expect(publishesOn(text)).toMatchObject({ family, hostAddress });
  });

  test("an IPv4 address in IPv6 clothes is IPv4: that is what it listens on, and what needs the raw guard", () => {
    expect(publishesOn("::ffff:127.0.0.1")).toMatchObject({ family: "ipv4", hostAddress: "127.0.0.1" });
  });
});

describe("podman's publish on every address", () => {
  const familiesOf = (address: object, state: object, also: { HostIp: string; HostPort: string }[] = []) =>
    readContainer({
      Name: "web",
      State: { Running: true, ...state },
      NetworkSettings: {
        Networks: { dual: { IPAddress: "10.90.0.2", ...address } },
        Ports: { "80/tcp": [{ HostIp: "", HostPort: "8080" }, { HostIp: "127.0.0.1", HostPort: "8081" }, ...also] },
      },
    }).publishes.map(({ family, hostPort }) => `${family} ${hostPort}`);
  const ipv6 = { GlobalIPv6Address: "2001:db8:90::2" };
  const podmans = { OciVersion: "1.2.0" };

  test("is one in IPv6, too, where the container has it", () => {
    expect(familiesOf(ipv6, podmans)).toEqual(["ipv4 8080", "ipv6 8080", "ipv4 8081"]);
    expect(familiesOf(ipv6, podmans, [{ HostIp: "::", HostPort: "8080" }])).toEqual(familiesOf(ipv6, podmans));
  });

  test.each([
    ["without IPv6", {}, podmans],
    ["of Docker's", ipv6, {}],
  ])("is none in IPv6 %s", (_, address, state) => {
    expect(familiesOf(address, state)).toEqual(["ipv4 8080", "ipv4 8081"]);
  });
});

test.each(["0", 0, "", null, undefined])("HostPort %j is a binding without host port", (HostPort) => {
  const container = withPorts({
    "80/tcp": [{ HostIp: "0.0.0.0", HostPort }],
    "22/tcp": [{ HostIp: "", HostPort: 22 }],
  });
  expect(container.directPorts).toEqual([{ family: "ipv4", containerPort: 80, protocol: "tcp" }]);
  expect(container.publishes).toHaveLength(1);
});

test.each(["65536", "1e3", "0x50", "80 ", "-80", "+80", "8 0", 65536, 80.5, -1])(
  "HostPort %j is no port",
  (HostPort) => {
    expect(() => withPorts({ "80/tcp": [{ HostIp: "0.0.0.0", HostPort }] })).toThrow(Failure);
  },
);

test.each(["", "/", "/tcp", "tcp/80", "80/", "80/icmp", "80/tcp/udp", "80-90/tcp", "70000/tcp", " 80/tcp"])(
  "%j is no port key",
  (key) => {
    expect(() => withPorts({ [key]: [{ HostIp: "0.0.0.0", HostPort: "80" }] })).toThrow(Failure);
  },
);

test("publishes are in the order of rules: port, protocol, the narrower address first", () => {
  const { publishes } = withPorts({
    "90/udp": [{ HostIp: "0.0.0.0", HostPort: "1000" }],
    "90/tcp": [
      { HostIp: "::", HostPort: "1000" },
      { HostIp: "0.0.0.0", HostPort: "1000" },
      { HostIp: "192.0.2.9", HostPort: "1000" },
      { HostIp: "192.0.2.10", HostPort: "1000" },
    ],
    "91/sctp": [{ HostIp: "0.0.0.0", HostPort: "999" }],
  });
  expect(publishes.map((one) => `${one.hostPort}/${one.protocol} ${one.hostAddress ?? one.family}`)).toEqual([
    "999/sctp ipv4",
    "1000/tcp 192.0.2.10",
    "1000/tcp 192.0.2.9",
    "1000/tcp ipv4",
    "1000/tcp ipv6",
    "1000/udp ipv4",
  ]);
});

describe("state", () => {
  test.each([
    [{ Running: true }, true, "running"],
    [{ Running: true, Status: "paused" }, true, "paused"],
    [{ Running: true, Restarting: true }, false, "restarting"],
    [{ Running: false, Status: "exited" }, false, "exited"],
    [{ Running: null, Status: null }, false, "not running"],
    [{}, false, "not running"],
    [null, false, "not running"],
  ])("%j", (State, running, status) => {
    expect(readContainer({ Name: "web", State })).toMatchObject({ running, status });
  });
});

test.each([
  ["host", { kind: "host" }],
  ["none", { kind: "none" }],
  ["container:db", { kind: "container", of: "db" }],
  ["default", { kind: "networks" }],
  ["hostess", { kind: "networks" }],
  ["pasta", { kind: "networks" }],
  ["", { kind: "networks" }],
])("NetworkMode %j", (NetworkMode, mode) => {
  expect(readContainer({ Name: "web", HostConfig: { NetworkMode } }).mode).toEqual(mode);
});

test("a network with an id is asked for by it, whatever it is called; nerdctl's placeholders have none", () => {
  const { attachments } = readContainer({
    Name: "web",
    NetworkSettings: { Networks: { front: {}, "unknown-eth0": {}, "unknown-zone": { NetworkID: "c0ffee" } } },
  });
  expect(attachments.map(({ networkId }) => networkId)).toEqual(["front", undefined, "c0ffee"]);
});

test.each(["a", "A1_.-", "n".repeat(235)])("the name %s", (name) => {
  expect(readContainer({ Name: `/${name}` }).name).toBe(name);
});

test.each(["", "/", "//web", "-web", ".web", "we b", "web\n", "wéb", "n".repeat(236)])("no name: %j", (Name) => {
  expect(() => readContainer({ Name })).toThrow(expect.objectContaining({ code: "client_answer_invalid" }));
});

test.each(["eth0", "br-0123456789ab", "docker_gwbridge", "v@1.2"])("the interface %s", (name) => {
  expect(readInterface(name)).toBe(name);
});

test.each(["", "eth+", "sixteen-letters-", "a b", "a/b", "!", "-i", "é", "eth0\n"])("no interface: %j", (name) => {
  expect(() => readInterface(name)).toThrow(expect.objectContaining({ code: "client_answer_invalid" }));
});

test.each<[string, "ipv4" | "ipv6"]>([
  ["1.2.3", "ipv4"],
  ["0x7f.0.0.1", "ipv4"],
  ["256.0.0.1", "ipv4"],
  ["2130706433", "ipv4"],
  ["1.2.3.4/32", "ipv4"],
  [" 1.2.3.4", "ipv4"],
  ["::1", "ipv4"],
  ["1.2.3.4", "ipv6"],
  ["::1/128", "ipv6"],
  [":::", "ipv6"],
  ["12345::", "ipv6"],
])("no address: %j as %s", (text, family) => {
  expect(() => readAddress(text, family)).toThrow(expect.objectContaining({ code: "client_answer_invalid" }));
});
