// A client, as fakes/docker has it.

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type Answer, type Asked, namesIn } from "./fake-call.ts";

/** Undefined for its events, which a script follows. */
export function docker({ args: [...args], folder }: Asked): Answer | undefined {
  if (args[0] === "--host" || args[0] === "--url") args.splice(0, 2);
  const isNetwork = args[0] === "network";
  const isImage = args[0] === "image";
  if (isNetwork || isImage) args.shift();
  const documents = join(folder, isNetwork ? "networks" : isImage ? "images" : "containers");
  const [verb, ...words] = args;
  switch (verb) {
    case "version":
      return { stdout: "20.10.24\n" };
    case "ls":
      return isNetwork ? { stdout: lines(jsonIn(documents)) } : undefined;
    case "ps":
      return { stdout: lines(list(documents, words)) };
    case "inspect":
      return inspect(documents, words, isNetwork ? "network" : isImage ? "image" : "object");
  }
  return undefined;
}

function lines(words: readonly string[]): string {
  return words.map((word) => `${word}\n`).join("");
}

/** The names of the documents in a folder. */
function jsonIn(documents: string): string[] {
  return namesIn(documents).flatMap((name) => (name.endsWith(".json") ? [name.slice(0, -".json".length)] : []));
}

function list(documents: string, words: readonly string[]): string[] {
  const isAll = words.includes("--all");
  return jsonIn(documents).flatMap((name) => {
    const text = readFileSync(join(documents, `${name}.json`), "utf8");
    if (!isAll && !text.includes('"Running":true')) return [];
    return words.some((word) => word.includes("Names")) ? [name] : [/.*"Id":"([0-9a-f]*)"/.exec(text)?.[1] ?? ""];
  });
}

function inspect(documents: string, names: readonly string[], word: string): Answer {
  const texts = names.map((name) => documentOf(documents, name));
  const found = texts.filter((text) => text !== undefined);
  const missing = names.filter((_name, index) => texts[index] === undefined);
  const parts = found.flatMap((text, index) => (index === 0 ? [text] : [Buffer.from(","), text]));
  return {
    exitCode: missing.length === 0 ? 0 : 1,
    stdout: Buffer.concat([Buffer.from("["), ...parts, Buffer.from("]\n")]),
    stderr: missing.map((name) => `Error: No such ${word}: ${name}\n`).join(""),
  };
}

/** By its name, or by a whole id. */
function documentOf(documents: string, name: string): Buffer | undefined {
  const path = join(documents, `${name}.json`);
  if (existsSync(path)) return readFileSync(path);
  if (name.length < 64) return undefined;
  const paths = jsonIn(documents).map((one) => join(documents, `${one}.json`));
  const own = paths.find((one) => readFileSync(one, "utf8").includes(`"Id":"${name}"`));
  return own === undefined ? undefined : readFileSync(own);
}
