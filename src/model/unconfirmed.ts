// A change that waits for its confirmation: read, what may be done while there is one, and in words. Pure.

import type { Unconfirmed } from "../generated/unconfirmed.ts";
import { validate } from "../generated/validate-unconfirmed.js";
import { Failure } from "./errors.ts";
import type { Family } from "./family.ts";

/** Where, and when, this process is. */
export interface Now {
  boot: string;
  /** seconds since the boot */
  uptime: number;
}

/** The text of the file of this path. Throws Failure `unconfirmed`. */
export function readUnconfirmed(text: string, path: string): Unconfirmed {
  const read = parse(text);
  if (validate(read)) return read;
  throw unreadable(path, "it is no record of docker_iptables'");
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The failure of a record of this path, whose `why` is a clause about it. */
export function unreadable(path: string, why: string): Failure {
  const message = `${path} says what is put back unless it is confirmed, and cannot be read: ${why}; check the rules, and remove it`;
  return new Failure("unconfirmed", message, { path });
}

/** seconds until it is put back; 0 where that is due, or where the host has booted since. */
export function secondsLeft({ boot, due }: Unconfirmed, now: Now): number {
  return boot === now.boot ? Math.max(0, due - now.uptime) : 0;
}

/** Whether a family's fragments may be loaded: they are those of the change that runs, or those of before, or both. */
export function mayLoad({ stage, boot, armed, kernel }: Unconfirmed, family: Family, now: Pick<Now, "boot">): boolean {
  const isArmed = armed.includes(family);
  if (stage === "putting back" || stage === "distrusted") return !isArmed;
  const isWhole = kernel.some((one) => one.family === family && one.variant === null && one.isWhole);
  return boot === now.boot && (isWhole || !isArmed);
}

/** Of an ISO 8601 time, as clocks show it here: "05:43:12". */
export function timeOfDay(time: string): string {
  const date = new Date(time);
  return [date.getHours(), date.getMinutes(), date.getSeconds()].map((one) => String(one).padStart(2, "0")).join(":");
}

/** What is so, and what to do. */
export function describeUnconfirmed(change: Unconfirmed, now: Now): { what: string; hint: string } {
  const { what, until, stage } = change;
  if (stage === "distrusted")
    return {
      what: `nobody confirmed a ${what}, so the rules from before it run, and the fragments are not loaded`,
      hint: "correct the fragments; 'docker_iptables load --confirm 60' tries them again",
    };
  const revert = "'docker_iptables revert'";
  if (stage === "putting back")
    return {
      what: `a ${what} that nobody confirmed is not yet put back as a whole`,
      hint: `${revert} puts back the rest`,
    };
  if (change.boot !== now.boot)
    return {
      what: `a ${what} was not confirmed before the host booted; its files are still there`,
      hint: `${revert} puts back the former ones`,
    };
  if (stage === "making")
    return {
      what: `another ${what} is being made, or was interrupted`,
      hint: `wait for it, or ${revert} puts it back`,
    };
  return {
    what: `the ${what} is not confirmed: it is put back at ${timeOfDay(until)}`,
    hint: `'docker_iptables confirm' keeps it, ${revert} puts it back now`,
  };
}

/** Of a call that would change what waits. */
export function unconfirmedFailure(change: Unconfirmed, now: Now): Failure {
  const { what, hint } = describeUnconfirmed(change, now);
  return new Failure("unconfirmed", `${what}; ${hint}`, { what: change.what, until: change.until });
}
