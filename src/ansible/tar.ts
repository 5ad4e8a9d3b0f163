// Files -> the bytes of a .tar.gz (ustar). Pure: the same files give the same bytes, whoever builds them and when.

import { gzipSync } from "node:zlib";

export interface TarFile {
  /** Relative, with `/`, and at most 100 bytes: the name field of a ustar header (POSIX.1-1988). */
  path: string;
  /** undefined for a directory. */
  content: Buffer | undefined;
  executable?: boolean;
}

const BLOCK = 512;

/** In the order given. Owner root, time 0. Throws Error on a path that is too long. */
export function tarGz(files: readonly TarFile[]): Buffer {
  const blocks = files.flatMap((file) => [headerOf(file), padded(file.content ?? Buffer.alloc(0))]);
  const bytes = gzipSync(Buffer.concat([...blocks, Buffer.alloc(2 * BLOCK)]), { level: 9 });
  // Byte 9 names the system that compressed (RFC 1952): 255, unknown, on all of them.
  bytes[9] = 255;
  return bytes;
}

function headerOf({ path, content, executable = false }: TarFile): Buffer {
  const header = Buffer.alloc(BLOCK);
  const write = (text: string, offset: number) => header.write(text, offset, "utf8");
  const octal = (value: number, digits: number) => value.toString(8).padStart(digits, "0");
  if (Buffer.byteLength(path) > 100) throw new Error(`${path} is longer than the 100 bytes of a tar header`);
  write(path, 0);
  write(octal(content === undefined || executable ? 0o755 : 0o644, 7), 100);
  write(octal(0, 7), 108);
  write(octal(0, 7), 116);
  write(octal(content?.length ?? 0, 11), 124);
  write(octal(0, 11), 136);
  write(content === undefined ? "5" : "0", 156);
  write("ustar\u000000root", 257);
  write("root", 297);
  // The sum of all bytes, its own field taken for spaces.
  const sum = header.reduce((total, byte) => total + byte, 8 * 0x20);
  write(`${octal(sum, 6)}\0 `, 148);
  return header;
}

function padded(content: Buffer): Buffer {
  return Buffer.concat([content, Buffer.alloc((BLOCK - (content.length % BLOCK)) % BLOCK)]);
}
