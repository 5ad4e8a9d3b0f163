// A fragment of anybody's is broken, so that nothing can be loaded. Whoever publishes a container and can break a file, or
// finds one broken, must not keep a port of a dead container open with it: the next container gets the address.

import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { execa } from "execa";
import { describe, expect, test } from "vitest";
import type { Result } from "../../src/generated/result.ts";
import { hold } from "../program/hold.ts";
import { type FakeHost, fakeHost } from "../program/host.ts";
import { until } from "../until.ts";

const port = (HostPort: string) => ({ "80/tcp": [{ HostIp: "0.0.0.0", HostPort }] });
const BAD = "20_bad";
const ADDRESS = "172.17.0.2";

/** What a fragment can be like, and what is reported of it. */
const BROKEN: Record<string, { text: string; told: RegExp }> = {
  "of a wrong form": { text: "*filter\n-A FORWARD -j ACCEPT\n", told: /20_bad line 3: the table filter has no COMMIT/ },
  "that iptables refuses": {
    text: "*filter\n-A FORWARD -j broken\nCOMMIT\n",
    told: /20_bad line 2: iptables refuses '-A FORWARD -j broken'/,
  },
  "with a set that is not there": {
    text: "*filter\n-A FORWARD -m set --match-set nosuch src -j DROP\nCOMMIT\n",
    told: /20_bad line 2: iptables refuses '-A FORWARD .*nosuch/,
  },
  "that the kernel alone refuses": {
    text: "*filter\n-A FORWARD -j shaky\nCOMMIT\n",
    told: /20_bad line 2: iptables refuses '-A FORWARD -j shaky'|journalctl --unit iptables\.service/,
  },
};
const LOADING = ["systemd", "restore"];

/** web is published, and there is a foreign rule in each of its chains. */
async function publishedHost(): Promise<FakeHost> {
  const host = fakeHost();
  host.container("web", { ports: port("8080"), address: ADDRESS });
  host.write("30_mine", "*filter\n-A FORWARD -s 192.0.2.1/32 -j DROP\nCOMMIT\n");
  await host.boot();
  expect(await host.ask({ container: "web" })).toMatchObject({ changed: true });
  expect(host.kernel("nat")).toContain(ADDRESS);
  return host;
}

/** The same, and the service does what the verb load does. */
function breakIt(host: FakeHost, text: string): void {
  host.write(BAD, text);
  host.on("systemctl", 'case "$*" in *" reload "*|*" restart "*) echo "Job for $unit failed." >&2; exit 1 ;; esac\n');
}

function remove(host: FakeHost, name: string): void {
  rmSync(join(host.fake, "containers", `${name}.json`));
}

const tables = (host: FakeHost) => ["raw", "nat", "filter"].map((table) => host.kernel(table)).join("\n");
const strangers = (host: FakeHost) =>
  tables(host)
    .match(/^-.*$/gm)
    ?.filter((line) => !line.includes("docker_iptables: "));
/** What is reported in each case. */
const told = ({ msg, warnings }: Result) => [msg, ...warnings].join("\n");

