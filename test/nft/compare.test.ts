import { describe, expect, test } from "vitest";
import { readNetwork } from "../../src/docker/network.ts";
import { FAMILIES } from "../../src/model/family.ts";
import { containerOwner, hostOwner } from "../../src/model/owner.ts";
import { compareNft } from "../../src/nft/compare.ts";
import { readNft, writeNft } from "../../src/nft/fragment-text.ts";
import { nftOwners } from "../../src/nft/live.ts";
import { withoutOwners, withTexts } from "../../src/nft/snapshot.ts";
import { changesFor, type NftTable, NOTHING, readLines } from "../../src/nft/table.ts";
import { containerFragment } from "../../src/rules/desired-fragment.ts";
import { hostFragments } from "../../src/rules/host-fragments.ts";
import type { ContainerRule } from "../../src/rules/model.ts";

const CONFIRMED = "/run/confirmed";
const NETWORK = readNetwork({ Name: "bridge", Driver: "bridge", IPAM: { Config: [{ Subnet: "172.17.0.0/16" }] } });
const options = { chain: "DOCKER_CONTAINERS", guards: true, proxy: true, routes: [] };
const SOURCES = [
  { subnet: "10.0.0.0/8", by: undefined },
  { subnet: undefined, by: "wg0" },
];

function fragmentOf(name: string, last: number) {
  const address = `172.17.0.${last}`;
  const ports = { protocol: "tcp", first: 8000 + last, last: 8000 + last };
  const place = { address, bridge: "docker0" };
  const ipv4: ContainerRule[] = [
    { kind: "direct-access-filter", ...place },
    { kind: "allow-forwarded", direction: "in", hostAddress: undefined, ports, ...place, sources: SOURCES },
    { kind: "dnat", hostAddress: undefined, ports, to: { address, port: 80, base: undefined }, exceptFrom: "docker0" },
    { kind: "accept", ...place, ports: { protocol: "tcp", first: 80, last: 80 } },
  ];
  const ipv6: ContainerRule[] = [
    { kind: "allow-delivered", direction: "in", hostAddress: undefined, ports, bridge: "docker0", sources: [] },
  ];
  return containerFragment(name, { meaning: { ipv4, ipv6 }, chain: "DOCKER_CONTAINERS" });
}

const HOST = hostFragments([NETWORK], FAMILIES, options);
const ALL = [...HOST, fragmentOf("web", 2), fragmentOf("web2", 3)];
const textOf = (one: (typeof ALL)[number]) => writeNft(one, CONFIRMED).texts.ipv4 ?? "";

/** As what runs is read: without the texts of rules. */
function live(): NftTable {
  const { table, strange } = readLines(ALL.flatMap((one) => textOf(one).split("\n")));
  expect(strange).toEqual([]);
  const chains = [...table.chains].map(
    ([name, { hook, rules }]) => [name, { hook, rules: rules.map((rule) => ({ ...rule, text: "" })) }] as const,
  );
  return { sets: table.sets, chains: new Map(chains) };
}

/** The same without an element, a rule or a set. */
function without(set: string, key?: string): NftTable {
  const { sets, chains } = live();
  const own = sets.get(set);
  const left = new Map([...(own?.elements ?? [])].filter(([one]) => one !== key));
  if (own === undefined) return { sets, chains: new Map([...chains].filter(([name]) => name !== set)) };
  if (key === undefined) return { sets: new Map([...sets].filter(([name]) => name !== set)), chains };
  return { sets: new Map([...sets, [set, { ...own, elements: left }]]), chains };
}

function driftOf(name: string, running: NftTable | undefined) {
  const one = ALL.find(({ owner }) => (owner.kind === "container" ? owner.name : owner.file) === name);
  if (one === undefined) throw new Error(name);
  const word = one.owner.kind === "container" ? name : `(${name})`;
  const [ipv4, ipv6] = FAMILIES.map((family) =>
    compareNft(word, family, readNft(textOf(one), one.owner).table, running),
  );
  return { ipv4, ipv6 };
}

const NO_DRIFT = { missing: [], surplus: 0, disordered: false };
const NAMES = ["10_docker", "90_docker", "web", "web2"];

