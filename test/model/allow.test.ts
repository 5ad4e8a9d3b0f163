// Who may connect: what is written, and which list decides about a publish.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type AllowList, keysWithout, listFor, readAllow } from "../../src/model/allow.ts";
import { decide } from "../../src/model/decided-lists.ts";
import { Failure } from "../../src/model/errors.ts";
import type { Protocol } from "../../src/model/family.ts";
import { narrowed, type Source, sourcesIn, spellSource, spellSources } from "../../src/model/sources.ts";

const GROUPS = { office: ["203.0.113.0/24", "2001:db8:5::/48"], vpn: ["wg0"] };
const read = (allow: Record<string, string[]>) => readAllow(allow, GROUPS);

function publish(text: string) {
  const [, address, port, protocol] = /^(?:(.+):)?(\d+)\/(\w+)$/.exec(text) ?? [];
  return { hostAddress: address, hostPort: Number(port), protocol: protocol as Protocol };
}

const decides = (lists: readonly AllowList[], text: string) => listFor(publish(text), lists)?.key;

function refusal(allow: Record<string, string[]>): string {
  try {
    read(allow);
  } catch (error) {
    if (error instanceof Failure && error.code === "arguments_invalid") return error.message;
    throw error;
  }
  throw new Error("it is taken");
}

describe("sources", () => {
  test.each([
    ["10.0.0.7", ["10.0.0.7/32"]],
    ["10.1.2.3/8", ["10.0.0.0/8"]],
    ["2001:DB8::1", ["2001:db8::1/128"]],
    ["2001:db8::1/32", ["2001:db8::/32"]],
    ["::/0", ["::/0"]],
    ["wg0", ["wg0"]],
    ["br-0123456789ab", ["br-0123456789ab"]],
    ["@office", ["203.0.113.0/24", "2001:db8:5::/48"]],
    ["@vpn", ["wg0"]],
  ])("%s", (word, sources) => {
    const [list] = read({ "80": [word] });
    expect(list?.sources.map(spellSource)).toEqual(sources);
  });

  test.each([
    "10.0.0.256",
    "10.0.0",
    "10.0.0.0/33",
    "010.0.0.1/8x",
    "10.0.0.0/-1",
    "2001:db8::g",
    "fe80::1%eth0",
    "fe80::1%eth0/64",
    "fe80::%1/10",
    "::ffff:192.0.2.1",
    "::FFFF:c000:0201",
    "::ffff:192.0.2.0/120",
    // iptables prints it as ::1.2.3.4.
    "::102:304",
    "::a:0/112",
    "٣.0.0.1",
    "10.0.0.0/８",
    "::1/129",
    "office.example.com",
    "eth0.100",
    "an-interface-with-a-long-name",
    "wg+",
    "-j",
    "",
    " ",
    "10.0.0.1 -j ACCEPT",
    "10.0.0.1\n-A",
    "!10.0.0.1",
    "@",
    "@nobody",
    "@__proto__",
    "@toString",
  ])("%j is none", (word) => {
    expect(refusal({ "80": [word] })).toMatch(/which is no (source|group): /);
  });

  test("what comes by the loopback interface is the host's own, and no source", () => {
    expect(sourcesIn(read({ "80": ["lo"] })[0]?.sources ?? [], "ipv4")).toEqual([]);
  });

  test("a group has no groups", () => {
    expect(() => readAllow({ "80": ["@all"] }, { ...GROUPS, all: ["@office"] })).toThrow(/'@all' allows '@office'/);
  });

  test("those of a family that the key's address cannot have", () => {
    expect(refusal({ "192.0.2.1:80": ["2001:db8::/32"] })).toContain("2001:db8::/32, whose family");
    expect(refusal({ "[2001:db8::1]:80": ["10.0.0.0/8"] })).toContain("10.0.0.0/8, whose family");
    expect(refusal({ "192.0.2.1:80": ["@office", "::/0"] })).toContain("::/0, whose family");
    expect(read({ "192.0.2.1:80": ["@office"] })).toHaveLength(1);
  });

  test("in words, of each family", () => {
    const [list] = read({ "*": ["@office", "wg0"] });
    expect(spellSources(sourcesIn(list?.sources ?? [], "ipv4"))).toBe("203.0.113.0/24, wg0");
    expect(spellSources(sourcesIn(list?.sources ?? [], "ipv6"))).toBe("2001:db8:5::/48, wg0");
    expect(spellSources([])).toBe("this host");
    const many = Array.from({ length: 22 }, (_, index) => ({ subnet: `192.0.2.${index}/32`, by: undefined }));
    expect(spellSources(many)).toMatch(/^192\.0\.2\.0\/32, .*192\.0\.2\.19\/32, 2 more$/);
  });
});

