// The licence texts of what a program of ours carries, from its software bill of materials: MIT, ISC, BSD and Apache ask that
// they come with every copy. Pure; for the build only.

import licenses from "spdx-license-list/full.js";
import { BUN_PARTS, type Part } from "./bun-parts.ts";

/** A component of CycloneDX 1.6, as far as it is read here. */
export interface Component {
  type: string;
  group?: string;
  name: string;
  version?: string;
  purl?: string;
  licenses?: { license?: { id?: string }; expression?: string }[];
  evidence?: { licenses?: { license: { name: string; text?: { content: string; encoding?: string } } }[] };
  components?: Component[];
}

/** A software bill of materials. */
export interface Bom {
  components: Component[];
}

const RULE = "=".repeat(80);

/** For the script: each package with its own texts. Throws Error for one that brings none. */
export function scriptNotices(bom: Bom): string {
  const head = "docker_iptables carries these packages. Each comes under its own licence, which follows its name.";
  return [head, ...bom.components.map(noticeOf), ""].join(`\n\n${RULE}\n`);
}

/** For the native executables: the script's, then Bun, its parts and the texts of their licences. */
export function nativeNotices(bom: Bom, bunVersion: string): string {
  const used = [...new Set(BUN_PARTS.flatMap(({ ids }) => ids))].sort();
  return [
    `${scriptNotices(bom)}${bunNotice(bunVersion)}`,
    ...used.map((id) => `Licence ${id}\n\n${textOf(id)}`),
    "",
  ].join(`\n\n${RULE}\n`);
}

/** The script's bill of materials with Bun, of which the parts are its own components. */
export function nativeBom<B extends Bom>(bom: B, version: string): B {
  const bun: Component = {
    type: "framework",
    name: "bun",
    version,
    purl: `pkg:npm/bun@${version}`,
    licenses: [{ license: { id: "MIT" } }],
    components: BUN_PARTS.map(({ name, ids }) => ({
      type: "library",
      name,
      licenses: ids.map((id) => ({ license: { id } })),
    })),
  };
  return { ...bom, components: [...bom.components, bun] };
}

function noticeOf(component: Component): string {
  const { group, name, version } = component;
  const texts = (component.evidence?.licenses ?? []).flatMap(({ license: { text } }) =>
    text === undefined
      ? []
      : [Buffer.from(text.content, text.encoding === "base64" ? "base64" : "utf8").toString("utf8")],
  );
  const title = `${group === undefined ? "" : `${group}/`}${name} ${version ?? ""}`;
  if (texts.length === 0) throw new Error(`${title} has no licence text, and cannot be handed on without`);
  return [title, ...texts.map((text) => text.trim())].join("\n\n");
}

function bunNotice(version: string): string {
  return `bun ${version}

The native executables are compiled with Bun (https://github.com/oven-sh/bun, MIT), which links the parts below statically.
For those under the LGPL: dist/docker_iptables of the same version is the whole program of ours. With a Bun that was built
from changed sources, 'bun build --compile' makes this executable from it again.

${BUN_PARTS.map(partLine).join("\n")}`;
}

function partLine({ name, ids, url }: Part): string {
  return `  ${name}: ${ids.join(", ")} (${url})`;
}

/** Throws Error for an id that the list does not know. */
function textOf(id: string): string {
  const text = licenses[id]?.licenseText;
  if (text === undefined) throw new Error(`${id} is no licence of the SPDX list`);
  return text.trim();
}
