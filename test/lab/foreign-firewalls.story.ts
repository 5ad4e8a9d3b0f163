// Other programs' rules, with real tools: a swarm's routing mesh, what Docker left, the other backend, nftables.

import { expect } from "vitest";
import type { Result } from "../../src/generated/result.ts";
import type { Host } from "./host.ts";
import { story, storyWith } from "./story.ts";

async function run(host: Host, ...words: string[]): Promise<Result> {
  const ran = await host.run("docker_iptables", [...words, "--json"], { check: false });
  return JSON.parse(ran.stdout);
}

/** What dockerd 20.10 makes on a swarm's node for a service that publishes 80, also with iptables=false. */
const MESH = `iptables -N DOCKER-INGRESS
iptables -I FORWARD -j DOCKER-INGRESS
iptables -A DOCKER-INGRESS -p tcp -m tcp --dport 80 -j ACCEPT
iptables -A DOCKER-INGRESS -p tcp -m state --state RELATED,ESTABLISHED -m tcp --sport 80 -j ACCEPT
iptables -A DOCKER-INGRESS -j RETURN
iptables -t nat -N DOCKER-INGRESS
iptables -t nat -I PREROUTING -m addrtype --dst-type LOCAL -j DOCKER-INGRESS
iptables -t nat -I OUTPUT -m addrtype --dst-type LOCAL -j DOCKER-INGRESS
iptables -t nat -I POSTROUTING -o docker_gwbridge -m addrtype --src-type LOCAL -j MASQUERADE
iptables -t nat -A DOCKER-INGRESS -p tcp -m tcp --dport 80 -j DNAT --to-destination "$1:80"
iptables -t nat -A DOCKER-INGRESS -j RETURN
`;

story(
  "a swarm's routing mesh outlives setup, create, sync, a reload by systemd, restore and delete",
  async ({ lab }) => {
    const host = await lab.host({ name: "node" });
    const client = await lab.client("laptop");
    await host.docker.run("service", {});
    await host.docker.run("web", { publish: ["8080:80"] });
    const address = await host.docker.cli("inspect", "--format", "{{.NetworkSettings.IPAddress}}", "service");
    await host.run("sh", ["-ec", MESH, "sh", address.stdout.trim()]);
    const mesh = async () =>
      (await host.run("iptables-save")).stdout
        .split("\n")
        .filter((line) => /^-A .*(INGRESS|gwbridge)/.test(line))
        .sort();
    const before = await mesh();
    expect(before).toHaveLength(9);
    const reaches = async (port: number) => (await client.connect(host.address, port)).reached;

    const set = await run(host, "setup");
    expect(set, set.msg).toMatchObject({ changed: true });
    expect(set.warnings.join("\n")).toMatch(/swarm.*reload: patch/);
    expect(await mesh()).toEqual(before);
    expect(await reaches(80)).toBe(true);
    const created = await run(host, "create", "web");
    expect(created, created.msg).toMatchObject({ changed: true, warnings: [expect.stringMatching(/swarm/)] });
    expect([await reaches(8080), await reaches(80)]).toEqual([true, true]);
    await host.write("/etc/iptables.d/50_mine", "*filter\n-A INPUT -s 192.0.2.1/32 -j DROP\nCOMMIT\n");
    await host.systemctl(["reload", "iptables"]);
    expect((await host.run("iptables", ["-S", "INPUT"])).stdout).toContain("192.0.2.1");
    expect([await reaches(8080), await reaches(80)]).toEqual([true, true]);
    expect(await run(host, "load")).toMatchObject({ changed: false });
    await host.docker.cli("network", "create", "app");
    expect(await run(host, "setup")).toMatchObject({ changed: true });
    await host.docker.run("other", { publish: ["8081:80"] });
    expect(await run(host, "sync", "--reload", "restore")).toMatchObject({ changed: true });
    expect(await run(host, "delete", "web")).toMatchObject({ changed: true });
    expect(await mesh()).toEqual(before);
    expect([await reaches(8081), await reaches(80)]).toEqual([true, true]);
  },
);

/** As Docker 29's nftables backend leaves them, in short: a map of jumps, and a chain that drops. */
const bridges = (family: string, table: string) => `table ${family} ${table} {
	map filter-forward-in-jumps {
		type ifname : verdict
		elements = { "docker0" : jump filter-forward-in__docker0 }
	}
	chain filter-FORWARD {
		type filter hook forward priority filter; policy accept;
		oifname vmap @filter-forward-in-jumps
	}
	chain filter-forward-in__docker0 {
		ct state established,related counter packets 5 bytes 300 accept
		counter packets 7 bytes 420 drop comment "UNPUBLISHED PORT DROP"
	}
}
`;

