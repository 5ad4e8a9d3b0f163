// What Node.js cannot call, and a process does then; the native executable can, by Bun's way to C, and saves the start of that process, some
// 4 ms of its time.

import { versions } from "node:process";

type Call = (...args: (number | Uint8Array)[]) => number;

/** The system calls that are used, as the manual has them: -1 is a failure. */
export type Libc = Record<"flock" | "fcntl" | "socket" | "connect" | "send" | "recv" | "getsockopt" | "close", Call>;

/** Undefined where it cannot be called from here. Never throws. */
export function libc(): Promise<Libc | undefined> {
  known ??= find();
  return known;
}

let known: Promise<Libc | undefined> | undefined;

async function find(): Promise<Libc | undefined> {
  if (!("bun" in versions)) return undefined;
  try {
    const { dlopen } = await import("bun:ffi");
    const sized = { args: ["i32", "ptr", "usize", "i32"], returns: "i32" } as const;
    // The library that this process runs with already: nothing is searched for.
    return dlopen("libc.so.6", {
      flock: { args: ["i32", "i32"], returns: "i32" },
      fcntl: { args: ["i32", "i32", "ptr"], returns: "i32" },
      socket: { args: ["i32", "i32", "i32"], returns: "i32" },
      connect: { args: ["i32", "ptr", "i32"], returns: "i32" },
      send: sized,
      recv: sized,
      getsockopt: { args: ["i32", "i32", "i32", "ptr", "ptr"], returns: "i32" },
      close: { args: ["i32"], returns: "i32" },
    }).symbols;
  } catch {
    return undefined;
  }
}
