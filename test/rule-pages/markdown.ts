// The pages of docs/rules, made of the golden cases: what inspect said, and the fragments that come of it.

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { flagsOf } from "../../src/model/flags.ts";
import { KINDS, kindsIn } from "./kinds.ts";
import { type Example, PAGES, type Page } from "./pages.ts";

const MADE = "<!-- Made of test/rule-pages and the golden cases by `npm run readme`: do not edit. -->";

const FOLDERS = {
  container: new URL("../cases/", import.meta.url),
  host: new URL("../host-cases/", import.meta.url),
};
const DIRECTORIES: Record<string, string> = {
  IPv4: "/etc/iptables.d",
  IPv6: "/etc/ip6tables.d",
  ipv4: "/etc/iptables.d",
  ipv6: "/etc/ip6tables.d",
};

type Json = Record<string, unknown>;

/** A case as its file has it: a container's, or the host's. */
export interface Case {
  args?: Json;
  wishes?: Json;
  inspect?: Json[];
  networks: Json[];
}

/** Where the pages are. */
export const PAGES_FOLDER = fileURLToPath(new URL("../../docs/rules/", import.meta.url));

/** Each page's text by the name of its file. Throws Error for a rule that has no reason. */
export function makePages(): Map<string, string> {
  return new Map([["README.md", indexText()], ...PAGES.map((page) => [`${page.file}.md`, pageText(page)] as const)]);
}

/** What a case gives. */
export function readCase(of: Page["of"], name: string): Case {
  return JSON.parse(readFileSync(new URL(`${name}.json`, FOLDERS[of]), "utf8"));
}

function indexText(): string {
  return [
    "# The rules, by configuration",
    MADE,
    "Which rules a container and the host get, and why. Each page shows how the container is started, what inspect says of it (the part that matters), the " +
      "fragments as they are written, and what breaks without each kind of rule. But for [lists of who may connect](allow.md) they are the rules that Docker 29 makes itself, in files of the host's own; " +
      "the path of a packet through them is drawn in [what the rules do](../rules.md).",
    `| page | |\n| --- | --- |\n${PAGES.map(({ file, title, about }) => `| [${title}](${file}.md) | ${about} |`).join("\n")}`,
    "## All kinds of rules",
    "In the order in which a packet meets them.",
    reasons(new Set(KINDS)),
    "",
  ].join("\n\n");
}

function pageText({ title, about, of, examples }: Page): string {
  const outcomes = examples.map(({ name }) => readFileSync(new URL(`${name}.txt`, FOLDERS[of]), "utf8"));
  const found = new Set(outcomes.flatMap((outcome) => [...kindsIn(outcome)]));
  const kinds = new Set(KINDS.filter((kind) => found.has(kind)));
  return [
    `# ${title}`,
    MADE,
    about,
    ...examples.map((example, index) => exampleText(of, example, outcomes[index] ?? "")),
    ...(kinds.size === 0 ? [] : ["## Why each rule is there", reasons(kinds)]),
    "[All configurations](README.md)",
    "",
  ].join("\n\n");
}

function reasons(kinds: ReadonlySet<(typeof KINDS)[number]>): string {
  return [...kinds].map(({ table, form, why }) => `- \`${table}\`: \`${form}\`<br>\n  ${why}`).join("\n");
}

function exampleText(of: Page["of"], { name, title, shell, says }: Example, outcome: string): string {
  const given = readCase(of, name);
  const create = given.args === undefined ? [] : [`docker_iptables create web${flags(given.args)}`];
  return [
    ...(title === "" ? [] : [`## ${title}`]),
    fenced("sh", [shell, ...create].join("\n")),
    ...(says === "" ? [] : [says]),
    ...(given.inspect === undefined ? [] : ["What inspect says:", fenced("json", shown(excerptOf(given)))]),
    ...(of === "host" ? [networksText(given.networks)] : []),
    outcomeText(of === "host" && !hasIpv6(given) ? outcome.replace(/^== ipv6 [^=]*/gm, "") : outcome),
  ].join("\n\n");
}

/** Whether one of the networks has IPv6: without one, the host's IPv6 fragments have the jumps alone. */
function hasIpv6({ networks }: Case): boolean {
  return /"Subnet": ?"[^"]*:/.test(JSON.stringify(networks));
}

