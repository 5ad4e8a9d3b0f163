// The house: which room may import which, and that a file whose head says "Pure." reaches nothing that reads or changes the system.

import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, posix } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

/** Each room imports those before it, and itself. "" is main.ts. */
const ROOMS = [
  ...["generated", "text", "model", "system", "docker", "rules", "iptables", "nft", "fragments", "netfilter"],
  ...["systemd", "plan", "apply", "commands", "cli", ""],
];
/** Rooms of the build, which no other room imports. */
const BUILD_ROOMS = ["ansible", "notices"];
/** Rooms in which every file is pure. */
const PURE_ROOMS = ["model", "text", "rules", "nft"];
/** What computes, and reads and changes nothing. */
const PURE_MODULES = /^(node:path|node:path\/posix|node:util|ipaddr\.js|diff|unbash|@noble\/hashes\/\w+\.js)$/;

/** What prints, though it imports nothing that does. */
const PRINTS = "system/verbose.ts";
/** The one file that reads the environment. */
const ENVIRONMENT = "system/environment.ts";

/** By path below src, with forward slashes. */
type Sources = ReadonlyMap<string, string>;

interface Import {
  /** A path below src, or the name of a module. */
  of: string;
  isType: boolean;
}

const SRC = fileURLToPath(new URL("../src/", import.meta.url));
const SOURCES: Sources = new Map(
  readdirSync(SRC, { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(".ts"))
    .map((path) => [path, readFileSync(join(SRC, path), "utf8")]),
);

function importsIn(path: string, text: string): Import[] {
  const found = [
    ...text.matchAll(/^(?:import|export) (?<type>type )?[^;"]*?from "(?<of>[^"]+)"/gm),
    ...text.matchAll(/^import (?<type>)"(?<of>[^"]+)"/gm),
    ...text.matchAll(/\bimport\((?<type>)"(?<of>[^"]+)"\)/g),
  ];
  return found.map(({ groups = {} }) => {
    const of = groups["of"] ?? "";
    return { of: of.startsWith(".") ? posix.join(dirname(path), of) : of, isType: Boolean(groups["type"]) };
  });
}

function roomOf(path: string): string {
  return path.includes("/") ? (path.split("/")[0] ?? "") : "";
}

/** Imports against the order of the rooms, each as "FILE imports FILE". */
function backwards(sources: Sources): string[] {
  const rank = (path: string) => ROOMS.indexOf(roomOf(path));
  return [...sources].flatMap(([path, text]) =>
    importsIn(path, text)
      .filter(({ of }) => sources.has(of))
      .filter(({ of }) => !BUILD_ROOMS.includes(roomOf(path)) && !(rank(of) >= 0 && rank(of) <= rank(path)))
      .map(({ of }) => `${path} imports ${of}`),
  );
}

function saysPure(path: string, text: string): boolean {
  const head = /^(\/\/.*\n)*/.exec(text)?.[0] ?? "";
  return PURE_ROOMS.includes(roomOf(path)) || /\bPure\b/.test(head);
}

/** Files that say that they are pure, each with the way to what is not: "FILE > FILE > node:fs". */
function impure(sources: Sources): string[] {
  const wayFrom = (path: string, seen: Set<string>): string[] | undefined => {
    seen.add(path);
    for (const { of, isType } of importsIn(path, sources.get(path) ?? "")) {
      if (isType || seen.has(of) || of.endsWith(".json") || roomOf(of) === "generated") continue;
      if (of === PRINTS) return [of];
      if (!sources.has(of)) {
        if (!PURE_MODULES.test(of)) return [of];
        continue;
      }
      const rest = wayFrom(of, seen);
      if (rest !== undefined) return [of, ...rest];
    }
    return undefined;
  };
  return [...sources]
    .filter(([path, text]) => saysPure(path, text) && !BUILD_ROOMS.includes(roomOf(path)))
    .flatMap(([path]) => {
      const way = wayFrom(path, new Set());
      return way === undefined ? [] : [[path, ...way].join(" > ")];
    });
}

/** Files other than that one which read the environment. */
function readers(sources: Sources): string[] {
  const reads = /\bprocess\.env\b|^import \{[^}]*\benv\b[^}]*\} from "(node:)?process"/m;
  return [...sources].filter(([path, text]) => path !== ENVIRONMENT && reads.test(text)).map(([path]) => path);
}

test("imports point along the way of the data", () => {
  expect([...SOURCES.keys()].filter((path) => ![...ROOMS, ...BUILD_ROOMS].includes(roomOf(path)))).toEqual([]);
  expect(backwards(SOURCES)).toEqual([]);
});

test("what says that it is pure imports nothing that reads or changes the system", () => {
  expect(impure(SOURCES)).toEqual([]);
});

test("the environment is read in one place", () => {
  expect(SOURCES.has(ENVIRONMENT)).toBe(true);
  expect(readers(SOURCES)).toEqual([]);
});

/** The line from observe to commit, which asks a backend for all that is iptables' own. */
const LINE = /^(commands\/publish|plan\/(observe|compare|survey|plan|selection)|apply\/(transaction|reload))\.ts$/;
/** Of the kernel's flows, whatever its rules are written in. */
const FLOWS = "netfilter/conntrack.ts";

/** Imports by the line of what is iptables' own, but for types. */
function bypasses(sources: Sources): string[] {
  const isIptables = ({ of, isType }: Import) => !isType && /^(iptables|netfilter)\//.test(of) && of !== FLOWS;
  return [...sources]
    .filter(([path]) => LINE.test(path))
    .flatMap(([path, text]) =>
      importsIn(path, text)
        .filter(isIptables)
        .map(({ of }) => `${path} imports ${of}`),
    );
}

test("from observe to commit the packet filter is asked through its backend alone", () => {
  expect([...SOURCES.keys()].filter((path) => LINE.test(path))).toHaveLength(8);
  expect(bypasses(SOURCES)).toEqual([]);
});

/** What takes all arguments of a call: the door, which splits them, and the flags of which they are made. */
const TAKES_ALL = /^(generated\/.*|(model\/(request|flags|options|settings)|cli\/hints)\.ts)$/;

test("behind the door no function takes all arguments", () => {
  const takers = [...SOURCES].filter(([, text]) => /^import .*\bArguments\b.* from/m.test(text)).map(([path]) => path);
  expect(takers.filter((path) => !TAKES_ALL.test(path))).toEqual([]);
  expect(takers).toContain("model/request.ts");
});

test("an import back, an effect in a pure room, an indirect one and a reader of the environment are found", () => {
  const sources = new Map([
    ["rules/rule.ts", '// Rules.\nimport { readFile } from "../fragments/read.ts";\n'],
    ["fragments/read.ts", '// Reads.\nimport {\n  open,\n} from "node:fs";\n'],
    ["cli/words.ts", '// Words. Pure.\nimport { plan } from "../plan/plan.ts";\n'],
    ["plan/plan.ts", '// Plans.\nexport { run } from "../system/exec.ts";\n'],
    ["system/exec.ts", '// Runs. \nconst execa = await import("execa");\n'],
    ["plan/told.ts", '// Tells. Pure.\nimport { verbose } from "../system/verbose.ts";\n'],
    ["system/verbose.ts", "// Shows.\n"],
    ["system/lock.ts", '// Locks.\nimport { env, pid } from "node:process";\n'],
    ["main.ts", "// Begins.\nstart(process.env);\n"],
    ["cli/types.ts", '// Types. Pure.\nimport type { Stats } from "node:fs";\n'],
  ]);
  expect(backwards(sources)).toEqual(["rules/rule.ts imports fragments/read.ts"]);
  expect(impure(sources)).toEqual([
    "rules/rule.ts > fragments/read.ts > node:fs",
    "cli/words.ts > plan/plan.ts > system/exec.ts > execa",
    "plan/told.ts > system/verbose.ts",
  ]);
  expect(readers(sources)).toEqual(["system/lock.ts", "main.ts"]);
  const line = 'import type { Live } from "../iptables/live.ts";\nimport { readLive } from "../iptables/live.ts";\n';
  expect(bypasses(new Map([["plan/survey.ts", line]]))).toEqual(["plan/survey.ts imports iptables/live.ts"]);
});
