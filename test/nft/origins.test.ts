// Which element decides: rules in iptables' words, and what a person finds of them in the table.

import { expect, test } from "vitest";
import { readNetwork } from "../../src/docker/network.ts";
import { FAMILIES } from "../../src/model/family.ts";
import { readCommand } from "../../src/nft/commands.ts";
import { writeNft } from "../../src/nft/fragment-text.ts";
import { liveOf } from "../../src/nft/live.ts";
import { readLines } from "../../src/nft/table.ts";
import { containerFragment } from "../../src/rules/desired-fragment.ts";
import { hostFragments } from "../../src/rules/host-fragments.ts";
import type { ContainerRule } from "../../src/rules/model.ts";

const NETWORK = readNetwork({ Name: "bridge", Driver: "bridge", IPAM: { Config: [{ Subnet: "172.17.0.0/16" }] } });
const HOST = hostFragments([NETWORK], FAMILIES, { chain: "DOCKER_CONTAINERS", guards: true, proxy: true, routes: [] });
const place = { address: "172.17.0.2", bridge: "docker0" };
const ports = { protocol: "tcp", first: 8080, last: 8080 };
const ipv4: ContainerRule[] = [
  { kind: "direct-access-filter", ...place },
  {
    ...{ kind: "allow-forwarded", direction: "in", hostAddress: undefined, ports, ...place },
    sources: [{ subnet: "10.0.0.0/8", by: undefined }],
  },
  {
    kind: "dnat",
    hostAddress: undefined,
    ports,
    to: { address: place.address, port: 80, base: undefined },
    exceptFrom: "docker0",
  },
  { kind: "hairpin", source: "172.17.0.2/32", address: place.address, ports: { protocol: "tcp", first: 80, last: 80 } },
  { kind: "accept", ...place, ports: { protocol: "tcp", first: 80, last: 80 } },
];
const WEB = containerFragment("web", { meaning: { ipv4, ipv6: [] }, chain: "DOCKER_CONTAINERS" });
const TEXTS = [...HOST, WEB].map((one) => writeNft(one, "/run/confirmed").texts.ipv4 ?? "");
const { table } = readLines(TEXTS.flatMap((text) => text.split("\n")));
const live = liveOf(table).ipv4;
const rules = live.text.split("\n").filter((line) => line.startsWith("-A "));

test.each([
  [/DNAT/, 'publish4 { tcp . 8080 comment "docker_iptables: web" : 172.17.0.2 . 80 }'],
  [/-j ACCEPT/, 'open4 { "docker0" . 172.17.0.2 . tcp . 80 comment "docker_iptables: web" }'],
  [/^-A PREROUTING -d .*-j DROP/, 'guarded4 { 172.17.0.2 comment "docker_iptables: web" }'],
  [/-s 172.17.0.2\/32 .*MASQUERADE/, 'hairpin4 { 172.17.0.2 . 172.17.0.2 . tcp . 80 comment "docker_iptables: web" }'],
  [/-s 172.17.0.0\/16 .*MASQUERADE/, 'masquerade4 { 172.17.0.0/16 comment "docker_iptables: (10_docker)" }'],
  [/^-A FORWARD .*-j DROP/, 'closed4 { "docker0" comment "docker_iptables: (90_docker)" }'],
])("%s", (pattern, element) => {
  const found = rules.filter((rule) => pattern.test(rule) && rule.includes("comment"));
  expect(found.map((rule) => live.origin(rule))).toContain(`add element inet docker_iptables ${element}`);
});

test("each is an element that is there, or a rule of the layout", () => {
  const origins = rules.map((rule) => [rule, live.origin(rule)] as const);
  const unnamed = origins.filter(([rule, origin]) => rule === origin).map(([rule]) => rule);
  // What leads to the DNATs, and how a list of who may connect goes on.
  expect(unnamed.filter((rule) => !/-j DOCKER_CONTAINERS|-j DOCKER-USER|^-A ALLOW/.test(rule))).toEqual([]);
  for (const [rule, origin] of origins.filter(([rule, origin]) => rule !== origin)) {
    const command = readCommand(origin);
    if (command?.kind !== "add element") throw new Error(`${rule}: ${origin}`);
    const { name, key, value, comment } = command;
    expect(table.sets.get(name)?.elements.get(key)).toEqual({ value, comment });
  }
});

test("a range that is moved has many, and stays as it is", () => {
  const moved: ContainerRule = {
    ...{ kind: "dnat", hostAddress: undefined, exceptFrom: "docker0" },
    ...{ ports: { protocol: "tcp", first: 7000, last: 7010 }, to: { address: place.address, port: 9000, base: 7000 } },
  };
  const many = containerFragment("many", { meaning: { ipv4: [moved], ipv6: [] }, chain: "DOCKER_CONTAINERS" });
  const written = writeNft(many, "/run/confirmed").texts.ipv4 ?? "";
  const running = liveOf(readLines([...TEXTS, written].flatMap((text) => text.split("\n"))).table).ipv4;
  const rule = running.text.split("\n").find((line) => line.includes("7000")) ?? "";
  expect(rule).toContain("DNAT");
  expect(running.origin(rule)).toBe(rule);
});

test("another's rule stays as it is", () => {
  const other = "-A FORWARD -s 192.0.2.7/32 -j DROP";
  expect(live.origin(other)).toBe(other);
  expect(liveOf(undefined).ipv4.origin(other)).toBe(other);
});
