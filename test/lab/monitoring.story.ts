/*
 * What monitoring sees: the unit and the timer of examples/monitoring write what Debian's node_exporter then shows, promtool takes the
 * metrics and the alerts, and a check of Nagios says the same.
 */

import { readFile } from "node:fs/promises";
import { expect } from "vitest";
import { commandsOf } from "../shown-commands.ts";
import { example, until } from "./fixtures.ts";
import type { Host } from "./host.ts";
import { storyWith } from "./story.ts";

const UNITS = ["docker_iptables-metrics.service", "docker_iptables-metrics.timer"];
const FILE = "/var/lib/prometheus/node-exporter/docker_iptables.prom";
const run = (host: Host, ...args: string[]) => host.run("docker_iptables", args);

/** What node_exporter shows of ours, by series. */
async function shown(host: Host): Promise<Map<string, number>> {
  const script =
    "fetch('http://127.0.0.1:9100/metrics').then((one) => one.text()).then((text) => process.stdout.write(text))";
  const { stdout } = await host.run("node", ["-e", script]);
  expect(stdout).toContain("node_textfile_scrape_error 0");
  const samples = [...stdout.matchAll(/^(docker_iptables_.*|node_textfile_mtime_seconds.*) (\S+)$/gm)];
  return new Map(samples.map(([, series = "", value]) => [series, Number(value)]));
}

/** Starts the service, and sums what is then shown of all problems. */
async function problemsShown(host: Host): Promise<{ problems: number; series: Map<string, number> }> {
  await host.systemctl(["start", UNITS[0] ?? ""]);
  const series = await shown(host);
  const counts = [...series].filter(([name]) => name.startsWith("docker_iptables_problems{"));
  return { problems: counts.reduce((sum, [, value]) => sum + value, 0), series };
}

async function check(host: Host, ...words: string[]): Promise<{ exitCode: number | undefined; stdout: string }> {
  const [command = "", ...args] = [...words, "docker_iptables", "status", "--format", "nagios"];
  return host.run(command, args, { check: false });
}

async function stateOf(host: Host): Promise<string> {
  return (await host.systemctl(["show", "--property=ActiveState", "--value", UNITS[0] ?? ""])).stdout.trim();
}

