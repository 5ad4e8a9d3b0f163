/*
 * nftables as the backend: a table of our own, from setup to a reboot, by the doors that everybody uses, beside others' tables.
 */

import { expect } from "vitest";
import type { Client } from "./client.ts";
import { ask, until } from "./fixtures.ts";
import type { Host } from "./host.ts";
import { expectAllWell, problemsOf } from "./host-state.ts";
import { storyWith } from "./story.ts";
import { conversation, lossesDuring } from "./traffic.ts";

const story = storyWith({ packages: ["nftables"] });
const DIRECTORY = "/etc/nftables.d";
const UNIT = "docker_iptables-nft";

async function call(host: Host, ...args: string[]) {
  const { stdout } = await host.run("docker_iptables", [...args, "--json"], { check: false });
  return JSON.parse(stdout);
}

const setUp = (host: Host, ...args: string[]) => call(host, "setup", "--backend", "nft", ...args);

/** What a story takes for granted: a call that does its work. */
async function done(host: Host, ...args: string[]): Promise<void> {
  const result = await call(host, ...args);
  expect(result, result.msg).not.toHaveProperty("failed");
}

/** As it is printed; "" where it is not there. */
async function table(host: Host, name = "inet docker_iptables"): Promise<string> {
  return (await host.run("nft", ["list", "table", ...name.split(" ")], { check: false })).stdout;
}

const now = async (host: Host) => Number((await host.run("date", ["+%s%3N"])).stdout);

/** ms; as metrics have it, too. */
async function lastLoad(host: Host): Promise<number> {
  const { last_load } = await call(host, "status");
  const { stdout } = await host.run("docker_iptables", ["status", "--format", "prometheus"]);
  const [, seconds] = /^docker_iptables_last_load_timestamp_seconds (\S+)$/m.exec(stdout) ?? [];
  expect(Number(seconds) * 1000).toBe(Date.parse(last_load));
  return Date.parse(last_load);
}

const seen = async (client: Client, host: Host, port = 8080) => client.connect(host.address, port);

/** Another's: it stays as it is, with its counters. */
const THEIRS = `table inet theirs {
	set banned { type ipv4_addr; elements = { 192.0.2.7 } }
	chain input { type filter hook input priority 0; policy accept; ip saddr @banned counter drop; }
}
`;

story("setup, create, delete: one table, and nobody else's is touched", async ({ lab }) => {
  const host = await lab.host({ name: "nft" });
  const client = await lab.client("laptop");
  await host.run("nft", ["-f", "-"], { input: THEIRS });
  const theirs = await table(host, "inet theirs");
  await host.docker.run("web", { publish: ["8080:80", "9000-9002:9000-9002"] });

  expect(await setUp(host, "--check")).toMatchObject({ changed: true });
  expect(await table(host)).toBe("");
  const begun = await now(host);
  expect(await setUp(host)).toMatchObject({ changed: true, reloaded: [`${UNIT}.service`], warnings: [] });
  expect(await host.list(DIRECTORY)).toEqual(["10_docker.nft", "90_docker.nft"]);
  expect(await setUp(host)).toMatchObject({ changed: false });
  const loaded = await lastLoad(host);
  expect(loaded).toBeGreaterThan(begun);

  expect(await call(host, "create", "web", "--check")).toMatchObject({ changed: true });
  const made = await call(host, "create", "web");
  expect(made).toMatchObject({ changed: true, reloaded: ["nft"] });
  expect(made.rules.inet.publish4).toEqual([
    'add element inet docker_iptables publish4 { tcp . 8080 comment "docker_iptables: web" : 172.17.0.2 . 80 }',
  ]);
  expect(await seen(client, host)).toMatchObject({ reached: true, peer: client.address });
  expect(await expectAllWell(host, client)).toEqual(["web"]);
  expect(await call(host, "create", "web")).toMatchObject({ changed: false, reloaded: [] });
  const published = await lastLoad(host);
  expect(published).toBeGreaterThan(loaded);
  // One that finds the rules loaded counts.
  await done(host, "load");
  expect(await lastLoad(host)).toBeGreaterThan(published);
  // Nothing is locked for that, and nothing written.
  const { stderr } = await host.run("docker_iptables", ["create", "web", "--verbose"]);
  expect(stderr).toContain("nothing to change");

  // What a person takes out comes back, and what he adds goes.
  await host.run("nft", ["delete", "element", "inet", "docker_iptables", "publish4", "{ tcp . 8080 }"]);
  await host.run("nft", ["insert", "rule", "inet", "docker_iptables", "forward4", "drop"]);
  expect(await problemsOf(host)).toEqual([`rules_missing ${DIRECTORY}/10_docker.nft`, "rules_missing web"]);
  expect(await call(host, "sync")).toMatchObject({ changed: true });
  expect(await setUp(host)).toMatchObject({ changed: false });
  expect(await expectAllWell(host, client)).toEqual(["web"]);

  expect(await call(host, "delete", "web")).toMatchObject({ changed: true });
  expect(await seen(client, host)).not.toMatchObject({ peer: client.address });
  expect(await table(host)).not.toContain("docker_iptables: web");
  expect(await host.list(DIRECTORY)).toEqual(["10_docker.nft", "90_docker.nft"]);

  expect(await call(host, "setup", "--remove")).toMatchObject({ changed: true });
  expect(await table(host)).toBe("");
  expect(await host.list(DIRECTORY)).toEqual([]);
  expect(await table(host, "inet theirs")).toBe(theirs);
});

