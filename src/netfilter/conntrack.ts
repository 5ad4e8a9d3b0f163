// The kernel's table of UDP flows, read and thinned by conntrack(8).

import { asFailure, type Failure } from "../model/errors.ts";
import type { Family } from "../model/family.ts";
import { type Changes, readFlows, type Selector, selectStale } from "../rules/flows.ts";
import { commandFailure, type Ran, run } from "../system/exec.ts";
import { readInterfaces } from "../system/interfaces.ts";

/** From here on one process takes all selectors from its stdin, which conntrack knows from 1.4.7 on. */
const MANY = 50;

/**
 * Deletes the flows that do not match the changed publishes, and no other; without changes it starts nothing.
 *
 * It never throws: the rules are live, and a flow that falls silent ends by itself. What it could not do is the warning
 * that it returns.
 */
export async function deleteStaleFlows(
  changes: ReadonlyMap<Family, Changes>,
  timeoutSeconds: number,
): Promise<string[]> {
  try {
    for (const [family, some] of changes) await deleteStale(family, some, timeoutSeconds);
    return [];
  } catch (error) {
    const { code, message } = asFailure(error);
    const hint = code === "command_missing" ? "; install conntrack" : "";
    return [
      `UDP clients of ${portsOf(changes)} that keep sending may still reach the old destination: ${message}${hint}`,
    ];
  }
}

async function deleteStale(family: Family, changes: Changes, timeoutSeconds: number): Promise<void> {
  const listed = await run("conntrack", ["-L", "-p", "udp", "-f", family], { timeoutSeconds });
  if (listed.exitCode !== 0) throw failed("the flows cannot be read", listed);
  const { subnets } = await readInterfaces();
  const deletions = selectStale(readFlows(listed.stdout), changes, subnets).map((stale) => deletionOf(family, stale));
  if (deletions.length >= MANY) {
    const input = deletions.map((words) => `${words.join(" ")}\n`).join("");
    const ran = await run("conntrack", ["-R", "-"], { timeoutSeconds, input });
    if (ran.exitCode !== UNKNOWN_OPTION) return refuseFailure(ran);
  }
  for (const words of deletions) refuseFailure(await run("conntrack", words, { timeoutSeconds }));
}

function deletionOf(family: Family, { source, destination, port, replySource, replyPort }: Selector): string[] {
  return [
    ...["-D", "-p", "udp", "-f", family],
    ...(source === undefined ? [] : ["--orig-src", source]),
    ...["--orig-dst", destination, "--orig-port-dst", String(port)],
    ...["--reply-src", replySource, "--reply-port-src", String(replyPort)],
  ];
}

const UNKNOWN_OPTION = 2;

/** Exit status 1 says that no flow matched, which has ended in the meantime, or that the kernel refused. */
function refuseFailure(ran: Ran): void {
  const ended = ran.exitCode === 1 && !ran.stderr.includes("Operation failed");
  if (ran.exitCode !== 0 && !ended) throw failed("the stale flows could not be deleted", ran);
}

function failed(what: string, ran: Ran): Failure {
  return commandFailure("command_failed", what, ran);
}

/** The host ports of what changed, in words; of many the first three. */
function portsOf(changes: ReadonlyMap<Family, Changes>): string {
  const changed = [...changes.values()].flatMap(({ fresh, gone }) => [...fresh, ...gone]);
  const texts = changed.map(({ ports: { first: from, last: to } }) =>
    from === to ? `port ${from}` : `ports ${from}-${to}`,
  );
  const ports = [...new Set(texts)];
  const more = ports.length > 3 ? ` and ${ports.length - 3} more` : "";
  return `${ports.slice(0, 3).join(", ")}${more}`;
}
