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
