// present and absent, of containers and of the base: the straight line from a request to an outcome. Up to `commit`
// nothing changes the system; check mode stops there.

import { basename } from "node:path/posix";
import { type Asked, askFor, withOrphans } from "./asked.ts";
import { askForBase, type BasePlan, keepForeignFiles, NO_BASE, planBase, planChanges } from "./base.ts";
import { commit } from "./commit.ts";
import { settleNeighbours } from "./conflicts.ts";
import { FAMILIES } from "./docker/container.ts";
import { findNetworks, type Tell } from "./docker/find.ts";
import { Failure } from "./errors.ts";
import { warnOfFirewalls } from "./firewalls.ts";
import { warnOfAccess } from "./fragments/access.ts";
import { type Fragments, ownersIn } from "./fragments/by-family.ts";
import type { Arguments } from "./generated/arguments.ts";
import { fitGuards } from "./guards.ts";
import { Overtaken, readStamped, type Seen } from "./overtaken.ts";
import { refuseWhatCannotWork, untrustedOf, warnOfLoopback, warnOfUncovered, withChanges } from "./refuse.ts";
import { chooseLoader, type Loader, type Reloaded } from "./reload.ts";
import type { Request } from "./request.ts";
import { isContainers, type Wanted } from "./rules/fragment-text.ts";
import { barrierOf, hasDockersRules } from "./rules/live.ts";
import { orNearest } from "./suggest.ts";
import { familiesOf, type Item, itemChanges, type Kernel, readKernel, survey } from "./survey.ts";

export interface Outcome extends Asked {
  /** All fragments asked for, in the order of their names, and those of neighbours that are put right with them. */
  wanted: Wanted[];
  /** The names of those neighbours. */
  neighbours: string[];
  items: Item[];
  /** Undefined where the base was not asked for. */
  base: { networks: string[]; plan: BasePlan } | undefined;
  committed: Reloaded;
}

/** How often other processes may come between our look and our turn to write. */
const ATTEMPTS = 5;

/** Throws Failure. `signal` ends a wait; once something was written, the transaction is finished or rolled back. */
export async function publish(request: Request, signal: AbortSignal, tell: Tell = () => {}): Promise<Outcome> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await publishOnce(request, signal, tell);
    } catch (error) {
      if (!(error instanceof Overtaken) || attempt === ATTEMPTS) throw error;
    }
  }
}

async function publishOnce({ args, check }: Request, signal: AbortSignal, tell: Tell): Promise<Outcome> {
  // Of all containers: a fragment that comes after this look is of one that may run by then, and not this call's to remove.
  const before = args.all ? await readStamped(args) : undefined;
  // The client and this host need not wait for each other. But of two failures the client's is told, and after a wait for a
  // container the host is looked at anew.
  // The daemon's networks are asked for first: where its socket starts it, it makes rules before it answers.
  const asking = args.base && args.state === "present" ? findNetworks(args) : Promise.resolve([]);
  const looking = asking.then(
    () => lookAround(args, before),
    () => lookAround(args, before),
  );
  looking.catch(() => {});
  const named = await askFor(args, before?.now ?? {}, check, signal, tell);
  const { possible, live, seen } = await (named.waited ? lookAround(args) : looking);
  const { now } = seen;
  const asked = withOrphans(named, now, live, args);
  const families = possible.filter((family) => !args.base || args.reload === "none" || live[family] !== undefined);
  const base = args.base ? await askForBase(await asking, families, args) : undefined;
  const [head, tail] = base?.wanted ?? [];
  const neighbours = await settleNeighbours(asked.wanted, now, args, signal);
  const guarded = await fitGuards([...asked.wanted, ...neighbours.wanted], live, args.timeout);
  const wanted = [head, ...guarded.wanted, tail].filter((one) => one !== undefined);
  const all = await survey(wanted, families, live, args);
  const { items, warnings: kept } = keepForeignFiles(all.items);
  const found = { ...all, items };
  const plan = base === undefined ? NO_BASE : await planBase(found.items, base, live, now, args);
  const future = withChanges(now, [...plan.files, ...found.items], args);
  refuseWhatCannotWork(found.items, future, args);
  const outcome: Outcome = {
    ...asked,
    idle: [...asked.idle, ...withoutRules(found.items, now, args)],
    wanted,
    neighbours: neighbours.wanted.map(({ owner }) => owner),
    items: found.items,
    base: base && { networks: base.networks.filter(({ bridge }) => bridge).map(({ name }) => name), plan },
    committed: { reloaded: [], warnings: [], live },
    warnings: onceEach([
      ...asked.warnings,
      ...neighbours.warnings,
      ...guarded.warnings,
      ...(base?.warnings ?? []),
      ...plan.warnings,
      ...kept,
      ...(base?.daemon === undefined ? warnOfDocker(live) : []),
      ...warnOfUncovered(found.items, future),
      ...warnOfLoopback(found.items, future, args),
      ...(await untrustedOf(now, found.items, args)).map(warnOfAccess),
    ]),
  };
  const changes = found.items.some(itemChanges) || planChanges(plan);
  if (!changes && (check || found.unconfirmed.length === 0)) return outcome;

  const loader = await chooseLoader(found, plan, future, args);
  outcome.warnings.push(...warnOfDisabled(loader, args), ...warnOfPatch(loader));
  if (args.state === "present" && args.reload !== "none") {
    outcome.warnings.push(...(await warnOfFirewalls(found.items.filter(itemChanges), live, args.timeout)));
  }
  const settled = { asked: asked.wanted, neighbours: neighbours.wanted, seen };
  if (check) return outcome;
  if (signal.aborted) throw new Failure("interrupted", "interrupted before anything was changed");
  return { ...outcome, committed: await commit({ found, settled, base: plan, loader }, args) };
}

