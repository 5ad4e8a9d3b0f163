// What another process does between this one's read, its write and its load: the newer one is kept, or the race is reported.

import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { Result } from "../../src/generated/result.ts";
import { until } from "../until.ts";
import { type FakeHost, fakeHost } from "./host.ts";

const port = (HostPort: string) => ({ "80/tcp": [{ HostIp: "0.0.0.0", HostPort }] });
const fileOf = (host: FakeHost, name: string) => join(host.iptablesDir, `11-docker-container_${name}`);
const there = (host: FakeHost, name: string) => () => existsSync(join(host.fake, name));
const mark = (host: FakeHost, name: string) => writeFileSync(join(host.fake, name), "");
const calls = (host: FakeHost) => {
  const path = join(host.fake, "calls");
  return existsSync(path) ? readFileSync(path, "utf8").trim().split("\n") : [];
};

/** What a fake runs first: whichever finds the mark "slow" takes it, and waits until it may continue. */
const SLOW = `if mv "$FAKE/slow" "$FAKE/stopped" 2>/dev/null; then until [ -e "$FAKE/go" ]; do sleep 0.02; done; fi`;

/** web runs and publishes 8080 at 172.17.0.2. */
async function hostWithWeb(): Promise<FakeHost> {
  const host = fakeHost();
  host.container("web", { ports: port("8080") });
  await host.boot();
  return host;
}

/** A call that stops at its n-th lock; the other calls meanwhile do not. */
async function stoppedAt(n: number, host: FakeHost, given: Record<string, unknown>): Promise<() => Promise<Result>> {
  const flock = `#!/bin/sh
if [ -e "$FAKE/counting" ]; then
  echo >> "$FAKE/counting"
  if [ "$(wc -l < "$FAKE/counting")" = ${n} ]; then mv "$FAKE/counting" "$FAKE/stopped"; until [ -e "$FAKE/go" ]; do sleep 0.02; done; fi
fi
PATH=\${PATH#*:} exec flock "$@"
`;
  writeFileSync(join(host.bin, "flock"), flock, { mode: 0o755 });
  mark(host, "counting");
  const asked = host.ask({ container: "web", reload: "restore", ...given });
  await until(`it waits for its lock number ${n}`, there(host, "stopped"));
  return () => {
    mark(host, "go");
    return asked;
  };
}

