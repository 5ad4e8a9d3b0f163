// How long a container's port is closed after its start, where watch alone makes the rules.

import type { Client } from "../lab/client.ts";
import { until } from "../lab/fixtures.ts";
import type { Host } from "../lab/host.ts";
import type { Lab } from "../lab/lab.ts";
import { type Figure, spellSeconds } from "./benchmarks.ts";

/** milliseconds, of the median */
const GOALS = { iptables: 300, nft: 60 };

/** 7: from a container's start, by Docker's own account, to the first connection from another machine. */
export async function watched(lab: Lab, starts: number, backend: "iptables" | "nft"): Promise<Figure[]> {
  const goal = GOALS[backend];
  const host = await lab.host({ name: `watched-${backend}` });
  const client = await lab.client(`laptop-${backend}`);
  await host.run("docker_iptables", ["setup", "--watch", "--backend", backend]);
  await host.docker.run("web", { publish: ["8080:80"] });
  const times: number[] = [];
  for (let count = 0; count < starts; count++) times.push(await startOnce(host, client));
  times.sort((a, b) => a - b);
  const [median = 0, longest = 0] = [times[starts >> 1], times.at(-1)];
  return [
    {
      what: `\`watch\`, native, ${backend}: from a container's start to its port`,
      measured: spellSeconds(median / 1000),
      against: `${goal} ms (${starts} starts; the longest: ${spellSeconds(longest / 1000)})`,
      ratio: median / goal,
      goal: { most: 1 },
    },
  ];
}

/**
 * Milliseconds. A connection is tried again and again, which takes some of it. docker-proxy answers at once, and the server
 * takes it for its peer: what counts is a connection that comes by our rules.
 */
async function startOnce(host: Host, client: Client): Promise<number> {
  await host.docker.cli("stop", "--time=0", "web");
  await until(async () => (await fragmentsOf(host)).every((name) => !name.includes("_web")));
  await host.docker.cli("start", "web");
  for (;;) {
    const probe = await client.connect(host.address, 8080, { timeoutMs: 50 });
    if (probe.reached && probe.peer === client.address)
      return Date.now() - Date.parse((await host.docker.inspect("web")).State.StartedAt);
  }
}

async function fragmentsOf(host: Host): Promise<string[]> {
  return [...(await host.list("/etc/iptables.d")), ...(await host.list("/etc/nftables.d"))];
}