describe("a fragment and what runs", () => {
  test("are the same", () => {
    for (const name of NAMES) expect(driftOf(name, live())).toEqual({ ipv4: NO_DRIFT, ipv6: NO_DRIFT });
  });

  test("where there is no table, all is missing", () => {
    for (const name of NAMES) expect(driftOf(name, undefined).ipv4?.missing.length).toBeGreaterThan(2);
  });

  test.each([
    ["publish4", "tcp . 8002", "web", "ipv4"],
    ["guarded4", "172.17.0.2", "web", "ipv4"],
    ["delivered6", "tcp . 8003", "web2", "ipv6"],
    ["replies4", '"docker0"', "10_docker", "ipv4"],
    ["outgoing4", '"docker0"', "90_docker", "ipv4"],
  ] as const)("an element of %s that is gone is its owner's alone", (set, key, owner, family) => {
    for (const name of NAMES) {
      const drift = driftOf(name, without(set, key));
      const other = family === "ipv4" ? drift.ipv6 : drift.ipv4;
      expect(other).toEqual(NO_DRIFT);
      if (name !== owner) expect(drift[family]).toEqual(NO_DRIFT);
      else
        expect(drift[family]?.missing).toEqual([
          expect.stringContaining(`add element inet docker_iptables ${set} { ${key} comment`),
        ]);
    }
  });

  test("a set, a chain or a rule of the layout that is gone is the host's", () => {
    for (const gone of ["sent4", "forward4", "filter_forward"]) {
      expect(driftOf("10_docker", without(gone)).ipv4?.missing[0]).toMatch(
        new RegExp(`^add (set|map|chain) .* ${gone}`),
      );
      expect(driftOf("web2", without(gone)).ipv4).toEqual(NO_DRIFT);
    }
    const { sets, chains } = live();
    const some = chains.get("forward4");
    const shortened = new Map([
      ...chains,
      ["forward4", { hook: undefined, rules: some?.rules.slice(1) ?? [] }] as const,
    ]);
    expect(driftOf("10_docker", { sets, chains: shortened }).ipv4?.missing).toHaveLength(1);
  });

  test("a value that leads elsewhere is missing; what a fragment does not say any more is too much, and no neighbour's", () => {
    const { sets, chains } = live();
    const publish = sets.get("publish4");
    if (publish === undefined) throw new Error("publish4");
    const elements = new Map([
      ...publish.elements,
      ["tcp . 8002", { value: "172.17.0.9 . 80", comment: "docker_iptables: web" }] as const,
      ["tcp . 9999", { value: "172.17.0.2 . 80", comment: "docker_iptables: web" }] as const,
    ]);
    const running = { sets: new Map([...sets, ["publish4", { ...publish, elements }] as const]), chains };
    expect(driftOf("web", running).ipv4).toMatchObject({ missing: [expect.stringContaining("8002")], surplus: 1 });
    expect(driftOf("web2", running).ipv4).toEqual(NO_DRIFT);
  });
});

describe("what ran", () => {
  test("is made again by its commands, though nft prints no rule as it is written", () => {
    const again = readLines(changesFor(withTexts(live()), undefined).flatMap(split)).table;
    expect(changesFor(again, live())).toEqual([]);
    expect(changesFor(withTexts(live()), again)).toEqual([]);
  });

  test("without an owner has nothing of him, and all of the others, also of one whose name begins alike", () => {
    const left = withoutOwners(live(), [containerOwner("web")]);
    expect(nftOwners(left)).toEqual(expect.arrayContaining([containerOwner("web2"), hostOwner("10_docker")]));
    expect(nftOwners(left)).not.toContainEqual(containerOwner("web"));
    expect(driftOf("web2", left)).toEqual({ ipv4: NO_DRIFT, ipv6: NO_DRIFT });
    const names = [...left.chains.keys(), ...left.sets.keys()].filter((name) => name.startsWith("allow"));
    const both = [...live().chains.keys(), ...live().sets.keys()].filter((name) => name.startsWith("allow"));
    expect(names.length).toBe(both.length / 2);
  });

  test("and should not: the table goes", () => {
    expect(changesFor(NOTHING, live())).toEqual(["delete table inet docker_iptables"]);
    expect(changesFor(NOTHING, undefined)).toEqual([]);
  });
});

/** A command with many elements, as one with each; a deletion of the table as nothing. */
function split(line: string): string[] {
  const [, head, elements] = /^(add element inet docker_iptables \w+) \{ (.*) \}$/.exec(line) ?? [];
  if (line.startsWith("delete table")) return [];
  return head === undefined ? [line] : (elements ?? "").split(", ").map((one) => `${head} { ${one} }`);
}
