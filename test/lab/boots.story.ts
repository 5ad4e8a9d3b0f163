/*
 * Boots of hosts whose fragments depend on what is not there yet, or are broken: nothing that was closed is open at any moment,
 * from before the LAN is up to the end; what is missing is reported, and loaded when possible.
 */

import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect } from "vitest";
import type { Client } from "./client.ts";
import { hostByHand, until } from "./fixtures.ts";
import type { Host, HostOptions } from "./host.ts";
import type { Lab } from "./lab.ts";
import type { ProbeResult } from "./probe.ts";
import { story, storyWith } from "./story.ts";

const OWN = "/etc/iptables.d/05_host";
const BROKEN = "*filter\n-A FORWARD -j NO_SUCH_CHAIN\nCOMMIT\n";

const SSH = "-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT";

/** Only these rules let anything in. */
function closedBut(...rules: string[]): string {
  return ["*filter", ":INPUT DROP [0:0]", "-A INPUT -i lo -j ACCEPT", ...rules, "COMMIT", ""].join("\n");
}

/** A host of these rules that comes to its LAN as a machine does. Docker is not needed. */
async function bootable(lab: Lab, own: string, options: Partial<HostOptions> = {}): Promise<Host> {
  const common = { name: "boots", lanByUnit: true, docker: { atBoot: false } };
  return hostByHand(lab, { ...common, ...options, files: { [OWN]: own, ...options.files } });
}

/**
 * Whether packets to a port without a listener pass: one that is lost is sent again within the time. A host that has just
 * booted is a neighbour that the client may still hold for unreachable.
 */
async function isOpen(host: Host, client: Client, port: number, timeoutMs = 5000): Promise<boolean> {
  const answer = await client.connect(host.address, port, { timeoutMs });
  if (!answer.reached && answer.why === "unreachable") return isOpen(host, client, port, timeoutMs);
  return passes(answer);
}

const passes = (answer: ProbeResult) => answer.reached || answer.why === "refused";

/** Tries these ports all the while; returns those that were open at any moment. */
async function opened(host: Host, client: Client, ports: readonly number[], body: () => Promise<void>) {
  const found = new Set<number>();
  const going = new AbortController();
  const trying = ports.map(async (port) => {
    while (!going.signal.aborted) {
      void client.connect(host.address, port, { timeoutMs: 400 }).then((one) => passes(one) && found.add(port));
      await sleep(10);
    }
  });
  try {
    await body();
  } finally {
    going.abort();
    await Promise.all(trying);
    await sleep(400);
  }
  return [...found].sort();
}

const inputOf = async (host: Host) => (await host.run("iptables", ["-S", "INPUT"])).stdout;

async function expectFailed(host: Host, ...words: string[]): Promise<void> {
  const { stdout } = await host.systemctl(["is-failed", "iptables"], { check: false });
  expect(stdout).toBe("failed\n");
  const journal = await host.journal("iptables");
  for (const one of words) expect(journal).toContain(one);
}

describe.each(["nft", "legacy"] as const)("iptables-%s", (backend) => {
  storyWith({ packages: ["ipset"] })(
    "sets that are not there keep out whom they let in, and come later",
    async ({ lab }) => {
      const host = await bootable(lab, "", { backend });
      const client = await lab.client("laptop");
      await host.run("sh", ["-ec", "ipset create banned hash:net; ipset create trusted hash:ip"]);
      const own = closedBut(
        "-A INPUT -m set --match-set banned src -j DROP",
        "-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT",
        "-A INPUT -p tcp -m tcp --dport 23 -m set --match-set trusted src -j ACCEPT",
        "-A INPUT -p tcp -m tcp --dport 24 -m set ! --match-set trusted src -j DROP",
        "-A INPUT -p tcp -m tcp --dport 24 -j ACCEPT",
      );
      await host.write(OWN, own);
      await host.systemctl(["reload", "iptables"]);
      expect(await opened(host, client, [23, 24, 9999], () => host.reboot())).toEqual([]);
      expect(await isOpen(host, client, 22)).toBe(true);
      await expectFailed(host, `${OWN} line 4`, "BLOCKS NOBODY", `${OWN} line 6`, `${OWN} line 7`);
      expect(await inputOf(host)).toContain("-A INPUT -p tcp -m tcp --dport 24 -j DROP");

      await host.run("sh", [
        "-ec",
        `ipset create banned hash:net; ipset create trusted hash:ip; ipset add trusted ${client.address}`,
      ]);
      await host.systemctl(["start", "iptables"]);
      expect(await inputOf(host)).toContain("--match-set banned src -j DROP");
      expect(await Promise.all([22, 23, 24, 9999].map((port) => isOpen(host, client, port)))).toEqual([
        true,
        true,
        true,
        false,
      ]);
    },
  );
});

