// What to do where the service is missing that should load the fragments: which command is right on this host.

import type { Fragments } from "../fragments/by-family.ts";
import { Failure } from "../model/errors.ts";
import type { Subject } from "../model/request.ts";
import { recordedSettings } from "../systemd/install.ts";
import { someOf } from "../text/words.ts";
import type { Host } from "./backend.ts";
import { readDirectories } from "./directories.ts";
import { findForeignRules, whoseHostRules } from "./foreign-rules.ts";
import type { Kernel } from "./item.ts";

/**
 * A failure `unit_missing` with the command that helps; any other as it is. A service, and `reload: restore` as much, would remove
 * rules that no fragment declares: if there are live ones, or the host was set up for `reload: patch`, the command has that. Where
 * there are no host rules, setup says what to do with live ones. `command` is this call's, without the program's name; undefined
 * where it changes nothing.
 */
export async function adviseService(error: unknown, live: Kernel, host: Host, command?: string): Promise<unknown> {
  if (!(error instanceof Failure) || error.code !== "unit_missing") return error;
  const [recorded, now] = await Promise.all([
    recordedSettings(host.timeout),
    readDirectories(host).catch((): Fragments => ({})),
  ]);
  const hostRules = whoseHostRules(now);
  const strange = (await findForeignRules(live, now, host)).flatMap(({ rules }) => rules);
  const setup = "'docker_iptables setup --reload patch'";
  const patch = command === undefined ? setup : `'docker_iptables ${command} --reload patch'`;
  return new Failure(error.code, `${error.message}; ${advice()}`, error.facts, { cause: error });

  function advice(): string {
    if (recorded.values.reload === "patch") return `this host is set up for reload: patch: ${patch}`;
    if (strange.length === 0 || hostRules === "none") return "'docker_iptables setup' makes it";
    const first = hostRules === "ours" || command === undefined ? "" : `${setup} once, then `;
    return `rules are live here that no fragment declares (${someOf(strange)}), and a service would remove them: ${first}${patch} replaces only docker_iptables' own`;
  }
}

/** The verb of a call, with its names. */
export function commandOf({ base, all, state, containers }: Subject): string {
  if (base) return state === "present" ? "setup" : "setup --remove";
  if (all) return state === "present" ? "sync" : "delete --all";
  return [state === "present" ? "create" : "delete", ...containers].join(" ");
}
