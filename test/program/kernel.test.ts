// The host rules are wrong, or the kernel does not get the rules: files and kernel are restored, and the answer says so.

import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import type { Result } from "../../src/generated/result.ts";
import { BASE, type FakeHost, fakeHost } from "./host.ts";

const PORTS = {
  "80/tcp": [
    { HostIp: "0.0.0.0", HostPort: "8080" },
    { HostIp: "::", HostPort: "8080" },
  ],
};
const PATH = "11-docker-container_web";

/** A host that has booted, with a container of both families. */
async function bootedHost(): Promise<FakeHost> {
  const host = fakeHost();
  host.container("web", { ports: PORTS, address6: "fd00::2" });
  await host.boot();
  return host;
}

/** The container gets another address, so that the next `present` has something to do. */
function move(host: FakeHost): void {
  host.container("web", { ports: PORTS, address: "172.17.0.9", address6: "fd00::9" });
}

describe.concurrent("the base", () => {
  test("does not declare the chain", async () => {
    const host = await bootedHost();
    host.write("10_docker", BASE.replace(/^:DOCKER_CONTAINERS.*\n/m, ""));
    const { msg } = await host.refuses({ container: "web" }, "chain_not_declared");
    expect(msg).toContain(`no fragment in ${host.iptablesDir} declares the chain DOCKER_CONTAINERS`);
  });

  test("declares it in another table, in a comment, or under a longer name", async () => {
    const host = await bootedHost();
    host.write(
      "10_docker",
      "# :DOCKER_CONTAINERS - [0:0]\n*filter\n:DOCKER_CONTAINERS - [0:0]\nCOMMIT\n*nat\n:DOCKER_CONTAINERS2 - [0:0]\nCOMMIT\n",
    );
    await host.refuses({ container: "web" }, "chain_not_declared");
  });

  test("never jumps to it", async () => {
    const host = await bootedHost();
    host.write("10_docker", BASE.replaceAll(/^.*-j DOCKER_CONTAINERS\n/gm, ""));
    const { msg } = await host.refuses({ container: "web" }, "chain_not_reached");
    expect(msg).toMatch(/'-A PREROUTING .*-j DOCKER_CONTAINERS'/);
  });

  test("is not there at all: the directory is empty", async () => {
    const host = await bootedHost();
    rmSync(join(host.iptablesDir, "10_docker"));
    await host.refuses({ container: "web" }, "chain_not_declared");
  });

  test("lacks the chain for IPv6 only: nothing is written for IPv4 either", async () => {
    const host = await bootedHost();
    host.write("10_docker", "*nat\nCOMMIT\n", host.ip6tablesDir);
    const { msg } = await host.refuses({ container: "web", ipv6: true }, "chain_not_declared");
    expect(msg).toContain(host.ip6tablesDir);
    expect(await host.ask({ container: "web" })).toMatchObject({ changed: true });
  });

  test("may be two fragments, one that declares (with -N) and one that jumps", async () => {
    const host = await bootedHost();
    host.write("10_docker", "*nat\n-N DOCKER_CONTAINERS\nCOMMIT\n");
    host.write("99_last", "*nat\n-A PREROUTING -m addrtype --dst-type LOCAL --jump DOCKER_CONTAINERS\nCOMMIT\n");
    expect(await host.ask({ container: "web", reload: "restore" })).toMatchObject({ changed: true });
  });

  test("is no matter for absent, nor for a container that publishes nothing", async () => {
    const host = await bootedHost();
    await host.ask({ container: "web" });
    host.write("10_docker", "*nat\nCOMMIT\n");
    expect(await host.ask({ container: "web", state: "absent" })).toMatchObject({ changed: true });
    host.container("quiet", { ports: { "80/tcp": null } });
    expect(await host.ask({ container: "quiet" })).toMatchObject({ changed: false, msg: "quiet publishes no port" });
  });

  test.each([
    ["no COMMIT", "*filter\n-A INPUT -j ACCEPT\n", 3],
    ["a rule outside a table", "-A INPUT -j ACCEPT\n", 1],
    ["a quote that does not end", '*filter\n-A INPUT -m comment --comment "half -j ACCEPT\nCOMMIT\n', 2],
    ["a word", "*filter\nhello\nCOMMIT\n", 2],
  ])("a stranger's fragment with %s is named, file and line (reload: restore)", async (_what, text, line) => {
    const host = await bootedHost();
    host.write("50_stranger", text);
    const { msg, error } = await host.refuses({ container: "web", reload: "restore" }, "fragment_invalid");
    expect(msg).toContain(`${join(host.iptablesDir, "50_stranger")} line ${line}: `);
    expect(error).toMatchObject({ path: join(host.iptablesDir, "50_stranger"), line });
  });
});

