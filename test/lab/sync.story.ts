/*
 * status and sync: every kind of drift made by hand is found and mended, and packets agree. And what the journal says of it.
 */

import { expect } from "vitest";
import { churn } from "./churn.ts";
import type { Client } from "./client.ts";
import { ask, example, ourRules, tagOriginalImage, until } from "./fixtures.ts";
import type { Host } from "./host.ts";
import { expectAllWell, problemsOf, spellProblem, statusOf } from "./host-state.ts";
import type { Lab } from "./lab.ts";
import { story } from "./story.ts";

const fragmentOf = (name: string) => `/etc/iptables.d/11-docker-container_${name}`;
const run = (host: Host, verb: string, ...args: string[]) => host.run("docker_iptables", [verb, ...args]);
const sh = (host: Host, script: string) => host.run("sh", ["-ec", script]);

/** A host's IPv4 rules, edited by hand: its whole iptables-save, line by line, changed and loaded. */
async function byHand(host: Host, change: (lines: string[]) => string[]): Promise<void> {
  const lines = (await host.run("iptables-save")).stdout.split("\n");
  await host.run("iptables-restore", [], { input: change(lines).join("\n") });
}

const isNatOf = (name: string) => (line: string) =>
  line.startsWith("-A DOCKER_CONTAINERS") && line.includes(`"docker_iptables: ${name}"`);

/** A host with its base, and two containers that are published. */
async function published(lab: Lab, name: string): Promise<{ host: Host; client: Client }> {
  const host = await lab.host({ name });
  const client = await lab.client("laptop");
  await run(host, "setup");
  await host.docker.run("web", { publish: ["8080:80", "8081:5000"] });
  await host.docker.run("db", { publish: ["5432:80"] });
  expect(await problemsOf(host)).toEqual(["fragment_missing db", "fragment_missing web"]);
  expect((await run(host, "sync")).stdout).toContain("published: db, web");
  expect((await run(host, "sync")).stdout).toContain("the containers are in sync (2 published)");
  expect(await expectAllWell(host, client)).toEqual(["db", "web"]);
  return { host, client };
}

const both = (kind: string) => [`${kind} db`, `${kind} web`];
const BASE = ["/etc/iptables.d/10_docker", "/etc/iptables.d/90_docker"];

