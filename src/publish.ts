// present and absent: the straight line from a request to an outcome. Up to `commit` nothing changes the system;
// check mode stops there.

import { type Committed, chooseLoader, commit } from "./commit.ts";
import { inspectContainers } from "./docker/client.ts";
import { FAMILIES, readContainer } from "./docker/container.ts";
import { findTargets } from "./docker/find.ts";
import { Failure } from "./errors.ts";
import type { Arguments } from "./generated/arguments.ts";
import { refuseWhatCannotWork } from "./refuse.ts";
import type { Request } from "./request.ts";
import { barrierOf, hasDockersRules } from "./rules/live.ts";
import { makeRules } from "./rules/publish-rules.ts";
import { type Item, itemChanges, type Survey, survey, type Wanted } from "./survey.ts";

export interface Outcome {
  wanted: Wanted[];
  items: Item[];
  /** Containers of which check mode cannot foretell the rules. */
  pending: string[];
  /** Why a container publishes nothing, in a person's words. */
  idle: string[];
  committed: Committed;
  warnings: string[];
}

/** Throws Failure. `signal` ends a wait; once something was written, the transaction is finished or rolled back. */
export async function publish({ args, check }: Request, signal: AbortSignal): Promise<Outcome> {
  const asked = args.state === "present" ? await askForPresent(args, !check, signal) : await askForAbsent(args);
  const found = await survey(asked.wanted, args);
  await refuseWhatCannotWork(found.items, args);
  const warnings = [...asked.warnings, ...warnOfDocker(found)];
  const nothing: Committed = { reloaded: [], warnings: [], live: found.live };
  const outcome = { ...asked, items: found.items, warnings, committed: nothing };
  if (!found.items.some(itemChanges) && (check || found.unconfirmed.length === 0)) return outcome;

  const loader = await chooseLoader(found, args);
  if (check) return outcome;
  if (signal.aborted) throw new Failure("interrupted", "interrupted before anything was changed");
  return { ...outcome, committed: await commit(found, loader, args) };
}

/** An ACCEPT of ours behind a final DROP or REJECT in FORWARD is never reached. */
export function warnOfBarriers({ wanted, committed }: Pick<Outcome, "wanted" | "committed">): string[] {
  return FAMILIES.flatMap((family) => {
    const live = committed.live[family];
    const barrier = live && barrierOf("filter", "FORWARD", live);
    if (barrier === undefined) return [];
    const hidden = wanted.filter(({ rules }) => rules[family].filter?.some(barrier.hides)).map(({ name }) => name);
    if (hidden.length === 0) return [];
    return [
      `'${barrier.rule}' comes before the rules of ${hidden.join(", ")}, which are never reached; put it into a fragment that sorts later`,
    ];
  });
}

type Asked = Pick<Outcome, "wanted" | "pending" | "idle" | "warnings">;

async function askForPresent(args: Arguments, wait: boolean, signal: AbortSignal): Promise<Asked> {
  const { targets, pending } = await findTargets(args, wait, signal);
  const made = targets.map((target) => ({ target, ...makeRules(target, args) }));
  return {
    wanted: made.map(({ target, rules }) => ({ name: target.name, rules })),
    pending: pending.map(({ name }) => name),
    idle: made.flatMap(({ target }) => target.idle ?? []),
    warnings: [
      ...pending.map(({ name, why }) => `the container ${name} ${why}: its rules cannot be foretold`),
      ...made.flatMap(({ target, warnings }) => [...target.warnings, ...warnings]),
    ],
  };
}

const CONTAINER_ID = /^[0-9a-f]{12,64}$/;

/** Docker is not needed, save to find the name that belongs to an id. */
async function askForAbsent(args: Arguments): Promise<Asked> {
  const names = new Set<string>();
  const warnings: string[] = [];
  for (const name of args.container) names.add(CONTAINER_ID.test(name) ? await resolveId(name, args, warnings) : name);
  const wanted = [...names].map((name): Wanted => ({ name, rules: { ipv4: {}, ipv6: {} } }));
  return { wanted, pending: [], idle: [], warnings };
}

async function resolveId(id: string, args: Arguments, warnings: string[]): Promise<string> {
  const { items } = await survey([{ name: id, rules: { ipv4: {}, ipv6: {} } }], args);
  if (items.some(itemChanges)) return id;
  const containers = await inspectContainers(args, [id]).catch((error: unknown) =>
    error instanceof Failure ? error : Promise.reject(error),
  );
  if (containers instanceof Failure) {
    warnings.push(
      `${id} looks like a container's id, and its name cannot be asked for: ${containers.message}; give the name`,
    );
    return id;
  }
  const container = containers.map(readContainer).find((one) => one.id.startsWith(id));
  if (container !== undefined) return container.name;
  warnings.push(`${id} looks like a container's id, and there is no such container any more; give the name`);
  return id;
}

function warnOfDocker({ live }: Survey): string[] {
  const daemons = Object.entries(live).filter(([, rules]) => hasDockersRules(rules));
  return daemons.map(
    ([family]) =>
      `the Docker daemon manages ${family === "ipv4" ? "iptables" : "ip6tables"} itself (nat jumps to its chain DOCKER); ` +
      `start it with --${family === "ipv4" ? "iptables" : "ip6tables"}=false, or do without docker_iptables`,
  );
}
