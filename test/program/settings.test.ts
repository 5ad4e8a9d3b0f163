// The settings of a host: setup keeps what it is given, every later call takes its defaults from there, and a file that cannot be used
// stops nothing that takes rules away.

import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { Result } from "../../src/generated/result.ts";
import { BRIDGE, type FakeHost, fakeHost, readAnswer } from "./host.ts";

const published = (port: string) => ({ "80/tcp": ["0.0.0.0", "::"].map((HostIp) => ({ HostIp, HostPort: port })) });
const WATCHER = "docker_iptables-watch.service";

/** With the default network alone, and a container with an address of each family. */
function bareHost(): FakeHost {
  const host = fakeHost().bare();
  host.network("bridge", {
    Options: { "com.docker.network.bridge.name": BRIDGE, "com.docker.network.bridge.default_bridge": "true" },
    EnableIPv6: true,
    IPAM: { Config: [{ Subnet: "172.17.0.0/16" }, { Subnet: "fd00::/64" }] },
  });
  host.container("web", { ports: published("8080"), address6: "fd00::2" });
  return host;
}

const directories = (host: FakeHost) => ["--iptables-dir", host.iptablesDir, "--ip6tables-dir", host.ip6tablesDir];
const call = async (host: FakeHost, ...argv: string[]) => readAnswer(await host.run([...argv, "--json"]));
const setup = (host: FakeHost, ...flags: string[]) => call(host, "setup", ...directories(host), ...flags);
const json = async (host: FakeHost, given: Record<string, unknown>) =>
  readAnswer(await host.run([], JSON.stringify(given)));

const settingsOf = (host: FakeHost): unknown =>
  existsSync(host.settingsPath) ? JSON.parse(readFileSync(host.settingsPath, "utf8")) : undefined;
const write = (host: FakeHost, settings: Record<string, unknown>) =>
  writeFileSync(host.settingsPath, JSON.stringify({ ...paths(host), ...settings }));
const paths = (host: FakeHost) => ({ iptables_dir: host.iptablesDir, ip6tables_dir: host.ip6tablesDir });

const kinds = ({ problems = [] }: Result) => problems.map(({ kind }) => kind);
/** What status says of the machine on which the tests run. */
const OF_THE_MACHINE = /^(daemon_settings|firewall_foreign|network_overlaps)$/;
async function problemsOf(host: FakeHost): Promise<string[]> {
  const { stdout } = await host.run(["status", "--json"]);
  return kinds(JSON.parse(stdout)).filter((kind) => !OF_THE_MACHINE.test(kind));
}

const unit = (host: FakeHost, name: string) => readFileSync(join(host.unitDir, name), "utf8");
const execs = (host: FakeHost, name: string) => unit(host, name).match(/^Exec(Start|Reload)=.*$/gm);

