// stdin and stdout whose other end says that nothing waits on them (O_NONBLOCK): what is not there yet comes later.

import { afterEach, expect, test, vi } from "vitest";
import { chunksOf, mayBeTerminal, STDIN, STDOUT, writeAll } from "../../src/system/standard-streams.ts";

const kernel = vi.hoisted(() => ({ reads: [] as (string | Error)[], room: [] as (number | Error)[], written: "" }));

vi.mock("node:fs", () => {
  type Done = (error: Error | null, count?: number) => void;
  const read = (_fd: number, into: Buffer, _at: number, _size: number, _from: null, done: Done) => {
    const next = kernel.reads.shift() ?? "";
    if (next instanceof Error) setImmediate(done, next);
    else setImmediate(done, null, into.write(next));
  };
  const custom = Symbol.for("nodejs.util.promisify.custom");
  const promised = (fd: number, into: Buffer, at: number, size: number, from: null) =>
    new Promise((given, refuse) =>
      read(fd, into, at, size, from, (error, bytesRead) => (error ? refuse(error) : given({ bytesRead }))),
    );
  return {
    read: Object.assign(read, { [custom]: promised }),
    writeSync(_fd: number, bytes: Buffer): number {
      const next = kernel.room.shift() ?? bytes.length;
      if (next instanceof Error) throw next;
      kernel.written += bytes.subarray(0, next).toString("latin1");
      return Math.min(next, bytes.length);
    },
    fstatSync() {
      throw failing("EBADF");
    },
  };
});

function failing(code: string): Error {
  return Object.assign(new Error(code), { code });
}

afterEach(() => {
  Object.assign(kernel, { reads: [], room: [], written: "" });
});

async function all(): Promise<string> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of chunksOf(STDIN)) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

test("what is read comes in pieces, with pauses", async () => {
  kernel.reads = [failing("EAGAIN"), '{"contain', failing("EAGAIN"), failing("EAGAIN"), 'er":"web"}', ""];
  expect(await all()).toBe('{"container":"web"}');
});

test("what cannot be read is said", async () => {
  kernel.reads = ["{", failing("EISDIR")];
  await expect(all()).rejects.toThrow("EISDIR");
});

test("what is written goes in pieces, between characters' bytes too, with pauses", () => {
  kernel.room = [failing("EAGAIN"), 2, failing("EAGAIN"), 0, 3];
  writeAll(STDOUT, "é€ and more\n");
  expect(Buffer.from(kernel.written, "latin1").toString()).toBe("é€ and more\n");
});

test("whoever reads no more is no reader", () => {
  kernel.room = [2, failing("EPIPE")];
  expect(() => writeAll(STDOUT, "text")).toThrow("EPIPE");
});

test("a closed descriptor is no terminal", () => {
  expect(mayBeTerminal(STDOUT)).toBe(false);
});
