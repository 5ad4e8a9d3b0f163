/*
 * The story that users of the original script live on: its README to the letter, with this executable in the place of
 * the script; then the same unit in other orders of dependency, and the files that the script left behind.
 */

import { describe, expect } from "vitest";
import { example, hostByHand, ourRules, tagOriginalImage, until } from "./fixtures.ts";
import { story, storyWith } from "./story.ts";

const UNIT = "/etc/systemd/system/hello-world.service";
const NAME = "hello-world";
const FRAGMENT = `11-docker-container_${NAME}`;

describe.each(["nft", "legacy"] as const)("the original's README on iptables-%s", (backend) => {
  story("start, stop, restart, crash, reboot, shutdown", async ({ lab }) => {
    const files = {
      [UNIT]: example("systemd/hello-world.service"),
      "/etc/systemd/system/witness.service": WITNESS,
    };
    const host = await hostByHand(lab, { name: "titan", backend, files });
    const client = await lab.client("laptop");
    const seen = async () => (await client.connect(host.address, 5000)) as { peer?: string };
    await tagOriginalImage(host);

    await host.systemctl(["enable", "--now", NAME]);
    expect(await seen()).toMatchObject({ reached: true, peer: client.address });
    expect(await host.list("/etc/iptables.d")).toEqual(["10_docker", FRAGMENT, "90_docker"]);

    await host.systemctl(["stop", NAME]);
    expect(await seen()).toEqual({ reached: false, why: "refused" });
    expect(await host.list("/etc/iptables.d")).toEqual(["10_docker", "90_docker"]);
    expect(await ourRules(host)).toEqual([]);

    await host.systemctl(["start", NAME]);
    await host.systemctl(["restart", NAME]);
    expect(await seen()).toMatchObject({ reached: true, peer: client.address });

    // The unit restarts itself ten seconds after the crash; in between nothing of it is left.
    await host.docker.cli("kill", NAME);
    await until(async () => (await ourRules(host)).length === 0);
    expect(await host.list("/etc/iptables.d")).toEqual(["10_docker", "90_docker"]);
    await until(async () => (await seen()).peer === client.address);

    await host.systemctl(["enable", "witness"]);
    await host.reboot();
    await until(async () => (await seen()).peer === client.address);
    expect(await host.read("/var/witness")).toBe("10_docker\n90_docker\n");
    expect(await host.list("/etc/iptables.d")).toEqual(["10_docker", FRAGMENT, "90_docker"]);

    await host.systemctl(["disable", NAME]);
    await host.shutdown();
    await host.boot();
    expect(await host.list("/etc/iptables.d")).toEqual(["10_docker", "90_docker"]);
    expect(await ourRules(host)).toEqual([]);
    expect(await seen()).toEqual({ reached: false, why: "refused" });
  });
});

storyWith({ packages: ["nftables"] })("its unit, unchanged, on a host set up for nftables", async ({ lab }) => {
  const host = await lab.host({ name: "titan", files: { [UNIT]: example("systemd/hello-world.service") } });
  const client = await lab.client("laptop");
  const seen = async () => (await client.connect(host.address, 5000)) as { peer?: string };
  const fragments = async () => (await host.list("/etc/nftables.d")).filter((name) => name.startsWith("11-"));
  const elements = async () =>
    (await host.run("nft", ["list", "ruleset"])).stdout.match(/docker_iptables: hello-world/g);
  await tagOriginalImage(host);
  expect((await host.run("docker_iptables", ["setup", "--backend", "nft"])).exitCode).toBe(0);

  await host.systemctl(["enable", "--now", NAME]);
  expect(await seen()).toMatchObject({ reached: true, peer: client.address });
  expect(await fragments()).toEqual([`${FRAGMENT}.nft`]);
  await host.systemctl(["stop", NAME]);
  expect(await seen()).toEqual({ reached: false, why: "refused" });
  expect([await fragments(), await elements()]).toEqual([[], null]);
  await host.systemctl(["start", NAME]);
  await host.systemctl(["restart", NAME]);
  expect(await seen()).toMatchObject({ reached: true, peer: client.address });
  await host.docker.cli("kill", NAME);
  await until(async () => (await elements()) === null);
  await until(async () => (await seen()).peer === client.address);
  await host.reboot();
  await until(async () => (await seen()).peer === client.address);
  await host.systemctl(["disable", NAME]);
  await host.shutdown();
  await host.boot();
  expect([await fragments(), await elements()]).toEqual([[], null]);
  expect(await host.list("/etc/iptables.d")).toEqual([]);
});

