/*
 * watch, as `setup --watch` installs it: when a container is started, stopped or moved without a call, files and kernel follow, and
 * packets arrive.
 */

import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect } from "vitest";
import { churn } from "./churn.ts";
import { until } from "./fixtures.ts";
import type { Host } from "./host.ts";
import { expectAllWellSoon, statusOf } from "./host-state.ts";
import { serverImage } from "./image.ts";
import { story, storyWith } from "./story.ts";

const UNIT = "docker_iptables-watch";
const ALWAYS = { options: ["--restart=always"] };

async function setupWatch(host: Host): Promise<void> {
  const { stderr } = await host.run("docker_iptables", ["setup", "--watch"]);
  expect(stderr).toBe("");
}

/** Some properties of watch's unit. */
async function unitOf(host: Host, ...names: string[]): Promise<Record<string, string>> {
  const { stdout } = await host.systemctl(["show", `--property=${names.join(",")}`, UNIT]);
  return Object.fromEntries(
    stdout
      .trim()
      .split("\n")
      .map((line) => line.split(/=(.*)/s).slice(0, 2)),
  );
}

const pidOf = async (host: Host, name: string): Promise<number> => (await host.docker.inspect(name)).State.Pid;

const COMPOSE = `version: "2.4"
services:
  app:
    image: ${serverImage}
    ports: ["8100-8110:80"]
  db:
    image: ${serverImage}
    ports: ["5432:5000"]
`;

storyWith({ packages: ["docker-compose"] })(
  "a restart, a crash, compose and a daemon that restarts: the rules follow",
  async ({ lab }) => {
    const host = await lab.host({ name: "web1", files: { "/root/app/docker-compose.yml": COMPOSE } });
    const client = await lab.client("laptop");
    await setupWatch(host);
    await host.docker.run("first", { publish: ["8080:80"] });
    await host.docker.run("web", { publish: ["8081:80"], ...ALWAYS });
    await host.docker.run("mail", { publish: ["8025:80", "8026:5000"], ...ALWAYS });
    expect(await expectAllWellSoon(host, client)).toEqual(["first", "mail", "web"]);

    const address = await host.docker.address("web");
    await host.docker.cli("rm", "--force", "first");
    await host.docker.cli("restart", "--time=0", "web");
    expect(await host.docker.address("web")).not.toBe(address);
    expect(await expectAllWellSoon(host, client)).toEqual(["mail", "web"]);
    expect(await client.connect(host.address, 8080)).toEqual({ reached: false, why: "refused" });

    const crashed = [await pidOf(host, "web"), await pidOf(host, "mail")];
    await host.run("kill", ["-KILL", ...crashed.map(String)]);
    await until(async () => {
      const now = [await pidOf(host, "web"), await pidOf(host, "mail")];
      return now.every((pid, index) => pid !== 0 && pid !== crashed[index]);
    });
    expect(await expectAllWellSoon(host, client)).toEqual(["mail", "web"]);

    const compose = (...args: string[]) =>
      host.run("docker-compose", ["--project-directory", "/root/app", "-f", "/root/app/docker-compose.yml", ...args]);
    await compose("up", "-d");
    // Compose 1 joins names with _.
    const running = (await expectAllWellSoon(host, client)).map((name) => name.replaceAll("_", "-"));
    expect(running).toEqual(["app-app-1", "app-db-1", "mail", "web"]);
    await compose("up", "-d", "--scale", "app=4");
    expect(await expectAllWellSoon(host, client)).toHaveLength(7);
    await compose("down");
    expect(await expectAllWellSoon(host, client)).toEqual(["mail", "web"]);
    expect(await host.read("/etc/iptables.d/10_docker")).not.toContain("br-");

    await host.systemctl(["restart", "docker"]);
    expect(await expectAllWellSoon(host, client)).toEqual(["mail", "web"]);

    const settings = JSON.parse(await host.read("/etc/docker/daemon.json"));
    await host.write("/etc/docker/daemon.json", JSON.stringify({ ...settings, "live-restore": true }));
    await host.systemctl(["restart", "docker"]);
    const before = await pidOf(host, "web");
    await host.systemctl(["restart", "docker"]);
    expect(await pidOf(host, "web")).toBe(before);
    // What happens while the daemon is away is seen when it is back.
    await host.systemctl(["stop", "docker.socket", "docker"]);
    await host.run("kill", ["-KILL", String(before)]);
    // Of systemd's start limit Docker's unit has used up all by now.
    await host.systemctl(["reset-failed", "docker"]);
    await host.systemctl(["start", "docker"]);
    await until(async () => ![0, before].includes(await pidOf(host, "web")));
    expect(await expectAllWellSoon(host, client)).toEqual(["mail", "web"]);
    expect(await unitOf(host, "ActiveState", "NRestarts")).toEqual({ ActiveState: "active", NRestarts: "0" });
  },
);

