// The rollback: each step of the transaction leaves one that undoes it, before or just after it is taken.

import { type Own, readOthers, readOwn } from "../fragments/directory.ts";
import { asFailure, type Undone } from "../model/errors.ts";
import { spellUndone } from "../model/rolled-back.ts";
import type { Undo } from "../plan/backend.ts";
import { replaceFragment } from "../system/replace-file.ts";
import { verbose } from "../system/verbose.ts";

/** Takes the steps; when one fails, what was done so far is undone, the last first, and the failure says so. */
export async function orRollBack<T>(undo: Undo[], steps: () => Promise<T>): Promise<T> {
  try {
    return await steps();
  } catch (error) {
    const failure = asFailure(error);
    if (undo.length > 0) {
      failure.rolledBack = [...(failure.rolledBack ?? []), ...(await rollBack(undo))];
      failure.changed = failure.rolledBack.some(({ kind }) => kind === "not_put_back");
    }
    throw failure;
  }
}

async function rollBack(undo: Undo[]): Promise<Undone[]> {
  const done: Undone[] = [];
  const steps = undo.splice(0).reverse();
  for (const [index, step] of steps.entries()) {
    const undone = await step().then(
      (what): Undone | undefined => (what === undefined ? undefined : { kind: "put_back", what }),
      (error: unknown): Undone => ({ kind: "not_put_back", why: asFailure(error).message }),
    );
    verbose(
      () => `roll back: step ${index + 1} of ${steps.length}: ${undone ? spellUndone(undone) : "nothing to put back"}`,
    );
    if (undone !== undefined) done.push(undone);
  }
  return done;
}

interface WriteOptions {
  /** Whether restoring it is reported; so by default. */
  report?: boolean;
  /** Whether it is another's, and stays theirs. */
  others?: boolean;
}

/** Makes a file as it should be; undefined removes it. */
export async function write(
  path: string,
  after: string | undefined,
  undo: Undo[],
  { report = true, others = false }: WriteOptions = {},
): Promise<void> {
  const former = await (others ? readOthers : readOwn)(path);
  if (former?.text === after) return;
  verbose(() => (after === undefined ? `remove ${path}` : `write ${path}, ${Buffer.byteLength(after)} bytes`));
  const back = async () => ((await putBack(path, after, former)) && report ? path : undefined);
  await replaceFragment(path, after, former).catch(async (error: unknown) => {
    // The disk may have refused after the rename: then the new text is there.
    if ((await readOwn(path))?.text === after) undo.push(back);
    throw error;
  });
  undo.push(back);
}

/** Only if it still is what this process wrote: a later writer's bytes are not ours to undo. Says whether it was. */
async function putBack(path: string, written: string | undefined, former: Own | undefined): Promise<boolean> {
  const now = await readOwn(path);
  if (now?.text !== written) return false;
  await replaceFragment(path, former?.text, former);
  return true;
}
