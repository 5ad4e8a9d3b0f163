// Other programs' rules: what a swarm, a former Docker, another backend and nftables have in the kernel.

import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { execa } from "execa";
import { describe, expect, test } from "vitest";
import type { Result } from "../../src/generated/result.ts";
import { type FakeHost, fakeHost, readAnswer } from "../program/host.ts";

const PORTS = { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8080" }] };

const NETWORK = {
  Options: { "com.docker.network.bridge.name": "lo" },
  IPAM: { Config: [{ Subnet: "172.17.0.0/16" }] },
};

const DNAT = "-A DOCKER-INGRESS -p tcp -m tcp --dport 9191 -j DNAT --to-destination 172.18.0.2:9191";
/** What dockerd makes for a service that publishes on every node, also with iptables=false. */
const MESH = {
  filter: [
    "-A FORWARD -j DOCKER-INGRESS",
    "-A DOCKER-INGRESS -p tcp -m tcp --dport 9191 -j ACCEPT",
    "-A DOCKER-INGRESS -p tcp -m state --state RELATED,ESTABLISHED -m tcp --sport 9191 -j ACCEPT",
    "-A DOCKER-INGRESS -j RETURN",
  ],
  nat: [
    "-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER-INGRESS",
    "-A OUTPUT -m addrtype --dst-type LOCAL -j DOCKER-INGRESS",
    "-A POSTROUTING -o docker_gwbridge -m addrtype --src-type LOCAL -j MASQUERADE",
    DNAT,
    "-A DOCKER-INGRESS -j RETURN",
  ],
};

function joinSwarm(host: FakeHost): void {
  for (const [table, lines] of Object.entries(MESH)) {
    const now = host.kernel(table);
    const text = now.includes("COMMIT") ? now : `*${table}\nCOMMIT\n`;
    host.setKernel(
      table,
      text
        .replace(`*${table}\n`, `*${table}\n:DOCKER-INGRESS - [0:0]\n`)
        .replace("COMMIT", `${lines.join("\n")}\nCOMMIT`),
    );
  }
}

function meshLives(host: FakeHost): void {
  for (const [table, lines] of Object.entries(MESH)) {
    const now = host.kernel(table).split("\n");
    expect(now.filter((line) => /INGRESS|gwbridge/.test(line) && line.startsWith("-A"))).toEqual(lines);
  }
}

const load = async (host: FakeHost) => {
  const directories = ["--iptables-dir", host.iptablesDir, "--ip6tables-dir", host.ip6tablesDir];
  return readAnswer(await host.run(["load", "--json", ...directories]));
};

describe.concurrent("a swarm's routing mesh", () => {
  test.each(["systemd", "restore", "patch"])("reload: %s publishes, withdraws, and leaves it alone", async (reload) => {
    const host = fakeHost();
    await host.boot();
    joinSwarm(host);
    host.container("web", { ports: PORTS });
    const created = await host.ask({ container: "web", reload });
    expect(created, created.msg).toMatchObject({ changed: true });
    expect(host.kernel("nat")).toContain("172.17.0.2:80");
    const told = created.warnings.filter((one) => /swarm.*DOCKER-INGRESS.*reload: patch/.test(one));
    expect(told).toHaveLength(reload === "patch" ? 0 : 1);
    meshLives(host);
    expect(host.calls().filter((call) => /^systemctl (reload|restart)/.test(call))).toEqual([]);
    expect(await host.ask({ container: "web", reload })).toMatchObject({ changed: false, warnings: [] });

    expect(await host.ask({ container: "web", reload, state: "absent" })).toMatchObject({ changed: true });
    expect(host.kernel("nat")).not.toContain("172.17.0.2:80");
    meshLives(host);
  });

  test("load keeps it, and then has nothing to do; without a port it is removed", async () => {
    const host = fakeHost();
    await host.boot();
    joinSwarm(host);
    host.write("50_mine", "*filter\n-A INPUT -s 192.0.2.1/32 -j DROP\nCOMMIT\n");
    const loaded = await load(host);
    expect(loaded, loaded.msg).toMatchObject({ changed: true });
    expect(loaded.warnings.filter((one) => one.includes("INGRESS"))).toEqual([]);
    expect(host.kernel("filter")).toContain("192.0.2.1/32");
    meshLives(host);
    expect(await load(host)).toMatchObject({ changed: false });
    host.setKernel("nat", host.kernel("nat").replace(`${DNAT}\n`, ""));
    expect(await load(host)).toMatchObject({ changed: true });
    expect(host.kernel("nat")).not.toContain("INGRESS");
  });
});

/** The program and a process that is called dockerd, both in a network namespace of their own: those of the machine are not seen. */
async function beside(host: FakeHost, flags: string, ...words: string[]): Promise<Result & { exitCode: number }> {
  const script = `cp "$(command -v sh)" "$DIRS/dockerd"
"$DIRS/dockerd" -c 'while read -r line; do :; done' x ${flags} < "$DIRS/pipe" &
exec 3> "$DIRS/pipe"
"$@" 3>&-
status=$?
exec 3>&-
wait
exit $status`;
  const { env, ...options } = host.options();
  const directories = ["--iptables-dir", host.iptablesDir, "--ip6tables-dir", host.ip6tablesDir];
  const argv = [
    "sh",
    "-c",
    `rm -f "$DIRS/pipe"; mkfifo "$DIRS/pipe"; ${script}`,
    "sh",
    host.executable,
    "setup",
    "--json",
    ...directories,
  ];
  const ran = await execa("unshare", ["--net", "env", `PATH=${env.PATH}`, ...argv, ...words], {
    ...options,
    env,
    stdin: "ignore",
  });
  return readAnswer({ exitCode: ran.exitCode ?? -1, stdout: ran.stdout, stderr: ran.stderr });
}

const LEFT = `*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:DOCKER - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -o lo -j DOCKER
-A DOCKER ! -i lo -o lo -j DROP
-A DOCKER-USER -j RETURN
COMMIT
`;

describe.skipIf(process.getuid?.() !== 0)("a daemon that makes rules, or did (needs root)", () => {
  test.each(["restore", "patch"])(
    "it does: setup with reload: %s stops with the keys to set, and offers nothing else",
    async (reload) => {
      const host = fakeHost().bare();
      host.network("bridge", NETWORK);
      host.setKernel("nat", "*nat\n:DOCKER - [0:0]\n-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\nCOMMIT\n");
      const before = host.state();
      const refused = await beside(host, "--host=fd://", "--reload", reload, "--adopt");
      expect(refused).toMatchObject({ failed: true, changed: false, error: { code: "rules_undeclared" } });
      expect(refused.msg).toMatch(
        /"iptables": false and "ip6tables": false into \/.*daemon\.json.*systemctl restart docker/,
      );
      expect(refused.msg).not.toMatch(/adopt|replace|patch/);
      expect(host.state()).toEqual(before);
    },
  );

  test.each(["restore", "patch"])(
    "it did: with reload: %s its rules go, its tables too; check and diff say so",
    async (reload) => {
      const host = fakeHost().bare();
      host.network("bridge", NETWORK);
      host.setKernel("filter", LEFT);
      const fw = (table: string) => ({
        chain: { family: "ip", table, name: "f", hook: "forward", type: "filter", policy: "drop" },
      });
      writeFileSync(join(host.fake, "nft.json"), JSON.stringify({ nftables: [fw("docker-bridges")] }));
      const OFF = "--iptables=false --ip6tables=false";
      const before = host.state();
      const checked = await beside(host, OFF, "--reload", reload, "--check", "--diff");
      expect(checked, checked.msg).toMatchObject({ changed: true, base: { reasons: ["file", "kernel"] } });
      const gone = checked.diff?.filter(({ after }) => after === "").map(({ before_header }) => before_header);
      expect(gone).toEqual(["iptables-save", "ip docker-bridges"]);
      expect(host.state()).toEqual(before);
      host.calls();

      const result = await beside(host, OFF, "--reload", reload);
      expect(result, result.msg).toMatchObject({ changed: true });
      expect(host.kernel("filter")).not.toMatch(/DOCKER( |$)/m);
      // The user's chain stays, empty; the jump to it is ours.
      expect(host.kernel("filter").match(/^-A.*DOCKER-USER.*$/gm)).toEqual([
        '-A FORWARD -m comment --comment "docker_iptables: (10_docker)" -j DOCKER-USER',
      ]);
      expect(host.kernel("filter")).toContain("(90_docker)");
      expect(host.calls()).toContain("nft delete table ip docker-bridges");
      expect(result.warnings.filter((one) => one.includes("docker-bridges"))).toEqual([]);
    },
  );

  test("what cannot be removed restores everything", async () => {
    const host = fakeHost().bare();
    host.network("bridge", NETWORK);
    host.setKernel("filter", LEFT);
    const chain = {
      family: "ip6",
      table: "docker-bridges",
      name: "f",
      hook: "forward",
      type: "filter",
      policy: "drop",
    };
    writeFileSync(join(host.fake, "nft.json"), JSON.stringify({ nftables: [{ chain }] }));
    host.on("nft", 'case "$*" in delete*) echo busy >&2; exit 1 ;; esac');
    const failed = await beside(host, "--iptables=false --ip6tables=false", "--reload", "patch");
    expect(failed).toMatchObject({ failed: true, changed: false, error: { code: "reload_failed" } });
    expect(failed.msg).toContain("ip6 docker-bridges");
    expect(host.kernel("filter")).toBe(LEFT);
  });
});

describe.concurrent("another table at the same hook", () => {
  const at = (port: number) => ({ HostIp: "0.0.0.0", HostPort: String(port) });
  const ruleset = (...rules: unknown[]) => {
    const chain = { family: "inet", table: "fw", name: "f", hook: "forward", type: "filter", policy: "drop" };
    const own = rules.map((expr) => ({ rule: { family: "inet", table: "fw", chain: "f", expr } }));
    return JSON.stringify({ nftables: [{ chain }, ...own] });
  };
  const SSH = [
    { match: { op: "==", left: { payload: { protocol: "tcp", field: "dport" } }, right: 22 } },
    { accept: null },
  ];
  const BRIDGE = [{ match: { op: "==", left: { meta: { key: "oifname" } }, right: "lo" } }, { accept: null }];

  test("create says that nothing comes through, once; status has it as a problem", async () => {
    const host = fakeHost();
    await host.boot();
    host.container("web", { ports: PORTS });
    writeFileSync(join(host.fake, "nft.json"), ruleset(SSH));
    const created = await host.ask({ container: "web" });
    expect(created.warnings).toEqual([
      expect.stringMatching(
        /inet fw drops all .*web.*'nft list table inet fw' shows it; 'nft insert rule inet fw f ct status dnat accept' lets/,
      ),
    ]);
    host.calls();
    expect(await host.ask({ container: "web" })).toMatchObject({ changed: false, warnings: [] });
    expect(host.calls().filter((call) => call.startsWith("nft"))).toEqual([]);
    const argv = ["status", "--json", "--iptables-dir", host.iptablesDir, "--ip6tables-dir", host.ip6tablesDir];
    const status = async (): Promise<Result> => JSON.parse((await host.run(argv)).stdout);
    const foreign = ({ problems }: Result) => (problems ?? []).filter(({ kind }) => kind === "firewall_foreign");
    expect(foreign(await status())).toEqual([
      {
        kind: "firewall_foreign",
        msg: expect.stringMatching(/inet fw drops all/),
        hint: expect.stringMatching(
          /^'nft list table inet fw' shows it; 'nft insert rule inet fw f ct status dnat accept' lets what is published pass/,
        ),
      },
    ]);
    writeFileSync(join(host.fake, "nft.json"), ruleset(SSH, BRIDGE));
    const open = await status();
    expect(foreign(open)).toEqual([]);
    expect(open.warnings).toContainEqual(expect.stringMatching(/inet fw also filters .*'nft list table inet fw'/));
  });

  test.each([
    [[80], true],
    [[8080], true],
    [[80, 443], false],
    [[8080, 8443], false],
    [[80, 8443], false],
    [[8081], true],
  ])("that accepts ports %j, the host's or the container's: reported is %s", async (accepted, isReported) => {
    const host = fakeHost();
    await host.boot();
    host.container("web", { ports: { "80/tcp": [at(8080)], "443/tcp": [at(8443)] } });
    const dport = { payload: { protocol: "tcp", field: "dport" } };
    const rules = accepted.map((right) => [{ match: { op: "==", left: dport, right } }, { accept: null }]);
    writeFileSync(join(host.fake, "nft.json"), ruleset(...rules));
    const { warnings } = await host.ask({ container: "web" });
    expect(warnings.some((one) => one.includes("inet fw drops all"))).toBe(isReported);
  });

  test("the other backend, of which there is only a policy, is reported with it", async () => {
    const host = fakeHost();
    for (const folder of [host.iptablesDir, host.ip6tablesDir]) rmSync(join(folder, "10_docker"));
    writeFileSync(join(host.fake, "legacy/ipv4/filter"), "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\nCOMMIT\n");
    const argv = ["--json", "--iptables-dir", host.iptablesDir, "--ip6tables-dir", host.ip6tablesDir];
    const refused = readAnswer(await host.run(["setup", ...argv]));
    expect(refused.msg).toContain("the legacy backend, which also filter packets: ':FORWARD DROP'");
    const { problems }: Result = JSON.parse((await host.run(["status", ...argv])).stdout);
    const told = {
      kind: "firewall_foreign",
      msg: expect.stringMatching(/legacy.*':FORWARD DROP'/),
      hint: expect.stringMatching(/^'iptables-legacy-save' shows its rules/),
    };
    expect(problems).toContainEqual(told);
  });

  test("rules that come to the other backend of a host that is set up are kept, and reported", async () => {
    const host = fakeHost();
    for (const folder of [host.iptablesDir, host.ip6tablesDir]) rmSync(join(folder, "10_docker"));
    const argv = ["setup", "--json", "--iptables-dir", host.iptablesDir, "--ip6tables-dir", host.ip6tablesDir];
    expect(readAnswer(await host.run(argv))).toMatchObject({ changed: true });
    const theirs = "*filter\n:INPUT DROP [0:0]\n-A INPUT -i lo -j ACCEPT\nCOMMIT\n";
    writeFileSync(join(host.fake, "legacy/ipv4/filter"), theirs);
    for (const network of [undefined, "new"]) {
      if (network !== undefined)
        host.network(network, { Id: "0123456789abcdef0123", IPAM: { Config: [{ Subnet: "10.1.0.0/24" }] } });
      const result = readAnswer(await host.run(argv));
      expect(result, result.msg).toMatchObject({ changed: network !== undefined });
      expect(result.warnings.join()).toContain("IPv4 rules in the legacy backend, which also filter packets");
      expect(readFileSync(join(host.fake, "legacy/ipv4/filter"), "utf8")).toBe(theirs);
    }
    expect(host.kernel("filter")).toMatch(/-A FORWARD ! -i br-0123456789ab -o br-0123456789ab .*DROP/);
    expect(readAnswer(await host.run([...argv, "--replace"]))).toMatchObject({ changed: true });
    expect(readFileSync(join(host.fake, "legacy/ipv4/filter"), "utf8")).not.toContain("-A INPUT");
  });

  test("FORWARD's DROP is reported once, and stops nothing, also after the host rules are removed", async () => {
    const host = fakeHost().bare();
    host.network("bridge", NETWORK);
    host.setKernel("filter", "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\nCOMMIT\n");
    const argv = [
      "setup",
      "--json",
      "--reload",
      "restore",
      "--iptables-dir",
      host.iptablesDir,
      "--ip6tables-dir",
      host.ip6tablesDir,
    ];
    const about = ({ warnings }: Result) => warnings.filter((one) => one.includes("policy DROP"));
    for (const _ of ["first", "again"]) {
      const first = readAnswer(await host.run(argv));
      expect(first, first.msg).toMatchObject({ changed: true });
      expect(about(first)).toHaveLength(1);
      expect(about(readAnswer(await host.run(argv)))).toEqual([]);
      expect(readAnswer(await host.run([...argv, "--remove"]))).toMatchObject({ changed: true });
    }
  });
});
