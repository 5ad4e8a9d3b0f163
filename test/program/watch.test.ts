// watch: the daemon's events become syncs; a failure is reported once and retried; it ends on a signal.

import { appendFileSync, chmodSync, existsSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { execa } from "execa";
import { afterAll, describe, expect, test } from "vitest";
import { pauseUntil, readEvent } from "../../src/commands/watch.ts";
import { until } from "../until.ts";
import { BRIDGE, type FakeHost, fakeHost } from "./host.ts";

const port = (HostPort: string) => ({ "80/tcp": [{ HostIp: "0.0.0.0", HostPort }] });

/** A watcher that runs, what it has said so far, and how it ended. */
interface Watcher {
  pid: number;
  out: () => string;
  err: () => string;
  stop: (signal?: "SIGTERM" | "SIGINT") => Promise<{ exitCode: number | undefined; signal: string | undefined }>;
}

/** On a machine that has much to do a client may take its time. */
const PATIENT = ["--reload", "restore", "--timeout", "120"];

const running = new Set<Watcher>();
afterAll(() => Promise.all([...running].map((watcher) => watcher.stop())));

function start(host: FakeHost, words: readonly string[] = [], env: Record<string, string> = {}): Watcher {
  const { env: own, timeout: _, ...options } = host.options();
  const dirs = ["--iptables-dir", host.iptablesDir, "--ip6tables-dir", host.ip6tablesDir];
  const subprocess = execa(host.executable, ["watch", ...PATIENT, ...dirs, ...words], {
    ...options,
    env: { ...own, ...env },
    stdin: "ignore",
  });
  let out = "";
  let err = "";
  subprocess.stdout.on("data", (chunk: Buffer) => {
    out += chunk;
  });
  subprocess.stderr.on("data", (chunk: Buffer) => {
    err += chunk;
  });
  const watcher: Watcher = {
    pid: subprocess.pid ?? 0,
    out: () => out,
    err: () => err,
    stop: async (signal = "SIGTERM") => {
      running.delete(watcher);
      subprocess.kill(signal);
      const ended = await subprocess;
      return { exitCode: ended.exitCode, signal: ended.signal };
    },
  };
  running.add(watcher);
  return watcher;
}

const count = (host: FakeHost, pattern: RegExp) => callsOf(host).filter((call) => pattern.test(call)).length;

/** Those so far, without forgetting them. */
function callsOf(host: FakeHost): string[] {
  const path = join(host.fake, "calls");
  return existsSync(path) ? readFileSync(path, "utf8").trim().split("\n") : [];
}

/** To follow the events. */
const tries = (host: FakeHost) => count(host, /^docker events /);

const syncs = (host: FakeHost) => count(host, /^docker ps/);

/** As docker 20.10 and later print it. */
const event = (Type: string, Action: string, name = "web") =>
  JSON.stringify({ Type, Action, Actor: { ID: "0", Attributes: { name } }, time: 1 });

function tell(host: FakeHost, ...lines: string[]): void {
  appendFileSync(join(host.fake, "events"), lines.map((line) => `${line}\n`).join(""));
}

/** The child of the watcher that follows the events. */
const follower = (host: FakeHost) => Number(readFileSync(join(host.fake, "events-pid"), "utf8"));

const follows = (host: FakeHost) => existsSync(join(host.fake, "events-pid"));

/** Nothing is published; the host rules are foreign, so that a sync asks for containers alone. */
async function bootedHost(): Promise<FakeHost> {
  const host = fakeHost();
  await host.boot();
  return host;
}

/** It follows events, and is idle: it has reported an event as the reason of its last sync. */
async function settled(host: FakeHost, watcher: Watcher): Promise<void> {
  await until("it follows", () => follows(host));
  // A sync for another reason may find the container before its event has come; then one more is made. Later and later: the sync for
  // the event that came too late would find this one, too, and so on.
  for (let n = 0; !watcher.out().includes(`canary${n} start`); n++) {
    await sleep(n * 100);
    const name = `canary${n + 1}`;
    host.container(name, { ports: port(String(n + 1)), address: `172.17.0.${n + 100}` });
    tell(host, event("container", "start", name));
    await until(`it publishes ${name}`, () => new RegExp(`published: .*${name}`).test(watcher.out()));
  }
}

describe.concurrent("events", () => {
  test("a container that starts is published, one that dies is not; each with its reason in a line", async () => {
    const host = await bootedHost();
    const watcher = start(host);
    await settled(host, watcher);
    host.container("web", { ports: port("8080") });
    tell(host, event("container", "start"));
    await until("web has rules", () => host.kernel("nat").includes("172.17.0.2:80"));
    await until("it tells that web is published", () => watcher.out().includes("published: web (web start)\n"));
    host.container("web", { ports: port("8080"), status: "exited" });
    tell(host, event("container", "die"));
    await until("it tells that web is not published any more", () =>
      watcher.out().includes("unpublished: web (web die)\n"),
    );
    expect(host.fragment("web")).toBeUndefined();
    expect(watcher.err()).toBe("");
  });

  test("a burst is one sync", async () => {
    const host = await bootedHost();
    const watcher = start(host);
    await settled(host, watcher);
    const before = syncs(host);
    const lines = () => watcher.out().trim().split("\n").length;
    const told = lines();
    for (let n = 0; n < 50; n++) host.container(`c${n}`, { ports: port(String(9000 + n)), address: `172.17.1.${n}` });
    tell(host, ...Array.from({ length: 50 }, (_, n) => event("container", "start", `c${n}`)));
    await until("the last of the burst has rules", () => host.kernel("nat").includes("172.17.1.49:80"));
    await until("it tells of the last of the burst", () => watcher.out().includes("c49"));
    // Two where the burst came in two pieces.
    expect(syncs(host)).toBeLessThanOrEqual(before + 2);
    expect(lines()).toBeLessThanOrEqual(told + 2);
  });

  test("that change no rule start nothing, nor do lines that are no events, however long", async () => {
    const host = await bootedHost();
    const watcher = start(host);
    await settled(host, watcher);
    const [before, asked] = [tries(host), syncs(host)];
    tell(
      host,
      ...["exec_create: sh", "exec_start: sh", "exec_die", "health_status: healthy", "attach", "top", "resize"].map(
        (action) => event("container", action),
      ),
      ...[event("image", "pull"), event("volume", "create"), event("daemon", "reload")],
      ...["garbage", "", "null", "7", "[]", '"start"', "{}", '{"Type": 7, "Action": {}}', "{".repeat(100)],
      `"${"x".repeat(3 * 1024 * 1024)}"`,
      event("container", `start${"x".repeat(2 * 1024 * 1024)}`),
    );
    // Behind all that comes one that counts.
    host.container("web", { ports: port("8080") });
    tell(host, event("container", "start"));
    await until("it tells that web is published", () => watcher.out().includes("published: web (web start)\n"));
    expect([tries(host), syncs(host)]).toEqual([before, asked + 1]);
    expect(watcher.err()).toBe("");
  });

  test("of networks update the host rules, where they are ours", async () => {
    const host = fakeHost().bare();
    const bridge = { "com.docker.network.bridge.name": BRIDGE };
    host.network("bridge", { Options: bridge, IPAM: { Config: [{ Subnet: "172.17.0.0/16" }] } });
    await host.ask({ base: true, reload: "restore" });
    const watcher = start(host);
    await settled(host, watcher);
    const listed = count(host, /^docker network ls/);
    tell(host, event("container", "start"), event("network", "connect", "app"));
    host.container("web", { ports: port("8080") });
    tell(host, event("container", "start"));
    await until("web is published", () => watcher.out().includes("published: web"));
    host.network("app", {
      Options: { "com.docker.network.bridge.name": "br-app" },
      IPAM: { Config: [{ Subnet: "172.18.0.0/16" }] },
    });
    expect(count(host, /^docker network ls/)).toBe(listed);
    tell(host, event("network", "create", "app"));
    await until("the base has the network", () => host.kernel("filter").includes("br-app"));
    await until("it tells of the network", () =>
      watcher.out().includes("the host rules are set up for the networks app, bridge"),
    );
  });
});

describe.concurrent("what goes wrong", () => {
  test("the events end: it follows again, and catches up", async () => {
    const host = await bootedHost();
    const watcher = start(host);
    await settled(host, watcher);
    const former = follower(host);
    host.container("web", { ports: port("8080") });
    process.kill(former, "SIGKILL");
    await until("web has rules", () => host.kernel("nat").includes("172.17.0.2:80"));
    await until("it follows again", () => follower(host) !== former);
    host.container("db", { ports: port("5432"), address: "172.17.0.3" });
    tell(host, event("container", "start", "db"));
    await until("it tells that db is published", () => watcher.out().includes("published: db"));
    expect(count(host, /^docker events --since 1s --format \{\{json \.\}\}$/)).toBe(2);
  });

  test("a client that cannot follow the events: reported once, and running containers are published nevertheless", async () => {
    const host = await bootedHost();
    host.on("docker", '[ "$1" = events ] && { echo "unknown command: events" >&2; exit 1; }');
    host.container("web", { ports: port("8080") });
    const watcher = start(host);
    await until("it tells that web is published", () => watcher.out().includes("published: web"));
    host.container("db", { ports: port("5432"), address: "172.17.0.3" });
    await until("it tells that db is published", () => watcher.out().includes("published: db"));
    await until("it has tried to follow four times", () => tries(host) >= 4);
    const tried = tries(host);
    const told = /docker_iptables: docker failed: 'docker events .*unknown command: events \[client_failed\]\n/g;
    await until("it has told it", () => watcher.err().match(told) !== null);
    // Once; again only after an attempt that took seconds, as if it had followed.
    expect(watcher.err().match(told)?.length).toBeLessThan(tried - 1);
    expect(watcher.err().replaceAll(told, "")).toBe("");
  });

  test("a client that cannot look back (nerdctl): its events are followed all the same, and what came meanwhile is found", async () => {
    const host = await bootedHost();
    const refusing = 'echo "time=\\"2026\\" level=fatal msg=\\"unknown flag: --since\\"" >&2; exit 1';
    // web starts when the containers were listed, and before its events are followed.
    host.container("web", { ports: port("8080") });
    renameSync(join(host.fake, "containers", "web.json"), join(host.fake, "web.json"));
    const listing = '[ "$1" = ps ] && [ -z "$NESTED" ] && { NESTED=1 "$0" "$@"; : > "$FAKE/listed"; exit 0; }';
    const starting = 'until [ -e "$FAKE/listed" ]; do sleep 0.02; done; mv "$FAKE/web.json" "$FAKE/containers/"';
    host.on("docker", `${listing}\n[ "$1 $2" = "events --since" ] && { ${starting}; ${refusing}; }`);
    const watcher = start(host);
    await until("it tells that web is published, without an event", () => watcher.out().includes("published: web"));
    // Where the look at what came meanwhile is late it finds a container before its event.
    for (let at = 1; !/published: db\d+ \(0a1b start\)/.test(watcher.out()); at++) {
      host.container(`db${at}`, { ports: port(String(5000 + at)), address: `172.17.0.${2 + at}` });
      tell(host, '{"ID":"0a1b","Topic":"/tasks/start","Event":"{\\"container_id\\":\\"0a1b\\"}"}');
      await until(`db${at} is published`, () => watcher.out().includes(`published: db${at}`));
    }
    expect(count(host, /^docker events --format \{\{json \.\}\}$/)).toBe(1);
    expect(watcher.err()).toBe("");
  });

  test("a client that says when it cannot follow: reported once, and again after it could", async () => {
    const host = await bootedHost();
    const failing = 'echo "time=\\"$(date +%N)\\" level=fatal msg=\\"unknown flag: --format\\"" >&2; exit 1';
    host.on("docker", `[ "$1" = events ] && { [ -e "$FAKE/can" ] && rm "$FAKE/can" && exec sleep 6; ${failing}; }`);
    const watcher = start(host);
    const told = () => watcher.err().match(/unknown flag: --format/g)?.length ?? 0;
    await until("it has tried to follow four times", () => tries(host) >= 4);
    const tried = tries(host);
    await until("it has told it", () => told() > 0);
    const before = told();
    expect(before).toBeLessThan(tried - 1);
    writeFileSync(join(host.fake, "can"), "");
    await until("it could, and tells it again", () => !existsSync(join(host.fake, "can")) && told() > before);
  });

  test("the daemon is down: reported once, retried, and published when it is back", async () => {
    const host = await bootedHost();
    host.container("web", { ports: port("8080") });
    await host.ask({ container: "web" });
    const before = host.state();
    host.on("docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1");
    host.calls();
    const watcher = start(host);
    await until("it has tried four times", () => syncs(host) >= 4);
    expect(watcher.err().match(/daemon_unreachable/g)).toHaveLength(1);
    expect(watcher.err()).toMatch(/^docker_iptables: docker cannot reach its daemon.* \[daemon_unreachable\]\n$/);
    expect(host.state()).toEqual(before);
    host.container("db", { ports: port("5432"), address: "172.17.0.3" });
    host.on("docker", "");
    await until("it tells that db is published", () => watcher.out().includes("published: db"));
    expect(await watcher.stop()).toEqual({ exitCode: 0, signal: undefined });
  });

  test("a user without the rights gets an answer at once: waiting does not cure it", async () => {
    const host = await bootedHost();
    host.on("iptables-save", "echo 'Permission denied (you must be root)' >&2; exit 4");
    const dirs = ["--iptables-dir", host.iptablesDir, "--ip6tables-dir", host.ip6tablesDir];
    const { exitCode, stderr } = await host.start(["watch", ...PATIENT, ...dirs]);
    expect(exitCode).toBe(1);
    expect(stderr).toMatch(/root is needed.*\[permission_denied\]\n$/s);
  });

  test("the settings are changed while it runs: they are in force from then on", async () => {
    const host = await bootedHost();
    host.container("web", {
      ports: { "80/tcp": ["0.0.0.0", "::"].map((HostIp) => ({ HostIp, HostPort: "8080" })) },
      address6: "fd00::2",
    });
    const watcher = start(host);
    await until("it tells that web is published", () => watcher.out().includes("published: web"));
    expect(host.fragment("web", host.ip6tablesDir)).toBeUndefined();
    writeFileSync(host.settingsPath, '{"ipv6": true}');
    await until("web is published on IPv6", () => host.fragment("web", host.ip6tablesDir) !== undefined);
    writeFileSync(host.settingsPath, '{"ipv6": true');
    await until("it tells that they cannot be used", () => watcher.err().includes("[settings_unusable]"));
    // And it goes on with the last that were valid.
    host.container("db", {
      ports: { "80/tcp": ["0.0.0.0", "::"].map((HostIp) => ({ HostIp, HostPort: "5432" })) },
      address: "172.17.0.3",
      address6: "fd00::3",
    });
    tell(host, event("container", "start", "db"));
    await until("db is published on IPv6", () => host.fragment("db", host.ip6tablesDir) !== undefined);
    expect(watcher.err().match(/settings_unusable/g)).toHaveLength(1);
    expect(await watcher.stop()).toEqual({ exitCode: 0, signal: undefined });
  });

  test("there is no client, and then there is", async () => {
    const host = await bootedHost();
    host.container("web", { ports: port("8080") });
    const watcher = start(host, ["--client", join(host.bin, "later")]);
    await until("it tells that there is no client", () => watcher.err().includes("[command_missing]"));
    host.install("docker", "later");
    await until("it tells that web is published", () => watcher.out().includes("published: web"));
    expect(watcher.err().match(/command_missing/g)).toHaveLength(1);
  });

  test("the host rules cannot be updated: the containers are published nevertheless", async () => {
    const host = fakeHost().bare();
    const bridge = { "com.docker.network.bridge.name": BRIDGE };
    host.network("bridge", { Options: bridge, IPAM: { Config: [{ Subnet: "172.17.0.0/16" }] } });
    await host.ask({ base: true, reload: "restore" });
    host.write("90_docker", "# mine\n");
    host.container("web", { ports: port("8080") });
    const watcher = start(host);
    await until("web has rules", () => host.kernel("nat").includes("172.17.0.2:80"));
    await until("it tells that web is published", () => watcher.out().includes("published: web"));
    expect(watcher.err().match(/\[fragment_foreign\]/g)).toHaveLength(1);
  });

  test("the reasons of what failed are reported with what succeeds", async () => {
    const host = await bootedHost();
    const watcher = start(host);
    await settled(host, watcher);
    host.on("iptables-save", "exit 1");
    host.container("web", { ports: port("8080") });
    tell(host, event("container", "start"));
    await until("it tells of the failure", () => watcher.err().includes("[command_failed]"));
    host.on("iptables-save", "");
    await until("it tells that web is published", () => watcher.out().includes("published: web (web start)\n"));
  });
});

const looks = (host: FakeHost) => count(host, /^ip6?tables --wait 1 --table \w+ --list-rules /);

describe.concurrent("rules that somebody flushes", () => {
  /** web is published in both families, and the watcher has nothing to do. */
  async function watched(words: readonly string[] = []) {
    const host = fakeHost();
    const both = { "80/tcp": ["0.0.0.0", "::"].map((HostIp) => ({ HostIp, HostPort: "8080" })) };
    host.container("web", { ports: both, address6: "fd00::2" });
    await host.boot();
    const watcher = start(host, ["--ipv6", ...words]);
    await until("web has rules", () => host.kernel("nat", "ipv6").includes("[fd00::2]:80"));
    await until("it tells that web is published", () => watcher.out().includes("published: web"));
    // What it does because it has begun to follow the events is done by then.
    await until("it has looked for them", () => looks(host) > 4);
    return { host, watcher };
  }

  test.each([
    ["nat", "ipv4"],
    ["filter", "ipv4"],
    ["raw", "ipv4"],
    ["nat", "ipv6"],
    ["filter", "ipv6"],
  ])("are put back without an event: %s of %s", async (table, family) => {
    const { host, watcher } = await watched();
    const whole = host.kernel(table, family);
    host.flush(table, family);
    const word = family === "ipv4" ? "IPv4" : "IPv6";
    await until("it tells of it", () => watcher.out().includes(`published: web (${word} ${table} flushed)\n`));
    expect(host.kernel(table, family).split("\n").sort()).toEqual(whole.split("\n").sort());
    expect(watcher.err()).toBe("");
  });

  test("with the host rules, which are ours, where nothing is published", async () => {
    const host = fakeHost().bare();
    const bridge = { "com.docker.network.bridge.name": BRIDGE };
    host.network("bridge", { Options: bridge, IPAM: { Config: [{ Subnet: "172.17.0.0/16" }] } });
    await host.ask({ base: true, reload: "restore" });
    const watcher = start(host);
    await until("it has looked", () => looks(host) > 2);
    host.flush("nat");
    host.flush("filter");
    await until("it tells of it", () => /IPv4 nat flushed\)/.test(watcher.out()));
    expect(host.kernel("nat")).toContain("-j DOCKER_CONTAINERS");
    await until("both are back", () => host.kernel("filter").includes("docker_iptables: (90_docker)"));
  });

  test("again and again: that is reported once", async () => {
    const { host, watcher } = await watched();
    const told = () => watcher.out().match(/flushed/g)?.length ?? 0;
    for (const times of [1, 2, 2]) {
      host.flush("nat");
      await until("they are back", () => host.kernel("nat").includes("172.17.0.2:80"));
      await until(`that was told ${times} times`, () => told() === times);
    }
    expect(watcher.err().match(/\[concurrent_change\]/g)).toHaveLength(1);
    expect(watcher.err()).toContain("another program repeatedly removes docker_iptables' rules (IPv4 nat)");
    // Other failures are reported as before.
    host.container("db", { ports: port("5432"), address: "172.17.0.3" });
    tell(host, event("container", "start", "db"));
    await until("it tells that db is published", () => watcher.out().includes("published: db (db start)\n"));
    expect(told()).toBe(2);
  });

  test.each([
    ["the lock is held", "echo 'Another app is currently holding the xtables lock.' >&2; exit 4"],
    ["iptables is broken", "exit 1"],
  ])("are not those that it cannot look for: %s", async (_what, script) => {
    const { host, watcher } = await watched();
    for (const name of ["iptables", "ip6tables"]) host.on(name, script);
    const [before, asked] = [looks(host), syncs(host)];
    await until("it has looked", () => looks(host) > before + 4);
    expect(syncs(host)).toBe(asked);
    expect(watcher.err()).toBe("");
  });

  test("are not those that a delete has removed", async () => {
    const { host, watcher } = await watched();
    host.container("zed", { ports: port("5432"), address: "172.17.0.3" });
    tell(host, event("container", "start", "zed"));
    await until("it tells that zed is published", () => watcher.out().includes("published: zed"));
    const asked = syncs(host);
    await host.ask({ container: "web", state: "absent", reload: "restore" });
    // web's rules came first, so that it had looked for those; then for zed's.
    const before = looks(host);
    await until("it has looked for both tables again", () => looks(host) > before + 6);
    expect(syncs(host)).toBe(asked);
    expect(host.fragment("web")).toBeUndefined();
    expect(watcher.out()).not.toContain("flushed");
  });
});

