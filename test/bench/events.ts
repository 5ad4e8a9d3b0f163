// What a watcher holds after so many of the daemon's events.

import { readFileSync } from "node:fs";
import type { Lab } from "../lab/lab.ts";
import type { Figure } from "./benchmarks.ts";
import { startPlace } from "./place.ts";

const REPLAY = readFileSync(new URL("replay.py", import.meta.url), "utf8");

/** 12: the most memory that a watcher holds in the last tenth of so many events, and in the second; they are a real container's, again and again. */
export async function heard(lab: Lab, count: number): Promise<Figure[]> {
  const { host } = await startPlace(lab, "iptables", "events");
  const since = Math.floor(Date.now() / 1000);
  await host.docker.cli("restart", "--time=0", "web");
  const span = [`--since=${since}`, `--until=${Math.ceil(Date.now() / 1000)}`];
  await host.write("/root/events", (await host.docker.cli("events", ...span, "--format={{json .}}")).stdout);
  await host.write("/root/replay", `${count}`);
  await host.write("/opt/replay/docker", `#!/usr/bin/env python3\n${REPLAY}`, 0o755);
  const watcher = "PATH=/opt/replay:$PATH exec docker_iptables watch --reload restore > /root/watched 2>&1";
  const script = `(${watcher}) & until [ -e /root/replayed ]; do sleep 1; done; kill $!; cat /root/held`;
  const { stdout } = await host.run("sh", ["-c", script], { timeoutMs: 600_000 });
  const samples = stdout.trim().split("\n");
  const most = (from: number, to: number) =>
    Math.max(
      ...samples
        .map((line) => line.split(" ").map(Number))
        .filter(([at = 0]) => from <= at && at < to)
        .map(([, kilobytes = 0]) => kilobytes),
    );
  const [early, late] = [most(count / 10, count / 5), most(count - count / 10, count)];
  const spelled = (kilobytes: number) => `${(kilobytes / 1024).toFixed(0)} MB`;
  const what = `peak memory of \`watch\`, native: the last tenth of ${count} events`;
  const against = `the second tenth: ${spelled(early)}`;
  return [{ what, measured: spelled(late), against, ratio: late / early, goal: { most: 1.1 } }];
}