describe("keys", () => {
  test.each([
    "",
    "http",
    "0",
    "65536",
    "90-80",
    "80-",
    "-80",
    "80/icmp",
    "80/",
    "192.0.2.1",
    "192.0.2.256:80",
    "2001:db8::1:80",
    "[192.0.2.1]:80",
    "[2001:db8::g]:80",
    "[fe80::1%eth0]:80",
    "0.0.0.0:80",
    "[::]:80",
    "[::ffff:192.0.2.1]:80",
    "８０",
    "*/tcp",
    "**",
    "80 ",
    "80,443",
    "__proto__x",
  ])("%j names no ports", (key) => {
    expect(refusal({ [key]: [] })).toContain("names no ports");
  });

  test("the most exact decides: an address, fewer ports, a protocol", () => {
    const lists = read({
      "*": [],
      "8000-8999": ["10.0.0.1"],
      "8000-8999/tcp": ["10.0.0.2"],
      "8080": ["10.0.0.3"],
      "8080/tcp": ["10.0.0.4"],
      "192.0.2.1:8000-8999": ["10.0.0.5"],
      "192.0.2.1:8080/udp": ["10.0.0.6"],
    });
    expect(decides(lists, "8080/tcp")).toBe("8080/tcp");
    expect(decides(lists, "8080/udp")).toBe("8080");
    expect(decides(lists, "8081/tcp")).toBe("8000-8999/tcp");
    expect(decides(lists, "8081/sctp")).toBe("8000-8999");
    expect(decides(lists, "192.0.2.1:8080/tcp")).toBe("192.0.2.1:8000-8999");
    expect(decides(lists, "192.0.2.1:8080/udp")).toBe("192.0.2.1:8080/udp");
    expect(decides(lists, "192.0.2.2:8080/tcp")).toBe("8080/tcp");
    expect(decides(lists, "443/tcp")).toBe("*");
    expect(decides(read({ "8080": [] }), "443/tcp")).toBeUndefined();
  });

  test.each([
    [["8080", "08080"]],
    [["8000-8009", "8005-8014"]],
    [["8080/tcp", "8080/TCP"]],
    [["[2001:db8::1]:80", "[2001:DB8:0::1]:80"]],
    [["192.0.2.1:80", "192.0.2.1:80-80"]],
  ])("%j: neither is more exact", (keys) => {
    expect(refusal(Object.fromEntries(keys.map((key) => [key, []])))).toContain("neither is more exact");
  });

  test("those that are about none of the publishes", () => {
    const publishes = ["8080/tcp", "192.0.2.1:53/udp"].map((text) => ({
      ...publish(text),
      family: "ipv4" as const,
      containerPort: 1,
    }));
    const lists = read({ "*": [], "8080": [], "8081": [], "53/tcp": [], "192.0.2.1:1-100": [], "192.0.2.2:53": [] });
    expect(keysWithout(publishes, lists)).toEqual(["8081", "53/tcp", "192.0.2.2:53"]);
  });

  test("the order in which they are written is without effect", () => {
    const port = fc.integer({ min: 1, max: 6 });
    const key = fc
      .tuple(fc.constantFrom("", "192.0.2.1:", "192.0.2.2:"), port, port, fc.constantFrom("", "/tcp", "/udp"))
      .map(([address, a, b, protocol]) => `${address}${Math.min(a, b)}-${Math.max(a, b)}${protocol}`);
    const one = fc.record({
      hostAddress: fc.constantFrom(undefined, "192.0.2.1", "192.0.2.3"),
      hostPort: port,
      protocol: fc.constantFrom("tcp" as const, "udp" as const),
    });
    fc.assert(
      fc.property(fc.uniqueArray(key, { maxLength: 6 }), fc.infiniteStream(fc.nat()), one, (keys, order, publish) => {
        const ranked = keys.map((text) => [order.next().value, text] as const).sort(([a], [b]) => a - b);
        const answers = [keys, ranked.map(([, text]) => text)].map((some) => {
          try {
            return listFor(publish, read(Object.fromEntries(some.map((text) => [text, []]))))?.key;
          } catch {
            return "refused";
          }
        });
        expect(answers[0]).toBe(answers[1]);
      }),
    );
  });
});

describe("lists", () => {
  const BITS = 4;
  /** A host of a small world: an address of few bits, and an interface. */
  const arrival = fc.record({ address: fc.nat({ max: 2 ** BITS - 1 }), by: fc.constantFrom("eth0", "wg0", "wg1") });
  const source: fc.Arbitrary<Source> = fc.record({
    subnet: fc.option(
      fc
        .tuple(fc.nat({ max: 2 ** BITS - 1 }), fc.integer({ min: 32 - BITS, max: 32 }))
        .map(([host, prefix]) => `10.0.0.${host & (~0 << (32 - prefix))}/${prefix}`),
      { nil: undefined },
    ),
    by: fc.option(fc.constantFrom("eth0", "wg0"), { nil: undefined }),
  });
  const list = fc.array(source, { maxLength: 5 });
  const isFrom = (sources: readonly Source[], one: { address: number; by: string }) =>
    sources.some(({ subnet, by }) => {
      const [, host = "0", prefix = "0"] = /^10\.0\.0\.(\d+)\/(\d+)$/.exec(subnet ?? "") ?? [];
      const shift = 32 - Number(prefix);
      const isWithin = subnet === undefined || one.address >> shift === Number(host) >> shift;
      return isWithin && (by === undefined || by === one.by);
    });

  test("in order, each once, they are the same sources", () => {
    fc.assert(
      fc.property(list, arrival, (sources, one) => {
        const shorter = sourcesIn(sources, "ipv4");
        expect(isFrom(shorter, one)).toBe(isFrom(sources, one));
        expect(sourcesIn([...sources].reverse(), "ipv4")).toEqual(shorter);
        expect(sourcesIn(shorter, "ipv4")).toEqual(shorter);
      }),
    );
  });

  test("narrowed: what both have; what is beyond is named", () => {
    fc.assert(
      fc.property(list, list, arrival, (one, within, from) => {
        const { sources, beyond } = narrowed(one, within);
        expect(isFrom(sources, from)).toBe(isFrom(one, from) && isFrom(within, from));
        if (isFrom(one, from) && !isFrom(within, from)) expect(isFrom(beyond, from)).toBe(true);
      }),
    );
  });
});

