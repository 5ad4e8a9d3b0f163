// What was read of nftables, and is not read again while its generation is the same.

import { beforeEach, expect, test } from "vitest";
import { across, Kept } from "../../src/netfilter/kept.ts";
import type { Program } from "../../src/system/program.ts";

const PROGRAM: Program = { path: "/usr/sbin/nft", inode: 1, changed: 1 };

/** What the kernel and the host say, and how often it was listed. */
const kernel: { generation: number | undefined; program: Program | undefined; lists: number } = {
  generation: 1,
  program: PROGRAM,
  lists: 0,
};
const allows = { last: true, hold: true };

const generation = async () => kernel.generation;
const asked = { generation, programOf: async () => kernel.program };
const keeping = { name: "", command: "nft", lasts: () => allows.last, holds: async () => allows.hold };

function changed(): void {
  kernel.generation = (kernel.generation ?? 0) + 1;
}

beforeEach(() => {
  Object.assign(kernel, { generation: 1, program: PROGRAM, lists: 0 });
  Object.assign(allows, { last: true, hold: true });
});

function reader(name = ""): () => Promise<number> {
  const kept = new Kept<number>({ ...keeping, name }, asked);
  return () => kept.read(async () => ++kernel.lists);
}

test("it is kept while the generation is the same, and no longer", async () => {
  const read = reader();
  expect([await read(), await read()]).toEqual([1, 1]);
  changed();
  expect([await read(), await read()]).toEqual([2, 2]);
});

test("nothing is kept of a script, nor of another program", async () => {
  const read = reader();
  kernel.program = undefined;
  expect([await read(), await read()]).toEqual([1, 2]);
  kernel.program = PROGRAM;
  expect([await read(), await read()]).toEqual([3, 3]);
  kernel.program = { ...PROGRAM, inode: 2 };
  expect([await read(), await read()]).toEqual([4, 4]);
  kernel.program = { ...PROGRAM, inode: 2, changed: 2 };
  expect(await read()).toBe(5);
  kernel.program = undefined;
  expect(await read()).toBe(6);
});

test("nor what was read while something changed, what may not be kept, what holds no more, nor where nobody knows", async () => {
  const kept = new Kept<number>(keeping, asked);
  const read = () => kept.read(async () => ++kernel.lists);
  const during = async () => {
    changed();
    return ++kernel.lists;
  };
  expect([await kept.read(during), await read()]).toEqual([1, 2]);
  changed();
  allows.last = false;
  expect([await read(), await read()]).toEqual([3, 4]);
  allows.last = true;
  expect([await read(), await read()]).toEqual([5, 5]);
  allows.hold = false;
  expect(await read()).toBe(6);
  allows.hold = true;
  kernel.generation = undefined;
  expect([await read(), await read()]).toEqual([7, 8]);
});

test("of which generation a value is, while it is the one of now", async () => {
  const kept = new Kept<number>(keeping, asked);
  const value = await kept.read(async () => 7);
  expect(await kept.generationOf(value)).toBe(1);
  expect(await kept.generationOf(8)).toBeUndefined();
  allows.hold = false;
  expect(await kept.generationOf(value)).toBeUndefined();
  allows.hold = true;
  kernel.program = { ...PROGRAM, inode: 2 };
  expect(await kept.generationOf(value)).toBeUndefined();
  kernel.program = PROGRAM;
  changed();
  expect(await kept.generationOf(value)).toBeUndefined();
});

test("over transactions of our own, of what they do not touch", async () => {
  const [read, touched] = [reader("kept"), reader("touched")];
  const own = (count: number, done: number, isDone = true) =>
    across(
      ["touched"],
      count,
      async () => {
        for (let one = 0; one < done; one++) changed();
        return isDone;
      },
      (result) => result,
      generation,
    );
  expect([await read(), await touched()]).toEqual([1, 2]);
  const from = kernel.generation;
  expect(await own(1, 1)).toEqual({ result: true, from });
  expect([await read(), await touched()]).toEqual([1, 3]);
  await own(3, 3);
  expect(await read()).toBe(1);
  // Another's came between, one of ours did not come, one failed.
  expect(await own(3, 4)).toEqual({ result: true });
  expect(await read()).toBe(4);
  await own(3, 2);
  expect(await read()).toBe(5);
  await own(1, 1, false);
  expect(await read()).toBe(6);
  // What was older before is not newer after it.
  changed();
  await own(1, 1);
  expect(await read()).toBe(7);
});
