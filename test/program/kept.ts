// What the kernel does for a process that is killed: it closes its files, and so lets go of its locks, and the ends of the pipes
// to the commands that it has started. For a run within the tests' process (in-process.ts).

import type { spawn } from "node:child_process";
import type { FileHandle } from "node:fs/promises";
import { type FakeChild, type OwnRun, spawnFake, spawnOwn } from "./fakes-in-process.ts";

type Files = Record<string, unknown>;
type Operation = (...args: unknown[]) => Promise<unknown>;

export class Kept {
  readonly #asked = new Set<Promise<unknown>>();
  readonly #closes: (() => Promise<void>)[] = [];
  readonly #children = new Set<FakeChild>();

  /** node:fs/promises, each of whose functions is remembered until it is done. */
  files(real: unknown): Files {
    const functions = Object.entries(real as Files).filter(([, one]) => typeof one === "function");
    return Object.fromEntries(functions.map(([name, one]) => [name, this.#remembered(one as Operation)]));
  }

  #remembered(operation: Operation): Operation {
    return (...args) => {
      const asked = operation(...args);
      if (!(asked instanceof Promise)) return asked;
      const done = asked.then(
        (result) => this.#keep(result),
        () => {},
      );
      this.#asked.add(done);
      void done.then(() => this.#asked.delete(done));
      return asked;
    };
  }

  #keep(result: unknown): void {
    // Its own, before fakes/fault.cjs puts another in its place.
    if (isHandle(result)) this.#closes.push(result.close.bind(result));
  }

  /** child_process.spawn; `own` answers for a run that starts the executable itself, with nothing in its environment but a PATH. */
  spawn(real: unknown, own: OwnRun): unknown {
    const processes = real as { spawn: typeof spawn };
    return (...[file, args, options]: Parameters<typeof processes.spawn>) => {
      const fake = file === "env" ? spawnOwn(args, own) : spawnFake(file, args, options);
      if (fake === undefined) return processes.spawn(file, args, options);
      this.#children.add(fake);
      fake.on("exit", () => this.#children.delete(fake));
      return fake;
    };
  }

  /** Ends when what was asked for is done and all is closed. */
  async release(): Promise<void> {
    for (const child of this.#children) child.orphan();
    await Promise.all(this.#asked);
    await Promise.all(this.#closes.map((close) => close().catch(() => {})));
  }
}

function isHandle(result: unknown): result is FileHandle {
  return typeof (result as Partial<FileHandle> | null | undefined)?.fd === "number" && "close" in (result as object);
}
