// DOCKER-USER on a fake host: FORWARD asks it first, and what the user or his programs have there outlives all that we do.

import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { BRIDGE, type FakeHost, fakeHost, readAnswer } from "./host.ts";

const PORTS = { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8080" }] };
const JUMP = '-A FORWARD -m comment --comment "docker_iptables: (10_docker)" -j DOCKER-USER';
const BLOCK = "-A DOCKER-USER -s 203.0.113.9/32 -j DROP";
/** As fail2ban makes it with chain=DOCKER-USER. */
const BAN = [
  "-A DOCKER-USER -p tcp -j f2b-web",
  "-A f2b-web -s 203.0.113.8/32 -j REJECT --reject-with icmp-port-unreachable",
  "-A f2b-web -j RETURN",
];
const RELOADS = ["restore", "patch"];

/** No base yet, and a container that publishes. */
function bareHost(): FakeHost {
  const host = fakeHost().bare();
  host.network("bridge", {
    Options: { "com.docker.network.bridge.name": BRIDGE, "com.docker.network.bridge.default_bridge": "true" },
    IPAM: { Config: [{ Subnet: "172.17.0.0/16" }] },
  });
  host.container("web", { ports: PORTS });
  return host;
}

async function hostWithBase(reload: string): Promise<FakeHost> {
  const host = bareHost();
  const made = await host.ask({ base: true, reload });
  expect(made, made.msg).toMatchObject({ changed: true });
  return host;
}

/** Puts rules into the filter table, with their chains. */
function add(host: FakeHost, rules: readonly string[], family = "ipv4"): void {
  const now = host.kernel("filter", family) || "*filter\nCOMMIT\n";
  const chains = new Set(rules.map((rule) => rule.split(" ")[1] ?? "").filter((chain) => !/^[A-Z]+$/.test(chain)));
  const missing = [...chains].filter((chain) => !now.includes(`\n:${chain} `)).map((chain) => `:${chain} - [0:0]\n`);
  const text = now.replace("*filter\n", `*filter\n${missing.join("")}`);
  host.setKernel("filter", text.replace("COMMIT", [...rules, "COMMIT"].join("\n")), family);
}

const linesIn = (host: FakeHost, chain: string, family = "ipv4") =>
  host
    .kernel("filter", family)
    .split("\n")
    .filter((line) => line.startsWith(`-A ${chain} `));
const users = (host: FakeHost) => [...linesIn(host, "DOCKER-USER"), ...linesIn(host, "f2b-web")];

const verb = (host: FakeHost, ...words: string[]) =>
  host.run([...words, "--json", "--iptables-dir", host.iptablesDir, "--ip6tables-dir", host.ip6tablesDir]);
const load = async (host: FakeHost) => readAnswer(await verb(host, "load"));

describe.concurrent.each(RELOADS)("reload: %s", (reload) => {
  test("FORWARD asks it first, in both families, whatever a fragment has there and before what runs", async () => {
    const host = bareHost();
    mkdirSync(host.iptablesDir);
    host.write("05_host", "*filter\n-A FORWARD -i eth0 -j ACCEPT\nCOMMIT\n");
    if (reload === "patch") add(host, ["-A FORWARD -i eth0 -j ACCEPT", "-A FORWARD -i eth1 -j ACCEPT"]);
    const made = await host.ask({ base: true, reload });
    expect(made, made.msg).toMatchObject({ changed: true });
    for (const family of ["ipv4", "ipv6"]) {
      expect(linesIn(host, "FORWARD", family)[0]).toBe(JUMP);
      expect(host.kernel("filter", family)).toContain(":DOCKER-USER - [0:0]");
    }
    expect(linesIn(host, "FORWARD")).toContain("-A FORWARD -i eth0 -j ACCEPT");
    expect(await host.ask({ base: true, reload })).toMatchObject({ changed: false });
  });

  test("a host that filters there and moves here: what runs there runs on, through everything", async () => {
    const host = bareHost();
    add(host, [BLOCK, ...BAN]);
    const before = users(host);
    expect(before).toHaveLength(4);
    const steps: Record<string, unknown>[] = [
      { base: true },
      { container: "web" },
      { all: true },
      { container: "web", state: "absent" },
    ];
    for (const step of steps) {
      const result = await host.ask({ ...step, reload });
      expect(result, result.msg).toMatchObject({ changed: !step["all"] });
      expect(result.warnings.filter((one) => /USER|f2b/.test(one))).toEqual([]);
      expect(users(host)).toEqual(before);
      expect(linesIn(host, "FORWARD")[0]).toBe(JUMP);
      expect(await host.ask({ ...step, reload })).toMatchObject({ changed: false });
    }
  });

  test("setup --remove takes our jump; the chain is removed when it is empty, and never with a rule", async () => {
    const host = await hostWithBase(reload);
    add(host, BAN);
    const before = users(host);
    const remove = () => host.ask({ base: true, state: "absent", reload });
    expect(await remove()).toMatchObject({ changed: true });
    expect(users(host)).toEqual(before);
    expect(linesIn(host, "FORWARD")).toEqual([]);
    await host.ask({ base: true, reload });
    host.setKernel("filter", host.kernel("filter").replaceAll(/^-A (DOCKER-USER|f2b-web) .*\n|^:f2b.*\n/gm, ""));
    expect(await remove()).toMatchObject({ changed: true });
    expect(host.kernel("filter")).not.toContain("USER");
    expect(host.kernel("nat")).not.toContain("DOCKER_CONTAINERS");
  });
});

describe.concurrent("load", () => {
  test("keeps it, says nothing of it, and then has nothing to do; nothing of it is for the next boot", async () => {
    const host = await hostWithBase("restore");
    add(host, [BLOCK, ...BAN]);
    const before = users(host);
    host.write("50_mine", "*filter\n-A INPUT -s 192.0.2.1/32 -j DROP\nCOMMIT\n");
    const state = join(host.root, "state");
    host.environment["STATE_DIRECTORY"] = state;
    const loaded = await load(host);
    expect(loaded, loaded.msg).toMatchObject({ changed: true, warnings: [] });
    expect(host.kernel("filter")).toContain("192.0.2.1/32");
    expect(users(host)).toEqual(before);
    expect(await load(host)).toMatchObject({ changed: false, warnings: [] });
    const kept = readFileSync(join(state, "ipv4.rules"), "utf8");
    expect(kept).toContain(JUMP.replace("-A", "-I"));
    expect(kept).toContain(":DOCKER-USER - [0:0]");
    expect(kept).not.toMatch(/203\.0\.113|f2b/);
  });

  test("of a fragment whose last rule there was deleted: that one is removed, and what others have put there stays", async () => {
    const host = await hostWithBase("restore");
    host.write("50_mine", "*filter\n-A DOCKER-USER -s 198.51.100.1/32 -j ACCEPT\nCOMMIT\n");
    await load(host);
    expect(users(host).join()).toContain("198.51.100.1");
    host.write("50_mine", "*filter\n-A INPUT -i lo -j ACCEPT\nCOMMIT\n");
    add(host, [BLOCK, ...BAN]);
    expect(await load(host)).toMatchObject({ changed: true });
    expect(users(host).join()).not.toContain("198.51.100.1");
    expect(users(host)).toEqual(expect.arrayContaining([BLOCK, ...BAN]));
    expect(await load(host)).toMatchObject({ changed: false });
  });

  test("of fragments that have rules there: they alone decide, and what is removed is reported", async () => {
    const host = await hostWithBase("restore");
    add(host, [BLOCK]);
    const own = "-A DOCKER-USER -s 198.51.100.1/32 -j DROP";
    host.write("05_host", `*filter\n:DOCKER-USER - [0:0]\n${own}\nCOMMIT\n`);
    const loaded = await load(host);
    expect(loaded.warnings).toEqual([expect.stringContaining(BLOCK)]);
    expect(users(host)).toEqual([own]);
  });

  test("that fails for what is kept names no fragment", async () => {
    const host = await hostWithBase("restore");
    add(host, ["-A DOCKER-USER -m set --match-set shaky src -j DROP"]);
    host.write("50_mine", "*filter\n-A INPUT -s 192.0.2.1/32 -j DROP\nCOMMIT\n");
    const { error, msg } = await load(host);
    expect(error).toMatchObject({ code: "reload_failed" });
    expect(error).not.toHaveProperty("path");
    expect(msg).toMatch(/^a rule that a load keeps: iptables refuses '-A DOCKER-USER -m set --match-set shaky/);
  });
});

describe.concurrent("adopt and replace", () => {
  test("leave it alone: setup stops for others' rules, and not for these", async () => {
    const host = bareHost();
    add(host, [...BAN, "-A INPUT -s 192.0.2.1/32 -j DROP"]);
    const before = users(host);
    const refused = await host.ask({ base: true, reload: "restore" });
    expect(refused.error).toMatchObject({ code: "rules_undeclared", rules: ["IPv4 -A INPUT -s 192.0.2.1/32 -j DROP"] });
    const adopted = await host.ask({ base: true, reload: "restore", adopt: true });
    expect(adopted, adopted.msg).toMatchObject({ changed: true });
    const text = readFileSync(join(host.iptablesDir, "00_existing"), "utf8");
    expect(text).toContain("192.0.2.1/32");
    expect(text).not.toMatch(/USER|f2b/);
    expect(users(host)).toEqual(before);
  });
});

describe.concurrent("what comes before it", () => {
  const ahead = (host: FakeHost, rule: string) =>
    host.setKernel("filter", host.kernel("filter").replace(JUMP, `${rule}\n${JUMP}`));
  const problems = async (host: FakeHost) =>
    (JSON.parse((await verb(host, "status", "--reload", "patch")).stdout).problems ?? []).filter(
      ({ kind }: { kind: string }) => kind.startsWith("rules_"),
    );

  test("and accepts what goes to a container's bridge: status says so, setup moves the jump to the front", async () => {
    const host = await hostWithBase("patch");
    await host.ask({ container: "web", reload: "patch" });
    expect(await problems(host)).toEqual([]);
    const rule = `-A FORWARD -o ${BRIDGE} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`;
    ahead(host, rule);
    expect(await problems(host)).toEqual([
      {
        kind: "rules_shadowed",
        path: join(host.iptablesDir, "10_docker"),
        rule,
        msg: expect.stringMatching(/^'-A FORWARD -o .*' comes before the jump to DOCKER-USER /),
        hint: expect.stringMatching(/^'docker_iptables setup.*' moves the jump to the front$/),
      },
    ]);
    expect(await host.ask({ base: true, reload: "patch" })).toMatchObject({ changed: true });
    expect(linesIn(host, "FORWARD").slice(0, 2)).toEqual([JUMP, rule]);
    expect(await problems(host)).toEqual([]);
    expect(await host.ask({ base: true, reload: "patch" })).toMatchObject({ changed: false });
  });

  test("and refuses, or accepts elsewhere, is no problem and no change; a patch for something else puts the jump first", async () => {
    const host = await hostWithBase("patch");
    const rules = ["-A FORWARD -o eth9 -j ACCEPT", "-A FORWARD -s 203.0.113.7/32 -j DROP"];
    ahead(host, rules.join("\n"));
    expect(await problems(host)).toEqual([]);
    expect(await host.ask({ base: true, reload: "patch" })).toMatchObject({ changed: false });
    await host.ask({ container: "web", reload: "patch" });
    expect(linesIn(host, "FORWARD").slice(0, 3)).toEqual([JUMP, ...rules]);
  });

  test("by a fragment's insertion is behind it after a load", async () => {
    const host = await hostWithBase("restore");
    host.write("20_mine", "*filter\n-I FORWARD -s 10.8.0.0/24 -j ACCEPT\nCOMMIT\n");
    await load(host);
    expect(linesIn(host, "FORWARD").slice(0, 2)).toEqual([JUMP, "-A FORWARD -s 10.8.0.0/24 -j ACCEPT"]);
    expect(await load(host)).toMatchObject({ changed: false });
    expect(await host.ask({ base: true, reload: "restore" })).toMatchObject({ changed: false });
  });
});

test("a chain that a fragment declares, or to which something jumps, stays when the host rules are removed", async () => {
  for (const [fragment, rule] of [
    ["*filter\n:DOCKER-USER - [0:0]\nCOMMIT\n", undefined],
    ["", "-A INPUT -j DOCKER-USER"],
  ] as const) {
    const host = await hostWithBase("patch");
    if (fragment !== "") host.write("05_host", fragment);
    if (rule !== undefined) add(host, [rule]);
    expect(await host.ask({ base: true, state: "absent", reload: "patch" })).toMatchObject({ changed: true });
    expect(host.kernel("filter")).toContain(":DOCKER-USER - [0:0]");
    expect(host.kernel("nat")).not.toContain("DOCKER_CONTAINERS");
  }
});
