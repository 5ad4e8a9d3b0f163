// What a package holds: the files that were built, and where each goes. The same for .deb and .rpm, but for what a distribution
// keeps elsewhere.

import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { completionScript } from "../src/cli/completion.ts";

export const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** One package to be: what it is called, and which program it has. */
export interface Product {
  name: "docker-iptables" | "docker-iptables-native";
  /** Of the other package, which has the same files. */
  other: "docker-iptables" | "docker-iptables-native";
  version: string;
  /** Seconds since 1970 of every file in it. */
  time: number;
  /** As Debian and as rpm call it. */
  architecture: { deb: string; rpm: string };
  isNative: boolean;
  /** The executable. */
  program: string;
  /** The licences of what it carries, and its bill of materials. */
  licences: string;
  bom: string;
  /** "none" is for tests: xz takes half a minute for a native executable. */
  compression: "xz" | "none";
}

export interface Entry {
  /** Absolute. */
  path: string;
  content: string | Buffer;
  executable?: boolean;
}

/** Where a distribution wants what the other has elsewhere. */
export interface Layout {
  zsh: string;
  licences: string;
}

export const PROGRAM_PATH = "/usr/bin/docker_iptables";
export const SUMMARY = "firewall rules for the published ports of containers";
export const DESCRIPTION = [
  "On a host that manages iptables or nftables itself, Docker runs with",
  "--iptables=false, and then nothing makes the rules for published ports.",
  "docker_iptables makes them, keeps them in fragments that are loaded at boot,",
  "and follows containers as they come and go.",
];

/** The script for every architecture, and the native executable for each that was built. */
export function productsOf(version: string, time: number): Product[] {
  const script: Product = {
    ...{ name: "docker-iptables", other: "docker-iptables-native", version, time, compression: "xz", isNative: false },
    architecture: { deb: "all", rpm: "noarch" },
    program: join(ROOT, "dist/docker_iptables"),
    licences: join(ROOT, "dist/docker_iptables.LICENSES.txt"),
    bom: join(ROOT, "dist/docker_iptables.cdx.json"),
  };
  const native = (arch: string, deb: string, rpm: string): Product => ({
    ...{ name: "docker-iptables-native", other: "docker-iptables", version, time, compression: "xz", isNative: true },
    architecture: { deb, rpm },
    program: join(ROOT, `dist/docker_iptables-linux-${arch}`),
    licences: join(ROOT, "dist/docker_iptables-native.LICENSES.txt"),
    bom: join(ROOT, "dist/docker_iptables-native.cdx.json"),
  });
  const natives = [native("x64", "amd64", "x86_64"), native("arm64", "arm64", "aarch64")];
  return [script, ...natives.filter(({ program }) => existsSync(program))];
}

/** All but what only one kind of package has. */
export async function entriesOf(product: Product, { zsh, licences }: Layout): Promise<Entry[]> {
  const doc = `/usr/share/doc/${product.name}`;
  return [
    { path: PROGRAM_PATH, content: await readFile(product.program), executable: true },
    { path: "/usr/share/man/man1/docker_iptables.1.gz", content: await zipped("dist/docker_iptables.1") },
    { path: "/usr/share/man/man5/docker_iptables.json.5.gz", content: await zipped("dist/docker_iptables.json.5") },
    { path: "/usr/share/bash-completion/completions/docker_iptables", content: completionScript("bash") },
    { path: `${zsh}/_docker_iptables`, content: completionScript("zsh") },
    { path: "/usr/share/fish/vendor_completions.d/docker_iptables.fish", content: completionScript("fish") },
    { path: `${licences}/LICENSES.txt`, content: await readFile(product.licences) },
    { path: `${doc}/docker_iptables.cdx.json`, content: await readFile(product.bom) },
    { path: `${doc}/examples/docker_iptables.json`, content: await source("examples/docker_iptables.json") },
    ...(await examplesBelow(`${doc}/examples`, "systemd")),
    ...(await examplesBelow(`${doc}/examples`, "monitoring")),
  ];
}

/** The units that setup writes, and one of a container; what monitoring needs: as they are for a packaged executable. */
async function examplesBelow(folder: string, which: "systemd" | "monitoring"): Promise<Entry[]> {
  const names = (await readdir(join(ROOT, "examples", which))).sort();
  return Promise.all(
    names.map(async (name) => {
      const text = await source(`examples/${which}/${name}`);
      return {
        path: `${folder}/${which}/${name}`,
        content: text.replaceAll("/usr/local/bin/docker_iptables", PROGRAM_PATH),
      };
    }),
  );
}

export function source(path: string): Promise<string> {
  return readFile(join(ROOT, path), "utf8");
}

/** A text of the project, as gzip -9n has it. */
export async function zipped(path: string): Promise<Buffer> {
  return gzip(await source(path));
}

export function gzip(text: string): Buffer {
  return gzipSync(text, { level: 9 });
}
