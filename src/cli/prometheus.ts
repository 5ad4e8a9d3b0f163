// Result of status -> metrics in Prometheus' text exposition format, as node_exporter's textfile collector reads them. Pure.
//
// What is not known is left out, and is not 0: a failed check has docker_iptables_up 0 alone, and without the daemon nobody knows
// what is published.

import type { Result } from "../generated/result.ts";
import { SEVERITIES } from "../generated/severities.ts";
import type { Printed } from "./print.ts";

interface Sample {
  labels?: Readonly<Record<string, string>>;
  value: number;
}

interface Metric {
  name: string;
  /** The names of its labels. */
  labels: readonly string[];
  help: string;
  samples: (result: Result, version: string) => readonly Sample[];
}

/** All are gauges. docs/monitoring.md has its table from here. */
export const METRICS: readonly Metric[] = [
  {
    name: "docker_iptables_up",
    labels: [],
    help: "Whether the check could be made: 0 where it failed, or where the daemon could not be asked.",
    samples: (result) => [{ value: isComplete(result) ? 1 : 0 }],
  },
  {
    name: "docker_iptables_build_info",
    labels: ["version"],
    help: "Always 1; the version of docker_iptables.",
    samples: (_, version) => [{ labels: { version }, value: 1 }],
  },
  {
    name: "docker_iptables_problems",
    labels: ["problem", "severity"],
    help: "Problems that status finds, by kind: each known kind, 0 where there is none. The severity is critical, warning or unknown.",
    samples: ({ problems }) => {
      if (problems === undefined) return [];
      return Object.entries(SEVERITIES).map(([problem, severity]) => ({
        labels: { problem, severity },
        value: problems.filter(({ kind }) => kind === problem).length,
      }));
    },
  },
  {
    name: "docker_iptables_containers_published",
    labels: [],
    help: "Running containers that publish ports.",
    samples: (result) => publishing(result)((all) => [{ value: all.length }]),
  },
  {
    name: "docker_iptables_ports_published",
    labels: [],
    help: "Ports that running containers publish; a contiguous range counts once.",
    samples: (result) =>
      publishing(result)((all) => [{ value: all.reduce((sum, { publishes }) => sum + publishes.length, 0) }]),
  },
  {
    name: "docker_iptables_container_live",
    labels: ["container"],
    help: "Of each running container that publishes ports, whether the kernel has its rules, in order.",
    samples: (result) =>
      publishing(result)((all) =>
        [...liveByName(all)].map(([container, live]) => ({ labels: { container }, value: live ? 1 : 0 })),
      ),
  },
  {
    name: "docker_iptables_last_load_timestamp_seconds",
    labels: [],
    help: "When the rules were last loaded, or found to be loaded, with success.",
    samples: ({ last_load }) => (last_load === undefined ? [] : [{ value: Date.parse(last_load) / 1000 }]),
  },
];

/** What the textfile collector reads. The exit status is 0: that a check has failed is in the metrics, and why on stderr. */
export function printMetrics(result: Result, version: string): Printed {
  const said = METRICS.flatMap((metric) => {
    const samples = metric.samples(result, version);
    return samples.length === 0 ? [] : [...head(metric), ...samples.map((sample) => line(metric, sample))];
  });
  const stderr = result.failed ? `docker_iptables: ${result.msg} [${result.error?.code}]\n` : "";
  return { stdout: said.map((one) => `${one}\n`).join(""), stderr, exitCode: 0 };
}

/** Whether nothing that was to be compared is missing. */
function isComplete({ failed, problems = [] }: Result): boolean {
  return failed !== true && !problems.some(({ kind }) => kind === "daemon_unreachable");
}

type Publishing = NonNullable<Result["status"]>;

function publishing(result: Result): (count: (all: Publishing) => readonly Sample[]) => readonly Sample[] {
  return (count) => {
    if (!isComplete(result)) return [];
    return count((result.status ?? []).filter(({ publishes }) => publishes.length > 0));
  };
}

/** A series that is there twice makes the whole file invalid: names that are the same once they are made visible are one. */
function liveByName(all: Publishing): Map<string, boolean> {
  const live = new Map<string, boolean>();
  for (const one of all) live.set(one.container, one.live && live.get(one.container) !== false);
  return live;
}

function head({ name, help }: Metric): string[] {
  return [`# HELP ${name} ${escaped(help)}`, `# TYPE ${name} gauge`];
}

function line({ name }: Metric, { labels = {}, value }: Sample): string {
  const pairs = Object.entries(labels).map(([label, text]) => `${label}="${escaped(text).replaceAll('"', '\\"')}"`);
  return `${name}${pairs.length === 0 ? "" : `{${pairs.join(",")}}`} ${value}`;
}

/** A line feed would begin a line of its own, which is another metric. */
function escaped(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");
}
