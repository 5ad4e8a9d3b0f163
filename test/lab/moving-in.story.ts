/*
 * Hosts on which somebody else has published the ports until now: what setup says, what is to be done, and that packets arrive at
 * the end. From Docker's own rules, from its nftables backend, from podman's own firewall, and on a host with firewalld.
 */

import { expect } from "vitest";
import type { Result } from "../../src/generated/result.ts";
import { FIREWALLD, lackingFirewalld, until } from "./fixtures.ts";
import type { Host } from "./host.ts";
import { CONTAINERS_CONF, containersConf, Podman, podmanStory } from "./podman.ts";
import { story, storyWith } from "./story.ts";

async function run(host: Host, ...words: string[]): Promise<Result> {
  return JSON.parse((await host.run("docker_iptables", [...words, "--json"], { check: false })).stdout);
}

const tablesOf = async (host: Host) => (await host.run("nft", ["list", "tables"])).stdout;

/**
 * What Docker 29's nftables backend makes for docker0 and a container that publishes 8080 as its port 80 (moby, libnetwork's
 * nftabler): no release of Debian has it.
 */
function dockerBridges(family: "ip" | "ip6", subnet: string, address: string): string {
  const jumps = ["filter-forward-in", "filter-forward-out", "nat-postrouting-in", "nat-postrouting-out"];
  const [loopback, to, remote] =
    family === "ip" ? ["127.0.0.0/8", `${address}:80`, ""] : ["::1", `[${address}]:80`, "ip6 saddr != fe80::/10"];
  const base = (name: string, type: string, hook: string, priority: string, ...rules: string[]) =>
    `chain ${name} { type ${type} hook ${hook} priority ${priority}; policy accept; ${rules.map((rule) => `${rule}; `).join("")}}`;
  const plain = (name: string, ...rules: string[]) => `chain ${name} { ${rules.map((rule) => `${rule}; `).join("")}}`;
  const chains = [
    plain(
      "nat-prerouting-and-output",
      `iifname != "docker0" ${remote} tcp dport 8080 counter dnat to ${to} comment "DNAT"`,
    ),
    plain(
      "filter-forward-in__docker0",
      "ct state established,related counter accept",
      'iifname "docker0" counter accept comment "ICC"',
      `${family} daddr ${address} tcp dport 80 counter accept`,
      'counter drop comment "UNPUBLISHED PORT DROP"',
    ),
    plain(
      "filter-forward-out__docker0",
      "ct state established,related counter accept",
      'counter accept comment "OUTGOING"',
    ),
    plain("nat-postrouting-in__docker0"),
    plain(
      "nat-postrouting-out__docker0",
      `oifname != "docker0" ${family} saddr ${subnet} counter masquerade comment "MASQUERADE"`,
    ),
    ...jumps.map(
      (name) => `map ${name}-jumps { type ifname : verdict; elements = { "docker0" : jump ${name}__docker0 }; }`,
    ),
    base(
      "filter-FORWARD",
      "filter",
      "forward",
      "0",
      "oifname vmap @filter-forward-in-jumps",
      "iifname vmap @filter-forward-out-jumps",
    ),
    base("nat-PREROUTING", "nat", "prerouting", "-100", "fib daddr type local counter jump nat-prerouting-and-output"),
    base(
      "nat-OUTPUT",
      "nat",
      "output",
      "-100",
      `${family} daddr != ${loopback} fib daddr type local counter jump nat-prerouting-and-output`,
    ),
    base(
      "nat-POSTROUTING",
      "nat",
      "postrouting",
      "100",
      "iifname vmap @nat-postrouting-out-jumps",
      "oifname vmap @nat-postrouting-in-jumps",
    ),
    base(
      "raw-PREROUTING",
      "filter",
      "prerouting",
      "-300",
      `${family} daddr ${address} iifname != "docker0" counter drop comment "DROP DIRECT ACCESS"`,
    ),
  ];
  return `table ${family} docker-bridges {\n${chains.join("\n")}\n}\n`;
}

