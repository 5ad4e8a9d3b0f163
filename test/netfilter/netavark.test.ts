// podman's own firewall, by what nft and iptables print of it.

import { describe, expect, test } from "vitest";
import { type Network, readNetwork } from "../../src/docker/network.ts";
import { adviseNetworks, findNetavark, servesAddress } from "../../src/netfilter/netavark.ts";
import type { NftTable } from "../../src/netfilter/nft-tables.ts";

const network = (name: string, ...subnets: string[]): Network =>
  readNetwork({
    ...{ name, id: name, driver: "bridge", network_interface: "podman1" },
    subnets: subnets.map((subnet) => ({ subnet })),
  });
const DUAL = network("dual", "10.90.0.0/24", "2001:db8:90::/64");
const DOCKERS = readNetwork({ Name: "dual", Id: "dual", IPAM: { Config: [{ Subnet: "10.90.0.0/24" }] } });

const match = (protocol: string, field: string, op: string, addr: string, len: number) => ({
  match: { op, left: { payload: { protocol, field } }, right: { prefix: { addr, len } } },
});
/** As netavark 1.17 has it, in short. */
const table = (name: string, ...rules: Record<string, unknown>[]): NftTable => ({
  name,
  bases: [{ name: "POSTROUTING", hook: "postrouting", type: "nat", policy: "accept" }],
  rules: new Map([["POSTROUTING", [[match("ip", "daddr", "!=", "224.0.0.0", 4)], ...rules.map((rule) => [rule])]]]),
});
const JUMP = '-A FORWARD -m comment --comment "netavark firewall plugin rules" -j NETAVARK_FORWARD';

describe("podman's own firewall", () => {
  test.each([
    ["of IPv4", match("ip", "saddr", "==", "10.90.0.0", 24)],
    ["of IPv6", match("ip6", "saddr", "==", "2001:db8:90::", 64)],
  ])("has rules for a network: by its table, with its subnet %s", (_, rule) => {
    const tables = [table("inet netavark", rule)];
    expect(findNetavark([network("other", "10.91.0.0/24"), DUAL], tables, [])).toEqual({
      networks: ["dual"],
      driver: "nftables",
    });
  });

  test("by its iptables chains, for all of podman's networks", () => {
    expect(findNetavark([DUAL], [], [JUMP])).toEqual({ networks: ["dual"], driver: "iptables" });
    expect(findNetavark([DUAL], [], ["-A FORWARD -j ufw-before-forward"])).toBeUndefined();
  });

  test.each([
    ["a table of another name", [DUAL], [table("inet mine", match("ip", "saddr", "==", "10.90.0.0", 24))]],
    ["another subnet", [DUAL], [table("inet netavark", match("ip", "saddr", "==", "10.88.0.0", 16))]],
    ["a subnet that is excepted", [DUAL], [table("inet netavark", match("ip", "saddr", "!=", "10.0.0.0", 8))]],
    ["rules that nft does not print", [DUAL], [{ ...table("inet netavark"), rules: undefined }]],
    ["networks of Docker's", [DOCKERS], [table("inet netavark", match("ip", "saddr", "==", "10.90.0.0", 24))]],
  ])("has none: %s", (_, networks, tables) => {
    expect(findNetavark(networks, tables, [])).toBeUndefined();
    expect(findNetavark([DOCKERS], [], [JUMP])).toBeUndefined();
  });

  test("for an address", () => {
    const tables = [table("inet netavark", match("ip", "saddr", "==", "10.90.0.0", 24))];
    expect(servesAddress(tables, "10.90.0.2")).toBe(true);
    expect(servesAddress(tables, "10.91.0.2")).toBe(false);
    expect(servesAddress([], "10.90.0.2")).toBe(false);
  });

  test("and what to do about it", () => {
    const { what, hint } = adviseNetworks({ networks: ["dual"], driver: "nftables" });
    expect(what).toContain("podman's network dual (the nftables table inet netavark)");
    expect(hint).toMatch(/firewall_driver = "none".*'nft delete table inet netavark'/);
    expect(adviseNetworks({ networks: ["a", "b"], driver: "iptables" }).hint).toMatch(/replace: true removes them$/);
  });
});
