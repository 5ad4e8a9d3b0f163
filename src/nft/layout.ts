// The table of our own in nftables, without what containers and networks put into it: its sets, its maps, its chains. Pure.
//
// A packet's way is a number of look-ups, the same for one published port and for ten thousand: what differs from container to container,
// and from network to network, is elements (elements.ts), and the rules never change. Where ports are ranges, or addresses subnets, the
// look-up is in a second set, of intervals; the first is a hash.
//
//   -300   prerouting   what comes to a container's own address, or to a loopback address, by a wrong interface is dropped
//   -150   forward      who may connect: lists of what a DNAT sends, and of what comes to a container's own address
//          input        lists of what docker-proxy would answer; output: its answers
//   -105   prerouting   published ports: DNAT
//          output       the same for what the host itself sends
//      0   forward      internal networks; replies; published ports; ICMP, the rest; what containers send
//     95   postrouting  hairpin, masquerade, SNAT
//
// The priorities are those of raw, mangle, dstnat, filter and srcnat, but that the NAT chains stand 5 before those of iptables-nft: of two at one priority the one that was registered last is asked first, which is
// chance (tried, 6.18). It ends as Docker 29 does with iptables (test/lab/matrix). nft 1.0.6 reads all of it.

import { FAMILIES, type Family, PROTOCOLS } from "../model/family.ts";

export const TABLE = "docker_iptables";
/** The table as nft's commands name it. */
export const TABLE_WORDS = `inet ${TABLE}`;

/** What a field of a key is. */
export type Field = "address" | "interface" | "protocol" | "port";

/** A set or a map, of one family. */
export interface NftObject {
  key: readonly Field[];
  /** What a map leads to: an address and its port, an address, a chain or a verdict. A set leads nowhere. */
  value?: "address . port" | "address" | "verdict";
  /** Whether ports may be ranges, and addresses subnets. */
  interval?: true;
}

const PORT: readonly Field[] = ["protocol", "port"];
const AT_PORT: readonly Field[] = ["address", ...PORT];

/**
 * The sets and maps of each family, by name without the family's digit. `_at`: of one address of the host; `_range`: the same with ranges.
 */
export const OBJECTS = {
  // Ports of the host that lead to a container. A range keeps its ports.
  publish: { key: PORT, value: "address . port" },
  publish_range: { key: PORT, value: "address", interval: true },
  publish_at: { key: AT_PORT, value: "address . port" },
  publish_at_range: { key: AT_PORT, value: "address", interval: true },
  // By which interface such a port is left to docker-proxy.
  proxied: { key: ["interface", ...PORT] },
  proxied_range: { key: ["interface", ...PORT], interval: true },
  proxied_at: { key: ["interface", ...AT_PORT] },
  proxied_at_range: { key: ["interface", ...AT_PORT], interval: true },
  // By which bridge which port of which container is open.
  open: { key: ["interface", ...AT_PORT] },
  open_range: { key: ["interface", ...AT_PORT], interval: true },
  // Containers' addresses that nobody may address, but by these interfaces.
  guarded: { key: ["address"] },
  near: { key: ["interface", "address"] },
  // Ports of loopback addresses, which only the host itself may address.
  loopback: { key: AT_PORT },
  loopback_range: { key: AT_PORT, interval: true },
  // From where to which port of a container the sender is masqueraded.
  hairpin: { key: ["address", ...AT_PORT] },
  hairpin_range: { key: ["address", ...AT_PORT], interval: true },
  // Who may connect: to which chain a packet goes. By bridge and address of the container, and the port of the host that was asked for.
  listed: { key: ["interface", ...AT_PORT], value: "verdict", interval: true },
  listed_at: { key: ["interface", "address", ...AT_PORT], value: "verdict", interval: true },
  listed_reply: { key: ["interface", ...AT_PORT], value: "verdict", interval: true },
  listed_at_reply: { key: ["interface", "address", ...AT_PORT], value: "verdict", interval: true },
  // By the container's own port.
  direct: { key: ["interface", ...AT_PORT], value: "verdict", interval: true },
  direct_reply: { key: ["interface", ...AT_PORT], value: "verdict", interval: true },
  // By the port of the host, where a process of the host's has it; and the interfaces that are not asked.
  delivered: { key: PORT, value: "verdict", interval: true },
  delivered_at: { key: AT_PORT, value: "verdict", interval: true },
  inside: { key: ["interface", ...PORT], interval: true },
  inside_at: { key: ["interface", ...AT_PORT], interval: true },
  sent: { key: PORT, value: "verdict", interval: true },
  sent_at: { key: AT_PORT, value: "verdict", interval: true },
  // Networks, by their bridge.
  same: { key: ["interface", "interface"] },
  internal: { key: ["interface"] },
  replies: { key: ["interface"] },
  icmp: { key: ["interface"] },
  unprotected: { key: ["interface"] },
  closed: { key: ["interface"] },
  isolated: { key: ["interface"] },
  outgoing: { key: ["interface"] },
  // Networks, by their subnet: what leaves them by another interface gets the host's address, or this one.
  within: { key: ["address", "interface"], interval: true },
  masquerade: { key: ["address"], interval: true },
  source: { key: ["address"], value: "address", interval: true },
  // What the host sends from a loopback address to their containers.
  masquerade_host: { key: ["interface"] },
  source_host: { key: ["interface"], value: "address" },
} as const satisfies Record<string, NftObject>;

