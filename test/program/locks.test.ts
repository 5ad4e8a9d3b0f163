// Many processes at once, and locks that others hold.

import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { Result } from "../../src/generated/result.ts";
import { until } from "../until.ts";
import { countLocks, hold } from "./hold.ts";
import { type FakeHost, fakeHost, NATIVE } from "./host.ts";

const NUMBERS = Array.from({ length: 20 }, (_, index) => index);
const port = (HostPort: number) => ({ "80/tcp": [{ HostIp: "0.0.0.0", HostPort: String(HostPort) }] });

async function hostWith(names: string[]): Promise<FakeHost> {
  const host = fakeHost();
  for (const [index, name] of names.entries()) {
    host.container(name, { ports: port(8000 + index), address: `172.17.1.${index + 1}` });
  }
  await host.boot();
  return host;
}

describe.each(["restore", "systemd"])("twenty processes at once (reload: %s)", (reload) => {
  test("for twenty containers: all succeed, and all rules are live", async () => {
    const names = NUMBERS.map((number) => `web${number}`);
    const host = await hostWith(names);
    const given = { reload, timeout: 600 };
    const results = await Promise.all(names.map((container) => host.ask({ ...given, container })));
    for (const result of results) expect(result, result.msg).toMatchObject({ changed: true });
    for (const number of NUMBERS) expect(host.kernel("nat")).toContain(`--to-destination 172.17.1.${number + 1}:80`);
    expect(await host.ask({ ...given, container: names })).toMatchObject({ changed: false });
    expect(host.names(host.iptablesDir)).toHaveLength(21);
  });
});

describe.concurrent("many processes at once", () => {
  test("for one container: all succeed, and one of them did it", async () => {
    const host = await hostWith(["web"]);
    const given = { timeout: 600, container: "web" };
    const results = await Promise.all(NUMBERS.slice(10).map(() => host.ask(given)));
    for (const result of results) expect(result.failed, result.msg).toBeUndefined();
    expect(results.some(({ reloaded }) => reloaded?.length === 1)).toBe(true);
    expect(await host.ask(given)).toMatchObject({ changed: false });
  });

  test("eight come while eight go: all succeed, and the kernel has the eight that came", async () => {
    const coming = NUMBERS.slice(0, 8).map((number) => `in${number}`);
    const going = NUMBERS.slice(8, 16).map((number) => `out${number}`);
    const host = await hostWith([...coming, ...going]);
    const given = { reload: "restore", timeout: 600 };
    await host.ask({ ...given, container: going });
    const results = await Promise.all([
      ...coming.map((container) => host.ask({ ...given, container })),
      ...going.map((container) => host.ask({ ...given, container, state: "absent" })),
    ]);
    for (const result of results) expect(result, result.msg).toMatchObject({ changed: true });
    for (const number of NUMBERS.slice(0, 16)) {
      expect(host.kernel("nat").includes(`172.17.1.${number + 1}:80`), `rule ${number}`).toBe(number < 8);
    }
    expect(host.names(host.iptablesDir)).toHaveLength(9);
  });
});