storyWith({ packages: ["nftables"] })(
  "Docker's nftables tables drop; setup removes them, and restores them where it fails",
  async ({ lab }) => {
    const host = await lab.host({ name: "left" });
    const client = await lab.client("laptop");
    await host.docker.run("web", { publish: ["8080:80"] });
    const nft = (...words: string[]) => host.run("nft", words);
    const tables = `${bridges("ip", "docker-bridges")}${bridges("ip6", "docker-bridges")}`;
    await host.run("nft", ["-f", "-"], { input: tables });
    const ruleset = async () => (await nft("--stateless", "list", "ruleset")).stdout;
    const before = await ruleset();
    const own = async (words: string[]) => run(host, ...words, "--reload", "patch");

    const status = await run(host, "status");
    const foreign = (status.problems ?? []).filter(({ kind }) => kind === "firewall_foreign");
    expect(foreign.map(({ msg, hint }) => `${msg}; ${hint}`)).toEqual([
      expect.stringMatching(/ip docker-bridges .*'docker_iptables setup'/),
      expect.stringMatching(/ip6 docker-bridges .*'docker_iptables setup'/),
    ]);

    await host.write(
      "/usr/local/sbin/nft",
      '#!/bin/sh\ncase "$*" in "delete table ip6"*) exit 1 ;; esac\nexec /usr/sbin/nft "$@"\n',
      0o755,
    );
    const failed = await own(["setup"]);
    expect(failed, failed.msg).toMatchObject({ failed: true, changed: false, error: { code: "reload_failed" } });
    expect(failed.rolled_back).toContain("the nftables table ip docker-bridges");
    const put = (text: string) =>
      text
        .split("table ")
        .sort()
        .filter((one) => one.includes("docker-bridges"));
    expect(put(await ruleset())).toEqual(put(before));
    await host.run("rm", ["/usr/local/sbin/nft"]);

    const checked = await own(["setup", "--check", "--diff"]);
    expect(checked.diff?.map(({ before_header }) => before_header)).toContain("ip docker-bridges");
    expect(put(await ruleset())).toEqual(put(before));
    const set = await own(["setup"]);
    expect(set, set.msg).toMatchObject({ changed: true });
    expect(put(await ruleset())).toEqual([]);
    expect(await own(["create", "web"])).toMatchObject({ changed: true });
    expect(await client.connect(host.address, 8080)).toMatchObject({ reached: true, peer: client.address });
    expect(await own(["setup"])).toMatchObject({ changed: false });

    // A foreign table that blocks everything is reported, and stays.
    await host.run("nft", ["-f", "-"], {
      input:
        "table inet mine { chain guard { type filter hook forward priority 0; policy drop; ct state established,related accept; tcp dport 22 accept; }; }\n",
    });
    await own(["delete", "web"]);
    const created = await own(["create", "web"]);
    expect(created.warnings).toEqual([expect.stringMatching(/inet mine drops all .*web.*'nft list table inet mine'/)]);
    expect(await client.connect(host.address, 8080, { timeoutMs: 500 })).toMatchObject({ reached: false });
    await nft("add", "rule", "inet", "mine", "guard", "oifname", "docker0", "accept");
    await own(["delete", "web"]);
    expect(await own(["create", "web"])).toMatchObject({ changed: true, warnings: [] });
    expect(await client.connect(host.address, 8080)).toMatchObject({ reached: true });
  },
);

story("the legacy backend: of which there is only a policy, and what Docker left in it", async ({ lab }) => {
  const host = await lab.host({ name: "older" });
  const client = await lab.client("laptop");
  await host.docker.run("web", { publish: ["8080:80"] });
  await host.run("iptables-legacy", ["-P", "FORWARD", "DROP"]);
  const refused = await run(host, "setup");
  expect(refused).toMatchObject({ failed: true, changed: false, error: { code: "rules_undeclared" } });
  expect(refused.msg).toContain("the legacy backend, which also filter packets: ':FORWARD DROP'");
  expect(await run(host, "setup", "--reload", "patch")).toMatchObject({ changed: true });
  const created = await run(host, "create", "web", "--reload", "patch");
  expect(created.warnings).toEqual([expect.stringMatching(/iptables-legacy's table ip filter drops all .*web/)]);
  expect(await client.connect(host.address, 8080, { timeoutMs: 500 })).toMatchObject({ reached: false });
  const { problems = [] } = await run(host, "status", "--reload", "patch");
  expect(problems.map(({ kind }) => kind)).toContain("firewall_foreign");

  // As a daemon leaves it that ran with iptables=true on this backend.
  await host.run("iptables-legacy-restore", [], {
    input: `*filter
:FORWARD DROP [0:0]
:DOCKER - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -o docker0 -j DOCKER
-A DOCKER-USER -j RETURN
COMMIT
`,
  });
  const set = await run(host, "setup");
  expect(set, set.msg).toMatchObject({ changed: true });
  expect((await host.run("iptables-legacy-save")).stdout).not.toMatch(/DOCKER|FORWARD DROP/);
  expect(await client.connect(host.address, 8080)).toMatchObject({ reached: true, peer: client.address });
  expect(await run(host, "setup")).toMatchObject({ changed: false });
});
