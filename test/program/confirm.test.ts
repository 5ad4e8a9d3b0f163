// --confirm, confirm and revert: a change that waits for its confirmation is kept, or files, services and kernel are as they were.

import { chmodSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { execa } from "execa";
import { describe, expect, test } from "vitest";
import type { Result } from "../../src/generated/result.ts";
import type { Unconfirmed } from "../../src/generated/unconfirmed.ts";
import { until } from "../until.ts";
import { BRIDGE, type FakeHost, fakeHost, NATIVE, nodeOptions, readAnswer, removeRoot } from "./host.ts";
import { changingSteps, readSteps } from "./steps.ts";

const PORTS = { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8080" }] };

function bareHost(): FakeHost {
  const host = fakeHost().bare();
  host.network("bridge", {
    Options: { "com.docker.network.bridge.name": BRIDGE, "com.docker.network.bridge.default_bridge": "true" },
    IPAM: { Config: [{ Subnet: "172.17.0.0/16" }] },
  });
  return host;
}

/** Set up, with web published, all of it loaded. */
async function setUpHost(): Promise<FakeHost> {
  const host = bareHost();
  host.container("web", { ports: PORTS });
  await does(host, "setup");
  await does(host, "create", "web");
  await does(host, "load");
  host.calls();
  return host;
}

/** On a machine that has much to do a command may take its time. */
const directories = (host: FakeHost) => [
  ...["--timeout", "120"],
  ...["--iptables-dir", host.iptablesDir, "--ip6tables-dir", host.ip6tablesDir],
];

async function ask(host: FakeHost, ...words: string[]): Promise<Result & { exitCode: number }> {
  return readAnswer(await host.run([...words, "--json", ...directories(host)]));
}

/** Whose exit status says whether there are problems. */
async function problemsOf(host: FakeHost, ...words: string[]): Promise<string[]> {
  const { stdout } = await host.run(["status", ...words, "--json", ...directories(host)]);
  return (JSON.parse(stdout) as Result).problems?.map(({ kind, msg }) => `${kind}: ${msg}`) ?? [];
}

async function does(host: FakeHost, ...words: string[]): Promise<Result> {
  const result = await ask(host, ...words);
  if (result.failed) throw new Error(`${words.join(" ")}: ${result.msg}`);
  return result;
}

const recordOf = (host: FakeHost) => join(host.iptablesDir, ".docker_iptables", "ipv4.unconfirmed");
const lastGoodOf = (host: FakeHost) => join(host.iptablesDir, ".docker_iptables", "ipv4.rules");
/** With other directories than the default ones it has a name of its own. */
const unitOf = (host: FakeHost) =>
  readdirSync(host.unitDir).find((name) => /^docker_iptables-revert-.*\.service$/.test(name)) ?? "none";
const timersOf = (host: FakeHost) =>
  readdirSync(join(host.fake, "active")).filter((name) => /^docker_iptables-revert-.*\.timer$/.test(name));
const textAt = (path: string) => (existsSync(path) ? readFileSync(path, "utf8") : undefined);

function change(host: FakeHost, changes: Partial<Unconfirmed>): void {
  const record = JSON.parse(readFileSync(recordOf(host), "utf8"));
  writeFileSync(recordOf(host), JSON.stringify({ ...record, ...changes }), { mode: 0o600 });
}

/** Files, settings, services and kernel. Tables that the kernel has and that are empty are as good as none. */
function stateOf(host: FakeHost): Record<string, string | undefined> {
  const names = (folder: string) => (existsSync(folder) ? readdirSync(folder).sort().join(" ") : "");
  const state = Object.entries(host.state()).filter(
    ([name, text]) => !/\/(\.docker_iptables)$/.test(name) && !(name.includes("kernel/") && !/^-A|^:\S+ -/m.test(text)),
  );
  return {
    // A load states all policies, as the kernel does; a removal without one states none.
    ...Object.fromEntries(state.map(([name, text]) => [name, text.replaceAll(/^:[A-Z]+ ACCEPT \[0:0\]\n/gm, "")])),
    settings: textAt(host.settingsPath),
    enabled: names(join(host.fake, "enabled")),
    active: names(join(host.fake, "active")),
    lastGood: textAt(lastGoodOf(host)),
    record: textAt(join(host.iptablesDir, ".docker_iptables", "ipv4.left")),
  };
}

describe.concurrent("setup --confirm on a bare host", () => {
  test("sets up, waits, and says until when", async () => {
    const host = bareHost();
    const result = await does(host, "setup", "--confirm", "600");
    const { until: time, by } = result.unconfirmed ?? {};
    expect(by).toBe("timer");
    expect(Date.parse(time ?? "") - Date.now()).toBeGreaterThan(500_000);
    expect(result.msg).toMatch(
      /^the host rules are set up .*; everything is put back at \d\d:\d\d:\d\d unless 'docker_iptables confirm/,
    );
    expect(host.kernel("nat")).toContain("DOCKER_CONTAINERS");
    const timers = host.calls().filter((call) => call.startsWith("systemd-run"));
    const revertUnit = unitOf(host);
    const timer = (seconds: number, which: string) =>
      `systemd-run --timer-property=AccuracySec=100ms --on-active=${seconds}s --unit=${revertUnit.replace(".service", which)} --collect -- systemctl start --no-block ${revertUnit}`;
    // Seconds may have gone by since it was known when.
    const inTime = timers.map((one) => one.replace(/--on-active=6[1-5]\ds/, "--on-active=660s"));
    expect(inTime).toEqual([timer(660, "-late"), timer(600, "-soon")]);
    expect(readdirSync(join(host.fake, "enabled"))).toContain(revertUnit);
    const unit = readFileSync(join(host.unitDir, revertUnit), "utf8");
    expect(unit).toContain(
      `revert --due --iptables-dir ${host.iptablesDir} --ip6tables-dir ${host.ip6tablesDir} --config`,
    );
    expect(unit).toMatch(/^Before=iptables.service ip6tables.service network-pre.target docker.service/m);
    expect(existsSync(lastGoodOf(host))).toBe(false);
    expect((await problemsOf(host))[0]).toMatch(/^unconfirmed: the setup is not confirmed: it is put back at \d\d:/);
  });

  test("revert: everything is as it was", async () => {
    const host = bareHost();
    const before = stateOf(host);
    await does(host, "setup", "--watch", "--confirm", "600");
    const reverted = await does(host, "revert");
    expect(reverted).toMatchObject({ changed: true, msg: expect.stringMatching(/^the setup was put back: /) });
    expect(stateOf(host)).toEqual(before);
    expect(await does(host, "revert")).toMatchObject({ changed: false, msg: "nothing waits for a confirmation" });
    expect(await ask(host, "confirm")).toMatchObject({ exitCode: 1, error: { code: "nothing_to_confirm" } });
  });

  test("revert: what was published meanwhile has no chain any more, and goes with it", async () => {
    const host = bareHost();
    const before = stateOf(host);
    host.container("web", { ports: PORTS });
    await does(host, "setup", "--confirm", "600");
    await does(host, "create", "web", "--ipv6");
    expect(host.kernel("nat")).toContain("docker_iptables: web");
    const reverted = await does(host, "revert");
    expect(reverted.msg).toContain("11-docker-container_web");
    const now = Object.entries(stateOf(host)).filter(([name]) => !name.endsWith(".docker_iptables.boot"));
    expect(Object.fromEntries(now)).toEqual(before);
  });

  test("confirm: it is as without --confirm", async () => {
    const other = bareHost();
    await does(other, "setup", "--reload", "restore");
    const host = bareHost();
    await does(host, "setup", "--reload", "restore", "--confirm", "600");
    expect(await does(host, "confirm", "--check")).toMatchObject({ msg: "the setup would be confirmed" });
    expect(await does(host, "confirm")).toMatchObject({ changed: true, msg: "the setup is confirmed", warnings: [] });
    const told = (one: FakeHost) =>
      JSON.stringify(stateOf(one)).replaceAll(one.root, "").replaceAll(basename(one.root), "");
    expect(told(host)).toBe(told(other));
    expect(await ask(host, "confirm")).toMatchObject({ error: { code: "nothing_to_confirm" } });
    expect(await does(host, "revert")).toMatchObject({ changed: false });
  });

  test("where there is nothing to change, nothing waits", async () => {
    const host = await setUpHost();
    const again = await does(host, "setup", "--confirm", "600");
    expect(again).toMatchObject({ changed: false });
    expect(again).not.toHaveProperty("unconfirmed");
    expect(existsSync(recordOf(host))).toBe(false);
  });

  test.each([
    ["container", "web"],
    ["all", true],
  ])("with %s it is refused", async (name, value) => {
    const host = await setUpHost();
    await host.refuses({ base: true, confirm: 60, [name]: value }, "arguments_invalid");
    await host.refuses({ confirm: 60, [name]: value }, "arguments_invalid");
  });

  test("a prediction waits for nothing", async () => {
    const host = bareHost();
    expect(await does(host, "setup", "--confirm", "600", "--check")).not.toHaveProperty("unconfirmed");
    expect(host.calls().filter((call) => call.startsWith("systemd-run"))).toEqual([]);
  });

  test("what fails is put back, and nothing waits", async () => {
    const host = bareHost();
    const before = stateOf(host);
    host.on("iptables-restore", "echo 'iptables-restore: no' >&2; exit 1");
    host.on("systemctl", 'case "$*" in *restart*|*start*iptables*) echo no >&2; exit 1 ;; esac');
    expect(await ask(host, "setup", "--confirm", "600")).toMatchObject({ failed: true });
    rmSync(join(host.fake, "on-iptables-restore"));
    expect(stateOf(host)).toEqual(before);
  });
});

describe.concurrent("while a setup waits", () => {
  test("create exchanges its own rules alone, and what it publishes outlives a revert", async () => {
    const host = await setUpHost();
    const lastGood = textAt(lastGoodOf(host));
    await does(host, "setup", "--no-guards", "--confirm", "600");
    host.container("db", { ports: { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8081" }] }, address: "172.17.0.3" });
    const created = await does(host, "create", "db");
    expect(created.warnings.join()).toContain(
      "a setup is not confirmed, so only docker_iptables' own rules were replaced",
    );
    expect(textAt(lastGoodOf(host))).toBe(lastGood);
    await does(host, "delete", "web");
    await does(host, "revert");
    expect(host.kernel("nat")).toContain("docker_iptables: db");
    expect(host.kernel("nat")).not.toContain("docker_iptables: web");
    // Made with the settings of then.
    expect(await problemsOf(host, "db")).toEqual([expect.stringMatching(/^fragment_outdated: /)]);
    await does(host, "sync");
    expect(await problemsOf(host, "db")).toEqual([]);
  });

  test("no second change begins", async () => {
    const host = await setUpHost();
    await does(host, "setup", "--no-guards", "--confirm", "600");
    for (const words of [["setup"], ["setup", "--guards"], ["setup", "--confirm", "60"], ["load", "--confirm", "60"]])
      expect(await ask(host, ...words), words.join(" ")).toMatchObject({ error: { code: "unconfirmed" } });
  });

  test("on a host without ip6tables there is IPv4 alone", async () => {
    const host = bareHost();
    for (const name of readdirSync(host.bin).filter((one) => one.startsWith("ip6tables"))) rmSync(join(host.bin, name));
    await does(host, "setup");
    await does(host, "load");
    const kernel = () => Object.entries(stateOf(host)).filter(([name]) => name.startsWith("kernel/"));
    const before = kernel();
    for (const words of [["setup", "--no-guards"], ["load"]]) {
      if (words[0] === "load") host.write("50_own", "*filter\n-A INPUT -p tcp --dport 22 -j DROP\nCOMMIT\n");
      await does(host, ...words, "--confirm", "600");
      await does(host, "revert");
      rmSync(join(host.iptablesDir, "50_own"), { force: true });
      await does(host, "load");
      expect(kernel()).toEqual(before);
      expect(existsSync(recordOf(host))).toBe(false);
    }
  });

  test("a file that another hand has changed since stays, all else is put back", async () => {
    const host = await setUpHost();
    const before = stateOf(host);
    await does(host, "setup", "--no-guards", "--confirm", "600");
    const path = join(host.iptablesDir, "10_docker");
    const others = `${readFileSync(path, "utf8")}# mine\n`;
    writeFileSync(path, others);
    await does(host, "revert");
    expect(readFileSync(path, "utf8")).toBe(others);
    expect(textAt(host.settingsPath)).toBe(before["settings"]);
  });
});

describe.concurrent("a host that is set up", () => {
  test.each([["--no-guards"], ["--reload", "patch"], ["--reload", "restore", "--no-guards"], ["--watch"]])(
    "setup %s %s %s: revert puts back files, settings, services and rules",
    async (...words) => {
      const host = await setUpHost();
      const before = stateOf(host);
      await does(host, "setup", ...words.filter(Boolean), "--confirm", "600");
      expect(stateOf(host)).not.toEqual(before);
      await does(host, "revert");
      expect(stateOf(host)).toEqual(before);
    },
  );

  test("setup --remove: revert brings it back, confirm forgets it", async () => {
    const host = await setUpHost();
    await does(host, "delete", "--all");
    const before = stateOf(host);
    await does(host, "setup", "--remove", "--confirm", "600");
    expect(host.kernel("nat")).not.toContain("DOCKER_CONTAINERS");
    await does(host, "revert");
    expect(stateOf(host)).toEqual(before);
    await does(host, "setup", "--remove", "--confirm", "600");
    expect(await does(host, "confirm")).toMatchObject({ msg: "the setup --remove is confirmed" });
    expect(existsSync(join(host.iptablesDir, ".docker_iptables"))).toBe(false);
    expect(existsSync(host.settingsPath)).toBe(false);
  });
});

describe.concurrent("a setup that also loads what somebody had written into a fragment", () => {
  const BLOCK = "*filter\n-A INPUT -p tcp --dport 22 -j DROP\nCOMMIT\n";

  async function blocking(): Promise<FakeHost> {
    const host = await setUpHost();
    host.write("50_own", BLOCK);
    await does(host, "setup", "--no-guards", "--reload", "restore", "--confirm", "600");
    expect(host.kernel("filter")).toContain("--dport 22 -j DROP");
    const reverted = await does(host, "revert");
    expect(host.kernel("filter")).not.toContain("--dport 22");
    expect(reverted.warnings).toEqual([
      expect.stringMatching(/^nobody confirmed a setup, .*'docker_iptables load --confirm 60'/),
    ]);
    return host;
  }

  test("put back, the fragment is there, and nothing loads it", async () => {
    const host = await blocking();
    expect(textAt(host.settingsPath)).not.toContain("guards");
    expect(await ask(host, "load")).toMatchObject({ error: { code: "unconfirmed" } });
    host.container("db", { ports: { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8081" }] }, address: "172.17.0.3" });
    expect(await does(host, "create", "db", "--reload", "restore")).toMatchObject({ changed: true });
    expect(host.kernel("filter")).not.toContain("--dport 22");
    // The host rules still follow the networks.
    expect(await does(host, "setup")).toMatchObject({ changed: false });
    host.network("new", { Id: "0123456789abcdef0123", IPAM: { Config: [{ Subnet: "10.1.0.0/24" }] } });
    expect(await does(host, "setup")).toMatchObject({ changed: true });
    expect(host.kernel("filter")).toMatch(/-A FORWARD ! -i br-0123456789ab -o br-0123456789ab .*DROP/);
    expect(host.kernel("filter")).not.toContain("--dport 22");
    expect((await problemsOf(host))[0]).toMatch(/^unconfirmed: /);
  });

  test("it is tried again with --confirm, and kept", async () => {
    const host = await blocking();
    await does(host, "setup", "--no-guards", "--reload", "restore", "--confirm", "600");
    expect(host.kernel("filter")).toContain("--dport 22 -j DROP");
    await does(host, "confirm");
    expect(existsSync(recordOf(host))).toBe(false);
    expect(textAt(lastGoodOf(host))).toContain("--dport 22 -j DROP");
  });

  test("it is tried again with --confirm, and put back again", async () => {
    const host = await blocking();
    await does(host, "setup", "--no-guards", "--reload", "restore", "--confirm", "600");
    await does(host, "revert");
    expect(host.kernel("filter")).not.toContain("--dport 22");
    expect((await problemsOf(host))[0]).toMatch(/^unconfirmed: nobody confirmed a setup/);
  });
});

describe.concurrent("on a terminal", () => {
  /** Presses the key once the question is there; returns what the terminal shows. */
  async function pressed(host: FakeHost, key: string, ...words: string[]): Promise<string> {
    return pressedOn("xterm", host, key, ...words);
  }

  async function pressedOn(type: string, host: FakeHost, key: string, ...words: string[]): Promise<string> {
    const command = [`TERM=${type}`, host.executable, ...words, ...directories(host)].join(" ");
    const terminal = execa("script", ["-qec", command, "/dev/null"], { ...host.options(), reject: false });
    let shown = "";
    terminal.stdout.on("data", (chunk: Buffer) => {
      shown += chunk;
    });
    await until("it asks", () => shown.includes("y keeps it"));
    // What comes with the question was pressed before it.
    await sleep(500);
    terminal.stdin.write(key);
    await terminal;
    return shown;
  }

  test("n puts it back on one that erases nothing, too", async () => {
    const host = await setUpHost();
    const shown = await pressedOn("dumb", host, "n", "setup", "--no-guards", "--confirm", "600");
    expect(shown).toContain("the setup was put back");
    expect(shown).not.toContain("\u001b[K");
  });

  test("y keeps it, and n puts it back", async () => {
    const host = await setUpHost();
    const before = stateOf(host);
    expect(await pressed(host, "n", "setup", "--no-guards", "--confirm", "600")).toContain("the setup was put back");
    expect(stateOf(host)).toEqual(before);
    expect(await pressed(host, "y", "setup", "--no-guards", "--confirm", "600")).toContain("the setup is confirmed");
    expect(existsSync(recordOf(host))).toBe(false);
    expect(textAt(host.settingsPath)).toContain('"guards": false');
  });

  test("y after a removal keeps nothing of the host", async () => {
    const host = await setUpHost();
    await does(host, "delete", "--all");
    expect(await pressed(host, "y", "setup", "--remove", "--confirm", "600")).toContain(
      "the setup --remove is confirmed",
    );
    expect(existsSync(host.settingsPath)).toBe(false);
    expect(existsSync(join(host.iptablesDir, ".docker_iptables"))).toBe(false);
  });
});

describe.concurrent("its time", () => {
  test("revert --due waits for it, and does nothing once it is confirmed", async () => {
    const host = await setUpHost();
    await does(host, "setup", "--no-guards", "--confirm", "600");
    const waiting = ask(host, "revert", "--due");
    await does(host, "confirm");
    expect(await waiting).toMatchObject({ changed: false });
    expect(textAt(host.settingsPath)).toContain('"guards": false');
  });

  test("revert --due puts back what is due", async () => {
    const host = await setUpHost();
    const before = stateOf(host);
    await does(host, "setup", "--no-guards", "--confirm", "600");
    change(host, { due: 0 });
    expect(await does(host, "revert", "--due")).toMatchObject({ changed: true });
    expect(stateOf(host)).toEqual(before);
  });

  test("after a boot: a load brings what was good before, and revert --due the files, and not the kernel", async () => {
    const host = await setUpHost();
    const before = stateOf(host);
    await does(host, "setup", "--no-guards", "--confirm", "600");
    change(host, { boot: "another" });
    for (const table of ["raw", "nat", "filter"]) host.flush(table);
    const loaded = await ask(host, "load", "ipv4");
    expect(loaded).toMatchObject({ failed: true, changed: true, error: { code: "unconfirmed", last_good: ["ipv4"] } });
    expect(host.kernel("nat")).toContain("DOCKER_CONTAINERS");
    expect(await ask(host, "confirm")).toMatchObject({ error: { code: "unconfirmed" } });
    host.calls();
    await does(host, "revert", "--due");
    expect(host.calls().filter((call) => call.includes("restore"))).toEqual([]);
    const { settings, enabled } = stateOf(host);
    expect({ settings, enabled }).toEqual({ settings: before["settings"], enabled: before["enabled"] });
    expect(existsSync(recordOf(host))).toBe(false);
  });

  test.each([
    ["has just rebooted", { stage: "making", boot: "another" }, /was not confirmed before the host booted/],
    ["is making it", { stage: "making" }, /is being made, or was interrupted/],
    ["is putting it back", { stage: "putting back" }, /not yet put back as a whole/],
  ] as const)("confirm, where the host %s, is refused", async (_, changes, words) => {
    const host = await setUpHost();
    await does(host, "setup", "--no-guards", "--confirm", "600");
    change(host, changes);
    const refused = await ask(host, "confirm");
    expect(refused).toMatchObject({ error: { code: "unconfirmed" }, msg: expect.stringMatching(words) });
    expect((await problemsOf(host))[0]).toMatch(words);
    await does(host, "revert");
    expect(existsSync(recordOf(host))).toBe(false);
  });

  test.each([
    ["is no record", (path: string) => writeFileSync(path, "{}")],
    ["may be another's", (path: string) => chmodSync(path, 0o666)],
  ])("a record that %s is named: nothing loads, create and delete go on", async (_, spoil) => {
    const host = await setUpHost();
    await does(host, "setup", "--no-guards", "--confirm", "600");
    spoil(recordOf(host));
    for (const words of [["confirm"], ["revert"], ["load"], ["setup"]])
      expect(await ask(host, ...words), words.join()).toMatchObject({ error: { code: "unconfirmed" } });
    expect((await problemsOf(host))[0]).toContain(`${recordOf(host)} says what is put back`);
    await does(host, "delete", "web");
    await does(host, "create", "web");
    expect(readdirSync(join(host.fake, "enabled"))).toContain(unitOf(host));
  });

  test("an installed program that cannot put it back is refused before anything is changed", async () => {
    const host = await setUpHost();
    const before = stateOf(host);
    const installed = join(host.bin, "docker_iptables");
    rmSync(installed);
    writeFileSync(installed, '#!/bin/sh\n[ "$1" = --version ] && echo docker_iptables 0.1.0 || exit 2\n', {
      mode: 0o755,
    });
    const refused = await ask(host, "setup", "--no-guards", "--confirm", "600");
    expect(refused).toMatchObject({ error: { code: "executable_unusable" }, changed: false });
    expect(stateOf(host)).toEqual(before);
  });

  test("what a watcher published that the change brought goes with it", async () => {
    const host = await setUpHost();
    await does(host, "setup", "--watch", "--confirm", "600");
    host.container("db", { ports: { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8081" }] }, address: "172.17.0.3" });
    await does(host, "sync");
    await does(host, "revert");
    expect(host.names(host.iptablesDir)).toContain("11-docker-container_web");
    expect(host.names(host.iptablesDir)).not.toContain("11-docker-container_db");
    expect(host.kernel("nat")).not.toContain("docker_iptables: db");
  });

  test("what somebody made of a unit meanwhile is theirs", async () => {
    const host = await setUpHost();
    await does(host, "setup", "--watch");
    await does(host, "setup", "--reload", "restore", "--confirm", "600");
    rmSync(join(host.unitDir, "docker_iptables-watch.service"));
    expect(await does(host, "revert")).toMatchObject({ changed: true });
    expect(existsSync(recordOf(host))).toBe(false);
  });

  test("without systemd a process puts it back", async () => {
    const host = bareHost();
    for (const name of ["systemctl", "systemd-run"]) rmSync(join(host.bin, name));
    const before = stateOf(host);
    const words = ["setup", "--reload", "restore", "--confirm", "5", "--json", ...directories(host)];
    const result = readAnswer(await host.start(words));
    expect(result, result.msg).toMatchObject({ unconfirmed: { by: "process" } });
    expect(result.warnings.join()).toContain("there is no systemd here");
    await until(
      "it is put back",
      () => !existsSync(recordOf(host)) && !existsSync(join(host.iptablesDir, "10_docker")),
    );
    await until("the kernel is as it was", () => JSON.stringify(stateOf(host)) === JSON.stringify(before));
  });
});

describe.concurrent("load --confirm", () => {
  const BLOCK = "*filter\n-A INPUT -p tcp --dport 22 -j DROP\nCOMMIT\n";

  async function blocking(): Promise<FakeHost> {
    const host = await setUpHost();
    host.write("50_own", BLOCK);
    const loaded = await does(host, "load", "ipv4", "--confirm", "600");
    expect(loaded).toMatchObject({ changed: true, unconfirmed: { by: "timer" } });
    expect(host.kernel("filter")).toContain("--dport 22 -j DROP");
    return host;
  }

  test("revert puts back the rules; the fragments stay, and nothing loads them", async () => {
    const host = await blocking();
    await does(host, "revert");
    expect(host.kernel("filter")).not.toContain("--dport 22");
    expect(host.names(host.iptablesDir)).toContain("50_own");
    expect(await ask(host, "load")).toMatchObject({ error: { code: "unconfirmed" } });
    host.container("db", { ports: { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8081" }] }, address: "172.17.0.3" });
    await does(host, "create", "db");
    expect(host.kernel("nat")).toContain("docker_iptables: db");
    expect(host.kernel("filter")).not.toContain("--dport 22");
    expect(await problemsOf(host)).toEqual([expect.stringMatching(/^unconfirmed: nobody confirmed a load/)]);
  });

  test("after that, load --confirm tries them again, and confirm keeps them", async () => {
    const host = await blocking();
    await does(host, "revert");
    await does(host, "load", "ipv4", "--confirm", "600");
    expect(host.kernel("filter")).toContain("--dport 22 -j DROP");
    await does(host, "revert");
    expect(host.kernel("filter")).not.toContain("--dport 22");
    // A late word is not about what was put back.
    expect(await ask(host, "confirm")).toMatchObject({ error: { code: "nothing_to_confirm" } });
    expect(await ask(host, "load")).toMatchObject({ error: { code: "unconfirmed" } });
    await does(host, "load", "ipv4", "--confirm", "600");
    await does(host, "confirm");
    expect(host.kernel("filter")).toContain("--dport 22 -j DROP");
    expect(await problemsOf(host)).toEqual([]);
  });

  test("others' rules that come meanwhile are no reason to distrust it", async () => {
    const host = await blocking();
    host.setKernel("filter", host.kernel("filter").replace("COMMIT", "-A INPUT -s 192.0.2.9/32 -j DROP\nCOMMIT"));
    expect(await does(host, "confirm")).toMatchObject({ warnings: [] });
    expect(existsSync(recordOf(host))).toBe(false);
    expect(textAt(lastGoodOf(host))).toContain("--dport 22 -j DROP");
    expect(textAt(lastGoodOf(host))).not.toContain("192.0.2.9");
  });

  test("a fragment that is edited while it waits is not confirmed with it", async () => {
    const host = await blocking();
    const lastGood = textAt(lastGoodOf(host));
    host.write("50_own", BLOCK.replace("--dport 22", "--dport 23"));
    const { warnings } = await does(host, "confirm");
    expect(warnings.join()).toMatch(
      /have changed since they were loaded; 'docker_iptables load --confirm 60' tries them/,
    );
    expect(textAt(lastGoodOf(host))).toBe(lastGood);
    expect(await ask(host, "load", "ipv4")).toMatchObject({ error: { code: "unconfirmed" } });
    await does(host, "load", "ipv4", "--confirm", "600");
    await does(host, "confirm");
    expect(textAt(lastGoodOf(host))).toContain("--dport 23");
    expect(await problemsOf(host)).toEqual([]);
  });

  test("what others put into DOCKER-USER meanwhile survives a revert", async () => {
    const host = await blocking();
    const ban = "-A DOCKER-USER -s 192.0.2.9/32 -j DROP";
    host.setKernel("filter", host.kernel("filter").replace("COMMIT", `${ban}\nCOMMIT`));
    await does(host, "revert");
    expect(host.kernel("filter")).not.toContain("--dport 22");
    expect(host.kernel("filter")).toContain(ban);
  });

  test("a confirmation at its very time is too late", async () => {
    const host = await blocking();
    change(host, { due: 0 });
    expect(await ask(host, "confirm")).toMatchObject({ error: { code: "nothing_to_confirm" } });
    await does(host, "revert", "--due");
    expect(host.kernel("filter")).not.toContain("--dport 22");
  });

  test("each family is trusted by itself", async () => {
    const host = await setUpHost();
    host.write("50_own", BLOCK, host.ip6tablesDir);
    await does(host, "load", "ipv6", "--confirm", "600");
    await does(host, "revert");
    expect(await ask(host, "load", "ipv6")).toMatchObject({ error: { code: "unconfirmed" } });
    await does(host, "load", "ipv4");
    host.write("50_own", BLOCK);
    await does(host, "load", "ipv4", "--confirm", "600");
    expect(await ask(host, "load", "ipv6")).toMatchObject({ error: { code: "unconfirmed" } });
    await does(host, "confirm");
    expect(host.kernel("filter")).toContain("--dport 22");
    expect(await ask(host, "load", "ipv6")).toMatchObject({ error: { code: "unconfirmed" } });
    expect(host.kernel("filter", "ipv6")).not.toContain("--dport 22");
  });

  test("the removal of the host rules leaves nothing of it", async () => {
    const host = await blocking();
    await does(host, "revert");
    await does(host, "delete", "--all");
    await does(host, "setup", "--remove");
    expect(existsSync(join(host.iptablesDir, ".docker_iptables"))).toBe(false);
  });

  test("once they are corrected, load --confirm has nothing to try, and they are trusted", async () => {
    const host = await blocking();
    await does(host, "revert");
    rmSync(join(host.iptablesDir, "50_own"));
    expect(await does(host, "load", "--confirm", "600")).toMatchObject({ changed: false });
    expect(await problemsOf(host)).toEqual([]);
  });

  test("after that, the fragments as they were before are loaded as ever", async () => {
    const host = await blocking();
    await does(host, "revert");
    rmSync(join(host.iptablesDir, "50_own"));
    await does(host, "load", "ipv4");
    expect(await problemsOf(host)).toEqual([]);
  });

  test("a broken fragment is no way round", async () => {
    const host = await blocking();
    await does(host, "revert");
    host.write("60_broken", '*filter\n-A INPUT -m comment --comment "\nCOMMIT\n');
    for (const table of ["raw", "nat", "filter"]) host.flush(table);
    expect(await ask(host, "load", "ipv4")).toMatchObject({ error: { code: "unconfirmed", last_good: ["ipv4"] } });
    expect(host.kernel("filter")).not.toContain("--dport 22");
  });

  test("a load that fails and has loaded what it could: that is put back", async () => {
    const host = await setUpHost();
    for (const table of ["raw", "nat", "filter"]) host.flush(table);
    const before = stateOf(host);
    host.write("50_own", BLOCK);
    host.write("60_broken", '*filter\n-A INPUT -m comment --comment "\nCOMMIT\n');
    expect(await ask(host, "load", "--confirm", "600")).toMatchObject({ error: { code: "fragment_invalid" } });
    for (const name of ["50_own", "60_broken"]) rmSync(join(host.iptablesDir, name));
    expect(stateOf(host)).toEqual(before);
  });

  test("confirm keeps it: a boot falls back to it from now on", async () => {
    const host = await blocking();
    expect(textAt(lastGoodOf(host))).not.toContain("--dport 22");
    await does(host, "confirm");
    expect(textAt(lastGoodOf(host))).toContain("--dport 22 -j DROP");
  });
});

/** What a killed run leaves, and caches. */
const LEFT = /\.tmp$|\.(spelled|names)$/;
const lasting = (host: FakeHost) =>
  Object.fromEntries(Object.entries(stateOf(host)).filter(([name]) => !LEFT.test(name)));

/** The same for every host. */
const told = (host: FakeHost) =>
  JSON.stringify(lasting(host)).replaceAll(host.root, "").replaceAll(basename(host.root), "");

describe.skipIf(NATIVE)("at every step", () => {
  const SETUP = ["setup", "--no-guards", "--watch", "--reload", "restore", "--confirm", "600"];

  /** Runs these words with a fault at each of their steps; `check` is asked about what each leaves. */
  async function faulty(
    prepare: () => Promise<FakeHost>,
    words: readonly string[],
    fault: "fail" | "kill",
    check: (host: FakeHost, step: string) => Promise<void>,
  ): Promise<string[]> {
    const argv = (host: FakeHost) => [...words, "--json", ...directories(host)];
    const first = await prepare();
    const steps = await changingSteps(first, (env) => first.run(argv(first), undefined, env));
    expect(steps.length).toBeGreaterThan(10);
    const names = readSteps(join(first.fake, "steps"));
    // Of one process: a number counts its steps alone.
    expect(names.filter((name) => name.endsWith("\tend"))).toHaveLength(1);
    const wrong: string[] = [];
    const seen: string[] = [];
    const worker = async () => {
      for (let at = steps.shift(); at !== undefined; at = steps.shift()) {
        const host = await prepare();
        host.install("broken");
        const env = {
          NODE_OPTIONS: nodeOptions("fault"),
          FAULT: fault,
          FAULT_AT: String(at),
          FAULT_LOG: join(host.fake, "s"),
        };
        const { stdout } = await host.run(argv(host), undefined, env);
        const step = names[at - 1]?.split("\t")[1] ?? "";
        seen.push(step);
        if (unitOf(host) !== "none" && timersOf(host).length === 0)
          wrong.push(`step ${at}, ${step}: a unit without a timer`);
        await check(host, step).catch((error: unknown) => void wrong.push(`step ${at}, ${step}: ${error}\n${stdout}`));
        await removeRoot(host.root);
      }
    };
    await Promise.all([worker(), worker(), worker(), worker()]);
    expect(wrong).toEqual([]);
    return seen;
  }

  test.each(["fail", "kill"] as const)(
    "a setup that waits (%s): it is as before, or is put back",
    { timeout: 3_600_000 },
    async (fault) => {
      const was = told(await setUpHost());
      const seen = await faulty(setUpHost, SETUP, fault, async (host) => {
        // The boot's, or the timer's.
        if (existsSync(recordOf(host)) || timersOf(host).length > 0) await does(host, "revert");
        expect(told(host)).toBe(was);
      });
      for (const step of [
        /^rename .*unconfirmed/,
        /^run systemd-run /,
        /^rename .*iptables\.d\/\.docker_iptables\.tmp$/,
        /^run iptables-restore /,
      ])
        expect(seen).toContainEqual(expect.stringMatching(step));
    },
  );

  test.each(["fail", "kill"] as const)(
    "a revert (%s): a second one puts back the rest",
    { timeout: 3_600_000 },
    async (fault) => {
      const was = told(await setUpHost());
      const waiting = async () => {
        const host = await setUpHost();
        await does(host, ...SETUP);
        return host;
      };
      await faulty(waiting, ["revert"], fault, async (host) => {
        await does(host, "revert");
        expect(told(host)).toBe(was);
      });
    },
  );

  test.each(["fail", "kill"] as const)(
    "a confirmation (%s): it is kept by a second one, or waits",
    { timeout: 3_600_000 },
    async (fault) => {
      const waiting = async () => {
        const host = await setUpHost();
        await does(host, ...SETUP);
        return host;
      };
      await faulty(waiting, ["confirm"], fault, async (host) => {
        if (existsSync(recordOf(host))) await does(host, "confirm");
        expect(textAt(host.settingsPath)).toContain('"guards": false');
        expect(await does(host, "revert", "--due")).toMatchObject({ changed: false });
      });
    },
  );
});
