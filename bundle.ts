// The program as one script, and what is in it: dist/docker_iptables.cdx.json, a software bill of materials (CycloneDX), which
// has the licence text of each package. The same sources give the same bytes, in whatever folder they are built.

import { readFile, writeFile } from "node:fs/promises";
import { cyclonedxEsbuildPlugin } from "@cyclonedx/cyclonedx-esbuild";
import { build } from "esbuild";
import type { Bom } from "./src/notices/notices.ts";

const BOM = "docker_iptables.cdx.json";

/** `origin` is what `--version` says of the build. Throws Error where esbuild finds one. */
export async function bundle(version: string, origin: string): Promise<{ program: string; bom: Bom }> {
  const { outputFiles } = await build({
    entryPoints: ["src/main.ts"],
    bundle: true,
    write: false,
    outdir: "dist",
    platform: "node",
    target: "node18.19",
    format: "iife",
    minifySyntax: true,
    minifyWhitespace: true,
    legalComments: "none",
    // Asked for by the native executable alone (src/system/libc.ts).
    external: ["bun:ffi"],
    // A linked node_modules gives the same bytes as one that is there.
    preserveSymlinks: true,
    define: { VERSION: JSON.stringify(version), ORIGIN: JSON.stringify(origin) },
    plugins: [
      cyclonedxEsbuildPlugin({
        outputFile: BOM,
        gatherLicenseTexts: true,
        outputReproducible: true,
        logLevel: "error",
      }),
    ],
  });
  const bom: Bom = JSON.parse(await readFile(`dist/${BOM}`, "utf8"));
  return { program: outputFiles.map(({ text }) => text).join(""), bom };
}

/** A bill of materials as a file. */
export async function writeBom(path: string, bom: Bom): Promise<void> {
  await writeFile(path, `${JSON.stringify(bom, undefined, 2)}\n`);
}
