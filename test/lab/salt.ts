/*
 * What Salt makes of a state with cmd.run, in the words of its own salt/states/cmd.py (run and _reinterpreted_state); Debian 12
 * has no package of it. And a reader of the few lines that our examples are made of: another line in them is an error.
 */

import type { Host } from "./host.ts";

interface SaltState {
  id: string;
  name: string;
  stdin: string | undefined;
  stateful: boolean;
  testName: string | undefined;
}

interface SaltReturn {
  /** null: with test=True, something would change. */
  result: boolean | null;
  comment: string;
  changes: Record<string, unknown>;
}

export function readStates(sls: string): SaltState[] {
  const states: SaltState[] = [];
  for (const line of sls.split("\n").filter((text) => text !== "" && !text.startsWith("#"))) {
    const id = /^(\w[\w ]*):$/.exec(line)?.[1];
    if (id !== undefined) states.push({ id, name: "", stdin: undefined, stateful: false, testName: undefined });
    const state = states.at(-1);
    const [, key, value = ""] = /^ {4,6}- (\w+):(?: (.+))?$/.exec(line) ?? [];
    if (state === undefined) throw new Error(`no state before ${line}`);
    if (key === "name") state.name = value;
    else if (key === "stdin") state.stdin = value.replace(/^'(.*)'$/, "$1");
    else if (key === "stateful" && (value === "" || value === "True")) state.stateful = true;
    else if (key === "test_name") state.testName = value;
    else if (id === undefined && line !== "  cmd.run:") throw new Error(`not understood: ${line}`);
  }
  return states;
}

export async function applyState(host: Host, state: SaltState, test = false): Promise<SaltReturn> {
  // What a stateful state says before it has run is taken for its output, of which there is none.
  if (test && state.testName === undefined) {
    const comment = state.stateful ? "" : `Command "${state.name}" would have been executed`;
    return { result: null, comment, changes: {} };
  }
  const command = test ? (state.testName ?? "") : state.name;
  const options = { check: false, ...(state.stdin === undefined ? {} : { input: state.stdin }) };
  const ran = await host.run("sh", ["-c", command], options);
  const told: SaltReturn = { result: ran.exitCode === 0, comment: `Command "${command}" run`, changes: {} };
  if (state.stateful) reinterpret(told, { stdout: ran.stdout.trimEnd(), stderr: ran.stderr, retcode: ran.exitCode });
  if (test && ran.exitCode === 0 && Object.keys(told.changes).length > 0) told.result = null;
  return told;
}

/** All of stdout is one JSON object (name=value pairs are not for us); unchanged, its other keys are not shown. */
function reinterpret(told: SaltReturn, ran: Record<string, unknown>): void {
  told.comment = ran["stdout"] === "" ? String(ran["stderr"]) : "";
  if (ran["stdout"] === "") return;
  const data: unknown = JSON.parse(String(ran["stdout"]));
  if (typeof data !== "object" || data === null || Array.isArray(data)) throw new Error("no JSON object");
  const { comment, ...others } = data as Record<string, unknown>;
  if (comment !== undefined) told.comment = String(comment);
  if (isTrue(others["changed"] ?? "no")) told.changes = { ...ran, ...others, stdout: "" };
}

function isTrue(value: unknown): boolean {
  const word = String(value).toLowerCase();
  if (["true", "yes", "1"].includes(word)) return true;
  if (["false", "no", "0"].includes(word)) return false;
  throw new Error(`Failed parsing boolean value: ${word}`);
}
