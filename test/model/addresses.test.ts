// Addresses and subnets, as they are in documents and rules.

import { describe, expect, test } from "vitest";
import {
  bitsOf,
  canonicalSubnet,
  interfaceTowards,
  isLoopback,
  isWithin,
  without,
  withoutHostMask,
  withoutPrefix,
} from "../../src/model/addresses.ts";

test.each([
  ["127.0.0.1", true],
  ["127.8.9.1", true],
  ["::1", true],
  ["128.0.0.1", false],
  ["12.7.0.1", false],
  ["::", false],
  ["", false],
])("whether %j is a loopback address", (address, expected) => {
  expect(isLoopback(address)).toBe(expected);
});

describe("isWithin", () => {
  test.each([
    ["172.17.0.9", "172.17.0.0/16", true],
    ["172.17.0.9", "172.17.0.1/16", true],
    ["172.18.0.9", "172.17.0.0/16", false],
    ["172.17.0.9", "172.17.0.9/32", true],
    ["172.17.0.8", "172.17.0.9/32", false],
    ["203.0.113.9", "0.0.0.0/0", true],
    ["fd00::9", "fd00::/64", true],
    ["fd00:0:0:1::9", "fd00::/64", false],
    ["FD00:0::9", "fd00::9/128", true],
  ])("%s in %s", (address, cidr, expected) => {
    expect(isWithin(address, cidr)).toBe(expected);
  });

  test.each([
    ["172.17.0.9", "::/0"],
    ["fd00::9", "0.0.0.0/0"],
    ["::ffff:172.17.0.9", "172.17.0.0/16"],
  ])("%s is of another family than %s", (address, cidr) => {
    expect(isWithin(address, cidr)).toBe(false);
  });

  test.each([
    ["", "172.17.0.0/16"],
    ["web", "172.17.0.0/16"],
    ["172.17.0.9/32", "172.17.0.0/16"],
    ["172.17.0.256", "172.17.0.0/16"],
    ["172.17.0.9", ""],
    ["172.17.0.9", "172.17.0.0"],
    ["172.17.0.9", "172.17.0.0/33"],
    ["172.17.0.9", "172.17.0.0/255.255.0.0"],
    ["fd00::9", "fd00::/129"],
    ["fd00::9", "fd00:::/64"],
  ])("%j in %j cannot be told", (address, cidr) => {
    expect(isWithin(address, cidr)).toBeUndefined();
  });
});

describe("interfaceTowards", () => {
  const subnets = [
    { name: "eth0", cidr: "10.0.0.5/8" },
    { name: "docker0", cidr: "10.9.0.1/16" },
    { name: "twin0", cidr: "10.9.0.2/16" },
    { name: "odd0", cidr: "10.9.0.1" },
    { name: "eth0", cidr: "fd00::5/48" },
    { name: "docker0", cidr: "fd00:0:0:9::1/64" },
  ];
  test.each([
    ["10.1.0.9", "eth0"],
    ["10.9.0.9", "docker0"],
    ["fd00:0:0:1::9", "eth0"],
    ["fd00:0:0:9::9", "docker0"],
    ["192.0.2.9", undefined],
    ["2001:db8::9", undefined],
    ["", undefined],
  ])("%j", (address, name) => {
    expect(interfaceTowards(address, subnets)).toBe(name);
  });
});

test.each([
  ["172.17.0.1/16", "172.17.0.0/16"],
  ["172.17.0.9/32", "172.17.0.9/32"],
  ["10.1.2.3/0", "0.0.0.0/0"],
  ["10.1.2.3/08", "10.0.0.0/8"],
  ["FD00:0:0:0:0::1/64", "fd00::/64"],
  ["fd00::1/128", "fd00::1/128"],
  ["172.17.0.1", undefined],
  ["172.17.0.1/33", undefined],
  ["fd00::1/129", undefined],
  ["web/16", undefined],
  ["", undefined],
])("the subnet %j as iptables-save spells it", (cidr, expected) => {
  expect(canonicalSubnet(cidr)).toBe(expected);
});

test.each([
  ["172.17.0.1/16", "172.17.0.1"],
  ["fd00::1/64", "fd00::1"],
  ["172.17.0.1", "172.17.0.1"],
  ["10.0.0.0/255.0.0.0", "10.0.0.0/255.0.0.0"],
  ["", ""],
])("%j without its prefix length", (cidr, expected) => {
  expect(withoutPrefix(cidr)).toBe(expected);
});

test.each([
  ["172.17.0.2/32", "172.17.0.2"],
  ["fd00::2/128", "fd00::2"],
  ["172.17.0.2", "172.17.0.2"],
  ["172.17.0.0/16", "172.17.0.0/16"],
  ["172.17.0.0/132", "172.17.0.0/132"],
  // A subnet.
  ["2001:db8::/32", "2001:db8::/32"],
  ["fd00::/12", "fd00::/12"],
  ["", ""],
])("%j without the mask of a single address", (text, expected) => {
  expect(withoutHostMask(text)).toBe(expected);
});

describe("bitsOf", () => {
  test.each([
    ["172.0.0.0/8", "410101100"],
    ["172.17.0.1/8", "410101100"],
    ["0.0.0.0/0", "4"],
    ["255.255.255.255", `4${"1".repeat(32)}`],
    ["8000::/3", "6100"],
    ["::1", `6${"1".padStart(128, "0")}`],
    ["web", undefined],
    ["172.17.0.0/33", undefined],
    ["", undefined],
  ])("%j", (text, bits) => {
    expect(bitsOf(text)).toBe(bits);
  });
});

describe("without", () => {
  test.each([
    ["10.0.0.0/8", [], ["10.0.0.0/8"]],
    ["10.0.0.0/8", ["172.17.0.0/16"], ["10.0.0.0/8"]],
    ["10.0.0.0/24", ["10.0.0.0/24"], []],
    ["10.0.0.0/24", ["10.0.0.0/8"], []],
    ["10.0.0.0/24", ["10.0.0.64/26"], ["10.0.0.0/26", "10.0.0.128/25"]],
    ["10.0.0.0/30", ["10.0.0.1/32", "10.0.0.2"], ["10.0.0.0/32", "10.0.0.3/32"]],
    ["fd00::/62", ["fd00:0:0:2::/64"], ["fd00::/63", "fd00:0:0:3::/64"]],
    ["fd00::/64", ["10.0.0.0/8"], ["fd00::/64"]],
  ])("%s without %j", (subnet, holes, left) => {
    expect(without(subnet, holes)).toEqual(left);
  });
});