/** A container and the base may tell the same of a network or of the host. */
function onceEach(warnings: readonly string[]): string[] {
  return [...new Set(warnings)];
}

/** Of what is to be absent and is nowhere, that it is so; perhaps another name was meant. */
function withoutRules(items: readonly Item[], now: Fragments, { state, all, reload }: Arguments): string[] {
  if (state !== "absent" || all) return [];
  const names = new Set(items.filter(({ path }) => isContainers(basename(path))).map(({ owner }) => owner));
  const changing = new Set(items.filter(itemChanges).map(({ owner }) => owner));
  return [...names]
    .filter((name) => !changing.has(name))
    .map((name) => {
      const what = reload === "none" ? "fragment" : "rules";
      return `${name} has no ${what}, nothing to do${orNearest(name, ownersIn(now))}`;
    });
}

/** Rules that are live now, and are not loaded at the next boot. */
function warnOfDisabled(loader: Loader, { base, state }: Arguments): string[] {
  if (loader.kind !== "systemd" || base || state === "absent") return [];
  return loader.units
    .filter(({ disabled }) => disabled)
    .map(
      ({ name }) =>
        `${name} is not enabled, so nobody loads the rules at boot; 'systemctl enable ${name}' changes that`,
    );
}

function warnOfPatch(loader: Loader): string[] {
  return loader.kind === "patch" && loader.why !== undefined ? [loader.why] : [];
}

/** The host's families, its kernel's rules, and its directories unless they were looked at before. */
async function lookAround(args: Arguments, before?: Seen) {
  const possible = await familiesOf(args);
  const [live, seen] = await Promise.all([readKernel(possible, args), before ?? readStamped(args)]);
  return { possible, live, seen };
}

/** An ACCEPT of ours behind a final DROP or REJECT in FORWARD is never reached. */
export function warnOfBarriers({ wanted, committed }: Pick<Outcome, "wanted" | "committed">): string[] {
  return FAMILIES.flatMap((family) => {
    const live = committed.live[family];
    const barrier = live && barrierOf("filter", "FORWARD", live);
    if (barrier === undefined) return [];
    const hidden = wanted.filter(({ rules }) => rules[family].filter?.some(barrier.hides)).map(({ owner }) => owner);
    if (hidden.length === 0) return [];
    return [
      `'${barrier.rule}' comes before the rules of ${hidden.join(", ")}, which are never reached; put it into a fragment that sorts later`,
    ];
  });
}

function warnOfDocker(live: Kernel): string[] {
  const daemons = Object.entries(live).filter(([, rules]) => hasDockersRules(rules));
  return daemons.map(
    ([family]) =>
      `the Docker daemon manages ${family === "ipv4" ? "iptables" : "ip6tables"} itself (nat jumps to its chain DOCKER); ` +
      `start it with --${family === "ipv4" ? "iptables" : "ip6tables"}=false, or do without docker_iptables`,
  );
}