describe("what others choose has a limit", () => {
  const publish = {
    family: "ipv4",
    hostAddress: undefined,
    protocol: "tcp",
    hostPort: 8080,
    containerPort: 80,
  } as const;
  const words = (count: number) => Array.from({ length: count }, (_, index) => `if${index}`);

  test("a label with more ports and sources closes; an argument has none", () => {
    const label = { "8080": words(2001) };
    const decided = decide({ label }, {}, [publish]);
    expect(decided.closed?.what).toMatch(
      /^all ports are closed .* in its label, there are more than 2000 ports and sources$/,
    );
    expect(decided.allowedTo(publish)).toEqual([]);
    expect(decide({ own: label }, {}, [publish]).allowedTo(publish)).toHaveLength(2001);
  });

  test("a label that makes too many pairs with the settings lets nobody in, in a short sentence", () => {
    const host = { "*": Array.from({ length: 250 }, (_, index) => `10.${index}.0.0/16`) };
    const { allowedTo, told } = decide({ label: { "8080": words(100) }, host }, {}, [publish]);
    expect(allowedTo(publish)).toEqual([]);
    expect(told).toEqual([
      expect.stringMatching(/^its label for 8080 allows if0, .*, 80 more, which the settings do not$/),
    ]);
  });

  test("a label's key about none of its ports counts where a port is open to everyone; an image's does not", () => {
    const label = { "8081": [] };
    expect(decide({ label }, {}, [publish]).idle).toEqual(["8081"]);
    expect(decide({ image: label }, {}, [publish]).idle).toEqual([]);
    for (const said of [
      { label, own: { "8080": [] } },
      { label: { ...label, "8080": ["10.0.0.0/8"] } },
      { label, image: { "*": [] } },
      { label, host: { "*": ["10.0.0.0/8"] } },
    ])
      expect([said, decide(said, {}, [publish]).idle]).toEqual([said, []]);
    expect(decide({ label }, {}, []).idle).toEqual([]);
  });

  test("keys about none of its ports are one sentence", () => {
    const label = Object.fromEntries(Array.from({ length: 30 }, (_, index) => [String(1000 + index), []]));
    expect(decide({ label }, {}, [publish]).told).toEqual([
      expect.stringMatching(/1019, 10 more is about none of its ports$/),
    ]);
  });
});

describe("where a network routes, a key about none of the container's ports may be about the port that was asked for", () => {
  const port = (containerPort: number) =>
    ({ family: "ipv4", hostAddress: undefined, hostPort: containerPort, containerPort, protocol: "tcp" }) as const;
  const [http, https] = [port(80), port(443)];
  const label = { "8080": ["10.0.0.0/8"] };

  test("what has no list is closed, and it is said what to name", () => {
    const { allowedTo, closed } = decide({ label }, {}, [http, https], true);
    expect([allowedTo(http), allowedTo(https)]).toEqual([[], []]);
    expect(closed).toEqual({
      what: expect.stringContaining("a list for 8080 is about none of its ports"),
      hint: "name the container's port in the list",
    });
    // Elsewhere it is a port that the container does not publish.
    expect(decide({ label }, {}, [http, https]).allowedTo(http)).toBeUndefined();
  });

  test("what has a list keeps it, and the settings open nothing", () => {
    const said = { own: { "443": ["192.0.2.0/24"] }, label, host: { "*": ["198.51.100.0/24"] } };
    const { allowedTo, closed } = decide(said, {}, [http, https], true);
    expect(allowedTo(https)).toEqual([{ subnet: "192.0.2.0/24", by: undefined }]);
    expect(allowedTo(http)).toEqual([]);
    expect(closed).toBeDefined();
    const all = decide({ label: { ...label, "*": ["wg0"] } }, {}, [http, https], true);
    expect(all.allowedTo(http)).toEqual([{ subnet: undefined, by: "wg0" }]);
    expect(all.closed).toBeUndefined();
  });

  test("nor does a key of an earlier call", () => {
    const { allowedTo, closed, unused } = decide({ own: label }, {}, [http], true);
    expect([allowedTo(http), unused]).toEqual([[], ["8080"]]);
    expect(closed).toBeDefined();
  });
});
