// Result -> what is printed: one line of JSON for machines, some lines for a person. Pure.

import { createTwoFilesPatch } from "diff";
import type { Problem, Result } from "../generated/result.ts";
import { FLAGS, flagsOf } from "../model/flags.ts";
import { optionWords } from "../model/options.ts";
import { containerOf } from "../model/owner.ts";
import { printUndone } from "../model/rolled-back.ts";
import { wrapped } from "../text/wrap.ts";
import type { Paint } from "./colours.ts";

export interface Printed {
  stdout: string;
  stderr: string;
  /** Where what is printed has an exit status of its own. */
  exitCode?: number;
}

/** One line, so that nothing that is merged into it can tear it apart. */
export function printJson(result: Result): Printed {
  return { stdout: `${JSON.stringify(result)}\n`, stderr: "" };
}

/** Whom it is printed for. */
export interface Reader {
  /** The answer is of check mode: nothing was done. */
  check: boolean;
  /** The width of stdout; undefined where it is no terminal. */
  columns: number | undefined;
  stdout: Paint;
  stderr: Paint;
}

/**
 * What a message says of arguments, as flags at a shell: "reload: patch" is --reload patch, "base: true" is --base, wait_timeout is
 * --wait-timeout. A name of one word is one of the language, too: it is a flag where a value, or what it must be, comes behind it.
 */
function asFlags(text: string): string {
  const known = (name: string) => FLAGS.find((one) => one.name === name);
  return text
    .replaceAll(/\b([a-z_]+): (\w+)\b/g, (words, name: string, value: string) => {
      const flag = known(name);
      if (flag?.choices?.includes(value)) return `--${flag.flag} ${value}`;
      return flag?.type === "boolean" && value === "true" ? `--${flag.flag}` : words;
    })
    .replaceAll(/(?<![\w./'-])([a-z0-9]+_[a-z_]+)(?![\w./'-])/g, (word, name: string) => {
      const flag = known(name);
      return flag === undefined ? word : `--${flag.flag}`;
    })
    .replaceAll(/\b(raise |value of |^|; )([a-z]+)(?= must |$|,|;)/g, (words, before: string, name: string) => {
      const flag = known(name);
      return flag === undefined || (before === "" && !words.endsWith(name)) ? words : `${before}--${flag.flag}`;
    });
}

/** The names in a file of settings are no flags. */
function shellWords(text: string): string {
  return text.startsWith("the settings in ") ? text : asFlags(text);
}

const KINDS: Readonly<Record<string, string>> = { int: "a number", bool: "yes or no", list: "names", path: "a path" };

/** What failed; a value of the wrong type in a shell's words, not in Ansible's. */
function failureWords({ msg, error }: Result): string {
  const [argument, type, value] = ["argument", "type", "value"].map((name) => error?.[name]);
  const flag = (name = "") => `--${name.replaceAll("_", "-")}`;
  const [, needing, needed] = /^missing parameter\(s\) required by '(\w+)': (\w+)$/.exec(msg) ?? [];
  if (needing !== undefined) return `${flag(needing)} needs ${flag(needed)}`;
  const [, one, other] = /^parameters are mutually exclusive: (\w+)\|(\w+)$/.exec(msg) ?? [];
  if (one !== undefined) return `${flag(one)} and ${flag(other)} exclude each other`;
  if (typeof argument !== "string" || typeof type !== "string") return shellWords(msg);
  return `--${argument.replaceAll("_", "-")} takes ${KINDS[type] ?? "a word"}, not '${value}'`;
}