describe.concurrent("a create that was slow", () => {
  /** The client has answered, and reading the kernel's rules is slow. */
  async function slowCreate(host: FakeHost): Promise<() => Promise<Result>> {
    host.on("iptables-save", SLOW);
    host.on(
      "docker",
      '[ -z "$NESTED" ] && [ "$1" = inspect ] && { NESTED=1 "$0" "$@"; code=$?; : > "$FAKE/answered"; exit $code; }',
    );
    mark(host, "slow");
    const asked = host.ask({ container: "web", reload: "restore" });
    await until("it knows the container, and looks at the kernel", () =>
      [there(host, "answered"), there(host, "stopped")].every((holds) => holds()),
    );
    return () => {
      mark(host, "go");
      return asked;
    };
  }

  test.each([true, false])(
    "does not overwrite what was written for the restarted container (fragment before: %s)",
    async (before) => {
      const host = await hostWithWeb();
      if (before) {
        await host.ask({ container: "web", reload: "restore" });
        host.flush("nat");
      }
      const finish = await slowCreate(host);
      host.container("web", { ports: port("8080"), address: "172.17.0.9" });
      expect(await host.ask({ all: true, reload: "restore" })).toMatchObject({ changed: true });
      expect(await finish()).not.toHaveProperty("failed");
      expect(host.fragment("web")).toContain("172.17.0.9:80");
      expect(host.kernel("nat")).toContain("172.17.0.9:80");
      expect(host.kernel("nat")).not.toContain("172.17.0.2:80");
    },
  );

  test("does not bring back what was deleted since with its container: it says that there is none", async () => {
    const host = await hostWithWeb();
    await host.ask({ container: "web", reload: "restore" });
    host.container("web", { ports: port("8081") });
    const finish = await slowCreate(host);
    rmSync(join(host.fake, "containers", "web.json"));
    await host.ask({ container: "web", state: "absent", reload: "restore" });
    expect(await finish()).toMatchObject({ failed: true, changed: false, error: { code: "container_missing" } });
    expect(host.fragment("web")).toBeUndefined();
    expect(host.kernel("nat")).not.toContain("docker_iptables: web");
  });

  test("asks again for a container that it had waited for", async () => {
    const host = fakeHost();
    await host.boot();
    host.on("iptables-save", SLOW);
    const asked = host.ask({ container: "web", reload: "restore", wait_timeout: 600 });
    await until(
      "it waits for the container",
      () => calls(host).filter((call) => call === "docker inspect web").length > 1,
    );
    mark(host, "slow");
    host.container("web", { ports: port("8080") });
    await until("it looks at the kernel", there(host, "stopped"));
    host.container("web", { ports: port("8080"), address: "172.17.0.9" });
    mark(host, "go");
    expect(await asked).toMatchObject({ changed: true, msg: "published: web" });
    expect(host.kernel("nat")).toContain("172.17.0.9:80");
    expect(host.kernel("nat")).not.toContain("172.17.0.2:80");
  });

  test("continues where a container that it had waited for is the same when it is asked again", async () => {
    const host = fakeHost();
    await host.boot();
    const given = { container: "web", reload: "restore", wait_timeout: 600 };
    const asked = host.run([], JSON.stringify(host.args(given)), { DOCKER_IPTABLES_VERBOSE: "1" });
    await until(
      "it waits for the container",
      () => calls(host).filter((call) => call === "docker inspect web").length > 1,
    );
    host.container("web", { ports: port("8080") });
    const { stdout, stderr } = await asked;
    expect(JSON.parse(stdout)).toMatchObject({ changed: true, msg: "published: web" });
    expect(stderr).not.toContain("retry: attempt");
  });

  test("is reported when others change the fragment before each of its writes", async () => {
    const host = await hostWithWeb();
    const other = `#!/bin/sh
echo "# docker_iptables: web, and another: $$" > "$DIRS/iptables.d/.new"
mv "$DIRS/iptables.d/.new" "$DIRS/iptables.d/11-docker-container_web"
PATH=\${PATH#*:} exec flock "$@"
`;
    writeFileSync(join(host.bin, "flock"), other, { mode: 0o755 });
    const { msg, error, ...result } = await host.ask({ container: "web", reload: "restore" });
    expect(result).toMatchObject({ failed: true, changed: false });
    expect(error).toMatchObject({ code: "concurrent_change", path: fileOf(host, "web") });
    expect(msg).toContain(`another process changed ${fileOf(host, "web")} during this call; nothing was changed`);
  });
});

describe.concurrent("a fragment that another hand has removed", () => {
  test("is written anew, and loaded, though others have left it off this boot's list meanwhile", async () => {
    const host = await hostWithWeb();
    host.container("db", { ports: port("5432"), address: "172.17.0.3" });
    await host.ask({ container: "web", reload: "restore" });
    rmSync(fileOf(host, "web"));
    const finish = await stoppedAt(1, host, {});
    await host.ask({ container: "db", reload: "restore" });
    expect(await finish()).toMatchObject({ changed: true, msg: "published: web" });
    expect(host.kernel("nat")).toContain("docker_iptables: web");
  });
});