describe.concurrent("setup", () => {
  test("keeps what it is given, and later calls need no flags", async () => {
    const host = bareHost();
    const result = await setup(host, "--ipv6", "--reload", "restore", "--no-guards");
    expect(result, result.msg).toMatchObject({ changed: true });
    expect(result.files).toContainEqual({ path: host.settingsPath, change: "created" });
    expect(settingsOf(host)).toEqual({ ...paths(host), ipv6: true, reload: "restore", guards: false });

    const created = await call(host, "create", "web");
    expect(created, created.msg).toMatchObject({ changed: true, reloaded: ["iptables-restore", "ip6tables-restore"] });
    expect(host.fragment("web", host.ip6tablesDir)).toContain("fd00::2");
    expect(host.fragment("web")).not.toContain("DROP");
    expect(created.invocation).toMatchObject({
      module_args: { ipv6: true, reload: "restore", guards: false, chain: "DOCKER_CONTAINERS" },
      origins: { container: "argument", ipv6: "settings", reload: "settings", guards: "settings", chain: "default" },
    });
    // Not the container's own: the next change of the settings is for it, too.
    expect(host.fragment("web")).not.toContain("# options");
    expect(await problemsOf(host)).toEqual([]);
    expect(await call(host, "sync", "--check")).toMatchObject({ changed: false });
    expect(await json(host, { container: "web" })).toMatchObject({ changed: false });
    expect(await call(host, "delete", "web")).toMatchObject({ changed: true });
    expect(host.fragment("web")).toBeUndefined();
  });

  test("again, without flags, keeps what is set; with another one, the rest", async () => {
    const host = bareHost();
    await setup(host, "--ipv6", "--reload", "restore");
    expect(await call(host, "setup")).toMatchObject({ changed: false });
    const result = await call(host, "setup", "--no-ipv6");
    expect(result.files).toContainEqual({ path: host.settingsPath, change: "updated" });
    expect(settingsOf(host)).toEqual({ ...paths(host), ipv6: false, reload: "restore" });
  });

  test("leaves the administrator's own layout of the file alone, as long as nothing changes", async () => {
    const host = bareHost();
    await setup(host, "--reload", "restore");
    const text = JSON.stringify({ reload: "restore", ...paths(host) }, null, 8);
    writeFileSync(host.settingsPath, text);
    expect(await call(host, "setup")).toMatchObject({ changed: false });
    expect(readFileSync(host.settingsPath, "utf8")).toBe(text);
  });

  test("says what a change needs where containers are published", async () => {
    const host = bareHost();
    await setup(host, "--reload", "restore");
    await call(host, "create", "web");
    const { warnings } = await call(host, "setup", "--ipv6");
    expect(warnings).toContainEqual(
      "'docker_iptables sync' applies the changed settings (ipv6) to containers that are published already",
    );
    expect(await problemsOf(host)).toEqual(["fragment_missing"]);
    expect(await call(host, "sync")).toMatchObject({ changed: true });
    expect(host.fragment("web", host.ip6tablesDir)).toContain("fd00::2");
    expect(await problemsOf(host)).toEqual([]);
  });

  test("--check --diff shows the file, and writes nothing", async () => {
    const host = bareHost();
    const before = host.state();
    const result = await setup(host, "--ipv6", "--check", "--diff");
    const [diff] = result.diff?.filter(({ after_header }) => after_header === host.settingsPath) ?? [];
    expect(JSON.parse(diff?.after ?? "")).toEqual({ ...paths(host), ipv6: true });
    expect(existsSync(host.settingsPath)).toBe(false);
    expect(host.state()).toEqual(before);
  });

  test("without any choice writes no file", async () => {
    const host = bareHost();
    write(host, {});
    expect(await call(host, "setup")).toMatchObject({ changed: true });
    const text = JSON.stringify(paths(host));
    expect(readFileSync(host.settingsPath, "utf8")).toBe(text);
  });

  test("that fails leaves the file as it was", async () => {
    const host = bareHost();
    await setup(host, "--reload", "restore");
    const before = readFileSync(host.settingsPath, "utf8");
    host.on("iptables-restore", 'case "$*" in *--test*) ;; *) echo no >&2; exit 1 ;; esac');
    host.network("new", {
      IPAM: { Config: [{ Subnet: "10.9.0.0/16" }] },
      Options: { "com.docker.network.bridge.name": "br-new" },
    });
    const result = await call(host, "setup", "--ipv6");
    expect(result, result.msg).toMatchObject({ failed: true });
    expect(result.rolled_back?.join()).toContain(host.settingsPath);
    expect(readFileSync(host.settingsPath, "utf8")).toBe(before);
  });

  test("that was overtaken by another one says so, and writes nothing", async () => {
    const host = bareHost();
    await setup(host, "--reload", "restore");
    const theirs = JSON.stringify({ ...paths(host), reload: "restore", ipv6: true });
    // Comes while this one asks the client.
    host.on("docker", `printf %s '${theirs}' > "${host.settingsPath}"`);
    const result = await call(host, "setup", "--no-guards");
    expect(result).toMatchObject({ failed: true, changed: false, error: { code: "concurrent_change" } });
    expect(readFileSync(host.settingsPath, "utf8")).toBe(theirs);
  });

  test("--reload none, as an image is prepared, is no choice for the host that boots from it", async () => {
    const host = bareHost();
    await setup(host, "--reload", "none", "--ipv6");
    expect(settingsOf(host)).toEqual({ ...paths(host), ipv6: true });
  });

  test("of a call that names a container keeps what is the host's, not that container's network", async () => {
    const host = bareHost();
    const given = {
      container: "web",
      base: true,
      reload: "restore",
      network: "bridge",
      wait_timeout: 0,
      ...paths(host),
    };
    expect(await json(host, given)).toMatchObject({ changed: true });
    expect(settingsOf(host)).toEqual({ ...paths(host), reload: "restore" });
  });

  test("--remove that fails leaves it, for the next try", async () => {
    const host = bareHost();
    await setup(host, "--reload", "restore", "--watch");
    host.on("systemctl", 'case "$*" in disable*) echo no >&2; exit 1 ;; esac');
    expect(await call(host, "setup", "--remove")).toMatchObject({ failed: true });
    expect(settingsOf(host)).toMatchObject({ reload: "restore" });
    host.on("systemctl", "");
    expect(await call(host, "setup", "--remove")).toMatchObject({ changed: true });
    expect(settingsOf(host)).toBeUndefined();
  });

  test("twice at once with the same choices: both succeed", async () => {
    const host = bareHost();
    // So long the second may have to wait for the first one's lock.
    const words = ["--reload", "restore", "--timeout", "120"];
    const results = await Promise.all([setup(host, ...words), setup(host, ...words)]);
    for (const { failed, msg } of results) expect(failed, msg).toBeUndefined();
    expect(settingsOf(host)).toEqual({ ...paths(host), reload: "restore", timeout: 120 });
  });

  test("--remove removes it", async () => {
    const host = bareHost();
    await setup(host, "--reload", "restore");
    const result = await call(host, "setup", "--remove");
    expect(result, result.msg).toMatchObject({ changed: true });
    expect(result.files).toContainEqual({ path: host.settingsPath, change: "removed" });
    expect(readdirSync(host.root).filter((name) => name.includes("docker_iptables.json"))).toEqual([]);
  });
});

