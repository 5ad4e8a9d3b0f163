// Keeps the README's tables true to the schemas: `npm run readme` writes them, `npm run check` fails if they differ.
// A table stands between <!-- NAME --> and <!-- /NAME -->.

import { readFile, writeFile } from "node:fs/promises";
import args from "./arguments.schema.json" with { type: "json" };
import result from "./result.schema.json" with { type: "json" };

const README = new URL("../README.md", import.meta.url);

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

const tables: Record<string, string> = {
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
    ["kind", ""],
    Object.entries(result.properties.problems.items.properties.kind["x-means"]).map(([kind, means]) => [
      `\`${kind}\``,
      means,
    ]),
  ),
  errors: table(
    ["code", ""],
    Object.entries(result.properties.error.properties.code["x-means"]).map(([code, means]) => [`\`${code}\``, means]),
  ),
};

const before = await readFile(README, "utf8");
let after = before;
for (const [name, text] of Object.entries(tables)) {
  const place = new RegExp(`(<!-- ${name} -->\n)[^]*?(<!-- /${name} -->)`);
  if (!place.test(after)) throw new Error(`README.md has no place for the table ${name}`);
  after = after.replace(place, (_, open, close) => `${open}${text}\n${close}`);
}
if (process.argv.includes("--check")) {
  if (after !== before) throw new Error("README.md differs from the schemas; run 'npm run readme'");
} else {
  await writeFile(README, after);
}
