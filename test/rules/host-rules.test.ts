// Host rules that no example shows: without docker-proxy, without guards, and networks of every kind.

import { expect, test } from "vitest";
import { readNetwork } from "../../src/docker/network.ts";
import { writeFragment } from "../../src/iptables/fragment-text.ts";
import { spell } from "../../src/iptables/rule.ts";
import { fileOf } from "../../src/model/owner.ts";
import { hostFragments } from "../../src/rules/host-fragments.ts";

const network = (name: string, options: Record<string, string> = {}, more: Record<string, unknown> = {}) =>
  readNetwork({
    Name: name,
    Id: `${name}-id`,
    Driver: "bridge",
    Options: { "com.docker.network.bridge.name": `br-${name}`, ...options },
    IPAM: { Config: [{ Subnet: "172.30.0.0/16" }, { Subnet: "fd00:30::/64" }] },
    ...more,
  });

type Wishes = Partial<Parameters<typeof hostFragments>[2]>;

/** Rules without their comment, as `file table: rule`. */
function told(networks: ReturnType<typeof network>[], wishes: Wishes = {}, family: "ipv4" | "ipv6" = "ipv4"): string[] {
  const base = hostFragments(networks, ["ipv4", "ipv6"], {
    chain: "CHAIN",
    guards: true,
    proxy: true,
    routes: [],
    ...wishes,
  });
  return base.flatMap((one) =>
    Object.entries(writeFragment(one).rules[family]).flatMap(([table, lines]) =>
      lines.map((rule) => `${fileOf(one.owner)} ${table}: ${spell(rule).replace(/ -m comment --comment "[^"]*"/, "")}`),
    ),
  );
}

test.each([
  ["ipv4", "127.0.0.0/8"],
  ["ipv6", "::1/128"],
] as const)("without docker-proxy the chain gets what goes to the loopback address: %s", (family, loopback) => {
  const [on, off] = [true, false].map((proxy) => told([network("app")], { proxy }, family));
  const output = "10_docker nat: -A OUTPUT -m addrtype --dst-type LOCAL -j CHAIN";
  const fromHost = "10_docker nat: -A POSTROUTING -o br-app -m addrtype --src-type LOCAL -j MASQUERADE";
  expect(on).toContain(output.replace("OUTPUT", `OUTPUT ! -d ${loopback}`));
  expect(on).not.toContain(fromHost);
  expect(off).toContain(output);
  expect(off).toContain(fromHost);
  expect(off?.filter((rule) => ![output, fromHost].includes(rule))).toEqual(
    on?.filter((rule) => !rule.includes("OUTPUT")),
  );
});

test("an internal network's border comes before the containers' accepts, every other drop before any bridge's accept", () => {
  const rules = told([network("a", {}, { Internal: true }), network("b")]).filter((rule) => rule.includes("filter"));
  expect(rules).toEqual([
    "10_docker filter: -I FORWARD -j DOCKER-USER",
    "10_docker filter: -A FORWARD ! -i br-a -o br-a -j DROP",
    "10_docker filter: -A FORWARD -i br-a ! -o br-a -j DROP",
    "10_docker filter: -A FORWARD -o br-b -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "90_docker filter: -A FORWARD ! -i br-b -o br-b -j DROP",
    "90_docker filter: -A FORWARD -i br-a -j ACCEPT",
    "90_docker filter: -A FORWARD -i br-b -j ACCEPT",
  ]);
});

test("an internal network stays closed without guards, too, and needs neither masquerade nor answers", () => {
  const rules = told([network("a", {}, { Internal: true }), network("b")], { guards: false, proxy: false });
  expect(rules.filter((rule) => rule.includes("br-a"))).toEqual([
    "10_docker filter: -A FORWARD ! -i br-a -o br-a -j DROP",
    "10_docker filter: -A FORWARD -i br-a ! -o br-a -j DROP",
    "90_docker filter: -A FORWARD -i br-a -j ACCEPT",
  ]);
  expect(rules.filter((rule) => rule.includes("br-b") && rule.endsWith("DROP"))).toEqual([]);
});

test("what a network's options ask for holds: no masquerade, no talk between its containers, nothing kept out", () => {
  const option = (name: string, value: string) => ({ [`com.docker.network.bridge.${name}`]: value });
  expect(told([network("a", option("enable_ip_masquerade", "false"))]).join()).not.toContain("MASQUERADE");
  expect(told([network("a", option("enable_icc", "false"))])).toContain(
    "90_docker filter: -A FORWARD -i br-a -o br-a -j DROP",
  );
  const open = told([network("a", option("gateway_mode_ipv4", "nat-unprotected"))]);
  expect(open).toContain("90_docker filter: -A FORWARD ! -i br-a -o br-a -j ACCEPT");
});

test.each(["ipv4", "ipv6"] as const)(
  "the user's chain is declared, and asked first, without a network too: %s",
  (family) => {
    for (const networks of [[], [network("a", {}, { Internal: true })], [network("a")]]) {
      for (const guards of [true, false]) {
        const [first] = hostFragments(networks, ["ipv4", "ipv6"], { chain: "CHAIN", guards, proxy: true, routes: [] });
        const [, filter = ""] = (first && writeFragment(first).texts[family])?.split("*filter\n") ?? [];
        expect(filter).toMatch(
          /^:DOCKER-USER - \[0:0\]\n-I FORWARD -m comment --comment "docker_iptables: \(10_docker\)" -j DOCKER-USER\n/,
        );
      }
    }
  },
);