describe.concurrent("the services", () => {
  test("have no flags of their own but where the settings are", async () => {
    const host = bareHost();
    await setup(host, "--watch", "--ipv6", "--no-guards", "--chain", "MINE");
    const program = `${join(host.bin, "docker_iptables")}`;
    const config = `--config ${host.settingsPath}`;
    expect(execs(host, WATCHER)).toEqual([`ExecStart=${program} watch ${config}`]);
    expect(execs(host, "iptables.service")).toEqual([
      `ExecStart=${program} load ipv4 ${config} --keep-undeclared`,
      `ExecReload=${program} load ipv4 ${config}`,
    ]);
  });

  test("that watch go when the host is told to have none, and stay when nothing is said", async () => {
    const host = bareHost();
    await setup(host, "--watch");
    expect(settingsOf(host)).toMatchObject({ watch: true });
    expect(await call(host, "setup")).toMatchObject({ changed: false });
    expect(existsSync(join(host.unitDir, WATCHER))).toBe(true);
    const result = await call(host, "setup", "--no-watch");
    expect(result, result.msg).toMatchObject({ changed: true, base: { reasons: ["file", "unit"] } });
    expect(existsSync(join(host.unitDir, WATCHER))).toBe(false);
    expect(settingsOf(host)).toMatchObject({ watch: false });
    expect(await call(host, "setup")).toMatchObject({ changed: false });
  });

  test("of such a host that were switched off stay off", async () => {
    const host = bareHost();
    await setup(host, "--watch", "--reload", "restore");
    rmSync(host.settingsPath);
    for (const state of ["enabled", "active"]) rmSync(join(host.fake, state, WATCHER));
    host.calls();
    await setup(host, "--reload", "restore");
    expect(settingsOf(host)).toEqual({ ...paths(host), reload: "restore" });
    expect(host.calls().filter((one) => /enable|restart/.test(one))).toEqual([]);
  });

  test("of a host that was set up before there were settings: the next setup takes them over", async () => {
    const host = bareHost();
    await setup(host, "--watch", "--ipv6", "--reload", "patch");
    // As 0.1.0 left it.
    rmSync(host.settingsPath);
    const flags = [...directories(host), "--ipv6", "--reload", "patch"].join(" ");
    const former = unit(host, WATCHER).replace(/^ExecStart=(\S+) .*$/m, `ExecStart=$1 watch ${flags}`);
    writeFileSync(join(host.unitDir, WATCHER), former);
    writeFileSync(join(host.fake, "known", WATCHER), former.replace(/^ExecStart=.*$/m, execStart(former)));
    const result = await call(host, "setup");
    expect(result, result.msg).toMatchObject({ changed: true });
    expect(result.warnings).toContainEqual(
      `${host.settingsPath} takes over the options that ${WATCHER} was installed with`,
    );
    expect(settingsOf(host)).toEqual({ ...paths(host), watch: true, ipv6: true, reload: "patch" });
    expect(execs(host, WATCHER)?.[0]).toMatch(/ watch --config \S+$/);
  });
});

