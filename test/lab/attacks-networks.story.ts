/*
 * Networks that an attacker chose: with the gateway of the host's own bridge or card they open nothing behind it, by packets. And
 * processes that call themselves docker-proxy.
 */

import { expect } from "vitest";
import type { Problem } from "../../src/generated/result.ts";
import { ask, until } from "./fixtures.ts";
import type { Host } from "./host.ts";
import { story } from "./story.ts";

/** A machine behind an interface of the host's, which answers on port 22 as the lab's servers do. */
async function machineBehind(host: Host, name: string, gateway: string, address: string): Promise<void> {
  const isBridge = name.startsWith("virbr");
  const port = isBridge ? `${name}-vm` : name;
  const lines = [
    ...(isBridge ? [`link add ${name} type bridge`] : []),
    `netns add vm-${name}`,
    `link add ${port} type veth peer name vm0 netns vm-${name}`,
    ...(isBridge ? [`link set ${port} master ${name} up`] : []),
    `link set ${name} up`,
    `address add ${gateway}/24 dev ${name}`,
  ];
  for (const line of lines) await host.run("ip", line.split(" "));
  for (const line of [
    "link set lo up",
    "link set vm0 up",
    `address add ${address}/24 dev vm0`,
    `route add default via ${gateway}`,
  ])
    await host.run("ip", ["-n", `vm-${name}`, ...line.split(" ")]);
  const serve = `require("net").createServer((s) => s.end(s.remoteAddress + " " + s.remotePort + " vm-${name} 22\\n")).listen(22, "0.0.0.0")`;
  await host.run("systemd-run", [
    "--quiet",
    `--unit=vm-${name}`,
    "ip",
    "netns",
    "exec",
    `vm-${name}`,
    "node",
    "-e",
    serve,
  ]);
  await until(async () => (await host.connect(address, 22)).reached);
}

async function problemsOf(host: Host): Promise<Problem[]> {
  const { stdout } = await host.run("docker_iptables", ["status", "--json"], { check: false });
  return JSON.parse(stdout).problems;
}

story("a network with the gateway of another interface opens no machine behind it", async ({ lab }) => {
  // docker-proxy would lead to the machine as well, by the host's own route: that is not the way that is looked at.
  const mine = "*filter\n-A INPUT -p tcp -m tcp --dport 2222:2223 -j DROP\n-A FORWARD -o virbr0 -j REJECT\nCOMMIT\n";
  const host = await lab.host({ name: "web1", files: { "/etc/iptables.d/50_mine": mine } });
  const client = await lab.client("laptop");
  await machineBehind(host, "virbr0", "192.168.122.1", "192.168.122.50");
  await machineBehind(host, "eth9", "198.18.5.1", "198.18.5.2");
  await client.route("198.18.5.0/24", host.address);
  const networks = [
    ["evil", "192.168.122.0/24", "192.168.122.1", "192.168.122.50", 2222],
    ["lan", "198.18.5.0/24", "198.18.5.1", "198.18.5.2", 2223],
  ] as const;
  for (const [network, subnet, gateway, address, port] of networks) {
    await host.docker.cli("network", "create", "--subnet", subnet, "--gateway", gateway, network);
    await host.docker.run(`thief-${network}`, { network, publish: [`${port}:22`], options: ["--ip", address] });
  }
  await host.docker.run("web", { publish: ["8080:80"] });
  const set = await host.run("docker_iptables", ["setup"]);
  expect(set.stdout + set.stderr).toMatch(/network evil .* overlaps 192\.168\.122\.0\/24 on virbr0/);
  const synced = await ask(host, { all: true });
  expect(synced.warnings.join("\n")).toMatch(/thief-lan gets no rules for 198\.18\.5\.2/);

  expect(await client.connect(host.address, 8080)).toMatchObject({ reached: true, server: "web" });
  for (const [, , , , port] of networks) {
    expect(await client.connect(host.address, port, { timeoutMs: 1000 })).toMatchObject({ reached: false });
  }
  // Our guards do not block other paths to it.
  expect(await client.connect("198.18.5.2", 22)).toMatchObject({ reached: true, peer: client.address });
  const { stdout } = await host.run("iptables-save");
  const ours = stdout.split("\n").filter((line) => line.includes("docker_iptables: "));
  expect(ours.join("\n")).not.toMatch(/virbr0|eth9|-s (192\.168\.122|198\.18\.5)|-d (192\.168\.122|198\.18\.5)/);
  const kinds = (await problemsOf(host)).map(({ kind }) => kind);
  expect(kinds.filter((kind) => kind === "network_overlaps")).toHaveLength(2);
  expect(kinds).not.toContain("docker_proxy_untrusted");

  // The packets of such rules would get there.
  await host.run("iptables", [
    "-t",
    "nat",
    "-I",
    "PREROUTING",
    ..."-p tcp --dport 2222 -j DNAT --to 192.168.122.50:22".split(" "),
  ]);
  await host.run("iptables", ["-I", "FORWARD", ..."-d 192.168.122.50 -o virbr0 -j ACCEPT".split(" ")]);
  expect(await client.connect(host.address, 2222)).toMatchObject({ reached: true, server: "vm-virbr0" });
});

story("a process of another user's that calls itself docker-proxy changes no rule", async ({ lab }) => {
  const host = await lab.host({ name: "web1", docker: { userlandProxy: false } });
  await host.docker.run("web", { publish: ["8080:80"] });
  await host.run("docker_iptables", ["setup"]);
  await ask(host, { container: "web" });
  const address = await host.docker.address("web");
  const called = `ln -s /bin/sh /tmp/docker-proxy; exec setpriv --reuid 65534 --regid 65534 --clear-groups /tmp/docker-proxy -c 'sleep 1000; true' x -container-ip ${address}`;
  await host.run("systemd-run", ["--quiet", "--unit=fake", "sh", "-c", called]);
  await until(async () => (await host.run("pgrep", ["-x", "docker-proxy"], { check: false })).exitCode === 0);

  const { changed, warnings } = await ask(host, { all: true });
  expect(changed).toBe(false);
  expect(warnings.join("\n")).toMatch(/is named docker-proxy/);
  expect((await problemsOf(host)).map(({ kind }) => kind)).toContain("docker_proxy_untrusted");
  expect(await host.docker.connect("web", host.address, 8080)).toMatchObject({ reached: true, server: "web" });
});

story("the daemon's own docker-proxies are believed, also after it was killed and lives again", async ({ lab }) => {
  const host = await lab.host({ name: "web1", docker: { liveRestore: true } });
  await host.docker.run("web", { publish: ["8080:80"] });
  await host.run("docker_iptables", ["setup"]);
  await host.run("sysctl", ["-q", "-w", "net.ipv4.conf.docker0.route_localnet=1"]);
  const isReported = async () => {
    const { rules, warnings } = await ask(host, { container: "web" });
    expect(rules?.ipv4?.["nat"]?.join("\n")).toContain("! -i docker0");
    expect(warnings.join("\n")).not.toMatch(/docker-proxy/);
    expect((await problemsOf(host)).map(({ kind }) => kind)).not.toContain("docker_proxy_untrusted");
  };
  await isReported();
  await host.systemctl(["kill", "--signal=KILL", "--kill-whom=main", "docker.service"], { check: false });
  await host.systemctl(["restart", "docker.service"]);
  await until(async () => (await host.run("pgrep", ["-x", "docker-proxy"], { check: false })).exitCode === 0);
  await isReported();
});