describe.concurrent("iptables-save", () => {
  test.each(["present", "absent"])("fails (%s)", async (state) => {
    const host = await bootedHost();
    host.on("iptables-save", "echo 'iptables-save v1.8.9: table is incompatible, use nft' >&2; exit 1");
    const { msg, error } = await host.refuses({ container: "web", state }, "command_failed");
    expect(msg).toMatch(/'iptables-save' failed with exit status 1: .*table is incompatible/);
    expect(error).toMatchObject({ command: "iptables-save", exit_code: 1 });
  });

  test("of IPv6 fails, and IPv6 is not asked for", async () => {
    const host = await bootedHost();
    host.on("ip6tables-save", "echo boom >&2; exit 1");
    await host.refuses({ container: "web" }, "command_failed");
  });

  test("needs root", async () => {
    const host = await bootedHost();
    host.on(
      "iptables-save",
      "echo 'Fatal: cannot open the lock file: Permission denied (you must be root)' >&2; exit 4",
    );
    await host.refuses({ container: "web" }, "permission_denied");
  });

  test("hangs", async () => {
    const host = await bootedHost();
    host.on("iptables-save", "exec sleep 600");
    await host.refuses({ container: "web", timeout: 1 }, "command_timeout");
  });

  test("is not asked with reload: none", async () => {
    const host = await bootedHost();
    for (const command of ["iptables-save", "ip6tables-save", "iptables-restore", "systemctl"])
      host.on(command, "exit 9");
    expect(await host.ask({ container: "web", reload: "none" })).toMatchObject({
      changed: true,
      reloaded: [],
      containers: [{ reasons: ["file"] }],
    });
    expect(await host.ask({ container: "web", reload: "none" })).toMatchObject({ changed: false });
    expect(await host.ask({ container: "web", reload: "none", state: "absent" })).toMatchObject({ changed: true });
    expect(host.calls().filter((call) => !call.startsWith("docker"))).toEqual([]);
  });
});

test("the load fails for IPv4, and IPv6 cannot be read any more: what was not loaded needs no rollback", async () => {
  const host = await bootedHost();
  const given = { container: "web", reload: "restore", ipv6: true };
  await host.ask(given);
  host.container("web", { ports: PORTS, address: "172.17.0.9", address6: "fd00::2" });
  host.on("iptables-restore", ': > "$FAKE/failed"; echo boom >&2; exit 2');
  host.on("ip6tables-save", '[ -e "$FAKE/failed" ] && exit 1');
  const { rolled_back } = await host.refuses(given, "reload_failed");
  expect(rolled_back).toEqual([join(host.iptablesDir, PATH)]);
});

