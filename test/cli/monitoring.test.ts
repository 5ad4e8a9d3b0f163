// What monitoring reads of a result of status (src/cli/prometheus.ts, src/cli/nagios.ts), whatever names and messages say.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import schema from "../../schema/result.schema.json" with { type: "json" };
import { printCheck } from "../../src/cli/nagios.ts";
import { METRICS, printMetrics } from "../../src/cli/prometheus.ts";
import type { Problem, Result } from "../../src/generated/result.ts";

const { enum: KINDS, "x-severity": SEVERITIES } = schema.properties.problems.items.properties.kind;

type Row = NonNullable<Result["status"]>[number];

function row(container: string, live = true, publishes = ["0.0.0.0:8080/tcp"]): Row {
  return { container, publishes, addresses: ["172.17.0.2"], options: {}, fragments: [], lists: [], live };
}

function result(more: Partial<Result> = {}): Result {
  const msg = "everything is in sync: 1 container, files and kernel agree";
  return { changed: false, msg, comment: msg, warnings: [], status: [row("web")], problems: [], ...more };
}

const problem = (kind: Problem["kind"], msg = `of the kind ${kind}`): Problem => ({ kind, msg });
const FAILED = result({ failed: true, msg: "iptables-save failed", error: { code: "command_failed" } });
const { status: _, problems: __, ...FAILURE } = FAILED;

interface Read {
  name: string;
  labels: Record<string, string>;
  value: number;
}

/** Reads the text exposition format strictly, by its grammar. Throws where a line is none of it. */
function readMetrics(text: string): Read[] {
  const lines = text.split("\n");
  expect(lines.pop()).toBe("");
  const typed = new Set<string>();
  return lines.flatMap((line): Read[] => {
    const type = /^# TYPE ([a-z_]+) gauge$/.exec(line)?.[1];
    if (type !== undefined) {
      expect(typed).not.toContain(type);
      typed.add(type);
      return [];
    }
    if (/^# HELP [a-z_]+ ./.test(line)) return [];
    const pair = '[a-z]+="(?:[^"\\\\\\n]|\\\\[\\\\"n])*"';
    const sample = new RegExp(`^([a-z_]+)(?:\\{(${pair}(?:,${pair})*)\\})? (\\d+(?:\\.\\d+)?)$`).exec(line);
    if (sample === null) throw new Error(`not a sample: ${JSON.stringify(line)}`);
    const [, name = "", pairs = "", value] = sample;
    expect(typed).toContain(name);
    const labels = [...pairs.matchAll(/([a-z]+)="((?:[^"\\]|\\.)*)"/g)].map(([, label = "", escaped = ""]) => [
      label,
      escaped.replaceAll(/\\(.)/g, (_, one: string) => (one === "n" ? "\n" : one)),
    ]);
    return [{ name, labels: Object.fromEntries(labels), value: Number(value) }];
  });
}

const metrics = (told: Result) => readMetrics(printMetrics(told, "0.1.0").stdout);
const sampleOf = (all: readonly Read[], name: string) => all.find((one) => one.name === name)?.value;

/** Quotes, escapes, line breaks, another metric's line, what a check's bar begins, half a character. */
const hostile = fc.string({
  unit: fc.oneof(
    fc.constantFrom('"', "\\", "\n", "\r", "{", "}", "|", ";", "\ud800", 'web"} 1\ndocker_iptables_up 0\n', "😀"),
    fc.string({ unit: "binary", maxLength: 1 }),
  ),
});

