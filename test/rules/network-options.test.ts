// What networks' options make of who reaches what: the golden cases' rules and the host's, and packets that walk through them.

import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { readContainer } from "../../src/docker/container.ts";
import { readNetwork } from "../../src/docker/network.ts";
import { locate, reachableOf } from "../../src/docker/published.ts";
import type { ContainerDocument } from "../../src/generated/container.ts";
import type { NetworkDocument } from "../../src/generated/network.ts";
import { assemble, textOf } from "../../src/iptables/assemble.ts";
import { writeFragment } from "../../src/iptables/fragment-text.ts";
import { readLive } from "../../src/iptables/live.ts";
import { ruleWith } from "../../src/iptables/packet.ts";
import { type PacketHost, trace } from "../../src/iptables/trace.ts";
import { viewsOf } from "../../src/iptables/views.ts";
import { FAMILIES, type Family } from "../../src/model/family.ts";
import { hostFragments } from "../../src/rules/host-fragments.ts";
import { probesOf } from "../../src/rules/probe.ts";
import { publishedPorts } from "../../src/rules/published-ports.ts";
import { routeTo } from "../../src/system/routes.ts";
import { type Given, outcomeOf } from "./pipeline.ts";

const OTHER = { Name: "other", Driver: "bridge", IPAM: { Config: [{ Subnet: "172.31.0.0/16" }] } };
const OTHERS_BRIDGE = { "com.docker.network.bridge.name": "br-other" };

/** The host of a case, with one more network, as the kernel has its rules. */
function hostOf(name: string, args: Record<string, unknown> = {}) {
  const given: Given = JSON.parse(readFileSync(new URL(`../cases/${name}.json`, import.meta.url), "utf8"));
  const all = { ...given, args: { ...given.args, ...args } };
  const networks = [...given.networks, { ...OTHER, Options: OTHERS_BRIDGE }].map((one) =>
    readNetwork(one as NetworkDocument),
  );
  const subnets = [...given.interfaces.subnets, { name: "br-other", cidr: "172.31.0.1/16" }];
  const base = { chain: "DOCKER_CONTAINERS", guards: all.args["guards"] !== false, proxy: true, routes: [] };
  const [first, last] = hostFragments(networks, FAMILIES, base);
  const outcome = outcomeOf(all);
  const isLocal = (address: string) => subnets.some(({ cidr }) => cidr.startsWith(`${address}/`));
  const rulings = FAMILIES.map((family) => {
    const texts = [first, outcome.wanted, last].map((one) => (one && writeFragment(one).texts[family]) ?? "");
    const { lines } = assemble(
      texts.map((text, index) => ({ path: `/${index}`, text })),
      [],
      readLive(""),
    );
    return [family, ruleWith(readLive(textOf({ lines })), isLocal)];
  });
  const host: PacketHost = {
    ...{ rulings: Object.fromEntries(rulings), subnets, proxies: [] },
    ...{ routed: new Set(), filtered: new Set(FAMILIES) },
  };
  return { given: all, host, networks, outcome, subnets };
}

type Trip = [from: string, source: string, destination: string, port: number, protocol?: string];

function reaches({ host }: Pick<ReturnType<typeof hostOf>, "host">, trip: Trip): boolean {
  const [from, source, destination, port, protocol = "tcp"] = trip;
  const family: Family = destination.includes(":") ? "ipv6" : "ipv4";
  return trace(host, { family, from, source, destination, port, protocol }).reached !== undefined;
}

const ELSEWHERE = "203.0.113.9";
const LISTED = "10.1.2.3";
const WEB = "172.20.0.2";

