// Doors 1 and 2: JSON on stdin, or in the file that Ansible names. It ends in raw arguments.

import { createReadStream } from "node:fs";
import { errno, excerpt, Failure } from "../model/errors.ts";

/** No list of containers comes near it. */
const LIMIT = 1024 * 1024;
/** More than the limit is read to its end, so that the writer sees no broken pipe, but not for ever. */
const PATIENCE = 256 * 1024 * 1024;

export type Raw = Record<string, unknown>;

/** Throws Failure `arguments_invalid`. */
export async function readArgsFile(path: string): Promise<Raw> {
  try {
    return parseArguments(await readAll(createReadStream(path)), path);
  } catch (error) {
    if (error instanceof Failure) throw error;
    throw new Failure(
      "arguments_invalid",
      `the arguments file ${path} cannot be read (${errno(error)})`,
      { path },
      { cause: error },
    );
  }
}

/** Throws Failure `arguments_invalid`. */
export async function readStdin(stdin: AsyncIterable<Uint8Array>): Promise<Raw> {
  const text = await readAll(stdin).catch((error: unknown) => {
    if (error instanceof Failure) throw error;
    throw new Failure("arguments_invalid", `stdin cannot be read (${errno(error)})`, {}, { cause: error });
  });
  return parseArguments(text, "stdin");
}

async function readAll(stream: AsyncIterable<Uint8Array>): Promise<string> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of stream) {
    size += chunk.length;
    if (size <= LIMIT) chunks.push(chunk);
    if (size > PATIENCE) break;
  }
  if (size > LIMIT)
    throw new Failure("arguments_invalid", `the arguments are larger than ${LIMIT} bytes`, { limit: LIMIT });
  return Buffer.concat(chunks).toString("utf8");
}

/** A flat object, or one in ANSIBLE_MODULE_ARGS. */
function parseArguments(text: string, source: string): Raw {
  if (text.trim() === "") {
    throw new Failure(
      "arguments_invalid",
      `${source} is empty; give the arguments as JSON, such as {"container": "web"}, or see --help`,
    );
  }
  let value: unknown;
  try {
    value = JSON.parse(text.replace(/^\uFEFF/, ""));
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new Failure("arguments_invalid", `${source} is not JSON: ${excerpt(why, 200)}`, {}, { cause: error });
  }
  if (isObject(value) && isObject(value["ANSIBLE_MODULE_ARGS"])) return value["ANSIBLE_MODULE_ARGS"];
  if (isObject(value)) return value;
  throw new Failure("arguments_invalid", `${source} is JSON but not an object; give one such as {"container": "web"}`);
}

function isObject(value: unknown): value is Raw {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
