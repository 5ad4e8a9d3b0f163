/*
 * The module's promise with real packets: a host with dockerd --iptables=false, a base written by hand, FORWARD
 * policy DROP; who reaches what, and what a second call, a flush and an absent daemon do.
 */

import { describe, expect } from "vitest";
import { ask, hostByHand } from "./fixtures.ts";
import { story } from "./story.ts";

/** Seconds a systemd service is given; generous, because the machine may be busy. */
const patience = { timeout: 60 };

describe.each(["systemd", "restore", "patch"] as const)("reload: %s", (reload) => {
  story("a published port answers a client, who is seen as who he is", async ({ lab }) => {
    const host = await hostByHand(lab, { name: "web1" });
    const client = await lab.client("laptop");
    await host.docker.run("web", { publish: ["8080:80"] });
    const result = await ask(host, { container: "web", reload, ...patience });
    expect(result).toMatchObject({ changed: true, msg: "published: web", warnings: [] });
    expect(await client.connect(host.address, 8080)).toMatchObject({ server: "web", peer: client.address });

    const again = await ask(host, { container: "web", reload, ...patience });
    expect(again).toMatchObject({ changed: false, reloaded: [] });

    await host.run("iptables", ["-t", "nat", "-F"]);
    expect(await client.connect(host.address, 8080)).not.toMatchObject({ peer: client.address });
    const mended = await ask(host, { container: "web", reload, ...patience });
    expect(mended).toMatchObject({ changed: true, containers: [{ name: "web", reasons: ["kernel"] }] });
    expect(await client.connect(host.address, 8080)).toMatchObject({ peer: client.address });

    await host.systemctl(["stop", "docker.socket", "docker.service"]);
    const gone = await ask(host, { container: "web", state: "absent", reload, ...patience });
    expect(gone).toMatchObject({ changed: true, msg: "unpublished: web" });
    expect(await host.list("/etc/iptables.d")).toEqual(["10_docker", "90_docker"]);
    expect((await host.run("iptables-save")).stdout).not.toContain("docker_iptables: web");
    expect((await host.run("iptables", ["-S", "FORWARD"])).stdout).toContain("-P FORWARD DROP");
  });
});

story("a user-defined network publishes with its own bridge", async ({ lab }) => {
  const host = await hostByHand(lab, { name: "web1" });
  const client = await lab.client("laptop");
  await host.docker.cli("network", "create", "--subnet", "172.30.0.0/24", "app");
  const [network] = JSON.parse((await host.docker.cli("network", "inspect", "app")).stdout);
  const bridge = `br-${network.Id.slice(0, 12)}`;
  const established = ["-A", "FORWARD", "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT"];
  await host.write("/etc/iptables.d/10_app", `*filter\n${established.join(" ")}\nCOMMIT\n`);
  await host.docker.run("web", { publish: ["8080:80", "8080:80/udp"], network: "app" });
  const result = await ask(host, { container: "web", ...patience });
  expect(result.rules?.ipv4?.["nat"]?.[0]).toContain(`! -i ${bridge} -p tcp`);
  expect(await client.connect(host.address, 8080)).toMatchObject({ server: "web", peer: client.address });
  const udp = await client.connect(host.address, 8080, { protocol: "udp" });
  expect(udp).toMatchObject({ server: "web", peer: client.address });
});

story(
  "what is published on 127.0.0.1 stays there, and a container's address is reached by no one outside",
  async ({ lab }) => {
    // Without the guards of the host rules, which would hide what the container's do.
    const open = "*filter\n-A FORWARD -i docker0 -j ACCEPT\nCOMMIT\n";
    const host = await hostByHand(lab, { name: "web1", files: { "/etc/iptables.d/90_docker": open } });
    const client = await lab.client("laptop");
    await host.docker.run("local", { publish: ["127.0.0.1:8081:80"] });
    const address = await host.docker.address("local");
    await client.route("127.0.0.1/32", host.address);
    await client.route("172.17.0.0/16", host.address);
    // So would the policy: without it, the on-link host gets in.
    await host.run("iptables", ["-P", "FORWARD", "ACCEPT"]);
    expect(await client.connect(address, 80)).toMatchObject({ reached: true, peer: client.address });

    expect(await ask(host, { container: "local", ...patience })).toMatchObject({ changed: true });
    expect(await client.connect(host.address, 8081)).toMatchObject({ reached: false });
    expect(await client.connect("127.0.0.1", 8081)).toMatchObject({ reached: false });
    expect(await client.connect(address, 80)).toMatchObject({ reached: false });
    expect(await host.connect("127.0.0.1", 8081)).toMatchObject({ reached: true, server: "local" });

    // The same probes get in when the guards are removed by hand: so the guards block them.
    await host.run("iptables", ["-t", "raw", "-F"]);
    expect(await client.connect("127.0.0.1", 8081)).toMatchObject({ reached: true, server: "local" });
    expect(await client.connect(address, 80)).toMatchObject({ reached: true });
  },
);
