// Arbitrary hosts with two containers, and what is said of who may connect to them, as it is written and as it is meant: the material
// of allow-properties.test.ts. Nothing here asks the code that reads or decides: subnets are numbers.

import fc from "fast-check";

export type Family = "ipv4" | "ipv6";

/** Some addresses of one family. */
export interface Subnet {
  family: Family;
  base: bigint;
  prefix: number;
}

/** A source as it is meant. */
export type Source = { subnet: Subnet } | { by: string } | { group: string } | { bad: string };

/** Ports as they are meant. */
export interface Key {
  address: string | undefined;
  first: number;
  last: number;
  protocol: string | undefined;
}

/** A list: under its key, or one that names no ports. */
export interface List {
  key: Key | { bad: string };
  sources: readonly Source[];
}

export interface Publish {
  hostIp: string;
  hostPort: number;
  containerPort: number;
  protocol: string;
}

export interface Said {
  own: readonly List[] | undefined;
  label: readonly List[];
}

/** A port of the container's own that Docker opens where a network routes. */
export interface Direct {
  family: Family;
  containerPort: number;
  protocol: string;
}

export interface Box extends Said {
  name: string;
  publishes: readonly Publish[];
  directs: readonly Direct[];
  /** The numbers of its networks. */
  networks: readonly number[];
}

export interface World {
  boxes: readonly Box[];
  host: readonly List[];
  groups: Readonly<Record<string, readonly Source[]>>;
  ipv6: boolean;
  guards: boolean;
  proxy: boolean;
  /** Docker before 20.10: a socket on 0.0.0.0 is one on [::], too, and is not listed for it. */
  dual: boolean;
  base: "ours" | "own" | "none";
  policy: "ACCEPT" | "DROP";
  /** Networks that have IPv6. */
  with6: readonly boolean[];
  /** Their gateway modes, and the interfaces that they trust. */
  modes: readonly (string | undefined)[];
  trusted: readonly (readonly string[])[];
}

const WIDTH: Record<Family, number> = { ipv4: 32, ipv6: 128 };

/** The number that an address is; IPv6 without dots. */
export function numberOf(address: string): bigint {
  if (!address.includes(":")) return address.split(".").reduce((sum, part) => sum * 256n + BigInt(part), 0n);
  const [front = "", back] = address.split("::");
  const words = (text: string) => (text === "" ? [] : text.split(":"));
  const [before, after] = [words(front), words(back ?? "")];
  const zeros = back === undefined ? 0 : 8 - before.length - after.length;
  const all = [...before, ...Array.from({ length: zeros }, () => "0"), ...after];
  return all.reduce((sum, word) => sum * 65_536n + BigInt(`0x${word}`), 0n);
}

/** Of IPv6 all words, none left out. */
export function addressOf(family: Family, number: bigint): string {
  const part = family === "ipv4" ? 8n : 16n;
  const count = family === "ipv4" ? 4 : 8;
  const parts = Array.from(
    { length: count },
    (_, at) => (number >> (part * BigInt(count - 1 - at))) & ((1n << part) - 1n),
  );
  return parts.map((one) => one.toString(family === "ipv4" ? 10 : 16)).join(family === "ipv4" ? "." : ":");
}

export function isIn({ family, base, prefix }: Subnet, number: bigint): boolean {
  const rest = BigInt(WIDTH[family] - prefix);
  return base >> rest === number >> rest;
}

/** Its first and its last address, and those that are just outside. */
export function edgesOf({ family, base, prefix }: Subnet): bigint[] {
  const size = 1n << BigInt(WIDTH[family] - prefix);
  const first = (base / size) * size;
  const all = 1n << BigInt(WIDTH[family]);
  return [first - 1n, first, first + size - 1n, first + size].filter((one) => one > 0n && one < all - 1n);
}