describe.each(LOADING)("reload: %s", (reload) => {
  describe.each(Object.entries(BROKEN))("a fragment %s", (_what, broken) => {
    test("delete removes the rules at once, and says what is broken", async () => {
      const host = await publishedHost();
      const others = strangers(host);
      breakIt(host, broken.text);
      const result = await host.ask({ container: "web", state: "absent", reload });
      expect(result, result.msg).toMatchObject({
        changed: true,
        msg: "unpublished: web",
        reloaded: ["iptables-restore"],
      });
      expect(result.warnings).toContainEqual(expect.stringMatching(broken.told));
      expect(result.warnings.join()).toMatch(/the rules of web were removed from the kernel without a load/);
      expect(host.fragment("web")).toBeUndefined();
      expect(tables(host)).not.toContain(ADDRESS);
      expect(strangers(host)).toEqual(others);
      expect(await host.ask({ container: "web", state: "absent", reload })).toMatchObject({ changed: false });
    });

    test("sync removes what is gone, though it cannot publish what was started", async () => {
      const host = await publishedHost();
      const others = strangers(host);
      breakIt(host, broken.text);
      remove(host, "web");
      host.container("private", { address: ADDRESS });
      host.container("api", { ports: port("9090"), address: "172.17.0.3" });
      const result = await host.ask({ all: true, reload });
      expect(result).toMatchObject({ failed: true, changed: true });
      expect(result.msg).toMatch(broken.told);
      expect(result.msg).toMatch(/; unpublished anyway: web$/);
      expect(host.fragment("web")).toBeUndefined();
      expect(host.fragment("api")).toBeUndefined();
      expect(tables(host)).not.toMatch(/172\.17\.0\.[23]/);
      expect(strangers(host)).toEqual(others);
      // Nothing more to remove: the next call says why, and only that.
      const again = await host.ask({ all: true, reload });
      expect(again).toMatchObject({ failed: true, changed: false });
      expect(again.msg).not.toContain("web");
      rmSync(join(host.iptablesDir, BAD));
      host.on("systemctl", "");
      expect(await host.ask({ all: true, reload })).toMatchObject({ msg: "published: api" });
    });
  });

  test("sync that only removes does not fail", async () => {
    const host = await publishedHost();
    host.container("api", { ports: port("9090"), address: "172.17.0.3" });
    await host.ask({ container: "api" });
    breakIt(host, "*filter\n-A FORWARD -j broken\nCOMMIT\n");
    remove(host, "web");
    const result = await host.ask({ all: true, reload });
    expect(result, result.msg).toMatchObject({ changed: true, msg: "unpublished: web" });
    expect(told(result)).toMatch(/20_bad line 2/);
    expect(tables(host)).not.toContain(ADDRESS);
    expect(host.kernel("nat")).toContain("172.17.0.3:80");
  });

  test("a create that fails removes a dead container's rules, and never restores them", async () => {
    const host = await publishedHost();
    breakIt(host, "*filter\n-A FORWARD -j shaky\nCOMMIT\n");
    remove(host, "web");
    host.container("new", { ports: port("9090"), address: ADDRESS });
    const result = await host.ask({ container: "new", reload });
    expect(result).toMatchObject({ failed: true, changed: true });
    expect(result.msg).toMatch(/; unpublished anyway: web$/);
    expect(result.rolled_back?.join() ?? "").not.toContain("web");
    expect(host.fragment("web")).toBeUndefined();
    expect(host.fragment("new")).toBeUndefined();
    expect(tables(host)).not.toContain(ADDRESS);
  });

  test("a load that fails halfway: the rollback leaves out what was removed", async () => {
    const host = await publishedHost();
    remove(host, "web");
    host.container("new", { ports: port("9090"), address: ADDRESS });
    // raw and nat are loaded, filter is not. What each load leaves is written down.
    host.write(BAD, "*filter\n-A FORWARD -j shaky\nCOMMIT\n");
    const seen = join(host.fake, "seen");
    host.on("iptables-restore", `grep -hs 'iptables: web' "$FAKE"/kernel/ipv4/* >> ${seen}; echo . >> ${seen}\n`);
    await host.ask({ container: "new", reload });
    const [, ...after] = readFileSync(seen, "utf8").split(".\n");
    // In filter, which was not loaded, they stay until the removal; in nat they are never there again.
    expect(after.join("")).not.toContain("DNAT");
    expect(tables(host)).not.toContain(ADDRESS);
  });

  test("both families", async () => {
    const host = fakeHost();
    host.container("web", {
      ports: { "80/tcp": [...port("8080")["80/tcp"], { HostIp: "::", HostPort: "8080" }] },
      address6: "fd00::2",
    });
    await host.boot();
    await host.ask({ container: "web", ipv6: true });
    host.write(BAD, "*filter\n-A FORWARD -j broken\nCOMMIT\n", host.ip6tablesDir);
    breakIt(host, "*filter\n-A FORWARD -j broken\nCOMMIT\n");
    const result = await host.ask({ container: "web", state: "absent", reload });
    expect(result.reloaded).toEqual(["iptables-restore", "ip6tables-restore"]);
    expect(tables(host)).not.toContain(ADDRESS);
    for (const table of ["raw", "nat", "filter"]) expect(host.kernel(table, "ipv6")).not.toContain("fd00::2");
  });
});

test("reload: patch, and a fragment of ours is the broken one", async () => {
  const host = await publishedHost();
  const damaged = (host.fragment("web") ?? "").replaceAll("web", "db").replace(/-j DNAT.*/, "-j broken");
  host.write("11-docker-container_db", damaged);
  const result = await host.ask({ container: "web", state: "absent", reload: "patch" });
  expect(result, result.msg).toMatchObject({ changed: true, msg: "unpublished: web" });
  expect(tables(host)).not.toContain(ADDRESS);
});