story("rules that somebody has changed are found by status, and updated by sync or setup", async ({ lab }) => {
  const { host, client } = await published(lab, "kernel");
  const rules = async () => (await host.run("iptables-save")).stdout.replaceAll(/^#.*$|\[.*?\]/gm, "");
  const good = await rules();
  const expectMended = async (verb: string, problems: string[]) => {
    const before = await rules();
    expect(before).not.toBe(good);
    expect(await problemsOf(host)).toEqual(problems);
    // It only reads.
    expect(await rules()).toBe(before);
    await run(host, verb);
    await expectAllWell(host, client);
    expect(await rules()).toBe(good);
  };

  await host.run("iptables", ["-t", "nat", "-F", "DOCKER_CONTAINERS"]);
  await expectMended("sync", both("rules_missing"));
  await byHand(host, (lines) => lines.filter((line) => !line.includes("FORWARD") || !line.includes("tables: db")));
  await expectMended("sync", ["rules_missing db"]);
  await host.run("iptables", [
    ..."-A FORWARD -s 192.0.2.1/32 -j ACCEPT -m comment --comment".split(" "),
    "docker_iptables: db",
  ]);
  await expectMended("sync", ["rules_surplus db"]);
  await byHand(host, (lines) => {
    const own = lines.filter(isNatOf("web"));
    return lines.map((line) => (isNatOf("web")(line) ? (own.pop() ?? "") : line));
  });
  await expectMended("sync", ["rules_disordered web"]);
  await byHand(host, (lines) => lines.filter((line) => !/^-A PREROUTING.*-j DOCKER_CONTAINERS$/.test(line)));
  await expectMended("setup", [`rules_missing ${BASE[0]}`]);
  await host.run("iptables", ["-F", "FORWARD"]);
  await expectMended("setup", [...BASE.map((path) => `rules_missing ${path}`), ...both("rules_missing")].sort());
  await host.run("iptables-restore", [], { input: "*nat\nCOMMIT\n*filter\nCOMMIT\n*raw\nCOMMIT\n" });
  await expectMended("setup", [...BASE.map((path) => `rules_missing ${path}`), ...both("rules_missing")].sort());
});

story("files and containers that somebody has changed are found by status, and updated by sync", async ({ lab }) => {
  const { host, client } = await published(lab, "files");
  const expectMended = async (problems: string[], names: string[], verb = "sync") => {
    expect(await problemsOf(host)).toEqual(problems);
    await run(host, verb);
    expect(await expectAllWell(host, client)).toEqual(names);
  };
  const web = await host.read(fragmentOf("web"));
  const all = ["db", "web"];

  await host.run("rm", [fragmentOf("web")]);
  await expectMended(["fragment_missing web"], all);
  await host.write(fragmentOf("web"), web.replaceAll(await host.docker.address("web"), "172.17.0.99"));
  await expectMended(["fragment_outdated web"], all);
  await host.write(fragmentOf("ghost"), web.replaceAll("web", "ghost").replaceAll("808", "908"));
  await expectMended(["container_gone ghost"], all);
  await host.docker.cli("stop", "--time=0", "web");
  await expectMended(["container_stopped web"], ["db"]);
  // Each has the other's address then.
  await host.docker.cli("start", "web");
  await host.docker.cli("stop", "--time=0", "web", "db");
  await host.docker.cli("start", "db", "web");
  await expectMended(["fragment_missing web", "fragment_outdated db"], all);
  await host.run("rm", [fragmentOf("web")]);
  await host.docker.cli("rm", "--force", "web");
  await expectMended(["rules_orphaned web"], ["db"]);

  await host.docker.cli("network", "create", "--opt", "com.docker.network.bridge.name=br-app", "app");
  await host.docker.run("app", { publish: ["7070:80"], network: "app" });
  await run(host, "sync");
  expect(await problemsOf(host)).toEqual([...BASE.map((path) => `base_outdated ${path}`), "network_uncovered"]);
  await run(host, "setup");
  expect(await expectAllWell(host, client)).toEqual(["app", "db"]);

  // Docker lets a second one claim the port on one address once the first one's docker-proxy has died; 28.5 does not, 26.1 does.
  await host.run("sh", ["-c", "kill $(pidof docker-proxy)"]);
  const version = await host.docker.cli("version", "--format", "{{.Server.Version}}");
  const started = host.docker.run("second", { publish: ["127.0.0.1:5432:80"] });
  if (Number.parseInt(version.stdout, 10) >= 28) return expect(started).rejects.toThrow("port is already allocated");
  await started;
  expect(await problemsOf(host)).toEqual(["container_rivals second", "fragment_missing second"]);
  expect((await run(host, "sync")).stderr).toContain("second is skipped: it publishes a port that db publishes too");
  expect((await run(host, "status", "db")).stdout).toContain("everything is in sync");
});

story("what is another's hand is found by status, and named", async ({ lab }) => {
  const { host, client } = await published(lab, "strangers");
  const SHADOW = ["FORWARD", "-p", "tcp", "--dport", "80", "-j", "DROP"];
  await host.run("iptables", ["-I", ...SHADOW]);
  const { problems = [] } = await statusOf(host);
  expect(problems.map(spellProblem).sort()).toEqual([...both("rules_shadowed"), "rules_undeclared"]);
  const shadow = problems.find(({ kind }) => kind === "rules_shadowed");
  expect(shadow?.rule).toBe("-A FORWARD -p tcp -m tcp --dport 80 -j DROP");
  expect(await client.connect(host.address, 5432, { timeoutMs: 500 })).toMatchObject({ reached: false });
  expect(await client.connect(host.address, 8081)).toMatchObject({ reached: true });
  await host.run("iptables", ["-D", ...SHADOW]);

  const REDIRECT = ["PREROUTING", "-p", "tcp", "--dport", "8081", "-j", "REDIRECT", "--to-ports", "22"];
  await host.run("iptables", ["-t", "nat", "-I", ...REDIRECT]);
  expect(await problemsOf(host)).toEqual(["rules_shadowed web", "rules_undeclared"]);
  expect(await client.connect(host.address, 8081)).toEqual({ reached: false, why: "refused" });
  await host.run("iptables", ["-t", "nat", "-D", ...REDIRECT]);
  expect((await run(host, "status")).stdout).toContain("everything is in sync: 2 containers");

  const settings = JSON.parse(await host.read("/etc/docker/daemon.json"));
  await host.write("/etc/docker/daemon.json", JSON.stringify({ ...settings, iptables: true }));
  expect(await problemsOf(host)).toEqual(["daemon_settings"]);
  await host.write("/etc/docker/daemon.json", JSON.stringify(settings));

  // With the daemon down it still says what files and kernel say.
  await host.systemctl(["stop", "docker.socket", "docker"]);
  await host.run("iptables", ["-t", "nat", "-F", "DOCKER_CONTAINERS"]);
  const down = await statusOf(host);
  expect(down.exitCode).toBe(1);
  expect(down.problems?.map(spellProblem).sort()).toEqual(["daemon_unreachable", ...both("rules_missing")]);
  expect(down.status?.map(({ container, live }) => ({ container, live }))).toEqual([
    { container: "db", live: false },
    { container: "web", live: false },
  ]);
  expect((await statusOf(host, "web")).problems?.map(spellProblem)).toEqual([
    "daemon_unreachable",
    "rules_missing web",
  ]);
});

story("containers that come and go at random without watch: one sync", async ({ lab }) => {
  const host = await lab.host({ name: "random" });
  const client = await lab.client("laptop");
  await run(host, "setup");
  await churn(host, { seed: 6, containers: 8 });
  await run(host, "sync");
  expect(await expectAllWell(host, client)).toEqual(["c3", "c7"]);
  await churn(host, { seed: 7, containers: 20, first: 8 });
  await host.docker.cli("rm", "--force", "c0", "c1", "c2", "c3");
  // On a busy machine the daemon may still list what it was told to remove, as stopped.
  await expect
    .poll(() => problemsOf(host), { timeout: 600_000, interval: 500 })
    .toEqual(expect.arrayContaining(["container_gone c3", "fragment_missing c10"]));
  const expected = ["container_gone", "container_stopped", "fragment_missing"];
  expect((await problemsOf(host)).filter((problem) => !expected.includes(problem.split(" ")[0] ?? ""))).toEqual([]);
  await run(host, "sync");
  expect((await expectAllWell(host, client)).length).toBeGreaterThan(5);
});

const MANY = 200;

/** A client for which the container c0 has run up to c199: as it, but for name, id, address and port. */
const MANY_CLIENT = `#!/bin/sh
echo "$1" >> /root/asked
case $1 in
  ps) cat /root/ids ;;
  inspect) cat /root/documents ;;
  *) exec docker "$@" ;;
esac
`;

story("two hundred containers: one sync, one inspect, one reload", async ({ lab }) => {
  const host = await lab.host({ name: "many", files: { "/usr/local/bin/many": MANY_CLIENT } });
  const client = await lab.client("laptop");
  await run(host, "setup");
  await host.docker.run("c0", { publish: ["9000:80"] });
  const { stdout } = await host.docker.cli("inspect", "c0");
  const documents = Array.from({ length: MANY }, (_, index) => {
    const text = stdout
      .replaceAll('"/c0"', `"/c${index}"`)
      .replaceAll('"9000"', `"${9000 + index}"`)
      .replaceAll("172.17.0.2", index === 0 ? "172.17.0.2" : `172.17.1.${index}`);
    return { ...JSON.parse(text)[0], Id: index.toString(16).padStart(64, "0") };
  });
  await host.write("/root/documents", JSON.stringify(documents));
  await host.write("/root/ids", documents.map(({ Id }) => `${Id}\n`).join(""));
  const loads = async () =>
    (await host.journal("iptables")).split("\n").filter((line) => /^(Reloading|Starting) /.test(line)).length;
  const before = await loads();
  const result = await ask(host, { all: true, client: "many" });
  expect(result, result.msg).toMatchObject({ changed: true, warnings: [], reloaded: ["iptables.service"] });
  expect(await loads()).toBe(before + 1);
  expect((await host.read("/root/asked")).split("\n").filter((verb) => verb === "inspect")).toHaveLength(1);
  expect((await ourRules(host)).filter((rule) => rule.includes("DNAT"))).toHaveLength(MANY);
  expect(await client.connect(host.address, 9000)).toMatchObject({ reached: true, peer: client.address });
  expect(await ask(host, { all: true, client: "many" })).toMatchObject({ changed: false });
  const status = await statusOf(host, "--client=many");
  expect(status).toMatchObject({ exitCode: 0, problems: [] });
  expect(status.status).toHaveLength(MANY);

  // Docker itself knows but one of them.
  await run(host, "sync");
  expect(await expectAllWell(host, client)).toEqual(["c0"]);
});

type Entry = Record<string, string>;

story("every door leaves one record of each change in the journal", async ({ lab }) => {
  const host = await lab.host({
    name: "journal",
    files: { "/etc/systemd/system/hello-world.service": example("systemd/hello-world.service") },
  });
  await tagOriginalImage(host);
  let seen = 0;
  const entries = async (): Promise<Entry[]> => {
    const { stdout } = await host.run("journalctl", ["-t", "docker_iptables", "--output=json", "--no-pager"]);
    const lines = stdout.split("\n").filter(Boolean);
    // The service that loads leaves records of its own.
    const all: Entry[] = lines.map((line) => JSON.parse(line));
    const records = all.filter(
      ({ DOCKER_IPTABLES_RESULT, DOCKER_IPTABLES_CALLER_UNIT }) =>
        DOCKER_IPTABLES_RESULT !== undefined && !/^ip6?tables/.test(DOCKER_IPTABLES_CALLER_UNIT ?? ""),
    );
    return records.slice(seen);
  };
  /** The one record since the last check. */
  const record = async () => {
    await until(async () => (await entries()).length > 0);
    const all = await entries();
    expect(all).toHaveLength(1);
    seen += all.length;
    return all[0];
  };
  const fields = (prefix: Record<string, unknown>) =>
    Object.fromEntries(Object.entries(prefix).map(([name, value]) => [`DOCKER_IPTABLES_${name}`, value]));

  await run(host, "setup");
  expect(await record()).toMatchObject(
    fields({ RESULT: "done", STATE: "present", FILES: expect.stringContaining("10_docker") }),
  );
  await host.docker.run("web", { publish: ["8080:80"] });
  const changed = { RESULT: "done", CONTAINERS: "web", FILES: fragmentOf("web"), RELOADED: "iptables.service" };

  await sh(host, "docker_iptables create web; true");
  expect(await record()).toMatchObject({
    PRIORITY: "6",
    MESSAGE: "published: web (called by sh)",
    ...fields({
      ...changed,
      STATE: "present",
      CALLER: expect.stringContaining("docker_iptables create web"),
      CALLER_PID: expect.stringMatching(/^\d+$/),
    }),
  });
  await run(host, "create", "web");
  await ask(host, { container: "web", state: "absent", _ansible_check_mode: true });
  expect(await entries()).toEqual([]);
  await ask(host, { container: "web", state: "absent" });
  expect(await record()).toMatchObject(fields({ ...changed, STATE: "absent" }));
  await host.write("/root/args", JSON.stringify({ all: true }));
  await run(host, "/root/args");
  expect(await record()).toMatchObject(fields({ ...changed, STATE: "present" }));

  // A change that fails is one, too.
  await run(host, "delete", "web");
  seen++;
  await host.write("/etc/iptables.d/50_stranger", "*filter\n-A FORWARD -j NO_SUCH_CHAIN\nCOMMIT\n");
  await ask(host, { container: "web" });
  expect(await record()).toMatchObject({
    PRIORITY: "3",
    ...fields({ RESULT: "reload_failed", ROLLED_BACK: expect.stringContaining(fragmentOf("web")) }),
  });
  await host.run("rm", ["/etc/iptables.d/50_stranger"]);
  await host.docker.cli("rm", "--force", "web");

  await host.systemctl(["start", "hello-world"]);
  expect(await record()).toMatchObject(fields({ CONTAINERS: "hello-world", CALLER_UNIT: "hello-world.service" }));
  await host.systemctl(["stop", "hello-world"]);
  expect(await record()).toMatchObject(fields({ STATE: "absent", CALLER_UNIT: "hello-world.service" }));

  await run(host, "setup", "--watch");
  expect(await record()).toMatchObject(fields({ FILES: expect.stringContaining("watch.service") }));
  await host.docker.run("web", { publish: ["8080:80"] });
  expect(await record()).toMatchObject({
    MESSAGE: expect.stringMatching(/^published: web \(.*(web start|bridge connect)/),
    ...fields({
      ...changed,
      RELOADED: "iptables-restore",
      REASONS: expect.stringMatching(/web start|bridge connect/),
      CALLER_UNIT: "docker_iptables-watch.service",
    }),
  });
  await host.docker.cli("rm", "--force", "web");
  expect(await record()).toMatchObject(
    fields({ STATE: "present", CONTAINERS: "web", REASONS: expect.stringMatching(/web die|bridge disconnect/) }),
  );
  // The unit's own journal has each line once.
  const lines = (await host.journal("docker_iptables-watch")).split("\n");
  expect(lines.filter((line) => line.startsWith("published: web ("))).toHaveLength(1);
});
