/*
 * A UDP client that keeps sending while the rules change: its next datagram takes the new path, and no other flow is changed.
 */

import { expect } from "vitest";
import { ask, hostByHand } from "./fixtures.ts";
import type { Host } from "./host.ts";
import { story } from "./story.ts";

/** The flows as conntrack numbers them; a flow that was deleted and came back has another number. */
async function flowIds(host: Host, ...filter: string[]): Promise<string[]> {
  const { stdout } = await host.run("conntrack", ["-L", "-o", "id", ...filter], { check: false });
  return [...stdout.matchAll(/^(?:tcp|udp) .*\bid=(\d+)/gm)].map(([, id]) => id ?? "").sort();
}

/** No flow falls silent while a story runs. */
async function keepFlows(host: Host): Promise<void> {
  const timeouts = ["udp_timeout", "udp_timeout_stream", "tcp_timeout_close", "tcp_timeout_time_wait"];
  await host.run("sysctl", ["-q", "-w", ...timeouts.map((name) => `net.netfilter.nf_conntrack_${name}=600`)]);
}

/** Restarts a container at another address, for its own is taken meanwhile; no hook runs. */
async function restartElsewhere(host: Host, name: string): Promise<void> {
  const former = await host.docker.address(name);
  await host.docker.cli("stop", name);
  await host.docker.run(`squatter-of-${name}`);
  await host.docker.cli("start", name);
  expect(await host.docker.address(name)).not.toBe(former);
}

story("the next datagram reaches a container that has moved, and no other flow is touched", async ({ lab }) => {
  const host = await hostByHand(lab, { name: "web1" });
  await keepFlows(host);
  const client = await lab.client("laptop");
  const names = await lab.client("names");
  const udp = { protocol: "udp", sourcePort: 40_000 } as const;
  const reach = (port: number, options: object = udp) => client.connect(host.address, port, options);
  await host.docker.run("dns", { publish: ["53:53/udp"] });
  await host.docker.run("other", { publish: ["54:54/udp", "8080:80"] });

  // Until create the client is docker-proxy's; afterwards it is seen as itself, with the very next datagram.
  expect(await reach(53)).toMatchObject({ server: "dns", peer: "172.17.0.1" });
  expect(await ask(host, { container: ["dns", "other"] })).toMatchObject({ changed: true, warnings: [] });
  expect(await reach(53)).toMatchObject({ server: "dns", peer: client.address });

  // Flows that must stay: another publish's, the host's own to a remote port 53, a client's over TCP.
  expect(await reach(54)).toMatchObject({ server: "other", peer: client.address });
  const askNames = () => host.connect(names.address, 53, { protocol: "udp", sourcePort: 41_000, timeoutMs: 300 });
  await askNames();
  expect(await reach(8080, { sourcePort: 42_000 })).toMatchObject({ server: "other" });
  const others = async () => [
    await flowIds(host, "-p", "udp", "--orig-port-dst", "54", "--orig-dst", host.address),
    await flowIds(host, "-p", "udp", "--orig-dst", names.address),
    await flowIds(host, "-p", "tcp", "--orig-port-dst", "8080"),
  ];
  await restartElsewhere(host, "dns");
  // Some dockerd deletes each UDP flow to such a port, wherever it leads, as the container stops (26.1, tried; 20.10 does not).
  await askNames();
  const before = await others();
  expect(before.map(({ length }) => length)).toEqual([1, 1, 1]);
  expect(await reach(53)).not.toMatchObject({ server: "dns" });
  expect(await ask(host, { container: "dns" })).toMatchObject({ changed: true, warnings: [] });
  expect(await reach(53)).toMatchObject({ server: "dns", peer: client.address });
  expect(await others()).toEqual(before);

  // What is right stays, too.
  const right = await flowIds(host, "-p", "udp", "--orig-port-dst", "53", "--orig-dst", host.address);
  expect(right).toHaveLength(1);
  await host.run("iptables", ["-t", "nat", "-F", "DOCKER_CONTAINERS"]);
  expect(await ask(host, { container: "dns" })).toMatchObject({ changed: true, warnings: [] });
  expect(await flowIds(host, "-p", "udp", "--orig-port-dst", "53", "--orig-dst", host.address)).toEqual(right);

  // Unpublished: the flow does not lead to the container any more, docker-proxy takes the next datagram.
  expect(await ask(host, { container: "dns", state: "absent" })).toMatchObject({ changed: true, warnings: [] });
  expect(await reach(53)).toMatchObject({ server: "dns", peer: "172.17.0.1" });
  expect(await others()).toEqual(before);
});

story("without conntrack the client stays where it was, and a warning says so", async ({ lab }) => {
  const host = await hostByHand(lab, { name: "web1" });
  await keepFlows(host);
  const client = await lab.client("laptop");
  const reach = () => client.connect(host.address, 53, { protocol: "udp", sourcePort: 40_000 });
  await host.docker.run("dns", { publish: ["53:53/udp"] });
  await ask(host, { container: "dns" });
  expect(await reach()).toMatchObject({ server: "dns", peer: client.address });
  await restartElsewhere(host, "dns");
  // dockerd deletes the flow when it stops the container; whoever sends before create makes it anew.
  expect(await reach()).not.toMatchObject({ server: "dns" });
  const { stdout: path } = await host.run("sh", ["-c", "command -v conntrack"]);
  await host.run("mv", [path.trim(), "/root/conntrack"]);
  expect((await ask(host, { container: "dns" })).warnings).toEqual([
    expect.stringMatching(/^UDP clients of port 53 .*; install conntrack$/),
  ]);
  expect(await reach()).not.toMatchObject({ server: "dns" });
});

story("through a hundred ports and IPv6", async ({ lab }) => {
  const host = await hostByHand(lab, { name: "web1", docker: { ipv6: true } });
  const client = await lab.client("laptop");
  const ports = Array.from({ length: 100 }, (_, index) => 5000 + index);
  const reach = () =>
    Promise.all(
      [host.address, host.address6].flatMap((address, family) =>
        ports.map((port) =>
          client.connect(address, port, { protocol: "udp", sourcePort: port + 10_000 * (family + 1) }),
        ),
      ),
    );
  await host.docker.run("media", { publish: ["5000-5099:5000-5099/udp"], ports: ["5000-5099"] });
  const media = { container: "media", ipv6: true };
  expect(await ask(host, media)).toMatchObject({ changed: true, warnings: [] });
  const isServed = (peer: string) => expect.objectContaining({ server: "media", peer });
  const served = [client.address, client.address6].flatMap((peer) => ports.map(() => isServed(peer)));
  expect(await reach()).toEqual(served);
  await restartElsewhere(host, "media");
  expect(await reach()).not.toContainEqual(expect.objectContaining({ server: "media" }));
  expect(await ask(host, media)).toMatchObject({ changed: true, warnings: [] });
  expect(await reach()).toEqual(served);
});
