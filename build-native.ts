// `npm run build:native`: dist/docker_iptables-linux-x64 and -linux-arm64, self-contained executables that need no Node.js,
// with the licences of what they carry and a bill of materials.
//
// Bun, pinned, compiles them: of what was measured it starts fastest (docs/decisions.md). What a compiled program of Bun's
// would read from the folder that it is started in (.env, bunfig.toml) is switched off: it runs as root in any folder.

import { existsSync } from "node:fs";
import { chmod, mkdir, readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { originOf } from "./build-origin.ts";
import { bundle, writeBom } from "./bundle.ts";
import { nativeBom, nativeNotices } from "./src/notices/notices.ts";

const { version, devDependencies } = JSON.parse(await readFile(new URL("package.json", import.meta.url), "utf8"));
const TARGETS = ["x64", "arm64"] as const;

/** The compiler: where its platform's package has it, or where its install script, which npm may have run, puts it. */
function findBun(): string {
  const places = [`node_modules/@oven/bun-linux-${process.arch}/bin/bun`, "node_modules/bun/bin/bun.exe"];
  const found = places.map((place) => fileURLToPath(new URL(place, import.meta.url))).find(existsSync);
  if (found === undefined) throw new Error("the package bun has no executable for this platform: run npm ci");
  return found;
}

const origin = await originOf();
const wanted = process.argv.slice(2);
await mkdir("dist", { recursive: true });
for (const target of wanted.length > 0 ? wanted : TARGETS) {
  const outfile = `dist/docker_iptables-linux-${target}`;
  const options = [
    ...["--compile", "--bytecode", "--minify", `--target=bun-linux-${target}`],
    ...["--no-compile-autoload-dotenv", "--no-compile-autoload-bunfig"],
    ...["--define", `VERSION=${JSON.stringify(version)}`],
    ...["--define", `ORIGIN=${JSON.stringify(`${origin}, native linux-${target}`)}`, "--outfile", outfile],
  ];
  await execa(findBun(), ["build", ...options, "src/main.ts"], { stdout: "ignore", stderr: "inherit" });
  await chmod(outfile, 0o755);
}

// Bun bundles the same packages as esbuild does.
const { bom } = await bundle(version, origin);
await writeBom("dist/docker_iptables-native.cdx.json", nativeBom(bom, devDependencies.bun));
await writeFile("dist/docker_iptables-native.LICENSES.txt", nativeNotices(bom, devDependencies.bun));
