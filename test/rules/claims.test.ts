// What a fragment claims, and when two claim the same.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { readFragment } from "../../src/iptables/fragment-text.ts";
import { readClaims } from "../../src/iptables/read.ts";
import { spellPublish } from "../../src/model/port-mapping.ts";
import { ClaimIndex, claimantIn } from "../../src/rules/claim-index.ts";
import type { Claims, Ports } from "../../src/rules/claims.ts";
import { outcomeOf } from "./pipeline.ts";
import { world } from "./worlds.ts";

const spell = ({ hostAddress, protocol, first, last }: Ports, family: "ipv4" | "ipv6") =>
  spellPublish({ family, hostAddress, hostPort: first, protocol }, last - first + 1);
const claims = (text: string) => readClaims(readFragment(text));
const register = (one: Claims) => new ClaimIndex([claimantIn("ipv4", "a", one)]);
const shared = (a: Claims, b: Claims) => register(a).sharing(claimantIn("ipv4", "b", b))[0];
const sharedPorts = (a: Claims, b: Claims) => shared(a, b)?.ports;
const sharedAddress = (a: Claims, b: Claims) => shared(a, b)?.address;

describe("readClaims", () => {
  test("of the original script's fragment", () => {
    const text = `*nat
-A DOCKER_CONTAINERS ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.9:80
COMMIT
*filter
-A FORWARD -d 172.17.0.9 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
COMMIT
`;
    expect(claims(text)).toEqual({
      ports: [{ hostAddress: undefined, protocol: "tcp", first: 8080, last: 8080 }],
      addresses: new Set(["172.17.0.9"]),
    });
  });

  test("of the same where it found no bridge and no address", () => {
    const text = "*nat\n-A C ! -i  -p tcp -m tcp --dport 8080 -j DNAT --to-destination :80\nCOMMIT\n";
    const filter = "*filter\n-A FORWARD -d  ! -i  -o  -p tcp -m tcp --dport 80 -j ACCEPT\nCOMMIT\n";
    expect(claims(text + filter)).toMatchObject({ ports: [{ first: 8080 }], addresses: new Set() });
  });

  test.each([
    ["172.17.0.2:80", "172.17.0.2"],
    ["172.17.0.2", "172.17.0.2"],
    ["172.17.0.2:9000-9010/8000", "172.17.0.2"],
    ["[fd00::2]:80", "fd00::2"],
    ["[FD00:0::2]:9000-9010/8000", "fd00::2"],
    ["fd00::2", "fd00::2"],
  ])("a DNAT to %s names %s", (destination, address) => {
    const text = `*nat\n-A C -p udp -m udp --dport 8000:8010 -j DNAT --to-destination ${destination}\nCOMMIT\n`;
    expect(claims(text)).toEqual({
      ports: [{ hostAddress: undefined, protocol: "udp", first: 8000, last: 8010 }],
      addresses: new Set([address]),
    });
  });

  test("the guard of a port on 127.x names the host's address, the one of a container its own", () => {
    const text = `*raw
-A PREROUTING -d 127.0.0.1/32 ! -i lo -p tcp -m tcp --dport 8080 -j DROP
-A PREROUTING -d 172.18.0.2/32 ! -i br-1 -j DROP
COMMIT
`;
    expect(claims(text)).toEqual({ ports: [], addresses: new Set(["172.18.0.2"]) });
  });

  test("of every container's fragment: its host ports, one by one, and addresses that are its own", () => {
    const property = fc.property(world, ({ given, publishes, addresses }) => {
      const { rules } = outcomeOf(given);
      const { ports, addresses: named } = readClaims(new Map(Object.entries(rules.ipv4)));
      const claimed = ports.flatMap((one) => each(one));
      const asked = publishes
        .filter(({ hostIp }) => !hostIp.includes(":"))
        .map(({ hostIp, hostPort, protocol }) => `${protocol} ${hostIp === "0.0.0.0" ? "" : hostIp} ${hostPort}`);
      if (claimed.length > 0) expect([...new Set(claimed)].sort()).toEqual([...new Set(asked)].sort());
      for (const address of named) expect(addresses.map((one) => one.address)).toContain(address);
    });
    fc.assert(property, { seed: 5, numRuns: 300 });
  });
});

