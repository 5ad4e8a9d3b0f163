// A run within the tests' process that is killed, or asked to end, comes to what a process comes to.

import { join } from "node:path";
import { execa } from "execa";
import { expect, test } from "vitest";
import { type FakeHost, fakeHost, NATIVE, nodeOptions } from "./host.ts";
import { runInProcess } from "./in-process.ts";
import { readSteps } from "./steps.ts";

const PORTS = { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8080" }] };

/** The steps of interest, by a pattern. */
const STEPS = [/^rename .*\.tmp$/, /^run flock /, /^run systemctl .* (reload|restart) /, /^writeFile: half$/, /^end$/];

async function host(): Promise<FakeHost> {
  const one = fakeHost();
  one.container("web", { ports: PORTS });
  await one.boot();
  return one;
}

type Env = Record<string, string>;

async function asProcess(one: FakeHost, more: Env) {
  const { env, ...options } = one.options();
  const input = JSON.stringify(one.args({ container: "web" }));
  const {
    exitCode = -1,
    signal,
    stdout,
  } = await execa(one.executable, [], {
    ...options,
    ...{ env: { ...env, ...more }, input },
  });
  return { exitCode, signal, stdout };
}

async function inProcess(one: FakeHost, more: Env) {
  const { env, cwd } = one.options();
  const input = JSON.stringify(one.args({ container: "web" }));
  const { exitCode, signal, stdout } = await runInProcess(one.program, {
    ...{ argv: [], cwd, input },
    env: { ...env, ...more },
  });
  return { exitCode, signal, stdout };
}

function faults(one: FakeHost, fault: string, at: number): Env {
  const log = join(one.fake, "steps");
  return { NODE_OPTIONS: nodeOptions("fault"), FAULT: fault, FAULT_AT: String(at), FAULT_LOG: log };
}

/** What runs side by side comes in any order. */
function steps(one: FakeHost): string[] {
  return readSteps(join(one.fake, "steps")).sort();
}

/** What was said and what is left, wherever the host lies; temporary files have a process's number. */
function left(one: FakeHost, said: unknown): unknown {
  const state = JSON.stringify([said, one.state()]);
  return JSON.parse(state.replaceAll(one.root, "ROOT").replaceAll(/docker_iptables-test-\w+/g, "HOST"));
}

test.skipIf(NATIVE).each(["kill", "term"])("%s", async (fault) => {
  const whole = await host();
  await inProcess(whole, faults(whole, "kill", -1));
  const names = readSteps(join(whole.fake, "steps"));
  for (const step of STEPS.filter((step) => fault === "kill" || !step.test("end"))) {
    const at = names.findIndex((name) => step.test(name)) + 1;
    expect(at, String(step)).toBeGreaterThan(0);
    const [real, own] = [await host(), await host()];
    const ended = await asProcess(real, faults(real, fault, at));
    if (fault === "kill") expect(ended.signal).toBe("SIGKILL");
    expect(left(own, await inProcess(own, faults(own, fault, at))), String(step)).toEqual(left(real, ended));
    expect(steps(own)).toEqual(steps(real).map((name) => name.replaceAll(real.root, own.root)));
  }
});

test.skipIf(NATIVE)("the locks of a run that is killed go with it", async () => {
  const [whole, one] = [await host(), await host()];
  await inProcess(whole, faults(whole, "kill", -1));
  const names = readSteps(join(whole.fake, "steps"));
  const locked = names.findIndex((name) => name.startsWith("run flock ")) + 2;
  expect(await inProcess(one, faults(one, "kill", locked))).toMatchObject({ signal: "SIGKILL" });
  expect(await inProcess(one, {})).toMatchObject({ exitCode: 0, stdout: expect.stringContaining("published: web") });
});
