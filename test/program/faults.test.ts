// Every step of present, absent and load goes wrong once: it fails, the process is killed there, or asked to end (where
// something has changed since it would have been before).
// Afterwards every file and every table is the old one or the new one, and one more run reaches the goal.
// fakes/fault.cjs finds the steps. Most of these runs are within the tests' process; of those with a signal one of each is a
// process, and in-process.test.ts holds that both come to the same.

import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { execa } from "execa";
import { describe, expect, test } from "vitest";
import type { Result } from "../../src/generated/result.ts";
import { BRIDGE, type FakeHost, fakeHost, NATIVE, nodeOptions, readAnswer, removeRoot } from "./host.ts";
import { runInProcess } from "./in-process.ts";
import { changingSteps, type NamedStep, namedSteps, readSteps } from "./steps.ts";

const FAULTS = ["fail", "kill", "term"] as const;
type Fault = (typeof FAULTS)[number];
/** As in host.ts: with another Node.js than the tests' all of them. */
const STARTS_PROCESSES = process.env["PRODUCT_NODE"] !== undefined;
const PORTS = {
  "80/tcp": [
    { HostIp: "0.0.0.0", HostPort: "8080" },
    { HostIp: "::", HostPort: "8080" },
  ],
  "53/udp": [{ HostIp: "0.0.0.0", HostPort: "53" }],
};
/** Led to the container's former address. */
const FLOW =
  "udp      17 29 src=198.51.100.1 dst=127.0.0.1 sport=9 dport=53 src=172.17.0.2 dst=198.51.100.1 sport=53 dport=9 use=1";
/** What a killed run leaves is not part of the state: nothing reads it, and a later run removes it. */
const TEMPORARY = /\/\.docker_iptables\.tmp$|^var\/docker_iptables\/.*\.\d+\.tmp$/;
/**
 * What is only a cache or a record: what fragments declare (after an interruption, also what they declared), and how iptables
 * prints it.
 */
const DERIVED = /^var\/docker_iptables\/.*\.(left|spelled|names)$/;
const RECORD = /\.left$/;

type State = Record<string, string>;

interface Case {
  /** From the state that is there before. */
  prepare: (host: FakeHost) => void | Promise<void>;
  argv: (host: FakeHost) => string[];
  input?: (host: FakeHost) => string;
  /** Whether a failed run brings back what was there. */
  putsBack: boolean;
  /** Whether web is removed with it: that is never restored, and done though the rest failed. */
  goes?: boolean;
  /** Whether what only reads fails too: it is the same for absent, and with a service. */
  reads: boolean;
  /** Steps that must be among those found, or the test would pass without any. */
  steps: RegExp[];
}

const WRITES = [/^writeFile: half$/, /^rename .*\.tmp$/, /^sync /, /^run flock /];
const LOADS = [
  ...[/^run unshare --net -- .* iptables-restore/, /^run unshare --net -- .* ip6tables-restore/],
  ...[/^run iptables-restore /, /^run ip6tables-restore /],
];
const FLOWS = /^run conntrack -[LD] /;
const READS = [/^readdir .*tables\.d$/, /^open .*docker_iptables\.load$/, /^close .*_/];

function door1(given: Record<string, unknown>): Pick<Case, "prepare" | "argv" | "input"> {
  return {
    prepare: (host) => {
      host.container("web", { ports: PORTS, address: "172.17.0.9", address6: "fd00::9" });
      host.setFlows([FLOW]);
      if (given["ipv6"] === false) rmSync(host.ip6tablesDir, { recursive: true });
      // Then the rules are tried first; in the other cases it is known how they are printed.
      const known = ["ipv4", "ipv6"].map((family) => join(host.root, "var/docker_iptables", `${family}.spelled`));
      if (given["reload"] === "restore") for (const path of known) rmSync(path);
    },
    argv: () => [],
    input: (host) => JSON.stringify(host.args({ container: "web", ipv6: true, ...given })),
  };
}

