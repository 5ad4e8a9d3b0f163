// What a service does with the fragments, from its properties and the scripts that it names. Pure.

import { resolve } from "node:path/posix";
import type { Family } from "../model/family.ts";
import { findWrongForm, type WrongForm } from "./load-script.ts";

/** `ours` has docker_iptables load; what an `unknown` one does can only be checked afterwards. */
export type Judgement = { kind: "ours" } | { kind: "unknown" } | ({ kind: "wrong" } & WrongForm);

/**
 * `properties` are a unit's, as systemctl(1) show prints them: several values of one are separate lines. `scripts` are the texts of
 * the files that its commands name, and of those that these name, by path.
 */
export function judgeService(
  properties: ReadonlyMap<string, string>,
  scripts: ReadonlyMap<string, string>,
  directories: readonly (readonly [Family, string])[],
): Judgement {
  const starts = (...names: string[]) => names.flatMap((name) => startsOf(properties.get(name) ?? ""));
  const reload = starts("ExecReload");
  // Without an ExecReload each change is a restart, and a restart begins with a stop.
  const stop = reload.length > 0 ? [] : starts("ExecStop", "ExecStopPost");
  const restart = [...stop, ...starts("ExecStartPre", "ExecStart", "ExecStartPost")];
  const around = {
    directories: new Map(
      directories.map(([family, path]) => [resolve(path), family === "ipv4" ? "iptables" : "ip6tables"] as const),
    ),
    variables: variablesOf(properties.get("Environment") ?? ""),
    scripts,
  };
  for (const sequence of [restart, reload]) {
    const wrong = findWrongForm(sequence, around);
    if (wrong !== undefined) return { kind: "wrong", ...wrong };
  }
  const loads = [...restart, ...reload].some((script) => /docker_iptables load\b/.test(script));
  return { kind: loads ? "ours" : "unknown" };
}

/** The files that may say what the service does: paths in its commands, or in a script's text. */
export function pathsIn(text: string): string[] {
  return [...new Set(text.match(/\/[^\s;"'`()|&<>{}$*?[\]]+/g) ?? [])];
}

/** `{ path=/bin/sh ; argv[]=/bin/sh -c … ; ignore_errors=no ; start_time=… }`, a line each (systemd 252). */
function startsOf(value: string): string[] {
  const commands = value.matchAll(/\{ path=(\S+) ;(?: argv\[\]=(.*?) ;(?= ignore_errors=| \}))?/gs);
  return [...commands].map(([, path = "", argv = path]) => startOf(argv.replaceAll("$$", "$")));
}

/** systemd prints a command's words with blanks between them, and quotes none. */
function startOf(argv: string): string {
  const shell = /^(\S*\/)?(ba|da|a|k)?sh( -\w+| pipefail)*? -\w*c\w*( -?-?pipefail)? (.*)$/s.exec(argv);
  if (shell !== null) return unquoted(shell[5] ?? "");
  const words = argv
    .split(" ")
    .map((word) => (/[;&|<>()`'"\\#]/.test(word) ? `'${word.replaceAll("'", "'\\''")}'` : word));
  return words.join(" ");
}

/** Later ones quote a word that has blanks. */
function unquoted(script: string): string {
  const inner = /^(["'])(.*)\1$/s.exec(script);
  if (inner === null || inner[2]?.includes(inner[1] ?? "")) return script;
  return inner[1] === '"' ? (inner[2] ?? "").replaceAll(/\\(["\\$`])/g, "$1") : (inner[2] ?? "");
}

/** `A=b "C=d e"` */
function variablesOf(environment: string): Map<string, string> {
  const words = environment.match(/"(?:[^"\\]|\\.)*"|\S+/g) ?? [];
  return new Map(
    words.map((word) => {
      const text = word.replace(/^"(.*)"$/, "$1");
      const at = text.indexOf("=");
      return [text.slice(0, at), text.slice(at + 1)] as const;
    }),
  );
}
