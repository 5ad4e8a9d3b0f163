// Where rules may lead, on hosts and networks that an attacker chose: only to bridges that the documents of the container's own
// networks name, and to no address that another interface has. The oracle below is implemented a second time on purpose.

import fc from "fast-check";
import { expect, test } from "vitest";
import { readNetwork } from "../../src/docker/network.ts";
import { writeFragment } from "../../src/iptables/fragment-text.ts";
import type { Rule } from "../../src/iptables/rule.ts";
import { Failure } from "../../src/model/errors.ts";
import { hostFragments } from "../../src/rules/host-fragments.ts";
import { routeTo } from "../../src/system/routes.ts";
import { type Given, outcomeOf } from "./pipeline.ts";

const RUNS = { seed: 13, numRuns: 2000 };

/** Few, so that they overlap: first address and prefix. */
const SUBNETS = [
  ["10.0.0.0", 8],
  ["10.1.0.0", 16],
  ["10.1.2.0", 24],
  ["10.1.2.7", 32],
  ["192.168.122.0", 24],
  ["128.0.0.0", 1],
] as const;
const ADDRESSES = ["10.1.2.7", "10.1.2.9", "10.1.9.9", "10.9.9.9", "192.168.122.50"] as const;
const GATEWAYS = ["10.1.2.1", "10.1.0.1", "192.168.122.1", "10.0.0.1", ""] as const;
const CARDS = ["eth0", "eth1", "virbr0", "tun0", "docker0", "evil+", "+", "a b", "-j"] as const;
const IDS = ["a", "b", "c"].map((digit) => digit.repeat(64));

interface NetworkPlan {
  id: string;
  name: string;
  driver: string;
  option: string | undefined;
  subnet: readonly [string, number];
  internal: boolean;
  documented: boolean;
}

interface Plan {
  networks: NetworkPlan[];
  joined: { at: number; address: string; gateway: string; named: boolean }[];
  cards: { name: string; address: string; prefix: number }[];
  routes: { name: string; subnet: readonly [string, number] }[];
  asked: number;
}

const interfaceName = fc.constantFrom(...CARDS, ...IDS.map((id) => `br-${id.slice(0, 12)}`), "nerdctl0");

const plan: fc.Arbitrary<Plan> = fc.record({
  networks: fc.uniqueArray(
    fc.record({
      id: fc.constantFrom(...IDS),
      name: fc.constantFrom("bridge", "front", "back", ...IDS),
      driver: fc.constantFrom("bridge", "bridge", "bridge", "macvlan", "overlay", ""),
      option: fc.option(interfaceName, { nil: undefined, freq: 3 }),
      subnet: fc.constantFrom(...SUBNETS),
      internal: fc.constantFrom(false, false, false, true),
      documented: fc.constantFrom(true, true, true, false),
    }),
    { minLength: 1, maxLength: 3, selector: ({ id }) => id },
  ),
  joined: fc.uniqueArray(
    fc.record({
      at: fc.nat({ max: 2 }),
      address: fc.constantFrom(...ADDRESSES),
      gateway: fc.constantFrom(...GATEWAYS),
      named: fc.constantFrom(true, true, true, false),
    }),
    { minLength: 1, maxLength: 2, selector: ({ at }) => at },
  ),
  cards: fc.array(
    fc.record({
      name: interfaceName,
      address: fc.constantFrom(...GATEWAYS.filter(Boolean)),
      prefix: fc.constantFrom(8, 16, 24),
    }),
    { minLength: 2, maxLength: 8 },
  ),
  routes: fc.array(fc.record({ name: interfaceName, subnet: fc.constantFrom(...SUBNETS) }), { maxLength: 3 }),
  asked: fc.constantFrom(-1, -1, -1, 0),
});