function each({ protocol, hostAddress = "", first, last }: Ports): string[] {
  return Array.from({ length: last - first + 1 }, (_, index) => `${protocol} ${hostAddress} ${first + index}`);
}

const ADDRESSES = [undefined, "127.0.0.1", "198.51.100.10"];
const anyPorts = fc
  .record({
    hostAddress: fc.constantFrom(...ADDRESSES),
    protocol: fc.constantFrom("tcp", "udp"),
    first: fc.integer({ min: 1, max: 12 }),
    length: fc.integer({ min: 0, max: 4 }),
  })
  .map(({ length, ...one }): Ports => ({ ...one, last: one.first + length }));
const anyClaims: fc.Arbitrary<Claims> = fc.record({
  ports: fc.array(anyPorts, { maxLength: 4 }),
  addresses: fc.uniqueArray(fc.constantFrom("172.17.0.2", "172.17.0.3", "fd00::2")).map((list) => new Set(list)),
});

/** Every packet's destination that a claim takes: protocol, one address of the host (of two, and any other), port. */
function taken({ ports }: Claims): Set<string> {
  const hosts = (address: string | undefined) =>
    address === undefined ? ["127.0.0.1", "198.51.100.10", "other"] : [address];
  return new Set(
    ports.flatMap((one) => hosts(one.hostAddress).flatMap((hostAddress) => each({ ...one, hostAddress }))),
  );
}

describe("two fragments", () => {
  test("share ports where some packet's destination is taken by both, and those named are", () => {
    let shared = 0;
    const property = fc.property(anyClaims, anyClaims, (a, b) => {
      const [mine, theirs] = [taken(a), taken(b)];
      const found = sharedPorts(a, b);
      expect(found !== undefined).toBe([...mine].some((one) => theirs.has(one)));
      if (found === undefined) return;
      shared++;
      for (const one of taken({ ports: [found], addresses: new Set() })) {
        expect(mine).toContain(one);
        expect(theirs).toContain(one);
      }
    });
    fc.assert(property, { seed: 7, numRuns: 1000 });
    expect(shared).toBeGreaterThan(200);
    expect(shared).toBeLessThan(800);
  });

  test("are in each other's way or not, whichever is asked", () => {
    const property = fc.property(anyClaims, anyClaims, (a, b) => {
      expect(sharedPorts(a, b) === undefined).toBe(sharedPorts(b, a) === undefined);
      expect(sharedAddress(a, b) === undefined).toBe(sharedAddress(b, a) === undefined);
    });
    fc.assert(property, { seed: 7, numRuns: 500 });
  });

  test("the quick look never says no where they share something, and says it often", () => {
    let no = 0;
    const property = fc.property(world, world, ({ given }, other) => {
      const mine = outcomeOf(given).fragments;
      const theirs = outcomeOf(other.given).fragments;
      for (const family of ["ipv4", "ipv6"] as const) {
        const [a, b] = [claims(mine[family] ?? ""), claims(theirs[family] ?? "")];
        if (register(a).mayShare(theirs[family] ?? "", "ipv4")) continue;
        no++;
        expect([sharedPorts(a, b), sharedAddress(a, b)]).toEqual([undefined, undefined]);
      }
    });
    fc.assert(property, { seed: 9, numRuns: 300 });
    expect(no).toBeGreaterThan(100);
  });

  const on = (hostAddress?: string, protocol = "tcp", first = 8080): Claims => ({
    ports: [{ hostAddress, protocol, first, last: 8080 }],
    addresses: new Set(),
  });
  test.each([
    ["every address and one", on(), on("127.0.0.1"), "127.0.0.1:8080/tcp"],
    ["every address twice", on(), on(), "0.0.0.0:8080/tcp"],
    ["two addresses", on("127.0.0.1"), on("198.51.100.10"), undefined],
    ["a port in a long range", on(undefined, "tcp", 1), on(), "0.0.0.0:8080/tcp"],
    ["two protocols", on(), on(undefined, "udp"), undefined],
  ])("%s", (_what, a, b, words) => {
    const ports = sharedPorts(a, b);
    expect(ports && spell(ports, "ipv4")).toBe(words);
  });

  test("of many, the first of those that share is found first, and none that does not share", () => {
    const property = fc.property(fc.array(anyClaims, { maxLength: 8 }), anyClaims, (many, one) => {
      const known = new ClaimIndex(many.map((each, index) => claimantIn("ipv4", String(index), each)));
      const found = known.sharing(claimantIn("ipv4", "one", one)).map(({ claimant }) => Number(claimant.owner));
      const sharing = many.flatMap((each, index) => (shared(each, one) === undefined ? [] : [index]));
      expect(found[0]).toBe(sharing[0]);
      expect(sharing).toEqual(expect.arrayContaining(found));
      expect(found).toEqual([...found].sort((a, b) => a - b));
    });
    fc.assert(property, { seed: 11, numRuns: 500 });
  });

  test("of many, the first is found of each port and of each address", () => {
    const property = fc.property(fc.array(anyClaims, { maxLength: 8 }), anyClaims, (many, one) => {
      const known = new ClaimIndex(many.map((each, index) => claimantIn("ipv4", String(index), each)));
      const found = known.sharing(claimantIn("ipv4", "one", one)).map(({ claimant }) => claimant.owner);
      for (const mine of one.ports) {
        const only = { ports: [mine], addresses: new Set<string>() };
        const first = many.findIndex((each) => shared(each, only) !== undefined);
        if (first >= 0) expect(found).toContain(String(first));
      }
      for (const address of one.addresses) {
        const first = many.findIndex(({ addresses }) => addresses.has(address));
        if (first >= 0) expect(found).toContain(String(first));
      }
    });
    fc.assert(property, { seed: 13, numRuns: 500 });
  });

  test.each(["0:80", "65535:65535", "65536", "80:65536", "99999999999", "1:99999999999", "90:80"])(
    "--dport %s of another hand",
    (ports) => {
      const text = `*nat\n-A C -p tcp -m tcp --dport ${ports} -j DNAT --to-destination 172.17.0.2:80\nCOMMIT\n`;
      const isOne = ports === "0:80" || ports === "65535:65535";
      expect(claims(text).ports).toHaveLength(isOne ? 1 : 0);
      expect(register(on(undefined, "tcp", 1)).mayShare(text, "ipv4")).toBe(ports === "0:80");
    },
  );
});

