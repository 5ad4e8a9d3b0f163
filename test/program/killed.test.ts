// Killed at any moment (at every step: faults.test.ts): every fragment is whole, the old one or the new one, and a next run completes.
// Asked to end: a wait ends, a transaction is finished or rolled back, and there is an answer.

import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { execa } from "execa";
import { describe, expect, test } from "vitest";
import { until } from "../until.ts";
import { hold } from "./hold.ts";
import { type FakeHost, fakeHost, NATIVE, nodeOptions, readAnswer } from "./host.ts";
import { changingSteps, readSteps } from "./steps.ts";

const FAKES = ["docker", "iptables-save", "ip6tables-save", "iptables-restore"];
const PORTS = {
  "80/tcp": [
    { HostIp: "0.0.0.0", HostPort: "8080" },
    { HostIp: "::", HostPort: "8080" },
  ],
};

/** A load that says when it has begun, and continues when allowed. */
const LOADING = 'echo > "$FAKE/loading"; until [ -e "$FAKE/go" ]; do sleep 0.05; done';

let outdated: Promise<Record<string, string>> | undefined;

/** web was published at an address that it has no more. */
async function outdatedHost(): Promise<{ host: FakeHost; former: string }> {
  const host = fakeHost();
  outdated ??= publishedState();
  host.put(await outdated);
  host.container("web", { ports: PORTS, address: "172.17.0.9", address6: "fd00::9" });
  return { host, former: host.fragment("web") ?? "" };
}

async function publishedState(): Promise<Record<string, string>> {
  const host = fakeHost();
  host.container("web", { ports: PORTS, address6: "fd00::2" });
  await host.boot();
  await host.ask({ container: "web" });
  return host.state();
}

/** Starts the executable through door 1. */
function start(host: FakeHost, given: Record<string, unknown>, env: Record<string, string> = {}, detached = false) {
  const options = host.options();
  const input = JSON.stringify(host.args(given));
  const subprocess = execa(host.executable, [], { ...options, env: { ...options.env, ...env }, input, detached });
  const done = subprocess.then((result) => ({
    exitCode: result.exitCode ?? -1,
    signal: result.signal,
    stdout: result.stdout,
    stderr: result.stderr,
  }));
  return { pid: subprocess.pid ?? 0, done };
}

/** What a loader would read (`cat DIRECTORY/*`) besides the host rules. */
function visible(host: FakeHost): string[] {
  return host.names(host.iptablesDir).filter((name) => !name.startsWith(".") && name !== "10_docker");
}

/** After a kill nothing is torn, and the same call again completes and leaves no temporary file. */
async function expectWholeAndCompleted(host: FakeHost, former: string, given: Record<string, unknown>): Promise<void> {
  const absent = given["state"] === "absent";
  const left = host.fragment("web");
  const found = visible(host);
  for (const name of FAKES) host.on(name, "");
  const next = await host.ask(given);
  expect(next.failed, next.msg).toBeUndefined();
  const after = host.fragment("web");
  expect([former, after]).toContain(left);
  expect(found).toEqual(left === undefined ? [] : ["11-docker-container_web"]);
  expect(host.names(host.iptablesDir).sort()).toEqual(
    absent ? ["10_docker"] : ["10_docker", "11-docker-container_web"],
  );
  for (const table of ["raw", "nat", "filter"]) {
    expect(host.kernel(table)).not.toContain("172.17.0.2");
    expect(host.kernel(table).includes("172.17.0.9")).toBe(!absent);
  }
}

test.concurrent.each(["present", "absent"])("killed with SIGKILL at any time (%s)", async (state) => {
  const given = { container: "web", state, reload: "restore" };
  for (let delay = 40; delay <= 190; delay += 50) {
    const { host, former } = await outdatedHost();
    const { pid, done } = start(host, given);
    await sleep(delay);
    killQuietly(pid, "SIGKILL");
    await done;
    await expectWholeAndCompleted(host, former, given);
  }
});

