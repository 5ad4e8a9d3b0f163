// Documents of the daemon's that cannot be used, containers and networks: they cost only themselves, and are named. Whoever
// chooses a name, a bridge or an address can make one. Which documents those are: test/docker/documents.test.ts.

import { describe, expect, test } from "vitest";
import type { Problem } from "../../src/generated/result.ts";
import { BRIDGE, type FakeHost, fakeHost } from "../program/host.ts";

const port = (HostPort: string) => ({ "80/tcp": [{ HostIp: "0.0.0.0", HostPort }] });
const dirs = (host: FakeHost) => ["--iptables-dir", host.iptablesDir, "--ip6tables-dir", host.ip6tablesDir];
const LONG = "a".repeat(236);
const FILES = ["10_docker", "11-docker-container_web"];

/** A container that publishes, and what is bad about it. */
function bad(host: FakeHost, name: string, more: object, network = "bridge", address = "172.17.0.9"): void {
  host.document(name, {
    Id: Buffer.from(name.padEnd(32, "\0")).toString("hex").slice(0, 64),
    Name: `/${name}`,
    State: { Status: "running", Running: true },
    NetworkSettings: { Ports: port("8090"), Networks: { [network]: { NetworkID: network, IPAddress: address } } },
    ...more,
  });
}

const bridgeNamed = (name: string) => ({ Options: { "com.docker.network.bridge.name": name } });

/** web runs and publishes, among all that is bad. */
async function hostile(): Promise<FakeHost> {
  const host = fakeHost();
  host.container("web", { ports: port("8080") });
  bad(host, "long", { Name: `/${LONG}` });
  bad(host, "path", { Name: "/../../etc/x" });
  bad(host, "control", { Name: "/e\u001b[2Jx" });
  bad(host, "shape", { HostConfig: 7 });
  bad(host, "subnet", {}, "bridge", "172.17.0.9/0");
  bad(host, "self", {}, "bridge", "127.0.0.1");
  for (const [network, bridge] of Object.entries({ plus: "+", many: "evil+" })) {
    host.network(network, bridgeNamed(bridge));
    bad(host, `in-${network}`, {}, network, "10.9.0.2");
  }
  host.network("nowhere", { ...bridgeNamed(BRIDGE), IPAM: { Config: [{ Subnet: "10.9.0.0/99" }] } });
  bad(host, "in-nowhere", {}, "nowhere", "10.9.0.3");
  await host.boot();
  return host;
}

const CONTAINERS = [`${LONG.slice(0, 64)}…`, "../../etc/x", "e\\x1b[2Jx", "shape", "subnet", "self"];
const WITHIN = ["plus", "many", "nowhere"];
const TOLD = [
  ...CONTAINERS.map((who) => `the container ${who} cannot be used: `),
  ...WITHIN.map((network) => `the container in-${network} cannot be used: the network ${network} cannot be used: `),
].sort();
const beginnings = (texts: readonly string[]) => TOLD.filter((told) => texts.some((text) => text.startsWith(told)));

test("sync publishes the others, and says what is left out", async () => {
  const host = await hostile();
  const result = await host.ask({ all: true });
  expect(result, result.msg).toMatchObject({ changed: true, msg: "published: web" });
  expect(beginnings(result.warnings)).toEqual(TOLD);
  expect(result.warnings).toHaveLength(TOLD.length);
  expect(result.warnings.join("")).not.toMatch(/\p{C}/u);
  expect(host.names(host.iptablesDir)).toEqual(FILES);
  expect(host.kernel("nat")).not.toContain("8090");
  expect(await host.ask({ all: true })).toMatchObject({
    changed: false,
    msg: "the containers are in sync (1 published)",
  });
});