describe("what it costs to find those in each other's way", () => {
  /** How often a claim is looked at while each of n claimants is held against those before it. */
  function looks(count: number, claim: (index: number) => Partial<Ports>): number {
    let looked = 0;
    const counting = (ports: Ports): Ports => ({
      ...ports,
      get first() {
        looked++;
        return ports.first;
      },
      get protocol() {
        looked++;
        return ports.protocol;
      },
    });
    const known = new ClaimIndex();
    for (let index = 0; index < count; index++) {
      const ports = { hostAddress: undefined, protocol: "tcp", first: 8080, last: 8080, ...claim(index) };
      const addresses = new Set(["172.17.0.2", `172.18.${index >> 8}.${index & 255}`]);
      const one = claimantIn("ipv4", String(index), { ports: [counting(ports)], addresses });
      known.sharing(one);
      known.add(one);
    }
    return looked;
  }

  const address = (index: number) => `10.0.${index >> 8}.${index & 255}`;
  test.each<[string, (index: number) => Partial<Ports>]>([
    ["a port on an address each", (index) => ({ hostAddress: address(index) })],
    ["one port of all", () => ({})],
    ["all ports on an address each", (index) => ({ hostAddress: address(index), first: 1, last: 65535 })],
    ["all ports of all", () => ({ first: 1, last: 65535 })],
    ["ports beside each other", (index) => ({ first: 8000 + index, last: 8000 + index })],
    [
      "half of them on every address, between those on one",
      (index) =>
        index % 2
          ? { first: 8000 + index, last: 8000 + index }
          : { hostAddress: address(index), first: 8000, last: 9000 },
    ],
  ])("%s: four times as many cost four times as much", (_what, claim) => {
    const some = looks(100, claim);
    expect(some).toBeGreaterThan(0);
    expect(looks(400, claim)).toBeLessThanOrEqual(4 * some + 100);
  });
});

test.each([
  [{ hostAddress: undefined, protocol: "udp", first: 8000, last: 8010 }, "[::]:8000-8010/udp"],
  [{ hostAddress: "2001:db8::1", protocol: "tcp", first: 80, last: 80 }, "[2001:db8::1]:80/tcp"],
])("%j is spelled %s", (ports, words) => {
  expect(spell(ports, "ipv6")).toBe(words);
});
