// Commands measured in turn, inside a host of the lab: measure.py does it there.

import { readFileSync } from "node:fs";
import type { Host } from "../lab/host.ts";

export interface Command {
  name: string;
  argv: readonly string[];
  /** A file of the host's; /dev/null by default. */
  stdin?: string;
  env?: Record<string, string>;
  /** Shell that is run first and not measured. */
  before?: string;
  /** How often. */
  rounds: number;
  /** What it must print, or its time would mean nothing. */
  expect?: string;
}

export interface Sample {
  /** From its start to its end. */
  seconds: number;
  /** Of all processors, user and system, its own and that of what it waited for. */
  cpu: number;
  /** The most memory that it, or one process that it waited for, held. */
  kilobytes: number;
}

const SCRIPT = readFileSync(new URL("measure.py", import.meta.url), "utf8");

/** The median of each command, by its name. Throws what a command that failed has printed. */
export async function measure(host: Host, plan: readonly Command[]): Promise<Map<string, Sample>> {
  const { stdout } = await host.run("python3", ["-c", SCRIPT], { input: JSON.stringify(plan), timeoutMs: 600_000 });
  const samples: Record<string, Sample[]> = JSON.parse(stdout);
  return new Map(Object.entries(samples).map(([name, all]) => [name, medians(all)]));
}

function medians(samples: readonly Sample[]): Sample {
  const of = (key: keyof Sample) => median(samples.map((sample) => sample[key]));
  return { seconds: of("seconds"), cpu: of("cpu"), kilobytes: of("kilobytes") };
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return ((sorted[middle] ?? 0) + (sorted[sorted.length - 1 - middle] ?? 0)) / 2;
}
