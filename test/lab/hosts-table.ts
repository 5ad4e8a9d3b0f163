/*
 * `npm run test:hosts [RELEASE…] [STORY…]`: all stories, or those whose file's name has one of the words, on hosts of each Debian release,
 * or of those named, one after the other; and the table of them in docs/hosts.md. What did not run again is what came of it last
 * (.cache/hosts). Some 20 minutes for each release. Needs root.
 */

import { existsSync } from "node:fs";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { startLab } from "./lab.ts";
import { SUITES } from "./suites.ts";
import type { Told } from "./tally.ts";

const PAGE = fileURLToPath(new URL("../../docs/hosts.md", import.meta.url));
const KEPT = fileURLToPath(new URL("../../.cache/hosts", import.meta.url));
const ALL = Object.keys(SUITES);

/** What runs on a host, by the command that says so; the first words of its answer that are a version. */
const VERSIONS: Record<string, string> = {
  Docker: "docker version --format '{{.Server.Version}}'",
  iptables: "iptables --version",
  systemd: "systemctl --version",
  "Node.js": "node --version",
  "ansible-core": "ansible --version",
  podman: "podman --version",
  nftables: "nft --version",
};

interface Run {
  suite: string;
  /** 2026-11-27 */
  date: string;
  versions: Record<string, string>;
  told: Told[];
}

/** Runs them, and keeps what came of them. */
async function runOn(suite: string, stories: readonly string[]): Promise<void> {
  process.env["LAB_ROOT"] = suite;
  const versions = await versionsOn();
  const kept = join(KEPT, `${suite}.json`);
  const tally = `${kept}.tally`;
  await mkdir(dirname(kept), { recursive: true });
  await rm(tally, { force: true });
  const reporters = ["--reporter=default", `--reporter=${fileURLToPath(new URL("tally.ts", import.meta.url))}`];
  const config = fileURLToPath(new URL("vitest.config.ts", import.meta.url));
  await execa("npx", ["vitest", "run", "--config", config, ...reporters, ...stories], {
    env: { LAB_ROOT: suite, LAB_TALLY: tally },
    stdio: "inherit",
    reject: false,
  });
  const now: Told[] = JSON.parse(await readFile(tally, "utf8"));
  const again = new Set(now.map(({ file }) => file));
  const last = stories.length === 0 ? [] : ((await lastRun(suite))?.told ?? []);
  const isThere = (file: string) => existsSync(new URL(`${file}.story.ts`, import.meta.url));
  const told = [...last.filter(({ file }) => !again.has(file) && isThere(file)), ...now];
  const run: Run = { suite, date: new Date().toISOString().slice(0, 10), versions, told };
  await writeFile(kept, JSON.stringify(run));
  await rm(tally);
}

/** The last run on a release; undefined where there was none. */
async function lastRun(suite: string): Promise<Run | undefined> {
  const text = await readFile(join(KEPT, `${suite}.json`), "utf8").catch(() => undefined);
  return text === undefined ? undefined : JSON.parse(text);
}

async function versionsOn(): Promise<Record<string, string>> {
  await using lab = await startLab({ packages: ["ansible-core", "nftables", "podman"] });
  const host = await lab.host({ name: "host" });
  const found = await Promise.all(
    Object.entries(VERSIONS).map(async ([name, command]) => {
      const { stdout } = await host.run("sh", ["-c", command], { check: false });
      return [name, /\d+(?:\.\d+)+(?:b\d+)?|\d+/.exec(stdout)?.[0] ?? "–"] as const;
    }),
  );
  return Object.fromEntries(found);
}

/** The two tables and what was left out. Pure. */
function report(runs: readonly Run[]): string {
  const head = `| | ${runs.map(({ suite }) => suite).join(" | ")} |\n| --- |${" --- |".repeat(runs.length)}`;
  const row = (name: string, cell: (run: Run) => string) => `| ${name} | ${runs.map(cell).join(" | ")} |`;
  const files = [...new Set(runs.flatMap(({ told }) => told.map(({ file }) => file)))].sort();
  const cell = (file: string) => (run: Run) => {
    const here = run.told.filter((one) => one.file === file);
    const count = (state: Told["state"]) => here.filter((one) => one.state === state).length;
    const failed = count("failed") > 0 ? `, **${count("failed")} failed**` : "";
    return `${count("passed")} of ${here.length}${failed}`;
  };
  const left = new Map<string, string[]>();
  for (const { suite, told } of runs)
    for (const { file, name, state, note } of told)
      if (state === "skipped") {
        const key = `${file}: ${name}: ${note ?? "no reason given"}`;
        left.set(key, [...(left.get(key) ?? []), suite]);
      }
  const sum = row("all", ({ told }) => `${told.filter(({ state }) => state === "passed").length} of ${told.length}`);
  return [
    "Each release with its own packages:",
    "",
    head,
    row("run on", ({ date }) => date),
    ...Object.keys(VERSIONS).map((name) => row(name, ({ versions }) => versions[name] ?? "–")),
    "",
    "Stories that passed:",
    "",
    head,
    ...files.map((file) => row(file, cell(file))),
    sum,
    "",
    ...(left.size === 0 ? ["None was left out."] : ["Left out:", ""]),
    ...[...left].sort().map(([what, suites]) => `- ${suites.join(", ")}: ${what}`),
  ].join("\n");
}

const words = process.argv.slice(2);
const chosen = ALL.filter((suite) => words.includes(suite));
const stories = words.filter((word) => !ALL.includes(word));
for (const suite of chosen.length > 0 ? chosen : ALL) await runOn(suite, stories);
const runs = (await Promise.all(ALL.map(lastRun))).filter((run) => run !== undefined);
const text = report(runs);
console.log(text);
if (runs.length === ALL.length) {
  const page = await readFile(PAGE, "utf8");
  const [before, , after] = page.split(/(<!-- written by npm run test:hosts -->\n[\s\S]*?<!-- to here -->)/);
  await writeFile(PAGE, `${before}<!-- written by npm run test:hosts -->\n\n${text}\n\n<!-- to here -->${after}`);
}
const failed = runs.flatMap(({ told }) => told).filter(({ state }) => state === "failed").length;
process.exit(failed > 0 ? 1 : 0);