export type ObjectName = keyof typeof OBJECTS;

const NETWORKS = new Set<ObjectName>([
  ...(["same", "internal", "replies", "icmp", "unprotected", "closed", "isolated", "outgoing"] as const),
  ...(["within", "masquerade", "source", "masquerade_host", "source_host"] as const),
]);

/** Those that only containers' fragments put something into. */
export const CONTAINER_OBJECTS = (Object.keys(OBJECTS) as ObjectName[]).filter((name) => !NETWORKS.has(name));

const DIGIT: Record<Family, "4" | "6"> = { ipv4: "4", ipv6: "6" };

/** As the kernel has it: "publish4". */
export function nameOf(object: ObjectName, family: Family): string {
  return object + DIGIT[family];
}

/** The chain of a list, and with what its sets' names begin. */
export function listName(family: Family, hash: string): string {
  return `allow${DIGIT[family]}_${hash}`;
}

/** Whose a set, a map or a chain is by its name; undefined of what is for both. */
export function familyOfName(name: string): Family | undefined {
  const [, list, last] = /^allow([46])_|([46])$/.exec(name) ?? [];
  return FAMILIES.find((family) => DIGIT[family] === (list ?? last));
}

/** What the host as a whole is like. */
export interface LayoutOptions {
  /** Whether docker-proxy serves the host's loopback addresses, which then no DNAT takes. */
  proxy: boolean;
}

/** A chain of ours. */
interface Chain {
  name: string;
  /** `nat prerouting -105 accept`: type, hook, priority, policy; undefined: another chain leads to it. */
  hook?: string;
  rules: readonly string[];
}

/** The sets and maps, with the types of their keys and values as nft declares them. */
export function declarationsOf(family: Family): { kind: "set" | "map"; name: string; type: string }[] {
  return Object.entries<NftObject>(OBJECTS).map(([object, { key, value, interval }]) => {
    const types = key.map((field) => TYPES[field](family)).join(" . ");
    const leads = value === undefined ? "" : ` : ${VALUES[value](family)}`;
    const type = `${types}${leads}${interval ? "; flags interval" : ""}`;
    return { kind: value === undefined ? "set" : "map", name: object + DIGIT[family], type };
  });
}

const ADDRESS_TYPE: Record<Family, string> = { ipv4: "ipv4_addr", ipv6: "ipv6_addr" };

const TYPES: Record<Field, (family: Family) => string> = {
  address: (family) => ADDRESS_TYPE[family],
  interface: () => "ifname",
  protocol: () => "inet_proto",
  port: () => "inet_service",
};

const VALUES = {
  "address . port": (family: Family) => `${ADDRESS_TYPE[family]} . inet_service`,
  address: (family: Family) => ADDRESS_TYPE[family],
  verdict: () => "verdict",
};

/** The same of both families, by name. */
export function declared(): ReadonlyMap<string, { kind: "set" | "map"; type: string }> {
  all ??= new Map(FAMILIES.flatMap(declarationsOf).map(({ name, ...one }) => [name, one]));
  return all;
}

let all: ReturnType<typeof declared> | undefined;

/** All chains, those before the others to which they lead. */
export function chainsOf(families: readonly Family[], options: LayoutOptions): Chain[] {
  const both = (chain: string, match = "") =>
    families.map((family) => `${match}meta nfproto ${family} jump ${chain}${DIGIT[family]}`);
  const own = families.flatMap((family) =>
    Object.entries(rulesOf(family)).map(([name, rules]) => ({ name: name + DIGIT[family], rules })),
  );
  return [
    ...own,
    { name: "raw_prerouting", hook: "filter prerouting -300 accept", rules: both("raw") },
    { name: "lists_forward", hook: "filter forward -150 accept", rules: both("lists_forward") },
    { name: "lists_input", hook: "filter input -150 accept", rules: both("lists_input") },
    { name: "lists_output", hook: "filter output -150 accept", rules: both("lists_output") },
    {
      name: "nat_prerouting",
      hook: "nat prerouting -105 accept",
      rules: both("publish", "fib daddr type local "),
    },
    {
      name: "nat_output",
      hook: "nat output -105 accept",
      rules: [
        ...(options.proxy ? families.map((family) => `${IP[family]} daddr ${LOOPBACK[family]} return`) : []),
        ...both("publish", "fib daddr type local "),
      ],
    },
    { name: "filter_forward", hook: "filter forward 0 accept", rules: both("forward") },
    { name: "nat_postrouting", hook: "nat postrouting 95 accept", rules: both("postrouting") },
  ];
}