story("a boot, a power cut: the host's rules are there, and a container's once it is confirmed", async ({ lab }) => {
  const host = await lab.host({ name: "boots" });
  const client = await lab.client("laptop");
  await host.docker.run("web", { publish: ["8080:80"] });
  await done(host, "setup", "--backend", "nft");
  await done(host, "create", "web");
  // Included by nftables' own service, too, which flushes all tables at its start.
  await host.write(
    "/etc/nftables.conf",
    `#!/usr/sbin/nft -f\nflush ruleset\n${THEIRS}include "${DIRECTORY}/*.nft"\n`,
    0o755,
  );
  for (const isCut of [false, true]) {
    for (const isIncluded of [false, true]) {
      await host.systemctl([isIncluded ? "enable" : "disable", "nftables"], { check: false });
      await (isCut ? host.powerCut().then(() => host.boot()) : host.reboot());
      const live = await table(host);
      expect(live).toContain("docker_iptables: (10_docker)");
      expect(live).not.toMatch(/publish4 \{[^}]*elements|open4 \{[^}]*elements/);
      expect(await table(host, "inet theirs")).toContain(isIncluded ? "banned" : "");
      await until(async () => (await host.systemctl(["is-active", UNIT], { check: false })).stdout === "active\n");
      // Whoever has started the container again.
      await host.docker.cli("start", "web");
      expect(await problemsOf(host)).toContain("fragment_stale web");
      expect(await call(host, "create", "web")).toMatchObject({ changed: true });
      expect(await seen(client, host)).toMatchObject({ reached: true, peer: client.address });
    }
  }
});

story(
  "flushed: in one step where the directory is included, by the service or the watcher where not",
  async ({ lab }) => {
    const host = await lab.host({ name: "flushed" });
    const client = await lab.client("laptop");
    await host.docker.run("web", { publish: ["8080:80", "8081:81"], ports: [80] });
    await host.write("/etc/nftables.conf", `#!/usr/sbin/nft -f\nflush ruleset\n${THEIRS}`, 0o755);
    await host.systemctl(["enable", "--now", "nftables"]);
    const { warnings } = await setUp(host, "--watch");
    expect(warnings.join()).toContain(
      "'docker_iptables setup --nftables-include' adds the line to it that makes both one step",
    );
    await until(async () => (await seen(client, host)).reached);
    const isBack = async () => (await table(host)).includes("docker_iptables: web");
    for (const verb of ["reload", "restart"]) {
      await host.systemctl([verb, "nftables"]);
      await until(isBack);
    }
    await host.systemctl(["stop", "nftables"]);
    await host.systemctl(["start", "nftables"]);
    await until(isBack);
    await host.run("nft", ["flush", "ruleset"]);
    await until(isBack);

    expect((await setUp(host, "--nftables-include")).warnings).toEqual([]);
    const end = await conversation(host, client);
    const connect = async () => (await client.connect(host.address, 8080, { timeoutMs: 3000 })).reached;
    const { opened, lost } = await lossesDuring(connect, async () => {
      for (let i = 0; i < 30; i++) await host.systemctl(["reload", "nftables"]);
    });
    expect(opened).toBeGreaterThan(50);
    expect(lost).toBe(0);
    expect((await end()).answers).toBeGreaterThan(10);
    await until(async () => (await problemsOf(host)).length === 0);
  },
);