storyWith({ packages: ["prometheus", "prometheus-node-exporter"] })(
  "the timer writes what node_exporter shows: a problem after a flush, none after sync",
  async ({ lab }) => {
    const host = await lab.host({ name: "seen" });
    await run(host, "setup");
    await host.docker.run("web", { publish: ["8080:80"] });
    await run(host, "sync");

    for (const unit of UNITS) await host.write(`/root/examples/monitoring/${unit}`, example(`monitoring/${unit}`));
    const [copied, ...begun] = commandsOf("docs/monitoring.md", "units");
    await host.run("sh", ["-c", `cd /root && ${copied}`]);
    const verified = await host.run("systemd-analyze", [
      "verify",
      "--man=no",
      ...UNITS.map((one) => `/etc/systemd/system/${one}`),
    ]);
    expect(`${verified.stdout}${verified.stderr}`).toBe("");
    await host.write("/tmp/alerts.yml", example("monitoring/docker_iptables.rules.yml"));
    expect((await host.run("promtool", ["check", "rules", "/tmp/alerts.yml"])).stdout).toContain("SUCCESS: 4 rules");
    await host.write("/tmp/alerts.test.yml", await readFile(new URL("alerts.test.yml", import.meta.url), "utf8"));
    await host.run("promtool", ["test", "rules", "/tmp/alerts.test.yml"]);

    // Without the directory nothing is written, and the unit says so.
    await host.run("rm", ["-rf", "/var/lib/prometheus"]);
    await host.systemctl(["daemon-reload"]);
    await host.systemctl(["start", UNITS[0] ?? ""], { check: false });
    expect(await stateOf(host)).toBe("failed");
    expect(await host.exists(FILE)).toBe(false);

    // As the package has it, which is unpacked here, not installed.
    await host.run("mkdir", ["-p", "/var/lib/prometheus/node-exporter"]);
    await host.run("systemd-run", [
      "--unit=exporter",
      "prometheus-node-exporter",
      "--web.listen-address=127.0.0.1:9100",
    ]);
    for (const line of begun) await host.run("sh", ["-c", line]);
    await until(async () => (await shown(host).catch(() => new Map())).has("docker_iptables_up"));

    const well = await problemsShown(host);
    expect(well.problems).toBe(0);
    expect(well.series.get("docker_iptables_up")).toBe(1);
    expect(well.series.get("docker_iptables_containers_published")).toBe(1);
    expect(well.series.get(`node_textfile_mtime_seconds{file="${FILE}"}`)).toBeGreaterThan(0);
    expect(well.series.get('docker_iptables_container_live{container="web"}')).toBe(1);
    const loaded = well.series.get("docker_iptables_last_load_timestamp_seconds") ?? 0;
    expect(Math.abs(Date.now() / 1000 - loaded)).toBeLessThan(600);
    await host.run("sh", ["-ec", `promtool check metrics < ${FILE}`]);
    expect(await host.list("/var/lib/prometheus/node-exporter")).toEqual(["docker_iptables.prom"]);
    expect(await check(host)).toMatchObject({ exitCode: 0, stdout: expect.stringMatching(/^OK - /) });
    const other = await check(host, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups");
    expect(other).toMatchObject({ exitCode: 3, stdout: expect.stringMatching(/^UNKNOWN - /) });

    // Whoever has the directory in his hands has root write nowhere else.
    await host.run("sh", ["-ec", `echo mine > /run/others; ln -s /run/others ${FILE}.tmp`]);
    expect((await problemsShown(host)).problems).toBe(0);
    expect(await host.read("/run/others")).toBe("mine\n");
    expect(await host.run("stat", ["--format=%F %a %U", FILE])).toMatchObject({ stdout: "regular file 644 root\n" });

    await host.run("iptables", ["-t", "nat", "-F", "DOCKER_CONTAINERS"]);
    const flushed = await problemsShown(host);
    expect(flushed.problems).toBe(1);
    expect(flushed.series.get('docker_iptables_problems{problem="rules_missing",severity="critical"}')).toBe(1);
    expect(flushed.series.get('docker_iptables_container_live{container="web"}')).toBe(0);
    expect(await check(host)).toMatchObject({
      exitCode: 2,
      stdout: expect.stringMatching(
        /^CRITICAL - rules_missing: .* \| critical=1;;;0 warning=0;;;0 published=1;;;0\n?$/,
      ),
    });

    await run(host, "sync");
    const mended = await problemsShown(host);
    expect(mended.problems).toBe(0);
    expect(mended.series.get("docker_iptables_last_load_timestamp_seconds")).toBeGreaterThan(loaded);

    // A daemon that hangs: a check ends by itself.
    await host.systemctl(["kill", "--kill-whom=main", "--signal=SIGSTOP", "docker.service"]);
    expect(await check(host)).toMatchObject({
      exitCode: 3,
      stdout: expect.stringMatching(/^UNKNOWN - daemon_unreachable: /),
    });
    expect((await problemsShown(host)).series.get("docker_iptables_up")).toBe(0);
    await host.systemctl(["kill", "--kill-whom=main", "--signal=SIGCONT", "docker.service"]);
    expect((await problemsShown(host)).series.get("docker_iptables_up")).toBe(1);

    await host.systemctl(["stop", "docker.service", "docker.socket"], { check: false });
    const blind = (await problemsShown(host)).series;
    expect(blind.get("docker_iptables_up")).toBe(0);
    expect(blind.get('docker_iptables_problems{problem="daemon_unreachable",severity="unknown"}')).toBe(1);
    expect(blind.has("docker_iptables_containers_published")).toBe(false);
    expect(await check(host)).toMatchObject({
      exitCode: 3,
      stdout: expect.stringMatching(/^UNKNOWN - daemon_unreachable: /),
    });
  },
);
