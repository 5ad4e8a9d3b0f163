// Check mode foretells what the next call does, and changes nothing; the diff is the files' text before and after.

import { rmSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { Result } from "../../src/generated/result.ts";
import { type FakeHost, fakeHost } from "./host.ts";

const PORTS = {
  "80/tcp": [
    { HostIp: "0.0.0.0", HostPort: "8080" },
    { HostIp: "::", HostPort: "8080" },
  ],
};
const CHECK = { _ansible_check_mode: true };

async function bootedHost(): Promise<FakeHost> {
  const host = fakeHost();
  host.container("web", { ports: PORTS, address6: "fd00::2" });
  await host.boot();
  return host;
}

/** Asks in check mode; nothing may change, and nothing but readers may be called. */
async function foretell(host: FakeHost, given: Record<string, unknown>): Promise<Result> {
  const before = host.state();
  host.calls();
  const result = await host.ask({ ...given, ...CHECK });
  expect(host.state()).toEqual(before);
  expect(
    host
      .calls()
      .filter((call) => !/^(docker|ip6?tables-save|systemctl (show|is-system-running)|nft --json list )/.test(call)),
  ).toEqual([]);
  expect(result.reloaded).toEqual([]);
  return result;
}

/** What a prediction and the real run must both say. */
function gist({ changed, containers, files, rules }: Result) {
  return { changed, containers, files, rules };
}

type Change = (host: FakeHost) => unknown;
const nothing: Change = () => {};

describe.concurrent.each(["systemd", "none"])("check, apply, check, apply (reload: %s)", (reload) => {
  test.each<[string, Change, Record<string, unknown>, boolean]>([
    ["a new container", nothing, {}, true],
    ["a new container, both families", nothing, { ipv6: true }, true],
    ["absent of what never was", nothing, { state: "absent" }, false],
    ["absent of what is", (host) => host.ask({ container: "web", reload }), { state: "absent" }, true],
    [
      "another address",
      async (host) => {
        await host.ask({ container: "web", reload });
        host.container("web", { ports: PORTS, address: "172.17.0.9" });
      },
      {},
      true,
    ],
    [
      "no port any more",
      async (host) => {
        await host.ask({ container: "web", reload });
        host.container("web", { ports: {} });
      },
      {},
      true,
    ],
    ["no IPv6 any more", (host) => host.ask({ container: "web", reload, ipv6: true }), {}, true],
    [
      "a fragment that was edited",
      async (host) => {
        await host.ask({ container: "web", reload });
        host.write("11-docker-container_web", "# edited\n");
      },
      {},
      true,
    ],
    ["guards left out", (host) => host.ask({ container: "web", reload }), { guards: false }, true],
    ["a container that publishes nothing", (host) => host.container("web", { ports: { "80/tcp": null } }), {}, false],
  ])("%s", async (_what, prepare, given, changes) => {
    const host = await bootedHost();
    await prepare(host);
    const asked = { container: "web", reload, ...given };
    const foretold = await foretell(host, asked);
    expect(foretold.changed).toBe(changes);
    const done = await host.ask(asked);
    expect(gist(done)).toEqual(gist(foretold));
    expect(await foretell(host, asked)).toMatchObject({ changed: false });
    if (changes) expect(await host.ask(asked)).toMatchObject({ changed: false, reloaded: [] });
  });
});

describe.concurrent.each(["systemd", "restore"])("drift (reload: %s)", (reload) => {
  test.each(["raw", "nat", "filter"])("a flushed table %s is foretold and put back", async (table) => {
    const host = await bootedHost();
    await host.ask({ container: "web", reload });
    host.flush(table);
    expect(await foretell(host, { container: "web", reload })).toMatchObject({
      changed: true,
      containers: [{ name: "web", reasons: ["kernel"] }],
      files: [{ change: "unchanged" }],
    });
    expect(await host.ask({ container: "web", reload })).toMatchObject({ changed: true });
    expect(host.kernel(table)).toContain("172.17.0.2");
    expect(await foretell(host, { container: "web", reload })).toMatchObject({ changed: false });
  });

  test("rules that outlived their file are predicted and removed", async () => {
    const host = await bootedHost();
    await host.ask({ container: "web", reload });
    rmSync(join(host.iptablesDir, "11-docker-container_web"));
    expect(await foretell(host, { container: "web", state: "absent", reload })).toMatchObject({
      changed: true,
      containers: [{ name: "web", reasons: ["kernel"] }],
    });
  });
});

describe.concurrent("a container that is not there yet", () => {
  test.each([
    ["does not exist", undefined],
    ["is created", "created"],
    ["is exited", "exited"],
  ])("%s: changed, a warning, and no wait", async (why, status) => {
    const host = fakeHost();
    if (status !== undefined) host.container("web", { ports: PORTS, status });
    const result = await foretell(host, { container: "web", wait_timeout: 600 });
    expect(result).toMatchObject({ changed: true, containers: [{ name: "web", changed: true }] });
    expect(result.failed).toBeUndefined();
    expect(result.warnings).toEqual([`the container web ${why}: its rules cannot be predicted yet`]);
  });

  test("with one that exists: that one's rules are predicted", async () => {
    const host = await bootedHost();
    const result = await foretell(host, { container: ["web", "db"], wait_timeout: 600 });
    expect(result.msg).toBe("would be published: web, db");
    expect(result.rules?.ipv4?.["nat"]).toHaveLength(1);
  });
});

describe.concurrent("what check mode finds wrong, as the deed would", () => {
  test.each<[string, Change, Record<string, unknown>]>([
    ["the chain is not declared", (host) => host.write("10_docker", ""), {}],
    ["the service is missing", nothing, { iptables_service: "none-such" }],
    ["the network is unknown", nothing, { network: "backend" }],
    ["the daemon is down", (host) => host.on("docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1"), {}],
    ["a stranger's fragment is broken", (host) => host.write("50_x", "hello\n"), { reload: "restore" }],
  ])("%s", async (_what, prepare, given) => {
    const host = await bootedHost();
    await prepare(host);
    const asked = { container: "web", ...given };
    const deed = await host.ask(asked);
    const foretold = await host.ask({ ...asked, ...CHECK });
    expect(deed.failed).toBe(true);
    expect(foretold.error).toEqual(deed.error);
  });
});

describe.concurrent("the diff", () => {
  const DIFF = { _ansible_diff: true };
  const header = (host: FakeHost, directory = host.iptablesDir) => join(directory, "11-docker-container_web");

  test.each([{}, CHECK])("of a new fragment (%j)", async (mode) => {
    const host = await bootedHost();
    const { diff } = await host.ask({ container: "web", ...DIFF, ...mode });
    expect(diff).toHaveLength(1);
    expect(diff?.[0]).toMatchObject({ before: "", before_header: header(host), after_header: header(host) });
    expect(diff?.[0]?.after).toMatch(/^# docker_iptables: web .*\n\*raw\n[\s\S]*\nCOMMIT\n$/);
    if (mode === CHECK) await host.ask({ container: "web" });
    expect(host.fragment("web")).toBe(diff?.[0]?.after);
  });

  test("of a changed fragment, of a removed one, and of none", async () => {
    const host = await bootedHost();
    await host.ask({ container: "web", ipv6: true });
    const former = host.fragment("web");
    expect((await host.ask({ container: "web", ipv6: true, ...DIFF })).diff).toEqual([]);
    host.container("web", { ports: PORTS, address: "172.17.0.9", address6: "fd00::2" });
    const changed = await host.ask({ container: "web", ipv6: true, ...DIFF });
    expect(changed.diff).toEqual([
      { before: former, after: host.fragment("web"), before_header: header(host), after_header: header(host) },
    ]);
    const removed = await host.ask({ container: "web", state: "absent", ...DIFF, ...CHECK });
    expect(removed.diff?.map(({ after, before_header }) => ({ after, before_header }))).toEqual([
      { after: "", before_header: header(host) },
      { after: "", before_header: header(host, host.ip6tablesDir) },
    ]);
  });

  test("ends every text with a newline, also that of a fragment without one", async () => {
    const host = await bootedHost();
    host.write("11-docker-container_web", "# no newline at the end");
    const { diff } = await host.ask({ container: "web", ...DIFF, ...CHECK });
    expect(diff?.[0]?.before).toBe("# no newline at the end\n");
  });

  test("is empty where only the kernel drifts", async () => {
    const host = await bootedHost();
    await host.ask({ container: "web" });
    host.flush("nat");
    expect(await host.ask({ container: "web", ...DIFF, ...CHECK })).toMatchObject({ changed: true, diff: [] });
  });
});