function givenOf({ networks, joined, cards, routes, asked }: Plan): Given {
  const places = joined.flatMap(({ at, ...place }, index) => {
    const network = networks[at];
    return network === undefined
      ? []
      : [{ network, ...place, key: place.named ? network.name : `unknown-eth${index}` }];
  });
  const Networks = Object.fromEntries(
    places.map(({ network, address, gateway, named, key }) => [
      key,
      { ...(named ? { NetworkID: network.id } : {}), IPAddress: address, Gateway: gateway },
    ]),
  );
  return {
    args: { container: "web", ...(asked < 0 ? {} : { network: networks[asked]?.name }) },
    inspect: [
      {
        Id: "c",
        Name: "/web",
        State: { Running: true },
        NetworkSettings: { Ports: { "80/tcp": [{ HostIp: "", HostPort: "8080" }] }, Networks },
      },
    ],
    networks: networks.filter(({ documented }) => documented).map(documentOf),
    interfaces: {
      names: [...new Set([...cards, ...routes].map(({ name }) => name))],
      subnets: cards.map(({ name, address, prefix }) => ({ name, cidr: `${address}/${prefix}` })),
      routes: routes.map(({ name, subnet }) => ({ name, cidr: subnet.join("/") })),
    },
  };
}

function documentOf({ id, name, driver, option, subnet, internal }: NetworkPlan) {
  return {
    ...{ Name: name, Id: id, Internal: internal, IPAM: { Config: [{ Subnet: subnet.join("/") }] } },
    ...(driver === "" ? {} : { Driver: driver }),
    ...(option === undefined ? {} : { Options: { "com.docker.network.bridge.name": option } }),
  };
}

/** The interfaces that a rule names, but for the loopback's. */
function namedIn(rule: Rule): string[] {
  return rule.filter((_, at) => /^-[io]$/.test(rule[at - 1] ?? "")).filter((name) => name !== "lo");
}

function numberOf(address: string): number {
  return address.split(".").reduce((sum, byte) => sum * 256 + Number(byte), 0);
}

function holds(address: string, [first, prefix]: readonly [string, number]): boolean {
  const size = 2 ** (32 - prefix);
  return Math.floor(numberOf(address) / size) === Math.floor(numberOf(first) / size);
}

/** The bridge by the documents' own words; without a document by its id. */
function bridgeOf({ id, name, driver, option, documented }: NetworkPlan): string | undefined {
  const byId = (ofDefault: string) => (name === "bridge" ? ofDefault : `br-${id.slice(0, 12)}`);
  if (!documented) return byId("docker0");
  if (driver === "") return byId("nerdctl0");
  return driver === "bridge" ? (option ?? byId("docker0")) : undefined;
}

const sizes = { ruled: 0, refused: 0, astray: 0 };

test("a container's rules lead only to bridges of its own networks, and to no address that another interface has", () => {
  const property = fc.property(plan, (drawn) => {
    const given = givenOf(drawn);
    const rules = rulesOf(given);
    const own = drawn.joined.flatMap(({ at, address, named }) => {
      // Where the client does not say the network, it is the one of its networks that has the address.
      const networks = named
        ? drawn.networks.slice(at, at + 1)
        : drawn.networks.filter(({ documented, subnet }) => documented && holds(address, subnet));
      // A client that shows no network at all is nerdctl, whose own bridge has this name: what is in its subnet is behind it.
      if (!named && drawn.networks.every(({ documented }) => !documented)) {
        const cards = drawn.cards.map(({ name, address: first, prefix }) => ({
          name,
          subnet: [first, prefix] as const,
        }));
        return [...cards, ...drawn.routes]
          .filter(({ name, subnet }) => name === "nerdctl0" && holds(address, subnet))
          .map(({ name, subnet }) => ({ address, bridge: name, subnet }));
      }
      return networks.flatMap((network) => {
        const bridge = bridgeOf(network);
        return bridge === undefined ? [] : [{ address, bridge, subnet: network.subnet }];
      });
    });
    for (const rule of rules) {
      for (const name of namedIn(rule)) {
        expect(name).toMatch(/^[\w.:@-]+$/);
        expect(given.interfaces.names).toContain(name);
        expect(own.map(({ bridge }) => bridge)).toContain(name);
      }
      const address =
        /^\d+\.\d+\.\d+\.\d+/.exec((rule.includes("-d") ? rule[rule.indexOf("-d") + 1] : rule.at(-1)) ?? "")?.[0] ?? "";
      const to = own.filter((one) => one.address === address);
      expect(to).not.toEqual([]);
      // Not to where another interface's route is as narrow as the bridge's.
      expect(to.some(({ bridge, subnet }) => leadsTo(bridge, address, subnet, drawn))).toBe(true);
    }
  });
  fc.assert(property, RUNS);
  // The hosts are not empty of what this is about.
  for (const size of Object.values(sizes)) expect(size).toBeGreaterThan(RUNS.numRuns / 100);
});

