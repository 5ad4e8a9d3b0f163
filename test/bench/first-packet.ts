// How long a new connection's first packet takes through the rules: with one published port, and with many.

import type { Client } from "../lab/client.ts";
import type { Lab } from "../lab/lab.ts";
import type { Figure } from "./benchmarks.ts";
import { median } from "./measure.ts";
import { apart, FAKE_CLIENT, pretend, startPlace } from "./place.ts";

/** Behind all others, where rules are asked in turn. */
const PORT = 61_000;
/** The lab's server. */
const SERVER = 80;
const ROUNDS = 3;

/**
 * Connects to a port again and again, in the client's network, and prints the median in seconds: the way there and back, once each. Each
 * connection ends with a reset, so that none waits.
 */
const CONNECT = `
import socket, struct, sys, time
times = []
for _ in range(500):
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    start = time.perf_counter()
    one.connect((sys.argv[1], int(sys.argv[2])))
    times.append(time.perf_counter() - start)
    one.close()
print(sorted(times)[len(times) // 2])
`;

/** 10: on both backends. */
export async function firstPacket(lab: Lab, many: number): Promise<Figure[]> {
  const client = await lab.client("connects");
  return [await measureBackend(lab, client, many, "iptables"), await measureBackend(lab, client, many, "nft")];
}

async function measureBackend(lab: Lab, client: Client, many: number, backend: "iptables" | "nft"): Promise<Figure> {
  const place = await startPlace(lab, backend, "packets");
  const { host } = place;
  const given = JSON.stringify({ container: "web", reload: "restore", client: FAKE_CLIENT });
  const times: [few: number[], many: number[]] = [[], []];
  for (let round = 0; round < ROUNDS; round++) {
    for (const [at, count] of [1, many].entries()) {
      await pretend(place, "web", [...apart(count - 1), [PORT, SERVER]]);
      await host.run("docker_iptables", [], { input: given });
      const { peer } = { peer: "", ...(await client.connect(host.address, PORT)) };
      if (peer !== client.address) throw new Error(`${backend}: port ${PORT} does not lead to the container by rules`);
      const { stdout } = await client.run("python3", ["-c", CONNECT, host.address, String(PORT)]);
      times[at]?.push(Number(stdout));
    }
  }
  const [few, most] = [median(times[0]), median(times[1])];
  return {
    what: `a new connection with ${many} published ports, ${backend}`,
    measured: `${(most * 1e6).toFixed(0)} µs`,
    against: `one published port: ${(few * 1e6).toFixed(0)} µs`,
    ratio: most / few,
    ...(backend === "nft" ? { goal: { most: 1.2 } } : {}),
  };
}
