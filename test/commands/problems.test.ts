// What status finds by following packets, which needs a host with more than one interface: pure, on a host made up.

import { basename } from "node:path/posix";
import { describe, expect, test } from "vitest";
import { brokenFragments, orphans, rivals, shadows } from "../../src/commands/problems.ts";
import { readLive } from "../../src/iptables/live.ts";
import { spellOwner } from "../../src/model/owner.ts";
import { hostWith, NETWORK, type Rules, targetOf } from "./made-up-host.ts";

describe("a rule that shadows", () => {
  const web = targetOf("web", "172.17.0.2");

  test("is none where the packets arrive", () => {
    const { host, items } = hostWith([web]);
    expect(shadows(items, [web], [NETWORK], host)).toEqual([]);
  });

  test.each<[string, Rules]>([
    ["-A FORWARD -i eth0 -j DROP", { filter: ["-A FORWARD -i eth0 -j DROP"] }],
    ["-A PREROUTING -p tcp -m tcp --dport 8080 -j DROP", { raw: ["-A PREROUTING -p tcp -m tcp --dport 8080 -j DROP"] }],
    [
      "-A DOCKER_CONTAINERS -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.9:80",
      { nat: ["-A DOCKER_CONTAINERS -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.9:80"] },
    ],
  ])("is named: %s", (rule, before) => {
    const { host, items } = hostWith([web], before);
    expect(shadows(items, [web], [NETWORK], host)).toEqual([
      {
        kind: "rules_shadowed",
        container: "web",
        rule,
        msg: expect.stringMatching(/^0\.0\.0\.0:8080\/tcp of web is not reachable: '-A /),
        hint: "'docker_iptables explain web' shows the path",
      },
    ]);
  });

  test("is none where DOCKER-USER keeps the packets out, by whatever chain: that is the user's will", () => {
    const jump = "-A FORWARD -j DOCKER-USER";
    const deny = ["-A DOCKER-USER -j deny", "-A deny -d 172.16.0.0/12 -j DROP"];
    const own = hostWith([web], { filter: [jump, ...deny] });
    expect(shadows(own.items, [web], [NETWORK], own.host)).toEqual([]);
    const both = hostWith([web], { filter: [jump, "-A FORWARD -i eth0 -j DROP", ...deny] });
    expect(shadows(both.items, [web], [NETWORK], both.host)).toMatchObject([{ kind: "rules_shadowed" }]);
    const elsewhere = hostWith([web], { filter: ["-A FORWARD -j deny", ...deny] });
    expect(shadows(elsewhere.items, [web], [NETWORK], elsewhere.host)).toMatchObject([{ rule: deny[1] }]);
  });

  test("is of a container whose name begins as this one's does", () => {
    const web2 = targetOf("web2", "172.17.0.3");
    const { host, items } = hostWith([web2, web]);
    expect(shadows(items, [web2, web], [NETWORK], host)).toMatchObject([
      { kind: "rules_shadowed", container: "web", rule: expect.stringContaining("docker_iptables: web2") },
    ]);
  });

  test("is not checked where rules are missing: that is reported already", () => {
    const { host, items } = hostWith([web], { filter: ["-A FORWARD -i eth0 -j DROP"] });
    const lacking = items.map((item) => ({
      ...item,
      drift: { missing: ["-A x"], surplus: 0, disordered: false },
    }));
    expect(shadows(lacking, [web], [NETWORK], host)).toEqual([]);
  });
});

test("two rivals are one problem, and a container is none of its own, also where its fragment has just gone", () => {
  const { now, items } = hostWith([
    targetOf("web", "172.17.0.2"),
    targetOf("db", "172.17.0.3"),
    targetOf("c", "172.17.0.4", "1"),
  ]);
  expect(rivals(now, [], { targets: [], client: "docker" })).toMatchObject([
    { kind: "container_rivals", container: "db" },
  ]);
  const gone = items.filter(({ owner }) => spellOwner(owner) === "c").map((item) => ({ ...item, before: undefined }));
  expect(rivals(now, gone, { targets: [], client: "docker" })).toHaveLength(1);
});

test("rules whose file is there are no orphans, whoever's they are", () => {
  const { now, live } = hostWith([targetOf("web", "172.17.0.2"), targetOf("web2", "172.17.0.3", "8081")]);
  expect(orphans(now, live, [], true)).toEqual([]);
  expect(orphans({ ipv4: [] }, live, ["web", "web2"], true)).toEqual([]);
  const left = { ipv4: now.ipv4.filter(({ path }) => basename(path).endsWith("web2")) };
  expect(orphans(left, live, [], true)).toMatchObject([{ kind: "rules_orphaned", container: "web" }]);
  const base = readLive(
    '*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -m comment --comment "docker_iptables: (10_docker)" -j ACCEPT\nCOMMIT\n',
  );
  expect(orphans({ ipv4: [] }, { ipv4: base }, [], true)[0]).not.toHaveProperty("container");
  expect(orphans({ ipv4: [{ path: "/x/10_docker", text: "" }] }, { ipv4: base }, [], true)).toEqual([]);
});

test("a broken fragment is named with its line", () => {
  const text = "*filter\n-A INPUT -j ACCEPT\nnonsense\nCOMMIT\n";
  expect(brokenFragments([{ path: "/x/50_mine", text }])).toMatchObject([
    {
      kind: "fragment_invalid",
      path: "/x/50_mine",
      line: 3,
      msg: expect.stringMatching(/^\/x\/50_mine line 3: /),
      hint: "'sed -n 3p /x/50_mine' shows the line",
    },
  ]);
});
