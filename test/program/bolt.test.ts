// Bolt's task: its metadata held against Puppet's specification of tasks, and the executable run as Bolt runs it.

import { chmodSync, copyFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { execa } from "execa";
import { describe, expect, test } from "vitest";
import { type FakeHost, fakeHost } from "./host.ts";

const MODULE = new URL("../../examples/bolt/docker_iptables/", import.meta.url);

interface Metadata {
  parameters: Record<string, { description: string; type: string }>;
  [key: string]: unknown;
}

const metadata: Metadata = JSON.parse(readFileSync(new URL("tasks/docker_iptables.json", MODULE), "utf8"));

/** Puppet's types, as many as our metadata uses: a test of a value. Throws for any other. */
function fits(type: string): (value: unknown) => boolean {
  const [, name = "", inner] = /^(\w+)(?:\[(.*)\])?$/.exec(type) ?? [];
  const parts = inner === undefined ? [] : split(inner);
  const numbers = () => parts.map(Number) as [number, number?];
  switch (name) {
    case "Optional":
      return (value) => value === undefined || value === null || fits(parts[0] ?? "")(value);
    case "Variant":
      return (value) => parts.some((part) => fits(part)(value));
    case "Enum":
      return (value) => parts.includes(String(value));
    case "Boolean":
      return (value) => typeof value === "boolean";
    case "Integer": {
      const [from, to] = numbers();
      return (value) => Number.isInteger(value) && Number(value) >= from && Number(value) <= (to ?? Number.NaN);
    }
    case "String": {
      const [from] = numbers();
      return (value) => typeof value === "string" && value.length >= from;
    }
    case "Hash": {
      const [key = "", element = ""] = parts;
      return (value) =>
        typeof value === "object" &&
        value !== null &&
        !Array.isArray(value) &&
        Object.entries(value).every(([name, one]) => fits(key)(name) && fits(element)(one));
    }
    case "Array": {
      const [element = "", from = "0"] = parts;
      return (value) => Array.isArray(value) && value.length >= Number(from) && value.every(fits(element));
    }
  }
  throw new Error(`no type of Puppet's: ${type}`);
}

/** At the commas that are in no brackets. */
function split(text: string): string[] {
  const parts = [""];
  let depth = 0;
  for (const character of text) {
    if (character === "[") depth++;
    if (character === "]") depth--;
    if (character === "," && depth === 0) parts.push("");
    else parts[parts.length - 1] += character;
  }
  return parts.map((part) => part.trim());
}

/** Bolt refuses what the metadata does not have, before anything is sent to a target. */
function accepts(given: Record<string, unknown>): boolean {
  const isKnown = Object.keys(given).every((name) => name in metadata.parameters);
  return isKnown && Object.entries(metadata.parameters).every(([name, { type }]) => fits(type)(given[name]));
}

describe("the metadata", () => {
  test("has the keys of the specification, and parameters that are named and typed as it wants", () => {
    expect(metadata).toMatchObject({ puppet_task_version: 1, input_method: "stdin", supports_noop: true });
    expect(Object.keys(metadata).sort()).toEqual(
      ["description", "input_method", "parameters", "puppet_task_version", "supports_noop"].sort(),
    );
    for (const [name, { description, type, ...others }] of Object.entries(metadata.parameters)) {
      expect(name).toMatch(/^[a-z][a-z0-9_]*$/);
      expect(description).toMatch(/\.$/);
      expect(() => fits(type)("")).not.toThrow();
      expect(others).toEqual({});
    }
  });

  test.each<[Record<string, unknown>, boolean]>([
    [{}, true],
    [{ container: "web" }, true],
    [{ container: ["web", "db"], ipv6: true, wait_timeout: 0 }, true],
    [{ container: [] }, false],
    [{ container: "" }, false],
    [{ container: "web", state: "absent", reload: "none" }, true],
    [{ container: "web", state: "gone" }, false],
    [{ container: "web", wait_timeout: 86401 }, false],
    [{ container: "web", timeout: "10" }, false],
    [{ container: "web", ipv6: "yes" }, false],
    [{ container: "web", allow: { "8080/tcp": ["10.0.0.0/8", "wg0"], "8443": [] } }, true],
    [{ container: "web", allow: { "8080/tcp": "10.0.0.0/8" } }, false],
    [{ container: "web", colour: "red" }, false],
  ])("%j", (given, accepted) => {
    expect(accepts(given)).toBe(accepted);
  });

  test.each([
    ["publish", ["base", "container"]],
    ["allow", ["container", "allow"]],
  ])("the parameters of the plan %s are the task's", (name, expected) => {
    const plan = readFileSync(new URL(`plans/${name}.yaml`, MODULE), "utf8");
    expect(plan).toContain("task: docker_iptables::docker_iptables");
    const [, given = ""] = /^ {4}parameters:\n((?: {6}.*\n)+)/m.exec(plan) ?? [];
    const names = [...given.matchAll(/^ {6}(\w+):/gm)].map(([, one]) => one ?? "");
    expect(names).toEqual(expected);
    for (const one of names) expect(metadata.parameters).toHaveProperty(one);
  });

  test("each allow that README and plan show is accepted", () => {
    const texts = ["../README.md", "plans/allow.yaml"].map((path) => readFileSync(new URL(path, MODULE), "utf8"));
    const shown = texts.flatMap((text) => [...text.matchAll(/ allow='([^']*)'/g)].map(([, json = ""]) => json));
    expect(shown).toHaveLength(3);
    for (const json of shown) expect(accepts({ container: "db", allow: JSON.parse(json) })).toBe(true);
  });
});

/** Copied to a temporary folder under its task's name, parameters and Bolt's own keys on stdin: bolt/transport. */
async function runTask(host: FakeHost, given: Record<string, unknown>, noop = false) {
  expect(accepts(given)).toBe(true);
  const folder = mkdtempSync(join(tmpdir(), "bolt-"));
  const file = join(folder, "docker_iptables");
  copyFileSync(host.executable, file);
  chmodSync(file, 0o700);
  const own = { _task: "docker_iptables::docker_iptables", _installdir: folder, ...(noop ? { _noop: true } : {}) };
  const input = JSON.stringify({ ...host.args(given), ...own });
  const ran = await execa(file, [], { ...host.options(), input });
  rmSync(folder, { recursive: true });
  const value: Record<string, unknown> = JSON.parse(ran.stdout);
  // A result is a failure when the exit status says so; Bolt then expects _error, else it makes its own.
  expect("_error" in value).toBe(ran.exitCode !== 0);
  expect(ran.stderr).toBe("");
  return value;
}

describe.concurrent("the task", () => {
  test("--noop, the task, --noop again, the task again", async () => {
    const host = fakeHost();
    host.container("web", { ports: { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8080" }] } });
    const before = host.state();
    expect(await runTask(host, { container: "web" }, true)).toMatchObject({ changed: true });
    expect(host.state()).toEqual(before);
    expect(await runTask(host, { container: "web" })).toMatchObject({ changed: true, msg: "published: web" });
    expect(await runTask(host, { container: "web" }, true)).toMatchObject({ changed: false });
    expect(await runTask(host, { container: ["web"] })).toMatchObject({ changed: false });
    expect(await runTask(host, { container: "web", state: "absent" })).toMatchObject({ changed: true });
  });

  test("who may connect, to a container and to what has no list of its own", async () => {
    const host = fakeHost();
    host.container("db", { ports: { "5432/tcp": [{ HostIp: "0.0.0.0", HostPort: "5432" }] } });
    const allow = { "5432/tcp": ["10.20.0.0/24"] };
    expect(await runTask(host, { container: "db", allow })).toMatchObject({
      changed: true,
      published: [{ from: "10.20.0.0/24" }],
    });
    expect(await runTask(host, { container: "db", allow })).toMatchObject({ changed: false });
  });

  test("a failure is Bolt's _error", async () => {
    const { _error: error } = await runTask(fakeHost(), { container: "nobody" });
    expect(error).toEqual({
      msg: expect.stringContaining("nobody does not exist"),
      kind: "docker_iptables/container_missing",
      details: expect.objectContaining({ code: "container_missing" }),
    });
  });
});