describe("prometheus", () => {
  test("each known kind of problem is a series, also where there is none", () => {
    const all = metrics(result({ problems: [problem("rules_missing"), problem("rules_missing")] }));
    const kinds = all.filter(({ name }) => name === "docker_iptables_problems");
    expect(kinds.map(({ labels }) => [labels["problem"], labels["severity"]])).toEqual(Object.entries(SEVERITIES));
    expect(kinds.filter(({ value }) => value > 0)).toMatchObject([{ labels: { problem: "rules_missing" }, value: 2 }]);
  });

  test("what is published, whether it is live, the version, and when it was loaded", () => {
    const status = [row("db", false), row("gone", false, []), row("web", true, ["0.0.0.0:80/tcp", "[::]:80/tcp"])];
    const all = metrics(result({ status, last_load: "2026-11-27T05:43:12.500Z" }));
    expect(all.filter(({ name }) => name !== "docker_iptables_problems")).toEqual([
      { name: "docker_iptables_up", labels: {}, value: 1 },
      { name: "docker_iptables_build_info", labels: { version: "0.1.0" }, value: 1 },
      { name: "docker_iptables_containers_published", labels: {}, value: 2 },
      { name: "docker_iptables_ports_published", labels: {}, value: 3 },
      { name: "docker_iptables_container_live", labels: { container: "db" }, value: 0 },
      { name: "docker_iptables_container_live", labels: { container: "web" }, value: 1 },
      { name: "docker_iptables_last_load_timestamp_seconds", labels: {}, value: 1795758192.5 },
    ]);
    expect(new Set(all.map(({ name }) => name))).toEqual(new Set(METRICS.map(({ name }) => name)));
    for (const { name, labels } of all) {
      expect(Object.keys(labels)).toEqual(METRICS.find((one) => one.name === name)?.labels);
    }
  });

  test("a check that failed says that, and nothing that it does not know", () => {
    const { stdout, stderr, exitCode } = printMetrics(FAILURE, "0.1.0");
    expect(readMetrics(stdout).map(({ name, value }) => [name, value])).toEqual([
      ["docker_iptables_up", 0],
      ["docker_iptables_build_info", 1],
    ]);
    expect(stderr).toBe("docker_iptables: iptables-save failed [command_failed]\n");
    expect(exitCode).toBe(0);
  });

  test("without the daemon nobody knows what is published", () => {
    const all = metrics(result({ problems: [problem("daemon_unreachable")] }));
    expect(sampleOf(all, "docker_iptables_up")).toBe(0);
    expect(all.find(({ labels }) => labels["problem"] === "daemon_unreachable")?.value).toBe(1);
    expect(all.filter(({ name }) => /published|live/.test(name))).toEqual([]);
  });

  test("names from outside stay within their label, and no series is there twice", () => {
    const property = fc.property(fc.array(fc.tuple(hostile, fc.boolean())), hostile, (rows, version) => {
      const told = result({ status: rows.map(([name, live]) => row(name, live)) });
      const all = readMetrics(printMetrics(told, version).stdout);
      const live = all.filter(({ name }) => name === "docker_iptables_container_live");
      expect(live.map(({ labels }) => labels["container"])).toEqual([...new Set(rows.map(([name]) => name))]);
      for (const { labels, value } of live) {
        expect(value === 1).toBe(rows.every(([name, isLive]) => name !== labels["container"] || isLive));
      }
      expect(sampleOf(all, "docker_iptables_up")).toBe(1);
    });
    fc.assert(property);
  });
});

describe("nagios", () => {
  test("all is well", () => {
    expect(printCheck(result())).toEqual({
      stdout:
        "OK - everything is in sync: 1 container, files and kernel agree | critical=0;;;0 warning=0;;;0 published=1;;;0\n",
      stderr: "",
      exitCode: 0,
    });
  });

  test("the worst one decides, and is the one that is told", () => {
    const problems = [problem("service_disabled"), problem("rules_missing", "the kernel lacks rules of web")];
    expect(printCheck(result({ problems }))).toEqual({
      stdout:
        "CRITICAL - rules_missing: the kernel lacks rules of web; 1 more: service_disabled | critical=1;;;0 warning=1;;;0 published=1;;;0\n",
      stderr: "",
      exitCode: 2,
    });
    expect(printCheck(result({ problems: problems.slice(0, 1) }))).toMatchObject({ exitCode: 1 });
  });

  test.each(KINDS)("%s has a severity, and the exit status that belongs to it", (kind) => {
    const severity = SEVERITIES[kind as keyof typeof SEVERITIES];
    const exitCode = { warning: 1, critical: 2, unknown: 3 }[severity];
    const { stdout, ...others } = printCheck(result({ problems: [problem(kind as Problem["kind"])] }));
    expect(others).toEqual({ stderr: "", exitCode });
    expect(stdout).toMatch(new RegExp(`^${severity.toUpperCase()} - ${kind}: `));
  });

  test("each severity is one of a kind of problem, in its order", () => {
    expect(Object.keys(SEVERITIES)).toEqual(KINDS);
  });

  test("where the check failed, or the daemon cannot be asked, it is unknown", () => {
    expect(printCheck(FAILURE)).toEqual({
      stdout: "UNKNOWN - iptables-save failed [command_failed]\n",
      stderr: "",
      exitCode: 3,
    });
    const unreachable = printCheck(result({ problems: [problem("daemon_unreachable")] }));
    expect(unreachable).toMatchObject({ exitCode: 3 });
    expect(unreachable.stdout).not.toContain("published=");
    const worse = result({ problems: [problem("daemon_unreachable"), problem("rules_orphaned")] });
    expect(printCheck(worse)).toMatchObject({ exitCode: 2 });
  });

  test("whatever a message says, it is one line of at most 1024 bytes, with its own performance data", () => {
    const messages = fc.array(fc.tuple(fc.constantFrom(...KINDS), hostile), { minLength: 1, maxLength: 40 });
    const property = fc.property(messages, fc.nat(300), (all, times) => {
      const problems = all.map(([kind, msg]) => problem(kind as Problem["kind"], msg.repeat(times)));
      const { stdout } = printCheck(result({ problems }));
      expect(stdout).toMatch(/^(WARNING|CRITICAL|UNKNOWN) - [^|\n]+ \| critical=\d+;;;0 warning=\d+;;;0[^|\n]*\n$/);
      expect(Buffer.byteLength(stdout)).toBeLessThanOrEqual(1024);
    });
    fc.assert(property);
  });
});
