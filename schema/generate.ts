// Makes src/generated from the schemas of this folder: the types (json-schema-to-typescript), the validators (ajv, standalone code, so
// that nothing is compiled when the executable starts), and how serious each kind of problem is.
// The folder is not kept in git: `npm run generate` makes it, and the build, the tests and the checks call that.

import { mkdir, readFile, writeFile } from "node:fs/promises";
import { Ajv } from "ajv";
import standalone from "ajv/dist/standalone/index.js";
import { compile, type JSONSchema } from "json-schema-to-typescript";
import result from "./result.schema.json" with { type: "json" };

const SCHEMAS = ["arguments", "result", "container", "network", "unconfirmed"] as const;
const OUT = new URL("../src/generated/", import.meta.url);

/** What a reader may rely on: defaults are filled in by the validator, what is x-required-unless by src/cli/request.ts. */
function withDefaultsRequired(schema: JSONSchema & { required?: string[] }): JSONSchema {
  const filled = Object.entries(schema.properties ?? {}).filter(
    ([, property]) => property.default !== undefined || property["x-required-unless"],
  );
  return { ...structuredClone(schema), required: [...(schema.required ?? []), ...filled.map(([key]) => key)] };
}

await mkdir(OUT, { recursive: true });
// The module is CommonJS: its default export is one `default` deeper at run time than its types say.
const toCode = "default" in standalone ? (standalone.default as typeof standalone) : standalone;
const ajv = new Ajv({
  allErrors: true,
  verbose: true,
  useDefaults: true,
  allowUnionTypes: true,
  code: { source: true, esm: true, lines: true },
});
ajv.addVocabulary([
  "x-must",
  "x-required-unless",
  "x-aliases",
  "x-type",
  "x-means",
  "x-remedies",
  "x-severity",
  "x-excludes",
  "x-needs",
  "x-returned",
]);

for (const name of SCHEMAS) {
  const schema = JSON.parse(await readFile(new URL(`${name}.schema.json`, import.meta.url), "utf8"));
  const types = await compile(withDefaultsRequired(schema), name, {
    ignoreMinAndMaxItems: true,
    bannerComment: `// From schema/${name}.schema.json by \`npm run generate\`.`,
    strictIndexSignatures: true,
  });
  await writeFile(new URL(`${name}.ts`, OUT), types);

  const validator = toCode(ajv, ajv.compile(schema));
  await writeFile(new URL(`validate-${name}.js`, OUT), validator);
  await writeFile(
    new URL(`validate-${name}.d.ts`, OUT),
    `import type { ErrorObject } from "ajv";
import type { ${schema.title} } from "./${name}.ts";

export function validate(data: unknown): data is ${schema.title};
export namespace validate {
  const errors: ErrorObject[] | null;
}
`,
  );
}

// Without the texts of the schema, which the executable would carry.
await writeFile(
  new URL("severities.ts", OUT),
  `// From schema/result.schema.json by \`npm run generate\`.
import type { ProblemKind } from "./result.ts";

export const SEVERITIES: Readonly<Record<ProblemKind, "critical" | "warning" | "unknown">> = ${JSON.stringify(result.properties.problems.items.properties.kind["x-severity"], null, 2)};
`,
);
