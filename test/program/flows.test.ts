// The executable on a fake host: after a change, stale UDP flows are deleted, and no others.

import { rmSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { type FakeHost, fakeHost } from "./host.ts";

const UDP = { "53/udp": [{ HostIp: "0.0.0.0", HostPort: "53" }] };
const TCP = { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8080" }] };

/** Its first packet was for a port of 127.0.0.1, the one address that every host has, and was sent to `to`. */
function flow(to: string, port = 53, sport = 1000): string {
  return (
    `udp      17 29 src=198.51.100.1 dst=127.0.0.1 sport=${sport} dport=${port} ` +
    `src=${to} dst=198.51.100.1 sport=${port} dport=${sport} [ASSURED] mark=0 use=1`
  );
}

function conntracks(host: FakeHost): string[] {
  return host.calls().filter((call) => call.startsWith("conntrack"));
}

/** web is published at 172.17.0.2, and has moved to 172.17.0.9. */
async function movedHost(ports: NonNullable<Parameters<FakeHost["container"]>[1]>["ports"] = UDP): Promise<FakeHost> {
  const host = fakeHost();
  host.container("web", { ports });
  await host.ask({ container: "web" });
  host.container("web", { ports, address: "172.17.0.9" });
  host.calls();
  return host;
}

const LIST = "conntrack -L -p udp -f ipv4";
const STALE =
  "conntrack -D -p udp -f ipv4 --orig-dst 127.0.0.1 --orig-port-dst 53 --reply-src 172.17.0.2 --reply-port-src 53";
const OTHERS = [
  flow("172.17.0.9", 53, 7),
  flow("10.9.9.9", 53, 8),
  flow("172.17.0.2", 54, 9),
  "udp      17 29 src=127.0.0.1 dst=8.8.8.8 sport=9 dport=53 src=8.8.8.8 dst=127.0.0.1 sport=53 dport=9 mark=0 use=1",
];

test.each(["systemd", "restore", "patch"])(
  "the flows to the former address go after the load (reload: %s)",
  async (reload) => {
    const host = await movedHost();
    host.setFlows([flow("172.17.0.2"), ...OTHERS, flow("172.17.0.2", 53, 1001)]);
    expect(await host.ask({ container: "web", reload })).toMatchObject({ changed: true, warnings: [] });
    expect(host.flows()).toEqual(OTHERS);
    const calls = host.calls();
    expect(calls.slice(-2)).toEqual([LIST, STALE]);

    expect(await host.ask({ container: "web", reload })).toMatchObject({ changed: false, warnings: [] });
    expect(conntracks(host)).toEqual([]);
  },
);

test("absent: flows to the container are deleted", async () => {
  const host = await movedHost();
  host.setFlows([flow("172.17.0.2"), ...OTHERS]);
  expect(await host.ask({ container: "web", state: "absent" })).toMatchObject({ changed: true, warnings: [] });
  expect(host.flows()).toEqual(OTHERS);
});

test("another process's load has brought the rules: the flows of what this one wrote still go", async () => {
  const host = await movedHost();
  host.setFlows([flow("172.17.0.2")]);
  // The kernel gets the new address between the read and the load.
  host.on("systemctl", `sed -i s/172.17.0.2/172.17.0.9/ "$FAKE"/kernel/ipv4/*`);
  expect(await host.ask({ container: "web" })).toMatchObject({ changed: true, reloaded: [] });
  expect(host.flows()).toEqual([]);
});

test.each<[string, Record<string, unknown>, typeof UDP | typeof TCP]>([
  ["only TCP changes", {}, TCP],
  ["check mode", { _ansible_check_mode: true }, UDP],
  ["nothing is loaded", { reload: "none" }, UDP],
])("no process where %s", async (_what, more, ports) => {
  const host = await movedHost(ports);
  expect(await host.ask({ container: "web", ...more })).toMatchObject({ changed: true, warnings: [] });
  expect(conntracks(host)).toEqual([]);
});

test("a load that is rolled back touches no flow", async () => {
  const host = await movedHost();
  host.setFlows([flow("172.17.0.2")]);
  host.on("systemctl", `case "$*" in *reload*) exit 1 ;; esac`);
  expect(await host.ask({ container: "web" })).toMatchObject({ failed: true });
  expect(conntracks(host)).toEqual([]);
});

describe("conntrack", () => {
  const FAILS = "echo 'conntrack v1.4.7: Operation failed: sorry' >&2; exit 1";
  const KEEPS = "UDP clients of port 53 that keep sending may still reach the old destination: ";
  test("is missing: a warning says what may stay, and what to install", async () => {
    const host = await movedHost();
    rmSync(join(host.bin, "conntrack"));
    const warnings = [`${KEEPS}conntrack is not installed, or not on PATH; install conntrack`];
    const result = await host.ask({ container: "web" });
    expect(result).toMatchObject({ changed: true });
    expect(result.failed).toBeUndefined();
    expect(result.warnings).toEqual(warnings);
  });

  test.each([
    ["-L", "the flows cannot be read", LIST],
    ["-D", "the stale flows could not be deleted", STALE],
  ])("fails at %s: a warning in its own words", async (option, what, command) => {
    const host = await movedHost();
    host.setFlows([flow("172.17.0.2")]);
    host.on("conntrack", `if [ $1 = ${option} ]; then ${FAILS}; fi`);
    const result = await host.ask({ container: "web" });
    expect(result).toMatchObject({ changed: true });
    expect(result.failed).toBeUndefined();
    const said = "failed with exit status 1: conntrack v1.4.7: Operation failed: sorry";
    expect(result.warnings).toEqual([`${KEEPS}${what}: '${command}' ${said}`]);
    expect(host.kernel("nat")).toContain("172.17.0.9");
  });

  test("finds none any more: the flow has ended, and that is well", async () => {
    const host = await movedHost();
    host.setFlows([flow("172.17.0.2")]);
    host.on("conntrack", 'if [ $1 = -D ]; then : > "$FAKE/flows/ipv4"; fi');
    expect(await host.ask({ container: "web" })).toMatchObject({ changed: true, warnings: [] });
  });

  const MANY = Object.fromEntries(
    Array.from({ length: 60 }, (_, n) => [`${5000 + n}/udp`, [{ HostIp: "0.0.0.0", HostPort: `${5000 + n}` }]]),
  );
  const flowsOfMany = Array.from({ length: 60 }, (_, n) => flow("172.17.0.2", 5000 + n));

  test("is two processes, however many ports and flows there are", async () => {
    const host = await movedHost(MANY);
    host.setFlows([...flowsOfMany, ...OTHERS]);
    expect(await host.ask({ container: "web" })).toMatchObject({ warnings: [] });
    expect(host.flows()).toEqual(OTHERS);
    expect(conntracks(host).filter((call) => !call.includes("-D"))).toEqual([LIST, "conntrack -R -"]);
  });

  test("is too old to take them from stdin: one after the other", async () => {
    const host = await movedHost(MANY);
    host.setFlows([...flowsOfMany, ...OTHERS]);
    host.on("conntrack", "if [ $1 = -R ]; then exit 2; fi");
    expect(await host.ask({ container: "web" })).toMatchObject({ warnings: [] });
    expect(host.flows()).toEqual(OTHERS);
  });
});
