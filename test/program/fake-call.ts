// A call of one of fakes/, and what the fakes have in common, within the tests' process.

import { appendFileSync, existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { isExecutable } from "../executable.ts";

export interface Asked {
  /** By which it was called: "ip6tables-save". */
  name: string;
  args: readonly string[];
  /** $FAKE */
  folder: string;
  path: string;
}

export interface Answer {
  exitCode?: number;
  stdout?: string | Buffer;
  stderr?: string;
}

/** What it says, or what it does once it is started and its stdin read. */
export type Deed = Answer | ((input: string) => Answer) | Promise<Answer>;

/** Undefined where the script has to answer. */
export type Fake = (asked: Asked) => Deed | undefined;

/** As prelude.sh notes it. */
export function noteCall(folder: string, name: string, args: readonly string[]): void {
  appendFileSync(join(folder, "calls"), `${[name, ...args].join(" ")}\n`);
}

/** Whether nothing is in the way of one of fakes/ where it is looked for. */
export function isFake(name: string, script: string, { folder, path }: Pick<Asked, "folder" | "path">): boolean {
  return textAt(programOf(name, path)) === script && !textAt(join(folder, `on-${basename(name)}`));
}

export function scriptOf(name: string): string {
  return readFileSync(fileURLToPath(new URL(`fakes/${name}`, import.meta.url)), "utf8");
}

/** As execvp(3) finds it; "" where there is none. */
export function programOf(file: string, path: string): string {
  const paths = file.includes("/") ? [file] : path.split(":").map((folder) => join(folder, file));
  return paths.find(isExecutable) ?? "";
}

export function textAt(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}

/** As a shell's * has them. */
export function namesIn(folder: string): string[] {
  return existsSync(folder)
    ? readdirSync(folder)
        .filter((name) => !name.startsWith("."))
        .sort()
    : [];
}
