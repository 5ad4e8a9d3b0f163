/*
 * The lab itself: what a host, a client and a container are, before any of this project's rules.
 */

import { readFileSync } from "node:fs";
import { execa } from "execa";
import { describe, expect, test } from "vitest";
import { packageRoot } from "./packages.ts";
import { story } from "./story.ts";

test("what a machine lacks is no more than the README says", async () => {
  const page = readFileSync(new URL("../../README.md", import.meta.url), "utf8");
  const megabytes = Number(/the machine lacks \(about (\d+) MB\)/.exec(page)?.[1]);
  const { stdout } = await execa("sh", ["-c", 'du --summarize --block-size=1M "$0"', await packageRoot()]);
  expect(Number.parseInt(stdout, 10)).toBeLessThanOrEqual(megabytes * 1.1);
});

describe.each(["nft", "legacy"] as const)("a host with iptables-%s", (backend) => {
  story("is reached through docker-proxy, and by rules with the client's own address", async ({ lab }) => {
    const host = await lab.host({ name: "web1", backend });
    const client = await lab.client("laptop");
    expect((await host.run("iptables", ["--version"])).stdout).toContain(backend === "nft" ? "nf_tables" : "legacy");
    expect((await host.run("iptables-save", ["-t", "nat"])).stdout).not.toContain("DOCKER");

    // The kernel tracks connections only once a rule asks for it.
    await host.run("iptables", ["-A", "INPUT", "-m", "conntrack", "--ctstate", "ESTABLISHED", "-j", "ACCEPT"]);

    await host.docker.run("web", { publish: ["8080:80", "8080:80/udp"] });
    const address = await host.docker.address("web");
    const byProxy = { reached: true, peer: "172.17.0.1", server: "web", port: 80 };
    expect(await client.connect(host.address, 8080)).toEqual(byProxy);
    expect(await client.connect(host.address, 8080, { protocol: "udp", sourcePort: 4000 })).toEqual(byProxy);
    expect(await client.connect(host.address6, 8080)).toEqual(byProxy);
    expect(await host.connect("127.0.0.1", 8080)).toEqual(byProxy);
    expect(await client.connect(host.address, 8081)).toEqual({ reached: false, why: "refused" });

    await host.run("iptables", ["-P", "FORWARD", "DROP"]);
    for (const protocol of ["tcp", "udp"]) {
      const match = ["-p", protocol, "--dport"];
      await host.run("iptables", [
        ...["-t", "nat", "-A", "PREROUTING", ...match, "8080", "-m", "addrtype", "--dst-type", "LOCAL"],
        ...["-j", "DNAT", "--to-destination", `${address}:80`],
      ]);
      await host.run("iptables", ["-A", "FORWARD", "-d", address, ...match, "80", "-j", "ACCEPT"]);
    }
    await host.run("iptables", ["-A", "FORWARD", "-i", "docker0", "-j", "ACCEPT"]);
    const byRule = { ...byProxy, peer: client.address };
    expect(await client.connect(host.address, 8080)).toEqual(byRule);
    expect(await client.connect(host.address, 8080, { protocol: "udp" })).toEqual(byRule);

    // A flow keeps what was decided for its first packet.
    expect(await client.connect(host.address, 8080, { protocol: "udp", sourcePort: 4000 })).toEqual(byProxy);
    await host.run("conntrack", ["-D", "-p", "udp", "--orig-port-dst", "8080"]);
    expect(await client.connect(host.address, 8080, { protocol: "udp", sourcePort: 4000 })).toEqual(byRule);
  });
});

story("hosts, clients and containers reach each other over the LAN only as routes say", async ({ lab }) => {
  const [one, two] = await Promise.all([
    lab.host({ name: "one", docker: { ipv6: true } }),
    lab.host({ name: "two", docker: { userlandProxy: false } }),
  ]);
  const client = await lab.client("laptop");
  await Promise.all([
    one.docker.run("web", { publish: ["80"] }),
    two.docker.run("web2", { publish: ["127.0.0.1:80:80"] }),
  ]);
  const address = await one.docker.address("web");

  const masquerade = [
    "-t",
    "nat",
    "-A",
    "POSTROUTING",
    "-s",
    "172.17.0.0/16",
    "!",
    "-o",
    "docker0",
    "-j",
    "MASQUERADE",
  ];
  await two.run("iptables", masquerade);
  expect(await two.docker.connect("web2", one.address, 22)).toEqual({ reached: false, why: "refused" });

  expect(await client.connect(address, 80)).toEqual({ reached: false, why: "unreachable" });
  await client.route("172.17.0.0/16", one.address);
  expect(await client.connect(address, 80)).toMatchObject({ reached: true, peer: client.address });
  await client.route("2001:db8:2::/64", one.address6);
  const address6 = await one.docker.address6("web");
  expect(await client.connect(address6, 80)).toMatchObject({ reached: true, peer: client.address6 });
  expect(await client.connect(address6, 80, { protocol: "udp" })).toMatchObject({ peer: client.address6 });

  // Published on 127.0.0.1 with a DNAT and no guard: an on-link host that routes 127.0.0.1 here gets in.
  const to = await two.docker.address("web2");
  const dnat = ["-d", "127.0.0.1", "-p", "tcp", "--dport", "80", "-j", "DNAT", "--to-destination", `${to}:80`];
  await two.run("iptables", ["-t", "nat", "-A", "PREROUTING", ...dnat]);
  await client.route("127.0.0.1/32", two.address);
  expect(await client.connect("127.0.0.1", 80)).toMatchObject({ reached: true, server: "web2" });
});

story("a reboot and a power cut keep the disk, and rules go", async ({ lab }) => {
  const host = await lab.host({ name: "web1", files: { "/etc/note": "from the start\n" } });
  const client = await lab.client("laptop");
  await host.write("/etc/systemd/system/note.service", unit("/bin/sh -c 'echo stopped >>/var/note'"));
  await host.systemctl(["enable", "--now", "note"]);
  await host.docker.run("web", { publish: ["8080:80"], options: ["--restart=always"] });
  await host.run("iptables", ["-P", "FORWARD", "DROP"]);

  await host.reboot();
  expect(await host.read("/etc/note")).toBe("from the start\n");
  expect(await host.read("/var/note")).toBe("stopped\n");
  expect((await host.run("iptables", ["-S", "FORWARD"])).stdout).toBe("-P FORWARD ACCEPT\n");
  expect(await client.connect(host.address, 8080)).toMatchObject({ reached: true, server: "web" });
  expect(await host.connect(host.address, 8080)).toMatchObject({ reached: true });

  await host.powerCut();
  expect(await client.connect(host.address, 8080, { timeoutMs: 200 })).toMatchObject({ reached: false });
  await host.boot();
  expect(await host.read("/var/note")).toBe("stopped\n");
  expect(await client.connect(host.address, 8080)).toMatchObject({ reached: true, server: "web" });

  await host.shutdown();
  expect(host.pid).toBe(0);
  await host.boot();
  expect(await host.read("/var/note")).toBe("stopped\nstopped\n");
});

function unit(execStop: string): string {
  const service = `Type=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\nExecStop=${execStop}\n`;
  return `[Service]\n${service}\n[Install]\nWantedBy=multi-user.target\n`;
}
