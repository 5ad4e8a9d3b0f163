// Fragments of other containers that claim what is wanted: updated in the same transaction, or refused.

import { readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import type { Result } from "../../src/generated/result.ts";
import { until } from "../until.ts";
import { countLocks, hold } from "./hold.ts";
import { type FakeHost, fakeHost } from "./host.ts";

const port = (HostPort: string, HostIp = "0.0.0.0") => ({ "80/tcp": [{ HostIp, HostPort }] });
const inspects = (host: FakeHost) => host.calls().filter((call) => call.startsWith("docker inspect"));
const fileOf = (host: FakeHost, name: string) => join(host.iptablesDir, `11-docker-container_${name}`);

/** `old` is published on 8080 at 172.17.0.2, `new` is to be on a port of its own at an address of its own. */
async function hostWithOld({ ipv6 = false } = {}): Promise<FakeHost> {
  const host = fakeHost();
  const ports = { "80/tcp": ["0.0.0.0", "::"].map((HostIp) => ({ HostIp, HostPort: "8080" })) };
  host.container("old", { ports: ipv6 ? ports : port("8080"), address6: ipv6 ? "fd00::2" : "" });
  host.container("new", { ports: port("8081"), address: "172.17.0.3" });
  await host.boot();
  expect(await host.ask({ container: "old", ...(ipv6 ? { ipv6 } : {}) })).toMatchObject({ changed: true });
  host.calls();
  return host;
}

/** docker rm -f, without a call that removes its rules. */
function remove(host: FakeHost, name: string): void {
  rmSync(join(host.fake, "containers", `${name}.json`));
}

describe.concurrent("a fragment whose container is gone", () => {
  test.each(["systemd", "restore", "patch"])("and whose port and address are another's: goes (%s)", async (reload) => {
    const host = await hostWithOld({ ipv6: true });
    remove(host, "old");
    host.container("new", { ports: port("8080"), address: "172.17.0.2" });
    const result = await host.ask({ container: "new", reload, _ansible_diff: true });
    expect(result).toMatchObject({
      changed: true,
      msg: "published: new; updated: old",
      containers: [
        { name: "new", changed: true },
        { name: "old", changed: true, reasons: ["file", "kernel"] },
      ],
      warnings: [
        `stale fragment ${fileOf(host, "old")} is removed: the container old does not exist, and 0.0.0.0:8080/tcp now belongs to new`,
      ],
    });
    // What its last call by name gave stays, for a container that is recreated under its name.
    expect(result.files).toContainEqual({ path: fileOf(host, "old"), change: "updated" });
    expect(result.diff?.map(({ before_header }) => before_header)).toContain(fileOf(host, "old"));
    expect(inspects(host)).toEqual(["docker inspect new", "docker inspect old"]);
    expect(host.fragment("old")).toMatch(/^# docker_iptables: old .*\n# options: \{"ipv6":true\}\n$/);
    expect(host.fragment("old", host.ip6tablesDir)).toBeUndefined();
    for (const family of ["ipv4", "ipv6"]) expect(host.kernel("nat", family)).not.toContain("docker_iptables: old");
    expect(host.kernel("nat")).toContain("docker_iptables: new");
    expect(await host.ask({ container: "new", reload })).toMatchObject({ changed: false, warnings: [] });
  });

  test("and whose address alone is another's: removed, also where the other's own rules were right", async () => {
    const host = await hostWithOld();
    await host.ask({ container: "new" });
    remove(host, "old");
    host.write("11-docker-container_old", (host.fragment("old") ?? "").replaceAll("172.17.0.2", "172.17.0.3"));
    const result = await host.ask({ container: "new" });
    expect(result).toMatchObject({
      msg: "already published: new; updated: old",
      warnings: [
        expect.stringMatching(
          /old is removed: the container old does not exist, and 172\.17\.0\.3 now belongs to new$/,
        ),
      ],
    });
    expect(host.kernel("nat")).not.toContain("docker_iptables: old");
  });

  test("of the original script: its rules carry no comment, and go too", async () => {
    const host = await hostWithOld();
    const nat = "-A DOCKER_CONTAINERS ! -i lo -p tcp -m tcp --dport 9090 -j DNAT --to-destination 172.17.0.3:80";
    host.write("11-docker-container_python", `*nat\n${nat}\nCOMMIT\n`);
    await host.boot();
    expect(host.kernel("nat")).toContain(nat);
    expect(await host.ask({ container: "new" })).toMatchObject({ msg: "published: new; updated: python" });
    expect(host.kernel("nat")).not.toContain(nat);
  });

  test("in check mode: the same answer, and nothing changes", async () => {
    const host = await hostWithOld();
    remove(host, "old");
    host.container("new", { ports: port("8080"), address: "172.17.0.2" });
    const before = host.state();
    const foretold = await host.ask({ container: "new", _ansible_check_mode: true });
    expect(host.state()).toEqual(before);
    const result = await host.ask({ container: "new" });
    expect(foretold.msg).toBe("would be published: new; would be updated: old");
    for (const key of ["containers", "files", "warnings"] as const) expect(foretold[key]).toEqual(result[key]);
  });

  test("is not restored by a rollback: its container is dead", async () => {
    const host = await hostWithOld();
    remove(host, "old");
    host.container("new", { ports: port("8080"), address: "172.17.0.2" });
    host.on(
      "iptables-restore",
      'cat > "$FAKE/in"; grep -q "docker_iptables: new" "$FAKE/in" && exit 1; exec < "$FAKE/in"\n',
    );
    const result = await host.ask({ container: "new" });
    expect(result).toMatchObject({ failed: true, changed: true, error: { code: "reload_failed" } });
    expect(result.msg).toMatch(/; unpublished anyway: old$/);
    expect(result.rolled_back).toEqual([fileOf(host, "new")]);
    expect(host.fragment("old")).toBeUndefined();
    for (const table of ["raw", "nat", "filter"]) expect(host.kernel(table)).not.toMatch(/iptables: (old|new)/);
  });

  test("stays where nothing of it is another's", async () => {
    const host = await hostWithOld();
    remove(host, "old");
    expect(await host.ask({ container: "new" })).toMatchObject({ msg: "published: new", warnings: [] });
    expect(inspects(host)).toEqual(["docker inspect new"]);
    expect(host.fragment("old")).toBeDefined();
  });

  test("is removed although its name is the beginning of a running container's id", async () => {
    const host = await hostWithOld();
    host.write("11-docker-container_6e6577", (host.fragment("old") ?? "").replaceAll("172.17.0.2", "172.17.0.3"));
    host.on("docker", 'case "$*" in "inspect 6e6577") cat "$FAKE/as-list"; exit 0 ;; esac\n');
    writeFileSync(join(host.fake, "as-list"), `[${host.documentOf("new")}]`);
    remove(host, "old");
    rmSync(fileOf(host, "old"));
    expect(await host.ask({ container: "new" })).toMatchObject({ msg: "published: new; updated: 6e6577" });
    expect(host.fragment("6e6577")).toBeUndefined();
  });
});

describe.concurrent("a fragment whose container does not run, or publishes nothing", () => {
  test.each([
    ["exited", { status: "exited" }, "the container old is exited"],
    ["publishes nothing", { ports: {} }, "old publishes no port"],
  ])("%s: it goes", async (_what, options, why) => {
    const host = await hostWithOld();
    host.container("old", { ports: port("8080"), ...options });
    host.container("new", { ports: port("8080"), address: "172.17.0.3" });
    expect(await host.ask({ container: "new" })).toMatchObject({
      msg: "published: new; updated: old",
      warnings: [`stale fragment ${fileOf(host, "old")} is removed: ${why}, and 0.0.0.0:8080/tcp now belongs to new`],
    });
    expect(host.fragment("old")).toBeUndefined();
  });
});

describe.concurrent("a fragment that is out of date", () => {
  test("is recreated, and so is one that the new one clashes with: a chain of restarts", async () => {
    const host = fakeHost();
    for (const [index, name] of ["a", "b", "c"].entries()) {
      host.container(name, { ports: port(`808${index}`), address: `172.17.0.${index + 2}` });
    }
    await host.boot();
    await host.ask({ container: ["a", "b", "c"], guards: false });
    for (const [index, name] of ["a", "b", "c"].entries()) {
      host.container(name, { ports: port(`808${index}`), address: `172.17.0.${index + 3}` });
    }
    host.calls();
    const result = await host.ask({ container: "a" });
    expect(result).toMatchObject({
      msg: "published: a; updated: b, c",
      warnings: [
        "a: this call does not give --no-guards, as an earlier call did; it is dropped",
        `${fileOf(host, "b")} is out of date and is updated: 172.17.0.3 now belongs to a`,
        `${fileOf(host, "c")} is out of date and is updated: 172.17.0.4 now belongs to b`,
      ],
    });
    expect(inspects(host)).toEqual(["docker inspect a", "docker inspect b", "docker inspect c"]);
    for (const [index, name] of ["a", "b", "c"].entries()) {
      expect(host.kernel("nat")).toMatch(new RegExp(`docker_iptables: ${name}".* 172\\.17\\.0\\.${index + 3}:80`));
    }
    // They were made with guards: false.
    expect(host.fragment("a")).toContain("*raw");
    expect(host.fragment("b")).not.toContain("*raw");
    expect(await host.ask({ container: ["b", "c"], guards: false })).toMatchObject({ changed: false });
  });

  test("keeps its IPv6 rules, which this call did not ask for", async () => {
    const host = await hostWithOld({ ipv6: true });
    const ports = { "80/tcp": ["0.0.0.0", "::"].map((HostIp) => ({ HostIp, HostPort: "8080" })) };
    host.container("old", { ports, address: "172.17.0.9", address6: "fd00::9" });
    host.container("new", { ports: port("8081"), address: "172.17.0.2" });
    expect(await host.ask({ container: "new" })).toMatchObject({ msg: "published: new; updated: old" });
    expect(host.kernel("nat", "ipv6")).toContain("--to-destination [fd00::9]:80");
  });

  test("and from before this boot is removed: it was not requested since", async () => {
    const host = await hostWithOld();
    host.container("old", { ports: port("8080"), address: "172.17.0.9" });
    host.container("new", { ports: port("8081"), address: "172.17.0.2" });
    host.write(".docker_iptables.boot", "# docker_iptables: boot another\n# 11-docker-container_old\n");
    expect(await host.ask({ container: "new" })).toMatchObject({
      msg: "published: new; updated: old",
      warnings: [
        `stale fragment ${fileOf(host, "old")} is removed: it is from before this boot, and 172.17.0.2 now belongs to new`,
      ],
    });
    expect(host.kernel("nat")).not.toContain("docker_iptables: old");
    expect(await host.ask({ container: "old" })).toMatchObject({ msg: "published: old", warnings: [] });
  });
});

describe.concurrent("two containers that run", () => {
  test.each([
    ["every address", "0.0.0.0", "0.0.0.0:8080/tcp", "0.0.0.0"],
    ["one address beside every address", "127.0.0.1", "127.0.0.1:8080/tcp", "127.0.0.1"],
  ])("and claim one port on %s: port_conflict, which names both", async (_what, hostIp, words, address) => {
    const host = await hostWithOld();
    host.container("new", { ports: port("8080", hostIp), address: "172.17.0.3" });
    const { msg, error } = await host.refuses({ container: "new" }, "port_conflict");
    expect(msg).toBe(
      `the containers new and old both run and publish ${words}; stop one of them, or publish it on another port or host address`,
    );
    expect(error).toMatchObject({ containers: ["new", "old"], address, port: 8080, protocol: "tcp" });
    await host.refuses({ container: "new", _ansible_check_mode: true }, "port_conflict");
    await host.refuses({ container: ["old", "new"] }, "port_conflict");
    expect(await host.ask({ container: "new", state: "absent" })).toMatchObject({ changed: false });
  });

  test("and claim it on two addresses, or for two protocols: no conflict, and nobody asks", async () => {
    const host = await hostWithOld();
    host.container("local", { ports: port("8081", "127.0.0.1"), address: "172.17.0.4" });
    host.container("new", { ports: port("8081", "198.51.100.10"), address: "172.17.0.3" });
    host.container("udp", { ports: { "80/udp": [{ HostIp: "0.0.0.0", HostPort: "8080" }] }, address: "172.17.0.5" });
    await host.ask({ container: "local" });
    host.calls();
    for (const container of ["new", "udp"]) {
      expect(await host.ask({ container })).toMatchObject({ msg: `published: ${container}`, warnings: [] });
    }
    expect(inspects(host)).toEqual(["docker inspect new", "docker inspect udp"]);
  });

  test("and have one address, says the client: a warning", async () => {
    const host = await hostWithOld();
    host.container("new", { ports: port("8081"), address: "172.17.0.2" });
    expect(await host.ask({ container: "new" })).toMatchObject({
      msg: "published: new",
      warnings: ["docker says that old and new both have the address 172.17.0.2"],
    });
  });
});

/** Asks for both at once; both have looked, so many ms after the last change, before the first of them may write. */
async function atOnce(host: FakeHost, containers: string[], quiet = 0): Promise<Result[]> {
  const locks = countLocks(host);
  const { release } = await hold(host);
  await sleep(quiet);
  const asked = containers.map((container) => host.ask({ container }));
  await until("both ask for the lock", () => locks() >= containers.length);
  await release();
  return Promise.all(asked);
}

describe.concurrent("two processes at once", () => {
  test.each([0, 500])(
    "for two containers that claim one port: one is refused (after %i ms of quiet)",
    async (quiet) => {
      const host = fakeHost();
      host.container("a", { ports: port("8080"), address: "172.17.0.2" });
      host.container("b", { ports: port("8080"), address: "172.17.0.3" });
      await host.boot();
      const results = await atOnce(host, ["a", "b"], quiet);
      const [published, refused] = results[0]?.failed ? results.reverse() : results;
      expect(published).toMatchObject({ changed: true, warnings: [] });
      expect(refused).toMatchObject({ changed: false, error: { code: "port_conflict", port: 8080 } });
      expect(refused).not.toHaveProperty("rolled_back");
      expect(readdirSync(host.iptablesDir).filter((name) => name.startsWith("11-"))).toHaveLength(1);
    },
  );

  test("one of which makes anew what the other finds out of date: both succeed", async () => {
    const host = await hostWithOld();
    host.container("old", { ports: port("8080"), address: "172.17.0.9" });
    host.container("new", { ports: port("8081"), address: "172.17.0.2" });
    for (const result of await atOnce(host, ["old", "new"])) expect(result.failed, result.msg).toBeUndefined();
    expect(host.kernel("nat")).toContain("172.17.0.9:80");
    expect(await host.ask({ container: ["old", "new"] })).toMatchObject({ changed: false });
  });
});