story(
  "a network that is made later: its containers are covered, however the host's own rules are written",
  async ({ lab }) => {
    // iptables prints RELATED,ESTABLISHED, and port 22.
    const own =
      "*filter\n-A INPUT -m state --state ESTABLISHED,RELATED -j ACCEPT\n-A INPUT -p tcp --dport ssh -j ACCEPT\nCOMMIT\n";
    const host = await lab.host({ name: "web1", files: { "/etc/iptables.d/05_host": own } });
    const client = await lab.client("laptop");
    await setupWatch(host);
    await host.docker.cli("network", "create", "--subnet", "10.88.0.0/24", "backend");
    await host.docker.run("app", { publish: ["8085:80"], options: ["--network=backend"] });
    await host.docker.run("hidden", { options: ["--network=backend"] });
    await client.route("10.88.0.0/24", host.address);
    expect(await expectAllWellSoon(host, client)).toEqual(["app"]);
    const hidden = await host.docker.address("hidden", "backend");
    await until(async () => !(await client.connect(hidden, 80)).reached);
    const { stdout } = await host.run("docker_iptables", ["setup", "--json"]);
    expect(JSON.parse(stdout)).toMatchObject({ changed: false, warnings: [] });
    await host.run("docker_iptables", ["load"]);
    expect((await client.connect(hidden, 80)).reached).toBe(false);
    expect(await expectAllWellSoon(host, client)).toEqual(["app"]);
  },
);

story("a daemon that is down at boot: watch waits for it, and follows when it comes", async ({ lab }) => {
  const host = await lab.host({ name: "late", docker: { atBoot: false } });
  const client = await lab.client("laptop");
  await host.systemctl(["start", "docker"]);
  await setupWatch(host);
  await host.docker.run("web", { publish: ["8080:80"], ...ALWAYS });
  await expectAllWellSoon(host, client);

  await host.reboot();
  await until(async () => (await unitOf(host, "ActiveState")).ActiveState === "active");
  expect(await statusOf(host)).toMatchObject({ exitCode: 1 });
  expect(await host.journal(UNIT)).toContain("docker cannot reach its daemon");
  await host.systemctl(["start", "docker"]);
  expect(await expectAllWellSoon(host, client)).toEqual(["web"]);
  expect(await unitOf(host, "NRestarts")).toEqual({ NRestarts: "0" });
});

story("a power cut: after the boot everything is reached again, and nothing of before is left", async ({ lab }) => {
  const host = await lab.host({ name: "dark" });
  const client = await lab.client("laptop");
  await setupWatch(host);
  const names = Array.from({ length: 6 }, (_, index) => `c${index}`);
  for (const [index, name] of names.entries()) {
    await host.docker.run(name, { publish: [`${8000 + index}:80`], ...(index === 0 ? {} : ALWAYS) });
  }
  await expectAllWellSoon(host, client);
  await host.powerCut();
  await host.boot();
  // c0 has no restart policy.
  expect(await expectAllWellSoon(host, client)).toEqual(names.slice(1));
  expect(await client.connect(host.address, 8000)).toEqual({ reached: false, why: "refused" });
});

story("fifty containers that come and go at random: watch keeps up", async ({ lab }) => {
  const host = await lab.host({ name: "busy" });
  const client = await lab.client("laptop");
  await setupWatch(host);
  await churn(host, { seed: 6, containers: 50 });
  const names = await expectAllWellSoon(host, client);
  expect(names.length).toBeGreaterThan(5);
  expect(await unitOf(host, "ActiveState", "NRestarts")).toEqual({ ActiveState: "active", NRestarts: "0" });
});

/** When a service said last that it is alive. */
const WORD = "WatchdogTimestampMonotonic";

story("the service: ready, alive, restarted when it hangs, and stopped cleanly", async ({ lab }) => {
  const host = await lab.host({ name: "service" });
  await setupWatch(host);
  expect(await unitOf(host, "Type", "ActiveState", "SubState", "UnitFileState", "StatusText")).toEqual({
    Type: "notify",
    ActiveState: "active",
    SubState: "running",
    UnitFileState: "enabled",
    StatusText: "following the daemon's events",
  });
  await host.write(`/etc/systemd/system/${UNIT}.service.d/soon.conf`, "[Service]\nWatchdogSec=9\n");
  await host.systemctl(["daemon-reload"]);
  await host.systemctl(["restart", UNIT]);
  // One process says more than once that it is alive; it would be ended if it did not.
  let [alive, words] = ["", new Set<string>()];
  await until(async () => {
    const { MainPID = "", WatchdogTimestampMonotonic: word = "" } = await unitOf(host, "MainPID", WORD);
    if (MainPID !== alive) [alive, words] = [MainPID, new Set()];
    return words.add(word).size > 3;
  });

  await host.run("kill", ["-STOP", alive]);
  await until(async () => {
    const { ActiveState, MainPID } = await unitOf(host, "ActiveState", "MainPID");
    return ActiveState === "active" && MainPID !== alive;
  });
  expect(await host.journal(UNIT)).toContain("Watchdog timeout");

  await host.systemctl(["stop", UNIT]);
  expect(await unitOf(host, "ActiveState", "Result", "ExecMainStatus", "ExecMainCode")).toEqual({
    ActiveState: "inactive",
    Result: "success",
    ExecMainStatus: "0",
    ExecMainCode: "1",
  });
  const left = await host.run("pgrep", ["--full", "docker_iptables|docker events"], { check: false });
  expect(left.stdout).toBe("");
});

