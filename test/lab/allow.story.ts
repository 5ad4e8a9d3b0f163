/*
 * Who may connect, in packets: listed and unlisted machines, other containers, the host; with docker-proxy and without; connections that
 * stand.
 */

import { expect } from "vitest";
import type { Client } from "./client.ts";
import { ask, until } from "./fixtures.ts";
import type { Host } from "./host.ts";
import { problemsOf } from "./host-state.ts";
import { story } from "./story.ts";

const BRIEF = { timeoutMs: 1500 };

async function reaches(client: Client, address: string, port: number, isListed: boolean): Promise<boolean> {
  return (await client.connect(address, port, isListed ? { timeoutMs: 15_000 } : BRIEF)).reached;
}

for (const proxy of [true, false]) {
  story(`only what is listed reaches the port, on every address (docker-proxy: ${proxy})`, async ({ lab }) => {
    const host: Host = await lab.host({
      name: "listed",
      docker: { ipv6: true, ...(proxy ? {} : { userlandProxy: false }) },
    });
    const friend = await lab.client("friend");
    const stranger = await lab.client("stranger");
    await host.run("docker_iptables", ["setup"]);
    await host.docker.run("web", { publish: ["8080:80", "8081:80"] });
    const open = { ipv4: host.address, ipv6: host.address6 };
    const allow = { "8080/tcp": [friend.address, friend.address6] };
    for (const ipv6 of [true, false]) {
      const result = await ask(host, { container: "web", allow, ipv6 });
      expect(result.failed, result.msg).toBeUndefined();
      for (const address of Object.values(open)) {
        const isServed = address === open.ipv4 || ipv6 || proxy;
        expect(await reaches(friend, address, 8080, isServed), `${address} ipv6 ${ipv6}`).toBe(isServed);
        expect(await reaches(stranger, address, 8080, false), `${address} ipv6 ${ipv6}`).toBe(false);
        expect(await reaches(stranger, address, 8081, isServed), `${address} ipv6 ${ipv6}`).toBe(isServed);
      }
    }
    // The host itself, and the container's own network.
    expect(await host.connect(host.address, 8080)).toMatchObject({ reached: true });
    await host.docker.run("peer");
    expect(await host.docker.connect("peer", host.address, 8080)).toMatchObject({ reached: true });
    // Another network.
    await host.docker.cli("network", "create", "--opt", "com.docker.network.bridge.name=br-far", "far");
    await host.run("docker_iptables", ["setup"]);
    await host.docker.run("far", { network: "far" });
    expect(await host.docker.connect("far", host.address, 8080, BRIEF)).toMatchObject({ reached: false });
    expect(await host.docker.connect("far", host.address, 8081)).toMatchObject({ reached: true });
  });
}

story("a list that shrinks ends connections that stand, and no others", async ({ lab }) => {
  const host = await lab.host({ name: "standing" });
  const friend = await lab.client("friend");
  const stranger = await lab.client("stranger");
  await host.run("docker_iptables", ["setup"]);
  await host.docker.run("names", { publish: ["5353:53/udp"] });
  await ask(host, { container: "names", allow: { "5353": [friend.address, stranger.address] } });
  const flow = (client: Client) =>
    client.connect(host.address, 5353, { protocol: "udp", sourcePort: 41_000, timeoutMs: 2500 });
  expect([(await flow(friend)).reached, (await flow(stranger)).reached]).toEqual([true, true]);
  await ask(host, { container: "names", allow: { "5353": [friend.address] } });
  expect((await flow(stranger)).reached).toBe(false);
  expect((await flow(friend)).reached).toBe(true);
  await until(async () => (await flow(friend)).reached);
});