const subnet4 = fc.tuple(
  fc.constantFrom("203.0.113.8", "203.0.113.9", "10.0.0.1", "198.51.100.77", "172.22.0.9", "172.20.0.9", "10.8.0.5"),
  fc.constantFrom(0, 1, 8, 16, 24, 28, 31, 32),
);
const subnet6 = fc.tuple(
  fc.constantFrom("2001:db8:5::1", "2001:db8:5:1::9", "fd00:22::9", "fd00:20::9", "fe80::5", "fd08::5"),
  fc.constantFrom(0, 1, 10, 32, 48, 64, 127, 128),
);
const subnet = fc.oneof(subnet4, subnet6).map(([address, prefix]) => ({
  subnet: {
    family: address.includes(":") ? ("ipv6" as const) : ("ipv4" as const),
    base: numberOf(address),
    prefix,
  },
}));
const by = fc.constantFrom("eth0", "eth1", "wg0", "br-2", "lo", "absent0").map((name) => ({ by: name }));
const badSource = fc
  .constantFrom(
    ...["eth0.5", "wg+", "+", "-j", "--", "10.0.0.0/33", "$(reboot)", "@__proto__", "@nobody", "fe80::1%eth0", "1.2.3"],
    ...[
      "fe80::1%eth0/64",
      "::ffff:1.2.3.4",
      "example.org",
      "a".repeat(16),
      "10.0.0.1 -j ACCEPT",
      "!eth0",
      "٣.0.0.1",
      "@",
    ],
    ...["10.0.0.1\n-A FORWARD -j ACCEPT", "0x0a.0.0.1", "010.0.0.1", "::/129", "\0"],
  )
  .map((bad) => ({ bad }));
const plain = fc.oneof({ weight: 5, arbitrary: subnet }, { weight: 2, arbitrary: by });
const source: fc.Arbitrary<Source> = fc.oneof(
  { weight: 40, arbitrary: plain },
  { weight: 6, arbitrary: fc.constantFrom("office", "vpn").map((group) => ({ group })) },
  { weight: 1, arbitrary: badSource },
);

const PROTOCOLS = ["tcp", "udp", "sctp"] as const;
const ADDRESSES = ["192.0.2.10", "198.51.100.4", "2001:db8::10"];
const EVERY: Key = { address: undefined, first: 0, last: 65_535, protocol: undefined };

const key = (port: number) =>
  fc.oneof(
    { weight: 4, arbitrary: fc.constant(EVERY) },
    {
      weight: 16,
      arbitrary: fc
        .record({
          address: fc.oneof({ weight: 3, arbitrary: fc.constant(undefined) }, fc.constantFrom(...ADDRESSES)),
          first: fc.integer({ min: port, max: port + 4 }),
          count: fc.constantFrom(1, 1, 1, 2, 3),
          protocol: fc.constantFrom(undefined, undefined, ...PROTOCOLS),
        })
        .map(({ count, ...one }) => ({ ...one, last: one.first + count - 1 })),
    },
    {
      weight: 1,
      arbitrary: fc
        .constantFrom(
          "__proto__",
          "constructor",
          "0",
          "65536",
          "http",
          "80/icmp",
          "--",
          "80\n",
          "*/tcp",
          "0.0.0.0:80",
          "-j",
        )
        .map((bad) => ({ bad })),
    },
  );

const list = (port: number): fc.Arbitrary<List> =>
  fc
    .record({
      key: key(port),
      sources: fc.array(source, { maxLength: 4 }),
      strict: fc.constantFrom(true, true, true, false),
    })
    .map(({ key: ports, sources, strict }) => {
      // What an address cannot have is rare.
      if (!strict || "bad" in ports || ports.address === undefined) return { key: ports, sources };
      const family = familyOf(ports.address);
      return { key: ports, sources: sources.filter((one) => !("subnet" in one) || one.subnet.family === family) };
    });

export function familyOf(address: string): Family {
  return address.includes(":") ? "ipv6" : "ipv4";
}

const lists = (port: number) =>
  fc.uniqueArray(list(port), { maxLength: 4, selector: ({ key: one }) => JSON.stringify(one) });

const publishes = (port: number): fc.Arbitrary<readonly Publish[]> => {
  const ports = { hostPort: fc.integer({ min: port, max: port + 4 }), containerPort: fc.integer({ min: 80, max: 82 }) };
  const one = fc.record({
    ...ports,
    hostIp: fc.constantFrom(...ADDRESSES, "127.0.0.1", "0.0.0.0", "::"),
    protocol: fc.constantFrom(...PROTOCOLS),
  });
  /** As Docker publishes unless told otherwise. */
  const both = fc
    .record({ ...ports, protocol: fc.constantFrom(...PROTOCOLS), count: fc.constantFrom(1, 1, 3) })
    .map(({ count, hostPort, containerPort, protocol }) =>
      Array.from({ length: count }, (_, at) => ({
        hostPort: hostPort + at,
        containerPort: containerPort + at,
        protocol,
      })).flatMap((each) => ["0.0.0.0", "::"].map((hostIp) => ({ ...each, hostIp }))),
    );
  /** Each address its own socket, all for one port of the container's. */
  const apart = fc
    .record({ ...ports, protocol: fc.constantFrom(...PROTOCOLS) })
    .map((each) => ADDRESSES.map((hostIp) => ({ ...each, hostIp })));
  return fc
    .array(
      fc.oneof(
        one.map((each) => [each]),
        both,
        apart,
      ),
      { minLength: 1, maxLength: 4 },
    )
    .map((groups) => {
      const all = groups.flat();
      const taken = (a: Publish, b: Publish) =>
        a.hostPort === b.hostPort && a.protocol === b.protocol && familyOf(a.hostIp) === familyOf(b.hostIp);
      const isEvery = ({ hostIp }: Publish) => hostIp === "0.0.0.0" || hostIp === "::";
      // The kernel gives a port on every address to one socket alone.
      return all.filter(
        (each, at) =>
          !all
            .slice(0, at)
            .some((other) => taken(each, other) && (other.hostIp === each.hostIp || isEvery(other) || isEvery(each))),
      );
    });
};