/** Writes down which fragments the last shutdown left, before anything adds to them. */
const WITNESS = `[Unit]
Before=docker.service iptables.service hello-world.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'ls /etc/iptables.d > /var/witness'
[Install]
WantedBy=multi-user.target
`;

describe.each([
  ["After=iptables.service", "reload"],
  ["Requires=iptables.service\nAfter=iptables.service", "reload"],
  ["After=iptables.service", "restart"],
  ["Requires=iptables.service\nAfter=iptables.service", "restart"],
])("a unit with %s, and a service that can only %s", (dependency, verb) => {
  story("starts, stops and restarts without waiting for itself", async ({ lab }) => {
    const service = example("systemd/iptables.service");
    const host = await hostByHand(lab, {
      name: "titan",
      files: {
        [UNIT]: example("systemd/hello-world.service").replace("[Unit]\n", `[Unit]\n${dependency}\n`),
        "/etc/systemd/system/iptables.service": verb === "reload" ? service : service.replace(/^ExecReload=.*$/m, ""),
      },
    });
    const client = await lab.client("laptop");
    await tagOriginalImage(host);

    await host.systemctl(["start", NAME]);
    expect(await client.connect(host.address, 5000)).toMatchObject({ reached: true, peer: client.address });
    const started = await host.systemctl(["show", "--property=MainPID", "--value", NAME]);
    await host.systemctl(["restart", NAME]);
    expect(await client.connect(host.address, 5000)).toMatchObject({ reached: true, peer: client.address });
    expect(await host.systemctl(["show", "--property=MainPID", "--value", NAME])).not.toEqual(started);
    await host.systemctl(["stop", NAME]);
    const result = await host.systemctl(["show", "--property=Result,ActiveState,NRestarts", NAME]);
    expect(result.stdout.trim().split("\n").sort()).toEqual(["ActiveState=inactive", "NRestarts=0", "Result=success"]);
    expect(await ourRules(host)).toEqual([]);
    expect(await client.connect(host.address, 5000)).toEqual({ reached: false, why: "refused" });
  });
});

/** What the Python script wrote: with a bridge while Docker still named it, and without one since 1.9. */
function pythonFragment(bridge: string, address: string): string {
  return `*nat
-A DOCKER_CONTAINERS ! -i ${bridge} -p tcp -m tcp --dport 8080 -j DNAT --to-destination ${address}:80
COMMIT
*filter
-A FORWARD -d ${address} ! -i ${bridge} -o ${bridge} -p tcp -m tcp --dport 80 -j ACCEPT
COMMIT
`;
}

story("files that the Python script wrote are taken over, and removed", async ({ lab }) => {
  const host = await hostByHand(lab, { name: "titan" });
  const client = await lab.client("laptop");
  const path = "/etc/iptables.d/11-docker-container_web";
  await host.docker.run("web", { publish: ["8080:80"] });

  // A valid one of former times: live, but for an address that the container no longer has.
  await host.write(path, pythonFragment("docker0", "172.17.0.9"));
  await host.systemctl(["reload", "iptables"]);
  expect(await client.connect(host.address, 8080)).toMatchObject({ reached: false });
  await host.run("docker_iptables", ["create", "web"]);
  expect(await client.connect(host.address, 8080)).toMatchObject({ reached: true, peer: client.address });
  expect((await host.run("iptables-save")).stdout).not.toContain("172.17.0.9");

  // The same, and delete comes first: its rules have no comment, and are removed nevertheless.
  await host.write(path, pythonFragment("docker0", "172.17.0.9"));
  await host.systemctl(["reload", "iptables"]);
  await host.run("docker_iptables", ["delete", "web"]);
  expect((await host.run("iptables-save")).stdout).not.toContain("172.17.0.9");

  // A broken one in place of ours: the service cannot load it.
  await host.run("docker_iptables", ["create", "web"]);
  await host.write(path, pythonFragment("", "172.17.0.2"));
  expect((await host.systemctl(["reload", "iptables"], { check: false })).exitCode).not.toBe(0);
  await host.run("docker_iptables", ["create", "web"]);
  expect(await client.connect(host.address, 8080)).toMatchObject({ reached: true, peer: client.address });
  await host.write(path, pythonFragment("", "172.17.0.2"));
  await host.run("docker_iptables", ["delete", "web"]);
  expect(await host.list("/etc/iptables.d")).toEqual(["10_docker", "90_docker"]);
  expect(await ourRules(host)).toEqual([]);
});
