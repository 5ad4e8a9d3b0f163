// Result of status -> the line and the exit status of a check of Nagios, by the guidelines of the Monitoring Plugins. Pure.

import type { Problem, Result } from "../generated/result.ts";
import { SEVERITIES } from "../generated/severities.ts";
import type { Printed } from "./print.ts";

/** The exit statuses of a plugin. */
const STATES = { ok: 0, warning: 1, critical: 2, unknown: 3 } as const;

type State = keyof typeof STATES;

/** The worst first: what is known to be wrong says more than that something is not known. */
const WORST: readonly State[] = ["critical", "warning", "unknown", "ok"];

/** An old NRPE cuts an answer off after 1024 bytes; the performance data are behind the text, in some 60 bytes. */
const LONGEST = 900;

/** One line: the state, what is wrong (the most serious problem in words), and performance data. */
export function printCheck(result: Result): Printed {
  const { failed, error, msg, problems = [], status = [] } = result;
  if (failed) return printUnknown(`${msg} [${error?.code}]`);
  const states = problems.map(stateOf);
  const state = WORST.find((one) => states.includes(one)) ?? "ok";
  const data = [
    `critical=${countOf(states, "critical")};;;0`,
    `warning=${countOf(states, "warning")};;;0`,
    // Without the daemon nobody knows what is published.
    ...(states.includes("unknown")
      ? []
      : [`published=${status.filter(({ publishes }) => publishes.length > 0).length};;;0`]),
  ];
  return {
    stdout: `${text(state, state === "ok" ? msg : sentence(problems, state))} | ${data.join(" ")}\n`,
    stderr: "",
    exitCode: STATES[state],
  };
}

/** A check that could not be made. */
export function printUnknown(why: string): Required<Printed> {
  return { stdout: `${text("unknown", why)}\n`, stderr: "", exitCode: STATES.unknown };
}

function stateOf({ kind }: Problem): State {
  return SEVERITIES[kind];
}

function countOf(states: readonly State[], state: State): number {
  return states.filter((one) => one === state).length;
}

/** The first one of the worst, and the kinds of the others. */
function sentence(problems: readonly Problem[], state: State): string {
  const first = problems.find((one) => stateOf(one) === state);
  const others = problems.filter((one) => one !== first);
  const kinds = [...new Set(others.map(({ kind }) => kind))].join(", ");
  const more = others.length === 0 ? "" : `; ${others.length} more: ${kinds}`;
  return `${first?.kind}: ${first?.msg}${more}`;
}

/** Behind a bar are performance data, and behind a line break more text, whoever wrote it. */
function text(state: State, said: string): string {
  const line = `${state.toUpperCase()} - ${said.replaceAll("|", "\\x7c").replaceAll(/\s+/g, " ")}`;
  if (Buffer.byteLength(line) <= LONGEST) return line;
  // What is cut within a character is no character.
  return `${Buffer.from(line)
    .subarray(0, LONGEST)
    .toString()
    .replace(/\ufffd+$/, "")}…`;
}