story(
  "a host name that does not resolve has the addresses of the last load; one that never did lets nobody in",
  async ({ lab }) => {
    const host = await bootable(lab, "");
    const client = await lab.client("laptop");
    const hosts = await host.read("/etc/hosts");
    await host.write("/etc/hosts", `${hosts}${client.address} admin.example.test\n`);
    const admin = "-A INPUT -s admin.example.test -p tcp -m tcp --dport 22 -j ACCEPT";
    await host.write(OWN, closedBut(admin));
    await host.systemctl(["reload", "iptables"]);
    expect(await isOpen(host, client, 22)).toBe(true);
    await host.write("/etc/hosts", hosts);
    expect(await opened(host, client, [23], () => host.reboot())).toEqual([]);
    expect((await host.systemctl(["is-active", "iptables"])).stdout).toBe("active\n");
    expect(await isOpen(host, client, 22)).toBe(true);

    const never = "-A INPUT -s new.example.test -p tcp -m tcp --dport 23 -j ACCEPT";
    await host.write(OWN, closedBut(never, admin));
    expect(await opened(host, client, [23], () => host.reboot())).toEqual([]);
    await expectFailed(host, `${OWN} line 4`, "the host name new.example.test does not resolve");
    expect(await isOpen(host, client, 22)).toBe(true);
    await host.write("/etc/hosts", `${hosts}${client.address} new.example.test\n`);
    await host.systemctl(["start", "iptables"]);
    expect(await Promise.all([22, 23].map((port) => isOpen(host, client, port)))).toEqual([true, true]);
  },
);

for (const loader of ["the watcher", "create --reload restore"]) {
  story(`a broken fragment after a change that ${loader} loaded: what ran last is there`, async ({ lab }) => {
    const host = await lab.host({ name: "changed", lanByUnit: true, files: { [OWN]: closedBut(SSH) } });
    const client = await lab.client("laptop");
    await host.run("docker_iptables", ["setup", ...(loader === "the watcher" ? ["--watch"] : [])]);
    await host.docker.run("web", { publish: ["8080:80"] });
    const load = async () => {
      if (loader !== "the watcher") await host.run("docker_iptables", ["create", "web", "--reload", "restore"]);
      await until(async () => (await client.connect(host.address, 8080)).reached);
    };
    await load();
    expect(await isOpen(host, client, 22)).toBe(true);
    await host.write(OWN, closedBut());
    // So it gets another address.
    await host.docker.cli("stop", "--time=0", "web");
    await host.docker.run("other");
    await host.docker.cli("start", "web");
    await load();
    await until(async () => !(await isOpen(host, client, 22, 400)));
    await host.write("/etc/iptables.d/20_bad", BROKEN);
    // A machine without power is not on its LAN.
    await host.run("ip", ["link", "set", "eth0", "down"]);
    await host.powerCut();
    expect(await opened(host, client, [22, 9999], () => host.boot())).toEqual([]);
    await expectFailed(host, "/etc/iptables.d/20_bad line 2", "last good");
    expect(await inputOf(host)).toBe("-P INPUT DROP\n-A INPUT -i lo -j ACCEPT\n");
  });
}

story("a garbled last good text and a broken fragment: all that can be loaded is", async ({ lab }) => {
  const host = await bootable(lab, closedBut(SSH));
  const client = await lab.client("laptop");
  await host.write("/etc/iptables.d/20_bad", BROKEN);
  for (const garbled of ["*filter\n:INPUT ACC", "\0\0\0\0"]) {
    await host.write("/var/lib/docker_iptables/ipv4.rules", garbled, 0o600);
    expect(await opened(host, client, [23, 9999], () => host.reboot())).toEqual([]);
    await expectFailed(host, "/etc/iptables.d/20_bad line 2", "the IPv4 rules that can be loaded were loaded instead");
    expect(await isOpen(host, client, 22)).toBe(true);
  }
});
