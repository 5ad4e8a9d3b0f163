// The verb explain: what it asks, what it answers, and that it changes nothing. The lab holds its words against packets.

import { expect, test } from "vitest";
import { fakeHost, readAnswer } from "./host.ts";

const PORTS = {
  "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8080" }],
  "81/tcp": [{ HostIp: "127.0.0.1", HostPort: "8081" }],
};

function explain(...more: string[]): string[] {
  return ["explain", "web", ...more];
}

async function publishedHost() {
  const host = fakeHost();
  host.interfaces({ lo: ["127.0.0.1/8", "172.17.0.1/16"], eth0: ["192.0.2.1/24"] });
  host.container("web", { ports: PORTS });
  await host.boot();
  await host.ask({ container: "web" });
  host.calls();
  return host;
}

test("one answer for each published port; nothing is changed, and no lock is taken", async () => {
  const host = await publishedHost();
  const before = host.state();
  const result = readAnswer(await host.run(explain("--json")));
  expect(result).toMatchObject({ changed: false, msg: "2 published ports or ranges traced" });
  expect(result.explained?.map(({ publish }) => publish)).toEqual(["127.0.0.1:8081/tcp", "0.0.0.0:8080/tcp"]);
  expect(host.state()).toEqual(before);
  const calls = host.calls().map((call) => call.split(" ")[0]);
  expect([...new Set(calls)].sort()).not.toContain("flock");
  expect(calls.filter((name) => name?.endsWith("restore"))).toEqual([]);
});

test("the rule that decides is the kernel's, whatever the fragments say", async () => {
  const host = await publishedHost();
  host.setKernel("raw", "*raw\n:PREROUTING DROP [0:0]\nCOMMIT\n");
  const result = readAnswer(await host.run(explain("--json")));
  const views = result.explained?.flatMap((one) => one.views) ?? [];
  const outside = views.filter(({ from }) => from !== "this host");
  expect(outside.length).toBeGreaterThan(2);
  for (const view of outside)
    expect(view).toMatchObject({ reaches: false, by: [":PREROUTING DROP"], why: "dropped by a rule" });
});

test("for a person: a line for each view, the rules below it", async () => {
  const host = await publishedHost();
  const { stdout, exitCode } = await host.run(explain());
  expect(exitCode).toBe(0);
  expect(stdout).toMatch(/^0\.0\.0\.0:8080\/tcp of web\n {2}another machine/m);
  expect(stdout).toMatch(/^ {6}-A DOCKER_CONTAINERS ! -i lo -p tcp .*172\.17\.0\.2:80$/m);
});

test("a container that is not there, or publishes nothing", async () => {
  const host = await publishedHost();
  const missing = readAnswer(await host.run(["explain", "nobody", "--json"]));
  expect(missing).toMatchObject({ failed: true, error: { code: "container_missing" } });
  host.container("plain");
  const plain = readAnswer(await host.run(["explain", "plain", "--json"]));
  expect(plain).toMatchObject({ msg: "plain publishes no port", explained: [] });
  const usage = await host.run(["explain"]);
  expect([usage.exitCode, usage.stderr]).toEqual([2, expect.stringContaining("explain needs the name of a container")]);
});

type Views = NonNullable<NonNullable<ReturnType<typeof readAnswer>["explained"]>[number]["views"]>;

const machines = (views: Views = []) => views.filter(({ from }) => from.startsWith("another machine"));

