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
  expect(calls.filter((name) => name?.endsWith("restore"))).toEqual(
    ["iptables-restore", "ip6tables-restore"].slice(0, 1),
  );
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
