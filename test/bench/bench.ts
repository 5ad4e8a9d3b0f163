// `npm run bench`: how fast we are, against what we must start and against what does the same (README.md). It needs root
// and a quiet machine, and takes a quarter of an hour; `npm run bench -- small` tries it out with few ports and writes nothing, as
// `npm run bench -- sources` does, with the benchmarks that are named.

import { writeFile } from "node:fs/promises";
import { availableParallelism, cpus, loadavg, release, totalmem } from "node:os";
import { fileURLToPath } from "node:url";
import type { Host } from "../lab/host.ts";
import { startLab } from "../lab/lab.ts";
import {
  atOnce,
  besideMany,
  type Figure,
  memory,
  ports,
  range,
  type Series,
  sources,
  unchanged,
} from "./benchmarks.ts";
import { heard } from "./events.ts";
import { firstPacket } from "./first-packet.ts";
import { nftables } from "./nft.ts";
import { NATIVE, PACKAGES, startPlace } from "./place.ts";
import { plot } from "./plot.ts";
import { report } from "./report.ts";
import { syncAll } from "./sync.ts";
import { watched } from "./watched.ts";

const words = process.argv.slice(2);
const small = words.includes("small");
const chosen = words.filter((word) => word !== "small");
const size = small
  ? { ports: [1, 10], range: 100, processes: 5, rules: 400, sources: 100, starts: 3, containers: 3, events: 1000 }
  : {
      ports: [1, 10, 100, 1000, 10_000],
      range: 10_000,
      processes: 100,
      rules: 20_000,
      sources: 1000,
      starts: 15,
      containers: 200,
      events: 100_000,
    };

async function machineOf(host: Host, load: number): Promise<string[]> {
  const version = async (...command: string[]) =>
    (await host.run("sh", ["-c", command.join(" ")], { check: false })).stdout.trim();
  return [
    `${availableParallelism()} cores (${cpus()[0]?.model.trim()}), ${Math.round(totalmem() / 2 ** 30)} GB, Linux ${release()}; load before: ${load.toFixed(1)}`,
    `${await version("iptables --version")}; Docker ${await version("docker version --format '{{.Server.Version}}'")}; ` +
      `Debian's containernetworking-plugins and netavark (${await version("/usr/lib/podman/netavark --version | tail -n 1")})`,
    `native: ${await version("docker_iptables --version")}, compiled by Bun; the script under Node.js 24 and 20`,
  ];
}

const [load = 0] = loadavg();
if (load > 1.5) console.log(`the machine is busy (load ${load.toFixed(1)}): what is measured now is no good`);
process.env["DOCKER_IPTABLES"] = NATIVE;
await using lab = await startLab({ packages: PACKAGES });
const place = await startPlace(lab);
const figures: Figure[] = [];
const series: Series[] = [];
const benchmarks: Record<string, () => Promise<Figure[]>> = {
  "nothing to do": () => unchanged(place),
  ports: async () => {
    const measured = await ports(place, size.ports);
    series.push(...measured.series);
    return measured.figures;
  },
  range: () => range(place, size.range),
  sources: () => sources(place, size.sources),
  "at once": () => atOnce(place, size.processes),
  sync: () => syncAll(lab, size.containers),
  "beside many": () => besideMany(place, size.rules),
  memory: () => memory(place),
  events: () => heard(lab, size.events),
  watched: () => watched(lab, size.starts, "iptables"),
  nftables: () => nftables(lab, size.ports, size.rules),
  "watched by nftables": () => watched(lab, size.starts, "nft"),
  "first packet": () => firstPacket(lab, size.ports.at(-1) ?? 1),
};
for (const [name, benchmark] of Object.entries(benchmarks)) {
  if (chosen.length > 0 && !chosen.includes(name)) continue;
  const start = Date.now();
  figures.push(...(await benchmark()));
  console.log(`${name}: measured within ${Math.round((Date.now() - start) / 1000)} s`);
}
const text = report(figures, await machineOf(place.host, load));
console.log(text);
const title = "From nothing to live: one container's ports that are no range";
if (!small && chosen.length === 0) {
  const file = (name: string) => fileURLToPath(new URL(name, import.meta.url));
  await writeFile(file("results.md"), text);
  await writeFile(file("results.svg"), plot(series, title));
}
