// `npm run build`: dist/docker_iptables, one executable file without dependencies, and its manual page.
//
// Line 1 and 2 make it run under every Node.js from 18.19, whatever package.json lies above it: a shell starts node with
// a require() of the file, because Node 18 and 20 refuse to run a file without an extension below `"type": "module"`.
// From Node 22 on, such a file is an ES module there; the third line gives it a `require`, and the rest is valid as both.
// WANT_JSON makes Ansible call it with the path of an arguments file.

import { chmod, readFile, writeFile } from "node:fs/promises";
import { build } from "esbuild";
import { manualText } from "./src/doors/manual.ts";

const { version } = JSON.parse(await readFile(new URL("package.json", import.meta.url), "utf8"));

const banner = `#!/bin/sh
":" //; exec node -e 'require(require("path").resolve(process.argv[1]))' -- "$0" "$@" # WANT_JSON
var require = typeof require === "function" ? require : process.getBuiltinModule("module").createRequire(process.argv[1]);`;

await build({
  entryPoints: ["src/main.ts"],
  outfile: "dist/docker_iptables",
  bundle: true,
  platform: "node",
  target: "node18.19",
  format: "iife",
  minifySyntax: true,
  minifyWhitespace: true,
  legalComments: "none",
  define: { VERSION: JSON.stringify(version) },
  banner: { js: banner },
});
await chmod("dist/docker_iptables", 0o755);
await writeFile("dist/docker_iptables.1", manualText(version));
