// What Bun links statically, with the licences of each, from its own LICENSE.md. To be looked at when its pinned version
// changes (package.json).

/** A library, or a port of one. */
export interface Part {
  name: string;
  /** SPDX identifiers; of a choice the one that is taken. */
  ids: readonly string[];
  url: string;
}

export const BUN_PARTS: readonly Part[] = [
  { name: "bun", ids: ["MIT"], url: "https://github.com/oven-sh/bun" },
  {
    name: "JavaScriptCore and WebCore",
    ids: ["LGPL-2.0-or-later", "BSD-2-Clause"],
    url: "https://github.com/oven-sh/webkit",
  },
  { name: "boringssl", ids: ["Apache-2.0", "OpenSSL", "ISC"], url: "https://boringssl.googlesource.com/boringssl" },
  { name: "brotli", ids: ["MIT"], url: "https://github.com/google/brotli" },
  { name: "c-ares", ids: ["MIT"], url: "https://github.com/c-ares/c-ares" },
  { name: "highway", ids: ["Apache-2.0"], url: "https://github.com/google/highway" },
  { name: "libarchive", ids: ["BSD-2-Clause"], url: "https://github.com/libarchive/libarchive" },
  { name: "libbase64", ids: ["BSD-2-Clause"], url: "https://github.com/aklomp/base64" },
  { name: "libdeflate", ids: ["MIT"], url: "https://github.com/ebiggers/libdeflate" },
  { name: "libicu", ids: ["Unicode-3.0", "ICU"], url: "https://github.com/unicode-org/icu" },
  {
    name: "libjpeg-turbo",
    ids: ["BSD-3-Clause", "IJG", "Zlib"],
    url: "https://github.com/libjpeg-turbo/libjpeg-turbo",
  },
  { name: "libspng", ids: ["BSD-2-Clause"], url: "https://github.com/randy408/libspng" },
  { name: "libwebp", ids: ["BSD-3-Clause"], url: "https://github.com/webmproject/libwebp" },
  { name: "LLVM libc++abi", ids: ["Apache-2.0"], url: "https://github.com/llvm/llvm-project" },
  { name: "lol-html", ids: ["BSD-3-Clause"], url: "https://github.com/cloudflare/lol-html" },
  { name: "ls-hpack", ids: ["MIT"], url: "https://github.com/litespeedtech/ls-hpack" },
  { name: "ls-qpack", ids: ["MIT"], url: "https://github.com/litespeedtech/ls-qpack" },
  { name: "lsquic", ids: ["MIT", "BSD-3-Clause"], url: "https://github.com/litespeedtech/lsquic" },
  { name: "mimalloc", ids: ["MIT"], url: "https://github.com/microsoft/mimalloc" },
  { name: "picohttpparser", ids: ["MIT"], url: "https://github.com/h2o/picohttpparser" },
  { name: "simdutf", ids: ["Apache-2.0"], url: "https://github.com/simdutf/simdutf" },
  { name: "TigerBeetle (parts)", ids: ["Apache-2.0"], url: "https://github.com/tigerbeetle/tigerbeetle" },
  { name: "tinycc", ids: ["LGPL-2.1-only"], url: "https://github.com/tinycc/tinycc" },
  { name: "uSockets and uWebSockets", ids: ["Apache-2.0"], url: "https://github.com/uNetworking/uWebSockets" },
  { name: "uucode", ids: ["MIT"], url: "https://github.com/jacobsandlund/uucode" },
  { name: "zlib-ng", ids: ["Zlib"], url: "https://github.com/zlib-ng/zlib-ng" },
  { name: "zstd", ids: ["BSD-3-Clause"], url: "https://github.com/facebook/zstd" },
  {
    name: "polyfills of Node.js modules and acorn",
    ids: ["MIT"],
    url: "https://github.com/oven-sh/bun/blob/main/LICENSE.md",
  },
];