const CASES: Record<string, Case> = {
  "present (restore)": {
    ...door1({ reload: "restore" }),
    putsBack: true,
    reads: true,
    steps: [...WRITES, ...LOADS],
  },
  "present (systemd)": {
    ...door1({ ipv6: false }),
    putsBack: true,
    reads: false,
    steps: [...WRITES, /^run systemctl .* reload /],
  },
  "present (patch)": {
    ...door1({ reload: "patch", ipv6: false }),
    putsBack: true,
    reads: false,
    steps: [...WRITES, /^run iptables-restore .*--noflush/, FLOWS],
  },
  "absent (restore)": {
    ...door1({ reload: "restore", state: "absent" }),
    putsBack: false,
    reads: false,
    steps: [/^unlink .*_web$/, ...LOADS],
  },
  "absent (systemd)": {
    ...door1({ ipv6: false, state: "absent" }),
    putsBack: false,
    reads: false,
    steps: [/^unlink .*_web$/, /^run systemctl .* reload /],
  },
  sync: {
    prepare: (host) => {
      rmSync(host.ip6tablesDir, { recursive: true });
      // web does not run any more, and two others do.
      host.container("api", { ports: { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8081" }] }, address: "172.17.0.3" });
      host.container("db", { ports: { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8082" }] }, address: "172.17.0.4" });
    },
    argv: () => [],
    input: (host) => JSON.stringify(host.args({ all: true, reload: "restore" })),
    putsBack: true,
    goes: true,
    reads: false,
    steps: [...WRITES, /^run iptables-restore /],
  },
  setup: {
    prepare: (host) => {
      bare(host);
      host.container("web", { ports: PORTS });
    },
    argv: () => [],
    input: (host) => JSON.stringify(host.args({ base: true, container: "web" })),
    putsBack: true,
    reads: false,
    steps: [
      ...WRITES,
      /^mkdir /,
      /^run systemctl daemon-reload/,
      /^run systemctl enable /,
      /^run systemctl .* restart /,
    ],
  },
  "setup --watch": {
    prepare: async (host) => {
      bare(host);
      await host.ask({ base: true, reload: "none" });
    },
    argv: () => [],
    // The rest of setup has its case above.
    input: (host) => JSON.stringify(host.args({ base: true, watch: true, reload: "none" })),
    putsBack: true,
    reads: false,
    steps: [
      /^rename .*\.tmp$/,
      /^run systemctl daemon-reload/,
      /^run systemctl enable /,
      /^run systemctl restart -- docker_iptables-watch\.service$/,
    ],
  },
  "setup --remove": {
    prepare: async (host) => {
      bare(host);
      rmSync(join(host.bin, "ip6tables-save"));
      await host.ask({ base: true });
    },
    argv: () => [],
    input: (host) => JSON.stringify(host.args({ base: true, state: "absent" })),
    putsBack: false,
    reads: false,
    steps: [
      /^unlink .*10_docker$/,
      /^unlink .*iptables.service$/,
      /^run systemctl disable /,
      /^run systemctl .* reload /,
    ],
  },
  load: {
    prepare: (host) => {
      for (const directory of [host.iptablesDir, host.ip6tablesDir]) {
        host.write("20_more", "*filter\n-A INPUT -p tcp --dport 22 -j ACCEPT\nCOMMIT\n", directory);
      }
    },
    argv: (host) => ["load", "--json", "--iptables-dir", host.iptablesDir, "--ip6tables-dir", host.ip6tablesDir],
    putsBack: true,
    reads: true,
    steps: [...WRITES, ...LOADS],
  },
};

/** A host that is not set up, with one network of both families. */
function bare(host: FakeHost): void {
  host.bare();
  for (const family of ["ipv4", "ipv6"]) {
    for (const table of ["raw", "nat", "filter"]) host.setKernel(table, `*${table}\nCOMMIT\n`, family);
  }
  host.network("bridge", {
    Options: { "com.docker.network.bridge.name": BRIDGE },
    IPAM: { Config: [{ Subnet: "172.17.0.0/16" }, { Subnet: "fd00::/64" }] },
  });
}

let published: Promise<State> | undefined;

/** web was published, all was loaded and kept, then something changed. */
async function hostFor({ prepare }: Case): Promise<FakeHost> {
  published ??= publishedState();
  const host = fakeHost();
  mkdirSync(join(host.root, "var", "docker_iptables"), { recursive: true });
  host.put(await published);
  await prepare(host);
  return host;
}

async function publishedState(): Promise<State> {
  const host = fakeHost();
  host.container("web", { ports: PORTS, address6: "fd00::2" });
  await host.boot();
  await host.ask({ container: "web", ipv6: true });
  await start(host, CASES["load"] as Case);
  return stateOf(host);
}

async function start(host: FakeHost, one: Case, env: Record<string, string> = {}, isProcess = STARTS_PROCESSES) {
  const options = host.options();
  const state = { STATE_DIRECTORY: join(host.root, "var", "docker_iptables") };
  const all = { ...options, env: { ...options.env, ...state, ...env }, input: one.input?.(host) ?? "" };
  if (!isProcess) return runInProcess(host.program, { ...all, argv: one.argv(host) });
  const { signal, exitCode, stdout, stderr } = await execa(host.executable, one.argv(host), all);
  return { signal, exitCode: exitCode ?? -1, stdout, stderr };
}

function stateOf(host: FakeHost): State {
  const entries = Object.entries(host.state()).map(([name, text]) => [
    name.replace(/^docker_iptables-test-[^/]*\//, ""),
    // A load states all policies, as the kernel does; a removal without one states none.
    text.replaceAll(host.root, "ROOT").replaceAll(/^:[A-Z]+ ACCEPT \[0:0\]\n/gm, ""),
  ]);
  return Object.fromEntries(entries);
}

function without(unwanted: RegExp, state: State): State {
  return Object.fromEntries(Object.entries(state).filter(([name]) => !unwanted.test(name)));
}

/** Without the names of fragments that are gone in the lists of this boot's: a full disk keeps no port open for them. */
function withoutGone(state: State): State {
  const lasts = (name: string, line: string) =>
    !line.startsWith("# 11-") || `${dirname(name)}/${line.slice(2)}` in state;
  const entries = Object.entries(state).map(([name, text]) => {
    if (!name.endsWith("/.docker_iptables.boot")) return [name, text];
    const lines = text.split("\n").filter((line) => lasts(name, line));
    return [name, lines.join("\n")];
  });
  return Object.fromEntries(entries);
}

/** Where a fault is to be: of what fails each step by its name, of signals some by their number. */
async function stepsOf(one: Case, fault: Fault, reads: boolean): Promise<(NamedStep | number)[]> {
  const host = await hostFor(one);
  const run = async (env: Record<string, string>) => readAnswer(await start(host, one, env));
  return fault === "fail" ? namedSteps(host, reads, run) : changingSteps(host, run);
}

/** One run with the fault at a step; undefined where it did not come to that step. */
async function faultyRun(one: Case, fault: Fault, at: NamedStep | number, isProcess: boolean, reads: boolean) {
  const host = await hostFor(one);
  host.install("broken");
  const log = join(host.fake, "steps");
  // What each load finds: for what came back in between.
  writeFileSync(join(host.fake, "sought"), "172.17.0.2");
  const env = {
    NODE_OPTIONS: nodeOptions("fault"),
    FAULT: fault,
    ...(typeof at === "number" ? { FAULT_AT: String(at) } : { FAULT_NAME: at.name, FAULT_NTH: String(at.nth) }),
    FAULT_LOG: log,
    ...(reads ? { FAULT_READS: "yes" } : {}),
  };
  const ran = await start(host, one, env, isProcess);
  const steps = readSteps(log);
  const step = typeof at === "number" ? steps[at - 1] : steps.filter((name) => name === at.name)[at.nth - 1];
  if (step === undefined) return undefined;
  const seen = existsSync(join(host.fake, "seen")) ? readFileSync(join(host.fake, "seen"), "utf8") : "";
  return { ...ran, host, step, seen };
}

/** What another run makes of what a faulty one left; asked once for each thing that was left. */
function repairs(one: Case, goal: State) {
  const known = new Map<string, Promise<void>>();
  return (host: FakeHost): Promise<void> => {
    const key = JSON.stringify(without(TEMPORARY, stateOf(host)));
    const repair = known.get(key) ?? expectRepaired(one, host, goal);
    known.set(key, repair);
    return repair;
  };
}

async function expectRepaired(one: Case, host: FakeHost, goal: State): Promise<void> {
  const result = readAnswer(await start(host, one));
  expect(result.failed, result.msg).toBeUndefined();
  const now = without(TEMPORARY, stateOf(host));
  expect(without(DERIVED, now)).toEqual(without(DERIVED, goal));
  for (const [name, text] of Object.entries(goal).filter(([name]) => RECORD.test(name)))
    expect(now[name]?.split("\n"), name).toEqual(expect.arrayContaining(text.split("\n")));
}

function expectOldOrNew(now: State, before: State, goal: State, goes = false): void {
  for (const name of new Set([...Object.keys(before), ...Object.keys(goal), ...Object.keys(now)])) {
    if (DERIVED.test(name)) continue;
    const without = goes ? before[name]?.replaceAll(/^.*docker_iptables: web".*\n/gm, "") : goal[name];
    expect([before[name], goal[name], without], name).toContain(now[name]);
  }
}

/** An answer is true: done is done, failed is as before, and what stays changed is reported. */
function expectTrue(result: Result, now: State, before: State, goal: State, putsBack: boolean): void {
  if (!result.failed) {
    // That the rules could not be kept for the next boot is a warning.
    const kept = !result.warnings.some((warning) => warning.includes("not stored for the next boot"));
    const told = (state: State) =>
      Object.entries(withoutGone(without(DERIVED, state))).filter(
        ([name]) => kept || !name.startsWith("var/docker_iptables/"),
      );
    expect(told(now)).toEqual(told(goal));
  }
  if (result.failed && putsBack && result.changed)
    expect(`${result.rolled_back} ${result.msg}`).toMatch(
      /NOT put back|unpublished anyway: web$|NOT unpublished: web$|loaded, with the last valid settings$/,
    );
  if (!result.changed) expect(without(DERIVED, now)).toEqual(without(DERIVED, before));
}

describe.skipIf(NATIVE).each(Object.entries(CASES))("%s", (_, one) => {
  test.each(FAULTS)("%s, at every step", { timeout: 3_600_000 }, async (fault) => {
    const whole = await hostFor(one);
    const before = stateOf(whole);
    const first = readAnswer(await start(whole, one));
    expect(first, first.msg).toMatchObject({ changed: true });
    const goal = stateOf(whole);
    expect(goal).not.toEqual(before);
    const expectRepair = repairs(one, goal);
    const reads = fault === "fail" && one.reads;
    const steps = await stepsOf(one, fault, reads);
    const found: string[] = [];
    const wrong: string[] = [];
    let next = 0;
    const worker = async () => {
      for (let number = next++; number < steps.length; number = next++) {
        const at = steps[number] as NamedStep | number;
        const isProcess = STARTS_PROCESSES || (fault !== "fail" && number === steps.length >> 1);
        const run = await faultyRun(one, fault, at, isProcess, reads);
        // In the order in which this run took them there was none.
        if (run === undefined) continue;
        found.push(run.step);
        try {
          const now = without(TEMPORARY, stateOf(run.host));
          expectOldOrNew(now, before, goal, one.goes);
          if (!one.putsBack || one.goes) expect(run.seen).not.toMatch(/gone\n(gone\n)*there/);
          if (fault === "kill") expect(run.signal).toBe("SIGKILL");
          else expectTrue(readAnswer(run), now, before, goal, one.putsBack);
          // Where it cannot be known whether something waits, only our own rules are replaced, and what fragments declare is not recorded.
          if (!run.step.endsWith(".unconfirmed")) await expectRepair(run.host);
        } catch (error) {
          wrong.push(`${JSON.stringify(at)}, ${run.step}: ${error}\n${run.stdout}`);
        } finally {
          await removeRoot(run.host.root);
        }
      }
    };
    await Promise.all([worker(), worker(), worker(), worker()]);
    expect(wrong).toEqual([]);
    // Nearly all of them are come to, in whatever order.
    expect(found.length).toBeGreaterThan(0.9 * steps.length);
    // A signal is sent at some of them.
    for (const step of fault === "fail" ? [...one.steps, ...(reads ? READS : [])] : [])
      expect(found).toContainEqual(expect.stringMatching(step));
  });
});