story("no connection is lost while sixty loads change every part of the table", async ({ lab }) => {
  const host = await lab.host({ name: "loads" });
  const client = await lab.client("laptop");
  await host.docker.run("web", { publish: ["8080:80", "8081:81"], ports: [80] });
  await done(host, "setup", "--backend", "nft");
  await done(host, "create", "web");
  // Every fragment counts then.
  await host.run("rm", [`${DIRECTORY}/.docker_iptables.boot`]);
  const end = await conversation(host, client);
  const element = `add element inet docker_iptables`;
  const variants = [
    "",
    [
      `${element} publish4 { tcp . 7000 comment "docker_iptables: db" : 172.17.0.9 . 80 }`,
      `${element} guarded4 { 172.17.0.9 comment "docker_iptables: db" }`,
      `${element} near4 { "docker0" . 172.17.0.9 comment "docker_iptables: db" }`,
    ].join("\n"),
  ];
  const connect = async () => (await client.connect(host.address, 8080, { timeoutMs: 3000 })).reached;
  const { opened, lost } = await lossesDuring(connect, async () => {
    for (let i = 0; i < 60; i++) {
      // Every other one replaces the whole table, as a load of another layout does.
      if (i % 2 === 0) await host.run("nft", ["add", "set", "inet", "docker_iptables", "old", "{ type ipv4_addr; }"]);
      await host.write(
        `${DIRECTORY}/11-docker-container_db.nft`,
        `# docker_iptables: db (generated: do not edit)\n${variants[i % 2]}\n`,
      );
      expect(await call(host, "load")).toMatchObject({ changed: true });
    }
  });
  expect(opened).toBeGreaterThan(200);
  expect(lost).toBe(0);
  expect((await end()).answers).toBeGreaterThan(10);
});

story("a hundred at once", async ({ lab }) => {
  const host = await lab.host({ name: "many" });
  await done(host, "setup", "--backend", "nft");
  const names = Array.from({ length: 12 }, (_, index) => `c${index}`);
  for (const [index, name] of names.entries()) await host.docker.run(name, { publish: [`${7000 + index}:80`] });
  // With patience: on a busy machine a hundred take longer than one may wait for its turn.
  const script = names
    .map(
      (name) =>
        `for i in 1 2 3 4 5 6 7 8; do docker_iptables create ${name} --json --timeout 300 >>/root/answers & done`,
    )
    .join("\n");
  await host.run("sh", ["-c", `${script}\nwait`]);
  const answers = (await host.read("/root/answers")).trim().split("\n");
  const results = answers.map((answer) => JSON.parse(answer));
  expect(results.filter(({ failed }) => failed)).toEqual([]);
  expect(results).toHaveLength(8 * names.length);
  const live = await table(host);
  for (const [index] of names.entries()) expect(live).toContain(`tcp . ${7000 + index} comment`);
  expect(await problemsOf(host)).toEqual([]);
});

story("what refuses beside us is told, with the line that lets it pass", async ({ lab }) => {
  const host = await lab.host({ name: "beside" });
  const client = await lab.client("laptop");
  await host.docker.run("web", { publish: ["8080:80"] });
  await host.run("nft", ["-f", "-"], {
    input: "table inet fw {\n chain wall { type filter hook forward priority 0; policy drop; }\n}\n",
  });
  const advice = "'nft insert rule inet fw wall ct status dnat accept' lets";
  expect((await setUp(host)).warnings.join()).toContain(advice);
  expect((await call(host, "create", "web")).warnings.join()).toContain(advice);
  expect(await seen(client, host)).not.toMatchObject({ reached: true });
  await host.run("nft", ["insert", "rule", "inet", "fw", "wall", "ct", "status", "dnat", "accept"]);
  expect(await seen(client, host)).toMatchObject({ reached: true, peer: client.address });
  expect(await problemsOf(host)).toEqual([]);
});

