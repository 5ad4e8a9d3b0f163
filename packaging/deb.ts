// A .deb, made by dpkg-deb.

import { createHash } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { execa } from "execa";
import {
  DESCRIPTION,
  type Entry,
  entriesOf,
  gzip,
  type Layout,
  PROGRAM_PATH,
  type Product,
  SUMMARY,
  source,
  zipped,
} from "./product.ts";
import { RESTART_WATCHER, TELL_WHAT_IS_LEFT } from "./scripts.ts";
import { stage } from "./stage.ts";

/** The project has no mail address; the top-level domain says so (RFC 2606). */
const MAINTAINER = "The docker_iptables authors <docker-iptables@authors.invalid>";

const COMPRESSIONS = { xz: ["-Zxz", "-z2"], none: ["-Znone"] };

/** Returns the package's path, in `folder`. The same product gives the same bytes. Throws as execa does. */
export async function makeDeb(product: Product, folder: string): Promise<string> {
  const doc = `/usr/share/doc/${product.name}`;
  const layout: Layout = { zsh: "/usr/share/zsh/vendor-completions", licences: doc };
  const entries = [...(await entriesOf(product, layout)), ...(await debianEntries(product, doc))];
  const size = entries.reduce((sum, { content }) => sum + Math.ceil(Buffer.byteLength(content) / 1024), 0);
  const control: Entry[] = [
    { path: "/DEBIAN/control", content: controlOf(product, size) },
    { path: "/DEBIAN/md5sums", content: entries.map(md5Of).join("") },
    { path: "/DEBIAN/postinst", content: script("configure", RESTART_WATCHER), executable: true },
    { path: "/DEBIAN/postrm", content: script("remove", TELL_WHAT_IS_LEFT), executable: true },
  ];
  const draft = await mkdtemp(join(tmpdir(), "docker_iptables-deb-"));
  try {
    await stage([...entries, ...control], draft);
    await execa("chmod", ["755", draft]);
    const path = join(folder, `${product.name}_${versionOf(product)}_${product.architecture.deb}.deb`);
    const env = { SOURCE_DATE_EPOCH: String(product.time) };
    await execa("dpkg-deb", ["--root-owner-group", ...COMPRESSIONS[product.compression], "--build", draft, path], {
      env,
    });
    return path;
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
}

function versionOf({ version }: Product): string {
  return `${version}-1`;
}

/** Essential packages (util-linux, grep, sed) are not named (Debian's policy, 3.5). */
function controlOf(product: Product, size: number): string {
  const { name, other, isNative, architecture } = product;
  const needs = isNative ? "libc6 (>= 2.17)" : "nodejs (>= 18.19)";
  const lines = [
    `Package: ${name}`,
    `Version: ${versionOf(product)}`,
    `Architecture: ${architecture.deb}`,
    `Maintainer: ${MAINTAINER}`,
    `Installed-Size: ${size}`,
    `Depends: ${needs}, iptables | nftables`,
    "Recommends: conntrack, docker-cli | docker-ce-cli | docker.io | podman",
    "Suggests: bash-completion",
    ...(isNative ? [`Provides: ${other} (= ${versionOf(product)})`] : []),
    `Conflicts: ${other}`,
    `Replaces: ${other}`,
    "Section: admin",
    "Priority: optional",
    `Description: ${SUMMARY}`,
    ...DESCRIPTION.map((line) => ` ${line}`),
    " .",
    isNative
      ? " This package has a native executable, which needs no Node.js."
      : " This package has a script, which runs under Node.js.",
  ];
  return `${lines.join("\n")}\n`;
}

async function debianEntries(product: Product, doc: string): Promise<Entry[]> {
  return [
    { path: `${doc}/copyright`, content: await copyright(product) },
    { path: `${doc}/changelog.gz`, content: await zipped("CHANGELOG.md") },
    { path: `${doc}/changelog.Debian.gz`, content: gzip(changelog(product)) },
    { path: `/usr/share/lintian/overrides/${product.name}`, content: overrides(product) },
  ];
}

async function copyright({ name }: Product): Promise<string> {
  const [, , holder, ...text] = (await source("LICENSE")).trimEnd().split("\n");
  const lines = text.join("\n").trim().split("\n");
  return `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: docker_iptables
Comment: ${PROGRAM_PATH} carries packages of others;
 /usr/share/doc/${name}/LICENSES.txt has the licence of each.

Files: *
Copyright: ${(holder ?? "").replace("Copyright (c) ", "")}
License: Expat

License: Expat
${lines.map((line) => ` ${line === "" ? "." : line}`).join("\n")}
`;
}

function changelog(product: Product): string {
  const date = new Date(product.time * 1000).toUTCString().replace("GMT", "+0000");
  return `${product.name} (${versionOf(product)}) unstable; urgency=medium

  * Version ${product.version}: changelog.gz says what is new.

 -- ${MAINTAINER}  ${date}
`;
}

/** With the reason of each. */
function overrides({ name, isNative }: Product): string {
  const common = [
    ["bogus-mail-host-in-debian-changelog *", "The project has no mail address."],
    ["bogus-mail-host *", "The project has no mail address."],
    ["initial-upload-closes-no-bugs *", "It is made by the project, and not uploaded to Debian."],
    ["maintainer-script-calls-systemctl *", "deb-systemd-invoke cannot restart a service without waiting for it."],
  ];
  const native = [
    [
      "unstripped-binary-or-object *",
      "Bun keeps the program behind the executable's sections; strip would cut it off.",
    ],
    ["hardening-no-pie *", "Bun is linked so."],
    ["hardening-no-relro *", "Bun is linked so."],
    ["embedded-library *", "Bun contains them; LICENSES.txt and docker_iptables.cdx.json name them."],
  ];
  const all = [...common, ...(isNative ? native : [])];
  return all.map(([tag, reason]) => `# ${reason}\n${name}: ${tag}\n`).join("");
}

function script(action: string, body: string): string {
  const lines = body.split("\n").map((line) => `  ${line}`);
  return `#!/bin/sh\nset -e\nif [ "$1" = ${action} ]; then\n${lines.join("\n")}\nfi\nexit 0\n`;
}

function md5Of({ path, content }: Entry): string {
  return `${createHash("md5").update(content).digest("hex")}  ${path.slice(1)}\n`;
}