/** As systemctl(1) show prints it. */
function execStart(text: string): string {
  const command = /^ExecStart=(.*)$/m.exec(text)?.[1] ?? "";
  return `ExecStart={ path=${command.split(" ")[0]} ; argv[]=${command} ; ignore_errors=no ; start_time=[n/a] }`;
}

describe.concurrent("a file that cannot be used", () => {
  async function brokenHost(): Promise<FakeHost> {
    const host = bareHost();
    await setup(host, "--reload", "restore", "--ipv6");
    await call(host, "create", "web");
    writeFileSync(host.settingsPath, '{"ipv6": true,');
    return host;
  }

  test.each<[string, string[]]>([
    ["setup", ["setup"]],
    ["setup --remove", ["setup", "--remove"]],
    ["create", ["create", "web"]],
    ["sync", ["sync"]],
  ])("%s refuses, and changes nothing", async (_, argv) => {
    const host = await brokenHost();
    const before = host.state();
    const result = await call(host, ...argv);
    expect(result).toMatchObject({ failed: true, changed: false, error: { code: "settings_unusable" } });
    expect(result.msg).toMatch(/^the settings in \S+ cannot be used: it is not valid JSON: .*; correct it$/);
    expect(host.state()).toEqual(before);
  });

  test("so does the JSON door's present", async () => {
    const host = await brokenHost();
    expect(await json(host, { container: "web" })).toMatchObject({ error: { code: "settings_unusable" } });
    expect(await json(host, { all: true, _ansible_check_mode: true })).toMatchObject({
      error: { code: "settings_unusable" },
    });
  });

  test("delete goes on with the last that were valid, and says so", async () => {
    const host = await brokenHost();
    const result = await call(host, "delete", "web");
    expect(result, result.msg).toMatchObject({ changed: true, msg: "unpublished: web" });
    expect(result.warnings.join()).toContain("until then the last valid settings are used");
    expect(host.fragment("web")).toBeUndefined();
    expect(host.fragment("web", host.ip6tablesDir)).toBeUndefined();
    expect(host.kernel("nat")).not.toContain("172.17.0.2");
  });

  test("so does absent of a container together with the host rules", async () => {
    const host = await brokenHost();
    const result = await json(host, { container: "web", base: true, state: "absent" });
    expect(result, result.msg).toMatchObject({ changed: true });
    expect(host.fragment("web")).toBeUndefined();
  });

  test("load loads, and fails afterwards", async () => {
    const host = await brokenHost();
    host.flush("nat");
    const result = await call(host, "load");
    expect(result).toMatchObject({ failed: true, changed: true, error: { code: "settings_unusable" } });
    expect(result.msg).toContain("IPv4 rules loaded, with the last valid settings");
    expect(host.kernel("nat")).toContain("172.17.0.2");
  });

  test("status says so, compares with the last that were valid, and follows its own advice to the end", async () => {
    const host = await brokenHost();
    expect(await problemsOf(host)).toEqual(["settings_unusable"]);
    write(host, { reload: "restore", ipv6: true });
    expect(await problemsOf(host)).toEqual([]);
  });

  test("nobody else's is obeyed", async () => {
    const host = await brokenHost();
    const evil = join(host.root, "evil");
    writeFileSync(evil, `#!/bin/sh\ntouch ${host.root}/ran\n`);
    chmodSync(evil, 0o755);
    write(host, { client: evil });
    chmodSync(host.settingsPath, 0o666);
    const result = await call(host, "create", "web");
    expect(result).toMatchObject({ error: { code: "settings_unusable" } });
    expect(result.msg).toContain(`'chown root:root ${host.settingsPath}; chmod go-w ${host.settingsPath}' fixes it`);
    await call(host, "delete", "web");
    await problemsOf(host);
    expect(existsSync(join(host.root, "ran"))).toBe(false);
  });
});