describe.concurrent("the end", () => {
  test.each(["SIGTERM", "SIGINT"] as const)("%s: status 0, and no child is left", async (signal) => {
    const host = await bootedHost();
    const watcher = start(host);
    await settled(host, watcher);
    const child = follower(host);
    expect(childrenOf(watcher.pid)).toContain(child);
    expect(await watcher.stop(signal)).toEqual({ exitCode: 0, signal: undefined });
    expect(() => process.kill(child, 0)).toThrow("ESRCH");
    expect(watcher.out()).toMatch(/watched until the signal to stop\n$/);
    expect(watcher.err()).toBe("");
  });

  test("while the daemon does not answer", async () => {
    const host = await bootedHost();
    host.on("docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1");
    const watcher = start(host);
    await until("it tells of the failure", () => watcher.err() !== "");
    expect(await watcher.stop()).toEqual({ exitCode: 0, signal: undefined });
  });

  function childrenOf(pid: number): number[] {
    const parents = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
    return parents.map(Number).filter((one) => {
      try {
        return readFileSync(`/proc/${one}/status`, "utf8").includes(`PPid:\t${pid}\n`);
      } catch {
        return false;
      }
    });
  }
});

describe.concurrent("systemd", () => {
  function withManager(host: FakeHost): () => string[] {
    const path = join(host.bin, "systemd-notify");
    writeFileSync(path, '#!/bin/sh\nprintf "%s\\n" "$NOTIFY_SOCKET $*" >> "$FAKE/notified"\n');
    chmodSync(path, 0o755);
    const told = join(host.fake, "notified");
    return () => (existsSync(told) ? readFileSync(told, "utf8").trim().split("\n") : []);
  }

  test("is notified when ready, after the first sync, and regularly", async () => {
    const host = await bootedHost();
    const told = withManager(host);
    host.container("web", { ports: port("8080") });
    const watcher = start(host, [], { NOTIFY_SOCKET: "/run/x", WATCHDOG_USEC: "400000" });
    await until("it says that it is ready", () => told().some((line) => line.startsWith("/run/x READY=1 ")));
    expect(host.kernel("nat")).toContain("172.17.0.2:80");
    await until(
      "it says three times that it lives",
      () => told().filter((line) => line === "/run/x WATCHDOG=1").length >= 3,
    );
    expect(told().filter((line) => line.includes("READY=1"))).toHaveLength(1);
    await watcher.stop();
  });

  test("that takes no word holds no sync up", async () => {
    const host = await bootedHost();
    host.container("web", { ports: port("8080") });
    writeFileSync(join(host.bin, "systemd-notify"), '#!/bin/sh\n: > "$FAKE/asked"\nexec sleep 600\n', {
      mode: 0o755,
    });
    const watcher = start(host, [], { NOTIFY_SOCKET: "/run/x" });
    await until("it says that it is ready", () => existsSync(join(host.fake, "asked")));
    await settled(host, watcher);
    expect(await watcher.stop()).toEqual({ exitCode: 0, signal: undefined });
  });

  test("is not notified while a sync hangs", async () => {
    const host = await bootedHost();
    const told = withManager(host);
    const watcher = start(host, ["--timeout", "600"], { NOTIFY_SOCKET: "/run/x", WATCHDOG_USEC: "400000" });
    const alive = () => told().filter((line) => line === "/run/x WATCHDOG=1").length;
    await settled(host, watcher);
    await until("it says that it lives", () => alive() > 2);
    host.on("docker", '[ "$1" = ps ] && { : > "$FAKE/hangs"; until [ -e "$FAKE/go" ]; do sleep 0.05; done; }');
    tell(host, event("container", "start"));
    await until("the sync hangs", () => existsSync(join(host.fake, "hangs")));
    // Words that were on their way have come by then, or their processes are ended (src/systemd/notify.ts).
    await sleep(8000);
    const before = alive();
    await sleep(3000);
    expect(alive()).toBe(before);
    writeFileSync(join(host.fake, "go"), "");
    await until("it says again that it lives", () => alive() > before + 1);
  });

  test("is notified as ready though the daemon is down: a boot does not wait for it", async () => {
    const host = await bootedHost();
    const told = withManager(host);
    host.on("docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1");
    start(host, [], { NOTIFY_SOCKET: "/run/x" });
    await until("it says that it is ready", () => told().some((line) => line.includes("READY=1")));
  });

  test("is not notified without a listener", async () => {
    const host = await bootedHost();
    const told = withManager(host);
    await settled(host, start(host));
    expect(told()).toEqual([]);
  });
});

