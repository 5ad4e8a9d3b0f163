// --verbose, and DOCKER_IPTABLES_VERBOSE: what a run does, as it does it, on stderr alone; the answer stays as it is.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { spellCommand } from "../../src/system/verbose.ts";
import { daemon, said, truthful } from "./daemon.ts";
import { type Answered, type FakeHost, fakeHost, readAnswer } from "./host.ts";

const PORTS = { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8080" }] };
const DOOR = { DOCKER_IPTABLES_VERBOSE: "1" };
/** No brace or bracket begins a line: where stderr and stdout come together, Ansible takes such a one for the answer. */
const LINE = /^\+\d+\.\d{3} {1,3}[^\s{[]/;
/** What the fakes do not log as it was called. */
const UNLOGGED = /^(flock|unshare) /;

async function hostWithWeb(): Promise<FakeHost> {
  const host = fakeHost();
  host.container("web", { ports: PORTS });
  await host.boot();
  return host;
}

const directories = (host: FakeHost) => ["--iptables-dir", host.iptablesDir, "--ip6tables-dir", host.ip6tablesDir];

/** The events of a run without their times and numbers, each of them a line. Throws where a line is none of ours. */
function eventsOf({ stderr }: Pick<Answered, "stderr">): string[] {
  const lines = stderr.split("\n").slice(0, -1);
  for (const line of lines) expect(line).toMatch(LINE);
  return lines.map((line) => line.replace(/^\S+ (#\d+ )?/, "").replace(/ \(\d+\.\d{3} s\)$/, ""));
}

/** The commands that were shown, without sizes. */
function commandsIn(events: readonly string[]): string[] {
  const begun = events.flatMap((event) => /^run (.*?)(?:, \d+ bytes of input)?$/.exec(event)?.[1] ?? []);
  return begun.filter((command) => !UNLOGGED.test(command)).sort();
}

/** What the fakes logged, as it would be shown; without what the fake service started. */
function loggedBy(host: FakeHost): string[] {
  const calls = host.calls().map((call) => call.trim());
  const ours = calls.filter((call) => !UNLOGGED.test(call) && call !== "iptables-restore");
  return ours.map((call) => spellCommand(call.split(" "))).sort();
}

/** Every beginning has its end, by its number. */
function expectPairs({ stderr }: Answered): void {
  const numbers = [...stderr.matchAll(/^\S+ #(\d+) /gm)].map(([, number]) => number);
  const each = [...new Set(numbers)];
  expect(each.length).toBeGreaterThan(0);
  expect(numbers.sort()).toEqual([...each, ...each].sort());
}

describe.concurrent("create", () => {
  test("each command as it was called, what differs, the loader, the locks, the writes; the JSON is the same", async () => {
    const [host, quiet] = [await hostWithWeb(), await hostWithWeb()];
    const told = await host.run(["create", "web", "--json", "--verbose", ...directories(host)]);
    const same = await quiet.run(["create", "web", "--json", ...directories(quiet)]);
    expect(same.stderr).toBe("");
    expect(told.stdout).toBe(same.stdout.replaceAll(quiet.root, host.root));
    const events = eventsOf(told);
    const fragment = `${host.iptablesDir}/11-docker-container_web`;
    const lock = `lock ${host.iptablesDir}/.docker_iptables.lock`;
    expect(commandsIn(events)).toEqual(loggedBy(host));
    expectPairs(told);
    expect(events.filter((event) => !/^run |: exit 0, \d+ bytes$/.test(event))).toEqual([
      expect.stringMatching(
        /^docker_iptables \d+\.\d+\.\d+ \(.+\), Node\.js \S+, process \d+, user \d+: create web --json --verbose /,
      ),
      expect.stringMatching(/^request: \{"container":\["web"\],"state":"present",/),
      "daemon: socket not used, because a docker context is set",
      "daemon: socket not used, because a docker context is set",
      "compare: files and kernel with fragments, 1 of 2 out of sync",
      expect.stringMatching(`^ *${fragment}: the file is missing; the kernel lacks 3 rules, first '-A PREROUTING `),
      "loader: systemd, as asked for: reload iptables.service",
      `${lock}: wait up to 10 s`,
      `${lock}: taken`,
      `write ${fragment}, ${host.fragment("web")?.length} bytes`,
      expect.stringMatching(`^write ${host.iptablesDir}/.docker_iptables.boot, \\d+ bytes$`),
      `${lock}: released`,
      `${lock}: wait up to 20 s`,
      `${lock}: taken`,
      "compare: kernel with fragments, 1 of 2 out of sync",
      expect.stringMatching(`^ *${fragment}: the kernel lacks 3 rules`),
      "compare: kernel with fragments, 0 of 2 out of sync",
      `${lock}: released`,
      "done: exit status 0",
    ]);
  });

  test("in sync: nothing to change", async () => {
    const host = await hostWithWeb();
    await host.ask({ container: "web" });
    const told = await host.run(["--verbose", "create", "web", ...directories(host)]);
    expect(told.stdout).toBe("already published: web\n");
    expect(eventsOf(told)).toEqual(
      expect.arrayContaining(["compare: files and kernel with fragments, 0 of 2 out of sync", "nothing to change"]),
    );
  });

  test("a load that fails: its words, and the steps back", async () => {
    const host = await hostWithWeb();
    host.on("iptables-restore", "echo 'line 3 failed' >&2; exit 1");
    const { stderr, stdout } = await host.run([
      ...["create", "web", "--reload", "restore", "--json", "--verbose"],
      ...directories(host),
    ]);
    expect(JSON.parse(stdout)).toMatchObject({ failed: true, error: { code: "reload_failed" } });
    const events = eventsOf({ stderr });
    const from = events.indexOf('iptables-restore: exit 1, 0 bytes, stderr "line 3 failed"');
    expect(from).toBeGreaterThan(0);
    expect(events.slice(from).filter((event) => /^(roll back|failed|done)/.test(event))).toEqual([
      "roll back: step 1 of 3: nothing to put back",
      "roll back: step 2 of 3: nothing to put back",
      `roll back: step 3 of 3: ${host.iptablesDir}/11-docker-container_web`,
      expect.stringMatching(/^failed: reload_failed: the rules could not be loaded/),
      "done: exit status 1",
    ]);
  });

  test("what another process wrote meanwhile, and the retry", async () => {
    const host = await hostWithWeb();
    const fragment = "11-docker-container_web";
    host.on("docker", `[ "$1" = inspect ] && mkdir "$FAKE/once" 2>/dev/null && : > "$DIRS/iptables.d/${fragment}"`);
    const told = await host.run(["create", "web", "--verbose", ...directories(host)]);
    expect(told.exitCode).toBe(0);
    const path = join(host.iptablesDir, fragment);
    const retries = eventsOf(told).filter((event) => event.startsWith("retry"));
    expect(retries).toEqual([expect.stringContaining(`attempt 2 of 5, because another process changed ${path}`)]);
  });

  test("a container that is waited for", async () => {
    const host = await hostWithWeb();
    const ask = (seconds: string) =>
      host.run(["create", "nix", "--json", "--wait-timeout", seconds, "--verbose", ...directories(host)]);
    let told = await ask("1");
    // A slow machine may have waited so long before the first answer.
    if (!eventsOf(told).some((event) => event.startsWith("wait: "))) told = await ask("30");
    expect(eventsOf(told)).toEqual(
      expect.arrayContaining([
        'docker: exit 1, 3 bytes, stderr "Error: No such object: nix"',
        expect.stringMatching(/^wait: \d+ ms for nix, which does not exist$/),
        expect.stringMatching(/^failed: container_missing: /),
      ]),
    );
  });

  test("only our own rules: why", async () => {
    const host = await hostWithWeb();
    host.setKernel("filter", host.kernel("filter").replace("COMMIT", "-A INPUT -s 192.0.2.1/32 -j DROP\nCOMMIT"));
    const told = await host.run(["create", "web", "--json", "--verbose", ...directories(host)]);
    expect(eventsOf(told)).toContainEqual(expect.stringMatching(/^loader: patch, not systemd: .*192\.0\.2\.1/));
  });
});

describe.concurrent("doors of JSON, by the environment", () => {
  test.each(["stdin", "file"])("%s: one line of JSON on stdout", async (door) => {
    const host = await hostWithWeb();
    Object.assign(host.environment, DOOR);
    const args = JSON.stringify(host.args({ container: "web", _ansible_check_mode: true, _ansible_tmpdir: "/t" }));
    const path = join(host.root, "args");
    writeFileSync(path, args);
    const told = await (door === "stdin" ? host.run([], args) : host.run([path]));
    expect(readAnswer({ ...told, stderr: "" })).toMatchObject({ changed: true, msg: "would be published: web" });
    const events = eventsOf(told);
    expect(events[1]).toMatch(/^request: \{.*"container":"web".*\}, check$/);
    expect(events[1]).not.toContain("_ansible");
    expect(events.at(-1)).toBe("done: exit status 0");
    expect(commandsIn(events)).toEqual(loggedBy(host));
  });

  test.each(["", "0", "false", "no"])("%j is off", async (value) => {
    const host = await hostWithWeb();
    Object.assign(host.environment, { DOCKER_IPTABLES_VERBOSE: value });
    expect(await host.ask({ container: "web" })).toMatchObject({ changed: true });
  });

  test("with the flag besides, each event is there once", async () => {
    const host = await hostWithWeb();
    Object.assign(host.environment, DOOR);
    const events = eventsOf(await host.run(["load", "--verbose", ...directories(host)]));
    expect(events.filter((event) => event.startsWith("docker_iptables "))).toHaveLength(1);
    expect(commandsIn(events)).toEqual(loggedBy(host));
  });

  test("on the daemon's socket: each question, and why the client is started after all", async () => {
    const host = await hostWithWeb();
    const truth = truthful(host, ["web"]);
    await daemon(host, (path) => (path.startsWith("/networks") ? said("", "500 Oh no\n+0.001 done") : truth(path)));
    Object.assign(host.environment, DOOR);
    const docker_host = `unix://${host.root}/docker.sock`;
    const told = await host.run([], JSON.stringify(host.args({ container: "web", docker_host })));
    expect(readAnswer({ ...told, stderr: "" })).toMatchObject({ changed: true });
    const socket = `${host.root}/docker.sock`;
    expect(eventsOf(told)).toEqual(
      expect.arrayContaining([
        `GET /containers/web/json on ${socket}`,
        expect.stringMatching(/^GET: HTTP\/1\.0 200 OK, \d+ bytes$/),
        `GET /networks/bridge on ${socket}`,
        expect.stringMatching(/^GET: HTTP\/1\.0 500 Oh no \+0\.001 done, \d+ bytes$/),
        `daemon: unusable answer from ${socket}, using docker instead: status 500`,
        `run docker --host unix://${socket} network inspect bridge`,
      ]),
    );
    expectPairs(told);
  });
});

describe.concurrent("other verbs", () => {
  test("load: what each family's fragments are to the kernel; of what iptables-restore gets the size alone", async () => {
    const host = await hostWithWeb();
    await host.run(["load", ...directories(host)]);
    host.calls();
    host.write("20_mine", "*filter\n-A INPUT -m comment --comment s3cret -j ACCEPT\nCOMMIT\n");
    const told = await host.run(["load", "--verbose", ...directories(host)]);
    expect(told).toMatchObject({ exitCode: 0 });
    expect(told.stderr).not.toContain("s3cret");
    const events = eventsOf(told);
    expect(commandsIn(events)).toEqual(loggedBy(host));
    expectPairs(told);
    expect(events).toEqual(
      expect.arrayContaining([
        `lock ${host.iptablesDir}/.docker_iptables.load: taken`,
        expect.stringMatching(`^load: IPv4, differs from the kernel in filter: \\d+ lines of ${host.iptablesDir}$`),
        expect.stringMatching(`^load: IPv6, live already: \\d+ lines of ${host.ip6tablesDir}$`),
        expect.stringMatching(/^run iptables-restore --wait 10, \d+ bytes of input$/),
        "done: exit status 0",
      ]),
    );
  });

  test("status: what was compared; problems are no failure", async () => {
    const host = await hostWithWeb();
    await host.ask({ container: "web" });
    host.flush("nat");
    host.calls();
    const told = await host.run(["status", "--json", "--verbose", ...directories(host)]);
    expect(told.exitCode).toBe(3);
    expect(JSON.parse(told.stdout)).toMatchObject({ problems: [{ kind: "rules_missing" }] });
    const events = eventsOf(told);
    expect(events).toContainEqual(
      expect.stringMatching(
        /_web: the kernel lacks 1 rules, first '-A DOCKER_CONTAINERS .*; nothing jumps to DOCKER_CONTAINERS$/,
      ),
    );
    expect(events.at(-1)).toBe("done: exit status 3");
    expectPairs(told);
  });

  test("sync: who is skipped, and why", async () => {
    const host = await hostWithWeb();
    host.container("idle");
    const own = JSON.parse(host.documentOf("web"));
    host.document("mine", {
      ...own,
      Id: "c".repeat(64),
      Name: "/mine",
      Config: { Labels: { "docker_iptables.enable": "false" } },
    });
    await host.ask({ container: "web" });
    host.write("11-docker-container_mine", host.fragment("web") ?? "");
    const events = eventsOf(await host.run(["sync", "--json", "--verbose", ...directories(host)]));
    expect(events.filter((event) => event.startsWith("skip"))).toEqual([
      expect.stringMatching(/^skip: .*\bidle\b/),
      "skip: the container mine is disabled by its label",
    ]);
  });

  test("wrong usage, by the environment", async () => {
    const host = await hostWithWeb();
    Object.assign(host.environment, DOOR);
    const { stderr, exitCode } = await host.run(["crate", "web"]);
    expect(exitCode).toBe(2);
    expect(stderr).toMatch(
      /^\+\S+ docker_iptables .*: crate web\n\+\S+ done: exit status 2\ndocker_iptables: unknown verb/,
    );
  });
});

describe.concurrent("nobody forges a line", () => {
  const FORGED = "\n+0.001 #1 iptables-save: exit 0, 1 bytes\r\n+0.002 done: exit status 0\u2028+0.003 done\u001b[2K";

  test("in a name", async () => {
    const host = await hostWithWeb();
    const told = await host.run(["create", `x${FORGED}`, "--json", "--verbose", ...directories(host)]);
    const events = eventsOf(told);
    expect(events.filter((event) => event.startsWith("done"))).toEqual(["done: exit status 2"]);
    expect(told.stderr).not.toContain("\u001b");
  });

  test("in what a command says on stderr", async () => {
    const host = await hostWithWeb();
    host.on("docker", `printf '%s' "${FORGED}" >&2; exit 1`);
    const told = await host.run(["create", "web", "--json", "--verbose", ...directories(host)]);
    const events = eventsOf(told);
    expect(events.filter((event) => event.startsWith("done"))).toEqual(["done: exit status 1"]);
    expect(events.filter((event) => event.startsWith("docker: "))).toEqual([
      expect.stringMatching(
        /^docker: exit 1, 0 bytes, stderr "\+0\.001 #1 iptables-save: exit 0, 1 bytes\\r\\n\+0\.002 done/,
      ),
    ]);
    expectPairs(told);
    expect(told.stderr).not.toContain("\u001b");
  });

  test("several processes on one pipe: each line stays whole", async () => {
    const host = await hostWithWeb();
    Object.assign(host.environment, DOOR);
    const script = 'for i in 1 2 3; do printf %s "$JSON" | "$EXE" > /dev/null & done; wait';
    const told = await host.shell(`{ ${script}; } 2>&1 >/dev/null | cat >&2`, { container: "web", reload: "restore" });
    const events = eventsOf(told);
    expect(events.filter((event) => event === "done: exit status 0")).toHaveLength(3);
  });
});
