// Several containers in one call, containers by their ids, and fragments of the original script.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { BASE, type FakeHost, fakeHost } from "./host.ts";

const port = (HostPort: string, HostIp = "0.0.0.0") => ({ "80/tcp": [{ HostIp, HostPort }] });
const hexId = (name: string) => Buffer.from(name.padEnd(32, "\0")).toString("hex");

/** web and db run, each with a port of its own; the host has booted. */
async function hostWithTwo(): Promise<FakeHost> {
  const host = fakeHost();
  host.container("web", { ports: port("8080"), address: "172.17.0.2" });
  host.container("db", { ports: port("5432", "127.0.0.1"), address: "172.17.0.3" });
  await host.boot();
  return host;
}

describe.concurrent("several containers", () => {
  test("are one inspect and one reload, in the order asked for", async () => {
    const host = await hostWithTwo();
    const result = await host.ask({ container: ["web", "db"] });
    expect(result).toMatchObject({
      changed: true,
      msg: "published: web, db",
      containers: [{ name: "web" }, { name: "db" }],
      files: [{ change: "created" }, { change: "created" }],
      reloaded: ["iptables.service"],
    });
    const calls = host.calls();
    expect(calls.filter((call) => /^docker inspect/.test(call))).toEqual(["docker inspect web db"]);
    expect(calls.filter((call) => /^systemctl .*reload/.test(call))).toHaveLength(1);
    expect(host.kernel("nat")).toMatch(
      /172\.17\.0\.2:80[\s\S]*172\.17\.0\.3:80|172\.17\.0\.3:80[\s\S]*172\.17\.0\.2:80/,
    );
  });

  test("only what is out of date changes", async () => {
    const host = await hostWithTwo();
    await host.ask({ container: "web" });
    expect(await host.ask({ container: ["web", "db"] })).toMatchObject({
      changed: true,
      msg: "published: db; already published: web",
      containers: [
        { name: "web", changed: false, reasons: [] },
        { name: "db", changed: true, reasons: ["file", "kernel"] },
      ],
      files: [{ change: "unchanged" }, { change: "created" }],
    });
  });

  test("one of them is removed, the other stays", async () => {
    const host = await hostWithTwo();
    await host.ask({ container: ["web", "db"] });
    await host.ask({ container: "web", state: "absent" });
    expect(host.kernel("nat")).not.toContain("172.17.0.2");
    expect(host.kernel("nat")).toContain("172.17.0.3");
    expect(await host.ask({ container: "db" })).toMatchObject({ changed: false });
  });

  test("one bad name fails all before anything is written", async () => {
    const host = await hostWithTwo();
    await host.refuses({ container: ["web", "a b", "db"] }, "arguments_invalid");
    await host.refuses({ container: ["web", "db", "cache"] }, "container_missing");
    await host.refuses({ container: ["web", "db"], network: "none-such" }, "network_unknown");
  });

  test("one failed load takes all of them back", async () => {
    const host = await hostWithTwo();
    host.on("iptables-restore", "exit 1");
    const { rolled_back } = await host.refuses({ container: ["web", "db"] }, "reload_failed");
    expect(rolled_back).toEqual(["db", "web"].map((name) => join(host.iptablesDir, `11-docker-container_${name}`)));
  });

  test("absent of several, one of them never was", async () => {
    const host = await hostWithTwo();
    const names = ["web", "db", "never"];
    await host.ask({ container: ["web", "db"] });
    expect(await host.ask({ container: names, state: "absent" })).toMatchObject({
      changed: true,
      msg: "unpublished: web, db; never has no rules, nothing to do",
      files: [{ change: "removed" }, { change: "removed" }],
    });
  });

  test("a name that is the beginning of another's is another container", async () => {
    const host = await hostWithTwo();
    host.container("web2", { ports: port("8082"), address: "172.17.0.4" });
    await host.ask({ container: ["web", "web2"] });
    expect(await host.ask({ container: "web", state: "absent" })).toMatchObject({ changed: true });
    expect(host.kernel("nat")).toContain("172.17.0.4");
    expect(await host.ask({ container: "web2" })).toMatchObject({ changed: false });
  });
});

describe.concurrent("the same container twice", () => {
  test.each<[string, (host: FakeHost) => void, string[]]>([
    ["by name", () => {}, ["web", "web"]],
    ["by name and id", (host) => alias(host, hexId("web")), ["web", hexId("web")]],
    ["by id and name", (host) => alias(host, hexId("web").slice(0, 12)), [hexId("web").slice(0, 12), "web"]],
  ])("%s is published once, and unpublished once", async (_how, prepare, container) => {
    const host = await hostWithTwo();
    prepare(host);
    const present = await host.ask({ container });
    expect(present.containers).toEqual([{ name: "web", changed: true, reasons: ["file", "kernel"] }]);
    expect(present.files).toHaveLength(1);
    expect(present.rules?.ipv4?.["nat"]).toHaveLength(1);
    const absent = await host.ask({ container, state: "absent", _ansible_diff: true });
    expect(absent.containers).toEqual([{ name: "web", changed: true, reasons: ["file", "kernel"] }]);
    expect(absent.files).toHaveLength(1);
    expect(absent.diff).toHaveLength(1);
  });

  /** The fake client finds web by this id, too. */
  function alias(host: FakeHost, id: string): void {
    host.document(id, JSON.parse(host.documentOf("web")));
  }
});

