// Options of networks, from the client's documents to the kernel, and what each verb says of them.

import { describe, expect, test } from "vitest";
import type { Result } from "../../src/generated/result.ts";
import { BRIDGE, type FakeHost, fakeHost, readAnswer } from "./host.ts";

const OPTION = "com.docker.network";

/** A host with web in the network app, behind the one bridge that is there. */
function hostWith(options: Record<string, string>, ports: Record<string, unknown>): FakeHost {
  const host = fakeHost().bare();
  host.interfaces({ [BRIDGE]: ["172.18.0.1/16"], eth0: ["192.0.2.1/24"] });
  host.network("app", {
    Options: { [`${OPTION}.bridge.name`]: BRIDGE, ...options },
    IPAM: { Config: [{ Subnet: "172.18.0.0/16" }] },
  });
  host.document("web", {
    ...{ Id: "e".repeat(64), Name: "/web", State: { Status: "running", Running: true } },
    NetworkSettings: {
      Ports: ports,
      Networks: { app: { NetworkID: "app", IPAddress: "172.18.0.2", Gateway: "172.18.0.1", GwPriority: 0 } },
    },
  });
  return host;
}

const ROUTED = { [`${OPTION}.bridge.gateway_mode_ipv4`]: "routed" };
const OPENED = { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "" }] };
const PUBLISHED = { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8080" }] };

/** Whatever it finds. */
async function statusOf(host: FakeHost): Promise<Result> {
  const directories = ["--iptables-dir", host.iptablesDir, "--ip6tables-dir", host.ip6tablesDir];
  return JSON.parse((await host.run(["status", "--json", ...directories])).stdout);
}

describe.each(["restore", "patch"])("with reload %s", (reload) => {
  test("a routed container is published at its own address, listed, explained, in sync, and unpublished", async () => {
    const host = hostWith(ROUTED, OPENED);
    const created = await host.ask({ container: "web", base: true, reload });
    expect(created, created.msg).toMatchObject({ changed: true, warnings: [] });
    expect(created.published).toEqual([
      { container: "web", publish: "172.18.0.2:80/tcp", to: "172.18.0.2:80", from: "everyone" },
    ]);
    expect(host.kernel("nat")).not.toMatch(/DNAT|MASQUERADE/);
    expect(host.kernel("raw")).not.toContain("DROP");
    expect(host.kernel("filter")).toMatch(/-A FORWARD -o lo -p icmp .*ACCEPT\n-A FORWARD ! -i lo -o lo .*DROP/);

    const status = await statusOf(host);
    expect(status.problems?.filter(({ kind }) => /^(rules|fragment|list|network|base)_/.test(kind))).toEqual([]);
    expect(status.status?.map(({ publishes, live }) => ({ publishes, live }))).toEqual([
      { publishes: ["172.18.0.2:80/tcp"], live: true },
    ]);
    const explained = readAnswer(await host.run(["explain", "web", "--json"])).explained ?? [];
    expect(explained.map(({ publish }) => publish)).toEqual(["172.18.0.2:80/tcp"]);
    const machine = explained[0]?.views.find(({ from }) => from === "another machine");
    expect(machine).toMatchObject({ to: "172.18.0.2:80", reaches: true, seen_as: "203.0.113.9" });

    expect(await host.ask({ container: "web", base: true, reload })).toMatchObject({ changed: false });
    expect(await host.ask({ container: "web", state: "absent", reload })).toMatchObject({ changed: true });
    expect(host.kernel("filter")).not.toContain("172.18.0.2");
  });

  test("a list about the container's own port decides, and one about another port is refused", async () => {
    const host = hostWith(ROUTED, OPENED);
    await host.ask({ base: true, reload });
    const { msg } = await host.refuses({ container: "web", reload, allow: { "8080": [] } }, "arguments_invalid");
    expect(msg).toContain("'8080' is about none of its ports");
    const created = await host.ask({ container: "web", reload, allow: { "80/tcp": ["10.0.0.0/8"] } });
    expect(created.published).toMatchObject([{ publish: "172.18.0.2:80/tcp", from: "10.0.0.0/8" }]);
    expect(host.kernel("mangle")).toMatch(
      /-A FORWARD -d 172\.18\.0\.2\/32 .*--dport 80 .*--ctdir ORIGINAL .*-j ALLOW-/,
    );
    const [web] = readAnswer(await host.run(["explain", "web", "--json"])).explained ?? [];
    const others = web?.views.filter(({ from }) => from.startsWith("another machine")) ?? [];
    expect(others.map(({ reaches }) => reaches).sort()).toEqual([false, true]);
  });
});

test("who comes by a trusted interface is not dropped", async () => {
  const host = hostWith({ [`${OPTION}.bridge.trusted_host_interfaces`]: "eth0" }, PUBLISHED);
  await host.ask({ container: "web", base: true });
  const raw = host.kernel("raw").replaceAll(/ -m comment --comment "[^"]*"/g, "");
  expect(raw.match(/^-A.*$/gm)).toEqual([
    "-A PREROUTING -d 172.18.0.2/32 -i eth0 -j ACCEPT",
    "-A PREROUTING -d 172.18.0.2/32 ! -i lo -j DROP",
  ]);
});

test("an address of the host's is what leaves a network; what is none is told by setup and status", async () => {
  const seen = hostWith({ [`${OPTION}.host_ipv4`]: "192.0.2.9" }, PUBLISHED);
  const result = await seen.ask({ base: true });
  expect(result.warnings.join()).not.toContain("host_ipv4");
  expect(seen.kernel("nat")).toMatch(/-s 172\.18\.0\.0\/16 ! -o lo .*-j SNAT --to-source 192\.0\.2\.9$/m);

  const bad = hostWith({ [`${OPTION}.host_ipv4`]: "192.0.2.9 -j ACCEPT\n-A" }, PUBLISHED);
  const told = 'the option host_ipv4 of the network app is "192.0.2.9 -j ACCEPT';
  expect((await bad.ask({ base: true })).warnings.join()).toContain(told);
  expect(bad.kernel("nat")).toMatch(/-s 172\.18\.0\.0\/16 ! -o lo .*-j MASQUERADE$/m);
  expect((await statusOf(bad)).warnings.join()).toContain(told);
});