/** In two networks, of which Docker itself would choose `back`. */
function inTwo(host: FakeHost): void {
  for (const network of ["front", "back"])
    host.network(network, { Options: { "com.docker.network.bridge.name": BRIDGE }, IPAM: { Config: [] } });
  host.document("web", {
    ...JSON.parse(host.documentOf("web")),
    HostConfig: { NetworkMode: "back" },
    NetworkSettings: {
      Ports: published("8080"),
      Networks: {
        front: { NetworkID: "front", IPAddress: "172.18.0.2", Gateway: "172.18.0.1" },
        back: { NetworkID: "back", IPAddress: "172.19.0.2", Gateway: "172.19.0.1" },
      },
    },
  });
}

describe.concurrent("which settings", () => {
  test("the network is for calls by name, too", async () => {
    const host = bareHost();
    await setup(host, "--reload", "restore");
    inTwo(host);
    write(host, { reload: "restore", network: "front" });
    await call(host, "create", "web");
    expect(host.fragment("web")).toContain("--to-destination 172.18.0.2:80");
    expect(await call(host, "sync", "--check")).toMatchObject({ changed: false });
    await call(host, "create", "web", "--network", "back");
    expect(host.fragment("web")).toContain("--to-destination 172.19.0.2:80");
  });

  test("a file that is named and not there is refused by all but setup", async () => {
    const host = bareHost();
    const config = join(host.root, "none.json");
    expect(await call(host, "create", "web", "--config", config)).toMatchObject({
      error: { code: "settings_unusable" },
    });
    expect(await setup(host, "--reload", "restore", "--config", config)).toMatchObject({ changed: true });
    expect(await call(host, "create", "web", "--config", config)).toMatchObject({ changed: true });
  });

  test("setup makes none where another user could replace it", async () => {
    const host = bareHost();
    const open = join(host.root, "open");
    mkdirSync(open);
    chmodSync(open, 0o777);
    const config = join(open, "settings.json");
    const result = await setup(host, "--reload", "restore", "--config", config);
    expect(result).toMatchObject({ changed: false, error: { code: "settings_unusable" } });
    expect(readdirSync(open)).toEqual([]);
  });

  test("--config wins over the environment, and what is given over both", async () => {
    const host = bareHost();
    await setup(host, "--reload", "restore");
    const other = join(host.root, "other");
    mkdirSync(other);
    const config = join(other, "settings.json");
    writeFileSync(config, JSON.stringify({ ...paths(host), reload: "restore", chain: "OTHERS" }));
    const chainOf = ({ invocation }: Result) => invocation?.module_args["chain"];
    expect(chainOf(await call(host, "create", "web", "--check", "--config", config))).toBe("OTHERS");
    expect(chainOf(await call(host, "create", "web", "--check"))).toBe("DOCKER_CONTAINERS");
    expect(chainOf(await call(host, "create", "web", "--check", "--config", config, "--chain", "MINE"))).toBe("MINE");
    expect(chainOf(await json(host, { container: "web", config, _ansible_check_mode: true }))).toBe("OTHERS");
    const { stdout } = await host.run(["status", "--json", "--config", config]);
    // What it advises is right for these settings.
    expect(stdout).toContain(`'docker_iptables sync --config ${config}'`);
  });
});