story("JSON, as Ansible and Salt give it; reload: patch and none", async ({ lab }) => {
  const host = await lab.host({ name: "doors" });
  const client = await lab.client("laptop");
  await host.docker.run("web", { publish: ["8080:80"] });
  const nft = { backend: "nft" };
  expect(await ask(host, { ...nft, base: true, reload: "patch" })).toMatchObject({ changed: true });
  expect(await ask(host, { ...nft, container: "web", reload: "none" })).toMatchObject({ changed: true, reloaded: [] });
  expect(await table(host)).not.toContain("docker_iptables: web");
  expect(await ask(host, { ...nft, container: "web", reload: "patch" })).toMatchObject({ changed: true });
  expect(await seen(client, host)).toMatchObject({ reached: true, peer: client.address });
  const listed = { ...nft, container: "web", reload: "patch", allow: { "8080": ["192.0.2.0/24"] } };
  expect(await ask(host, listed)).toMatchObject({ changed: true });
  expect(await seen(client, host)).not.toMatchObject({ reached: true });
  expect(await ask(host, { ...nft, container: "web", state: "absent", reload: "patch" })).toMatchObject({
    changed: true,
  });
  expect(await table(host)).not.toContain("docker_iptables: web");
});

story(
  "the include in the file of nftables.service: one line, when told to, and theirs in all else",
  async ({ lab }) => {
    const host = await lab.host({ name: "include" });
    const CONF = "/etc/nftables.conf";
    const theirs = `#!/usr/sbin/nft -f\nflush ruleset\n${THEIRS}`;
    const line = `include "${DIRECTORY}/*.nft" # docker_iptables\n`;
    const both = theirs + line;
    const conf = () => host.read(CONF);
    const asTheyHaveIt = async () => (await host.run("stat", ["-c", "%a %u %g", CONF])).stdout;
    await host.write(CONF, theirs, 0o754);
    await host.run("chown", ["1:2", CONF]);
    await done(host, "setup", "--backend", "nft");
    expect(await conf()).toBe(theirs);

    // Shown first, and kept as a choice of the host.
    const shown = await call(host, "setup", "--nftables-include", "--check", "--diff");
    expect(shown).toMatchObject({ changed: true });
    expect(JSON.stringify(shown.diff)).toContain(JSON.stringify(line).slice(1, -3));
    expect(await conf()).toBe(theirs);
    await done(host, "setup", "--nftables-include");
    expect(await conf()).toBe(both);
    expect(await asTheyHaveIt()).toBe("754 1 2\n");
    expect(await setUp(host)).toMatchObject({ changed: false });
    await host.run("nft", ["-f", CONF]);
    expect(await table(host, "inet theirs")).toContain("banned");
    expect(await table(host)).toContain("docker_iptables: (10_docker)");

    // What includes something else of the directory, or before the flush, is not enough.
    const others = `include "${DIRECTORY}/lan*.nft"\n`;
    await host.write(CONF, `include "${DIRECTORY}/*.nft"\n${theirs}${others}`);
    await done(host, "setup");
    expect(await conf()).toBe(`include "${DIRECTORY}/*.nft"\n${theirs}${others}${line}`);

    // Somebody else's line does, and is not ours to remove.
    const own = `${theirs}include "${DIRECTORY}/1*.nft"\ninclude "${DIRECTORY}/90_docker.nft"`;
    await host.write(CONF, own);
    expect(await setUp(host)).toMatchObject({ changed: false });
    await done(host, "setup", "--no-nftables-include");
    expect(await conf()).toBe(own);

    // What nft refuses is not written, and named; nor is anything else changed.
    await host.write(CONF, `${theirs}tabel inet oops\n`);
    const refused = await call(host, "setup", "--nftables-include");
    expect(refused).toMatchObject({ failed: true, changed: false, error: { code: "include_impossible" } });
    expect(refused.msg).toContain("tabel inet oops");
    expect(await conf()).toBe(`${theirs}tabel inet oops\n`);
    await host.run("rm", [CONF]);
    expect((await call(host, "setup", "--nftables-include")).msg).toContain(`${CONF} does not exist`);
    expect(await problemsOf(host)).toEqual([]);

    // What is no file of text is in the way of the include alone.
    await host.run("ln", ["-s", "/dev/null", CONF]);
    expect(await call(host, "setup", "--nftables-include")).toMatchObject({ error: { code: "include_impossible" } });
    expect(await call(host, "setup")).toMatchObject({ changed: false });
    await host.run("rm", [CONF]);
    await host.run("sh", ["-c", `printf 'flush ruleset # caf\\351\\n' > ${CONF}`]);
    expect((await call(host, "setup", "--nftables-include")).msg).toContain("no text in UTF-8");
    await host.run("rm", [CONF]);

    // Only linked to; without a newline at its end; and put back where nobody confirms.
    await host.write("/root/firewall.nft", theirs.trimEnd());
    await host.run("ln", ["-s", "/root/firewall.nft", CONF]);
    expect(await call(host, "setup", "--nftables-include", "--confirm", "60")).toMatchObject({ changed: true });
    expect(await host.read("/root/firewall.nft")).toBe(both);
    expect(await call(host, "revert")).toMatchObject({ changed: true });
    expect(await host.read("/root/firewall.nft")).toBe(theirs.trimEnd());
    await done(host, "setup", "--nftables-include");

    // It goes with our rules.
    await done(host, "setup", "--backend", "iptables");
    expect(await conf()).toBe(theirs);
    await done(host, "setup", "--backend", "nft");
    expect(await conf()).toBe(both);
    await done(host, "setup", "--remove");
    expect(await conf()).toBe(theirs);
    expect((await host.run("readlink", [CONF])).stdout).toBe("/root/firewall.nft\n");
  },
);

