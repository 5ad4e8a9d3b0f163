// What comes with a program of ours: a licence text for each package that it carries, a bill of materials; and that neither these
// nor the program depend on the folder that they are built in.

import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { describe, expect, onTestFinished, test } from "vitest";
import packageJson from "../../package.json" with { type: "json" };
import { type Bom, nativeBom, nativeNotices, scriptNotices } from "../../src/notices/notices.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const DIST = join(ROOT, "dist");
const bom: Bom = JSON.parse(readFileSync(join(DIST, "docker_iptables.cdx.json"), "utf8"));
const notices = readFileSync(join(DIST, "docker_iptables.LICENSES.txt"), "utf8");

describe("the licences", () => {
  test("of every package that the script carries are beside it, and in the collection", () => {
    expect(bom.components.map(({ name }) => name)).toEqual(
      expect.arrayContaining(["execa", "ipaddr.js", "diff", "which"]),
    );
    for (const { name, version } of bom.components) expect(notices).toContain(`${name} ${version}\n`);
    for (const words of ["Permission is hereby granted", "Redistribution and use", "Apache License"])
      expect(notices).toContain(words);
    const inCollection = join(DIST, "ansible_collections/docker_iptables/host/LICENSES.txt");
    expect(readFileSync(inCollection, "utf8")).toBe(notices);
  });

  test("a package without one stops the build", () => {
    const without = { components: [{ type: "library", name: "left-pad", version: "1.0.0" }] };
    expect(() => scriptNotices(without)).toThrow("left-pad 1.0.0 has no licence text");
  });

  test("of a native executable are the script's, and those of Bun's parts, each text once", () => {
    const text = nativeNotices(bom, "9.9.9");
    expect(text.startsWith(notices.trimEnd())).toBe(true);
    expect(text).toMatch(/\nbun 9\.9\.9\n/);
    expect(text.match(/GNU LIBRARY GENERAL PUBLIC LICENSE\s+Version 2,/gi)).toHaveLength(1);
    expect(text.match(/^Licence LGPL-2\.1-only$/gm)).toHaveLength(1);
  });
});

describe("the bill of materials", () => {
  test("has the packages that are in the bundle, and no tool of the build", () => {
    const names = bom.components.map(({ name }) => name);
    for (const name of ["vitest", "esbuild", "typescript"]) expect(names).not.toContain(name);
    for (const { purl, licenses } of bom.components) expect([purl, licenses]).not.toContain(undefined);
  });

  test("of a native executable has Bun with its parts, too", () => {
    const bun = nativeBom(bom, packageJson.devDependencies.bun).components.at(-1);
    expect(bun).toMatchObject({ name: "bun", version: packageJson.devDependencies.bun });
    expect(bun?.components?.map(({ name }) => name)).toContain("JavaScriptCore and WebCore");
  });
});

test("a build in another folder has the same bytes", async () => {
  const folder = mkdtempSync(join(tmpdir(), "docker_iptables build "));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const sources = readdirSync(ROOT).filter((name) => !/^(node_modules|dist|\.cache|coverage)$/.test(name));
  for (const name of sources) cpSync(join(ROOT, name), join(folder, name), { recursive: true });
  symlinkSync(join(ROOT, "node_modules"), join(folder, "node_modules"));
  await execa(process.execPath, ["--import", "tsx", "build.ts"], { cwd: folder, env: { TZ: "Asia/Tokyo" } });
  const here = filesBelow(DIST).filter((path) => !/native|-linux-|^packages/.test(path));
  expect(filesBelow(join(folder, "dist"))).toEqual(here);
  const differing = here.filter(
    (path) => !readFileSync(join(DIST, path)).equals(readFileSync(join(folder, "dist", path))),
  );
  expect(differing).toEqual([]);
});

function filesBelow(folder: string): string[] {
  const paths = readdirSync(folder, { recursive: true, encoding: "utf8" });
  return paths.filter((path) => statSync(join(folder, path)).isFile()).sort();
}