/** For a terminal or a journal: what happened, to which files, by which reload; failures are on stderr. */
export function printForPerson(result: Result, reader: Reader): Printed {
  const { check, columns, stdout, stderr } = reader;
  const tabled = columns !== undefined && (result.containers ?? []).length > 1;
  const isList = result.containers === undefined;
  const said = [
    ...(result.diff ?? []).map(({ before, after, before_header, after_header }) =>
      createTwoFilesPatch(before_header, after_header, before, after, "before", "after")
        .replace(/^(Index: .*\n)?=+\n/, "")
        .trimEnd()
        .replaceAll(/^[-+].*$/gm, (line) => stdout(line.startsWith("+") ? "green" : "red", line)),
    ),
    ...(result.explained ?? []).flatMap((one) => explained(one, reader)),
    ...(result.status ? [...statusTable(result.status, result.problems ?? [], reader), ...settingsLine(result)] : []),
    ...(isList ? publishedTable(result.published ?? [], stdout) : []),
    ...(tabled ? [...summary(result, check, stdout), ""] : []),
    ...(result.failed ? [] : [result.changed ? stdout("green", result.msg) : result.msg]),
    ...(isList ? [] : newlyPublished(result)),
    ...(result.files ?? [])
      .filter(({ path, change }) => change !== "unchanged" && !(tabled && containerOf(path)))
      .map(({ path, change }) => `  ${check ? `would be ${change}` : change} ${path}`),
    ...(result.reloaded ?? []).map((what) => `  reloaded ${what}`),
  ];
  const complaints = [
    ...result.warnings.map((warning) => `${stderr("yellow", "warning:")} ${shellWords(warning)}`),
    ...(result.failed ? [stderr("red", `docker_iptables: ${failureWords(result)} [${result.error?.code}]`)] : []),
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
function statusTable(statuses: readonly StatusRow[], problems: readonly Problem[], reader: Reader): string[] {
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
    ...statuses.flatMap(({ container, options }) => ownOptions(container, options)),
    ...statuses.flatMap(({ container, lists }) =>
      lists.map(({ publish, from }) => `${publish} of ${container} is open to: ${from}`),
    ),
    ...problems.flatMap((problem) => problemLines(problem, reader)),
  ];
}

/** What a container has of its own. */
function ownOptions(container: string, options: StatusRow["options"]): string[] {
  const flags = optionWords(options);
  return flags.length === 0 ? [] : [`${container} has options of its own: ${flags.join(" ")}`];
}

/** What the host's settings say that differs from the defaults. */
function settingsLine({ invocation }: Result): string[] {
  const { module_args: args = {}, origins = {} } = invocation ?? {};
  const set = Object.entries(args).filter(([name]) =>
    Object.entries(origins).some(([one, from]) => one === name && from === "settings"),
  );
  const flags = flagsOf(Object.fromEntries(set));
  return flags.length === 0 ? [] : [`settings of this host: ${flags.join(" ")}`];
}

/** What is wrong, and below it what to do. */
function problemLines({ kind, msg, hint }: Problem, { columns, stdout }: Reader): string[] {
  const line = `${kind}: ${shellWords(msg)}`;
  const shown = columns === undefined ? line : wrapped(line, columns - INDENT.length, INDENT, "");
  const advice = hint === undefined ? [] : [fitted(asFlags(hint), INDENT, columns)];
  return [shown.replace(`${kind}:`, () => stdout("red", `${kind}:`)), ...advice];
}

const INDENT = "    ";

function fitted(text: string, indent: string, columns: number | undefined): string {
  return columns === undefined ? `${indent}${text}` : wrapped(text, columns - indent.length, indent);
}

type PublishedRow = NonNullable<Result["published"]>[number];

function publishedTable(rows: readonly PublishedRow[], paint: Paint): string[] {
  if (rows.length === 0) return [];
  const cells = rows.map(({ container, publish, to, from, live }) => [
    publish,
    container,
    to,
    from,
    live ? "yes" : "no",
  ]);
  const [head = "", ...lines] = tableOf([["PUBLISHED", "CONTAINER", "TO", "FROM", "LIVE"], ...cells]);
  return [head, ...lines.map((line, index) => (rows[index]?.live ? line : paint("red", line))), ""];
}

/** Of the containers that this call has changed. */
function newlyPublished({ published = [], containers = [] }: Result): string[] {
  const changed = new Set(containers.flatMap(({ name, changed }) => (changed ? [name] : [])));
  const several = containers.length > 1;
  return published
    .filter(({ container }) => changed.has(container))
    .map(({ container, publish, to, from }) => {
      const only = from === "everyone" ? "" : " only";
      return `  ${publish} -> ${to}${several ? ` (${container})` : ""}, from ${from}${only}`;
    });
}

type Explained = NonNullable<Result["explained"]>[number];

function explained({ container, publish, from: sources, views }: Explained, { columns, stdout }: Reader): string[] {
  const widest = (texts: string[]) => Math.max(...texts.map((text) => text.length));
  const [from, to] = [widest(views.map((view) => view.from)), widest(views.map((view) => view.to))];
  return [
    `${publish} of ${container}${sources === undefined ? "" : `, from ${sources} only`}`,
    ...views.flatMap((view) => [
      ...verdictLines(`  ${view.from.padEnd(from)}  ${view.to.padEnd(to)}`, view, { columns, stdout }),
      ...view.by.map((what) => `      ${what}`),
      ...view.unless.map((rule) => `      unless: ${rule}`),
    ]),
    "",
  ];
}

/** Behind the packet, where the terminal has room for it, else below. */
function verdictLines(
  packet: string,
  { reaches, source, seen_as, why }: Explained["views"][number],
  { columns, stdout }: Pick<Reader, "columns" | "stdout">,
): string[] {
  // The address of a client among many is an example, which tells nobody anything.
  const verdict = reaches ? `reaches it, seen as ${seen_as === source ? "itself" : seen_as}` : `no: ${why}`;
  const colour = reaches ? "green" : "red";
  if (columns === undefined || packet.length + 2 + verdict.length <= columns)
    return [`${packet}  ${stdout(colour, verdict)}`];
  const lines = fitted(verdict, INDENT, columns).split("\n");
  return [packet.trimEnd(), ...lines.map((line) => stdout(colour, line))];
}

function indent(text: string): string {
  return text.replaceAll(/^/gm, "    ");
}

function lines(texts: readonly string[]): string {
  return texts.map((text) => `${text}\n`).join("");
}
