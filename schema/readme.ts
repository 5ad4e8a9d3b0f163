// Keeps the pages' tables in line with the schemas, their examples with the files, and the picture of a packet's way with its text:
// `npm run readme` writes them, `npm run check` fails if they differ. What is written is between <!-- NAME --> and <!-- /NAME -->.

import { readFile, writeFile } from "node:fs/promises";
import { METRICS } from "../src/cli/prometheus.ts";
import args from "./arguments.schema.json" with { type: "json" };
import { packetWaySvg, packetWayText } from "./packet-way.ts";
import result from "./result.schema.json" with { type: "json" };

const ROOT = new URL("../", import.meta.url);

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}

interface Property {
  type?: string;
  description?: string;
  default?: unknown;
  enum?: string[];
  "x-type"?: string;
  "x-required-unless"?: string[];
  "x-aliases"?: string[];
}

function typeOf({ type, enum: choices, "x-type": special }: Property): string {
  if (choices) return choices.map((choice) => `\`${choice}\``).join(", ");
  return special ?? { array: "list", integer: "int", boolean: "bool", string: "str" }[type ?? ""] ?? type ?? "";
}

const kinds = result.properties.problems.items.properties.kind;

const tables = {
  arguments: table(
    ["argument", "type", "default", ""],
    Object.entries(args.properties as Record<string, Property>).map(([name, property]) => {
      const alias = property["x-aliases"] ? ` (alias \`${property["x-aliases"].join("`, `")}\`)` : "";
      const unless = property["x-required-unless"];
      const fallback = unless
        ? ["required", ...unless.map((other) => `\`${other}\``)].join(", or ")
        : String(property.default ?? "");
      return [`\`${name}\`${alias}`, typeOf(property), fallback, property.description ?? ""];
    }),
  ),
  result: table(
    ["key", ""],
    Object.entries(result.properties).map(([name, { description }]) => [`\`${name}\``, description]),
  ),
  problems: table(
    ["kind", "", "what to do"],
    Object.entries(kinds["x-means"]).map(([kind, means]) => [
      `\`${kind}\``,
      means,
      kinds["x-remedies"][kind as keyof (typeof kinds)["x-remedies"]],
    ]),
  ),
  errors: table(
    ["code", ""],
    Object.entries(result.properties.error.properties.code["x-means"]).map(([code, means]) => [`\`${code}\``, means]),
  ),
};

/** Of docs/monitoring.md. */
const monitoring: Record<string, string> = {
  metrics: table(
    ["metric", "labels", ""],
    METRICS.map(({ name, labels, help }) => [`\`${name}\``, labels.map((label) => `\`${label}\``).join(", "), help]),
  ),
  severities: table(
    ["state", "exit status", "problems"],
    (
      [
        ["CRITICAL", 2],
        ["WARNING", 1],
        ["UNKNOWN", 3],
      ] as const
    ).map(([state, exitStatus]) => {
      const ofState = Object.entries(kinds["x-severity"]).filter(([, severity]) => severity === state.toLowerCase());
      return [state, String(exitStatus), ofState.map(([kind]) => `\`${kind}\``).join(", ")];
    }),
  ),
};

const shown = (name: string) => readFile(new URL(`examples/ansible/${name}`, ROOT), "utf8");
const playbook = async (name: string) => `\`\`\`yaml\n${await shown(name)}\`\`\``;

const pages: Record<string, Record<string, string>> = {
  "docs/monitoring.md": monitoring,
  "docs/reference.md": { arguments: tables.arguments, result: tables.result, errors: tables.errors },
  "docs/status.md": { problems: tables.problems },
  "docs/rules.md": { way: `\`\`\`\n${packetWayText()}\n\`\`\`` },
  "src/ansible/collection/README.md": {
    "site.yml": await playbook("site.yml"),
    "publish.yml": await playbook("publish.yml"),
    "confirm.yml": await playbook("confirm.yml"),
    "allow.yml": await playbook("allow.yml"),
  },
};

await keep("docs/packet-way.svg", packetWaySvg());
for (const [page, places] of Object.entries(pages)) {
  const before = await readFile(new URL(page, ROOT), "utf8");
  let after = before;
  for (const [name, text] of Object.entries(places)) {
    const place = new RegExp(`(<!-- ${name} -->\n)[^]*?(<!-- /${name} -->)`);
    if (!place.test(after)) throw new Error(`${page} has no place for ${name}`);
    after = after.replace(place, (_, open, close) => `${open}${text}\n${close}`);
  }
  await keep(page, after);
}

async function keep(path: string, text: string): Promise<void> {
  const url = new URL(path, ROOT);
  if (!process.argv.includes("--check")) await writeFile(url, text);
  else if ((await readFile(url, "utf8")) !== text) {
    throw new Error(`${path} differs from the schemas or the examples; run 'npm run readme'`);
  }
}
