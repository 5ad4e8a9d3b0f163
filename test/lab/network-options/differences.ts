/*
 * Where Docker's own rules end otherwise than ours, which are those of Docker 29: the one list, by version. The story holds both ways: what
 * is not listed must not differ, and of what is listed some probe must.
 */

import { versionOf } from "./kinds.ts";
import type { Probe } from "./place.ts";

export interface Difference {
  /** Of Docker, as major.minor: from this one on, and before that one. */
  since?: string;
  before?: string;
  /** With docker-proxy or without; both by default. */
  userlandProxy?: boolean;
  /** For people: who to what, how it ends with Docker's own rules, how with ours, and why. */
  probes: string;
  docker: "reached" | "no answer";
  here: "reached" | "no answer";
  why: string;
  isAbout: (probe: Probe) => boolean;
}

/** Networks whose containers are reached at their own addresses all the same, or by nobody. */
const NOT_TRANSLATED = ["inner", "isolated", "lan", "routed", "open", "half", "trusting"];

function toHost({ from, to }: Probe): boolean {
  return from === "other" && (to === "host" || to === "second");
}

export const DIFFERENCES: readonly Difference[] = [
  {
    before: "28.0",
    probes: "a machine on the same wire that routes the network, to a published port at the container's own address",
    docker: "reached",
    here: "no answer",
    why: "Docker before 28 has no guard for it",
    isAbout: ({ kind, from, to }) => from === "remote" && to === "published" && !NOT_TRANSLATED.includes(kind.name),
  },
  {
    before: "28.0",
    userlandProxy: true,
    probes: "a container of another network, to a UDP port that is published on every address",
    docker: "no answer",
    here: "reached",
    why: "Docker before 28 leaves it to docker-proxy, which replies from another address",
    isAbout: (probe) => toHost(probe) && probe.protocol === "udp" && probe.kind.name !== "bound",
  },
  {
    before: "29.0",
    userlandProxy: false,
    probes: "a container of another network, to a published port",
    docker: "no answer",
    here: "reached",
    why: "Docker before 29 drops between bridges behind the DNAT",
    isAbout: toHost,
  },
  {
    before: "25.0",
    probes: "a container of an internal network, to another one there, over IPv6",
    docker: "no answer",
    here: "reached",
    why: "Docker before 25 drops the neighbour discovery of internal networks, where bridge-nf-call-ip6tables is on",
    isAbout: ({ kind, from, family }) => kind.name === "inner" && from === "peer" && family === "ipv6",
  },
  {
    before: "28.0",
    probes: "a container that publishes, in a network that is not masqueraded, to a machine elsewhere",
    docker: "reached",
    here: "no answer",
    why: "the guard for the container's own address drops the replies, too, as Docker's does from 28 on",
    isAbout: ({ kind, from, to }) => kind.name === "flat" && from === "own" && to === "outside",
  },
  {
    since: "28.0",
    before: "29.0",
    probes: "a container of another network, to the own address of one in a network that is nat-unprotected",
    docker: "no answer",
    here: "reached",
    why: "Docker 28 drops between bridges; 29 does not, and for a network that is open to everyone we do not",
    isAbout: ({ kind, from, to }) => kind.name === "open" && from === "other" && /published$/.test(to),
  },
  {
    since: "28.0",
    probes: "a container that publishes nothing, in a network that is not masqueraded, to a machine elsewhere",
    docker: "no answer",
    here: "reached",
    why: "Docker's guard for each container's own address drops the replies, too; one that publishes nothing has no rules of ours",
    isAbout: ({ kind, from, to }) => kind.name === "flat" && from === "peer" && to === "outside",
  },
];

/** Those of a daemon. */
export function differencesOf(version: string, userlandProxy: boolean): Difference[] {
  const isFrom = (bound: string) => versionOf(version) >= versionOf(bound);
  return DIFFERENCES.filter(
    (one) =>
      (one.since === undefined || isFrom(one.since)) &&
      (one.before === undefined || !isFrom(one.before)) &&
      (one.userlandProxy ?? userlandProxy) === userlandProxy,
  );
}

/** "web:80 sees remote" and "refused, as remote" are answers. */
export function inShort(outcome: string | undefined): "reached" | "no answer" {
  return /sees|, as |answers/.test(outcome ?? "") ? "reached" : "no answer";
}

/** For test/lab/README.md. */
export function differencesTable(): string[] {
  const versions = ({ since, before }: Difference) =>
    since === undefined
      ? `before ${before}`
      : before === undefined
        ? `from ${since} on`
        : `from ${since}, before ${before}`;
  const proxied = ({ userlandProxy }: Difference) =>
    userlandProxy === undefined ? "" : `, ${userlandProxy ? "with" : "without"} docker-proxy`;
  return [
    "| Docker | who to what | there | here | why |",
    "| --- | --- | --- | --- | --- |",
    ...DIFFERENCES.map(
      (one) => `| ${versions(one)}${proxied(one)} | ${one.probes} | ${one.docker} | ${one.here} | ${one.why} |`,
    ),
  ];
}