test("a list is shown, and asked for a source that is on it, one that is not, and each interface", async () => {
  const host = await publishedHost();
  host.interfaces({ lo: ["127.0.0.1/8", "172.17.0.1/16"], eth0: ["192.0.2.1/24"], eth1: ["198.51.100.1/24"] });
  await host.ask({ container: "web", allow: { "8080/tcp": ["10.0.0.0/8", "eth1"] } });
  const [loopback, web] = readAnswer(await host.run(explain("--json"))).explained ?? [];
  expect(loopback).not.toHaveProperty("from");
  expect(web?.from).toBe("10.0.0.0/8, eth1");
  expect(machines(web?.views)).toMatchObject([
    { from: "another machine from 10.0.0.0/8 by eth0", sources: ["10.0.0.0/8"], interfaces: ["eth0"], reaches: true },
    {
      ...{ from: "another machine from elsewhere by eth0", source: "203.0.113.9", interface: "eth0" },
      ...{ sources: ["0.0.0.0/0"], reaches: false, why: "dropped by a rule", unless: [] },
      by: [expect.stringContaining("-j DNAT"), expect.stringMatching(/^-A ALLOW-[\da-f]{20} .*-j DROP$/)],
    },
    { from: "another machine by eth1", to: "198.51.100.1:8080", interfaces: ["eth1"], reaches: true },
  ]);
  const { stdout } = await host.run(explain());
  expect(stdout).toMatch(/^0\.0\.0\.0:8080\/tcp of web, from 10\.0\.0\.0\/8, eth1 only\n {2}another machine from 10/m);
  await host.ask({ container: "web", allow: { "8080/tcp": [] } });
  const closed = await host.run(explain());
  expect(closed.stdout).toMatch(
    /^0\.0\.0\.0:8080\/tcp of web, from this host only\n {2}another machine {2}.*no: dropped/m,
  );
});

test("without a list, and where rules tell nobody apart, another machine is one view", async () => {
  const host = await publishedHost();
  host.interfaces({ lo: ["127.0.0.1/8", "172.17.0.1/16"], eth0: ["192.0.2.1/24"], eth1: ["198.51.100.1/24"] });
  const [, web] = readAnswer(await host.run(explain("--json"))).explained ?? [];
  const [view, ...others] = machines(web?.views);
  expect(others).toEqual([]);
  expect(view).toMatchObject({ from: "another machine", source: "203.0.113.9", interface: "eth0" });
  for (const one of web?.views ?? []) for (const key of ["sources", "interfaces"]) expect(one).not.toHaveProperty(key);
  expect(web?.views.find(({ from }) => from === "this host")).toMatchObject({ source: "127.0.0.1", interface: null });
  host.setKernel("raw", "*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -i eth0 -j DROP\nCOMMIT\n");
  const [, closed] = readAnswer(await host.run(explain("--json"))).explained ?? [];
  expect(machines(closed?.views)).toMatchObject([
    { from: "another machine by eth0", reaches: false },
    { from: "another machine by eth1", reaches: true },
  ]);
});

test("ports that follow each other and have different lists are not one", async () => {
  const host = await publishedHost();
  const published = [9000, 9001, 9002].map((port) => [`${port}/tcp`, [{ HostIp: "0.0.0.0", HostPort: `${port}` }]]);
  host.container("web", { ports: Object.fromEntries(published) });
  await host.ask({ container: "web", allow: { "9001-9002/tcp": ["10.0.0.0/8"] } });
  const { explained = [] } = readAnswer(await host.run(explain("--json")));
  expect(explained.map(({ publish, from }) => [publish, from])).toEqual([
    ["0.0.0.0:9000/tcp", undefined],
    ["0.0.0.0:9001-9002/tcp", "10.0.0.0/8"],
  ]);
});

test("of very many sources some are not asked for, which is said", async () => {
  const host = await publishedHost();
  const some = Array.from({ length: 600 }, (_, at) => `-A PREROUTING -s 10.0.${at >> 8}.${at & 255}/32 -j DROP`);
  host.setKernel("raw", ["*raw", ":PREROUTING ACCEPT [0:0]", ...some, "COMMIT", ""].join("\n"));
  const { warnings, explained = [] } = readAnswer(await host.run(explain("--json")));
  expect(warnings).toContain(
    "rules name too many sources on the way to 0.0.0.0:8080/tcp: 100 of them are not asked for",
  );
  expect(machines(explained[1]?.views)[0]?.from).toBe("another machine from 10.0.0.0, 10.0.0.1, 10.0.0.2 and 497 more");
});