function rulesOf(given: Given): Rule[] {
  try {
    const { rules, warnings } = outcomeOf(given);
    const all = Object.values(rules.ipv4).flat();
    if (all.length > 0) sizes.ruled++;
    if (warnings.some((one) => one.includes("overlaps"))) sizes.astray++;
    return all;
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    sizes.refused++;
    return [];
  }
}

function leadsTo(
  bridge: string,
  address: string,
  subnet: readonly [string, number] | undefined,
  { cards, routes }: Plan,
) {
  const all = [
    ...cards.map(({ name, address: first, prefix }) => ({ name, subnet: [first, prefix] as const })),
    ...routes,
  ].filter((one) => holds(address, one.subnet));
  const widest = (own: boolean) =>
    Math.max(-1, ...all.filter(({ name }) => (name === bridge) === own).map((one) => one.subnet[1]));
  const own = widest(true);
  const fallback = subnet !== undefined && holds(address, subnet) ? subnet[1] : Number.POSITIVE_INFINITY;
  return (own < 0 ? fallback : own) > widest(false);
}

test("the host rules name only bridges that the networks' documents name, and masquerade no other machines", () => {
  const property = fc.property(plan, fc.boolean(), (drawn, proxy) => {
    const documents = drawn.networks.filter(({ driver }) => driver !== "");
    const networks = documents.flatMap((one) => {
      try {
        return [readNetwork(documentOf(one))];
      } catch (error) {
        if (error instanceof Failure) return [];
        throw error;
      }
    });
    const { interfaces } = givenOf(drawn);
    const routes = [...interfaces.subnets, ...(interfaces.routes ?? [])].flatMap(({ name, cidr }) =>
      routeTo(name, cidr),
    );
    const base = hostFragments(networks, ["ipv4"], { chain: "CHAIN", guards: true, proxy, routes });
    const bridges = documents.map((one) => bridgeOf({ ...one, documented: true }));
    // Docker refuses a second network on one bridge.
    fc.pre(new Set(bridges).size === bridges.length);
    for (const rule of base.flatMap((one) => Object.values(writeFragment(one).rules.ipv4).flat())) {
      for (const name of namedIn(rule)) {
        expect(name).toMatch(/^[\w.:@-]+$/);
        expect(bridges).toContain(name);
      }
      if (!rule.includes("MASQUERADE") || !rule.includes("-s")) continue;
      const [first = "", prefix = ""] = (rule[rule.indexOf("-s") + 1] ?? "").split("/");
      const from = [first, Number(prefix)] as const;
      const bridge = namedIn(rule)[0];
      const subnet = documents.find((one) => bridgeOf({ ...one, documented: true }) === bridge)?.subnet;
      for (const { name, subnet: other } of drawn.routes) {
        const isTheirs = name !== bridge && subnet !== undefined && other[1] >= subnet[1] && holds(other[0], subnet);
        if (isTheirs) expect(holds(other[0], from) || holds(first, other)).toBe(false);
      }
    }
  });
  fc.assert(property, RUNS);
});
