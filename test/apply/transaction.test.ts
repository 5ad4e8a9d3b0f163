// The transaction with a packet filter in memory: whatever a load does, files and rules are as they were, or as they should be.

import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { commit } from "../../src/apply/transaction.ts";
import { readRequest } from "../../src/cli/request.ts";
import { asFailure, type Failure } from "../../src/model/errors.ts";
import { FAMILIES, type Family } from "../../src/model/family.ts";
import { NO_SETTINGS } from "../../src/model/settings.ts";
import type { HostRequest } from "../../src/plan/backend.ts";
import { compare } from "../../src/plan/compare.ts";
import { readStamped } from "../../src/plan/concurrency.ts";
import { plan } from "../../src/plan/plan.ts";
import { type ContainerFragment, containerFragment } from "../../src/rules/desired-fragment.ts";
import { type Fault, MemoryBackend } from "./memory-backend.ts";

let root: string;
let backend: MemoryBackend;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "docker_iptables-test-"));
  for (const family of FAMILIES) mkdirSync(join(root, family));
  backend = new MemoryBackend();
});

afterEach(() => rmSync(root, { recursive: true }));

function requestOf(state: "present" | "absent"): HostRequest {
  const [iptables_dir, ip6tables_dir] = FAMILIES.map((family) => join(root, family));
  const args = { container: "web", state, reload: "restore", iptables_dir, ip6tables_dir };
  const request = readRequest(args, { env: {}, cwd: "/" }, NO_SETTINGS);
  return { ...request, host: { ...request.host, backend } };
}

/** One port, at this address; no rule where it is undefined. */
function web(address: string | undefined, name = "web"): ContainerFragment {
  if (address === undefined) return containerFragment(name);
  const ports = { protocol: "tcp", first: 80, last: 80 };
  return containerFragment(name, {
    meaning: {
      ipv4: [{ kind: "accept", address, bridge: "docker0", ports }],
      ipv6: [{ kind: "accept", address: `fd00::${address}`, bridge: "docker0", ports }],
    },
    chain: "DOCKER_CONTAINERS",
  });
}

/** What publish does from `compare` on. Returns whether anything was to be done. */
async function publish(wanted: ContainerFragment[], families: Family[] = ["ipv4"]): Promise<boolean> {
  const request = requestOf(wanted.every(({ meaning }) => meaning.ipv4.length === 0) ? "absent" : "present");
  const seen = await readStamped(request.host);
  const live = await backend.read(families);
  const compared = await compare(wanted, families, live, request);
  const { load } = await plan(compared, undefined, seen.now, request);
  if (load === undefined) return false;
  const answer = { wanted, since: performance.now(), waited: false };
  await commit({ ...load, settled: { asked: wanted, conflicting: [], seen, answer } }, request);
  return true;
}

const failureOf = (doing: Promise<unknown>): Promise<Failure> => doing.then(() => expect.unreachable(), asFailure);

function files(): Record<string, string> {
  const directory = join(root, "ipv4");
  const names = readdirSync(directory).filter((name) => !name.startsWith("."));
  return Object.fromEntries(names.map((name) => [name, readFileSync(join(directory, name), "utf8")]));
}

/** A load leaves out none but those that it is about. */
function faultOf(kind: "none" | Fault["kind"], owner: string): Fault | undefined {
  if (kind === "none") return undefined;
  return kind === "loses" ? { kind, owner } : { kind, family: "ipv4" };
}

/** The kernel is as the files say. */
function expectAgreement() {
  const declared = Object.values(files()).flatMap((text) => text.split("\n").filter((line) => line.startsWith("-")));
  expect(Object.values(backend.kernel.ipv4).flat().sort()).toEqual(declared.sort());
}

