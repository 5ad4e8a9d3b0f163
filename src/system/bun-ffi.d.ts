// What of Bun's way to C is used (bun.com/docs/runtime/ffi).
declare module "bun:ffi" {
  type Parameter = "i32" | "usize" | "ptr";
  export function dlopen<Name extends string>(
    library: string,
    symbols: Record<Name, { args: readonly Parameter[]; returns: "i32" }>,
  ): { symbols: Record<Name, (...args: (number | Uint8Array)[]) => number> };
}
