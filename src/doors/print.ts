// Result -> what is printed: one line of JSON for machines, some lines for a person. Pure.

import { createTwoFilesPatch } from "diff";
import type { Result } from "../generated/result.ts";

export interface Printed {
  stdout: string;
  stderr: string;
}

/** One line, so that nothing that is merged into it can tear it apart. */
export function printJson(result: Result): Printed {
  return { stdout: `${JSON.stringify(result)}\n`, stderr: "" };
}

/** For a terminal or a journal: what happened, to which files, by which reload; what failed goes to stderr. */
export function printForPerson(result: Result, check = false): Printed {
  const said = [
    ...(result.diff ?? []).map(({ before, after, before_header, after_header }) =>
      createTwoFilesPatch(before_header, after_header, before, after, "before", "after")
        .replace(/^(Index: .*\n)?=+\n/, "")
        .trimEnd(),
    ),
    ...(result.explained ?? []).flatMap(explained),
    ...(result.failed ? [] : [result.msg]),
    ...(result.files ?? [])
      .filter(({ change }) => change !== "unchanged")
      .map(({ path, change }) => `  ${check ? `would be ${change}` : change} ${path}`),
    ...(result.reloaded ?? []).map((what) => `  reloaded ${what}`),
  ];
  const complaints = [
    ...result.warnings.map((warning) => `warning: ${warning}`),
    ...(result.failed ? [`docker_iptables: ${result.msg} [${result.error?.code}]`] : []),
    ...(result.rolled_back ?? []).map((what) => (what.startsWith("NOT") ? `  ${what}` : `  put back: ${what}`)),
    ...(typeof result.error?.["journal"] === "string"
      ? [`  the service said:\n${indent(result.error["journal"])}`]
      : []),
    ...(typeof result.error?.["stack"] === "string" ? [result.error["stack"]] : []),
  ];
  return { stdout: lines(said), stderr: lines(complaints) };
}

type Explained = NonNullable<Result["explained"]>[number];

function explained({ container, publish, views }: Explained): string[] {
  const widest = (texts: string[]) => Math.max(...texts.map((text) => text.length));
  const [from, to] = [widest(views.map((view) => view.from)), widest(views.map((view) => view.to))];
  return [
    `${publish} of ${container}`,
    ...views.flatMap((view) => [
      `  ${view.from.padEnd(from)}  ${view.to.padEnd(to)}  ${view.reaches ? `reaches it, seen as ${view.seen_as}` : `no: ${view.why}`}`,
      ...view.by.map((what) => `      ${what}`),
      ...view.unless.map((rule) => `      unless: ${rule}`),
    ]),
    "",
  ];
}

function indent(text: string): string {
  return text.replaceAll(/^/gm, "    ");
}

function lines(texts: readonly string[]): string {
  return texts.map((text) => `${text}\n`).join("");
}
