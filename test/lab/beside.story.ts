/*
 * With another firewall that starts after setup, or before ours at boot: what we do automatically removes none of its rules, ours
 * are kept up to date, and it is reported once.
 */

import { expect } from "vitest";
import type { Client } from "./client.ts";
import { ask, ourRules, until } from "./fixtures.ts";
import type { Host, HostOptions } from "./host.ts";
import { statusOf } from "./host-state.ts";
import type { Lab } from "./lab.ts";
import { storyWith } from "./story.ts";

const storyOfUfw = storyWith({ packages: ["ufw"] });
const OWN = "/etc/iptables.d/05_host";
const TOLD = /rules are live that no fragment declares .*ufw/;
const WATCH = "docker_iptables-watch";

/** A host that is set up and publishes web; then ufw is enabled. */
async function hostWithLaterUfw(lab: Lab, options: HostOptions, ...flags: string[]) {
  const own = "*filter\n-A INPUT -s 192.0.2.7/32 -j DROP\n-A INPUT -s 192.0.2.8/32 -j DROP\nCOMMIT\n";
  const host = await lab.host({ lanByUnit: true, ...options, files: { [OWN]: own } });
  const client = await lab.client("laptop");
  await host.run("docker_iptables", ["setup", ...flags]);
  await host.docker.run("web", { publish: ["8080:80"], options: ["--restart=always"] });
  if (!flags.includes("--watch")) await host.run("docker_iptables", ["create", "web"]);
  await until(async () => (await ourRules(host)).length > 0);
  // As the package's own script does it.
  await host.run("sh", ["-c", "cp /usr/share/ufw/*.rules /usr/share/ufw/*.init /usr/share/ufw/ufw.conf /etc/ufw/"]);
  await host.run("ufw", ["allow", "22/tcp"]);
  await host.run("ufw", ["--force", "enable"]);
  return { host, client };
}

/** ufw's rules, of both families. */
async function ufws(host: Host): Promise<string[]> {
  const saved = await Promise.all(["iptables-save", "ip6tables-save"].map((command) => host.run(command)));
  return saved.flatMap(({ stdout }) =>
    stdout
      .split("\n")
      .filter((line) => /^-A .*ufw/.test(line))
      .sort(),
  );
}

const inputOf = async (host: Host) => (await host.run("iptables", ["-S", "INPUT"])).stdout;

/** What ufw lets in and what not, what we publish and what not. */
async function expectBoth(host: Host, client: Client, before: readonly string[]): Promise<void> {
  expect(await ufws(host)).toEqual(before);
  expect(await inputOf(host)).toContain("-P INPUT DROP");
  expect(await client.connect(host.address, 22)).toEqual({ reached: false, why: "refused" });
  expect(await client.connect(host.address, 9999, { timeoutMs: 500 })).toMatchObject({
    reached: false,
    why: "timeout",
  });
  await until(async () => (await client.connect(host.address, 8080)).reached);
  expect(await client.connect(host.address, 8080)).toMatchObject({ server: "web", peer: client.address });
}

/** Containers take 10 s to stop in good order. A machine without power is not on its LAN. */
async function goDarkAndBoot(host: Host): Promise<void> {
  await host.run("ip", ["link", "set", "eth0", "down"]);
  await host.powerCut();
  await host.boot();
}

async function expectNamed(host: Host): Promise<void> {
  const { exitCode, problems = [] } = await statusOf(host);
  expect(problems.map(({ kind }) => kind)).toEqual(["rules_undeclared", "rules_undeclared"]);
  expect(exitCode).toBe(3);
}

/** Starts web anew, at another address. */
async function moveWeb(host: Host, stand: string): Promise<void> {
  const address = await host.docker.address("web");
  await host.docker.cli("stop", "--time=0", "web");
  await host.docker.run(stand);
  await host.docker.cli("start", "web");
  expect(await host.docker.address("web")).not.toBe(address);
}

/** An on-link host with a route to a container of this network reaches none of its ports. */
async function expectClosed(host: Host, client: Client, name: string): Promise<void> {
  const address = await host.docker.address(name);
  await client.route(`${address}/32`, host.address);
  expect(await client.connect(address, 80, { timeoutMs: 500 })).toMatchObject({ reached: false, why: "timeout" });
}