storyWith({ packages: ["nftables"] })(
  "from Docker's nftables backend: its tables go, and packets arrive",
  async ({ lab }) => {
    const host = await lab.host({ name: "newer", docker: { ipv6: true } });
    const client = await lab.client("laptop");
    await host.docker.run("web", { publish: ["8080:80"] });
    // The addresses that it had before the daemon was restarted.
    const left = `${dockerBridges("ip", "172.17.0.0/16", "172.17.0.9")}${dockerBridges("ip6", "2001:db8:2::/64", "2001:db8:2::9")}`;
    await host.run("nft", ["-f", "-"], { input: left });
    expect(await client.connect(host.address, 8080, { timeoutMs: 500 })).toMatchObject({ reached: false });
    const { problems = [] } = await run(host, "status");
    expect(problems.filter(({ kind }) => kind === "firewall_foreign")).toHaveLength(2);

    // That backend leaves forwarding to the administrator, and says so; by itself the daemon would have turned it on.
    await host.run("sysctl", ["-qw", "net.ipv4.ip_forward=0"]);
    const set = await run(host, "setup", "--ipv6");
    expect(set, set.msg).toMatchObject({
      changed: true,
      warnings: [expect.stringMatching(/does not forward IPv4.*ip_forward = 1/)],
    });
    expect(await tablesOf(host)).not.toContain("docker-bridges");
    await host.run("sysctl", ["-qw", "net.ipv4.ip_forward=1"]);
    expect(await run(host, "create", "web")).toMatchObject({ changed: true, warnings: [] });
    const own = { reached: true, server: "web" };
    expect(await client.connect(host.address, 8080)).toMatchObject({ ...own, peer: client.address });
    expect(await client.connect(host.address6, 8080)).toMatchObject({ ...own, peer: client.address6 });
    expect(await host.docker.connect("web", client.address, 22)).toEqual({ reached: false, why: "refused" });
    await client.route("172.17.0.0/16", host.address);
    const direct = await client.connect(await host.docker.address("web"), 80, { timeoutMs: 500 });
    expect(direct).toEqual({ reached: false, why: "timeout" });
    expect(await run(host, "status")).toMatchObject({ problems: [] });
    expect(await run(host, "setup")).toMatchObject({ changed: false, warnings: [] });
  },
);

