// A host made up, with more interfaces than one: containers, their rules as a kernel has them, and others' before them.

import { readContainer } from "../../src/docker/container.ts";
import { readNetwork } from "../../src/docker/network.ts";
import { locate } from "../../src/docker/published.ts";
import { writeFragment } from "../../src/iptables/fragment-text.ts";
import { compareLive, readLive } from "../../src/iptables/live.ts";
import { ruleWith } from "../../src/iptables/packet.ts";
import type { PacketHost } from "../../src/iptables/trace.ts";
import type { Allow } from "../../src/model/allow.ts";
import { decide } from "../../src/model/decided-lists.ts";
import { fileOf, spellOwner } from "../../src/model/owner.ts";
import type { Item } from "../../src/plan/item.ts";
import { makeContainerRules } from "../../src/rules/container-rules.ts";
import { containerFragment } from "../../src/rules/desired-fragment.ts";

const SUBNETS = [
  { name: "lo", cidr: "127.0.0.1/8" },
  { name: "eth0", cidr: "192.0.2.1/24" },
  { name: "br0", cidr: "172.17.0.1/16" },
];
export const NETWORK = readNetwork({
  Name: "bridge",
  Driver: "bridge",
  Options: { "com.docker.network.bridge.name": "br0" },
});
const WISHES = { chain: "DOCKER_CONTAINERS", ipv6: false, guards: true };

export function targetOf(name: string, address: string, HostPort = "8080") {
  const container = readContainer({
    Name: `/${name}`,
    State: { Running: true },
    NetworkSettings: {
      Ports: { "80/tcp": [{ HostIp: "0.0.0.0", HostPort }] },
      Networks: { bridge: { IPAddress: address, Gateway: "172.17.0.1" } },
    },
  });
  const names = new Set(SUBNETS.map((one) => one.name));
  return locate(container, [NETWORK], { names, subnets: SUBNETS, routes: [], hasIpv6: true });
}

export interface Rules {
  mangle?: string[];
  nat?: string[];
  filter?: string[];
  raw?: string[];
}

/** A kernel with the rules of these containers, in this order, and others before them. */
export function hostWith(targets: ReturnType<typeof targetOf>[], before: Rules = {}, allow: Allow = {}) {
  const fragments = targets.map((target) => {
    const { rules: meaning } = makeContainerRules(
      target,
      WISHES,
      decide({ own: allow }, {}, target.publishes).allowedTo,
    );
    const one = containerFragment(target.name, { meaning, chain: WISHES.chain });
    return { ...one, ...writeFragment(one) };
  });
  const own = (table: "raw" | "mangle" | "nat" | "filter") =>
    fragments
      .flatMap(({ rules }) => rules.ipv4[table] ?? [])
      .map((rule) => rule.map((word) => (word.includes(" ") ? `"${word}"` : word)).join(" "));
  const text = [
    ...["*raw", ":PREROUTING ACCEPT [0:0]", ...(before.raw ?? []), ...own("raw"), "COMMIT"],
    ...["*mangle", ":FORWARD ACCEPT [0:0]", ":INPUT ACCEPT [0:0]"],
    ...fragments.flatMap(({ texts }) => texts.ipv4?.match(/^:ALLOW.*$/gm) ?? []),
    ...[...(before.mangle ?? []), ...own("mangle"), "COMMIT"],
    ...["*nat", ":PREROUTING ACCEPT [0:0]", ":OUTPUT ACCEPT [0:0]", ":DOCKER_CONTAINERS - [0:0]"],
    "-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER_CONTAINERS",
    ...[...(before.nat ?? []), ...own("nat"), "COMMIT"],
    ...["*filter", ":FORWARD ACCEPT [0:0]", ...(before.filter ?? []), ...own("filter"), "COMMIT", ""],
  ].join("\n");
  const live = readLive(text);
  const isLocal = (address: string) => SUBNETS.some(({ cidr }) => cidr.startsWith(`${address}/`));
  const host: PacketHost = {
    rulings: { ipv4: ruleWith(live, isLocal) },
    subnets: SUBNETS,
    proxies: [],
    routed: new Set(),
    filtered: new Set(),
  };
  const items = fragments.map(({ owner, rules, meaning, texts }): Item => {
    const wanted = new Map(Object.entries(rules.ipv4));
    const path = `/etc/iptables.d/${fileOf(owner)}`;
    const former = new Map();
    const drift = compareLive(spellOwner(owner), wanted, former, live);
    return {
      owner,
      family: "ipv4",
      path,
      before: undefined,
      after: texts.ipv4,
      fragment: texts.ipv4,
      former,
      wanted,
      meaning: meaning.ipv4,
      drift,
    };
  });
  const now = {
    ipv4: fragments.map(({ owner, texts }) => ({ path: `/etc/iptables.d/${fileOf(owner)}`, text: texts.ipv4 ?? "" })),
  };
  return { host, items, now, live: { ipv4: live } };
}
