// What a failure is: a code from the closed set of schema/result.schema.json, a sentence that names what
// failed, on what, and what to do next, and the facts of the case for machines. Pure.

import type { ErrorCode } from "../generated/result.ts";

/** What became of one step that was to be undone: `what` is a path, or a thing in a word or two. */
export type Undone = { kind: "put_back"; what: string } | { kind: "not_put_back"; why: string };

/** A failure that was foreseen. Everything else that is thrown is a bug and is reported as `internal`. */
export class Failure extends Error {
  readonly code: ErrorCode;
  /** JSON values, e.g. `{command, exit_code, stderr}` or `{path}`. */
  readonly facts: Readonly<Record<string, unknown>>;
  /** What was restored after this failure, and what could not be; set by the transaction. */
  rolledBack: Undone[] | undefined;
  /** Whether something stays changed in spite of the failure; set by the transaction. */
  changed = false;

  constructor(code: ErrorCode, message: string, facts: Record<string, unknown> = {}, options?: ErrorOptions) {
    super(message, options);
    this.name = "Failure";
    this.code = code;
    this.facts = facts;
  }
}

/** Something changed between our read and our turn. If this call itself has changed nothing, it starts again. */
export class ConcurrentChange extends Failure {
  constructor(message: string, facts: Record<string, unknown>) {
    super("concurrent_change", message, facts);
  }
}

/** The `code` of a Node.js system error (`ENOENT`, `EACCES`, …), or "" for any other value. */
export function errno(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : "";
}

/** What a process can be refused, by the errno that says so. */
const EXHAUSTED: Readonly<Record<string, string>> = {
  EMFILE: "this process has as many open files as it may have (ulimit -n)",
  ENFILE: "this system has as many open files as it may have (sysctl fs.file-max)",
  EAGAIN: "this user has as many processes as it may have, or this system has (ulimit -u, sysctl kernel.pid_max)",
  ENOMEM: "this system has no memory left, or this process may use no more (ulimit -v)",
};

/** The failure of what could not be done (`what`) because the kernel gives this process no more; undefined for another errno. */
export function exhaustion(code: string, what: string, cause?: unknown): Failure | undefined {
  const why = EXHAUSTED[code];
  if (why === undefined) return undefined;
  return new Failure("resources_exhausted", `${what}: ${why}`, { errno: code }, { cause });
}

/**
 * For what need not be there: `value` in the place of what cannot be read. What cannot be read because this process may open
 * no more files may be there all the same: then it throws Failure `resources_exhausted`.
 */
export function orElse<T>(value: T): (error: unknown) => T {
  return (error) => {
    const failure = error instanceof Failure ? error : asFailure(error);
    if (failure.code === "resources_exhausted") throw failure;
    return value;
  };
}

/** At most `limit` characters of a text from outside, so that a message stays readable. */
export function excerpt(text: string, limit = 500): string {
  const trimmed = text.trim();
  return trimmed.length <= limit ? trimmed : `${trimmed.slice(0, limit)}…`;
}

/** A failure as it is; anything else that was thrown is a bug of ours. */
export function asFailure(error: unknown): Failure {
  if (error instanceof Failure) return error;
  const message = error instanceof Error ? error.message : String(error);
  const failure = exhaustion(errno(error), message, error);
  if (failure !== undefined) return failure;
  return new Failure(
    "internal",
    `a bug in docker_iptables: ${message}; please report it, with debug: true`,
    {},
    { cause: error },
  );
}