podmanStory("from podman's own firewall, by nftables: refused; switched off; its table removed", async ({ lab }) => {
  const host = await lab.host({
    name: "pods",
    docker: { atBoot: false },
    files: { [CONTAINERS_CONF]: containersConf("nftables") },
  });
  const podman = new Podman(host);
  const client = await lab.client("laptop");
  await podman.cli("network", "create", "--ipv6", "--subnet=10.90.0.0/24", "--subnet=2001:db8:90::/64", "dual");
  await podman.run("web", { publish: ["8080:80"] });
  await podman.run("duo", { network: "dual", publish: ["8081:80"] });
  const expectBoth = async () => {
    expect(await client.connect(host.address, 8080)).toMatchObject({ server: "web", peer: client.address });
    expect(await client.connect(host.address, 8081)).toMatchObject({ server: "duo", peer: client.address });
    expect(await client.connect(host.address6, 8081)).toMatchObject({ server: "duo", peer: client.address6 });
    expect(await host.connect("127.0.0.1", 8080)).toMatchObject({ reached: true });
  };
  await expectBoth();
  const advice =
    /networks dual, podman \(the nftables table inet netavark\).*firewall_driver = "none".*'nft delete table inet netavark'/;
  for (const flags of [[], ["--adopt"], ["--replace"], ["--reload", "patch"]]) {
    const refused = await run(host, "setup", "--client", "podman", ...flags);
    expect(refused).toMatchObject({ failed: true, changed: false, error: { code: "rules_undeclared" } });
    expect(refused.msg).toMatch(advice);
    expect(refused.msg).not.toMatch(/adopt/);
  }
  const { problems = [] } = await run(host, "status", "--client", "podman");
  const foreign = problems.filter(({ kind }) => kind === "firewall_foreign");
  expect(foreign.map(({ msg, hint }) => `${msg}; ${hint}`)).toEqual([expect.stringMatching(advice)]);
  await expectBoth();

  // No container is started again.
  await host.write(CONTAINERS_CONF, containersConf("none"));
  await host.run("nft", ["delete", "table", "inet", "netavark"]);
  expect(await run(host, "setup", "--client", "podman", "--ipv6")).toMatchObject({ changed: true, warnings: [] });
  expect(await run(host, "sync")).toMatchObject({ changed: true, warnings: [] });
  await expectBoth();
  await podman.restart("web");
  expect(await run(host, "sync")).toMatchObject({ changed: true });
  await expectBoth();
  expect(await tablesOf(host)).not.toContain("netavark");
  expect(await run(host, "status")).toMatchObject({ problems: [] });

  // Switched on again by somebody: told at each call, and what it leaves leads to a former address.
  await host.write(CONTAINERS_CONF, containersConf("nftables"));
  await podman.restart("web");
  expect((await run(host, "create", "web")).warnings).toEqual([
    expect.stringMatching(/ports of web \(.*inet netavark/),
  ]);
  expect((await run(host, "setup")).warnings).toEqual([expect.stringMatching(/podman's network podman .*netavark/)]);
  await host.write(CONTAINERS_CONF, containersConf("none"));
  await podman.restart("web");
  expect(await run(host, "sync")).toMatchObject({ changed: true });
  expect(await tablesOf(host)).toContain("netavark");
  await host.run("nft", ["delete", "table", "inet", "netavark"]);
  await expectBoth();
});

podmanStory("from podman's own firewall, by iptables: refused; switched off; its rules replaced", async ({ lab }) => {
  const host = await lab.host({
    name: "pods",
    docker: { atBoot: false },
    files: { [CONTAINERS_CONF]: containersConf("iptables") },
  });
  const podman = new Podman(host);
  const client = await lab.client("laptop");
  await podman.run("web", { publish: ["8080:80"] });
  expect(await client.connect(host.address, 8080)).toMatchObject({ server: "web" });
  for (const flags of [[], ["--adopt"], ["--reload", "patch"]]) {
    const refused = await run(host, "setup", "--client", "podman", ...flags);
    expect(refused).toMatchObject({ failed: true, changed: false, error: { code: "rules_undeclared" } });
    expect(refused.msg).toMatch(
      /podman's network podman \(iptables' chains NETAVARK.*firewall_driver = "none".*replace: true/s,
    );
  }
  await host.write(CONTAINERS_CONF, containersConf("none"));
  expect(await run(host, "setup", "--client", "podman", "--replace")).toMatchObject({ changed: true });
  expect((await host.run("iptables-save")).stdout).not.toContain("NETAVARK");
  expect(await run(host, "sync")).toMatchObject({ changed: true, warnings: [] });
  expect(await client.connect(host.address, 8080)).toMatchObject({ server: "web", peer: client.address });
  await podman.restart("web");
  expect(await run(host, "sync")).toMatchObject({ changed: true });
  expect(await client.connect(host.address, 8080)).toMatchObject({ server: "web", peer: client.address });
  expect(await run(host, "status")).toMatchObject({ problems: [] });
});

story("from a daemon that made the rules, by patch: what it left goes, also what ours repeat", async ({ lab }) => {
  const settings = { iptables: true, ip6tables: true };
  const host = await lab.host({ name: "former", docker: { ipv6: true, settings } });
  const client = await lab.client("laptop");
  await host.docker.run("web", { publish: ["8080:80"] });
  const path = "/etc/docker/daemon.json";
  const former = JSON.parse(await host.read(path));
  await host.write(path, JSON.stringify({ ...former, iptables: false, ip6tables: false }));
  await host.systemctl(["restart", "docker"]);
  await host.docker.cli("start", "web");
  await host.docker.forget();
  const saves = ["iptables-save", "ip6tables-save"];
  const rules = async () =>
    (await Promise.all(saves.map((save) => host.run(save)))).flatMap(({ stdout }) => stdout.match(/^-A .*$/gm) ?? []);
  const left = await rules();
  expect(left).toContain("-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE");
  // A person's own stays.
  await host.run("iptables", ["-A", "INPUT", "-p", "tcp", "--dport", "2222", "-j", "ACCEPT"]);

  const setup = await run(host, "setup", "--reload", "patch", "--ipv6");
  expect(setup, setup.msg).toMatchObject({ changed: true });
  expect(await run(host, "create", "web", "--reload", "patch", "--ipv6")).toMatchObject({ changed: true });
  expect((await rules()).filter((rule) => !rule.includes("docker_iptables"))).toEqual([
    "-A INPUT -p tcp -m tcp --dport 2222 -j ACCEPT",
  ]);
  expect(await client.connect(host.address, 8080)).toMatchObject({ server: "web", peer: client.address });
  expect(await client.connect(host.address6, 8080)).toMatchObject({ server: "web", peer: client.address6 });
  expect(await run(host, "setup", "--reload", "patch", "--ipv6")).toMatchObject({ changed: false });
});

storyWith({ packages: ["firewalld", "nftables"] }, lackingFirewalld)(
  "on a host with firewalld: refused; beside it, with the bridges in a zone; in its place",
  async ({ lab }) => {
    const host = await lab.host({ name: "walled", docker: { ipv6: true } });
    const client = await lab.client("laptop");
    await host.run("sh", ["-ec", FIREWALLD]);
    await host.docker.run("web", { publish: ["8080:80"] });
    const reaches = async (port: number) => client.connect(host.address, port, { timeoutMs: 15_000 });
    // It filters before us, and still does at the end.
    expect(await reaches(8080)).toEqual({ reached: false, why: "unreachable" });
    expect(await reaches(22)).toEqual({ reached: false, why: "refused" });

    const refused = await run(host, "setup");
    expect(refused).toMatchObject({ failed: true, changed: false, error: { code: "rules_undeclared" } });
    expect(refused.msg).toMatch(
      /inet firewalld.*firewalld is running, and starting iptables\.service stops it.*reload: patch/s,
    );
    expect(await host.run("firewall-cmd", ["--state"])).toMatchObject({ exitCode: 0 });

    const beside = await run(host, "setup", "--reload", "patch", "--watch", "--ipv6");
    expect(beside, beside.msg).toMatchObject({ changed: true });
    expect(beside.warnings.join("\n")).toMatch(/firewalld has docker0 in no zone.*--add-interface=docker0'/);
    await until(async () => (await reaches(8080)).reached);
    expect(await reaches(8080)).toMatchObject({ server: "web", peer: client.address });
    expect(await client.connect(host.address6, 8080)).toMatchObject({ server: "web", peer: client.address6 });
    // What containers send it rejects, as long as their bridge is in no zone that accepts it.
    expect(await host.docker.connect("web", client.address, 22)).toEqual({ reached: false, why: "unreachable" });
    expect(await run(host, "status")).toMatchObject({ problems: [{ kind: "firewall_foreign" }] });
    await host.run("firewall-cmd", ["--permanent", "--zone=trusted", "--add-interface=docker0"]);
    await host.run("firewall-cmd", ["--reload"]);
    // While it reloads it drops all, on a busy machine for seconds.
    const connect = () => host.docker.connect("web", client.address, 22);
    await expect.poll(connect, { timeout: 60_000 }).toEqual({ reached: false, why: "refused" });
    expect(await host.docker.connect("web", host.address, 8080)).toMatchObject({ reached: true });
    expect(await reaches(8080)).toMatchObject({ server: "web", peer: client.address });
    expect(await reaches(9999)).toEqual({ reached: false, why: "unreachable" });
    expect(await run(host, "status")).toMatchObject({ problems: [] });

    await host.systemctl(["disable", "--now", "firewalld"]);
    expect(await run(host, "setup", "--reload", "systemd")).toMatchObject({ changed: true, warnings: [] });
    expect(await reaches(8080)).toMatchObject({ server: "web", peer: client.address });
    expect(await host.docker.connect("web", client.address, 22)).toEqual({ reached: false, why: "refused" });
    // Its rules for the host itself are nobody's now.
    expect(await reaches(9999)).toEqual({ reached: false, why: "refused" });
    expect(await run(host, "status")).toMatchObject({ problems: [] });
  },
);