test("status names each as a problem of its own, and still sees the others", async () => {
  const host = await hostile();
  await host.ask({ all: true });
  const { exitCode, stdout } = await host.run(["status", "--json", ...dirs(host)]);
  const problems: Problem[] = JSON.parse(stdout).problems;
  const own = problems.filter(({ kind }) => !["daemon_settings", "fragment_untrusted"].includes(kind));
  expect(new Set(own.map(({ kind }) => kind))).toEqual(new Set(["answer_unusable"]));
  expect(beginnings(own.map(({ msg }) => msg))).toEqual(TOLD);
  const networks = own.filter(({ container }) => container === undefined).map(({ msg }) => msg);
  expect(networks.map((msg) => msg.slice(0, msg.indexOf(" cannot"))).sort()).toEqual(
    WITHIN.map((network) => `the network ${network}`).sort(),
  );
  expect(exitCode).toBe(3);
});

test("create and explain of another container do not see them", async () => {
  const host = await hostile();
  expect(await host.ask({ container: "web" })).toMatchObject({ changed: true, msg: "published: web", warnings: [] });
  const { exitCode, stderr } = await host.run(["explain", "web"]);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0, stderr: expect.stringMatching(/the network plus cannot/) });
});

test("setup covers the other networks", async () => {
  const host = (await hostile()).bare();
  host.network("bridge", { ...bridgeNamed(BRIDGE), IPAM: { Config: [{ Subnet: "172.17.0.0/16" }] } });
  const given = { base: true, container: "web", reload: "restore", replace: true };
  const result = await host.ask(given);
  expect(result, result.msg).toMatchObject({ changed: true, base: { networks: ["bridge"] } });
  for (const network of WITHIN) {
    const told = new RegExp(`^the network ${network} cannot be used: .*the host rules do not cover it$`);
    expect(result.warnings).toContainEqual(expect.stringMatching(told));
  }
  expect(host.kernel("filter")).not.toMatch(/-[io] \S*\+/);
  expect(await host.ask(given)).toMatchObject({ changed: false });
});

describe("asked for by its name, it is its own failure", () => {
  test.each(["shape", "in-many"])("%s", async (name) => {
    const host = await hostile();
    await host.refuses({ container: name }, "client_answer_invalid");
    await host.refuses({ container: ["web", name] }, "client_answer_invalid");
  });
});

test("a conflicting container that was not requested does not matter, and what it claims is the other's", async () => {
  const host = fakeHost();
  host.container("old", { ports: port("8090"), address: "172.17.0.9" });
  await host.boot();
  await host.ask({ container: "old" });
  bad(host, "old", { State: { Running: true, Status: 7 } });
  host.container("new", { ports: port("8091"), address: "172.17.0.9" });
  const result = await host.ask({ container: "new" });
  expect(result, result.msg).toMatchObject({ changed: true, msg: "published: new; updated: old" });
  expect(result.warnings).toEqual([
    expect.stringMatching(/_old is removed: the container old cannot be used .*172\.17\.0\.9 now belongs to new/),
  ]);
});

describe("nerdctl, whose inspect and list also have containers of other clients, without a name", () => {
  const nginx = "be4a".repeat(16);
  test.each([{ container: "nginx" }, { all: true }])("%j", async (given) => {
    const host = fakeHost();
    host.install("docker", "nerdctl");
    host.container("nginx", { ports: port("1080"), address: "172.17.0.3" });
    const own = JSON.stringify({ ...JSON.parse(host.documentOf("nginx")), Id: nginx });
    const other = `{"Id":"nginx","Name":"","State":{"Status":"","Running":false},"NetworkSettings":{"Ports":{},"Networks":{}}}`;
    host.on(
      "nerdctl",
      `case "$*" in inspect*) echo '[${own},${other},${own}]'; exit;; ps*) echo ${nginx}; echo nginx; exit;; esac`,
    );
    await host.boot();
    const result = await host.ask({ ...given, client: "nerdctl" });
    expect(result, result.msg).toMatchObject({ changed: true, msg: "published: nginx", warnings: [] });
    expect(host.kernel("nat")).toContain("172.17.0.3:80");
  });
});
