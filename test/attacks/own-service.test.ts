// An iptables.service of the user's own: what is known to lose rules is refused before anything is written, and what is not
// known is watched.

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
  return host;
}

/** The service is what somebody wrote. */
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
  test("setup, create, sync and their check mode refuse, status tells", async () => {
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
  test("is used, and told by setup and status, not by create", async () => {
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
      /rules run here that no fragment declares \('-A INPUT -j ufw-before-input'\), .*: 'docker_iptables create web --reload patch --iptables-dir /,
    );
    expect(stderr).not.toContain("restore");
    const { stdout } = await line(host, "status");
    expect(stdout).toMatch(/^service_unusable: .*'docker_iptables status --reload patch --iptables-dir /m);
  });

  test("where the host was set up for patch: that", async () => {
    const host = await closedHost();
    host.unit("iptables.service", "", MISSING);
    host.unit("docker_iptables-watch.service", "", {
      ExecStart:
        "{ path=/usr/bin/docker_iptables ; argv[]=/usr/bin/docker_iptables watch --ipv6 --reload patch ; ignore_errors=no ; }",
    });
    const { stderr } = await line(host, "sync");
    expect(stderr).toContain(
      "this host is set up for --reload patch: 'docker_iptables sync --reload patch --ipv6 --iptables-dir ",
    );
  });
});