describe.concurrent("by id", () => {
  // Of a container called db that does not exist yet, where another one's id begins with db.
  test("what is too short for an id is a name, whatever the client finds by it", async () => {
    const host = await hostWithTwo();
    const short = hexId("web").slice(0, 11);
    host.document(short, JSON.parse(host.documentOf("web")));
    const asked = { container: ["web", short], wait_timeout: 0 };
    expect(await host.ask(asked)).toMatchObject({ failed: true, error: { code: "container_missing" } });
    expect(await host.ask({ ...asked, _ansible_check_mode: true })).toMatchObject({
      changed: true,
      warnings: [`the container ${short} does not exist: its rules cannot be predicted yet`],
    });
    expect(host.fragment("web")).toBeUndefined();
  });

  test("the fragment has the container's own name", async () => {
    const host = await hostWithTwo();
    const id = hexId("web");
    host.document(id, JSON.parse(host.documentOf("web")));
    expect(await host.ask({ container: id })).toMatchObject({ changed: true, msg: "published: web" });
    expect(host.fragment("web")).toBeDefined();
    expect(host.fragment(id)).toBeUndefined();
    expect(await host.ask({ container: id, state: "absent" })).toMatchObject({
      changed: true,
      msg: "unpublished: web",
    });
    expect(host.fragment("web")).toBeUndefined();
  });

  test.each([
    ["the client is gone", "exit 127", /looks like a container's id, and its name cannot be looked up/],
    ["the daemon is down", "echo 'Cannot connect to the Docker daemon' >&2; exit 1", /cannot be looked up/],
    ["there is no such container", "echo 'Error: No such object' >&2; echo '[]'; exit 1", /no such container any more/],
  ])("absent of an id when %s: a warning, not a silent success", async (_what, script, warning) => {
    const host = await hostWithTwo();
    host.on("docker", script);
    const result = await host.ask({ container: "0123456789ab", state: "absent" });
    expect(result).toMatchObject({ changed: false });
    expect(result.warnings).toEqual([expect.stringMatching(warning)]);
  });

  test("absent of a name that looks like an id and has a fragment asks nobody", async () => {
    const host = await hostWithTwo();
    host.container("0123456789ab", { ports: port("8081"), address: "172.17.0.7" });
    await host.ask({ container: "0123456789ab" });
    host.on("docker", "exit 70");
    const result = await host.ask({ container: "0123456789ab", state: "absent" });
    expect(result).toMatchObject({ changed: true, warnings: [] });
  });

  test("absent of several, one of them an id that nobody knows", async () => {
    const host = await hostWithTwo();
    await host.ask({ container: "web" });
    const result = await host.ask({ container: ["web", "0123456789ab"], state: "absent" });
    expect(result).toMatchObject({ changed: true, containers: [{ name: "web", changed: true }, { changed: false }] });
    expect(result.warnings).toHaveLength(1);
  });
});

describe.concurrent("fragments of the original script", () => {
  const BROKEN = `*nat
-A DOCKER_CONTAINERS ! -i  -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
COMMIT
*filter
-A FORWARD -d 172.17.0.2 ! -i  -o  -p tcp -m tcp --dport 80 -j ACCEPT
COMMIT
`;
  const VALID = BROKEN.replaceAll(/-([io]) {2}/g, "-$1 docker0 ");
  const LIVE = VALID.replace("-d 172.17.0.2 ", "-d 172.17.0.2/32 ");

  /** The original's fragment on disk, and its rules in the kernel as iptables-save prints them. */
  function migrate(host: FakeHost, text: string, live: boolean): void {
    host.write("11-docker-container_web", text);
    if (!live) return;
    const [, nat = "", filter = ""] = /\*nat\n([\s\S]*?)COMMIT\n\*filter\n([\s\S]*?)COMMIT/.exec(LIVE) ?? [];
    writeFileSync(join(host.fake, "kernel/ipv4/nat"), `${BASE.slice(0, BASE.indexOf("COMMIT")) + nat}COMMIT\n`);
    writeFileSync(join(host.fake, "kernel/ipv4/filter"), `*filter\n${filter}COMMIT\n`);
  }

  describe.concurrent.each(["systemd", "restore"])("(reload: %s)", (reload) => {
    test.each([
      ["a broken one", BROKEN, false],
      ["a valid one that was never loaded", VALID, false],
      ["a valid one that is live", VALID, true],
    ])("%s is replaced", async (_what, text, live) => {
      const host = await hostWithTwo();
      migrate(host, text, live);
      const result = await host.ask({ container: "web", reload });
      expect(result, result.msg).toMatchObject({
        changed: true,
        files: [{ change: "updated" }],
        containers: [{ reasons: ["file", "kernel"] }],
      });
      expect(result.reloaded).toHaveLength(1);
      expect(host.fragment("web")).not.toMatch(/-i {2}-p|docker0/);
      expect(host.kernel("nat")).not.toContain("docker0");
      expect(host.kernel("filter")).not.toContain("docker0");
      expect(host.kernel("nat")).toContain("--to-destination 172.17.0.2:80");
      expect(await host.ask({ container: "web", reload })).toMatchObject({ changed: false });
    });

    test.each([
      ["a broken one", BROKEN, false, ["file"]],
      ["a valid one that is live", VALID, true, ["file", "kernel"]],
    ])("%s is removed", async (_what, text, live, reasons) => {
      const host = await hostWithTwo();
      migrate(host, text, live);
      const result = await host.ask({ container: "web", state: "absent", reload });
      expect(result, result.msg).toMatchObject({
        changed: true,
        files: [{ change: "removed" }],
        containers: [{ reasons }],
      });
      expect(result.reloaded).toHaveLength(live ? 1 : 0);
      expect(host.kernel("nat")).not.toContain("172.17.0.2");
      expect(host.kernel("filter")).not.toContain("172.17.0.2");
    });

    test("another container's broken one does not stop this one from being written", async () => {
      const host = await hostWithTwo();
      host.write("11-docker-container_old", BROKEN);
      expect(await host.ask({ container: "web", reload })).toMatchObject({ changed: true });
    });
  });
});
