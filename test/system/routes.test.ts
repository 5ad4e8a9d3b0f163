// The kernel's routes as /proc prints them, in both byte orders.

import { expect, test } from "vitest";
import { parseRoutes, parseRoutes6 } from "../../src/system/routes.ts";

const line = (name: string, destination: string, mask: string, flags = "0001") =>
  `${name}\t${destination}\t00000000\t${flags}\t0\t0\t0\t${mask}\t0\t0\t0`;
const pairs = (routes: ReturnType<typeof parseRoutes>) => routes.map(({ name, cidr }) => `${name} ${cidr}`);

test("IPv4: the interfaces' subnets and what lies behind a gateway, no default route, nothing that is refused", () => {
  const text = [
    "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT",
    line("eth0", "00000000", "00000000", "0003"),
    line("virbr0", "007AA8C0", "00FFFFFF"),
    line("eth0", "00000A0A", "0000FFFF", "0003"),
    line("tun0", "05000A0A", "FFFFFFFF", "0005"),
    line("tun0", "00000000", "00000080", "0003"),
    line("*", "000010AC", "0000F0FF", "0201"),
    line("eth1", "0064A8C0", "00FFFFFF", "0000"),
    "",
  ].join("\n");
  expect(pairs(parseRoutes(text, "LE"))).toEqual([
    "virbr0 192.168.122.0/24",
    "eth0 10.10.0.0/16",
    "tun0 10.10.0.5/32",
    "tun0 0.0.0.0/1",
  ]);
});

test("IPv4 on a machine of the other byte order", () => {
  expect(pairs(parseRoutes(line("virbr0", "C0A87A00", "FFFFFF00"), "BE"))).toEqual(["virbr0 192.168.122.0/24"]);
});

test("IPv6: no local, anycast or cached address, no default route", () => {
  const line6 = (destination: string, prefix: string, flags: string, name: string) =>
    `${destination} ${prefix} ${"0".repeat(32)} 00 ${"0".repeat(32)} 00000100 00000001 00000000 ${flags} ${name.padStart(8)}`;
  const text = [
    line6("fd000018000000000000000000000000", "40", "00000001", "br-app"),
    line6("fd000018000000000000000000000001", "80", "80200001", "br-app"),
    line6("fd000018000000000000000000000000", "80", "80300001", "br-app"),
    line6("fd000018000000000000000000000009", "80", "01000001", "eth0"),
    line6("20010db8000000000000000000000000", "20", "00000003", "eth0"),
    line6("00000000000000000000000000000000", "00", "00200200", "lo"),
    "",
  ].join("\n");
  expect(pairs(parseRoutes6(text))).toEqual(["br-app fd00:18::/64", "eth0 2001:db8::/32"]);
});

test.each(["", "\n", "garbage", "a b c d e f g h i j k"])("%j is none", (text) => {
  expect(parseRoutes(text)).toEqual([]);
  expect(parseRoutes6(text)).toEqual([]);
});
