// Rules as iptables has them, and back: what is written is read as what it means.

import fc from "fast-check";
import { expect, test } from "vitest";
import { readClaims, readMeaning } from "../../src/iptables/read.ts";
import { renderRules } from "../../src/iptables/render.ts";
import { readWords, spellLive } from "../../src/iptables/rule.ts";
import { FAMILIES, type Family } from "../../src/model/family.ts";
import { claimsOf } from "../../src/rules/claims.ts";
import type { ContainerRule } from "../../src/rules/model.ts";

const RUNS = { seed: 11, numRuns: 500 };

const word = fc.stringMatching(/^[a-z][a-z0-9.-]{0,14}$/);
const ADDRESSES: Record<Family, fc.Arbitrary<string>> = {
  ipv4: fc.constantFrom("172.17.0.2", "10.1.2.3", "192.0.2.255"),
  ipv6: fc.constantFrom("fd00::2", "2001:db8::1:0:0:9", "fd00:30::ffff"),
};
const ports = fc
  .record({
    protocol: fc.constantFrom("tcp", "udp", "sctp"),
    first: fc.integer({ min: 1, max: 65_000 }),
    more: fc.constantFrom(0, 0, 1, 500),
  })
  .map(({ protocol, first, more }) => ({ protocol, first, last: first + more }));

function ruleOf(family: Family): fc.Arbitrary<ContainerRule> {
  const address = ADDRESSES[family];
  const mask = family === "ipv4" ? 32 : 128;
  const subnet = family === "ipv4" ? "172.17.0.0/16" : "fd00::/64";
  const dnat = fc
    .record({
      hostAddress: fc.option(address, { nil: undefined }),
      ports,
      address,
      kind: fc.constantFrom("one", "same", "mapped"),
      port: fc.integer({ min: 1, max: 65_000 }),
      exceptFrom: fc.option(word, { nil: undefined }),
    })
    .map(({ kind, address: to, port, ...rest }): ContainerRule => {
      const isRange = rest.ports.last > rest.ports.first;
      const same = kind === "same" && isRange;
      const base = kind === "mapped" && isRange ? rest.ports.first : undefined;
      return { kind: "dnat", ...rest, to: { address: to, port: same ? undefined : port, base } };
    });
  const from = fc.oneof(
    fc.constant(subnet),
    address.map((one) => `${one}/${mask}`),
  );
  const by = word.filter((name) => name !== "lo");
  const source = fc.oneof(
    from.map((one) => ({ subnet: one, by: undefined })),
    by.map((name) => ({ subnet: undefined, by: name })),
    fc.record({ subnet: from, by }),
  );
  const sources = fc.array(source, { maxLength: 3 });
  const hostAddress = fc.option(address, { nil: undefined });
  const direction = fc.constantFrom("in" as const, "out" as const);
  const forwarded = fc.record({
    kind: fc.constant("allow-forwarded" as const),
    ...{ direction, hostAddress, ports, address, bridge: word, sources },
  });
  return fc.oneof(
    dnat,
    forwarded,
    fc.record({
      kind: fc.constant("allow-delivered" as const),
      ...{ direction, hostAddress, ports, sources },
      bridge: fc.option(word, { nil: undefined }),
    }),
    fc.record({
      kind: fc.constant("allow-direct" as const),
      ...{ direction, address, bridge: word, ports, sources },
    }),
    fc.record({ kind: fc.constant("direct-port-filter" as const), address, bridge: word, ports }),
    fc.record({ kind: fc.constant("direct-access-accept" as const), address, by: word }),
    fc.record({ kind: fc.constant("accept" as const), address, bridge: word, ports }),
    fc.record({ kind: fc.constant("direct-access-filter" as const), address, bridge: word }),
    fc.record({
      kind: fc.constant("hairpin" as const),
      source: fc.oneof(
        fc.constant(subnet),
        address.map((one) => `${one}/${mask}`),
      ),
      address,
      ports,
    }),
    fc.record({ kind: fc.constant("loopback-filter" as const), hostAddress: fc.constant("127.0.0.9"), ports }),
  );
}

test.each(FAMILIES)("what is written of %s is read back, from the fragment and from the kernel", (family) => {
  const property = fc.property(fc.array(ruleOf(family), { maxLength: 8 }), (rules) => {
    const written = renderRules(rules, family, { owner: "web", chain: "CHAIN" });
    const inFile = new Map(Object.entries(written));
    const inKernel = new Map(
      Object.entries(written).map(([table, lines]) => [table, lines.map(spellLive).map(readWords)]),
    );
    const inOrder = (["raw", "mangle", "nat", "filter"] as const).flatMap((table) =>
      rules.filter((rule) => tableOf(rule) === table),
    );
    expect(readMeaning(inFile)).toEqual(inOrder);
    expect(readMeaning(inKernel)).toEqual(inOrder);
  });
  fc.assert(property, RUNS);
});

test.each(FAMILIES)("what a fragment of %s claims is what its rules claim", (family) => {
  const property = fc.property(fc.array(ruleOf(family), { maxLength: 8 }), (rules) => {
    const written = renderRules(rules, family, { owner: "web", chain: "CHAIN" });
    const { ports: read, addresses } = readClaims(new Map(Object.entries(written)));
    const claims = claimsOf(rules);
    expect(read).toEqual(claims.ports);
    expect([...addresses].sort()).toEqual([...claims.addresses].sort());
  });
  fc.assert(property, RUNS);
});

function tableOf({ kind }: ContainerRule): "raw" | "mangle" | "nat" | "filter" {
  if (kind === "accept") return "filter";
  if (kind.startsWith("allow-") || kind === "direct-port-filter") return "mangle";
  return kind === "dnat" || kind === "hairpin" ? "nat" : "raw";
}

test.each([
  ["another target", "-A PREROUTING -d 172.17.0.2/32 ! -i br0 -j ACCEPT"],
  ["an accept from everywhere", "-A PREROUTING -d 172.17.0.2/32 -j ACCEPT"],
  ["an accept of one port", "-A PREROUTING -d 172.17.0.2/32 -i eth0 -p tcp -m tcp --dport 80 -j ACCEPT"],
  [
    "a match that is not ours",
    "-A FORWARD -d 172.17.0.2/32 ! -i br0 -o br0 -p tcp -m tcp --dport 80 -m mark --mark 1 -j ACCEPT",
  ],
  ["another bridge", "-A FORWARD -d 172.17.0.2/32 ! -i br1 -o br0 -p tcp -m tcp --dport 80 -j ACCEPT"],
  ["a whole subnet", "-A FORWARD -d 172.17.0.0/16 ! -i br0 -o br0 -p tcp -m tcp --dport 80 -j ACCEPT"],
])("a rule with %s has no meaning of ours", (_what, line) => {
  for (const table of ["raw", "mangle", "nat", "filter"])
    expect(readMeaning(new Map([[table, [readWords(line)]]]))).toEqual([]);
});
