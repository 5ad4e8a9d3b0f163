// The steps of a run, as fakes/fault.cjs finds them.

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type FakeHost, nodeOptions } from "./host.ts";

/** What a run gets in its environment. */
type Environment = Record<string, string>;

/**
 * The steps of a run before which something is otherwise than before the step before, a command starts or a file is renamed, from
 * 1: a signal anywhere else finds the run with the same done and the same to do. `start` has to run the executable to its end.
 */
export async function changingSteps(host: FakeHost, start: (env: Environment) => Promise<unknown>): Promise<number[]> {
  const log = join(host.fake, "steps");
  const folders = host.folders().join(":");
  await start({ NODE_OPTIONS: nodeOptions("fault"), FAULT: "none", FAULT_LOG: log, FAULT_FOLDERS: folders });
  const steps = readSteps(log).map((line) => line.split("\t"));
  return steps.flatMap(([before, name = ""], index) =>
    before !== steps[index - 1]?.[0] || /^(rename|run) |^end$/.test(name) ? [index + 1] : [],
  );
}

/** A step by what it is called, and which of those it is, from 1. */
export interface NamedStep {
  name: string;
  nth: number;
}

/** All steps of a run, `reads` also what only reads. `start` has to run the executable to its end. */
export async function namedSteps(
  host: FakeHost,
  reads: boolean,
  start: (env: Environment) => Promise<unknown>,
): Promise<NamedStep[]> {
  const log = join(host.fake, "steps");
  const env = { NODE_OPTIONS: nodeOptions("fault"), FAULT: "none", FAULT_LOG: log };
  await start({ ...env, ...(reads ? { FAULT_READS: "yes" } : {}) });
  const counts = new Map<string, number>();
  return readSteps(log).map((name) => {
    const nth = (counts.get(name) ?? 0) + 1;
    counts.set(name, nth);
    return { name, nth };
  });
}

/** The lines of a FAULT_LOG. */
export function readSteps(log: string): string[] {
  return existsSync(log) ? readFileSync(log, "utf8").trimEnd().split("\n") : [];
}