describe.each(["nft", "legacy"] as const)("on iptables-%s", (backend) => {
  storyWith({ packages: ["nftables"] })(
    "rules that somebody flushes are back, and packets arrive again",
    async ({ lab }) => {
      const host = await lab.host({ name: "flushed", backend, docker: { ipv6: true } });
      const client = await lab.client("laptop");
      // So that a filter table without rules lets nothing through.
      for (const command of ["iptables", "ip6tables"]) await host.run(command, ["-P", "FORWARD", "DROP"]);
      await host.run("docker_iptables", ["setup", "--watch", "--ipv6"]);
      await host.docker.run("web", { publish: ["8080:80"] });
      await expectAllWellSoon(host, client, "--ipv6");
      const flushes: [command: string, ...args: string[]][] = [
        ["iptables", "-F"],
        ["iptables", "-t", "nat", "-F"],
        ["ip6tables", "-t", "nat", "-F"],
        // All of both families, their policies and chains included.
        ...(backend === "nft" ? ([["nft", "flush", "ruleset"]] as [string, ...string[]][]) : []),
      ];
      for (const [command, ...args] of flushes) {
        await host.run(command, args);
        expect(await expectAllWellSoon(host, client, "--ipv6")).toEqual(["web"]);
      }
      const journal = await host.journal(UNIT);
      expect(journal).toContain("IPv4 filter flushed");
      expect(journal).toContain("IPv4 nat flushed");
      // It is reported once that this is repeated.
      expect(journal.match(/repeatedly removes/g)).toHaveLength(1);
    },
  );
});

/** A client that prints 20,000 events, and 10,000 more when allowed; one in a hundred causes a sync. */
const CHATTY = `#!/bin/sh
[ "$1" = events ] || exec docker "$@"
tell() {
  i=$1
  while [ $i -lt $2 ]; do
    action=exec_start
    [ $((i % 100)) -ne 0 ] || { action=start; sleep 0.05; }
    echo "{\\"Type\\":\\"container\\",\\"Action\\":\\"$action\\",\\"Actor\\":{\\"Attributes\\":{\\"name\\":\\"c$i\\"}}}"
    i=$((i + 1))
  done
  touch /root/told-$2
}
tell 0 20000
while ! [ -e /root/more ]; do sleep 0.1; done
tell 20000 30000
exec sleep infinity
`;

/** Mebibytes of heap: without a limit, what a process has depends on when it was last collected. */
const HEAP = 40;

story("ten thousand events: memory stays flat", async ({ lab }) => {
  const host = await lab.host({
    name: "chatty",
    files: {
      "/usr/local/bin/chatty": CHATTY,
      [`/etc/systemd/system/${UNIT}.service.d/heap.conf`]: `[Service]\nEnvironment=NODE_OPTIONS=--max-old-space-size=${HEAP}\n`,
    },
  });
  await host.run("docker_iptables", ["setup", "--watch", "--client=chatty"]);
  await host.docker.run("web", { publish: ["8080:80"] });
  // The most so far; and a process that has not enough ends, and another takes its place.
  const most = async () => {
    // What a burst has left to do is done first.
    await sleep(2000);
    const { MainPID, NRestarts } = await unitOf(host, "MainPID", "NRestarts");
    expect(NRestarts).toBe("0");
    const { stdout } = await host.run("grep", ["VmHWM", `/proc/${MainPID}/status`]);
    return { process: MainPID, memory: Number(/\d+/.exec(stdout)?.[0]) / 1024 };
  };
  // By then the heap is as large as it gets before it is collected.
  await until(() => host.exists("/root/told-20000"));
  const before = await most();
  await host.write("/root/more", "");
  await until(() => host.exists("/root/told-30000"));
  const after = await most();
  console.log(
    `memory after 20000 events: ${Math.round(before.memory)} MiB, after 30000: ${Math.round(after.memory)} MiB`,
  );
  expect(after.process).toBe(before.process);
  expect(after.memory - before.memory).toBeLessThan(20);
  expect((await statusOf(host)).exitCode).toBe(0);
});