const direct = (port: number): fc.Arbitrary<Direct> =>
  fc.record({
    family: fc.constantFrom("ipv4", "ipv6"),
    containerPort: fc.oneof(fc.integer({ min: port, max: port + 4 }), fc.integer({ min: 80, max: 82 })),
    protocol: fc.constantFrom("tcp", "udp"),
  });

const mode = fc.constantFrom(undefined, undefined, "nat-unprotected", "routed");
const trusted = fc.subarray(["eth0", "wg0"]);

const box = (name: string, port: number, networks: fc.Arbitrary<number[]>): fc.Arbitrary<Box> =>
  fc.record({
    name: fc.constant(name),
    publishes: publishes(port),
    directs: fc.array(direct(port), { maxLength: 2 }),
    networks,
    own: fc.option(lists(port), { nil: undefined, freq: 1 }),
    label: lists(port),
  });

export const world: fc.Arbitrary<World> = fc.record({
  boxes: fc.tuple(
    box("web", 8000, fc.constantFrom([0], [0], [0], [0, 1])),
    box("db", 8010, fc.constantFrom([0], [1], [1])),
  ),
  host: fc.oneof({ weight: 1, arbitrary: fc.constant([]) }, { weight: 3, arbitrary: lists(8000) }),
  groups: fc.record({ office: fc.array(plain, { maxLength: 3 }), vpn: fc.constant([{ by: "wg0" }]) }),
  ipv6: fc.boolean(),
  guards: fc.boolean(),
  proxy: fc.boolean(),
  dual: fc.boolean(),
  base: fc.constantFrom("ours", "own", "none"),
  policy: fc.constantFrom("ACCEPT", "ACCEPT", "DROP"),
  with6: fc.tuple(fc.boolean(), fc.boolean(), fc.constant(true)),
  modes: fc.tuple(mode, mode, mode),
  trusted: fc.tuple(trusted, trusted, trusted),
});

/** How a thing is written: in one way or in another that means the same. */
export type Spelling = "plain" | "odd";

export function spellSource(one: Source, spelling: Spelling): string {
  if ("bad" in one) return one.bad;
  if ("by" in one) return one.by;
  if ("group" in one) return `@${one.group}`;
  const { family, base, prefix } = one.subnet;
  const address = addressOf(family, base);
  if (spelling === "plain") return prefix === WIDTH[family] ? address : `${address}/${prefix}`;
  const rest = BigInt(WIDTH[family] - prefix);
  return `${addressOf(family, (base >> rest) << rest).toUpperCase()}/${prefix}`;
}

export function spellKey(ports: List["key"], spelling: Spelling): string {
  if ("bad" in ports) return ports.bad;
  const { address, first, last, protocol } = ports;
  if (last === 65_535) return "*";
  const odd = spelling === "odd";
  const spelled = (port: number) => (odd ? String(port).padStart(5, "0") : String(port));
  const host =
    address === undefined
      ? ""
      : familyOf(address) === "ipv4"
        ? `${address}:`
        : `[${odd ? addressOf("ipv6", numberOf(address)).toUpperCase() : address}]:`;
  const proto = protocol === undefined ? "" : `/${odd ? protocol.toUpperCase() : protocol}`;
  return `${host}${first === last && !odd ? spelled(first) : `${spelled(first)}-${spelled(last)}`}${proto}`;
}

/** As a dictionary; the odd one in another order, and with each source twice. */
export function spellLists(all: readonly List[], spelling: Spelling): Record<string, string[]> {
  const ordered = spelling === "odd" ? [...all].reverse() : all;
  return Object.fromEntries(
    ordered.map((one) => {
      const words = one.sources.map((each) => spellSource(each, spelling));
      return [spellKey(one.key, spelling), spelling === "odd" ? [...words, ...words].reverse() : words];
    }),
  );
}