describe("the service", () => {
  const services: Record<string, (host: FakeHost) => void> = {
    "is not there": (host) => rmSync(join(host.fake, "units/iptables.service")),
    "loads something else": (host) => host.unit("iptables.service", "/etc/elsewhere"),
    "fails for reasons of its own": (host) => breakIt(host, ""),
    "cannot be asked for": (host) => host.on("systemctl", "echo 'Failed to connect to bus' >&2; exit 1\n"),
    "says that it loaded": (host) => host.on("systemctl", 'case "$*" in *" reload "*) exit 0 ;; esac\n'),
  };
  test.each(Object.entries(services))("%s: delete removes the rules, and says so", async (_what, prepare) => {
    const host = await publishedHost();
    prepare(host);
    const foretold = await host.ask({ container: "web", state: "absent", _ansible_check_mode: true });
    expect(foretold, foretold.msg).toMatchObject({ changed: true, msg: "would be unpublished: web" });
    const result = await host.ask({ container: "web", state: "absent" });
    expect(result, result.msg).toMatchObject({ changed: true, msg: "unpublished: web" });
    expect(told(result)).toMatch(/each load fails until this is fixed: .+; the rules of web were removed/);
    expect(tables(host)).not.toContain(ADDRESS);
  });
});

test("what was published again in between is not removed", async () => {
  const host = await publishedHost();
  writeFileSync(join(host.fake, "again"), host.fragment("web") ?? "");
  host.on(
    "systemctl",
    `case "$*" in *" reload "*) cp "$FAKE/again" ${host.iptablesDir}/11-docker-container_web; exit 1 ;; esac\n`,
  );
  expect(await host.ask({ container: "web", state: "absent" })).toMatchObject({ failed: true });
  expect(host.kernel("nat")).toContain(ADDRESS);
});

test("the load lock is not to be had: the rules are out, and the answer is a failure", async () => {
  const host = await publishedHost();
  const { release } = await hold(host, "load");
  // Another command than flock may be slow, too.
  const result = await host.ask({ container: "web", state: "absent", reload: "restore", timeout: 5 });
  await release();
  expect(result).toMatchObject({ failed: true, changed: true, error: { code: "locked" } });
  expect(tables(host)).not.toContain(ADDRESS);
});

test("a present that removes nothing is as before: refused, and nothing changes", async () => {
  const host = await publishedHost();
  breakIt(host, "*filter\n-A FORWARD -j broken\nCOMMIT\n");
  host.container("api", { ports: port("9090"), address: "172.17.0.3" });
  const result = await host.refuses({ container: "api" }, "reload_failed");
  expect(result.error).toMatchObject({ path: join(host.iptablesDir, BAD), line: 2, rule: "-A FORWARD -j broken" });
});

test("the watcher removes what is gone, reports what is broken once, and continues", async () => {
  const host = await publishedHost();
  host.write(BAD, "*filter\n-A FORWARD -j broken\nCOMMIT\n");
  host.container("api", { ports: port("9090"), address: "172.17.0.3" });
  remove(host, "web");
  host.container("private", { address: ADDRESS });
  const { env, timeout: _, ...options } = host.options();
  const dirs = ["--iptables-dir", host.iptablesDir, "--ip6tables-dir", host.ip6tablesDir];
  const watcher = execa(host.executable, ["watch", "--reload", "restore", "--timeout", "120", ...dirs], {
    ...options,
    env,
    stdin: "ignore",
  });
  let said = "";
  watcher.stderr.on("data", (chunk: Buffer) => {
    said += chunk;
  });
  const trials = () => readFileSync(join(host.fake, "calls"), "utf8").match(/^unshare /gm)?.length ?? 0;
  try {
    await until("the rules are removed", () => !tables(host).includes(ADDRESS));
    expect(host.fragment("web")).toBeUndefined();
    const before = trials();
    await until("six more attempts", () => trials() >= before + 6);
    expect(said.match(/20_bad line 2/g)?.length).toBeLessThanOrEqual(3);
    rmSync(join(host.iptablesDir, BAD));
    await until("the next port is published", () => host.kernel("nat").includes("172.17.0.3:80"));
  } finally {
    watcher.kill("SIGTERM");
    await watcher;
  }
});