describe.concurrent("a lock that another process holds", () => {
  test.each(["present", "absent"])("on the directory: locked, naming the process (%s)", async (state) => {
    const host = await hostWith(["web"]);
    if (state === "absent") await host.ask({ container: "web" });
    const { pid } = await hold(host);
    const { msg, error } = await host.runsOut({ container: "web", state }, "locked");
    expect(msg).toContain(`${host.iptablesDir} is locked by process ${pid} (cat)`);
    expect(error).toMatchObject({ pid, path: host.iptablesDir });
  });

  test("is on a file that no other user can open", async () => {
    const host = await hostWith(["web"]);
    await host.ask({ container: "web", reload: "restore" });
    for (const name of ["lock", "load"]) {
      expect(statSync(join(host.iptablesDir, `.docker_iptables.${name}`)).mode & 0o777).toBe(0o600);
    }
  });

  test("and releases in time: it was only waited for", async () => {
    const host = await hostWith(["web"]);
    const { release } = await hold(host);
    const locks = countLocks(host);
    const asked = host.ask({ container: "web" });
    await until("it asks for the lock", () => locks() > 0);
    expect(host.fragment("web")).toBeUndefined();
    await release();
    expect(await asked).toMatchObject({ changed: true });
  });

  // The native executable takes a free lock without a process.
  test.skipIf(NATIVE)("or is free, and flock starts late", async () => {
    const host = await hostWith(["web"]);
    host.sharesLocks();
    const flock = `#!/bin/sh\nsleep 8\nPATH=\${PATH#*:} exec flock "$@"\n`;
    writeFileSync(join(host.bin, "flock"), flock, { mode: 0o755 });
    expect(await host.ask({ container: "web", reload: "none", timeout: 5 })).toMatchObject({ changed: true });
  });

  test("is no matter where nothing changes", async () => {
    const host = await hostWith(["web", "db"]);
    await host.ask({ container: "web" });
    await hold(host);
    expect(await host.ask({ container: "web" })).toMatchObject({ changed: false });
    expect(await host.ask({ container: "db", _ansible_check_mode: true })).toMatchObject({ changed: true });
    expect(await host.ask({ container: "db", state: "absent" })).toMatchObject({ changed: false });
  });

  // The native executable takes a free lock without a process that these two could stop.
  test.skipIf(NATIVE)(
    "between our write and our load, and it loads what we wrote: file and kernel agree in the end",
    async () => {
      const { host, asked, locks, release } = await heldBetween(10);
      await host.boot();
      // The next flock is that of the rollback; without one, the answer is there.
      await until("it takes its write back, or has ended", () => asked.ended || locks() > 0);
      await release();
      const result = await asked.result;
      const file = host.fragment("web") !== undefined;
      const live = host.kernel("nat").includes("172.17.1.1:80");
      // On a slow machine we may be too late for its rollback.
      const isThere = !result.failed || (result.rolled_back?.some((one) => one.startsWith("NOT put back")) ?? false);
      expect({ file, live }, result.msg).toEqual({ file: isThere, live: isThere });
    },
  );

  test.skipIf(NATIVE)(
    "for longer than our patience, between our write and our load: the answer says what was not restored",
    async () => {
      for (const patience of [1, 5, 30]) {
        const { host, asked } = await heldBetween(patience);
        const result = await asked.result;
        // A slow machine may have run out of time before it came to the lock.
        if (result.error?.code !== "locked" && patience < 30) continue;
        expect(result, result.msg).toMatchObject({ failed: true, error: { code: "locked" } });
        if (host.fragment("web") !== undefined)
          expect(result.rolled_back).toEqual([expect.stringMatching(/^NOT put back/)]);
        return;
      }
    },
  );

  test("dies with its holder", async () => {
    const host = await hostWith(["web"]);
    const { pid } = await hold(host);
    process.kill(pid, "SIGKILL");
    expect(await host.ask({ container: "web" })).toMatchObject({ changed: true });
  });
});

/**
 * A run that has written, and has not loaded yet when another takes the lock; it waits for that for `patience` seconds. `locks` says how
 * often it asks for one after that.
 */
async function heldBetween(patience: number) {
  const host = await hostWith(["web"]);
  const log = join(host.fake, "locks");
  const fragment = join(host.iptablesDir, "11-docker-container_web");
  // The first flock after the write, which is that of the load, waits for us.
  const wait = `[ -e "${fragment}" ] && mkdir "$FAKE/waited" 2>/dev/null && until [ -e "$FAKE/go" ]; do sleep 0.02; done`;
  const count = `[ -e "$FAKE/waited" ] && echo >> "$FAKE/locks"`;
  const flock = `#!/bin/sh\n${count}\n${wait}\nPATH=\${PATH#*:} exec flock "$@"\n`;
  writeFileSync(join(host.bin, "flock"), flock, { mode: 0o755 });
  const locks = () => (existsSync(log) ? readFileSync(log, "utf8").length : 0);
  const asked = { ended: false, result: Promise.resolve({} as Result) };
  asked.result = host.ask({ container: "web", timeout: patience }).finally(() => {
    asked.ended = true;
  });
  await until("it is about to load, or has ended", () => asked.ended || existsSync(join(host.fake, "waited")));
  const { release } = await hold(host);
  writeFileSync(join(host.fake, "go"), "");
  return { host, asked, locks, release };
}