function flags({ container: _, ...args }: Json): string {
  return flagsOf(args)
    .map((word) => (word.includes("*") ? ` '${word}'` : ` ${word}`))
    .join("");
}

/** Why there is no rule, the warnings, and the fragments; families without one are omitted if the other has one. */
function outcomeText(outcome: string): string {
  const [head = "", ...parts] = outcome.split(/^== /m);
  const said = head
    .trim()
    .replace(/^(?:not published|fails): /, "")
    .split("\n")
    .filter(Boolean);
  const files = parts
    .map((part) => [firstLine(part), part.slice(firstLine(part).length + 1)] as const)
    .filter(([, text]) => text !== "no file\n")
    .map(([heading, text]) => {
      const [family = "", file = "11-docker-container_web"] = heading.split(" ");
      return `\`${DIRECTORIES[family]}/${file}\`:\n\n${fenced("", text.trimEnd())}`;
    });
  return [
    ...(said.length === 0 ? [] : [`The output says:\n\n${said.map((line) => `> ${line}`).join("\n>\n")}`]),
    ...(files.length > 0 ? files : ["No file, no rule."]),
  ].join("\n\n");
}

function firstLine(text: string): string {
  return text.slice(0, text.indexOf("\n"));
}

function networksText(networks: readonly Json[]): string {
  const lines = networks.map((network) => spaced(network));
  return ["The daemon's networks:", fenced("json", lines.join("\n"))].join("\n\n");
}

/** The part of both documents that matters to rules; networks that are Docker's default one say nothing new. */
function excerptOf({ inspect = [], networks }: Case): Json {
  const document = inspect[0] as {
    Config?: { Labels?: Json };
    HostConfig?: Json;
    NetworkSettings?: { Ports?: unknown; Networks?: Record<string, Json> };
  };
  const { Ports = {}, Networks = {} } = document.NetworkSettings ?? {};
  const mode = document.HostConfig?.["NetworkMode"];
  const known = networks.map((one) => picked(one, NETWORK_KEYS)).filter(({ Name }) => Name !== "bridge");
  const labels = document.Config?.Labels ?? {};
  const ours = Object.keys(labels).filter((label) => label.startsWith("docker_iptables."));
  return {
    ...(ours.length === 0 ? {} : { Labels: picked(labels, ours) }),
    ...(mode === undefined ? {} : { NetworkMode: mode }),
    Ports,
    Networks: Object.fromEntries(Object.entries(Networks).map(([name, place]) => [name, picked(place, PLACE_KEYS)])),
    ...(known.length === 0 ? {} : { "network inspect": known }),
  };
}

const PLACE_KEYS = ["Gateway", "IPAddress", "IPv6Gateway", "GlobalIPv6Address", "GwPriority"];
const NETWORK_KEYS = [
  "Name",
  "name",
  "Id",
  "Driver",
  "driver",
  "Internal",
  "internal",
  "network_interface",
  "Options",
  "IPAM",
  "subnets",
];

/** Those of these keys that say something: neither empty nor false. */
function picked(document: Json, keys: readonly string[]): Json {
  const says = (value: unknown) =>
    value !== undefined &&
    value !== null &&
    !["", "{}", "[]", "false"].includes(typeof value === "string" ? value : JSON.stringify(value));
  return Object.fromEntries(keys.filter((key) => says(document[key])).map((key) => [key, document[key]]));
}

/** JSON in which what fits is on one line. */
function shown(value: unknown, indent = ""): string {
  const line = spaced(value);
  if (indent.length + line.length <= 110 && indent !== "") return line;
  if (typeof value !== "object" || value === null) return line;
  const inner = `${indent}  `;
  const [open, close] = Array.isArray(value) ? ["[", "]"] : ["{", "}"];
  const lines = Array.isArray(value)
    ? value.map((one) => `${inner}${shown(one, inner)}`)
    : Object.entries(value).map(([key, one]) => `${inner}${JSON.stringify(key)}: ${shown(one, inner)}`);
  return `${open}\n${lines.join(",\n")}\n${indent}${close}`;
}

function spaced(value: unknown): string {
  return JSON.stringify(value, undefined, 1)
    .replace(/\n\s*/g, " ")
    .replace(/\[ | \]/g, (bracket) => bracket.trim());
}

function fenced(language: string, text: string): string {
  return `\`\`\`${language}\n${text}\n\`\`\``;
}
