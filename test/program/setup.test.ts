// setup, and base: true through JSON: the host is set up, or the failure says why not, and it is removed again.

import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { execa } from "execa";
import { describe, expect, test } from "vitest";
import type { Result } from "../../src/generated/result.ts";
import { BASE, BRIDGE, type FakeHost, fakeHost, readAnswer } from "./host.ts";

const PORTS = { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8080" }] };
const SERVICES = ["ip6tables.service", "iptables.service"];
const TIMERS = ["ip6tables-retry.timer", "iptables-retry.timer"];
const UNITS = [...TIMERS, ...SERVICES].sort();
const OURS = /"docker_iptables: \((10|90)_docker\)"/;

/** Nothing is there but a daemon with its default network, and one more that has IPv6. */
function bareHost(): FakeHost {
  const host = fakeHost().bare();
  host.network("bridge", {
    Options: { "com.docker.network.bridge.name": BRIDGE, "com.docker.network.bridge.default_bridge": "true" },
    IPAM: { Config: [{ Subnet: "172.17.0.0/16" }] },
  });
  host.network("app", {
    Options: { "com.docker.network.bridge.name": "br-app" },
    IPAM: { Config: [{ Subnet: "172.18.0.0/16" }, { Subnet: "fd00:18::/64" }] },
  });
  return host;
}

const verb = (host: FakeHost, ...more: string[]) =>
  host.run(["setup", "--json", "--iptables-dir", host.iptablesDir, "--ip6tables-dir", host.ip6tablesDir, ...more]);

async function setup(host: FakeHost, ...more: string[]): Promise<Result & { exitCode: number }> {
  return readAnswer(await verb(host, ...more));
}

/** Without what is reported of the machine itself: whether it forwards, and of a daemon of its own. */
const warnings = (result: Result) =>
  result.warnings.filter((one) => !/^(this host does not forward|the Docker daemon)/.test(one));

function read(host: FakeHost, file: string, directory = host.iptablesDir): string {
  return readFileSync(join(directory, file), "utf8");
}

const unitFiles = (host: FakeHost) => readdirSync(host.unitDir).sort();
const enabled = (host: FakeHost) => readdirSync(join(host.fake, "enabled")).sort();

/** As a daemon that managed iptables leaves it. */
const LEFT = `*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER - [0:0]
-A FORWARD -o ${BRIDGE} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o ${BRIDGE} -j DOCKER
-A FORWARD -i ${BRIDGE} ! -o ${BRIDGE} -j ACCEPT
COMMIT
`;

describe.concurrent("status on a host with live rules that has no fragments", () => {
  /** What it says of them, and of the services. */
  async function told(filter: string): Promise<{ msg: string; hint?: string }[]> {
    const host = bareHost();
    for (const directory of [host.iptablesDir, host.ip6tablesDir]) mkdirSync(directory);
    host.setKernel("filter", filter);
    const dirs = ["--iptables-dir", host.iptablesDir, "--ip6tables-dir", host.ip6tablesDir];
    const { problems = [] } = readAnswer({ ...(await host.run(["status", "--json", ...dirs])), exitCode: 0 });
    return problems.filter(({ kind }) => kind === "rules_undeclared" || kind === "service_unusable");
  }
  const MISSING = { msg: expect.stringMatching(/^the service \S+, .*; 'docker_iptables setup [^']*' makes it$/) };

  test("Docker's own: setup, which removes them", async () => {
    expect(await told(LEFT)).toEqual([expect.objectContaining(MISSING), expect.objectContaining(MISSING)]);
  });

  test("the user's: setup, which names the ways; not load, which would remove them", async () => {
    const rule = "-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT";
    expect(await told(LEFT.replace("COMMIT", `${rule}\nCOMMIT`))).toMatchObject([
      {
        msg: expect.stringMatching(`^IPv4 rules are live that no fragment declares \\('${rule}'\\)`),
        hint: expect.stringMatching(/^'docker_iptables setup [^']*' names the ways/),
      },
      MISSING,
      MISSING,
    ]);
  });
});

describe.concurrent("on a bare host", () => {
  test("makes directories, base and services; again, it changes nothing", async () => {
    const host = bareHost();
    const result = await setup(host);
    expect(result, result.msg).toMatchObject({
      changed: true,
      state: "present",
      msg: "the host rules are set up for the networks app, bridge",
      base: { changed: true, reasons: ["file", "kernel", "unit"], networks: ["app", "bridge"] },
      containers: [],
      reloaded: ["iptables.service", "ip6tables.service"],
    });
    expect(warnings(result)).toEqual([]);
    expect(result.files).toEqual(
      [
        host.settingsPath,
        ...[join(host.iptablesDir, "10_docker"), join(host.ip6tablesDir, "10_docker")],
        ...[join(host.iptablesDir, "90_docker"), join(host.ip6tablesDir, "90_docker")],
        ...["iptables.service", "iptables-retry.timer", "ip6tables.service", "ip6tables-retry.timer"].map((unit) =>
          join(host.unitDir, unit),
        ),
      ].map((path) => ({ path, change: "created" })),
    );
    expect(unitFiles(host)).toEqual(UNITS);
    // Only a failure starts a timer.
    expect(enabled(host)).toEqual(SERVICES);
    expect(host.kernel("nat")).toMatch(/^-A POSTROUTING -s 172\.18\.0\.0\/16 ! -o br-app .* -j MASQUERADE$/m);
    expect(host.kernel("nat", "ipv6")).toMatch(/^-A POSTROUTING -s fd00:18::\/64 ! -o br-app .* -j MASQUERADE$/m);
    expect(host.kernel("nat", "ipv6")).not.toContain("172.");

    const before = host.state();
    host.calls();
    const again = await setup(host);
    expect(again).toMatchObject({ changed: false, reloaded: [], base: { changed: false, reasons: [] } });
    expect(again.files?.every(({ change }) => change === "unchanged")).toBe(true);
    expect(host.state()).toEqual(before);
    expect(host.calls().filter((call) => /restart|reload|enable /.test(call))).toEqual([]);
  });

  test("the containers come between: their accepts before every drop, all drops before the accepts of the host rules", async () => {
    const host = bareHost();
    host.container("web", { ports: PORTS });
    const result = await host.ask({ container: "web", base: true });
    expect(result, result.msg).toMatchObject({
      changed: true,
      msg: "the host rules are set up for the networks app, bridge; published: web",
      containers: [{ name: "web", changed: true, reasons: ["file", "kernel"] }],
      reloaded: ["iptables.service", "ip6tables.service"],
    });
    const forward = host
      .kernel("filter")
      .split("\n")
      .filter((line) => line.startsWith("-A FORWARD"))
      .map((line) => line.replace(/ -m comment --comment "[^"]*"/, ""));
    expect(forward).toEqual([
      "-A FORWARD -j DOCKER-USER",
      "-A FORWARD -o br-app -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
      `-A FORWARD -o ${BRIDGE} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`,
      `-A FORWARD -d 172.17.0.2/32 ! -i ${BRIDGE} -o ${BRIDGE} -p tcp -m tcp --dport 80 -j ACCEPT`,
      "-A FORWARD ! -i br-app -o br-app -j DROP",
      `-A FORWARD ! -i ${BRIDGE} -o ${BRIDGE} -j DROP`,
      "-A FORWARD -i br-app -j ACCEPT",
      `-A FORWARD -i ${BRIDGE} -j ACCEPT`,
    ]);
    expect(result.rules?.ipv4?.["filter"]?.map((rule) => rule.replace(/ -m comment --comment "[^"]*"/, ""))).toEqual(
      forward,
    );
    expect(await host.ask({ container: "web", base: true })).toMatchObject({
      changed: false,
      msg: "the host rules are up to date for the networks app, bridge; already published: web",
    });
  });

  test("--check --diff shows all of it and changes nothing; the directories are not made either", async () => {
    const host = bareHost();
    const before = host.state();
    const result = await setup(host, "--check", "--diff");
    expect(result).toMatchObject({ changed: true, reloaded: [] });
    expect(result.msg).toBe("the host rules would be set up for the networks app, bridge");
    expect(result.diff?.map(({ after_header }) => after_header)).toEqual(result.files?.map(({ path }) => path));
    expect(result.diff?.map(({ before }) => before).join("")).toBe("");
    expect(host.state()).toEqual(before);
    expect(existsSync(host.iptablesDir)).toBe(false);
    // A trial for each family.
    expect(host.calls().filter((call) => /restart|reload|enable |-restore --[^v]|^unshare/.test(call))).toEqual([
      "unshare --net",
      "unshare --net",
    ]);
  });

  test("a person reads what it did", async () => {
    const host = bareHost();
    const dirs = ["--iptables-dir", host.iptablesDir, "--ip6tables-dir", host.ip6tablesDir];
    const would = await host.run(["setup", "--check", ...dirs]);
    expect(would.stdout).toMatch(/^ {2}would be created .*\/iptables\.d\/10_docker$/m);
    const did = await host.run(["setup", ...dirs]);
    expect(did).toMatchObject({ exitCode: 0 });
    expect(did.stdout).toMatch(/^the host rules are set up for the networks app, bridge\n {2}created /);
    expect(did.stdout).toMatch(/^ {2}created .*\/etc\/systemd\/system\/iptables\.service$/m);
    expect(did.stdout).toMatch(/^ {2}reloaded iptables\.service$/m);
  });

  test.each(["restore", "patch", "none"])("with reload: %s there are no services", async (reload) => {
    const host = bareHost();
    const result = await host.ask({ base: true, reload });
    expect(result, result.msg).toMatchObject({ changed: true });
    expect(unitFiles(host)).toEqual([]);
    expect(host.calls().filter((call) => /systemctl .*(enable|restart|reload)/.test(call))).toEqual([]);
    expect(read(host, "10_docker")).toMatch(OURS);
    expect(OURS.test(host.kernel("filter"))).toBe(reload !== "none");
    expect(await host.ask({ base: true, reload })).toMatchObject({ changed: false });
  });

  test("one service may load both directories", async () => {
    const host = bareHost();
    const result = await setup(host, "--iptables-service", "firewall", "--ip6tables-service", "firewall.service");
    expect(result.reloaded).toEqual(["firewall.service"]);
    expect(unitFiles(host)).toEqual(["firewall-retry.timer", "firewall.service"]);
    const text = read(host, "firewall.service", host.unitDir);
    const load = `docker_iptables load --config ${host.settingsPath}`;
    expect(text).toMatch(new RegExp(`^ExecStart=.*/${load} --keep-undeclared$`, "m"));
    expect(text).toMatch(new RegExp(`^ExecReload=.*/${load}$`, "m"));
    expect(text.match(/^ExecStopPost=/gm)).toHaveLength(2);
  });

  test("without ip6tables there is IPv4 alone; with ipv6 it is asked for", async () => {
    const host = bareHost();
    host.on("ip6tables-save", "exit 127");
    rmSync(join(host.bin, "ip6tables-save"));
    const result = await setup(host);
    expect(result, result.msg).toMatchObject({ changed: true, reloaded: ["iptables.service"] });
    expect(unitFiles(host)).toEqual(["iptables-retry.timer", "iptables.service"]);
    expect(await setup(host, "--ipv6")).toMatchObject({ failed: true, error: { code: "command_missing" } });
  });
});

describe.concurrent("--watch", () => {
  const WATCH = "docker_iptables-watch.service";
  const execOf = (host: FakeHost) => /^ExecStart=(.*)$/m.exec(read(host, WATCH, host.unitDir))?.[1];
  const settingsOf = (host: FakeHost) => JSON.parse(readFileSync(host.settingsPath, "utf8"));
  const told = (host: FakeHost) => host.calls().filter((call) => /^systemctl (?!show|is-)/.test(call));

  test("installs, enables and starts the watcher last of all; again, it changes nothing", async () => {
    const host = bareHost();
    const result = await setup(host, "--watch");
    expect(result, result.msg).toMatchObject({ changed: true, base: { reasons: ["file", "kernel", "unit"] } });
    expect(result.files).toContainEqual({ path: join(host.unitDir, WATCH), change: "created" });
    expect(result.reloaded).toEqual(["iptables.service", "ip6tables.service"]);
    expect(unitFiles(host)).toEqual([...UNITS, WATCH].sort());
    expect(enabled(host)).toEqual([WATCH, ...SERVICES]);
    expect(execOf(host)).toBe(`${join(host.bin, "docker_iptables")} watch --config ${host.settingsPath}`);
    expect(told(host).at(-1)).toBe(`systemctl restart -- ${WATCH}`);

    const before = host.state();
    const again = await setup(host, "--watch");
    expect(again).toMatchObject({ changed: false, base: { changed: false } });
    expect(host.state()).toEqual(before);
    expect(told(host)).toEqual([]);
    expect(await setup(host)).toMatchObject({ changed: false });
    expect(unitFiles(host)).toContain(WATCH);
  });

  test("is started again where it has stopped, and enabled where it is not", async () => {
    const host = bareHost();
    await setup(host, "--watch");
    rmSync(join(host.fake, "active", WATCH));
    host.calls();
    expect(await setup(host, "--watch")).toMatchObject({ changed: true, base: { reasons: ["unit"] }, reloaded: [] });
    expect(told(host)).toEqual([`systemctl restart -- ${WATCH}`]);
    rmSync(join(host.fake, "enabled", WATCH));
    expect(await setup(host, "--watch")).toMatchObject({ changed: true });
    expect(enabled(host)).toContain(WATCH);
  });

  test("of Docker's own client little is allowed; of a script, or of another program by that name, what it needs", async () => {
    const host = bareHost();
    const sandboxed = async () => {
      const { failed, msg } = await setup(host, "--watch");
      expect(failed, msg).toBeUndefined();
      return read(host, WATCH, host.unitDir).includes("\nProtectSystem=strict\n");
    };
    // The fake client is a script, as podman-docker's is.
    expect(await sandboxed()).toBe(false);
    const services = join(host.root, "services");
    mkdirSync(services);
    symlinkSync(host.executable, join(services, "docker_iptables"));
    host.on("systemctl", `[ "$*" != show-environment ] || { echo "PATH=${services}:$PATH"; exit 0; }`);
    symlinkSync(process.execPath, join(services, "docker"));
    expect(await sandboxed()).toBe(false);
    rmSync(join(services, "docker"));
    copyFileSync("/bin/true", join(services, "docker"));
    expect(await sandboxed()).toBe(true);
    expect(await setup(host, "--watch")).toMatchObject({ changed: false });
  });

  test("has its flags in the settings, and not what is one call's alone", async () => {
    const host = bareHost();
    const flags = ["--ipv6", "--no-guards", "--chain", "CONTAINERS", "--timeout", "20"];
    const result = await setup(host, "--watch", "--replace", "--debug", ...flags);
    expect(result, result.msg).toMatchObject({ changed: true });
    expect(execOf(host)?.split(" watch ")[1]).toBe(`--config ${host.settingsPath}`);
    const directories = { iptables_dir: host.iptablesDir, ip6tables_dir: host.ip6tablesDir };
    expect(settingsOf(host)).toEqual({
      ...{ watch: true, guards: false, chain: "CONTAINERS", ipv6: true, timeout: 20 },
      ...directories,
    });
  });

  test("with another text than before it is restarted; other settings it sees itself", async () => {
    const host = bareHost();
    await setup(host, "--watch");
    host.calls();
    expect(await setup(host, "--ipv6")).toMatchObject({ changed: true, base: { reasons: ["file"] } });
    expect(settingsOf(host)).toMatchObject({ ipv6: true });
    expect(told(host)).toEqual([]);
    writeFileSync(join(host.unitDir, WATCH), asBefore(host));
    expect(await setup(host)).toMatchObject({ changed: true, base: { reasons: ["unit"] } });
    expect(told(host)).toEqual(["systemctl daemon-reload", `systemctl restart -- ${WATCH}`]);
  });

  /** The watcher's unit with what an older version wrote. */
  const asBefore = (host: FakeHost) => `${read(host, WATCH, host.unitDir)}# older\n`;

  test.each(["restore", "patch", "none"])("with reload: %s it is the only service", async (reload) => {
    const host = bareHost();
    const result = await setup(host, "--watch", "--reload", reload);
    expect(result, result.msg).toMatchObject({ changed: true });
    expect(unitFiles(host)).toEqual([WATCH]);
    expect(enabled(host)).toEqual([WATCH]);
    // It runs for as long as the host does: then even none is a choice that lasts.
    expect(settingsOf(host)).toMatchObject({ watch: true, reload });
    expect(await setup(host, "--watch", "--reload", reload)).toMatchObject({ changed: false });
    const removed = await setup(host, "--remove", "--reload", reload === "none" ? "restore" : reload);
    expect(removed, removed.msg).toMatchObject({ changed: true });
    expect(unitFiles(host)).toEqual([]);
  });

  test("--check foretells it, and changes nothing", async () => {
    const host = bareHost();
    const before = host.state();
    const result = await setup(host, "--watch", "--check");
    expect(result.files).toContainEqual({ path: join(host.unitDir, WATCH), change: "created" });
    expect(host.state()).toEqual(before);
    expect(told(host)).toEqual([]);
  });

  test("another's unit of that name is refused", async () => {
    const host = bareHost();
    host.unit(WATCH, "", {});
    const { msg } = await host.refuses({ base: true, watch: true }, "unit_not_suitable");
    expect(msg).toMatch(new RegExp(`^/lib/systemd/system/${WATCH} was not written by docker_iptables`));
    const other = bareHost();
    writeFileSync(join(other.unitDir, WATCH), "[Service]\nExecStart=/bin/true\n");
    await other.refuses({ base: true, watch: true }, "unit_not_suitable");
  });

  test("that cannot be started takes all back", async () => {
    const host = bareHost();
    for (const family of ["ipv4", "ipv6"]) {
      for (const table of ["raw", "nat", "filter"]) host.setKernel(table, `*${table}\nCOMMIT\n`, family);
    }
    host.on("systemctl", `case "$*" in "restart -- ${WATCH}") echo "Job for ${WATCH} failed." >&2; exit 1 ;; esac`);
    const result = await host.refuses({ base: true, watch: true }, "command_failed");
    expect(result.msg).toContain(`journalctl --unit ${WATCH}`);
    expect(result.rolled_back).toContain(join(host.unitDir, WATCH));
    expect(unitFiles(host)).toEqual([]);
    expect(enabled(host)).toEqual([]);
    expect(readdirSync(join(host.fake, "active"))).toEqual([]);
    host.on("systemctl", "");
    expect(await setup(host, "--watch")).toMatchObject({ changed: true });
  });

  test("that cannot be started with its new text runs on with the former one", async () => {
    const host = bareHost();
    await setup(host, "--watch");
    const [text, settings] = [asBefore(host), settingsOf(host)];
    writeFileSync(join(host.unitDir, WATCH), text);
    host.on(
      "systemctl",
      `case "$*" in "restart -- ${WATCH}") rm "$FAKE/active/${WATCH}"; echo "Job for ${WATCH} failed." >&2; exit 1 ;; esac`,
    );
    host.calls();
    const result = await setup(host, "--watch", "--ipv6");
    expect(result).toMatchObject({ failed: true, changed: false, error: { code: "command_failed" } });
    expect(read(host, WATCH, host.unitDir)).toBe(text);
    expect(settingsOf(host)).toEqual(settings);
    expect(told(host).at(-1)).toBe(`systemctl restart --no-block -- ${WATCH}`);
    expect(existsSync(join(host.fake, "active", WATCH))).toBe(true);
  });

  test("that cannot be started takes nothing of what others have brought into the kernel meanwhile", async () => {
    const host = bareHost();
    const table = join(host.fake, "kernel/ipv4/filter");
    const theirs = "-A INPUT -s 203.0.113.7/32 -j DROP";
    host.on(
      "systemctl",
      `case "$*" in "restart -- ${WATCH}") sed -i "s|^COMMIT|${theirs}\\nCOMMIT|" ${table}; echo "Job for ${WATCH} failed." >&2; exit 1 ;; esac`,
    );
    const result = await host.ask({ base: true, watch: true });
    expect(result).toMatchObject({ failed: true, changed: true, error: { code: "command_failed" } });
    expect(result.rolled_back?.join("\n")).toMatch(
      /^NOT put back: the kernel's IPv4 rules, which others have changed since; .*iptables-save$/m,
    );
    expect(result.rolled_back).toContain("the kernel's IPv6 rules");
    expect(host.kernel("filter")).toContain(theirs);
    expect(unitFiles(host)).toEqual([]);
  });

  test("setup --remove removes it, too", async () => {
    const host = bareHost();
    await setup(host, "--watch");
    host.calls();
    expect(await setup(host, "--remove")).toMatchObject({ changed: true, msg: "the host rules are removed" });
    expect(unitFiles(host)).toEqual([]);
    expect(enabled(host)).toEqual([]);
    expect(told(host)).toContain(`systemctl stop -- ${WATCH}`);
    expect(await setup(host, "--remove")).toMatchObject({ changed: false, msg: "there are no host rules" });
  });

  test("while it runs, --remove names it: it would publish again what is removed", async () => {
    const host = bareHost();
    host.container("web", { ports: PORTS });
    await host.ask({ all: true, base: true, watch: true });
    const { msg } = await host.refuses({ base: true, state: "absent" }, "base_in_use");
    expect(msg).toContain(`first 'systemctl disable --now ${WATCH}', which would publish them again`);
    expect(msg).toMatch(/and then 'docker_iptables delete --all'$/);
    rmSync(join(host.fake, "active", WATCH));
    expect((await host.refuses({ base: true, state: "absent" }, "base_in_use")).msg).not.toContain("disable --now");
  });

  test("without base is refused, in Ansible's words", async () => {
    const { msg } = await bareHost().refuses({ container: "web", watch: true }, "arguments_invalid");
    expect(msg).toBe("missing parameter(s) required by 'watch': base");
  });
});

describe.concurrent("the timers that start a failed service again", () => {
  const TIMER = "iptables-retry.timer";

  test("a host with the services of an older version gets them, and nothing is started for it", async () => {
    const host = bareHost();
    await setup(host);
    const after = host.state();
    for (const timer of TIMERS) rmSync(join(host.unitDir, timer));
    for (const unit of SERVICES) {
      const text = read(host, unit, host.unitDir);
      writeFileSync(join(host.unitDir, unit), text.replace(/^OnFailure=.*\n/m, "").replace(" --keep-undeclared", ""));
    }
    await execa(join(host.bin, "systemctl"), ["daemon-reload"], host.options());
    const foretold = await setup(host, "--check");
    host.calls();
    const result = await setup(host);
    expect(result, result.msg).toMatchObject({ changed: true, base: { reasons: ["unit"] }, reloaded: [] });
    expect(foretold.files).toEqual(result.files);
    expect(result.files).toContainEqual({ path: join(host.unitDir, TIMER), change: "created" });
    expect(host.calls().filter((call) => /^systemctl (?!show|is-)/.test(call))).toEqual(["systemctl daemon-reload"]);
    expect(host.state()).toEqual(after);
  });

  test("another's unit of that name is refused, and stays when the host rules are removed", async () => {
    const host = bareHost();
    await setup(host);
    writeFileSync(join(host.unitDir, TIMER), "[Timer]\nOnActiveSec=1\n");
    const { msg, error } = await host.refuses({ base: true }, "unit_not_suitable");
    expect(msg).toMatch(new RegExp(`^${join(host.unitDir, TIMER)} was not written by docker_iptables`));
    expect(error?.["unit"]).toBe(TIMER);
    expect(await setup(host, "--remove")).toMatchObject({ changed: true });
    expect(unitFiles(host)).toEqual([TIMER]);
  });

  test("one that an administrator has masked is left out", async () => {
    const host = bareHost();
    host.unit(TIMER, "", { LoadState: "masked" });
    const result = await setup(host);
    expect(result, result.msg).toMatchObject({ changed: true });
    expect(unitFiles(host)).toEqual(UNITS.filter((unit) => unit !== TIMER));
    expect(await setup(host)).toMatchObject({ changed: false });
    expect(await setup(host, "--remove")).toMatchObject({ changed: true, msg: "the host rules are removed" });
    expect(unitFiles(host)).toEqual([]);
  });

  test("a service that has failed, and is started in vain, is not stopped: its timer continues", async () => {
    const host = bareHost();
    await setup(host);
    const failed = { ActiveState: "failed", FragmentPath: join(host.unitDir, "iptables.service") };
    host.unit("iptables.service", host.iptablesDir, failed);
    host.on("systemctl", `case "$*" in *restart*iptables.service) echo "Job failed." >&2; exit 1 ;; esac`);
    host.calls();
    expect(await setup(host)).toMatchObject({ failed: true, error: { code: "reload_failed" } });
    expect(host.calls().filter((call) => /^systemctl (stop|reset-failed)/.test(call))).toEqual([]);
  });
});

describe.concurrent("networks", () => {
  test("that came and went are followed", async () => {
    const host = bareHost();
    await setup(host);
    rmSync(join(host.fake, "networks/app.json"));
    host.network("new", {
      Id: "0123456789abcdef0123",
      IPAM: { Config: [{ Subnet: "10.1.0.0/24" }] },
    });
    const result = await setup(host);
    expect(result).toMatchObject({ changed: true, base: { networks: ["bridge", "new"], reasons: ["file", "kernel"] } });
    expect(read(host, "10_docker")).toContain("# network new: br-0123456789ab, 10.1.0.0/24\n");
    expect(host.kernel("nat")).not.toContain("br-app");
    expect(host.kernel("filter")).toMatch(/-A FORWARD ! -i br-0123456789ab -o br-0123456789ab .*DROP/);
  });

  test("are followed under the policy that Docker sets, without a word; with a foreign rule only our own are replaced", async () => {
    const host = bareHost();
    await setup(host);
    // As Docker's policy does, which stays when its chains are gone.
    const policy = (...rules: string[]) =>
      host.setKernel("filter", ["*filter", ":FORWARD DROP [0:0]", ...rules, "COMMIT", ""].join("\n"));
    policy();
    rmSync(join(host.fake, "networks/app.json"));
    const result = await setup(host);
    expect(result, result.msg).toMatchObject({ changed: true, base: { networks: ["bridge"] } });
    expect(warnings(result)).toEqual([]);

    policy("-A INPUT -s 192.0.2.1/32 -j DROP");
    const beside = await setup(host);
    expect(beside, beside.msg).toMatchObject({ changed: true, reloaded: ["iptables-restore"] });
    expect(warnings(beside)).toEqual([expect.stringContaining("('-A INPUT -s 192.0.2.1/32 -j DROP')")]);
    expect(host.kernel("filter")).toContain("-A INPUT -s 192.0.2.1/32 -j DROP");
    policy();
    expect(warnings(await setup(host, "--adopt"))).toEqual([
      expect.stringMatching(/^IPv4 FORWARD has the policy DROP, .*: true does not save it/),
    ]);
    expect(existsSync(join(host.iptablesDir, "00_existing"))).toBe(false);
  });

  test("--adopt again, under the policy that Docker left and the first took for Docker's, changes nothing and says so", async () => {
    const host = bareHost();
    const ssh = "-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT";
    host.setKernel("filter", LEFT.replace("COMMIT", `${ssh}\nCOMMIT`));
    expect(await setup(host, "--adopt")).toMatchObject({ changed: true });
    const saved = read(host, "00_existing");
    expect(saved).not.toContain("FORWARD");
    host.setKernel("filter", host.kernel("filter").replace("*filter", "*filter\n:FORWARD DROP [0:0]"));
    const again = await setup(host, "--adopt");
    expect(again, again.msg).toMatchObject({ changed: false });
    expect(warnings(again)).toEqual([
      expect.stringMatching(/^IPv4 FORWARD has the policy DROP, .*: true does not save it/),
    ]);
    expect(read(host, "00_existing")).toBe(saved);
    // What somebody has added besides is not left out in silence.
    host.setKernel("filter", host.kernel("filter").replace(ssh, `${ssh}\n-A INPUT -s 192.0.2.1/32 -j DROP`));
    expect(await setup(host, "--adopt")).toMatchObject({ failed: true, error: { code: "fragment_foreign" } });
  });

  test("what --adopt saved and a fragment has by now as well is reported by status and setup, until it is deleted", async () => {
    const host = bareHost();
    const ban = "-A INPUT -s 192.0.2.1/32 -j DROP";
    host.setKernel("filter", ["*filter", ":INPUT ACCEPT [0:0]", ban, "COMMIT", ""].join("\n"));
    await setup(host, "--adopt");
    expect(read(host, "00_existing")).toContain(ban);
    host.write("05_host", ["*filter", ban, "COMMIT", ""].join("\n"));
    const told = expect.stringMatching(
      /00_existing has '-A INPUT -s 192.0.2.1\/32 -j DROP', which are now also in \S+05_host:/,
    );
    const status = ["status", "--json", "--iptables-dir", host.iptablesDir, "--ip6tables-dir", host.ip6tablesDir];
    expect((await host.run(status)).stdout).toContain("are now also in ");
    expect((await setup(host)).warnings).toContainEqual(told);
    host.write("00_existing", read(host, "00_existing").replace(`${ban}\n`, ""));
    expect((await host.run(status)).stdout).not.toContain("are now also in ");
    expect((await setup(host)).warnings).not.toContainEqual(told);
  });

  test("--adopt saves what a fragment had earlier in this boot, too: its file may have been moved away to be recreated", async () => {
    const host = bareHost();
    const [ban, late] = ["-A INPUT -s 192.0.2.1/32 -j DROP", "-A INPUT -s 192.0.2.2/32 -j DROP"];
    host.setKernel("filter", ["*filter", ":INPUT ACCEPT [0:0]", ban, "COMMIT", ""].join("\n"));
    expect(await setup(host, "--adopt", "--reload", "restore")).toMatchObject({ changed: true });
    host.setKernel("filter", host.kernel("filter").replace(ban, `${ban}\n${late}`));
    expect(await setup(host, "--adopt", "--reload", "restore")).toMatchObject({
      failed: true,
      error: { code: "fragment_foreign" },
    });
    renameSync(join(host.iptablesDir, "00_existing"), join(host.iptablesDir, "00_existing.orig"));
    expect(await setup(host, "--adopt", "--reload", "restore")).toMatchObject({ changed: true });
    for (const rule of [ban, late]) expect(read(host, "00_existing")).toContain(rule);
    for (const rule of [ban, late]) expect(host.kernel("filter")).toContain(rule);
  });

  test("that come while the service has failed, and a fragment is broken, are guarded all the same", async () => {
    const host = bareHost();
    await setup(host);
    rmSync(join(host.fake, "active/iptables.service"));
    host.write("50_bad", "*filter\n-A INPUT -j broken\nCOMMIT\n");
    host.network("new", { Id: "0123456789abcdef0123", IPAM: { Config: [{ Subnet: "10.1.0.0/24" }] } });
    const result = await setup(host);
    expect(result, result.msg).toMatchObject({ changed: true });
    expect(result.warnings.join()).toContain("50_bad");
    expect(host.kernel("filter")).toMatch(/-A FORWARD ! -i br-0123456789ab -o br-0123456789ab .*DROP/);
    expect(await setup(host)).toMatchObject({ changed: false });
  });

  test("that come while the service has failed, with foreign rules: it starts, and they stay", async () => {
    const host = bareHost();
    await setup(host);
    rmSync(join(host.fake, "active/iptables.service"));
    host.setKernel("filter", host.kernel("filter").replace("COMMIT", "-A INPUT -s 192.0.2.1/32 -j DROP\nCOMMIT"));
    host.network("new", { Id: "0123456789abcdef0123", IPAM: { Config: [{ Subnet: "10.1.0.0/24" }] } });
    const result = await setup(host);
    expect(result, result.msg).toMatchObject({ changed: true, reloaded: ["iptables.service"] });
    expect(host.kernel("filter")).toMatch(/-A FORWARD ! -i br-0123456789ab -o br-0123456789ab .*DROP/);
  });

  test("that are internal, without masquerade, without icc, routed, or no bridges get what they ask for", async () => {
    const host = bareHost();
    rmSync(join(host.fake, "networks/app.json"));
    const network = (name: string, more: Record<string, unknown>, options: Record<string, string> = {}) =>
      host.network(name, {
        Options: { "com.docker.network.bridge.name": `br-${name}`, ...options },
        IPAM: { Config: [{ Subnet: `10.${name.length}.0.0/16` }] },
        ...more,
      });
    network("inner", { Internal: true });
    network("plain", {}, { "com.docker.network.bridge.enable_ip_masquerade": "false" });
    network("quiet1", {}, { "com.docker.network.bridge.enable_icc": "false" });
    network("routed1", {}, { "com.docker.network.bridge.gateway_mode_ipv4": "routed" });
    network("lan", { Driver: "macvlan", Options: { parent: "eth0" } });
    await setup(host, "--no-guards");
    const rules = `${host.kernel("nat")}${host.kernel("filter")}`.replaceAll(/ -m comment --comment "[^"]*"/g, "");
    expect(rules.match(/-A POSTROUTING -s (\S+)/g)).toEqual([
      "-A POSTROUTING -s 172.17.0.0/16",
      "-A POSTROUTING -s 10.6.0.0/16",
    ]);
    expect(rules.match(/^.*DROP$/gm)).toEqual([
      "-A FORWARD ! -i br-inner -o br-inner -j DROP",
      "-A FORWARD -i br-inner ! -o br-inner -j DROP",
      "-A FORWARD -i br-quiet1 -o br-quiet1 -j DROP",
    ]);
    expect(rules).not.toMatch(/eth0|br-lan/);
  });

  test("whose default bridge is not here are another host's", async () => {
    const host = bareHost();
    host.network("bridge", {
      Options: { "com.docker.network.bridge.name": "docker9", "com.docker.network.bridge.default_bridge": "true" },
      IPAM: { Config: [{ Subnet: "172.17.0.0/16" }] },
    });
    const { msg } = await host.refuses({ base: true }, "bridge_missing");
    expect(msg).toContain("docker9");
  });

  test.each(["10.0.0.0/33", "10.0.0.0", "x", "10.0.0.0/8 -j ACCEPT", "fd00::/129"])(
    "a subnet %j costs its own network alone",
    async (subnet) => {
      const host = bareHost();
      host.network("app", { IPAM: { Config: [{ Subnet: subnet }] } });
      const { warnings, base } = await host.ask({ base: true });
      expect(warnings.filter((one) => one.includes("where a subnet should be"))).toEqual([
        expect.stringMatching(/app.*the host rules do not cover it$/),
      ]);
      expect(base?.networks).toEqual(["bridge"]);
      expect(read(host, "10_docker")).not.toContain("app");
    },
  );

  test("a name that would break out of its comment does not", async () => {
    const host = bareHost();
    host.network("app", {
      Name: "a\n-A INPUT -j ACCEPT",
      IPAM: { Config: [{ Subnet: "10.0.0.0/8" }] },
      Id: "0123456789ab",
    });
    await setup(host);
    expect(read(host, "10_docker")).toContain("# network a?-A?INPUT?-j?ACCEPT: br-0123456789ab, 10.0.0.0/8\n");
  });

  test("that are not covered are reported by present, with the command", async () => {
    const host = bareHost();
    host.container("web", { ports: PORTS });
    rmSync(join(host.fake, "networks/bridge.json"));
    await setup(host);
    host.network("bridge", { Options: { "com.docker.network.bridge.name": BRIDGE } });
    const result = await host.ask({ container: "web" });
    expect(result, result.msg).toMatchObject({ changed: true });
    expect(warnings(result)).toEqual([
      expect.stringMatching(/^the host rules do not cover the bridge lo of web's network: .*'docker_iptables setup' /),
    ]);
    host.network("bridge", {
      Options: { "com.docker.network.bridge.name": BRIDGE },
      IPAM: { Config: [{ Subnet: "172.17.0.0/16" }] },
    });
    expect(warnings(await host.ask({ container: "web", base: true }))).toEqual([]);
    expect(warnings(await host.ask({ container: "web" }))).toEqual([]);
  });
});

describe.concurrent("what is foreign", () => {
  test.each(["10_docker", "90_docker"])("%s is not overwritten", async (file) => {
    const host = bareHost();
    mkdirSync(host.ip6tablesDir);
    host.write(file, BASE, host.ip6tablesDir);
    const { msg, error } = await host.refuses({ base: true }, "fragment_foreign");
    expect(error?.["path"]).toBe(join(host.ip6tablesDir, file));
    expect(msg).toContain(`mv ${join(host.ip6tablesDir, file)} `);
    expect(existsSync(host.iptablesDir)).toBe(false);
  });

  test("nor followed, if it is a symbolic link", async () => {
    const host = bareHost();
    mkdirSync(host.iptablesDir);
    symlinkSync("/dev/null", join(host.iptablesDir, "10_docker"));
    await host.refuses({ base: true }, "fragment_not_a_file");
  });

  test("a service that loads the directories is used as it is", async () => {
    const host = bareHost();
    // Others start a static one.
    host.unit("iptables.service", host.iptablesDir, { UnitFileState: "static" });
    host.unit("ip6tables.service", host.ip6tablesDir, { UnitFileState: "disabled" });
    const result = await setup(host);
    expect(result, result.msg).toMatchObject({ changed: true, reloaded: ["iptables.service", "ip6tables.service"] });
    expect(unitFiles(host)).toEqual([]);
    expect(enabled(host)).toEqual([]);
    expect(warnings(result)).toEqual([
      "ip6tables.service was not written by docker_iptables and is not enabled, so the rules are not loaded at boot",
    ]);
    expect(await setup(host)).toMatchObject({ changed: false });
  });

  test("a service that does not is explained", async () => {
    const host = bareHost();
    host.unit("iptables.service", "/etc/iptables/rules.v4", {
      FragmentPath: "/lib/systemd/system/netfilter-persistent.service",
    });
    const { msg } = await host.refuses({ base: true }, "unit_not_suitable");
    expect(msg).toMatch(/iptables-persistent.*iptables_service.*reload: patch/);
  });

  test("a unit file that systemd has not read yet is not overwritten", async () => {
    const host = bareHost();
    writeFileSync(join(host.unitDir, "iptables.service"), "[Service]\nExecStart=/bin/true\n");
    await host.refuses({ base: true }, "unit_missing");
    expect(read(host, "iptables.service", host.unitDir)).toContain("/bin/true");
  });

  test("a masked service is reported", async () => {
    const host = bareHost();
    host.unit("ip6tables.service", "", { LoadState: "masked" });
    const { msg } = await host.refuses({ base: true }, "unit_not_suitable");
    expect(msg).toContain("systemctl unmask ip6tables.service");
  });
});

describe.concurrent("the executable of the services", () => {
  test("is nowhere on their PATH", async () => {
    const host = bareHost();
    rmSync(join(host.bin, "docker_iptables"));
    const { msg } = await host.refuses({ base: true }, "executable_unusable");
    expect(msg).toContain("/usr/local/bin/docker_iptables");
  });

  test("does not run there", async () => {
    const host = bareHost();
    rmSync(join(host.bin, "docker_iptables"));
    writeFileSync(join(host.bin, "docker_iptables"), "#!/bin/sh\nnode-of-nobody --version\n", { mode: 0o755 });
    const { msg, error } = await host.refuses({ base: true }, "executable_unusable");
    expect(msg).toContain("is node on ");
    expect(error?.["stderr"]).toContain("node-of-nobody");
  });

  test("is the one on PATH, not the file that runs", async () => {
    const host = bareHost();
    await setup(host);
    expect(read(host, "iptables.service", host.unitDir)).toContain(`ExecStart=${host.bin}/docker_iptables load ipv4 `);
  });
});

describe.concurrent("what fails is taken back", () => {
  const FAILURES: [string, (host: FakeHost) => void, string][] = [
    [
      "a load",
      (host) => host.on("ip6tables-restore", '[ "$1" = --version ] || { echo no >&2; exit 1; }'),
      "reload_failed",
    ],
    [
      "daemon-reload",
      (host) =>
        host.on(
          "systemctl",
          'case "$*" in daemon-reload) [ -e "$FAKE/once" ] || { : > "$FAKE/once"; exit 1; } ;; esac',
        ),
      "command_failed",
    ],
    ["enable", (host) => host.on("systemctl", 'case "$*" in enable*ip6*) exit 1 ;; esac'), "command_failed"],
  ];
  test.each(FAILURES)("%s", async (_, breakIt, code) => {
    const host = bareHost();
    breakIt(host);
    const result = await setup(host);
    expect(result.error, result.msg).toMatchObject({ code });
    expect(result.changed).toBe(false);
    expect(result.rolled_back).toContain(join(host.unitDir, "iptables.service"));
    expect(result.rolled_back?.some((what) => what.startsWith("NOT"))).toBe(false);
    expect(unitFiles(host)).toEqual([]);
    expect(enabled(host)).toEqual([]);
    expect(host.names(host.iptablesDir)).toEqual([]);
    expect(host.kernel("nat")).not.toContain("DOCKER_CONTAINERS");
    expect(readdirSync(join(host.fake, "known"))).toEqual([]);
    host.on("systemctl", "");
    host.on("ip6tables-restore", "");
    expect(await setup(host)).toMatchObject({ changed: true });
  });
});

test("a broken fragment: setup says where a boot has no last good rules, either", async () => {
  const host = bareHost();
  const words = ["--reload", "restore"];
  expect(await setup(host, ...words)).toMatchObject({ changed: true });
  writeFileSync(join(host.iptablesDir, "50_open"), "*filter\n-A INPUT -j broken\nCOMMIT\n");
  const kept = await setup(host, ...words);
  expect(kept.warnings).toEqual([
    expect.stringMatching(/^the fragments cannot be loaded until this is fixed: .*50_open/),
  ]);
  rmSync(join(host.iptablesDir, ".docker_iptables"), { recursive: true });
  const bare = await setup(host, ...words);
  expect(bare.warnings).toEqual([
    ...kept.warnings,
    expect.stringMatching(/^no last good IPv4 rules are stored either/),
  ]);
});

describe.concurrent("setup --remove", () => {
  test("takes all of it back; again, it changes nothing", async () => {
    const host = bareHost();
    await setup(host);
    const would = await setup(host, "--remove", "--check");
    expect(would).toMatchObject({ changed: true, msg: "the host rules would be removed" });
    const result = await setup(host, "--remove");
    expect(result, result.msg).toMatchObject({
      changed: true,
      state: "absent",
      msg: "the host rules are removed",
      base: { reasons: ["file", "kernel", "unit"] },
    });
    expect(host.names(host.iptablesDir)).toEqual([]);
    expect(host.names(host.ip6tablesDir)).toEqual([]);
    expect(unitFiles(host)).toEqual([]);
    expect(enabled(host)).toEqual([]);
    expect(readdirSync(join(host.fake, "active"))).toEqual([]);
    expect(host.kernel("nat")).not.toContain("DOCKER_CONTAINERS");
    expect(host.kernel("filter")).not.toMatch(OURS);
    expect(await setup(host, "--remove", "--reload", "restore")).toMatchObject({
      changed: false,
      msg: "there are no host rules",
    });
  });

  test("leaves a host of patch without our chain, and with all else", async () => {
    const host = bareHost();
    const foreign = "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -s 192.0.2.1/32 -j DROP\nCOMMIT\n";
    host.setKernel("filter", foreign);
    await setup(host, "--reload", "patch");
    expect(host.kernel("filter")).toMatch(OURS);
    const result = await setup(host, "--remove", "--reload", "patch");
    expect(result, result.msg).toMatchObject({ changed: true });
    expect(host.kernel("filter")).toContain("-A FORWARD -s 192.0.2.1/32 -j DROP");
    expect(`${host.kernel("filter")}${host.kernel("nat")}`).not.toMatch(
      /DOCKER_CONTAINERS|DOCKER-USER|docker_iptables/,
    );
  });

  test("is refused while container fragments depend on the host rules", async () => {
    const host = bareHost();
    host.container("web", { ports: PORTS });
    await host.ask({ container: "web", base: true });
    const { msg } = await host.refuses({ base: true, state: "absent" }, "base_in_use");
    expect(msg).toMatch(/11-docker-container_web.*docker_iptables delete/);
    const both = await host.ask({ container: "web", base: true, state: "absent" });
    expect(both, both.msg).toMatchObject({ changed: true, msg: "the host rules are removed; unpublished: web" });
    expect(host.names(host.iptablesDir)).toEqual([]);
  });

  test("keeps what --adopt saved, and says so of nothing else", async () => {
    const host = bareHost();
    const ban = "-A INPUT -s 192.0.2.1/32 -j DROP";
    host.setKernel("filter", ["*filter", ":INPUT ACCEPT [0:0]", ban, "COMMIT", ""].join("\n"));
    await setup(host, "--adopt");
    host.write("20_existing", ["*filter", "-A INPUT -s 192.0.2.2/32 -j DROP", "COMMIT", ""].join("\n"));
    const result = await setup(host, "--remove");
    expect(result, result.msg).toMatchObject({ changed: true });
    expect(warnings(result)).toEqual([
      `${join(host.iptablesDir, "00_existing")} is kept: 'setup --adopt' made it, and its rules are yours`,
    ]);
    expect(host.names(host.iptablesDir)).toEqual(["00_existing", "20_existing"]);
  });

  test("leaves what others wrote", async () => {
    const host = fakeHost();
    await host.boot();
    const before = host.state();
    const result = await setup(host, "--remove");
    expect(result, result.msg).toMatchObject({ changed: false, msg: "there are no host rules" });
    expect(warnings(result)).toEqual([
      `${join(host.iptablesDir, "10_docker")} was not written by docker_iptables; it is kept`,
      `${join(host.ip6tablesDir, "10_docker")} was not written by docker_iptables; it is kept`,
    ]);
    expect(host.state()).toEqual(before);
  });
});

test("setup takes no name, and --remove belongs to it", async () => {
  const host = fakeHost();
  expect(await host.run(["setup", "web"])).toMatchObject({
    exitCode: 2,
    stderr: expect.stringContaining("takes no name"),
  });
  expect(await host.run(["create", "web", "--remove"])).toMatchObject({ exitCode: 2 });
});
