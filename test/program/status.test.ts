// status: each kind of problem, made by hand, is found and named; it changes nothing and takes no lock.

import { existsSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { describe, expect, test } from "vitest";
import schema from "../../schema/result.schema.json" with { type: "json" };
import type { Problem, Result } from "../../src/generated/result.ts";
import { validate } from "../../src/generated/validate-result.js";
import { BASE, BRIDGE, type FakeHost, fakeHost } from "./host.ts";

const port = (HostPort: string, HostIp = "0.0.0.0") => ({ "80/tcp": [{ HostIp, HostPort }] });
const FRAGMENT = "11-docker-container_web";
const fileOf = (host: FakeHost, name = "web") => join(host.iptablesDir, `11-docker-container_${name}`);
const dirs = (host: FakeHost) => ["--iptables-dir", host.iptablesDir, "--ip6tables-dir", host.ip6tablesDir];

interface Told extends Result {
  exitCode: number;
  problems: Problem[];
}

/** What holds for every answer of status. */
async function status(host: FakeHost, ...more: string[]): Promise<Told> {
  const before = host.state();
  host.calls();
  const { exitCode, stdout, stderr } = await host.run(["status", "--json", ...dirs(host), ...more]);
  expect(stderr).toBe("");
  const result: unknown = JSON.parse(stdout);
  if (!validate(result)) throw new Error(`not a result: ${JSON.stringify(validate.errors)}\n${stdout}`);
  expect(result.failed, result.msg).toBeUndefined();
  expect(host.state()).toEqual(before);
  const calls = host.calls();
  // What is tried in a namespace of its own changes nothing here.
  for (const trial of calls.filter((call) => call.startsWith("unshare --net -- "))) {
    calls.splice(calls.indexOf(trial), 1);
    calls.splice(calls.indexOf(trial.replace("unshare --net -- ", "")), 1);
  }
  expect(
    calls.filter((call) => /^flock|restore (?!--version|--test )|^systemctl (?!show|is-active)/.test(call)),
  ).toEqual([]);
  const problems = result.problems ?? [];
  const kinds = problems.map(({ kind }) => kind);
  expect(exitCode).toBe(kinds.includes("daemon_unreachable") ? 1 : kinds.length > 0 ? 3 : 0);
  // A Docker daemon of the machine's own is not the fake host's.
  const own = problems.filter(({ kind, msg }) => !(kind === "daemon_settings" && /the Docker daemon/.test(msg)));
  return { ...result, exitCode, problems: own };
}

const kinds = ({ problems }: Told) => problems.map(({ kind }) => kind).sort();

/** web is published, and all is well. */
async function publishedHost(given: Record<string, unknown> = {}): Promise<FakeHost> {
  const host = fakeHost();
  host.container("web", { ports: port("8080") });
  await host.boot();
  await host.ask({ container: "web", ...given });
  return host;
}

/** The same with a base of ours. */
async function hostWithBase(): Promise<FakeHost> {
  const host = fakeHost().bare();
  const Options = { "com.docker.network.bridge.name": BRIDGE };
  host.network("bridge", { Options, IPAM: { Config: [{ Subnet: "172.17.0.0/16" }] } });
  host.container("web", { ports: port("8080") });
  await host.ask({ container: "web", base: true });
  return host;
}

function editKernel(host: FakeHost, table: string, edit: (text: string) => string): void {
  const text = edit(host.kernel(table));
  expect(text).not.toBe(host.kernel(table));
  host.setKernel(table, text);
}

describe.concurrent("all is well", () => {
  test("on a host where it is", async () => {
    const host = await publishedHost();
    const result = await status(host);
    expect(result.problems).toEqual([]);
    expect(result.status).toEqual([
      {
        container: "web",
        publishes: ["0.0.0.0:8080/tcp"],
        addresses: ["172.17.0.2"],
        options: {},
        fragments: [fileOf(host)],
        lists: [],
        live: true,
      },
    ]);
    expect(result).toMatchObject({ changed: false, warnings: [] });
  });

  test("with a base of ours; the forwarding of this machine aside", async () => {
    const { problems } = await status(await hostWithBase());
    expect(problems.filter(({ msg }) => !msg.startsWith("this host does not forward"))).toEqual([]);
  });

  test.each([{ ipv6: true }, { guards: false }, { ipv6: true, guards: false, reload: "restore" }])(
    "with wishes of the container's own (%j), whatever status itself is given",
    async (given) => {
      const host = fakeHost();
      const both = ["0.0.0.0", "::"].map((HostIp) => ({ HostIp, HostPort: "8080" }));
      host.container("web", { ports: { "80/tcp": both }, address6: "fd00::2" });
      await host.boot();
      await host.ask({ container: "web", ...given });
      const result = await status(host);
      expect(result.problems).toEqual([]);
      expect(result.status?.[0]?.fragments).toHaveLength("ipv6" in given ? 2 : 1);
    },
  );

  test("with a container that is left out by its label", async () => {
    const host = await publishedHost();
    const labelled = {
      ...JSON.parse(host.documentOf("web")),
      Config: { Labels: { "docker_iptables.enable": "false" } },
    };
    host.document("web", labelled);
    expect(kinds(await status(host))).toEqual([]);
    rmSync(fileOf(host));
    expect(kinds(await status(host))).toEqual(["rules_orphaned"]);
  });

  test("after sync, whatever was wrong", async () => {
    const host = await publishedHost();
    host.container("db", { ports: port("5432"), address: "172.17.0.3" });
    host.container("web", { ports: port("8080"), address: "172.17.0.22" });
    expect(kinds(await status(host))).toEqual(["fragment_missing", "fragment_outdated"]);
    await host.ask({ all: true });
    expect(kinds(await status(host))).toEqual([]);
  });
});

interface Case {
  make: (host: FakeHost) => void | Promise<void>;
  /** What is found, all of it; `msg` is of what is wrong with what to do. */
  finds: { kind: string; container?: string; path?: string; msg?: RegExp }[];
  /** Does what is advised where that is more than a command of ours; after it, or that command, the first that is found is gone. */
  follow?: (host: FakeHost) => void | Promise<void>;
}

/** A service as docker_iptables installs it, but for these properties. */
function ownUnit(host: FakeHost, properties: Record<string, string>): void {
  const path = join(host.unitDir, "iptables.service");
  writeFileSync(path, `# docker_iptables: (iptables.service) (generated: do not edit)\n# ${host.iptablesDir}\n`);
  const executable = join(host.bin, "docker_iptables");
  if (!existsSync(executable)) writeFileSync(executable, "#!/bin/sh\n", { mode: 0o755 });
  const ExecStart = `{ path=${executable} ; argv[]=${executable} load ipv4 ; ignore_errors=no ; }`;
  host.unit("iptables.service", host.iptablesDir, { FragmentPath: path, ExecStart, ...properties });
}

function watcher(host: FakeHost, properties: Record<string, string> = {}): void {
  host.unit("docker_iptables-watch.service", "", { ExecStart: "{ path=/bin/sh ; argv[]=/bin/sh ; }", ...properties });
}

function settings(host: FakeHost, text: string): void {
  writeFileSync(host.settingsPath, text);
}

const CASES: Record<string, Case> = {
  "a container that publishes and has no fragment": {
    make: (host) => host.container("db", { ports: port("5432"), address: "172.17.0.3" }),
    finds: [
      { kind: "fragment_missing", container: "db", path: "11-docker-container_db", msg: /docker_iptables create db/ },
    ],
  },
  "another address": {
    make: (host) => host.container("web", { ports: port("8080"), address: "172.17.0.9" }),
    finds: [{ kind: "fragment_outdated", container: "web", path: FRAGMENT, msg: /have changed, or the settings/ }],
  },
  "no port any more": {
    make: (host) => host.container("web", { address: "172.17.0.2" }),
    finds: [{ kind: "fragment_outdated", container: "web", path: FRAGMENT, msg: /publishes no port of this fragment/ }],
  },
  "a container that has ended": {
    make: (host) => host.container("web", { ports: port("8080"), status: "exited" }),
    finds: [
      {
        kind: "container_stopped",
        container: "web",
        path: FRAGMENT,
        msg: /the container web is exited; 'docker start web' starts it; 'docker_iptables sync [^']*' removes its rules until/,
      },
    ],
    follow: (host) => host.container("web", { ports: port("8080") }),
  },
  "a container that has failed": {
    make: (host) =>
      host.document("web", {
        ...JSON.parse(host.documentOf("web")),
        State: { Status: "exited", Running: false, ExitCode: 137, FinishedAt: "2026-11-27T08:30:00.123456789+01:00" },
      }),
    finds: [
      {
        kind: "container_stopped",
        container: "web",
        path: FRAGMENT,
        msg: /the container web is exited, with exit status 137, since 2026-11-27T07:30:00Z; /,
      },
    ],
  },
  "a container that is gone": {
    make: (host) => rmSync(join(host.fake, "containers/web.json")),
    finds: [
      {
        kind: "container_gone",
        container: "web",
        path: FRAGMENT,
        msg: /the container web does not exist; 'docker_iptables delete web [^']*' removes it, 'docker_iptables sync /,
      },
    ],
  },
  "a rule that the kernel lost": {
    make: (host) => editKernel(host, "nat", (text) => text.replace(/^-A DOCKER_CONTAINERS .*\n/m, "")),
    finds: [
      { kind: "rules_missing", container: "web", path: FRAGMENT, msg: /IPv4 rules of web: '-A DOCKER_CONTAINERS / },
    ],
  },
  "a rule too many": {
    make: (host) =>
      editKernel(host, "filter", (text) =>
        text.replace(
          "COMMIT",
          '-A FORWARD -d 172.17.0.99/32 -m comment --comment "docker_iptables: web" -j ACCEPT\nCOMMIT',
        ),
      ),
    finds: [{ kind: "rules_surplus", container: "web", path: FRAGMENT, msg: /1 IPv4 rules of web/ }],
  },
  "rules whose fragment is gone": {
    make: (host) => {
      rmSync(fileOf(host));
      rmSync(join(host.fake, "containers/web.json"));
    },
    finds: [
      {
        kind: "rules_orphaned",
        container: "web",
        msg: /docker_iptables sync [^']*' or 'docker_iptables load [^']*' removes them$/,
      },
    ],
  },
  "a chain to which nothing jumps": {
    make: (host) => editKernel(host, "nat", (text) => text.replace(/^-A (PREROUTING|OUTPUT) .*\n/gm, "")),
    finds: [{ kind: "rules_shadowed", container: "web", path: FRAGMENT, msg: /jumps to the chain DOCKER_CONTAINERS/ }],
  },
  "two claims on one port": {
    make: async (host) => {
      // On 127.0.0.1: what comes from elsewhere is not shadowed besides.
      const [document, fragment] = [host.documentOf("web"), host.fragment("web") ?? ""];
      rmSync(join(host.fake, "containers/web.json"));
      host.container("zeb", { ports: port("8080", "127.0.0.1"), address: "172.17.0.3" });
      await host.ask({ container: "zeb" });
      host.document("web", JSON.parse(document));
      host.write(FRAGMENT, fragment);
      // Of this boot, as it was.
      const list = join(host.iptablesDir, ".docker_iptables.boot");
      writeFileSync(list, `${readFileSync(list, "utf8")}# ${FRAGMENT}\n`);
      await host.boot();
    },
    finds: [
      {
        kind: "container_rivals",
        container: "zeb",
        path: "11-docker-container_zeb",
        msg: /web and zeb both claim 127\.0\.0\.1:8080\/tcp: .*; 'docker stop zeb' or 'docker stop web', then 'docker_ip/,
      },
    ],
    follow: async (host) => {
      host.container("zeb", { ports: port("8080", "127.0.0.1"), address: "172.17.0.3", status: "exited" });
      await host.ask({ all: true });
    },
  },
  "a rule that no fragment declares": {
    make: (host) =>
      host.setKernel("filter", host.kernel("filter").replace("COMMIT", "-A INPUT -s 192.0.2.1/32 -j DROP\nCOMMIT")),
    finds: [
      {
        kind: "rules_undeclared",
        msg: /^IPv4 rules are live that no fragment declares \('-A INPUT -s 192\.0\.2\.1\/32 -j DROP'\): a load would remove them, .*; 'docker_iptables load\b[^']*' removes them: to keep them, put them into a fragment first/,
      },
    ],
  },
  "a fragment that is broken": {
    make: (host) => host.write("50_mine", "*filter\n-A INPUT -j ACCEPT\n"),
    finds: [
      {
        kind: "fragment_invalid",
        path: "50_mine",
        msg: /50_mine line 3: .*nothing is loaded.*'sed -n 3p .*50_mine' shows the line$/,
      },
    ],
    follow: (host) => host.write("50_mine", "*filter\n-A INPUT -j ACCEPT\nCOMMIT\n"),
  },
  "a fragment that iptables refuses, and a container that is gone": {
    make: (host) => {
      host.write("50_mine", "*filter\n-A FORWARD -j broken\nCOMMIT\n");
      rmSync(join(host.fake, "containers/web.json"));
    },
    finds: [
      {
        kind: "fragment_invalid",
        path: "50_mine",
        msg: /50_mine line 2: iptables refuses '-A FORWARD -j broken': .*'sed -n 2p /,
      },
      { kind: "container_gone", container: "web", path: FRAGMENT },
    ],
    follow: (host) => rmSync(join(host.iptablesDir, "50_mine")),
  },
  "a fragment with a set that is not there, and rules that are not live": {
    make: (host) => {
      host.write("50_mine", "*filter\n-A FORWARD -m set --match-set nosuch src -j DROP\nCOMMIT\n");
      host.flush("raw");
    },
    finds: [
      {
        kind: "fragment_invalid",
        path: "50_mine",
        msg: /50_mine line 2: iptables refuses .*: Set nosuch does not exist; /,
      },
      {
        kind: "rules_missing",
        container: "web",
        path: FRAGMENT,
        msg: /'docker_iptables sync [^']*' restores them, once .*50_mine line 2 is fixed$/,
      },
    ],
    follow: (host) => rmSync(join(host.iptablesDir, "50_mine")),
  },
  "a fragment from before this boot": {
    make: (host) =>
      writeFileSync(
        join(host.iptablesDir, ".docker_iptables.boot"),
        `# docker_iptables: boot another\n# ${FRAGMENT}\n`,
      ),
    finds: [{ kind: "fragment_stale", container: "web", path: FRAGMENT, msg: /docker_iptables create web/ }],
  },
  "a network that the host rules do not cover": {
    make: async (host) => {
      host.write("10_docker", BASE.replaceAll("-o lo ", "-o br-other "));
      await host.boot();
    },
    finds: [{ kind: "network_uncovered", msg: /do not cover the bridge lo of web's network/ }],
    // The host rules were written by hand: setup would not overwrite them.
    follow: async (host) => {
      host.write("10_docker", BASE);
      await host.boot();
    },
  },
  "a service that is not there": {
    make: (host) => rmSync(join(host.fake, "units/iptables.service")),
    finds: [{ kind: "service_unusable", msg: /iptables\.service/ }],
    follow: (host) => host.unit("iptables.service", host.iptablesDir),
  },
  "a service that loads something else": {
    make: (host) => host.unit("ip6tables.service", "/etc/elsewhere"),
    finds: [{ kind: "service_unusable", msg: /ip6tables\.service does not load/ }],
    follow: (host) => host.unit("ip6tables.service", host.ip6tablesDir),
  },
  "a service that has failed": {
    make: (host) => host.unit("iptables.service", host.iptablesDir, { ActiveState: "failed" }),
    finds: [{ kind: "service_unusable", msg: /journalctl --unit iptables\.service/ }],
    follow: (host) => host.unit("iptables.service", host.iptablesDir),
  },
  "a service that is not enabled": {
    make: (host) => host.unit("iptables.service", host.iptablesDir, { UnitFileState: "disabled" }),
    finds: [{ kind: "service_disabled", msg: /not enabled, .*; 'systemctl enable iptables\.service' / }],
    follow: (host) => host.unit("iptables.service", host.iptablesDir),
  },
  "a service of ours that was stopped": {
    make: (host) => ownUnit(host, { ActiveState: "inactive" }),
    finds: [{ kind: "service_inactive", msg: /is not active: .*; 'systemctl start iptables\.service' loads/ }],
    follow: (host) => ownUnit(host, { ActiveState: "active" }),
  },
  "a service whose executable is gone": {
    make: (host) => {
      ownUnit(host, {});
      rmSync(join(host.bin, "docker_iptables"));
    },
    finds: [{ kind: "executable_missing", path: "docker_iptables", msg: /install docker_iptables again as / }],
    follow: (host) => ownUnit(host, {}),
  },
  "a watcher that the settings ask for, and that is not installed": {
    make: (host) => settings(host, '{"watch": true}'),
    finds: [{ kind: "watcher_down", msg: /ask for docker_iptables-watch\.service, .*; 'docker_iptables setup / }],
    follow: (host) => watcher(host),
  },
  "a watcher that has ended": {
    make: (host) => watcher(host, { ActiveState: "failed" }),
    finds: [{ kind: "watcher_down", msg: /does not run \(systemd says: failed\), .*'systemctl restart docker_ip/ }],
    follow: (host) => watcher(host),
  },
  "a watcher that does not come with the next boot": {
    make: (host) => {
      settings(host, '{"watch": true}');
      watcher(host, { UnitFileState: "disabled" });
    },
    finds: [{ kind: "watcher_down", msg: /'systemctl enable docker_iptables-watch\.service'/ }],
    follow: (host) => watcher(host),
  },
  "a watcher that fails again and again": {
    make: (host) => watcher(host, { ActiveState: "activating", SubState: "auto-restart" }),
    finds: [{ kind: "watcher_down", msg: /does not run \(systemd says: activating\)/ }],
    follow: (host) => watcher(host),
  },
  "settings that cannot be read": {
    make: (host) => settings(host, "{"),
    finds: [{ kind: "settings_unusable", path: "docker_iptables.json", msg: /is not valid JSON/ }],
    follow: (host) => settings(host, "{}"),
  },
  "a daemon that is down": {
    make: (host) => host.on("docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1"),
    finds: [{ kind: "daemon_unreachable", msg: /cannot reach its daemon/ }],
    follow: (host) => host.on("docker", ""),
  },
  "a client whose words are not understood": {
    make: (host) => host.on("docker", "echo what?"),
    finds: [{ kind: "daemon_unreachable", msg: /not an id/ }],
    follow: (host) => host.on("docker", ""),
  },
};

describe.concurrent("found", () => {
  test.each(Object.entries(CASES))("%s, until its advice is followed", async (_what, { make, finds, follow }) => {
    const host = await publishedHost();
    await make(host);
    const { problems } = await status(host);
    const found = problems.map(({ kind, container, path }) => ({
      kind,
      ...(container === undefined ? {} : { container }),
      ...(path === undefined ? {} : { path: basename(path) }),
    }));
    expect(found).toEqual(finds.map(({ msg, ...one }) => one));
    for (const [index, { msg }] of finds.entries()) if (msg) expect(said(problems[index])).toMatch(msg);
    await (follow ?? followHint(problems[0]))(host);
    expect(kinds(await status(host))).not.toContain(finds[0]?.kind);
  });

  const said = ({ msg, hint }: Partial<Problem> = {}) => [msg, hint].filter(Boolean).join("; ");

  /** The first command that is advised, as somebody copies it. */
  function followHint({ hint = "" }: Partial<Problem> = {}): (host: FakeHost) => Promise<void> {
    const [, command] = /'docker_iptables ([^']*)'/.exec(hint) ?? [];
    expect(command).toBeDefined();
    return async (host) => {
      const { exitCode, stderr } = await host.run((command ?? "").split(" "));
      expect(exitCode, stderr).toBe(0);
    };
  }

  test("rules in a different order", async () => {
    const host = fakeHost();
    host.container("web", { ports: { ...port("8080"), "81/tcp": [{ HostIp: "0.0.0.0", HostPort: "9000" }] } });
    await host.boot();
    await host.ask({ container: "web" });
    editKernel(host, "nat", (text) => text.replace(/^(-A DOCKER_CONTAINERS .*\n)(-A DOCKER_CONTAINERS .*\n)/m, "$2$1"));
    const { problems } = await status(host);
    expect(problems).toMatchObject([{ kind: "rules_disordered", container: "web", path: fileOf(host) }]);
  });

  test("a base that does not fit the networks", async () => {
    const host = await hostWithBase();
    host.network("app", {
      Options: { "com.docker.network.bridge.name": "br-app" },
      IPAM: { Config: [{ Subnet: "172.18.0.0/16" }] },
    });
    const { problems } = await status(host);
    const base = problems.filter(({ kind }) => kind !== "daemon_settings");
    expect(base).toMatchObject([
      {
        kind: "base_outdated",
        path: join(host.iptablesDir, "10_docker"),
        // The settings have the directories.
        hint: "'docker_iptables setup' fixes it",
      },
      { kind: "base_outdated", path: join(host.iptablesDir, "90_docker") },
    ]);
    for (const problem of base) expect(problem).not.toHaveProperty("container");
  });

  test("in IPv6, too", async () => {
    const host = fakeHost();
    host.container("web", { ports: port("8080", "::"), address6: "fd00::2" });
    await host.boot();
    await host.ask({ container: "web", ipv6: true });
    host.flush("nat", "ipv6");
    const { problems } = await status(host);
    expect(problems).toMatchObject([
      {
        kind: "rules_missing",
        path: join(host.ip6tablesDir, FRAGMENT),
        msg: expect.stringContaining("IPv6 rules of web"),
      },
    ]);
  });

  test("an IPv6 fragment that is missing, where IPv6 is asked for", async () => {
    const host = fakeHost();
    const both = ["0.0.0.0", "::"].map((HostIp) => ({ HostIp, HostPort: "8080" }));
    host.container("web", { ports: { "80/tcp": both }, address6: "fd00::2" });
    await host.boot();
    await host.ask({ container: "web" });
    expect(kinds(await status(host))).toEqual([]);
    const { problems } = await status(host, "--ipv6");
    expect(problems).toMatchObject([{ kind: "fragment_missing", path: join(host.ip6tablesDir, FRAGMENT) }]);
  });

  test("every kind has a case here, or in problems.test.ts, test/attacks and the lab", () => {
    const here = new Set([...Object.values(CASES).flatMap(({ finds }) => finds.map(({ kind }) => kind))]);
    const all = schema.properties.problems.items.properties.kind.enum;
    const elsewhere = [
      "answer_unusable",
      "docker_proxy_untrusted",
      "firewall_foreign",
      "fragment_untrusted",
      "network_overlaps",
    ];
    // allow.test.ts has those of lists.
    const lists = ["list_interface", "list_overruled", "list_unreadable", "list_unsupported", "list_unused"];
    const others = ["base_outdated", "daemon_settings", "unconfirmed", "rules_disordered", ...elsewhere, ...lists];
    expect(all.filter((kind) => !here.has(kind))).toEqual(others.sort());
  });
});

describe.concurrent("with the daemon down", () => {
  test("files and kernel are compared with each other", async () => {
    const host = await publishedHost();
    host.on("docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1");
    const well = await status(host);
    expect(kinds(well)).toEqual(["daemon_unreachable"]);
    expect(well.status).toEqual([
      { container: "web", publishes: [], addresses: [], options: {}, fragments: [fileOf(host)], lists: [], live: true },
    ]);
    host.flush("filter");
    const result = await status(host);
    expect(kinds(result)).toEqual(["daemon_unreachable", "rules_missing"]);
    expect(result.status?.[0]?.live).toBe(false);
  });

  test("a name does not hide that the client could not be asked", async () => {
    const host = await publishedHost();
    host.on("docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1");
    expect(await status(host, "web")).toMatchObject({ exitCode: 1, problems: [{ kind: "daemon_unreachable" }] });
  });
});

describe.concurrent("names", () => {
  test("leave out what is wrong with others, and not what is wrong with the host", async () => {
    const host = await publishedHost();
    host.container("db", { ports: port("5432"), address: "172.17.0.3" });
    const web = await status(host, "web");
    expect(web.problems).toEqual([]);
    expect(web.status?.map(({ container }) => container)).toEqual(["web"]);
    expect(kinds(await status(host, "db"))).toEqual(["fragment_missing"]);
    expect(kinds(await status(host, "db", "web"))).toEqual(["fragment_missing"]);
    rmSync(join(host.fake, "units/iptables.service"));
    expect(kinds(await status(host, "web"))).toEqual(["service_unusable"]);
  });

  test("that do not exist are reported", async () => {
    const host = await publishedHost();
    expect((await status(host, "wbe")).problems).toEqual([
      { kind: "container_gone", container: "wbe", msg: "the container wbe does not exist", hint: "did you mean web?" },
    ]);
    expect((await status(host, "postgres")).problems).toMatchObject([
      { hint: "'docker ps --all' lists all containers" },
    ]);
  });

  test("that do not run are reported, also where a fragment keeps their options", async () => {
    const host = await publishedHost({ guards: false });
    host.container("web", { ports: port("8080"), status: "exited" });
    await host.ask({ all: true });
    expect((await status(host)).problems).toEqual([]);
    expect((await status(host, "web")).problems).toEqual([
      {
        kind: "container_stopped",
        container: "web",
        msg: "the container web is exited",
        hint: "'docker start web' starts it",
      },
    ]);
  });

  test("that run are no problem: without a port, left out by their label, or given by an id", async () => {
    const host = await publishedHost();
    host.container("cache", { address: "172.17.0.3" });
    const quiet = { problems: [], warnings: ["cache publishes nothing, and has no fragment"] };
    expect(await status(host, "cache")).toMatchObject(quiet);
    const Config = { Labels: { "docker_iptables.enable": "false" } };
    host.document("cache", { ...JSON.parse(host.documentOf("cache")), Config });
    const leftOut = ["cache is left out by its label, and has no fragment"];
    expect(await status(host, "cache")).toMatchObject({ problems: [], warnings: leftOut });
    const { Id } = JSON.parse(host.documentOf("web"));
    expect(await status(host, Id)).toMatchObject({ problems: [], warnings: [], status: [{ container: "web" }] });
    host.flush("nat");
    expect(kinds(await status(host, Id))).toEqual(["rules_missing"]);
  });

  test("a service of ours that is still enabled though nothing is loaded by systemd any more is one", async () => {
    const host = await publishedHost();
    ownUnit(host, {});
    expect(kinds(await status(host))).toEqual([]);
    const { problems } = await status(host, "--reload", "patch");
    expect(problems).toMatchObject([
      { kind: "service_unusable", hint: expect.stringMatching(/^'systemctl disable --now iptables\.service'/) },
    ]);
  });

  test("a watcher that was switched off is no problem, unless the settings ask for it", async () => {
    const host = await publishedHost();
    const off = { ActiveState: "inactive", UnitFileState: "disabled" };
    watcher(host, off);
    expect((await status(host)).problems).toEqual([]);
    settings(host, '{"watch": true}');
    expect(kinds(await status(host))).toEqual(["watcher_down", "watcher_down"]);
  });
});

describe.concurrent("for a person", () => {
  const read = (host: FakeHost, ...more: string[]) => host.run(["status", ...dirs(host), ...more]);
  const withoutDaemon = (stdout: string) =>
    stdout.replaceAll(/^daemon_settings: the Docker daemon .*\n( {4}.*\n)?/gm, "");

  test("a table, then the problems in sentences", async () => {
    const host = fakeHost();
    host.container("web", { ports: { ...port("8080"), "81/tcp": [{ HostIp: "127.0.0.1", HostPort: "9000" }] } });
    host.container("database", { ports: port("5432"), address: "172.17.0.3" });
    await host.boot();
    await host.ask({ container: "web" });
    const { exitCode, stdout, stderr } = await read(host);
    expect([exitCode, stderr]).toEqual([3, ""]);
    expect(withoutDaemon(stdout).split("\n").slice(0, -2)).toEqual([
      "CONTAINER  PUBLISHES           TO          FRAGMENT  LIVE  PROBLEMS",
      "database   0.0.0.0:5432/tcp    172.17.0.3  no        no    fragment_missing",
      "web        127.0.0.1:9000/tcp  172.17.0.2  yes       yes   -",
      "           0.0.0.0:8080/tcp",
      "",
      expect.stringMatching(/^fragment_missing: database runs and publishes ports, but there is no \S+$/),
      expect.stringMatching(/^ {4}'docker_iptables create database .*' or 'docker_iptables sync .*' creates it$/),
    ]);
    expect(stdout).toMatch(/^\d problems? \(2 containers\)\n$/m);
  });

  test("of nothing: a sentence, no empty table", async () => {
    const host = fakeHost();
    await host.boot();
    const { stdout } = await read(host);
    expect(stdout).not.toContain("CONTAINER");
    expect(withoutDaemon(stdout)).toMatch(
      /^(everything is in sync: 0 containers, files and kernel agree|\d problems? \(0 containers\))\n$/,
    );
  });

  test("what cannot be found out at all is on stderr, with status 1", async () => {
    const host = fakeHost();
    host.on("iptables-save", "echo broken >&2; exit 1");
    expect(await read(host)).toMatchObject({
      exitCode: 1,
      stdout: "",
      stderr: expect.stringMatching(/\[command_failed\]\n$/),
    });
    rmSync(host.iptablesDir, { recursive: true });
    expect(await read(host)).toMatchObject({ exitCode: 1, stderr: expect.stringMatching(/\[directory_unusable\]\n$/) });
  });
});

describe.concurrent("for monitoring", () => {
  const metricsOf = async (host: FakeHost, ...more: string[]) => {
    const { exitCode, stdout, stderr } = await host.run(["status", "--format", "prometheus", ...dirs(host), ...more]);
    expect(exitCode).toBe(0);
    const samples = [...stdout.matchAll(/^([^#\s].*) (\S+)$/gm)].map(([, name, value]) => [name, Number(value)]);
    return { stderr, samples: new Map(samples as [string, number][]) };
  };
  const check = (host: FakeHost, ...more: string[]) =>
    host.run(["status", "--format", "nagios", ...dirs(host), ...more]);
  const MISSING = 'docker_iptables_problems{problem="rules_missing",severity="critical"}';
  const LIVE = 'docker_iptables_container_live{container="web"}';
  const LOADED = "docker_iptables_last_load_timestamp_seconds";
  const lastGood = (host: FakeHost) => join(host.iptablesDir, ".docker_iptables", "ipv4.rules");

  test("metrics say what is wrong, when it was loaded, and that all is well again", async () => {
    const host = await publishedHost();
    const flush = () => editKernel(host, "nat", (text) => text.replace(/^-A DOCKER_CONTAINERS.*\n/m, ""));
    const restored = async () =>
      expect(await host.ask({ container: "web", reload: "restore" })).toMatchObject({ changed: true });
    const { samples, stderr } = await metricsOf(host);
    expect(stderr).toBe("");
    expect(samples.get("docker_iptables_up")).toBe(1);
    expect([samples.get(MISSING), samples.get(LIVE), samples.get(LOADED)]).toEqual([0, 1, undefined]);
    flush();
    const broken = (await metricsOf(host)).samples;
    expect([broken.get(MISSING), broken.get(LIVE)]).toEqual([1, 0]);
    await restored();
    const mended = (await metricsOf(host)).samples;
    expect([mended.get(MISSING), mended.get(LIVE)]).toEqual([0, 1]);
    // The next load keeps the same text.
    utimesSync(lastGood(host), 1000, 1000);
    expect((await metricsOf(host)).samples.get(LOADED)).toBe(1000);
    flush();
    await restored();
    expect((await metricsOf(host)).samples.get(LOADED)).toBeGreaterThan(1000);
  });

  test("a check that fails writes that it does, and why on stderr", async () => {
    const host = await publishedHost();
    rmSync(host.iptablesDir, { recursive: true });
    const { samples, stderr } = await metricsOf(host);
    expect(samples.get("docker_iptables_up")).toBe(0);
    expect(samples.has(MISSING)).toBe(false);
    expect(stderr).toMatch(/^docker_iptables: .* \[directory_unusable\]\n$/);
    const { exitCode, stdout } = await check(host);
    expect(exitCode).toBe(3);
    expect(stdout).toMatch(/^UNKNOWN - .* \[directory_unusable\]\n$/);
  });

  test("a check of Nagios: one line, and its own exit statuses", async () => {
    const host = await publishedHost();
    const [{ problems }, well] = [await status(host), await check(host)];
    expect(problems).toEqual([]);
    expect(well.stdout).toMatch(/^[A-Z]+ - [^|\n]+ \| critical=\d+;;;0 warning=\d+;;;0 published=1;;;0\n$/);
    editKernel(host, "nat", (text) => text.replace(/^-A DOCKER_CONTAINERS.*\n/m, ""));
    const broken = await check(host);
    expect(broken.exitCode).toBe(2);
    expect(broken.stdout).toMatch(/^CRITICAL - \w+: [^|\n]+ \| critical=[1-9]/);
    expect(broken.stdout).toContain("rules_missing");
  });

  test.each([
    [["status", "--format", "xml"], "--format takes prometheus or nagios, not 'xml'"],
    [["status", "--format", "prometheus", "--json"], "--format and --json exclude each other"],
    [["ls", "--format", "prometheus"], "ls takes no --format; status does"],
    [["status", "--format", "prometheus", "--bogus"], "unknown option --bogus"],
  ] as const)("%j is wrong usage, and no metrics", async (words, message) => {
    const { exitCode, stdout, stderr } = await fakeHost().run([...words]);
    expect([exitCode, stdout]).toEqual([2, ""]);
    expect(stderr).toContain(message);
  });

  test.each([
    [["status", "--format", "nagios", "--bogus"], "unknown option --bogus"],
    [["status", "--bogus", "--format=nagios", "a|b"], "unknown option --bogus"],
    [["status", "--format", "nagios", "--json"], "--format and --json exclude each other"],
    [["--format", "nagios"], "verb missing: use one of setup, "],
    [["statsu", "--format", "nagios"], "unknown verb 'statsu'; did you mean status?"],
    [["ls", "--format", "nagios"], "ls takes no --format; status does"],
    [["status", "--format", "nagios", "--timeout"], "Option '--timeout <value>' argument missing"],
    [["status", "--format", "nagios", "--timeout", "soon"], "timeout"],
    [["status", "--format", "nagios", "--config", "/nowhere/docker_iptables.json"], "/nowhere/docker_iptables.json"],
  ] as const)("%j is a check that could not be made, not one that found something", async (words, message) => {
    const { exitCode, stdout, stderr } = await fakeHost().run([...words]);
    expect([exitCode, stderr]).toEqual([3, ""]);
    expect(stdout).toMatch(/^UNKNOWN - [^|\n]+ \[[a-z_]+\]\n$/);
    expect(stdout).toContain(message);
  });
});
