// What a validator complains of, in a sentence. Pure.

import type { ErrorObject } from "ajv";
import { excerpt } from "./errors.ts";

/** ajv's errors as one sentence: every offending property once, every offending list element named. */
export function describeErrors(errors: readonly ErrorObject[]): string {
  const complaints = new Map<string, string[]>();
  for (const error of errors) {
    const name = error.instancePath.split("/")[1] ?? "";
    if (error.keyword === "enum") {
      const choices = (error.params as { allowedValues: string[] }).allowedValues.join(", ");
      complaints.set(`value of ${name} must be one of: ${choices}`, [excerpt(String(error.data), 80)]);
    } else if (error.keyword === "type") {
      complaints.set(`${name} must be of the type ${error.params["type"]}`, [shown(error.data)]);
    } else {
      const must = (error.parentSchema as { "x-must"?: string })["x-must"];
      if (must === undefined) continue;
      const key = `${name} ${must}`;
      complaints.set(key, [...(complaints.get(key) ?? []), shown(error.data)]);
    }
  }
  return [...complaints].map(([what, got]) => `${what}, got: ${got.join(", ")}`).join("; ");
}

/** A value as a message shows it: short, and with its control characters visible. */
function shown(value: unknown): string {
  return excerpt(JSON.stringify(value) ?? String(value), 80);
}
