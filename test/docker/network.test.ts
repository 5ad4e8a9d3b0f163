// readNetwork: whose words for bridge, id and members are understood.

import { describe, expect, test } from "vitest";
import { readNetwork } from "../../src/docker/network.ts";

const ID = "f123a615fc9754c6e4cef921e7e6403f1514169556810ebf16130267c250233e";

describe("the bridge", () => {
  test.each([
    ["of a network that Docker made", { Name: "front", Id: ID, Driver: "bridge" }, "br-f123a615fc97"],
    ["of the default network", { Name: "bridge", Id: ID, Driver: "bridge" }, "docker0"],
    ["of podman 4", { name: "podman", id: ID, driver: "bridge", network_interface: "podman0" }, "podman0"],
    ["of podman 3", { name: "podman", plugins: [{ type: "portmap" }, { type: "bridge", bridge: "cni0" }] }, "cni0"],
    ["that an option names", optionNames("br-mine"), "br-mine"],
    ["that an option leaves empty", optionNames(""), "br-f123a615fc97"],
    [
      "of macvlan, whose interface is its parent",
      { name: "m", driver: "macvlan", network_interface: "eth0" },
      undefined,
    ],
    ["of an overlay", { Name: "mesh", Id: ID, Driver: "overlay" }, undefined],
    ["of a document that says nothing", {}, undefined],
    ["of an id that is not Docker's", { Name: "front", Id: "short", Driver: "bridge" }, undefined],
  ])("%s", (_what, document, bridge) => {
    expect(readNetwork(document).bridge).toBe(bridge);
  });

  function optionNames(bridge: string) {
    return { Name: "front", Id: ID, Driver: "bridge", Options: { "com.docker.network.bridge.name": bridge } };
  }
});

test("members are without their prefix length, and an empty address is none", () => {
  const { members } = readNetwork({
    Name: "docker_gwbridge",
    Containers: {
      a: { IPv4Address: "172.18.0.3/16", IPv6Address: "" },
      b: { IPv4Address: null, IPv6Address: "FD00::3/64" },
    },
  });
  expect(Object.fromEntries(members)).toEqual({ a: { ipv4: "172.18.0.3" }, b: { ipv6: "fd00::3" } });
});

test.each([
  [{ Internal: true }, true],
  [{ internal: true }, true],
  [{ Internal: null }, false],
  [{}, false],
])("internal: %j", (document, internal) => {
  expect(readNetwork(document).internal).toBe(internal);
});

describe("options", () => {
  const withOptions = (Options: Record<string, string>, more: Record<string, unknown> = {}) =>
    readNetwork({ Name: "net", Id: ID, Driver: "bridge", Options, ...more });
  const PREFIX = "com.docker.network.";
  const BRIDGE = `${PREFIX}bridge.`;

  test("of a network without any are Docker's defaults", () => {
    const none: Record<string, string>[] = [
      {},
      { [`${BRIDGE}gateway_mode_ipv4`]: "", [`${BRIDGE}trusted_host_interfaces`]: "" },
    ];
    for (const Options of none) {
      expect(withOptions(Options)).toMatchObject({
        ...{ masquerade: { ipv4: true, ipv6: true }, hostAddress: {}, gatewayMode: { ipv4: "nat", ipv6: "nat" } },
        ...{ trustedInterfaces: [], icc: true, unreadOptions: [] },
      });
    }
  });

  test.each(["nat", "nat-unprotected", "routed", "isolated"])("gateway mode %s is of its own family", (mode) => {
    const network = withOptions({ [`${BRIDGE}gateway_mode_ipv6`]: mode });
    expect(network.gatewayMode).toEqual({ ipv4: "nat", ipv6: mode });
    expect(network.masquerade).toEqual({ ipv4: true, ipv6: mode !== "routed" });
  });

  test.each([
    ["false", false],
    ["0", false],
    ["F", false],
    ["True", true],
    ["1", true],
  ])("%j is a boolean, as Go reads it", (value, expected) => {
    const network = withOptions({ [`${BRIDGE}enable_icc`]: value, [`${BRIDGE}enable_ip_masquerade`]: value });
    expect([network.icc, network.masquerade.ipv4, network.unreadOptions]).toEqual([expected, expected, []]);
  });

  test("that the default network does not masquerade is what iptables=false makes of it", () => {
    const Options = { [`${BRIDGE}default_bridge`]: "true", [`${BRIDGE}enable_ip_masquerade`]: "false" };
    expect(withOptions(Options).masquerade).toEqual({ ipv4: true, ipv6: true });
  });

  test("an address of the host's is in the spelling of iptables-save", () => {
    const network = withOptions({
      [`${PREFIX}host_ipv4`]: "::ffff:192.0.2.9",
      [`${PREFIX}host_ipv6`]: "2001:DB8:0:0::9",
    });
    expect(network.hostAddress).toEqual({ ipv4: "192.0.2.9", ipv6: "2001:db8::9" });
  });

  test.each([
    ...["192.0.2", "192.0.2.9/32", "192.0.2.9 -j ACCEPT", "192.0.2.9-192.0.2.12", "0x0a.0.0.1", "010.0.0.1", "host"],
    ...["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "2001:db8::9", "fe80::1%eth0"],
  ])("%j is no IPv4 address of the host's: the kernel chooses, and it is told", (value) => {
    const { hostAddress, unreadOptions } = withOptions({ [`${PREFIX}host_ipv4`]: value });
    expect(hostAddress).toEqual({});
    expect(unreadOptions).toEqual([
      `the option host_ipv4 of the network net is ${JSON.stringify(value)}: the kernel chooses the address`,
    ]);
  });

  test("interfaces are separated by colons; what is no name of one is left out, and told", () => {
    const bad = ["eth+", "-j", "a/b", "x y", "averylongname1234", "eth0\n-A FORWARD -j ACCEPT"];
    const value = ["eth0", "", "wg0", ...bad, "eth0"].join(":");
    const { trustedInterfaces, unreadOptions } = withOptions({ [`${BRIDGE}trusted_host_interfaces`]: value });
    expect(trustedInterfaces).toEqual(["eth0", "wg0"]);
    expect(unreadOptions).toEqual([
      'the network net trusts "eth+" and 5 more: an interface cannot be called so, and it is left out',
    ]);
  });

  test("another value opens nothing, and is told", () => {
    const network = withOptions({
      ...{ [`${BRIDGE}gateway_mode_ipv4`]: "NAT-unprotected", [`${BRIDGE}enable_icc`]: "yes" },
      [`${BRIDGE}enable_ip_masquerade`]: "no",
    });
    expect(network).toMatchObject({ gatewayMode: { ipv4: "nat" }, icc: false, masquerade: { ipv4: true } });
    expect(network.unreadOptions).toHaveLength(3);
  });
});
