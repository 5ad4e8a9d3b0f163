/*
 * --confirm: what nobody confirms in time is put back by real timers, over kills, reboots and power cuts; a client whose way in is closed
 * gets it back.
 */

import { expect } from "vitest";
import type { Result } from "../../src/generated/result.ts";
import type { Client } from "./client.ts";
import { until } from "./fixtures.ts";
import type { Host } from "./host.ts";
import { expectAllWellSoon, problemsOf } from "./host-state.ts";
import { story } from "./story.ts";

const OWN = "/etc/iptables.d/50_own";
const closed = (port: number) => `*filter\n-A INPUT -p tcp -m tcp --dport ${port} -j DROP\nCOMMIT\n`;

async function run(host: Host, ...words: string[]): Promise<Result> {
  const { stdout, stderr } = await host.run("docker_iptables", [...words, "--json"], { check: false });
  if (stderr !== "") throw new Error(`docker_iptables wrote to stderr: ${stderr}`);
  return JSON.parse(stdout);
}

/** As `run`; what fails is an error. */
async function does(host: Host, ...words: string[]): Promise<Result> {
  const result = await run(host, ...words);
  expect(result.failed, `${words.join(" ")}: ${result.msg}`).not.toBe(true);
  return result;
}

/** Files, services and rules that a setup touches. */
async function stateOf(host: Host): Promise<string> {
  const script = `for f in $(find /etc/iptables.d /etc/ip6tables.d /etc/systemd/system /etc/docker_iptables.json -not -name '.docker_iptables.*' 2> /dev/null | sort); do
    echo "== $f"; [ -f "$f" ] && cat "$f"
  done
  for unit in iptables ip6tables iptables-retry.timer docker_iptables-watch docker_iptables-revert docker_iptables-revert-late.timer docker_iptables-revert-soon.timer; do
    echo "$unit: $(systemctl is-enabled "$unit" 2>&1), $(systemctl is-active "$unit")"
  done
  iptables-save; ip6tables-save`;
  const { stdout } = await host.run("sh", ["-c", script], { check: false });
  // A table without a rule that accepts everything is as good as none.
  const plain = stdout.replaceAll(/^#.*\n|\[\d+:\d+\]/gm, "");
  return plain.replaceAll(/^\*\w+\n(:\w+ ACCEPT *\n)*COMMIT\n/gm, "");
}

/** Whether packets to a port without a listener pass. */
async function isOpen(host: Host, client: Client, port: number): Promise<boolean> {
  const answer = await client.connect(host.address, port);
  return answer.reached || answer.why === "refused";
}

const isWaiting = (host: Host) => host.exists("/var/lib/docker_iptables/ipv4.unconfirmed");

story("setup on a bare host: its timer puts everything back; confirmed, it stays", async ({ lab }) => {
  const host = await lab.host({ name: "bare", docker: { ipv6: true } });
  const client = await lab.client("laptop");
  await host.docker.run("web", { publish: ["8080:80"] });
  const before = await stateOf(host);

  const begun = await does(host, "setup", "--watch", "--confirm", "5");
  expect(begun).toMatchObject({ changed: true, unconfirmed: { by: "timer" } });
  await until(async () => !(await isWaiting(host)));
  await until(async () => (await stateOf(host)) === before);
  expect(await host.journal("docker_iptables-revert")).toContain("the setup was put back");
  expect(await host.exists("/var/lib/docker_iptables")).toBe(false);

  await does(host, "setup", "--watch", "--confirm", "600");
  expect(await problemsOf(host)).toEqual(["unconfirmed"]);
  expect(await does(host, "confirm")).toMatchObject({ changed: true, msg: "the setup is confirmed", warnings: [] });
  expect(await host.exists("/etc/systemd/system/docker_iptables-revert.service")).toBe(false);
  await until(async () => (await client.connect(host.address, 8080)).reached);
  expect(await expectAllWellSoon(host, client)).toEqual(["web"]);
  await host.reboot();
  await host.docker.cli("start", "web");
  await until(async () => (await client.connect(host.address, 8080)).reached);
  expect(await expectAllWellSoon(host, client)).toEqual(["web"]);
});

for (const how of ["reboot", "powerCut"] as const) {
  story(`a host that goes down while it waits (${how}) comes up as it was before`, async ({ lab }) => {
    const host = await lab.host({ name: "down", lanByUnit: true });
    const client = await lab.client("laptop");
    await does(host, "setup");
    await host.write(OWN, closed(23));
    await does(host, "load");
    const before = await stateOf(host);
    const down = async () => {
      await host.run("sync");
      if (how === "reboot") return host.reboot();
      await host.run("ip", ["link", "set", "eth0", "down"]);
      await host.powerCut();
      await host.boot();
    };

    // A setup.
    await does(host, "setup", "--no-guards", "--watch", "--confirm", "600");
    await down();
    await until(async () => !(await isWaiting(host)));
    await until(async () => (await stateOf(host)) === before);
    expect(await problemsOf(host)).toEqual([]);

    // The removal of it.
    await does(host, "setup", "--remove", "--confirm", "600");
    expect(await host.exists("/etc/iptables.d/10_docker")).toBe(false);
    await down();
    await until(async () => !(await isWaiting(host)));
    await until(async () => (await stateOf(host)) === before);
    expect(await problemsOf(host)).toEqual([]);

    // A load: its fragments stay, and are not loaded.
    await host.write(OWN, closed(24));
    await does(host, "load", "--confirm", "600");
    expect(await Promise.all([23, 24].map((port) => isOpen(host, client, port)))).toEqual([true, false]);
    await down();
    await until(() => isOpen(host, client, 24));
    expect(await isOpen(host, client, 23)).toBe(false);
    expect(await problemsOf(host)).toContain("unconfirmed");
    expect(await run(host, "confirm")).toMatchObject({ error: { code: "nothing_to_confirm" } });
    await does(host, "load", "--confirm", "600");
    expect(await does(host, "confirm")).toMatchObject({ changed: true, warnings: [] });
    expect(await isOpen(host, client, 23)).toBe(true);
    expect(await isOpen(host, client, 24)).toBe(false);
    // The other family's service has its timer.
    await until(async () => (await problemsOf(host)).length === 0);
  });
}

story("a bare host that goes down while its first setup waits comes up bare", async ({ lab }) => {
  const host = await lab.host({ name: "bare" });
  const before = await stateOf(host);
  await does(host, "setup", "--watch", "--confirm", "600");
  await host.reboot();
  await until(async () => !(await isWaiting(host)));
  await until(async () => (await stateOf(host)) === before);
  expect(await host.exists("/var/lib/docker_iptables")).toBe(false);
});

story("a setup that is killed at any moment is put back", async ({ lab }) => {
  const host = await lab.host({ name: "killed" });
  await does(host, "setup");
  const before = await stateOf(host);
  let waited = false;
  for (const seconds of [0.1, 0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.8, 1.2]) {
    const words = [
      "--signal=KILL",
      String(seconds),
      "docker_iptables",
      "setup",
      "--no-guards",
      "--watch",
      "--confirm",
      "5",
    ];
    await host.run("timeout", words, { check: false });
    // A change under way has a minute more, as has the timer of one that was not begun: waited for once.
    const isBegun = await isWaiting(host);
    if (isBegun || waited) await host.run("docker_iptables", ["revert"]);
    else waited = (await stateOf(host)) !== before;
    await until(async () => (await stateOf(host)) === before);
    expect(await problemsOf(host)).toEqual([]);
  }
});

story("a load that locks its administrator out: the way in is there again", async ({ lab }) => {
  const host = await lab.host({ name: "locked" });
  const client = await lab.client("laptop");
  await does(host, "setup");
  await host.docker.run("web", { publish: ["8080:80"] });
  await does(host, "create", "web");
  expect(await isOpen(host, client, 22)).toBe(true);
  await host.write(OWN, "*filter\n-P INPUT DROP\nCOMMIT\n");
  await does(host, "load", "--confirm", "15");
  expect(await host.run("iptables", ["-S", "INPUT"])).toMatchObject({ stdout: "-P INPUT DROP\n" });
  await until(() => isOpen(host, client, 22));
  expect(await client.connect(host.address, 8080)).toMatchObject({ reached: true, server: "web" });
  expect(await problemsOf(host)).toEqual(["unconfirmed"]);

  // Nothing loads it: no service, no create, no boot.
  expect((await host.systemctl(["reload", "iptables"], { check: false })).exitCode).not.toBe(0);
  expect(await isOpen(host, client, 22)).toBe(true);
  await host.docker.run("db", { publish: ["8081:80"] });
  await does(host, "create", "db");
  expect(await client.connect(host.address, 8081)).toMatchObject({ reached: true });
  await host.reboot();
  await until(() => isOpen(host, client, 22));

  await host.run("rm", [OWN]);
  await host.systemctl(["restart", "iptables", "ip6tables"]);
  for (const name of ["web", "db"]) {
    await host.docker.cli("start", name);
    await does(host, "create", name);
  }
  expect(await expectAllWellSoon(host, client)).toEqual(["db", "web"]);
});

story("by ssh: the connection ends, and the timer does not", async ({ lab }) => {
  const host = await lab.host({ name: "session" });
  await does(host, "setup");
  const before = await stateOf(host);
  // A session of its own, all of whose processes end with it, as logind has it with KillUserProcesses=yes.
  const scope = ["--scope", "--collect", "--quiet", "--unit=session-1"];
  await host.run("systemd-run", [...scope, "docker_iptables", "setup", "--no-guards", "--confirm", "5"]);
  await host.systemctl(["kill", "--signal=KILL", "session-1.scope"], { check: false });
  await until(async () => !(await isWaiting(host)));
  await until(async () => (await stateOf(host)) === before);
  expect(await problemsOf(host)).toEqual([]);
});