story("names that look like a file's, or are longer than a comment", async ({ lab }) => {
  const host = await lab.host({ name: "names" });
  const client = await lab.client("laptop");
  const long = "long".repeat(50);
  const names = ["web", "web.nft", "web.nft.nft", long];
  for (const [index, name] of names.entries())
    await host.docker.run(name, { publish: [`${8080 + index}:80`], options: ["--hostname", `h${index}`] });
  await done(host, "setup", "--backend", "nft");
  await done(host, "create", ...names);
  expect((await expectAllWell(host, client)).sort()).toEqual([...names].sort());
  expect(await call(host, "create", long)).toMatchObject({ changed: false });
  expect((await host.run("docker_iptables", ["explain", long])).stdout).toContain("8083");

  await host.run("rm", [`${DIRECTORY}/11-docker-container_web.nft`]);
  expect(await problemsOf(host)).toEqual(["fragment_missing web"]);
  await done(host, "sync");
  expect((await expectAllWell(host, client)).sort()).toEqual([...names].sort());

  // Nothing but the kernel knows of it any more.
  await host.docker.cli("rm", "--force", long);
  await host.run("rm", [`${DIRECTORY}/11-docker-container_${long}.nft`]);
  expect((await problemsOf(host)).map((problem) => problem.split(" ")[0])).toEqual(["rules_orphaned"]);
  await done(host, "sync");
  expect(await table(host)).not.toContain("longlong");
  await done(host, "delete", "web.nft");
  expect(await table(host)).toContain('"docker_iptables: web"');
  expect(await table(host)).not.toContain('"docker_iptables: web.nft"');
  expect(await host.list(DIRECTORY)).toEqual([
    ...["10_docker.nft", "11-docker-container_web.nft", "11-docker-container_web.nft.nft.nft", "90_docker.nft"],
  ]);
});