test("a fragment is written and loaded; the same again does nothing", async () => {
  expect(await publish([web("172.17.0.2")])).toBe(true);
  expect(Object.keys(files())).toEqual(["11-docker-container_web"]);
  expect(backend.kernel.ipv4["web"]).toHaveLength(1);
  expectAgreement();
  backend.calls.splice(0);
  expect(await publish([web("172.17.0.2")])).toBe(false);
  expect(backend.calls).toEqual(["read"]);
});

test("rules that somebody flushed are loaded again, and no file is written", async () => {
  await publish([web("172.17.0.2")]);
  const before = files();
  backend.kernel.ipv4 = {};
  expect(await publish([web("172.17.0.2")])).toBe(true);
  expect(files()).toEqual(before);
  expectAgreement();
});

test("what is refused before anything is written changes nothing", async () => {
  await publish([web("172.17.0.2")]);
  const before = files();
  backend.refused = "172.17.0.3";
  backend.calls.splice(0);
  expect(await failureOf(publish([web("172.17.0.3")]))).toMatchObject({ code: "fragment_invalid", changed: false });
  expect(files()).toEqual(before);
  expect(backend.calls).toEqual(["read"]);
});

describe.each<[string, Fault, string]>([
  ["is refused", { kind: "refuses", family: "ipv4" }, "reload_failed"],
  ["fails once it has changed the kernel", { kind: "fails-after", family: "ipv4" }, "reload_failed"],
  ["leaves rules out", { kind: "loses", owner: "web" }, "rules_not_live"],
])("a load that %s", (_, fault, code) => {
  test("is undone, files and kernel", async () => {
    await publish([web("172.17.0.2"), web("172.17.0.9", "other")]);
    const before = files();
    backend.fault = fault;
    const failure = await failureOf(publish([web("172.17.0.3"), web("172.17.0.9", "other")]));
    expect(failure).toMatchObject({ code, changed: false });
    expect(failure.rolledBack).toContainEqual({
      kind: "put_back",
      what: join(root, "ipv4", "11-docker-container_web"),
    });
    expect(files()).toEqual(before);
    expectAgreement();
  });

  test("keeps no port open that is to be closed", async () => {
    await publish([web("172.17.0.2"), web("172.17.0.9", "other")]);
    backend.fault = fault;
    await publish([web(undefined)]).catch(() => {});
    expect(Object.keys(files())).toEqual(["11-docker-container_other"]);
    expect(backend.kernel.ipv4).not.toHaveProperty("web");
  });
});

test("of two families the second's failure takes the first's load back", async () => {
  await publish([web("172.17.0.2")], [...FAMILIES]);
  const before = structuredClone(backend.kernel);
  backend.fault = { kind: "refuses", family: "ipv6" };
  backend.calls.splice(0);
  await failureOf(publish([web("172.17.0.3")], [...FAMILIES]));
  expect(backend.calls).toEqual(expect.arrayContaining(["load ipv4", "load ipv6"]));
  expect(backend.kernel).toEqual(before);
});

test("whatever comes, files and kernel agree", async () => {
  const step = fc.record({
    one: fc.constantFrom("web", "other"),
    address: fc.constantFrom(undefined, "172.17.0.2", "172.17.0.3"),
    fault: fc.constantFrom("none" as const, "refuses" as const, "fails-after" as const, "loses" as const),
  });
  const seen = { done: 0, failed: 0 };
  const property = fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 5 }), async (steps) => {
    for (const name of Object.keys(files())) rmSync(join(root, "ipv4", name));
    backend.kernel.ipv4 = {};
    for (const { one, address, fault } of steps) {
      backend.fault = faultOf(fault, one);
      const outcome = await publish([web(address, one)]).then(
        () => "done" as const,
        () => "failed" as const,
      );
      backend.fault = undefined;
      seen[outcome] += 1;
      expectAgreement();
    }
  });
  await fc.assert(property, { numRuns: 25 });
  expect(seen.failed).toBeGreaterThan(0);
  expect(seen.done).toBeGreaterThan(0);
});
