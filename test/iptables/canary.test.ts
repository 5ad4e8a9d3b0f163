// Which of our rules watch checks.

import { expect, test } from "vitest";
import { canariesOf } from "../../src/iptables/canary.ts";
import { readLive } from "../../src/iptables/live.ts";

const owned = (chain: string, owner: string, target: string) =>
  `-A ${chain} -m comment --comment "docker_iptables: ${owner}" -j ${target}`;

const TEXT = `*raw
:PREROUTING ACCEPT [0:0]
${owned("PREROUTING", "web", "DROP")}
${owned("PREROUTING", "db", "DROP")}
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:DOCKER_CONTAINERS - [0:0]
-A PREROUTING -j MINE
${owned("DOCKER_CONTAINERS", "web", "DNAT")}
${owned("PREROUTING", "(10_docker)", "DOCKER_CONTAINERS")}
COMMIT
*filter
:FORWARD DROP [0:0]
-A FORWARD -m comment --comment "not docker_iptables: web" -j ACCEPT
COMMIT
*mangle
:FORWARD ACCEPT [0:0]
COMMIT
`;

test("one of each table with rules of ours: of the host rules, else the first", () => {
  expect(canariesOf("ipv6", readLive(TEXT))).toEqual([
    {
      family: "ipv6",
      table: "raw",
      chain: "PREROUTING",
      place: 1,
      line: owned("PREROUTING", "web", "DROP"),
      rule: ["-A", "PREROUTING", "-m", "comment", "--comment", "docker_iptables: web", "-j", "DROP"],
      owner: { kind: "container", name: "web" },
    },
    {
      family: "ipv6",
      table: "nat",
      chain: "PREROUTING",
      place: 2,
      line: owned("PREROUTING", "(10_docker)", "DOCKER_CONTAINERS"),
      rule: [
        "-A",
        "PREROUTING",
        "-m",
        "comment",
        "--comment",
        "docker_iptables: (10_docker)",
        "-j",
        "DOCKER_CONTAINERS",
      ],
      owner: { kind: "host", file: "10_docker" },
    },
  ]);
});

test("none of a kernel without rules", () => {
  expect(canariesOf("ipv4", readLive(""))).toEqual([]);
});
