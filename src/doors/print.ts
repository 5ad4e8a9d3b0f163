// Result -> what is printed: one line of JSON for machines, some lines for a person. Pure.

import { createTwoFilesPatch } from "diff";
import type { Problem, Result } from "../generated/result.ts";

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
    ...(result.status ? statusTable(result.status, result.problems ?? []) : []),
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

type Standing = NonNullable<Result["status"]>[number];

const HEAD = ["CONTAINER", "PUBLISHES", "TO", "FRAGMENT", "LIVE", "PROBLEMS"];

/** One line a container and publish, then the problems in sentences. */
function statusTable(standings: readonly Standing[], problems: readonly Problem[]): string[] {
  const rows = standings.flatMap(({ container, publishes, addresses, fragments, live }) => {
    const wrong = [...new Set(problems.filter((one) => one.container === container).map(({ kind }) => kind))].join(" ");
    const first = [addresses.join(" ") || "-", fragments.length > 0 ? "yes" : "no", live ? "yes" : "no", wrong || "-"];
    const [publish = "-", ...more] = publishes;
    return [[container, publish, ...first], ...more.map((one) => ["", one, "", "", "", ""])];
  });
  const table = standings.length === 0 ? [] : [HEAD, ...rows];
  const widths = HEAD.map((_, column) => Math.max(...table.map((row) => row[column]?.length ?? 0)));
  return [
    ...table.map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    ),
    ...(table.length > 0 ? [""] : []),
    ...problems.map(({ kind, msg }) => `${kind}: ${msg}`),
  ];
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
