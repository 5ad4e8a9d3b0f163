// Result -> what is printed: one line of JSON for machines, some lines for a person. Pure.

import { createTwoFilesPatch } from "diff";
import type { Problem, Result } from "../generated/result.ts";
import { FLAGS } from "../model/flags.ts";
import { containerOf } from "../model/owner.ts";
import { printUndone } from "../model/rolled-back.ts";
import type { Paint } from "./colours.ts";

export interface Printed {
  stdout: string;
  stderr: string;
}

/** One line, so that nothing that is merged into it can tear it apart. */
export function printJson(result: Result): Printed {
  return { stdout: `${JSON.stringify(result)}\n`, stderr: "" };
}

/** Whom it is printed for. */
export interface Reader {
  /** The answer is of check mode: nothing was done. */
  check: boolean;
  /** stdout is a terminal. */
  terminal: boolean;
  stdout: Paint;
  stderr: Paint;
}

/** "reload: patch" and "base: true", as a message names arguments, are --reload patch and --base at a shell. */
function asFlags(text: string): string {
  return text.replaceAll(/\b([a-z_]+): (\w+)\b/g, (words, name: string, value: string) => {
    const known = FLAGS.find((one) => one.name === name);
    if (known?.choices?.includes(value)) return `--${known.flag} ${value}`;
    return known?.type === "boolean" && value === "true" ? `--${known.flag}` : words;
  });
}

/** For a terminal or a journal: what happened, to which files, by which reload; failures are on stderr. */
export function printForPerson(result: Result, { check, terminal, stdout, stderr }: Reader): Printed {
  const tabled = terminal && (result.containers ?? []).length > 1;
  const said = [
    ...(result.diff ?? []).map(({ before, after, before_header, after_header }) =>
      createTwoFilesPatch(before_header, after_header, before, after, "before", "after")
        .replace(/^(Index: .*\n)?=+\n/, "")
        .trimEnd()
        .replaceAll(/^[-+].*$/gm, (line) => stdout(line.startsWith("+") ? "green" : "red", line)),
    ),
    ...(result.explained ?? []).flatMap(explained),
    ...(result.status ? statusTable(result.status, result.problems ?? [], stdout) : []),
    ...(tabled ? [...summary(result, check, stdout), ""] : []),
    ...(result.failed ? [] : [result.changed ? stdout("green", result.msg) : result.msg]),
    ...(result.files ?? [])
      .filter(({ path, change }) => change !== "unchanged" && !(tabled && containerOf(path)))
      .map(({ path, change }) => `  ${check ? `would be ${change}` : change} ${path}`),
    ...(result.reloaded ?? []).map((what) => `  reloaded ${what}`),
  ];
  const complaints = [
    ...result.warnings.map((warning) => `${stderr("yellow", "warning:")} ${asFlags(warning)}`),
    ...(result.failed ? [stderr("red", `docker_iptables: ${asFlags(result.msg)} [${result.error?.code}]`)] : []),
    ...(result.rolled_back ?? []).map(printUndone),
    ...(typeof result.error?.["journal"] === "string"
      ? [`  the service's log:\n${indent(result.error["journal"])}`]
      : []),
    ...(typeof result.error?.["stack"] === "string" ? [indent(result.error["stack"])] : []),
  ];
  return { stdout: lines(said), stderr: lines(complaints) };
}

/** One line a container, where there are several. */
function summary({ containers = [], files = [] }: Result, check: boolean, paint: Paint): string[] {
  const changes = new Map<string | undefined, Set<string>>();
  for (const { path, change } of files) {
    const container = containerOf(path);
    changes.set(container, (changes.get(container) ?? new Set()).add(change));
  }
  const rows = containers.map(({ name, changed, reasons }) => {
    const fragment = [...(changes.get(name) ?? [])].join(", ") || "-";
    return [name, changed ? "yes" : "no", fragment, reasons.includes("kernel") ? "changed" : "unchanged"];
  });
  const [head = "", ...lines] = tableOf([
    ["CONTAINER", check ? "WOULD CHANGE" : "CHANGED", "FRAGMENT", "KERNEL"],
    ...rows,
  ]);
  return [head, ...lines.map((line, index) => (containers[index]?.changed ? paint("green", line) : line))];
}

/** Cells below each other. */
function tableOf(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join("  ")
      .trimEnd(),
  );
}

type StatusRow = NonNullable<Result["status"]>[number];

const HEAD = ["CONTAINER", "PUBLISHES", "TO", "FRAGMENT", "LIVE", "PROBLEMS"];

/** One line a container and publish, then the problems in sentences. */
function statusTable(statuses: readonly StatusRow[], problems: readonly Problem[], paint: Paint): string[] {
  const kinds = new Map<string | undefined, Set<string>>();
  for (const { container, kind } of problems) kinds.set(container, (kinds.get(container) ?? new Set()).add(kind));
  const rows = statuses.flatMap(({ container, publishes, addresses, fragments, live }) => {
    const wrong = [...(kinds.get(container) ?? [])].join(" ");
    const first = [addresses.join(" ") || "-", fragments.length > 0 ? "yes" : "no", live ? "yes" : "no", wrong || "-"];
    const [publish = "-", ...more] = publishes;
    return [[container, publish, ...first], ...more.map((one) => ["", one, "", "", "", ""])];
  });
  return [
    ...(statuses.length === 0 ? [] : [...tableOf([HEAD, ...rows]), ""]),
    ...problems.map(({ kind, msg }) => `${paint("yellow", `${kind}:`)} ${asFlags(msg)}`),
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