describe.concurrent("a create and a delete at once", () => {
  test("the delete had seen no fragment: it looks again, and removes the new one", async () => {
    const host = await hostWithWeb();
    await host.ask({ container: "web", reload: "restore" });
    rmSync(fileOf(host, "web"));
    const finish = await stoppedAt(1, host, { state: "absent" });
    expect(await host.ask({ container: "web", reload: "restore" })).toMatchObject({ changed: true });
    expect(await finish()).toMatchObject({ changed: true, msg: "unpublished: web" });
    expect(host.fragment("web")).toBeUndefined();
    expect(host.kernel("nat")).not.toContain("docker_iptables: web");
  });

  test("the create came after the delete's write: the race is reported, and what it wrote stays", async () => {
    const host = await hostWithWeb();
    await host.ask({ container: "web", reload: "restore" });
    const finish = await stoppedAt(2, host, { state: "absent" });
    expect(await host.ask({ container: "web", reload: "restore" })).toMatchObject({ changed: true });
    const { msg, error, ...result } = await finish();
    expect(result).toMatchObject({ failed: true, changed: true });
    expect(error).toMatchObject({ code: "concurrent_change", path: fileOf(host, "web") });
    expect(msg).toContain(`another process wrote ${fileOf(host, "web")} after this call removed it`);
    expect(msg).not.toContain("same iptables");
    expect(host.kernel("nat")).toContain("172.17.0.2:80");
    expect(await host.ask({ container: "web", reload: "restore", state: "absent" })).toMatchObject({ changed: true });
    expect(host.kernel("nat")).not.toContain("docker_iptables: web");
  });

  test.each(["restore", "patch", "systemd"])(
    "the delete came after the create's write: the race is told, and nothing is brought back (%s)",
    async (reload) => {
      const host = await hostWithWeb();
      await host.ask({ container: "web", reload });
      host.container("web", { ports: port("8081"), address: "172.17.0.9" });
      const finish = await stoppedAt(2, host, { reload });
      expect(await host.ask({ container: "web", reload, state: "absent" })).toMatchObject({ changed: true });
      const { msg, error, ...result } = await finish();
      expect(result).toMatchObject({ failed: true, changed: true });
      expect(result).not.toHaveProperty("rolled_back");
      expect(error).toMatchObject({ code: "concurrent_change", path: fileOf(host, "web") });
      expect(msg).toContain(`another process removed ${fileOf(host, "web")} after this call wrote it`);
      expect(host.fragment("web")).toBeUndefined();
      expect(host.kernel("nat")).not.toContain("docker_iptables: web");
    },
  );
});

describe.concurrent("a container that gets another name between two answers", () => {
  test("is no rival of its own", async () => {
    const host = await hostWithWeb();
    await host.ask({ container: "web" });
    const text = host.fragment("web") ?? "";
    rmSync(fileOf(host, "web"));
    host.write("11-docker-container_web2", text.replaceAll(/docker_iptables: web\b/g, "docker_iptables: web2"));
    // docker rename web web2, as soon as it has answered.
    host.on(
      "docker",
      `[ -z "$NESTED" ] && [ "$*" = "inspect web" ] && [ -e "$FAKE/containers/web.json" ] && {
        NESTED=1 "$0" "$@"; sed 's#"/web"#"/web2"#' "$FAKE/containers/web.json" > "$FAKE/containers/web2.json"
        rm "$FAKE/containers/web.json"; exit 0; }`,
    );
    const result = await host.ask({ container: "web" });
    expect(result).toMatchObject({ failed: true, changed: false, error: { code: "container_missing" } });
    expect(await host.ask({ container: "web2" })).not.toHaveProperty("failed");
  });

  test("and is twice in the answer about all: they are requested again", async () => {
    const host = await hostWithWeb();
    host.container("db", { ports: port("5432"), address: "172.17.0.3" });
    const renamed = `sed -e 's#"/db"#"/web"#' -e 's#"5432"#"8080"#'`;
    host.on(
      "docker",
      `[ -z "$NESTED" ] && [ "$1" = inspect ] && ! [ -e "$FAKE/once" ] && {
        : > "$FAKE/once"; NESTED=1 "$0" "$@" | ${renamed}; exit 0; }`,
    );
    const result = await host.ask({ all: true });
    expect(result).toMatchObject({ changed: true, msg: "published: db, web", warnings: [] });
    expect(host.fragment("db")).toContain("--dport 5432");
  });

  test("and whose client always lists two of one name: one counts, and it is reported", async () => {
    const host = await hostWithWeb();
    host.container("db", { ports: port("8080"), address: "172.17.0.3" });
    host.on(
      "docker",
      `[ -z "$NESTED" ] && [ "$1" = inspect ] && { NESTED=1 "$0" "$@" | sed 's#"/db"#"/web"#'; exit 0; }`,
    );
    const { warnings, ...result } = await host.ask({ all: true });
    expect(result).toMatchObject({ changed: true, msg: "published: web" });
    expect(warnings).toEqual(["docker lists several containers named web; the last one is used"]);
  });
});
