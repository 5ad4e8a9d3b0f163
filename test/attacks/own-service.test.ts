// An iptables.service of the user's own: what is known to lose rules is refused before anything is written, and one that is not
// understood is checked.

import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { BRIDGE, type FakeHost, fakeHost, readAnswer } from "../program/host.ts";

const PORTS = { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8080" }] };

/** Its INPUT is closed but for ssh, by a fragment; the container runs and is not published yet. */
async function closedHost(): Promise<FakeHost> {
  const host = fakeHost();
  host.container("web", { ports: PORTS });
  host.network("bridge", {
    Options: { "com.docker.network.bridge.name": BRIDGE, "com.docker.network.bridge.default_bridge": "true" },
    IPAM: { Config: [{ Subnet: "172.17.0.0/16" }] },
  });
  host.write("00_host", "*filter\n:INPUT DROP [0:0]\n-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\nCOMMIT\n");
  for (const directory of [host.iptablesDir, host.ip6tablesDir]) rmSync(join(directory, "10_docker"));
  const made = await host.ask({ base: true, reload: "restore" });
  expect(made, made.msg).toMatchObject({ changed: true });
  host.forgetSettings();
  return host;
}

/** The service is the user's. */
function ownService(host: FakeHost, line: string, properties: Record<string, string> = {}): string {
  const path = join(host.root, "iptables.service");
  writeFileSync(path, `[Service]\nType=oneshot\nExecStart=/bin/sh -c '${line}'\n`);
  host.unit("iptables.service", "", {
    FragmentPath: path,
    ExecStart: `{ path=/bin/sh ; argv[]=/bin/sh -c ${line} ; ignore_errors=no ; start_time=[n/a] ; pid=0 }`,
    CanReload: "no",
    ...properties,
  });
  return path;
}

const line = (host: FakeHost, ...argv: string[]) =>
  host.run([...argv, "--iptables-dir", host.iptablesDir, "--ip6tables-dir", host.ip6tablesDir]);

describe.concurrent("a service that is known to lose rules", () => {
  test("setup, create, sync and their check mode refuse, status reports", async () => {
    const host = await closedHost();
    const path = ownService(host, `cat ${host.iptablesDir}/* | iptables-restore`);
    for (const given of [{ base: true }, { base: true, _ansible_check_mode: true }, { all: true }]) {
      const { msg, error } = await host.refuses(given, "unit_not_suitable");
      expect(error).toMatchObject({ unit: "iptables.service", form: "concatenated", unit_files: [path] });
      expect(msg).toContain(`'mv ${path} ${path}.orig', 'systemctl daemon-reload', 'docker_iptables setup`);
    }
    expect(host.calls().filter((call) => /^systemctl .*(reload|restart|stop|enable|disable)/.test(call))).toEqual([]);
    const { stdout, exitCode } = await line(host, "status");
    expect(exitCode).toBe(3);
    expect(stdout).toMatch(/^service_unusable: iptables\.service loads the fragments in a way that loses rules/m);
  });

  test.each([
    ["single", (dir: string) => `for f in ${dir}/*; do iptables-restore < $$f; done`],
    ["flushed", (dir: string) => `iptables -F; merge ${dir} | iptables-restore`],
  ])("%s: create refuses before anything is written", async (form, text) => {
    const host = await closedHost();
    ownService(host, text(host.iptablesDir));
    const { error } = await host.refuses({ container: "web" }, "unit_not_suitable");
    expect(error).toMatchObject({ form });
    await host.refuses({ container: "web", _ansible_check_mode: true }, "unit_not_suitable");
  });

  test("in a drop-in of a service of ours", async () => {
    const host = await closedHost();
    const text = "ExecStart=\nExecStart=/bin/sh -c 'cat DIR/* | iptables-restore'\n";
    const dropIn = join(host.root, "own.conf");
    writeFileSync(dropIn, `[Service]\n${text.replace("DIR", host.iptablesDir)}`);
    ownService(host, `cat ${host.iptablesDir}/* | iptables-restore`, { DropInPaths: dropIn, FragmentPath: "" });
    const { error } = await host.refuses({ base: true }, "unit_not_suitable");
    expect(error).toMatchObject({ unit_files: [dropIn] });
  });

  test("is no obstacle where it is not asked, nor where nothing is to be done", async () => {
    const host = await closedHost();
    await host.ask({ container: "web" });
    ownService(host, `cat ${host.iptablesDir}/* | iptables-restore`);
    expect(await host.ask({ container: "web" })).toMatchObject({ changed: false });
    expect(await host.ask({ container: "web", state: "absent", reload: "patch" })).toMatchObject({ changed: true });
  });
});

describe.concurrent("a service that is not understood", () => {
  test("is used, and reported by setup and status, not by create", async () => {
    const host = await closedHost();
    ownService(host, `merge ${host.iptablesDir} | iptables-restore`);
    const created = await host.ask({ container: "web" });
    expect(created, created.msg).toMatchObject({ changed: true, reloaded: ["iptables.service"], warnings: [] });
    const told = expect.stringMatching(/^iptables\.service was not written by docker_iptables, and how it loads/);
    expect((await host.ask({ base: true, _ansible_check_mode: true, replace: true })).warnings).toContainEqual(told);
    const status = readAnswer(await line(host, "status", "--json").then((one) => ({ ...one, exitCode: 0 })));
    expect(status.warnings).toContainEqual(told);
    expect(status.problems?.filter(({ kind }) => kind === "service_unusable")).toEqual([]);
  });
});

describe.concurrent("a service that is not there", () => {
  const MISSING = { LoadState: "not-found", FragmentPath: "", ExecStart: "" };

  test("where nothing is set up: setup, with the flags of the call", async () => {
    const host = await closedHost();
    host.unit("iptables.service", "", MISSING);
    const { msg } = await host.refuses({ container: "web", client: "docker", guards: false }, "unit_missing");
    expect(msg).toContain(
      `; 'docker_iptables setup --no-guards --iptables-dir ${host.iptablesDir} --ip6tables-dir ${host.ip6tablesDir}' makes it`,
    );
    expect(msg).not.toContain("restore");
  });

  test("where another firewall's rules run: patch, and never restore", async () => {
    const host = await closedHost();
    host.unit("iptables.service", "", MISSING);
    const filter = host.kernel("filter");
    host.setKernel(
      "filter",
      filter
        .replace("COMMIT", "-A INPUT -j ufw-before-input\nCOMMIT")
        .replace(":INPUT", ":ufw-before-input - [0:0]\n:INPUT"),
    );
    const { stderr, exitCode } = await line(host, "create", "web");
    expect(exitCode).toBe(1);
    expect(stderr).toMatch(
      /rules are live here that no fragment declares \('-A INPUT -j ufw-before-input'\), .*: 'docker_iptables create web --reload patch --iptables-dir /,
    );
    expect(stderr).not.toContain("restore");
    const { stdout } = await line(host, "status");
    expect(stdout).toMatch(
      /^service_unusable: .*'docker_iptables setup --reload patch --iptables-dir .* replaces only/m,
    );
  });

  test("where the host was set up for patch: that", async () => {
    const host = await closedHost();
    host.unit("iptables.service", "", MISSING);
    const path = join(host.unitDir, "docker_iptables-watch.service");
    writeFileSync(path, "# docker_iptables: (docker_iptables-watch.service) (generated: do not edit)\n");
    host.unit("docker_iptables-watch.service", "", {
      FragmentPath: path,
      ExecStart:
        "{ path=/usr/bin/docker_iptables ; argv[]=/usr/bin/docker_iptables watch --ipv6 --reload patch ; ignore_errors=no ; }",
    });
    const { stderr } = await line(host, "sync");
    expect(stderr).toContain(
      "this host is set up for --reload patch: 'docker_iptables sync --reload patch --ipv6 --iptables-dir ",
    );
  });
});

describe.concurrent("a service that is not understood is watched", () => {
  /** What the service does instead of, or besides, loading the fragments as it should. */
  async function watchedHost(script: string): Promise<FakeHost> {
    const host = await closedHost();
    ownService(host, `merge ${host.iptablesDir} | iptables-restore`);
    host.on("systemctl", `case "$*" in *reload*iptables.service|*restart*iptables.service) ${script} ;; esac`);
    return host;
  }
  const SSH = "-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT";
  const FLUSH = 'rm -f "$FAKE"/kernel/ipv4/*; exit 0';

  test.each([
    ["flushes and loads nothing", FLUSH],
    ["flushes and fails", 'rm -f "$FAKE"/kernel/ipv4/*; echo broken >&2; exit 1'],
    [
      "loses a fragment",
      'mv "$DIRS/iptables.d/00_host" "$DIRS/"; trap \'mv "$DIRS/00_host" "$DIRS/iptables.d/"\' EXIT',
    ],
    ["opens the policy", 'trap \'sed -i "s/^:INPUT DROP/:INPUT ACCEPT/" "$FAKE/kernel/ipv4/filter"\' EXIT'],
  ])("it %s: create fails, names it, and all is as it was", async (_, script) => {
    const host = await watchedHost(script);
    const before = host.state();
    const { error, msg, rolled_back, changed } = await host.ask({ container: "web" });
    expect(error, msg).toMatchObject({
      code: script.includes("exit 1") ? "reload_failed" : "rules_not_live",
      services: ["iptables.service"],
    });
    expect(msg).toMatch(
      /iptables\.service, which docker_iptables did not write, removed rules that were live before: '/,
    );
    expect(msg).not.toContain("same iptables");
    expect(rolled_back).toContain("the kernel's IPv4 rules");
    expect(changed).toBe(false);
    // The fake's service makes a table that holds nothing.
    const { "kernel/ipv4/raw": _raw, ...state } = host.state();
    expect(state).toEqual(before);
  });

  test("rules that no fragment declares are not lost either", async () => {
    const host = await watchedHost(":");
    const added = host.kernel("filter").replace(SSH, `${SSH}\n-A INPUT -s 10.1.2.3/32 -j ACCEPT`);
    host.setKernel("filter", added);
    const answer = await host.ask({ container: "web" });
    expect(answer, answer.msg).toMatchObject({ changed: true, reloaded: ["iptables-restore"] });
    expect(answer.warnings).toEqual([
      expect.stringMatching(
        /^IPv4 rules are live that no fragment declares \('-A INPUT -s 10\.1\.2\.3\/32 -j ACCEPT'\): .* only docker_iptables' own rules were replaced\. /,
      ),
    ]);
    expect(host.kernel("filter")).toContain("-A INPUT -s 10.1.2.3/32 -j ACCEPT");
    expect(host.kernel("nat")).toContain("docker_iptables: web");
  });

  test("a line that was deleted from a fragment is removed, and stops nothing", async () => {
    const host = await watchedHost(":");
    const behind = { StateChangeTimestampMonotonic: "1" };
    ownService(host, `merge ${host.iptablesDir} | iptables-restore`, behind);
    await host.ask({ container: "web" });
    host.write("00_host", "*filter\n:INPUT DROP [0:0]\n-A INPUT -i lo -j ACCEPT\nCOMMIT\n");
    host.container("web", { ports: PORTS, address: "172.17.0.7" });
    const moved = await host.ask({ container: "web" });
    expect(moved, moved.msg).toMatchObject({ changed: true });
    expect(moved.warnings).toEqual([expect.stringMatching(/removed rules that are in no fragment, .*--dport 22/)]);
    expect(host.kernel("filter")).not.toContain("--dport 22 ");
    expect(host.kernel("filter")).toContain("172.17.0.7");
  });

  test("nor are those in DOCKER-USER, of which it knows nothing", async () => {
    const host = await watchedHost(":");
    const ban = "-A DOCKER-USER -s 203.0.113.9/32 -j DROP";
    const added = host.kernel("filter").replace("COMMIT", `${ban}\nCOMMIT`);
    host.setKernel("filter", added);
    const { error, msg } = await host.ask({ container: "web" });
    expect(error, msg).toMatchObject({ code: "rules_not_live", rules: [ban] });
    expect(host.kernel("filter")).toBe(added);
  });

  test("delete restores the host's rules, and not those to be removed", async () => {
    const host = await watchedHost(":");
    host.container("db", { ports: { "5432/tcp": [{ HostIp: "0.0.0.0", HostPort: "5432" }] }, address: "172.17.0.3" });
    await host.ask({ container: ["web", "db"] });
    host.on("systemctl", `case "$*" in *reload*iptables.service|*restart*iptables.service) ${FLUSH} ;; esac`);
    const deleted = await host.ask({ container: "web", state: "absent" });
    expect(deleted, deleted.msg).toMatchObject({ changed: true });
    expect(deleted.warnings).toEqual([
      expect.stringMatching(/iptables\.service, which docker_iptables did not write, removed rules/),
    ]);
    const filter = host.kernel("filter");
    expect(filter).toContain(":INPUT DROP");
    expect(filter).toContain(SSH);
    expect(filter).toContain("docker_iptables: db");
    expect(filter).not.toContain("docker_iptables: web");
    expect(host.fragment("web")).toBeUndefined();
  });
});