describe.each<[name: string, args: Record<string, unknown>, trip: Trip, expected: boolean]>([
  // What routes is open at its published ports, and to ICMP.
  ["network-routed", {}, ["eth0", ELSEWHERE, WEB, 80], true],
  ["network-routed", {}, ["br-other", "172.31.0.9", WEB, 80], true],
  ["network-routed", {}, ["eth0", ELSEWHERE, WEB, 53, "udp"], true],
  ["network-routed", {}, ["eth0", ELSEWHERE, WEB, 0, "icmp"], true],
  ["network-routed", {}, ["eth0", ELSEWHERE, WEB, 80, "udp"], false],
  ["network-routed", {}, ["eth0", ELSEWHERE, WEB, 81], false],
  ["network-routed", { guards: false }, ["eth0", ELSEWHERE, WEB, 81], true],
  ["network-routed-ipv6", {}, ["eth0", "2001:db8:ffff::9", "fd00:20::2", 80], true],
  ["network-routed-ipv6", {}, ["eth0", "2001:db8:ffff::9", "fd00:20::2", 81], false],
  // A list decides there, also without guards.
  ["network-routed-allow", {}, ["eth0", LISTED, WEB, 80], true],
  ["network-routed-allow", {}, ["eth0", ELSEWHERE, WEB, 80], false],
  ["network-routed-allow", {}, ["br-other", "172.31.0.9", WEB, 80], false],
  ["network-routed-allow", { guards: false }, ["eth0", ELSEWHERE, WEB, 80], false],
  ["network-routed-allow", {}, ["eth0", ELSEWHERE, WEB, 53, "udp"], false],
  ["network-routed-allow", {}, ["eth0", ELSEWHERE, WEB, 443], true],
  // One for the port of the host closes the container's, and is kept without `ipv6`, too.
  ["network-routed-beside", {}, ["eth0", LISTED, "192.0.2.10", 8080], true],
  ["network-routed-beside", {}, ["eth0", ELSEWHERE, "192.0.2.10", 8080], false],
  ["network-routed-beside", {}, ["eth0", LISTED, WEB, 80], false],
  ["network-routed-beside", { allow: {} }, ["eth0", ELSEWHERE, WEB, 80], true],
  ["network-routed-beside", { allow: {} }, ["eth0", ELSEWHERE, "172.21.0.2", 80], false],
  ["network-routed-one-family", {}, ["eth0", "2001:db8:5::9", "fd00:20::2", 80], true],
  ["network-routed-one-family", {}, ["eth0", "2001:db8:6::9", "fd00:20::2", 80], false],
  ["network-routed-one-family", { ipv6: false, guards: false }, ["eth0", "2001:db8:6::9", "fd00:20::2", 80], false],
  // What is unprotected is open, but for a port with a list.
  ["network-unprotected", {}, ["eth0", ELSEWHERE, WEB, 81], true],
  ["network-unprotected", {}, ["eth0", ELSEWHERE, "192.0.2.10", 8080], true],
  ["network-unprotected-allow", {}, ["eth0", LISTED, "192.0.2.10", 8080], true],
  ["network-unprotected-allow", {}, ["eth0", ELSEWHERE, "192.0.2.10", 8080], false],
  ["network-unprotected-allow", {}, ["eth0", LISTED, WEB, 80], false],
  // Who comes by a trusted interface reaches published ports directly, but for one with a list.
  ["network-trusted", {}, ["eth0", ELSEWHERE, WEB, 80], true],
  ["network-trusted", {}, ["eth1", ELSEWHERE, WEB, 80], true],
  ["network-trusted", {}, ["eth0", ELSEWHERE, WEB, 81], false],
  ["network-trusted", {}, ["br-other", "172.31.0.9", WEB, 80], false],
  ["network-trusted-allow", { allow: {} }, ["eth1", ELSEWHERE, WEB, 80], false],
  ["network-trusted-allow", {}, ["eth0", LISTED, WEB, 80], false],
  ["network-trusted-allow", {}, ["eth0", LISTED, "192.0.2.10", 8080], true],
])("%s with %j", (name, args, trip, expected) => {
  test(`${trip.join(" ")}: ${expected}`, () => {
    expect(reaches(hostOf(name, args), trip)).toBe(expected);
  });
});

test("what is open at the container's own address is listed as that", () => {
  const shown = (name: string) => publishedPorts(hostOf(name).outcome.wanted).map(Object.values);
  expect(shown("network-routed")).toEqual([
    ["web", "172.20.0.2:80/tcp", "172.20.0.2:80", "everyone"],
    ["web", "172.20.0.2:53/udp", "172.20.0.2:53", "everyone"],
  ]);
  expect(shown("network-routed-allow")).toEqual([
    ["web", "172.20.0.2:80/tcp", "172.20.0.2:80", "10.0.0.0/8"],
    ["web", "172.20.0.2:443/tcp", "172.20.0.2:443", "everyone"],
    ["web", "172.20.0.2:53/udp", "172.20.0.2:53", "10.0.0.0/8"],
  ]);
  expect(shown("network-routed-beside")).toEqual([
    ["web", "0.0.0.0:8080/tcp", "172.21.0.2:80", "10.0.0.0/8"],
    ["web", "172.20.0.2:80/tcp", "172.20.0.2:80", "this host"],
  ]);
});

test("it is tried from everywhere at that address, as the rules decide", () => {
  const { given, host, networks, subnets } = hostOf("network-routed-allow");
  const names = new Set(subnets.map((one) => one.name));
  const routes = subnets.flatMap(({ name, cidr }) => routeTo(name, cidr));
  const container = readContainer(given.inspect[0] as ContainerDocument);
  const target = locate(container, networks, { names, subnets, routes, hasIpv6: true });
  const [publish] = reachableOf(target, "ipv4");
  if (publish === undefined) throw new Error("nothing is reachable");
  const seen = probesOf(publish, target, networks, host).flatMap((probe) => {
    const { views } = viewsOf(host, probe, [{ subnet: "10.0.0.0/8", by: undefined }]);
    return views.map(
      ({ from, trip, arrival }) => `${from.kind} ${trip.source}: ${arrival.reached ? "reaches it" : arrival.why}`,
    );
  });
  expect(seen).toEqual([
    "machine 10.0.0.1: reaches it",
    "machine 203.0.113.9: dropped by a rule",
    "host 172.20.0.1: reaches it",
    "bridge_peer 172.20.255.254: reaches it",
    "other_bridge 172.31.255.254: dropped by a rule",
  ]);
});

test("between ports of a bridge that bypass iptables everything arrives", () => {
  const { host } = hostOf("network-trusted");
  const trip = { family: "ipv4" as const, from: "br-9f4c1e3c7b2d", source: "172.20.0.9", destination: WEB };
  const { reached } = trace({ ...host, filtered: new Set() }, { ...trip, port: 81, protocol: "tcp" });
  expect(reached).toEqual({ address: WEB, port: 81, seenAs: "172.20.0.9" });
});
