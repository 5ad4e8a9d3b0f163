/*
 * Containers that are started and removed without a call, on a real host: what their fragments claim then belongs to another.
 */

import { expect } from "vitest";
import { ask, hostByHand, ourRules } from "./fixtures.ts";
import type { Host } from "./host.ts";
import { story } from "./story.ts";

const fragmentOf = (name: string) => `/etc/iptables.d/11-docker-container_${name}`;
const create = (host: Host, name: string) => host.run("docker_iptables", ["create", name]);

story("a port and an address whose container was removed become another's", async ({ lab }) => {
  const host = await hostByHand(lab, { name: "titan" });
  const client = await lab.client("laptop");
  await host.docker.run("old", { publish: ["8080:80"] });
  await create(host, "old");
  const address = await host.docker.address("old");
  await host.docker.cli("rm", "--force", "old");

  await host.docker.run("new", { publish: ["8080:5000"] });
  expect(await host.docker.address("new")).toBe(address);
  // Old's rule leads to a port of new's without a listener.
  expect(await client.connect(host.address, 8080)).toMatchObject({ reached: false });
  const { stdout, stderr } = await create(host, "new");
  expect(stdout).toContain("published: new; updated: old");
  expect(stderr).toContain(
    `warning: stale fragment ${fragmentOf("old")} is removed: the container old does not exist, and 0.0.0.0:8080/tcp now belongs to new`,
  );
  expect(await client.connect(host.address, 8080)).toMatchObject({
    reached: true,
    server: "new",
    port: 5000,
    peer: client.address,
  });
  expect(await host.list("/etc/iptables.d")).toEqual(["10_docker", "11-docker-container_new", "90_docker"]);
  expect((await ourRules(host)).join("\n")).not.toContain("docker_iptables: old");
  expect(await ask(host, { container: "new" })).toMatchObject({ changed: false, warnings: [] });
});

story("an address whose container was removed becomes another's, who publishes another port", async ({ lab }) => {
  const host = await hostByHand(lab, { name: "titan" });
  const client = await lab.client("laptop");
  await host.docker.run("old", { publish: ["8080:80"] });
  await create(host, "old");
  const address = await host.docker.address("old");
  await host.docker.cli("rm", "--force", "old");

  await host.docker.run("other", { publish: ["9090:5000"], ports: [80, 5000] });
  expect(await host.docker.address("other")).toBe(address);
  // Old's rule opens a port that other never published.
  expect(await client.connect(host.address, 8080)).toMatchObject({ reached: true, server: "other", port: 80 });
  const { stderr } = await create(host, "other");
  expect(stderr).toContain(`is removed: the container old does not exist, and ${address} now belongs to other`);
  expect(await client.connect(host.address, 8080)).toEqual({ reached: false, why: "refused" });
  expect(await client.connect(host.address, 9090)).toMatchObject({ server: "other", peer: client.address });
});

story("two restarts exchange the addresses of two containers", async ({ lab }) => {
  const host = await hostByHand(lab, { name: "titan" });
  const client = await lab.client("laptop");
  await host.docker.run("one", { publish: ["8080:80"], ports: [80, 81] });
  await host.docker.run("two", { publish: ["8081:81"], ports: [80, 81] });
  await host.run("docker_iptables", ["create", "one", "two"]);
  const before = [await host.docker.address("one"), await host.docker.address("two")];
  await host.docker.cli("stop", "--time", "0", "one", "two");
  await host.docker.cli("start", "two");
  await host.docker.cli("start", "one");
  expect([await host.docker.address("one"), await host.docker.address("two")]).toEqual([...before].reverse());

  // One create, and no rule leads to another container.
  expect(await ask(host, { container: "one" })).toMatchObject({ msg: "published: one; updated: two" });
  for (const [port, server] of [[8080, "one"] as const, [8081, "two"] as const]) {
    expect(await client.connect(host.address, port)).toMatchObject({ server, peer: client.address });
  }
});

story("two containers that run and claim one port are an error, and nothing changes", async ({ lab }) => {
  const host = await hostByHand(lab, { name: "titan" });
  const client = await lab.client("laptop");
  await host.docker.run("first", { publish: ["8080:80"] });
  await create(host, "first");
  // Docker lets a second one claim the port on one address once the first one's docker-proxy has died; 28.5 does not, 26.1 does.
  await host.run("sh", ["-c", "kill $(pidof docker-proxy)"]);
  const version = await host.docker.cli("version", "--format", "{{.Server.Version}}");
  const started = host.docker.run("second", { publish: ["127.0.0.1:8080:80"] });
  if (Number.parseInt(version.stdout, 10) >= 28) return expect(started).rejects.toThrow("port is already allocated");
  await started;
  const state = async () => ({ rules: await ourRules(host), files: await host.list("/etc/iptables.d") });
  const before = await state();
  const result = await ask(host, { container: "second" });
  expect(result).toMatchObject({
    changed: false,
    error: {
      code: "port_conflict",
      containers: ["second", "first"],
      address: "127.0.0.1",
      port: 8080,
      protocol: "tcp",
    },
  });
  expect(result.msg).toContain("second and first both run and publish 127.0.0.1:8080/tcp");
  expect(await state()).toEqual(before);
  expect(await client.connect(host.address, 8080)).toMatchObject({ server: "first", peer: client.address });

  await host.docker.cli("stop", "--time", "0", "first");
  expect(await ask(host, { container: "second" })).toMatchObject({ msg: "published: second; updated: first" });
  expect(await client.connect(host.address, 8080)).toMatchObject({ reached: false });
});
