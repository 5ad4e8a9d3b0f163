// `npm run package`: dist/packages, with .deb, .rpm and npm's package of what has been built, their bills of materials and checksums.
// Each .deb passes lintian, each .rpm rpmlint, with the exceptions that they or packaging/rpmlint.toml name, each with its reason.

import { createHash } from "node:crypto";
import { copyFile, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { timeOfSources } from "../build-origin.ts";
import packageJson from "../package.json" with { type: "json" };
import { makeDeb } from "./deb.ts";
import { makeNpm } from "./npm.ts";
import { productsOf, ROOT } from "./product.ts";
import { makeRpm } from "./rpm.ts";
import { runTool } from "./tools.ts";

const FOLDER = join(ROOT, "dist/packages");

await rm(FOLDER, { recursive: true, force: true });
await mkdir(FOLDER, { recursive: true });
const products = productsOf(packageJson.version, await timeOfSources());
for (const product of products) {
  const deb = await makeDeb(product, FOLDER);
  await check("lintian", ["--fail-on", "error,warning", "--allow-root", deb]);
  const rpm = await makeRpm(product, FOLDER);
  await check("rpmlint", ["--strict", "--config", join(ROOT, "packaging/rpmlint.toml"), rpm]);
  console.log(`${basename(deb)}, ${basename(rpm)}`);
}
await makeNpm(FOLDER);
for (const bom of new Set(products.map((product) => product.bom))) await copyFile(bom, join(FOLDER, basename(bom)));
const sums = await Promise.all(
  (await readdir(FOLDER)).sort().map(async (name) => {
    const sum = createHash("sha256").update(await readFile(join(FOLDER, name)));
    return `${sum.digest("hex")}  ${name}\n`;
  }),
);
await writeFile(join(FOLDER, "SHA256SUMS"), sums.join(""));

async function check(tool: "lintian" | "rpmlint", args: readonly string[]): Promise<void> {
  const { all, exitCode } = await runTool(tool, args);
  if (exitCode !== 0) throw new Error(`${tool} ${args.at(-1)}:\n${all}`);
}