describe("readEvent", () => {
  test.each([
    ["docker", event("container", "start"), { type: "container", action: "start", name: "web" }],
    [
      "docker 20.10 in full",
      '{"status":"die","id":"0a","from":"x","Type":"container","Action":"die","Actor":{"ID":"0a","Attributes":{"exitCode":"0","image":"x","name":"web"}},"scope":"local","time":1,"timeNano":1}',
      { type: "container", action: "die", name: "web" },
    ],
    [
      "podman",
      '{"ID":"0a","Image":"x","Name":"web","Status":"died","Time":"2024-01-01T00:00:00Z","Type":"container","Attributes":{"io.buildah.version":"1"}}',
      { type: "container", action: "died", name: "web" },
    ],
    [
      "podman 5.8, of a network",
      '{"ID":"eb7c","network":"later","Status":"create","time":1,"timeNano":1,"Type":"network","Attributes":{"driver":"bridge"}}',
      { type: "network", action: "create", name: "later" },
    ],
    [
      "podman 5.8 by its service, of a network",
      '{"status":"remove","id":"eb7c","Type":"network","Action":"remove","Actor":{"ID":"eb7c","Attributes":{"driver":"bridge","image":"","name":"","network":"later","podId":""}},"scope":"local","time":1,"timeNano":1}',
      { type: "network", action: "remove", name: "later" },
    ],
    [
      "nerdctl 2, of a start",
      '{"Timestamp":"2026-01-01T00:00:00Z","ID":"0a1b","Namespace":"default","Topic":"/tasks/start","Action":"start","Event":"{\\"container_id\\":\\"0a1b\\",\\"pid\\":7}","Labels":{}}',
      { type: "container", action: "start", name: "0a1b" },
    ],
    [
      "nerdctl, of an end",
      '{"ID":"0a1b","Topic":"/tasks/exit","Status":"UNKNOWN","Event":"{\\"container_id\\":\\"0a1b\\",\\"id\\":\\"0a1b\\"}"}',
      { type: "container", action: "exit", name: "0a1b" },
    ],
    [
      "nerdctl, of the end of another process in a container",
      '{"ID":"0a1b","Topic":"/tasks/exit","Event":"{\\"container_id\\":\\"0a1b\\",\\"id\\":\\"exec-1\\"}"}',
      { type: "container", action: "", name: "0a1b" },
    ],
    [
      "nerdctl, of an image",
      '{"ID":"","Topic":"/images/create","Event":"{\\"name\\":\\"x\\"}"}',
      { type: "container", action: "", name: "" },
    ],
    [
      "an event without a name",
      '{"Type":"network","Action":"create"}',
      { type: "network", action: "create", name: "" },
    ],
    [
      "a name of another type",
      '{"Type":"container","Action":"start","Actor":{"Attributes":{"name":7}}}',
      { type: "container", action: "start", name: "" },
    ],
  ])("%s", (_what, line, read) => {
    expect(readEvent(line)).toEqual(read);
  });

  test.each(["", "garbage", "{", "\0"])("%j is none", (line) => {
    expect(readEvent(line)).toBeUndefined();
  });

  test("a long name is cut", () => {
    expect(readEvent(event("container", "start", "x".repeat(9999)))?.name.length).toBeLessThan(100);
  });
});

describe("the pause without news", () => {
  const never = Number.POSITIVE_INFINITY;

  test("ends with what is due first", () => {
    expect(pauseUntil(1000, { retry: never, look: 4000, pulse: never })).toBe(3000);
    expect(pauseUntil(1000, { retry: never, look: 4000, pulse: 1500 })).toBe(500);
    expect(pauseUntil(1000, { retry: 61_000, look: 4000, pulse: never })).toBe(3000);
  });

  test("is never less than none, which newer Node.js warn of", () => {
    expect(pauseUntil(5000, { retry: never, look: 4000, pulse: never })).toBe(0);
    expect(pauseUntil(5000, { retry: 4000, look: never, pulse: never })).toBe(0);
  });

  test("is not cut short by a look that waits for an attempt: the loop would turn without end", () => {
    expect(pauseUntil(5000, { retry: 9000, look: 4000, pulse: never })).toBe(4000);
  });
});
