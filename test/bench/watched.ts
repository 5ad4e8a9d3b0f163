// How long a container's port is closed after its start, where watch alone makes the rules.

import type { Client } from "../lab/client.ts";
import { until } from "../lab/fixtures.ts";
import type { Host } from "../lab/host.ts";
import type { Lab } from "../lab/lab.ts";
import { type Figure, spellSeconds } from "./benchmarks.ts";

/** milliseconds, of the median */
const GOALS = { iptables: 100, nft: 60 };

const DIRECTORIES = { iptables: "/etc/iptables.d", nft: "/etc/nftables.d" };

/**
 * 7: from a container's start to the first connection from another machine: from the daemon's event of it, which is when anybody else can
 * know; and by `StartedAt`, which Docker 28 writes some 0.2 s before that event, and 26 just before it.
 */
export async function watched(lab: Lab, starts: number, backend: "iptables" | "nft"): Promise<Figure[]> {
  const goal = GOALS[backend];
  const host = await lab.host({ name: `watched-${backend}` });
  const client = await lab.client(`laptop-${backend}`);
  await host.run("docker_iptables", ["setup", "--watch", "--backend", backend]);
  await host.docker.run("web", { publish: ["8080:80"] });
  const times: Waited[] = [];
  for (let count = 0; count < starts; count++) times.push(await startOnce(host, client, DIRECTORIES[backend]));
  const what = `\`watch\`, native, ${backend}`;
  const [event, started] = (["event", "started"] as const).map((since) => {
    const sorted = times.map((one) => one[since]).sort((a, b) => a - b);
    return { median: sorted[starts >> 1] ?? 0, longest: sorted.at(-1) ?? 0 };
  });
  if (event === undefined || started === undefined) throw new Error("there are two");
  const against = ({ longest }: typeof event) => `${starts} starts; the longest: ${spellSeconds(longest / 1000)}`;
  return [
    {
      what: `${what}: from the daemon's event of a start to the port`,
      measured: spellSeconds(event.median / 1000),
      against: `${goal} ms (${against(event)})`,
      ratio: event.median / goal,
      goal: { most: 1 },
    },
    {
      what: `${what}: from a container's \`StartedAt\` to its port`,
      measured: spellSeconds(started.median / 1000),
      against: `${goal} ms (${against(started)})`,
      ratio: started.median / goal,
    },
  ];
}

/** Milliseconds, to the first connection. */
interface Waited {
  event: number;
  started: number;
}

/**
 * A connection is tried again and again, which takes some of the time. docker-proxy answers at once, and the server takes it for its peer:
 * what counts is a connection that comes by our rules.
 */
async function startOnce(host: Host, client: Client, directory: string): Promise<Waited> {
  await host.docker.cli("stop", "--time=0", "web");
  await until(async () => (await host.list(directory)).every((name) => !name.includes("_web")));
  await host.docker.cli("start", "web");
  for (;;) {
    const probe = await client.connect(host.address, 8080, { timeoutMs: 50 });
    if (!probe.reached || probe.peer !== client.address) continue;
    const now = Date.now();
    const started = Date.parse((await host.docker.inspect("web")).State.StartedAt);
    return { event: now - (await eventOf(host, started)), started: now - started };
  }
}

/** When the daemon told of the start, in milliseconds of the epoch. */
async function eventOf(host: Host, since: number): Promise<number> {
  const span = [`--since=${Math.floor(since / 1000) - 1}`, `--until=${Math.ceil(Date.now() / 1000)}`];
  const one = ["--filter=container=web", "--filter=event=start", "--format={{.TimeNano}}"];
  const { stdout } = await host.docker.cli("events", ...span, ...one);
  return Number(stdout.trim().split("\n").at(-1)) / 1e6;
}