story("compose's labels under watch: restart, stop and start, and a reboot keep the lists", async ({ lab }) => {
  const host = await lab.host({ name: "labelled" });
  const friend = await lab.client("friend");
  const stranger = await lab.client("stranger");
  await host.run("docker_iptables", ["setup", "--watch"]);
  const label = `docker_iptables.allow.8080/tcp=${friend.address}`;
  await host.docker.run("web", { publish: ["8080:80"], options: ["--restart", "always", "--label", label] });
  // While the watcher catches up with a start docker-proxy answers everyone.
  const both = () =>
    until(
      async () =>
        (await problemsOf(host)).length === 0 &&
        (await friend.connect(host.address, 8080)).reached &&
        !(await reaches(stranger, host.address, 8080, false)),
    );
  await both();
  for (const words of [
    ["restart", "--time=0", "web"],
    ["stop", "--time=0", "web"],
    ["start", "web"],
  ])
    await host.docker.cli(...words);
  await both();
  await host.reboot();
  await both();
});

story("a group that shrinks, a label that is broken, an image that carries one", async ({ lab }) => {
  const host = await lab.host({ name: "grouped" });
  const friend = await lab.client("friend");
  const stranger = await lab.client("stranger");
  await host.run("docker_iptables", ["setup"]);
  const settle = (office: string[]) =>
    host.write("/etc/docker_iptables.json", JSON.stringify({ sources: { office }, allow: { "*": ["@office"] } }));
  const sync = async () => JSON.parse((await host.run("docker_iptables", ["sync", "--json"])).stdout);
  const both = async (port: number) => [
    await reaches(friend, host.address, port, true),
    await reaches(stranger, host.address, port, false),
  ];
  await settle([friend.address, stranger.address]);
  await host.docker.run("names", { publish: ["5353:53/udp"] });
  await host.docker.run("web", { publish: ["8080:80"] });
  expect(await sync()).toMatchObject({ changed: true, warnings: [] });
  const flow = async (client: Client) =>
    (await client.connect(host.address, 5353, { protocol: "udp", sourcePort: 41_000, timeoutMs: 2500 })).reached;
  expect([await flow(friend), await flow(stranger)]).toEqual([true, true]);
  await settle([friend.address]);
  expect(await sync()).toMatchObject({ changed: true });
  expect([await flow(friend), await flow(stranger), ...(await both(8080))]).toEqual([true, false, true, false]);

  // Whoever makes an image may write what he likes into it: beyond the settings it opens nothing.
  await host.docker.cli("commit", "--change", "LABEL docker_iptables.allow=0.0.0.0/0,::/0", "web", "greedy");
  await host.docker.cli("run", "--detach", "--name", "greedy", "--publish", "8081:80", "greedy", "80");
  const { warnings } = await sync();
  expect(warnings).toEqual([
    expect.stringMatching(/^greedy: its image's label for \* allows .*0\.0\.0\.0\/0.*which the settings do not$/),
  ]);
  expect(await both(8081)).toEqual([true, false]);

  // Not beside a wider label of the container's own either, nor where the settings trust labels.
  const own = ["--label", `docker_iptables.allow.8083=${friend.address}`];
  await host.docker.cli("commit", "--change", "LABEL docker_iptables.allow.8083/tcp=0.0.0.0/0", "web", "exact");
  await host.write("/etc/docker_iptables.json", JSON.stringify({ labels: "trusted" }));
  await host.docker.cli("run", "--detach", "--name", "exact", "--publish", "8083:80", ...own, "exact", "80");
  expect((await sync()).warnings).toEqual([]);
  expect(await both(8083)).toEqual([true, false]);
  await settle([friend.address]);

  // Not published, and closed all the same: docker-proxy answers who is on the list.
  await host.docker.run("apart", { publish: ["8084:80"], options: ["--label", "docker_iptables.enable=false"] });
  expect((await sync()).changed).toBe(true);
  expect(await both(8084)).toEqual([true, false]);

  await host.docker.run("broken", {
    publish: ["8082:80"],
    options: ["--label", `docker_iptables.allow.8082=${friend.address},example.com`],
  });
  await sync();
  expect([
    await reaches(friend, host.address, 8082, false),
    await reaches(stranger, host.address, 8082, false),
  ]).toEqual([false, false]);
  const { stdout } = await host.run("docker_iptables", ["status", "--json"], { check: false });
  expect(JSON.parse(stdout).problems).toMatchObject([{ kind: "list_unreadable", container: "broken" }]);
});