test.skipIf(NATIVE)("killed while it takes a failed load back, at every step: the next run completes", async () => {
  const given = { container: "web", reload: "restore" };
  const failing = async () => {
    const { host, former } = await outdatedHost();
    host.on("iptables-restore", "exit 1");
    return { host, former };
  };
  const { host } = await failing();
  const steps = await changingSteps(host, (env) => start(host, given, env).done);
  const names = readSteps(join(host.fake, "steps"));
  const back = steps.filter((at) => at > names.findIndex((name) => name.includes("\trun iptables-restore")) + 1);
  expect(back.length).toBeGreaterThan(4);
  for (const at of back) {
    const { host, former } = await failing();
    const env = { NODE_OPTIONS: nodeOptions("fault"), FAULT: "kill", FAULT_AT: String(at) };
    const { signal } = await start(host, given, { ...env, FAULT_LOG: join(host.fake, "steps") }).done;
    expect(signal).toBe("SIGKILL");
    await expectWholeAndCompleted(host, former, given);
  }
});

describe.concurrent.each(["SIGTERM", "SIGINT"] as const)("%s", (name) => {
  test("ends a wait for a container", async () => {
    const host = fakeHost();
    const before = host.state();
    const { pid, done } = start(host, { container: "web", wait_timeout: 600 });
    await until("it asks the client", () => existsSync(join(host.fake, "calls")));
    process.kill(pid, name);
    expect(readAnswer(await done)).toMatchObject({ failed: true, error: { code: "interrupted" } });
    expect(host.state()).toEqual(before);
  });

  test("ends a wait for a container, to the whole process group", async () => {
    const host = fakeHost();
    // It answers once the group has the signal: a client of a later attempt would still be in that group as it starts.
    host.on("docker", 'echo > "$FAKE/asked"; until [ -e "$FAKE/go" ]; do sleep 0.05; done');
    const before = host.state();
    const { pid, done } = start(host, { container: "web", wait_timeout: 600 }, {}, true);
    await until("it asks the client", () => existsSync(join(host.fake, "asked")));
    process.kill(-pid, name);
    writeFileSync(join(host.fake, "go"), "");
    const result = readAnswer(await done);
    expect(result, result.msg).toMatchObject({ failed: true, error: { code: "interrupted" } });
    expect(host.state()).toEqual(before);
  });

  test.each(["systemd", "restore"])("during a load: it is finished, then answered (reload: %s)", async (reload) => {
    const { host } = await outdatedHost();
    host.on("iptables-restore", LOADING);
    const { pid, done } = start(host, { container: "web", reload });
    await until("it loads", () => existsSync(join(host.fake, "loading")));
    process.kill(pid, name);
    writeFileSync(join(host.fake, "go"), "");
    expect(readAnswer(await done)).toMatchObject({ changed: true, msg: "published: web" });
    expect(host.kernel("nat")).toContain("172.17.0.9");
  });

  test("during a load, to the whole process group: it is finished or rolled back", async () => {
    const { host } = await outdatedHost();
    const before = host.state();
    host.on("iptables-restore", LOADING);
    const { pid, done } = start(host, { container: "web", reload: "restore" }, {}, true);
    await until("it loads", () => existsSync(join(host.fake, "loading")));
    process.kill(-pid, name);
    writeFileSync(join(host.fake, "go"), "");
    const result = readAnswer(await done);
    if (result.failed) expect(host.state()).toEqual(before);
    else expect(host.kernel("nat")).toContain("172.17.0.9");
  });

  test("while it waits for a lock of another: rolled back, or finished", async () => {
    const { host } = await outdatedHost();
    const before = host.state();
    const { release } = await hold(host);
    const { pid, done } = start(host, { container: "web" });
    // The last thing before the lock is the question for the service.
    await until("it asks for the service", () => host.callsSoFar().some((call) => call.startsWith("systemctl show")));
    process.kill(pid, name);
    await release();
    const result = readAnswer(await done);
    if (result.failed) expect(host.state()).toEqual(before);
    else expect(host.kernel("nat")).toContain("172.17.0.9");
  });
});

/** It may have ended by itself. */
function killQuietly(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {}
}