const IP: Record<Family, "ip" | "ip6"> = { ipv4: "ip", ipv6: "ip6" };
const LOOPBACK: Record<Family, string> = { ipv4: "127.0.0.0/8", ipv6: "::1" };
const ICMP: Record<Family, string> = { ipv4: "icmp", ipv6: "ipv6-icmp" };

function rulesOf(family: Family): Record<string, readonly string[]> {
  const n = DIGIT[family];
  const ip = IP[family];
  const crossing = `iifname . oifname != @same${n}`;
  const asked = `meta l4proto . th dport`;
  const answering = `meta l4proto . th sport`;
  /** A DNAT's map, and what conntrack knows of ports, are read for one protocol each (1.0.6). */
  const each = (rule: (protocol: string) => string) => PROTOCOLS.map(rule);
  return {
    raw: [
      `${ip} daddr @guarded${n} iifname . ${ip} daddr != @near${n} drop`,
      `iifname != "lo" ${ip} daddr . ${asked} @loopback${n} drop`,
      `iifname != "lo" ${ip} daddr . ${asked} @loopback_range${n} drop`,
    ],
    // Two ports of the host may lead to one of a container, and the kernel may take another one of a DNAT's range: conntrack knows to
    // which port a connection came. A list returns what may pass.
    lists_forward: [
      `${crossing} ct status dnat jump translated${n}`,
      `${crossing} ct status ! dnat ct direction original oifname . ${ip} daddr . ${asked} vmap @direct${n}`,
      `${crossing} ct status ! dnat ct direction reply iifname . ${ip} saddr . ${answering} vmap @direct_reply${n}`,
    ],
    translated: (["listed", "listed_at"] as const).flatMap((name) => {
      const host = name === "listed_at" ? `ct original ${ip} daddr . ` : "";
      const to = (protocol: string, bridge: string, address: string) =>
        `meta l4proto ${protocol} ${bridge} . ${host}${ip} ${address} . meta l4proto . ct original proto-dst`;
      return [
        ...each((protocol) => `ct direction original ${to(protocol, "oifname", "daddr")} vmap @${name}${n}`),
        ...each((protocol) => `ct direction reply ${to(protocol, "iifname", "saddr")} vmap @${name}_reply${n}`),
      ];
    }),
    lists_input: [
      `iifname . ${asked} != @inside${n} ${asked} vmap @delivered${n}`,
      `iifname . ${ip} daddr . ${asked} != @inside_at${n} ${ip} daddr . ${asked} vmap @delivered_at${n}`,
    ],
    lists_output: [
      `oifname . ${answering} != @inside${n} ${answering} vmap @sent${n}`,
      `oifname . ${ip} saddr . ${answering} != @inside_at${n} ${ip} saddr . ${answering} vmap @sent_at${n}`,
    ],
    publish: [
      // Link-local clients cannot be answered through a DNAT: the reply would leave by another interface (Docker's rule).
      ...(family === "ipv6" ? ["ip6 saddr fe80::/10 return"] : []),
      ...["publish_at", "publish"].flatMap((name) => {
        const address = name === "publish_at" ? `${ip} daddr . ` : "";
        const proxied = name.replace("publish", "proxied");
        return ["", "_range"].flatMap((range) => [
          `iifname . ${address}${asked} @${proxied}${range}${n} return`,
          ...each(
            (protocol) =>
              `meta l4proto ${protocol} dnat ${ip} to ${address}meta l4proto . ${protocol} dport map @${name}${range}${n}`,
          ),
        ]);
      }),
    ],
    // Every network's drops come before any network's accept, or one's containers would reach the unpublished ports of another's.
    forward: [
      `${crossing} oifname @internal${n} drop`,
      `${crossing} iifname @internal${n} drop`,
      `oifname @replies${n} ct state established,related accept`,
      `${crossing} oifname . ${ip} daddr . ${asked} @open${n} accept`,
      `${crossing} oifname . ${ip} daddr . ${asked} @open_range${n} accept`,
      `oifname @icmp${n} meta l4proto ${ICMP[family]} accept`,
      `${crossing} oifname @unprotected${n} accept`,
      `${crossing} oifname @closed${n} drop`,
      `iifname @isolated${n} iifname . oifname @same${n} drop`,
      `iifname @outgoing${n} accept`,
    ],
    postrouting: [
      `${ip} saddr . ${ip} daddr . ${asked} @hairpin${n} masquerade`,
      `${ip} saddr . ${ip} daddr . ${asked} @hairpin_range${n} masquerade`,
      `${ip} saddr @masquerade${n} ${ip} saddr . oifname != @within${n} masquerade`,
      `${ip} saddr . oifname != @within${n} snat ${ip} to ${ip} saddr map @source${n}`,
      `oifname @masquerade_host${n} fib saddr type local masquerade`,
      `fib saddr type local snat ${ip} to oifname map @source_host${n}`,
    ],
  };
}
