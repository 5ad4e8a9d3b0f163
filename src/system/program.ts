// Which program a command's name leads to.

import { open, realpath } from "node:fs/promises";
import { join } from "node:path";
import { variable } from "./environment.ts";
import { searchPath } from "./exec.ts";

/** A program's file: its path, links followed, and what an upgrade changes. */
export interface Program {
  path: string;
  inode: number;
  /** ms */
  changed: number;
}

/**
 * Undefined where it leads to none, or to a script: nobody knows what that reads, another namespace's rules, for one. An upgrade is
 * noticed within a second. Never throws.
 */
export function compiledProgram(command: string): Promise<Program | undefined> {
  const now = performance.now();
  const last = found.get(command);
  if (last !== undefined && now - last.at < LASTS) return last.program;
  const program = findProgram(command);
  found.set(command, { at: now, program });
  return program;
}

const found = new Map<string, { at: number; program: Promise<Program | undefined> }>();
/** milliseconds */
const LASTS = 1000;

async function findProgram(command: string): Promise<Program | undefined> {
  for (const directory of searchPath(variable("PATH")).split(":")) {
    const path = await realpath(join(directory, command)).catch(() => undefined);
    if (path !== undefined) return readProgram(path).catch(() => undefined);
  }
  return undefined;
}

async function readProgram(path: string): Promise<Program | undefined> {
  const file = await open(path);
  try {
    const { buffer } = await file.read(Buffer.alloc(ELF.length), 0, ELF.length, 0);
    if (!buffer.equals(ELF)) return undefined;
    const { ino, ctimeMs } = await file.stat();
    return { path, inode: ino, changed: ctimeMs };
  } finally {
    await file.close();
  }
}

/** As a program begins that is compiled (elf(5)). */
const ELF = Buffer.from("\x7fELF");

/** Whether it is the same file, and unchanged. Pure. */
export function isSameProgram(one: Program | undefined, other: Program | undefined): boolean {
  return one?.path === other?.path && one?.inode === other?.inode && one?.changed === other?.changed;
}
