// The Ansible collection: its files, and the tarball that `ansible-galaxy collection install` takes.
//
// A tarball is what `ansible-galaxy collection build` makes of the tree (2.14): MANIFEST.json, which has the checksum of
// FILES.json, which has those of all files; galaxy.yml itself is left out. Made here, so that a build needs no Ansible.

import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { stringify } from "yaml";
import { COLLECTION, infoDocumentation, moduleDocumentation, roleArguments } from "../../schema/ansible-docs.ts";
import { type TarFile, tarGz } from "./tar.ts";

const ROOT = new URL("../../", import.meta.url);
const SOURCE = new URL("collection/", import.meta.url);

/** The plays that are the module's EXAMPLES, in the order of what a newcomer does. */
export const EXAMPLES = ["base", "confirm", "publish", "allow", "all", "unpublish", "site"].map(
  (name) => `examples/ansible/${name}.yml`,
);

/** The same of the module that only asks. */
export const INFO_EXAMPLES = ["examples/ansible/info.yml"];

/** ansible-test reads the list of its own version only, and also reports an entry that is not needed. */
const ANSIBLE_TESTS = ["2.14", "2.15", "2.16", "2.17", "2.18", "2.19", "2.20", "2.21", "2.22", "2.23"];

/** Up to this version it takes each module without another known ending for Python. */
const LAST_WITH_SYNTAX_ERROR = 16;

/**
 * What ansible-test says of the collection's files (all its tests were run, of 2.14 to 2.19 and 2.22). It knows modules in Python
 * and PowerShell, under the GPL; the licences of what the program carries are quoted as they are.
 */
function ignored(version: string): string {
  const isEarly = Number(version.split(".")[1]) <= LAST_WITH_SYNTAX_ERROR;
  const ofModules = ["docker_iptables", "docker_iptables_info"].flatMap((name) => [
    `plugins/modules/${name}.cjs shebang`,
    `plugins/modules/${name}.cjs validate-modules:invalid-extension`,
    `plugins/modules/${name}.cjs validate-modules:${isEarly ? "python-syntax-error" : "missing-gplv3-license"}`,
    `plugins/modules/${name}.yml validate-modules:missing-gplv3-license`,
  ]);
  return ["LICENSES.txt no-smart-quotes", ...ofModules, ""].join("\n");
}

export interface Package {
  version: string;
  description: string;
  license: string;
}

/** The two forms of the built program that the collection carries. */
export interface Programs {
  /** For /usr/local/bin. */
  executable: string;
  /** For Ansible, which runs it with ansible_node_interpreter. */
  module: string;
  /** The licences of what both carry. */
  notices: string;
}

/** Every file of the collection, sorted by path. */
export async function collectionFiles(programs: Programs): Promise<TarFile[]> {
  const [examples = [], infoExamples = []] = await Promise.all(
    [EXAMPLES, INFO_EXAMPLES].map((paths) => Promise.all(paths.map((path) => readFile(new URL(path, ROOT), "utf8")))),
  );
  const role = "roles/docker_iptables";
  const files: TarFile[] = [
    ...(await filesBelow(SOURCE)),
    ...(await Promise.all(["CHANGELOG.md", "LICENSE"].map((path) => fileOf(path, ROOT)))),
    file("LICENSES.txt", programs.notices),
    file("plugins/modules/docker_iptables.cjs", programs.module, true),
    file("plugins/modules/docker_iptables.yml", moduleDocumentation(examples)),
    file("plugins/modules/docker_iptables_info.cjs", onlyAsking(programs.module), true),
    file("plugins/modules/docker_iptables_info.yml", infoDocumentation(infoExamples)),
    file(`${role}/files/docker_iptables`, programs.executable, true),
    file(`${role}/meta/argument_specs.yml`, roleArguments()),
    ...ANSIBLE_TESTS.map((version) => file(`tests/sanity/ignore-${version}.txt`, ignored(version))),
  ];
  return files.sort((a, b) => (a.path < b.path ? -1 : 1));
}

/** The module that changes nothing, whatever its arguments are: main.ts obeys this word. */
function onlyAsking(module: string): string {
  const head = "// WANT_JSON\n";
  if (!module.includes(head)) throw new Error("the module has no line WANT_JSON");
  return module.replace(head, `${head}globalThis.docker_iptables_only_asks = true;\n`);
}

/** What galaxy.yml says, for whoever builds the tree with ansible-galaxy. */
export function galaxyYml(about: Package): string {
  return `---\n${stringify(collectionInfo(about), { version: "1.1" })}`;
}

/** The tarball's name, as ansible-galaxy's. */
export function tarballName({ version }: Package): string {
  return `${COLLECTION.namespace}-${COLLECTION.name}-${version}.tar.gz`;
}

/** The tarball's bytes: the same files give the same bytes. */
export function tarball(files: readonly TarFile[], about: Package): Buffer {
  const folders = [...new Set(files.flatMap(({ path }) => foldersAbove(path)))].sort();
  const entries = [...folders.map((path): TarFile => ({ path, content: undefined })), ...files];
  const listed = [{ path: ".", content: undefined }, ...entries].map(({ path, content }) => ({
    name: path,
    ftype: content === undefined ? "dir" : "file",
    chksum_type: content === undefined ? null : "sha256",
    chksum_sha256: content === undefined ? null : sha256(content),
    format: 1,
  }));
  const list = json("FILES.json", { files: listed, format: 1 });
  const manifest = json("MANIFEST.json", {
    collection_info: { ...collectionInfo(about), ...NOT_TOLD },
    file_manifest_file: {
      name: list.path,
      ftype: "file",
      chksum_type: "sha256",
      chksum_sha256: sha256(list.content),
      format: 1,
    },
    format: 1,
  });
  return tarGz([manifest, list, ...entries]);
}

/** Galaxy requires the keys. */
const NOT_TOLD = { license_file: null, repository: null, documentation: null, homepage: null, issues: null };

function collectionInfo({ version, description, license }: Package) {
  return {
    ...COLLECTION,
    version,
    authors: ["The docker_iptables authors"],
    readme: "README.md",
    description,
    license: [license],
    tags: ["docker", "iptables", "firewall", "networking", "linux"],
    dependencies: {},
  };
}

/** They all have an extension, as no folder has. */
async function filesBelow(folder: URL): Promise<TarFile[]> {
  const paths = (await readdir(folder, { recursive: true })).filter((path) => /\.\w+$/.test(path));
  return Promise.all(paths.map((path) => fileOf(path, folder)));
}

async function fileOf(path: string, folder: URL): Promise<TarFile> {
  return { path, content: await readFile(new URL(path, folder)) };
}

function file(path: string, text: string, executable = false): TarFile {
  return { path, content: Buffer.from(text), executable };
}

function json(path: string, content: object): { path: string; content: Buffer } {
  return { path, content: Buffer.from(`${JSON.stringify(content, undefined, 4)}\n`) };
}

function sha256(content: Buffer): string {
  return createHash("sha256").update(content).digest("hex");
}

function foldersAbove(path: string): string[] {
  const parts = path.split("/").slice(0, -1);
  return parts.map((_, index) => parts.slice(0, index + 1).join("/"));
}