storyOfUfw(
  "ufw is enabled after setup: create and setup exchange only our own rules, and say so once",
  async ({ lab }) => {
    const { host, client } = await hostWithLaterUfw(lab, { name: "later" });
    const before = await ufws(host);
    expect(before.length).toBeGreaterThan(90);
    await moveWeb(host, "stand");
    const foretold = await ask(host, { container: "web", _ansible_check_mode: true });
    expect(foretold.warnings).toEqual([expect.stringMatching(TOLD)]);
    const created = await ask(host, { container: "web" });
    expect(created, created.msg).toMatchObject({ changed: true, reloaded: ["iptables-restore"] });
    expect(created.warnings).toEqual(foretold.warnings);
    await expectBoth(host, client, before);
    await expectNamed(host);

    // A rule that its owner deletes is removed; one that is changed stays as it was, and that is reported, until a load.
    const own = (source: string) => host.write(OWN, `*filter\n-A INPUT -s ${source}/32 -j DROP\nCOMMIT\n`);
    await own("192.0.2.7");
    await moveWeb(host, "stand2");
    await ask(host, { container: "web" });
    expect(await inputOf(host)).toContain("192.0.2.7/32");
    expect(await inputOf(host)).not.toContain("192.0.2.8/32");
    await own("192.0.2.9");
    const own6 = OWN.replace("iptables", "ip6tables");
    await host.write(own6, "*filter\n-A INPUT -s 2001:DB8::9 -p tcp --dport ssh -j DROP\nCOMMIT\n");
    await moveWeb(host, "stand3");
    const told = (await ask(host, { container: "web" })).warnings.join();
    expect(told).toContain(`the changes in ${OWN}, ${own6} were not loaded`);
    expect(await inputOf(host)).toContain("192.0.2.7/32");
    expect(await inputOf(host)).not.toContain("192.0.2.9/32");
    await moveWeb(host, "stand4");
    expect((await ask(host, { container: "web" })).warnings).toEqual([]);

    await host.docker.cli("network", "create", "app");
    await host.docker.run("db", { network: "app" });
    expect(await ask(host, { base: true })).toMatchObject({ changed: true });
    await expectClosed(host, client, "db");
    await expectBoth(host, client, before);

    // A service that starts removes no foreign rules, unless that is requested.
    await host.systemctl(["stop", "iptables", "ip6tables"]);
    await host.systemctl(["start", "iptables", "ip6tables"]);
    expect(await ufws(host)).toEqual(before);
    await host.systemctl(["stop", "iptables", "ip6tables"]);
    expect(await ask(host, { base: true, replace: true })).toMatchObject({ changed: true });
    expect(await ufws(host)).toEqual([]);
    expect(await inputOf(host)).toContain("192.0.2.9/32");
    expect(await inputOf(host)).not.toContain("192.0.2.7/32");
  },
);

/** The same rules as ufw's service loads, by one that neither knows of the other. */
const EARLY = `[Unit]
DefaultDependencies=no
After=local-fs.target
Before=network-pre.target iptables.service ip6tables.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/lib/ufw/ufw-init start quiet
[Install]
WantedBy=multi-user.target
`;

storyOfUfw(
  "ufw is enabled on a host with a watcher: its rules outlive restarts, networks and boots in both orders",
  async ({ lab }) => {
    const { host, client } = await hostWithLaterUfw(lab, { name: "watched" }, "--watch");
    const before = await ufws(host);
    await host.docker.run("stand");
    await host.docker.cli("restart", "--time=0", "web");
    await host.docker.cli("network", "create", "app");
    await host.docker.run("db", { network: "app" });
    await until(async () => (await host.read("/etc/iptables.d/10_docker")).includes("br-"));
    await host.docker.run("api", { publish: ["8081:80"] });
    await until(async () => (await client.connect(host.address, 8081)).reached);
    await expectBoth(host, client, before);
    await expectClosed(host, client, "db");
    expect((await host.journal(WATCH)).match(new RegExp(TOLD, "g"))).toHaveLength(1);
    await expectNamed(host);

    await host.write(
      "/etc/systemd/system/ufw.service.d/order.conf",
      "[Unit]\nAfter=iptables.service ip6tables.service\n",
    );
    await host.systemctl(["enable", "ufw"]);
    await goDarkAndBoot(host);
    await expectBoth(host, client, before);

    await host.systemctl(["disable", "ufw"]);
    await host.write("/etc/systemd/system/early.service", EARLY);
    await host.systemctl(["enable", "early"]);
    await goDarkAndBoot(host);
    await expectBoth(host, client, before);
    expect(await inputOf(host)).toContain("192.0.2.7/32");
    expect((await host.systemctl(["is-active", "iptables"])).stdout).toBe("active\n");

    // With foreign rules that were there first, all that can be loaded is loaded; and later the rest, beside them.
    await host.write("/etc/iptables.d/20_bad", "*filter\n-A FORWARD -j NO_SUCH_CHAIN\nCOMMIT\n");
    await goDarkAndBoot(host);
    expect((await host.systemctl(["is-failed", "iptables"])).stdout).toBe("failed\n");
    await expectBoth(host, client, before);
    expect(await inputOf(host)).toContain("192.0.2.7/32");
    await host.write("/etc/iptables.d/20_bad", "*filter\n-A INPUT -s 192.0.2.20/32 -j DROP\nCOMMIT\n");
    await host.systemctl(["start", "iptables"]);
    await expectBoth(host, client, before);
    expect(await inputOf(host)).toContain("192.0.2.20/32");
  },
);