story("a load that nobody confirms is put back, and its fragments are not trusted", async ({ lab }) => {
  const host = await lab.host({ name: "confirm" });
  await host.docker.run("web", { publish: ["8080:80"] });
  await done(host, "setup", "--backend", "nft");
  await done(host, "create", "web");
  const sorted = async () => (await table(host)).split("\n").sort();
  const written = await sorted();
  // What a boot falls back to is what ran before, until it is confirmed.
  const good = () => host.read("/var/lib/docker_iptables/nft/ipv4.rules");
  const kept = await good();
  await host.docker.cli("network", "create", "--opt", "com.docker.network.bridge.name=br-app", "app");
  expect(await setUp(host, "--confirm", "60")).toMatchObject({ changed: true });
  expect(await good()).toBe(kept);
  expect(await call(host, "confirm")).toMatchObject({ changed: true });
  expect(await good()).toContain("br-app");
  await host.docker.cli("network", "rm", "app");
  expect(await setUp(host)).toMatchObject({ changed: true });
  expect(await good()).toBe(kept);
  expect(await sorted()).toEqual(written);
  await host.run("nft", ["delete", "element", "inet", "docker_iptables", "publish4", "{ tcp . 8080 }"]);
  const ran = await sorted();

  expect(await call(host, "load", "--confirm", "60")).toMatchObject({ changed: true, unconfirmed: { by: "timer" } });
  expect(await sorted()).toEqual(written);
  expect(await call(host, "revert")).toMatchObject({ changed: true });
  expect(await sorted()).toEqual(ran);
  expect(await call(host, "load")).toMatchObject({ failed: true, error: { code: "unconfirmed" } });
  expect(await sorted()).toEqual(ran);

  expect(await call(host, "load", "--confirm", "60")).toMatchObject({ changed: true });
  expect(await call(host, "confirm")).toMatchObject({ changed: true });
  expect(await call(host, "load")).toMatchObject({ changed: false });
  expect(await sorted()).toEqual(written);
  expect(await problemsOf(host)).toEqual([]);
});

/** Stands before nft in PATH, and does something else where a transaction comes. */
async function instead(host: Host, script: string): Promise<void> {
  const shim = `#!/bin/sh\ncase "$1" in -f) ${script};; *) exec /usr/sbin/nft "$@";; esac\n`;
  await host.write("/usr/local/sbin/nft", shim, 0o755);
}

story("a transaction that fails, lies or is killed leaves what was there, or is made good", async ({ lab }) => {
  const host = await lab.host({ name: "faults" });
  const client = await lab.client("laptop");
  await host.docker.run("web", { publish: ["8080:80"] });
  await host.docker.run("db", { publish: ["5432:80"] });
  await done(host, "setup", "--backend", "nft");
  await done(host, "create", "db");
  const state = async () => [
    await table(host),
    await host.list(DIRECTORY),
    await host.read(`${DIRECTORY}/.docker_iptables.boot`),
  ];
  const before = await state();
  const loaded = await lastLoad(host);

  await instead(host, "echo no >&2; exit 1");
  expect(await call(host, "create", "web")).toMatchObject({ failed: true, error: { code: "reload_failed" } });
  expect(await state()).toEqual(before);
  expect(await call(host, "delete", "db")).toMatchObject({ failed: true });
  await host.run("rm", ["/usr/local/sbin/nft"]);
  expect(await lastLoad(host)).toBe(loaded);

  // It says that it is done, and has done nothing; the way back works.
  await instead(host, "cat > /dev/null");
  expect(await call(host, "create", "web")).toMatchObject({ failed: true, error: { code: "rules_not_live" } });
  await host.run("rm", ["/usr/local/sbin/nft"]);
  expect(await call(host, "create", "db")).toMatchObject({ changed: true });
  expect(await state()).toEqual(before);

  // Done, and something of it lost at once.
  await instead(
    host,
    '/usr/sbin/nft "$@" && /usr/sbin/nft delete element inet docker_iptables open4 "{ \\"docker0\\" . 172.17.0.2 . tcp . 80 }"; exit 0',
  );
  expect(await call(host, "create", "web")).toMatchObject({
    failed: true,
    error: { code: "rules_not_live" },
    changed: false,
  });
  await host.run("rm", ["/usr/local/sbin/nft"]);
  expect(await state()).toEqual(before);

  for (const after of [0.05, 0.12, 0.19, 0.26]) {
    await host.run("sh", ["-c", `docker_iptables create web --json & sleep ${after}; kill -9 $!; wait`], {
      check: false,
    });
    expect((await call(host, "create", "web")).failed).toBeUndefined();
    expect(await seen(client, host)).toMatchObject({ reached: true, peer: client.address });
    expect(await problemsOf(host)).toEqual([]);
    await host.run("sh", ["-c", `docker_iptables delete web --json & sleep ${after}; kill -9 $!; wait`], {
      check: false,
    });
    expect((await call(host, "delete", "web")).failed).toBeUndefined();
    expect(await table(host)).not.toContain("docker_iptables: web");
    expect(await problemsOf(host)).toEqual(["fragment_missing web"]);
  }
  expect(await state()).toEqual(before);
});

