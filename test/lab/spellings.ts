/*
 * Rules as people write them, and as iptables-save prints them: test/spellings/table.json, read by tests of the pure rooms and
 * checked by spelling.story.ts against the real iptables of both backends. `npm run record:spellings` makes it again.
 */

import { readFileSync } from "node:fs";
import { builtInChains, readTables } from "../../src/iptables/table-text.ts";
import type { Family } from "../../src/model/family.ts";
import type { Host } from "./host.ts";

export const BACKENDS = ["nft", "legacy"] as const;
export type Backend = (typeof BACKENDS)[number];

/** The lines that iptables-save prints, without what every table has; or that the text is refused. */
export type Printed = string[] | "refused";

export interface Spelling {
  /** Of the first section. */
  table: string;
  /** The lines behind its name. */
  written: string[];
  /** Of both backends, or of each. */
  ipv4: Printed | Record<Backend, Printed>;
  ipv6: Printed | Record<Backend, Printed>;
}

export const TABLE = new URL("../spellings/table.json", import.meta.url);

export function readSpellings(): Spelling[] {
  return JSON.parse(readFileSync(TABLE, "utf8"));
}

/** What one backend prints. */
export function printedOf(spelling: Spelling, family: Family, backend: Backend): Printed {
  const printed = spelling[family];
  return typeof printed === "string" || Array.isArray(printed) ? printed : printed[backend];
}

/** The text for iptables-restore. */
export function textOf({ table, written }: Pick<Spelling, "table" | "written">): string {
  return [`*${table}`, ...written, "COMMIT", ""].join("\n");
}

/** Every table as it is before the first rule. */
const EMPTY = ["raw", "mangle", "nat", "filter", "security"]
  .flatMap((table) => [`*${table}`, ...builtInChains(table).map((chain) => `:${chain} ACCEPT [0:0]`), "COMMIT"])
  .join("\n");

/** What a backend prints of each text, in a namespace in which the sets of the table are. */
async function printTexts(
  host: Host,
  family: Family,
  backend: Backend,
  texts: readonly string[],
): Promise<(string | "refused")[]> {
  const command = `${family === "ipv4" ? "iptables" : "ip6tables"}-${backend}`;
  // Loaded like a fragment: a second section of a table adds to the first.
  const script = `set -e; export XTABLES_LOCKFILE=/proc/$$/cmdline
for set in allowed banned seen; do ipset create $set hash:ip family ${family === "ipv4" ? "inet" : "inet6"} timeout 0; done
directory=$(mktemp -d); cd $directory
cat > empty <<'END OF FILE'\n${EMPTY}\nEND OF FILE
${texts.map((text, at) => `cat > ${at} <<'END OF FILE'\n${text}END OF FILE\n`).join("")}
for at in $(seq 0 ${texts.length - 1}); do
  ${command}-restore < empty
  if ${command}-restore --noflush < $at > /dev/null 2>&1; then ${command}-save; else echo refused; fi
  echo END OF TEXT
done`;
  const { stdout } = await host.run("unshare", ["--net", "sh", "-s"], { input: script, timeoutMs: 600_000 });
  return stdout
    .split("END OF TEXT\n")
    .slice(0, -1)
    .map((text) => (text.startsWith("refused") ? "refused" : text));
}

/** The same without what every table has, by table, and without the name of the table where there is no other. */
function withoutFrame(saved: string, table: string): string[] {
  const sections = readTables(saved).sections.map((section) => {
    const chains = [...section.chains].filter(([, policy]) => policy !== "ACCEPT");
    return {
      name: section.table,
      lines: [...chains.map(([chain, policy]) => `:${chain} ${policy}`), ...section.lines.map(({ text }) => text)],
    };
  });
  const filled = sections.filter(({ lines }) => lines.length > 0).sort((a, b) => (a.name < b.name ? -1 : 1));
  const isAlone = filled.every(({ name }) => name === table);
  return filled.flatMap(({ name, lines }) => [...(isAlone ? [] : [`*${name}`]), ...lines]);
}

/** What a backend prints of each rule of the table, in the form of the table. */
export async function printSpellings(
  host: Host,
  family: Family,
  backend: Backend,
  spellings: readonly Spelling[],
): Promise<Printed[]> {
  const printed = await printTexts(host, family, backend, spellings.map(textOf));
  return printed.map((saved, at) => (saved === "refused" ? saved : withoutFrame(saved, spellings[at]?.table ?? "")));
}
