// sync, and all: true: files and kernel are brought to what runs, in one transaction.

import { rmSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { BRIDGE, type FakeHost, fakeHost, readAnswer } from "./host.ts";

const port = (HostPort: string, HostIp = "0.0.0.0") => ({ "80/tcp": [{ HostIp, HostPort }] });
const docker = (host: FakeHost) => host.calls().filter((call) => call.startsWith("docker "));
const owners = (host: FakeHost, directory = host.iptablesDir) =>
  host
    .names(directory)
    .filter((name) => name.startsWith("11-"))
    .map((name) => name.replace("11-docker-container_", ""))
    .sort();
const live = (host: FakeHost, name: string) => host.kernel("nat").includes(`"docker_iptables: ${name}"`);
const sync = (host: FakeHost, given: Record<string, unknown> = {}) => host.ask({ all: true, ...given });

function remove(host: FakeHost, name: string): void {
  rmSync(join(host.fake, "containers", `${name}.json`));
}

/** web and db run and publish, plain runs, job has ended; nothing is published yet. */
async function busyHost(): Promise<FakeHost> {
  const host = fakeHost();
  host.container("web", { ports: port("8080"), address: "172.17.0.2" });
  host.container("db", { ports: port("5432"), address: "172.17.0.3" });
  host.container("plain", { address: "172.17.0.4" });
  host.container("job", { ports: port("9000"), address: "", status: "exited" });
  await host.boot();
  return host;
}

/** The same as another document: with a label, or in another network, too, whose bridge is not here. */
function change(host: FakeHost, name: string, more: (document: Record<string, Record<string, unknown>>) => void): void {
  const document = JSON.parse(host.documentOf(name));
  more(document);
  host.document(name, document);
}

const disable = (host: FakeHost, name: string) =>
  change(host, name, (document) => {
    document["Config"] = { Labels: { "docker_iptables.enable": "false" } };
  });

function lose(host: FakeHost, name: string): void {
  host.network("far", { Options: { "com.docker.network.bridge.name": "br-far" } });
  change(host, name, ({ NetworkSettings }) => {
    const far = { NetworkID: "far", IPAddress: "172.30.0.9" };
    if (NetworkSettings) NetworkSettings["Networks"] = { ...Object(NetworkSettings["Networks"]), far };
  });
}

describe.concurrent("what runs", () => {
  test.each(["systemd", "restore", "patch"])(
    "is published: each client's word once, one reload (%s)",
    async (reload) => {
      const host = await busyHost();
      const result = await sync(host, { reload });
      expect(result, result.msg).toMatchObject({
        changed: true,
        msg: "published: db, web",
        containers: [
          { name: "db", changed: true },
          { name: "web", changed: true },
        ],
        warnings: [],
      });
      expect(result.reloaded).toHaveLength(1);
      expect(owners(host)).toEqual(["db", "web"]);
      expect([live(host, "web"), live(host, "db")]).toEqual([true, true]);
      const asked = docker(host);
      expect(asked.map((call) => call.split(" ").slice(1, 3).join(" "))).toEqual([
        "ps --quiet",
        expect.stringMatching(/^inspect /),
        "network inspect",
      ]);

      const before = host.state();
      expect(await sync(host, { reload })).toMatchObject({
        changed: false,
        msg: "the containers are in sync (2 published)",
        reloaded: [],
      });
      expect(host.state()).toEqual(before);
    },
  );

  test("is removed when it has ended or does not exist, and made with its new address, all in one reload", async () => {
    const host = await busyHost();
    host.container("old", { ports: port("8083"), address: "172.17.0.5" });
    await sync(host);
    host.container("web", { ports: port("8080"), address: "172.17.0.22" });
    host.container("db", { ports: port("5432"), status: "exited" });
    remove(host, "old");
    host.container("new", { ports: port("8084"), address: "172.17.0.6" });
    host.calls();
    const result = await sync(host);
    expect(result, result.msg).toMatchObject({
      msg: "published: new, web; unpublished: db, old",
      reloaded: ["iptables.service"],
    });
    expect(host.calls().filter((call) => /systemctl .*(reload|restart) /.test(call))).toHaveLength(1);
    expect(owners(host)).toEqual(["new", "web"]);
    expect(host.kernel("nat")).toContain("172.17.0.22:80");
    expect(host.kernel("nat")).not.toMatch(/172\.17\.0\.[235]:/);
  });

  test("is restored where only the kernel lacks it", async () => {
    const host = await busyHost();
    await sync(host);
    host.flush("nat");
    expect(await sync(host)).toMatchObject({
      changed: true,
      containers: [
        { name: "db", reasons: ["kernel"] },
        { name: "web", reasons: ["kernel"] },
      ],
    });
    expect(live(host, "web")).toBe(true);
  });

  test("and publishes IPv6 alone, which was not requested, is reported once, not at each sync", async () => {
    const host = fakeHost();
    host.container("six", { ports: port("8080", "::"), address6: "fd00::2" });
    await host.boot();
    expect(await sync(host)).toMatchObject({ changed: false, msg: "the containers are in sync (0 published)" });
    expect(await sync(host, { ipv6: true })).toMatchObject({ changed: true, msg: "published: six" });
    expect(await sync(host)).toMatchObject({ changed: true, msg: "unpublished: six" });
    expect(await sync(host)).toMatchObject({ changed: false, msg: "the containers are in sync (0 published)" });
  });

  test("is nothing: then nothing stays published", async () => {
    const host = await busyHost();
    await sync(host);
    for (const name of ["web", "db", "plain", "job"]) remove(host, name);
    expect(await sync(host)).toMatchObject({ msg: "unpublished: db, web" });
    expect(owners(host)).toEqual([]);
    expect(host.kernel("nat")).not.toContain("docker_iptables: ");
  });

  test("is predicted in check mode, with its diff; nothing changes", async () => {
    const host = await busyHost();
    await host.ask({ container: "db" });
    host.container("db", { ports: port("5432"), status: "exited" });
    const before = host.state();
    const result = await sync(host, { _ansible_check_mode: true, _ansible_diff: true });
    expect(result).toMatchObject({
      changed: true,
      msg: "would be published: web; would be unpublished: db",
      reloaded: [],
      files: [{ change: "removed" }, { change: "created" }],
    });
    expect(result.diff).toHaveLength(2);
    expect(host.state()).toEqual(before);
  });

  test("ends between the list and its inspection: the others are published all the same", async () => {
    const host = await busyHost();
    await sync(host);
    host.container("new", { ports: port("8084"), address: "172.17.0.6" });
    host.on("docker", `[ "$1" != inspect ] || rm -f "$FAKE/containers/web.json"`);
    expect(await sync(host)).toMatchObject({ msg: "published: new; unpublished: web" });
    expect(owners(host)).toEqual(["db", "new"]);
  });

  test("with the host rules: one reload, the networks covered", async () => {
    const host = fakeHost().bare();
    host.network("bridge", {
      Options: { "com.docker.network.bridge.name": BRIDGE },
      IPAM: { Config: [{ Subnet: "172.17.0.0/16" }] },
    });
    host.container("web", { ports: port("8080") });
    const result = await sync(host, { base: true, reload: "restore" });
    expect(result, result.msg).toMatchObject({
      changed: true,
      msg: "the host rules are set up for the networks bridge; published: web",
      base: { changed: true, networks: ["bridge"] },
    });
    expect(await sync(host, { base: true, reload: "restore" })).toMatchObject({
      changed: false,
      msg: "the host rules are up to date for the networks bridge; the containers are in sync (1 published)",
    });
  });
});

describe.concurrent("what is left alone", () => {
  test("a container with the label, and its fragment", async () => {
    const host = await busyHost();
    await host.ask({ container: "web" });
    const before = host.fragment("web");
    host.container("web", { ports: port("8081") });
    disable(host, "web");
    disable(host, "db");
    expect(await sync(host)).toMatchObject({ changed: false, warnings: [] });
    expect(host.fragment("web")).toBe(before);
    expect(host.fragment("db")).toBeUndefined();
    expect(await host.ask({ container: "db" })).toMatchObject({ msg: "published: db" });
  });

  test("but not once it has ended", async () => {
    const host = await busyHost();
    await host.ask({ container: "web" });
    host.container("web", { ports: port("8080"), status: "exited" });
    disable(host, "web");
    await sync(host);
    expect(host.fragment("web")).toBeUndefined();
  });

  test("a container that cannot be located: reported, and others are not affected", async () => {
    const host = await busyHost();
    await host.ask({ container: "web" });
    const before = host.fragment("web");
    lose(host, "web");
    const result = await sync(host);
    expect(result, result.msg).toMatchObject({
      changed: true,
      msg: "published: db",
      warnings: [expect.stringMatching(/^the bridge br-far of web's network far is not an interface of this host/)],
    });
    expect(host.fragment("web")).toBe(before);
    expect(live(host, "web")).toBe(true);
  });
});

describe.concurrent("of two that publish one port", () => {
  const rivals = [
    ["neither has a fragment: the first name", [], "web", "alpha"],
    ["one has it already: that one", ["web"], "alpha", "web"],
  ] as const;
  test.each(rivals)("%s is published, the other reported", async (_what, published, left, kept) => {
    const host = await busyHost();
    for (const name of published) await host.ask({ container: name });
    host.container("alpha", { ports: port("8080", "192.0.2.1"), address: "172.17.0.7" });
    const result = await sync(host);
    expect(result.failed, result.msg).toBeUndefined();
    expect(result.warnings).toEqual([
      `${left} is skipped: it publishes a port that ${kept} publishes too; stop one of them`,
    ]);
    expect(owners(host)).toEqual(["db", kept].sort());
    expect(await sync(host)).toMatchObject({ changed: false });
  });
});

describe.concurrent("a client", () => {
  test.each<[string, string, string]>([
    ["without its daemon", "echo 'Cannot connect to the Docker daemon' >&2; exit 1", "daemon_unreachable"],
    ["that is another program", "echo 'usage: docker [OPTIONS]'; exit 0", "client_answer_invalid"],
    ["that says a word", "echo nothing; exit 0", "client_answer_invalid"],
    ["that fails silently", "exit 3", "client_failed"],
    [
      "whose inspection is no JSON",
      `case $1 in inspect) echo Segmentation fault; exit 0 ;; esac`,
      "client_answer_invalid",
    ],
  ])("%s: nothing is removed", async (_what, script, code) => {
    const host = await busyHost();
    await sync(host);
    host.on("docker", script);
    await host.refuses({ all: true }, code as "daemon_unreachable");
    expect(owners(host)).toEqual(["db", "web"]);
  });
});

test.each([
  ["before the write", "systemctl", ""],
  ["after the list", "docker", '[ "$1" = network ] || return 0\n'],
])("a fragment that another process writes %s is not removed", async (_when, fake, condition) => {
  const host = await busyHost();
  await sync(host);
  host.container("web", { ports: port("8080"), status: "exited" });
  // web is started again, and published at another address.
  const running = JSON.stringify(JSON.parse(host.documentOf("db"))).replaceAll("172.17.0.3", "172.17.0.22");
  host.write("web.json", running.replaceAll("/db", "/web").replaceAll("5432", "8080"), host.root);
  host.on(
    fake,
    `${condition}mkdir "$FAKE/once" 2> /dev/null || return 0
sed -i s/172.17.0.2:80/172.17.0.22:80/ "$DIRS/iptables.d/11-docker-container_web"
cp "$DIRS/web.json" "$FAKE/containers/web.json"
sed -i 's/"Id":"[0-9a-f]*"/"Id":"${Buffer.from("web".padEnd(32, "\0")).toString("hex")}"/' "$FAKE/containers/web.json"`,
  );
  const result = await sync(host);
  expect(result, result.msg).toMatchObject({ changed: true });
  expect(host.fragment("web")).toContain("172.17.0.22:80");
  expect(host.kernel("nat")).toContain("172.17.0.22:80");
});

describe.concurrent("absent of all", () => {
  test("removes every container's fragment, the host rules stay, the client is not asked", async () => {
    const host = await busyHost();
    await sync(host);
    host.calls();
    host.on("docker", "exit 70");
    expect(await sync(host, { state: "absent" })).toMatchObject({
      changed: true,
      msg: "unpublished: db, web",
      reloaded: ["iptables.service"],
    });
    expect(docker(host)).toEqual([]);
    expect(host.names(host.iptablesDir)).toEqual(["10_docker"]);
    expect(host.kernel("nat")).not.toContain("docker_iptables: ");
    expect(await sync(host, { state: "absent" })).toMatchObject({
      changed: false,
      msg: "no container is published",
    });
  });

  test("both families", async () => {
    const host = fakeHost();
    host.container("web", { ports: { ...port("8080", "::") }, address6: "fd00::2" });
    await host.boot();
    await sync(host, { ipv6: true });
    expect(owners(host, host.ip6tablesDir)).toEqual(["web"]);
    await sync(host, { state: "absent" });
    expect(owners(host, host.ip6tablesDir)).toEqual([]);
    expect(host.kernel("nat", "ipv6")).not.toContain("docker_iptables: ");
  });
});

describe.concurrent("the doors", () => {
  const dirs = (host: FakeHost) => ["--iptables-dir", host.iptablesDir, "--ip6tables-dir", host.ip6tablesDir];

  test("sync, create --all and delete --all", async () => {
    const host = await busyHost();
    expect(readAnswer(await host.run(["sync", "--json", ...dirs(host)]))).toMatchObject({ msg: "published: db, web" });
    const again = await host.run(["create", "--all", ...dirs(host)]);
    expect(again).toMatchObject({ exitCode: 0, stdout: "the containers are in sync (2 published)\n" });
    const deleted = await host.run(["delete", "--all", ...dirs(host)]);
    expect(deleted.stdout).toMatch(/^unpublished: db, web\n {2}removed /);
  });

  test("all and a name exclude each other, in Ansible's words", async () => {
    const host = fakeHost();
    const { msg } = await host.refuses({ all: true, container: "web" }, "arguments_invalid");
    expect(msg).toMatch(/^parameters are mutually exclusive: (all\|container|container\|all)$/);
    const none = await host.refuses({ all: false }, "arguments_invalid");
    expect(none.msg).toBe("one of the following is required: container, base, all, query");
  });
});

test("a host rule that is gone is reported by sync and create, and restored by what they advise", async () => {
  const host = fakeHost().bare();
  host.network("bridge", {
    Options: { "com.docker.network.bridge.name": BRIDGE },
    IPAM: { Config: [{ Subnet: "172.17.0.0/16" }] },
  });
  host.container("web", { ports: { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8080" }] } });
  await host.ask({ container: "web", base: true, reload: "restore" });
  const told = expect.stringMatching(
    /^the kernel lacks host rules of \S+\/10_docker: '-A FORWARD -o lo .*; 'docker_iptables setup' restores them$/,
  );
  for (const given of [{ all: true }, { container: "web" }])
    expect((await host.ask(given)).warnings).not.toContainEqual(told);
  host.setKernel("filter", host.kernel("filter").replace(/^-A FORWARD -o lo -m conntrack .*\n/m, ""));
  for (const given of [{ all: true }, { container: "web" }, { all: true, _ansible_check_mode: true }]) {
    const result = await host.ask(given);
    expect(result).toMatchObject({ changed: false });
    expect(result.warnings).toContainEqual(told);
  }
  await host.run(["setup"]);
  for (const given of [{ all: true }, { container: "web" }])
    expect((await host.ask(given)).warnings).not.toContainEqual(told);
});