describe.concurrent.each(["restore", "systemd"])("the load fails (reload: %s)", (reload) => {
  test("at once: files and kernel are as before", async () => {
    const host = await bootedHost();
    host.on("iptables-restore", "echo 'iptables-restore: line 7 failed' >&2; exit 1");
    const { msg, error, rolled_back } = await host.refuses({ container: "web", reload }, "reload_failed");
    expect(msg).toMatch(/failed/);
    expect(error).toMatchObject({ exit_code: 1 });
    expect(rolled_back).toEqual([join(host.iptablesDir, PATH)]);
  });

  test("in the second table: the snapshot of the first is restored, and the former bytes", async () => {
    const host = await bootedHost();
    await host.ask({ container: "web", reload });
    move(host);
    host.write("50_stranger", "*filter\n-A INPUT -m shaky\nCOMMIT\n");
    const { rolled_back } = await host.refuses({ container: "web", reload }, "reload_failed");
    expect(rolled_back).toEqual(["the kernel's IPv4 rules", join(host.iptablesDir, PATH)]);
    expect(host.fragment("web")).toContain("172.17.0.2");
    expect(host.kernel("nat")).toContain("172.17.0.2");
    rmSync(join(host.iptablesDir, "50_stranger"));
    expect(await host.ask({ container: "web", reload })).toMatchObject({ changed: true });
    expect(host.kernel("nat")).toContain("172.17.0.9");
  });

  test("for IPv6 after it succeeded for IPv4: both are restored", async () => {
    const host = await bootedHost();
    await host.ask({ container: "web", reload, ipv6: true });
    move(host);
    host.on("ip6tables-restore", "echo 'ip6 boom' >&2; exit 2");
    const { msg, rolled_back } = await host.refuses({ container: "web", reload, ipv6: true }, "reload_failed");
    expect(msg).toMatch(/ip6 boom/);
    expect([...(rolled_back ?? [])].sort()).toEqual(
      ["the kernel's IPv4 rules", join(host.ip6tablesDir, PATH), join(host.iptablesDir, PATH)].sort(),
    );
    expect(host.kernel("nat", "ipv6")).toContain("fd00::2");
  });

  test("halfway through IPv6, where only the file had to change: IPv6 is restored, too", async () => {
    const host = await bootedHost();
    await host.ask({ container: "web", reload, ipv6: true });
    // A former IPv6 fragment that is not live: the file changes, the kernel need not.
    await host.ask({ container: "web", reload, ipv6: true, state: "absent" });
    host.write(PATH, "# former\n", host.ip6tablesDir);
    host.on("ip6tables-restore", 'mkdir -p "$FAKE/kernel/ipv6"; echo "*nat" > "$FAKE/kernel/ipv6/nat"; exit 1');
    const before = host.state();
    const result = await host.ask({ container: "web", reload });
    if (result.failed) {
      host.on("ip6tables-restore", "");
      expect(result.rolled_back).toContainEqual(expect.stringMatching(/IPv6 rules/));
    } else expect(host.state()["kernel/ipv6/nat"]).toBe(before["kernel/ipv6/nat"]);
  });

  test("and so does the rollback: the answer says what could NOT be restored", async () => {
    const host = await bootedHost();
    await host.ask({ container: "web", reload });
    move(host);
    // The first table is committed, everything after that fails.
    host.on("iptables-restore", 'echo "*raw" > "$FAKE/kernel/ipv4/raw"; echo "all is lost" >&2; exit 1');
    const result = await host.ask({ container: "web", reload });
    expect(result).toMatchObject({ failed: true, error: { code: "reload_failed" } });
    expect(result.rolled_back).toEqual([
      expect.stringMatching(/^NOT put back: .*all is lost/),
      join(host.iptablesDir, PATH),
    ]);
    expect(host.fragment("web")).toContain("172.17.0.2");
  });

  test("and absent brings neither file nor rule back", async () => {
    const host = await bootedHost();
    await host.ask({ container: "web", reload, ipv6: true });
    host.write("50_stranger", "*filter\n-A INPUT -m shaky\nCOMMIT\n");
    // Nor does the kernel let our rules be taken out without a load.
    host.on("iptables-restore", "cat > /dev/null; exit 1\n");
    const result = await host.ask({ container: "web", reload, state: "absent" });
    expect(result).toMatchObject({ failed: true, error: { code: "reload_failed" } });
    expect(result).not.toHaveProperty("rolled_back");
    expect(host.fragment("web")).toBeUndefined();
    // The next absent knows that rules are left, though there is no file any more.
    host.on("iptables-restore", "");
    rmSync(join(host.iptablesDir, "50_stranger"));
    expect(await host.ask({ container: "web", reload, state: "absent" })).not.toHaveProperty("failed");
    for (const table of ["raw", "nat", "filter"]) {
      expect(host.kernel(table)).not.toContain("172.17.0.2");
      expect(host.kernel(table, "ipv6")).not.toContain("fd00::2");
    }
  });

  test("it hangs", async () => {
    const host = await bootedHost();
    host.on("iptables-restore", "cat > /dev/null; exec sleep 600");
    const loading = ({ rolled_back }: Result) => rolled_back !== undefined;
    const result = await host.runsOut({ container: "web", reload }, "command_timeout", loading);
    expect(result.rolled_back).toEqual([join(host.iptablesDir, PATH)]);
  });

  test("it succeeds and does nothing", async () => {
    const host = await bootedHost();
    host.on("iptables-restore", "cat > /dev/null; exit 0");
    const { msg, error, rolled_back } = await host.refuses({ container: "web", reload }, "rules_not_live");
    expect(msg).toMatch(/the rules were loaded, but for web the kernel lacks '-A /);
    expect(error).toMatchObject({
      containers: ["web"],
      missing: expect.arrayContaining([expect.stringMatching(/DNAT/)]),
    });
    expect(rolled_back).toEqual([join(host.iptablesDir, PATH)]);
  });

  test("it drops a rule of ours", async () => {
    const host = await bootedHost();
    host.on("iptables-restore", "grep -v 'dport 8080' | { rm \"$FAKE/on-iptables-restore\"; iptables-restore; }; exit");
    const { rolled_back } = await host.refuses({ container: "web", reload }, "rules_not_live");
    expect(rolled_back).toEqual(["the kernel's IPv4 rules", join(host.iptablesDir, PATH)]);
  });

  test("for absent it succeeds and leaves the rules", async () => {
    const host = await bootedHost();
    await host.ask({ container: "web", reload });
    host.on("iptables-restore", "cat > /dev/null; exit 0");
    const result = await host.ask({ container: "web", reload, state: "absent" });
    expect(result).toMatchObject({ failed: true, error: { code: "rules_not_live", surplus: 3 } });
    expect(host.fragment("web")).toBeUndefined();
  });

  test("the rules are in the other backend: the answer says so", async () => {
    const host = await bootedHost();
    host.install("iptables-save", "iptables-legacy-save");
    host.on("iptables-legacy-save", 'cat "$FAKE/restored-ipv4"; exit 0');
    host.on("iptables-restore", 'cat > "$FAKE/restored-ipv4"; exit 0');
    const { msg, error } = await host.refuses({ container: "web", reload }, "rules_not_live");
    expect(msg).toMatch(/the legacy backend holds rules of web/);
    expect(error).toMatchObject({ backends: ["legacy"] });
  });
});

describe.concurrent("the service", () => {
  test("is not installed", async () => {
    const host = await bootedHost();
    const { msg } = await host.refuses({ container: "web", iptables_service: "none-such" }, "unit_missing");
    expect(msg).toMatch(/none-such\.service/);
  });

  test.each(["masked", "error", "bad-setting"])("is %s", async (LoadState) => {
    const host = await bootedHost();
    host.unit("iptables.service", host.iptablesDir, { LoadState });
    expect((await host.refuses({ container: "web" }, "unit_missing")).msg).toContain(`systemd says: ${LoadState}`);
  });

  test.each([
    [
      "iptables-services",
      {
        ExecStart: "{ path=/usr/libexec/iptables/iptables.init ; argv[]=/usr/libexec/iptables/iptables.init start ; }",
      },
    ],
    [
      "iptables-persistent",
      { Id: "netfilter-persistent.service", ExecStart: "{ path=/usr/sbin/netfilter-persistent ; }" },
    ],
    ["ufw", { ExecStart: "{ path=/lib/ufw/ufw-init ; argv[]=/lib/ufw/ufw-init start quiet ; }" }],
    ["", { ExecStart: "{ path=/usr/local/bin/other ; argv[]=/usr/local/bin/other /etc/other.d ; }" }],
  ])("belongs to a stranger: %s", async (whose, properties) => {
    const host = await bootedHost();
    host.unit("iptables.service", host.iptablesDir, properties);
    const { msg, error } = await host.refuses({ container: "web" }, "unit_not_suitable");
    expect(msg).toContain(`iptables.service does not load ${host.iptablesDir}`);
    expect(msg).toContain(whose);
    expect(error).toMatchObject({ unit: "iptables.service", directories: [host.iptablesDir] });
  });

  test("of ours for other directories belongs to no firewall that it only starts beside", async () => {
    const host = await bootedHost();
    const path = fileURLToPath(new URL("../../examples/systemd/iptables.service", import.meta.url));
    host.unit("iptables.service", "/etc/iptables.d", { FragmentPath: path });
    const { msg } = await host.refuses({ container: "web" }, "unit_not_suitable");
    expect(msg).toContain(`iptables.service does not load ${host.iptablesDir}: `);
  });

  test.each([
    ["show", "Failed to get properties: Transport endpoint is not connected"],
    ["reload", "Warning! D-Bus connection terminated.\\nFailed to wait for response: Connection reset by peer"],
    ["show", "Failed to connect to bus: No such file or directory"],
    ["reload", "Job for iptables.service canceled."],
  ])("is asked once more where the manager is busy: %s, %s", async (verb, words) => {
    const host = await bootedHost();
    const once = `case " $* " in *" ${verb} "*) mkdir "$FAKE/once" 2>/dev/null && { printf '${words}\\n' >&2; exit 1; } ;; esac`;
    host.on("systemctl", once);
    expect(await host.ask({ container: "web" })).toMatchObject({ changed: true, reloaded: ["iptables.service"] });
    host.on("systemctl", once.replace("mkdir", "true"));
    move(host);
    const { msg } = await host.ask({ container: "web" });
    expect(msg).toContain(words.split("\\n").at(-1));
  });

  test("loads a directory whose name only begins like ours", async () => {
    const host = await bootedHost();
    host.unit("iptables.service", `${host.iptablesDir}.old`);
    await host.refuses({ container: "web" }, "unit_not_suitable");
  });

  test("of IPv6 is not installed: nothing is written for IPv4 either", async () => {
    const host = await bootedHost();
    await host.refuses({ container: "web", ipv6: true, ip6tables_service: "none-such" }, "unit_missing");
    expect(await host.ask({ container: "web" })).toMatchObject({ changed: true });
  });

  test("names the directory in a script that it starts", async () => {
    const host = await bootedHost();
    const script = join(host.root, "load-all");
    writeFileSync(script, `#!/bin/sh\nmerge ${host.iptablesDir} | iptables-restore\n`);
    host.unit("iptables.service", "", { ExecStart: `{ path=${script} ; argv[]=${script} ; ignore_errors=no ; }` });
    expect(await host.ask({ container: "web" })).toMatchObject({ changed: true, reloaded: ["iptables.service"] });
  });

  test.each([
    ["runs and can reload", {}, "reload"],
    ["runs and cannot reload", { CanReload: "no" }, "restart"],
    ["does not run", { ActiveState: "inactive" }, "restart"],
    ["failed", { ActiveState: "failed" }, "restart"],
  ])("that %s gets one job, which waits for no other", async (_what, properties, verb) => {
    const host = await bootedHost();
    host.unit("iptables.service", host.iptablesDir, properties);
    await host.ask({ container: "web" });
    expect(host.calls().filter((call) => /^systemctl .*(reload|restart)/.test(call))).toEqual([
      `systemctl --job-mode=ignore-dependencies ${verb} -- iptables.service`,
    ]);
  });

  test("that hit its start limit is reset, and a warning says so", async () => {
    const host = await bootedHost();
    host.unit("iptables.service", host.iptablesDir, { CanReload: "no" });
    writeFileSync(join(host.fake, "start-limit"), "");
    const result = await host.ask({ container: "web" });
    expect(result).toMatchObject({ changed: true, reloaded: ["iptables.service"] });
    expect(result.warnings).toEqual([expect.stringMatching(/iptables\.service had hit systemd's start limit/)]);
    expect(host.calls()).toContain("systemctl reset-failed -- iptables.service");
  });

  test("fails: the command, its status, its words and the journal are in the answer", async () => {
    const host = await bootedHost();
    host.install("docker", "journalctl");
    host.on("journalctl", "echo 'line 3: unknown option'; exit 0");
    host.on("systemctl", `case "$*" in *reload*) echo 'Job for iptables.service failed.' >&2; exit 1 ;; esac`);
    const { msg, error } = await host.refuses({ container: "web" }, "reload_failed");
    expect(msg).toMatch(/iptables\.service could not load the rules.*Job for iptables\.service failed/);
    expect(error).toMatchObject({
      command: "systemctl --job-mode=ignore-dependencies reload -- iptables.service",
      exit_code: 1,
      stderr: "Job for iptables.service failed.",
      journal: "line 3: unknown option",
    });
  });

  test("cannot be asked: systemctl fails", async () => {
    const host = await bootedHost();
    host.on("systemctl", "echo 'System has not been booted with systemd as init system (PID 1).' >&2; exit 1");
    const { msg } = await host.refuses({ container: "web" }, "command_failed");
    expect(msg).toMatch(/not been booted with systemd/);
  });

  test("may be the same for both families: one job", async () => {
    const host = await bootedHost();
    host.unit("firewall.service", `${host.iptablesDir} ${host.ip6tablesDir}`);
    host.on(
      "systemctl",
      `case "$*" in *firewall*) case "$*" in *reload*) systemctl restart iptables.service; systemctl restart ip6tables.service; exit ;; esac ;; esac`,
    );
    const service = { iptables_service: "firewall", ip6tables_service: "firewall.service" };
    const result = await host.ask({ container: "web", ipv6: true, ...service });
    expect(result).toMatchObject({ changed: true, reloaded: ["firewall.service"] });
    expect(host.calls().filter((call) => call.endsWith("reload -- firewall.service"))).toHaveLength(1);
  });
});

describe.concurrent("while the host shuts down", () => {
  async function stoppingHost(): Promise<FakeHost> {
    const host = await bootedHost();
    await host.ask({ container: "web" });
    writeFileSync(join(host.fake, "system-state"), "stopping\n");
    host.on("iptables-restore", "exit 9");
    host.calls();
    return host;
  }

  test("absent removes the file, reloads nothing, and succeeds with a warning", async () => {
    const host = await stoppingHost();
    const result = await host.ask({ container: "web", state: "absent" });
    expect(result).toMatchObject({ changed: true, reloaded: [], files: [{ change: "removed" }] });
    expect(result.warnings).toEqual([expect.stringMatching(/shutting down: nothing was reloaded/)]);
    expect(host.fragment("web")).toBeUndefined();
    expect(host.calls().filter((call) => /restore|reload|restart/.test(call))).toEqual([]);
  });

  test("even when the service is not there any more", async () => {
    const host = await stoppingHost();
    rmSync(join(host.fake, "units", "iptables.service"));
    expect(await host.ask({ container: "web", state: "absent" })).toMatchObject({ changed: true, reloaded: [] });
  });
});

describe.concurrent("what is in the kernel by hand", () => {
  test.each(["systemd", "restore"])(
    "rules of ours that no file holds any more go, and that is a change (reload: %s)",
    async (reload) => {
      const host = await bootedHost();
      await host.ask({ container: "web", reload });
      rmSync(join(host.iptablesDir, PATH));
      const result = await host.ask({ container: "web", state: "absent", reload });
      expect(result, result.msg).toMatchObject({ changed: true, files: [], containers: [{ reasons: ["kernel"] }] });
      for (const table of ["raw", "nat", "filter"]) expect(host.kernel(table)).not.toContain("172.17.0.2");
    },
  );

  test("a policy of DROP that no fragment states stays (reload: restore)", async () => {
    const host = await bootedHost();
    const path = join(host.fake, "kernel/ipv4/filter");
    writeFileSync(path, "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [12:3456]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n");
    await host.ask({ container: "web", reload: "restore" });
    expect(readFileSync(path, "utf8")).toMatch(/^:FORWARD DROP/m);
    await host.ask({ container: "web", reload: "restore", state: "absent" });
    expect(readFileSync(path, "utf8")).toMatch(/^:FORWARD DROP/m);
  });

  test("Docker's own rules: a warning", async () => {
    const host = await bootedHost();
    const nat = "*nat\n:DOCKER - [0:0]\n-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\nCOMMIT\n";
    writeFileSync(join(host.fake, "kernel/ipv4/nat"), nat);
    const result = await host.ask({ container: "web", _ansible_check_mode: true });
    expect(result.warnings).toEqual([expect.stringMatching(/the Docker daemon manages iptables itself/)]);
  });
});

describe.concurrent("a kernel without the raw table", () => {
  const LOCAL = { ...PORTS, "81/tcp": [{ HostIp: "127.0.0.1", HostPort: "8081" }] };

  async function withoutRaw(): Promise<FakeHost> {
    const host = fakeHost();
    host.container("web", { ports: LOCAL });
    await host.boot();
    host.flush("raw");
    host.on("iptables-save", `case "$*" in *"--table raw"*) echo "Table does not exist" >&2; exit 1 ;; esac`);
    host.on(
      "iptables-restore",
      `case "$*" in *--version*) ;; *) cat > "$FAKE/in"; grep -q '^*raw' "$FAKE/in" && exit 1; exec < "$FAKE/in" ;; esac`,
    );
    return host;
  }

  test.each(["restore", "patch"])("publishes without guards, and says what cannot be guarded: %s", async (reload) => {
    const host = await withoutRaw();
    const result = await host.ask({ container: "web", reload });
    expect(result, result.msg).toMatchObject({ changed: true });
    expect(result.rules?.ipv4).not.toHaveProperty("raw");
    expect(result.warnings.join("\n")).toMatch(
      /no raw table for IPv4 \(module iptable_raw\): what web publishes on 127\.x.*unpublished ports of web/,
    );
    expect(host.fragment("web")).not.toContain("*raw");
    const again = await host.ask({ container: "web", reload });
    expect(again).toMatchObject({ changed: false, warnings: result.warnings });
  });

  test("of which that cannot be said is refused, and no guard is left out", async () => {
    const host = await withoutRaw();
    host.on(
      "iptables-save",
      `case "$*" in *"--table raw"*) echo "Another app is holding the lock" >&2; exit 4 ;; esac`,
    );
    const { msg } = await host.refuses({ container: "web" }, "command_failed");
    expect(msg).toContain("cannot find out whether there is a table raw: 'iptables-save --table raw' failed");
  });

  test("is not asked for it where the table is there", async () => {
    const host = await bootedHost();
    await host.ask({ container: "web" });
    host.calls();
    await host.ask({ container: "web" });
    expect(host.calls().filter((call) => call.includes("--table"))).toEqual([]);
  });
});
