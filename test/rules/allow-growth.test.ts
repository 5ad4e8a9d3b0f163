// Lists that are long, and many: work grows in proportion to ranges times sources, wherever they come from. An image's labels may hold
// as much as their author likes, and watch reads them.

import { expect, test } from "vitest";
import type { PublishedContainer } from "../../src/docker/published.ts";
import { readFragment, writeFragment } from "../../src/iptables/fragment-text.ts";
import { readMeaning } from "../../src/iptables/read.ts";
import { type Allow, readAllow } from "../../src/model/allow.ts";
import { narrowed, sourcesIn } from "../../src/model/sources.ts";
import { fragmentFor } from "../../src/plan/desired.ts";
import { growth, SQUARE } from "../iptables/growth.ts";

/** So many addresses, no two of which are one subnet, in no order. */
const addresses = (count: number, first = 10) =>
  Array.from({ length: count }, (_, index) => {
    const mixed = Math.imul(index, 40_503) & 0xffff;
    return `${first}.${index >> 16}.${mixed >> 8}.${mixed & 255}`;
  });

/** A container with so many ports that are no range. */
function container(ports: number, label: Allow): PublishedContainer {
  const endpoint = { family: "ipv4", address: "172.17.0.2", bridge: "docker0" } as const;
  return {
    ...{ name: "web", id: "1", enabled: true, allow: label, options: {}, hearsIpv6: true, imageAllow: {} },
    publishes: Array.from({ length: ports }, (_, index) => ({
      ...({ family: "ipv4", hostAddress: undefined, protocol: "tcp" } as const),
      ...{ hostPort: 1024 + 2 * index, containerPort: 1024 + 2 * index },
    })),
    ...{ directPorts: [], publishing: { ipv4: endpoint }, astray: [], endpoints: [endpoint] },
    ...{ addresses: { ipv4: ["172.17.0.2"], ipv6: [] }, nothingPublished: undefined, nowhere: undefined, warnings: [] },
  };
}

const OPTIONS = { chain: "DOCKER_CONTAINERS", ipv6: false, guards: false };

/** Made, written and read again. */
function rulesOf(target: PublishedContainer, host: Allow | undefined): number {
  const { wanted } = fragmentFor(target, OPTIONS, { allow: host, groups: {}, trustsLabels: false });
  return readMeaning(readFragment(writeFragment(wanted).texts.ipv4 ?? "")).length;
}

const sourcesOf = (count: number) => readAllow({ "*": addresses(count) }, {})[0]?.sources ?? [];

test.each<[what: string, size: number, prepare: (size: number) => () => void]>([
  [
    "keys",
    2000,
    (size) => {
      const lists = Object.fromEntries(Array.from({ length: size }, (_, index) => [`${index + 1}/tcp`, []]));
      return () => readAllow(lists, {});
    },
  ],
  [
    "sources in order",
    1000,
    (size) => {
      const sources = sourcesOf(size);
      return () => sourcesIn(sources, "ipv4");
    },
  ],
  [
    "a list within another",
    1000,
    (size) => {
      const sources = sourcesOf(size);
      return () => narrowed(sources, [...sources].reverse());
    },
  ],
  [
    "sources on one port",
    500,
    (size) => {
      const target = container(1, { "*": addresses(size) });
      return () => rulesOf(target, undefined);
    },
  ],
  [
    "as many ports as sources that they share, within another list",
    200,
    (size) => {
      const [target, host] = [container(size, { "*": addresses(size) }), { "*": addresses(size) }];
      return () => rulesOf(target, host);
    },
  ],
])("%s", (_what, size, prepare) => {
  expect(growth(size, prepare)).toBeLessThan(SQUARE);
});

test("ports that share a list share its chain: a rule a port, and one a source", () => {
  const { wanted } = fragmentFor(container(1000, { "*": addresses(1000) }), OPTIONS, {
    allow: undefined,
    groups: {},
    trustsLabels: false,
  });
  const mangle = writeFragment(wanted).rules.ipv4.mangle ?? [];
  // In FORWARD the list and the container's own port, in INPUT docker-proxy's; the chain has the host's own and its drop besides.
  expect(mangle).toHaveLength(3 * 1000 + 1000 + 2);
});
