// Networks and processes that an attacker chose: no rule leads to an interface that is not the container's own bridge.

import { spawn } from "node:child_process";
import { mkdtempSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import type { Problem } from "../../src/generated/result.ts";
import { firstLine } from "../first-line.ts";
import { type FakeHost, fakeHost, NATIVE } from "../program/host.ts";
import type { Addresses } from "../program/interfaces.ts";

const EVIL = "e".repeat(64);
const BRIDGE = `br-${EVIL.slice(0, 12)}`;
const LOOPBACK = { lo: ["127.0.0.1/8", "::1/128"] };
const dirs = (host: FakeHost) => ["--iptables-dir", host.iptablesDir, "--ip6tables-dir", host.ip6tablesDir];

/** A host with these interfaces, and a container in a network of its own that has this subnet and gateway. */
function hostWith(interfaces: Addresses, subnet: string, gateway: string, address: string): FakeHost {
  const host = fakeHost();
  host.interfaces({ ...LOOPBACK, ...interfaces });
  const Options = { "com.docker.network.bridge.name": "lo" };
  host.network("bridge", { Options, IPAM: { Config: [{ Subnet: "172.17.0.0/16" }] } });
  host.network("evil", { Id: EVIL, IPAM: { Config: [{ Subnet: subnet, Gateway: gateway }] } });
  joined(host, "thief", "evil", EVIL, address, gateway, 2222);
  host.container("web", { ports: { "80/tcp": [{ HostIp: "", HostPort: "8080" }] } });
  return host;
}

function joined(
  host: FakeHost,
  name: string,
  network: string,
  id: string,
  address: string,
  gateway: string,
  port: number,
) {
  host.container(name, { ports: { "22/tcp": [{ HostIp: "", HostPort: String(port) }] } });
  const document = JSON.parse(host.documentOf(name));
  document.NetworkSettings.Networks = { [network]: { NetworkID: id, IPAddress: address, Gateway: gateway } };
  host.document(name, document);
}

async function problemsOf(host: FakeHost): Promise<Problem[]> {
  return JSON.parse((await host.run(["status", "--json", ...dirs(host)])).stdout).problems;
}

describe.skipIf(NATIVE).each([
  [
    "a bridge of virtual machines",
    "virbr0",
    { virbr0: ["192.168.122.1/24"], [BRIDGE]: ["192.168.122.1/24"] },
    "192.168.122",
  ],
  ["a network card", "eth1", { eth1: ["198.18.5.1/24"], [BRIDGE]: ["198.18.5.9/24"] }, "198.18.5"],
  ["an interface, and the bridge has no address", "eth1", { eth1: ["198.18.5.1/24"], [BRIDGE]: [] }, "198.18.5"],
])("a network with the gateway of %s", (_, other, interfaces, net) => {
  const make = () => hostWith(interfaces, `${net}.0/24`, `${net}.1`, `${net}.50`);

  test("publishes nothing there, and create says why", async () => {
    const host = make();
    const { warnings } = await host.ask({ container: "thief" });
    expect(host.fragment("thief")).toBeUndefined();
    expect(warnings.join("\n")).toContain(`overlaps ${net}.0/24 on ${other}`);
    expect(warnings.join("\n")).toContain(`thief gets no rules for ${net}.50`);
    for (const table of ["nat", "filter", "raw"]) expect(host.kernel(table)).not.toMatch(`${net}.50|${other}`);
  });

  test("affects no other, in sync, setup and status, which report it", async () => {
    const host = make().bare();
    const synced = await host.ask({ all: true, base: true, reload: "restore" });
    expect(synced.failed, synced.msg).toBeUndefined();
    expect(host.fragment("web")).toBeDefined();
    expect(host.fragment("thief")).toBeUndefined();
    expect(synced.warnings.filter((one) => one.includes("overlaps"))).toHaveLength(1);
    const tables = ["nat", "filter", "raw"].map((table) => host.kernel(table)).join("\n");
    expect(tables).not.toMatch(`${other}|-s ${net}`);
    expect((await problemsOf(host)).map(({ kind }) => kind)).toContain("network_overlaps");
  });
});

test.skipIf(NATIVE)(
  "rules are removed when another interface gets the subnet, and made again when it is gone",
  async () => {
    const host = hostWith({ [BRIDGE]: ["10.5.0.1/16"] }, "10.5.0.0/16", "10.5.0.1", "10.5.7.2");
    await host.ask({ all: true });
    expect(host.kernel("filter")).toContain("10.5.7.2");
    const former = { ...LOOPBACK, [BRIDGE]: ["10.5.0.1/16"] };
    host.interfaces({ ...former, tun0: ["10.5.7.9/24"] });
    await host.ask({ all: true });
    expect(host.fragment("thief")).toBeUndefined();
    expect(host.kernel("filter")).not.toContain("10.5.7.2");
    host.interfaces({ ...former, tun0: ["10.9.9.9/8"] });
    await host.ask({ all: true });
    expect(host.kernel("filter")).toContain(`10.5.7.2/32 ! -i ${BRIDGE} -o ${BRIDGE}`);
  },
);

describe("a process that calls itself docker-proxy", () => {
  const ends: (() => void)[] = [];
  afterAll(() => ends.forEach((end) => void end()));

  test("is reported by status, and not served", async () => {
    const program = join(mkdtempSync(join(tmpdir(), "docker_iptables-proxy-")), "docker-proxy");
    symlinkSync("/bin/sh", program);
    const flags = "-proto tcp -host-ip 0.0.0.0 -host-port 8080 -container-ip 172.17.0.2 -container-port 80".split(" ");
    const host = fakeHost();
    const child = spawn(program, ["-c", "echo; read line", program, ...flags], {
      stdio: ["pipe", "pipe", "inherit"],
      env: { ...process.env, FAKE: host.fake },
    });
    ends.push(() => child.kill("SIGKILL"));
    await firstLine(child);
    const told = (await problemsOf(host)).filter(({ kind }) => kind === "docker_proxy_untrusted");
    expect(told).toHaveLength(1);
    expect(told[0]?.msg).toContain(String(child.pid));
    // Each host has its own processes.
    expect((await problemsOf(fakeHost())).filter(({ kind }) => kind === "docker_proxy_untrusted")).toEqual([]);
  });
});
