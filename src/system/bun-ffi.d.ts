// What of Bun's way to C is used (bun.com/docs/runtime/ffi).
declare module "bun:ffi" {
  export function dlopen<Name extends string>(
    library: string,
    symbols: Record<Name, { args: readonly "i32"[]; returns: "i32" }>,
  ): { symbols: Record<Name, (...args: number[]) => number> };
}