story("a host moves from iptables and back, with its containers, and loses no connection", async ({ lab }) => {
  const host = await lab.host({ name: "moves" });
  const client = await lab.client("laptop");
  await host.docker.run("web", { publish: ["8080:80", "8081:81"], ports: [80] });
  await host.docker.run("db", { publish: ["5432:80"] });
  await done(host, "setup");
  await done(host, "create", "web");
  await done(host, "create", "db", "--allow", "5432=192.0.2.0/24");
  const iptables = async () => (await host.run("iptables-save")).stdout;
  const rules = async () =>
    (await iptables())
      .split("\n")
      .filter((line) => line.startsWith("-A"))
      .sort();
  const before = await rules();
  const end = await conversation(host, client);
  const connect = async () => {
    const answer = await client.connect(host.address, 8080, { timeoutMs: 3000 });
    return answer.reached && answer.peer === client.address;
  };
  const closed = async () => !(await client.connect(host.address, 5432, { timeoutMs: 300 })).reached;

  expect(await call(host, "setup", "--backend", "nft", "--check")).toMatchObject({ changed: true });
  expect(await rules()).toEqual(before);
  const there = await lossesDuring(connect, async () => {
    const moved = await call(host, "setup", "--backend", "nft");
    expect(moved, moved.msg).toMatchObject({ changed: true });
    expect(moved).not.toHaveProperty("failed");
  });
  expect(there).toMatchObject({ lost: 0 });
  expect(await closed()).toBe(true);
  expect(await iptables()).not.toContain("docker_iptables");
  expect(await host.list("/etc/iptables.d")).toEqual([]);
  expect(await host.exists("/etc/systemd/system/iptables.service")).toBe(false);
  expect(await host.list(DIRECTORY)).toEqual([
    ...["10_docker.nft", "11-docker-container_db.nft", "11-docker-container_web.nft", "90_docker.nft"],
  ]);
  expect(await problemsOf(host)).toEqual([]);
  expect(await call(host, "sync")).toMatchObject({ changed: false });

  const back = await lossesDuring(connect, async () => {
    const moved = await call(host, "setup", "--backend", "iptables");
    expect(moved, moved.msg).toMatchObject({ changed: true });
    expect(moved).not.toHaveProperty("failed");
  });
  expect(back).toMatchObject({ lost: 0 });
  expect(await closed()).toBe(true);
  expect(await table(host)).toBe("");
  expect(await host.list(DIRECTORY)).toEqual([]);
  expect(await host.exists(`/etc/systemd/system/${UNIT}.service`)).toBe(false);
  expect(await rules()).toEqual(before);
  expect(await problemsOf(host)).toEqual([]);
  expect((await end()).answers).toBeGreaterThan(10);

  // Not confirmed, it is as it was.
  const kept = await rules();
  expect(await call(host, "setup", "--backend", "nft", "--confirm", "60")).toMatchObject({ changed: true });
  expect(await iptables()).not.toContain("docker_iptables");
  expect(await call(host, "revert")).toMatchObject({ changed: true });
  expect(await rules()).toEqual(kept);
  expect(await table(host)).toBe("");
  expect(await problemsOf(host)).toEqual([]);
  expect(await connect()).toBe(true);
});
