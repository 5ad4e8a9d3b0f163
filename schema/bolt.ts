// Makes the metadata of Bolt's task from the schema of the arguments: `npm run readme` writes it, `npm run check` fails if it
// differs. The keys are those of Puppet's specification of tasks, revision 1; the types are Puppet's.

import { readFile, writeFile } from "node:fs/promises";
import args from "./arguments.schema.json" with { type: "json" };

const METADATA = new URL("../examples/bolt/docker_iptables/tasks/docker_iptables.json", import.meta.url);

interface Property {
  type: string;
  description: string;
  default?: unknown;
  enum?: string[];
  minimum?: number;
  maximum?: number;
}

function puppetType({ type, enum: choices, minimum, maximum }: Property): string {
  if (choices) return `Enum[${choices.join(", ")}]`;
  if (type === "integer") return `Integer[${minimum}, ${maximum}]`;
  if (type === "object") return "Hash[String[1], Array[String[1]]]";
  if (type === "array") return "Variant[String[1], Array[String[1], 1]]";
  return type === "boolean" ? "Boolean" : "String[1]";
}

// Bolt passes a default as if it was given; ours are the executable's own, so they are in the description.
const parameters = Object.entries(args.properties as Record<string, Property>).map(([name, property]) => {
  const known = property.default === undefined ? "" : ` Default: ${property.default}.`;
  return [name, { description: `${property.description}${known}`, type: `Optional[${puppetType(property)}]` }];
});
const metadata = {
  puppet_task_version: 1,
  description: "Publishes containers' ports on a host whose Docker runs with --iptables=false, or removes their rules.",
  input_method: "stdin",
  supports_noop: true,
  parameters: Object.fromEntries(parameters),
};

const text = `${JSON.stringify(metadata, null, 2)}\n`;
if (process.argv.includes("--check")) {
  const before = await readFile(METADATA, "utf8");
  if (before !== text) throw new Error("the metadata of Bolt's task differs from the schema; run 'npm run readme'");
} else {
  await writeFile(METADATA, text);
}
