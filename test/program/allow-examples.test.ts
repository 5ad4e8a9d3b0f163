// Who may connect, as pages and examples say it: each command, each file.

import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { type FakeHost, fakeHost } from "./host.ts";

const ROOT = new URL("../../", import.meta.url);
const read = (path: string) => readFileSync(new URL(path, ROOT), "utf8");

const PAGE = read("docs/who-may-connect.md");
const README = read("README.md");

/** The blocks of one language. */
function blocks(text: string, language: string): string[] {
  return [...text.matchAll(new RegExp(`^\`\`\`${language}\n([\\s\\S]*?)^\`\`\``, "gm"))].map(([, block = ""]) => block);
}

interface Compose {
  services: Record<string, { ports: string[]; labels: Record<string, string> }>;
}

const ON_ALL = (port: string) => [
  { HostIp: "0.0.0.0", HostPort: port },
  { HostIp: "::", HostPort: port },
];

/** A host whose settings name its directories, as they are where a file is put in their place. */
async function host(settings: object = {}): Promise<FakeHost> {
  const made = fakeHost();
  await made.boot();
  symlinkSync(made.executable, join(made.bin, "docker_iptables"));
  settle(made, settings);
  return made;
}

function settle(to: FakeHost, settings: object): void {
  const own = { reload: "restore", iptables_dir: to.iptablesDir, ip6tables_dir: to.ip6tablesDir };
  writeFileSync(to.settingsPath, JSON.stringify({ ...own, ...settings }), { mode: 0o644 });
}

/** Who may connect over IPv4, by port. */
async function open(of: FakeHost): Promise<Record<string, string>> {
  const { stdout } = await of.run(["ls", "--json"]);
  const { published }: { published: { publish: string; from: string }[] } = JSON.parse(stdout);
  return Object.fromEntries(published.map(({ publish, from }) => [publish.replace("0.0.0.0:", ""), from]));
}

const OFFICE = "203.0.113.0/24";

describe.concurrent("the page", () => {
  const commands = [...blocks(PAGE, "sh")].flatMap((block) => block.split("\n")).filter((line) => line !== "");

  test.each(commands)("%s", async (command) => {
    const one = await host(JSON.parse(read("examples/docker_iptables.json")));
    one.container("web", { ports: { "80/tcp": ON_ALL("8080"), "443/tcp": ON_ALL("8443") } });
    one.container("db", { ports: { "5432/tcp": ON_ALL("5432") }, address: "172.17.0.3" });
    const media = Array.from({ length: 100 }, (_, index) => [`${index + 1}/udp`, ON_ALL(`${10_000 + index}`)] as const);
    one.container("media", { ports: Object.fromEntries(media), address: "172.17.0.4" });
    const { exitCode, stdout, stderr } = await one.shell(command);
    expect([exitCode, exitCode === 0 ? "" : stdout + stderr]).toEqual([0, ""]);
    expect(await open(one)).toMatchObject(AFTER[command.replace(/ +#.*/, "")] ?? { no: "expectation" });
  });

  test("the settings and the compose file of the page are those of examples/, the README's lines are in the latter", () => {
    const [, settings = ""] = blocks(PAGE, "json");
    expect(settings).toBe(read("examples/docker_iptables.json"));
    const [compose = ""] = blocks(PAGE, "yaml");
    expect(read("examples/compose/compose.yml")).toContain(compose);
    const [first = ""] = blocks(README, "yaml");
    expect(compose).toContain(first);
  });
});

/** What is open to whom once a command has run. */
const AFTER: Record<string, Record<string, string>> = {
  "docker_iptables create web --allow 8080/tcp=10.0.0.0/8,wg0": { "8080/tcp": "10.0.0.0/8, wg0", "8443/tcp": OFFICE },
  "docker_iptables create db --allow 5432=": { "5432/tcp": "this host" },
  "docker_iptables create web --allow none": { "8080/tcp": OFFICE },
  "docker_iptables create web --allow 8080/tcp=203.0.113.0/24,2001:db8:5::/48,wg0": { "8080/tcp": `${OFFICE}, wg0` },
  "docker_iptables create web --allow 8443/tcp=": { "8080/tcp": OFFICE, "8443/tcp": "this host" },
  "docker_iptables create db --allow 5432/tcp=10.20.0.0/24,10.30.0.7": { "5432/tcp": "10.20.0.0/24, 10.30.0.7/32" },
  "docker_iptables create media --allow 10000-10099/udp=10.0.0.0/8 --allow 10050/udp=10.20.0.7": {
    "10000-10049/udp": "10.0.0.0/8",
    "10050/udp": "10.20.0.7/32",
    "10051-10099/udp": "10.0.0.0/8",
  },
  "docker_iptables sync": { "5432/tcp": OFFICE, "8080/tcp": OFFICE, "8443/tcp": OFFICE },
  "docker_iptables create db --allow 5432/tcp=@application": { "5432/tcp": "10.20.0.0/24" },
  "docker_iptables create web --allow 8443/tcp=0.0.0.0/0,::/0": { "8080/tcp": OFFICE, "8443/tcp": "everyone" },
};

test.concurrent("a group that changes: status says so, and a sync brings it to all lists that name it", async () => {
  const settings = JSON.parse(read("examples/docker_iptables.json"));
  const one = await host(settings);
  one.container("web", { ports: { "80/tcp": ON_ALL("8080") } });
  one.container("db", { ports: { "5432/tcp": ON_ALL("5432") }, address: "172.17.0.3" });
  await one.run(["sync"]);
  settle(one, { ...settings, sources: { ...settings.sources, office: ["198.51.100.0/24"] } });
  const { problems } = JSON.parse((await one.run(["status", "--json"])).stdout);
  const outdated = (problems as { kind: string; container: string }[]).filter(
    ({ kind }) => kind === "fragment_outdated",
  );
  expect([...new Set(outdated.map(({ container }) => container))].sort()).toEqual(["db", "web"]);
  expect(await one.ask({ all: true })).toMatchObject({ changed: true });
  expect(await open(one)).toEqual({ "5432/tcp": "198.51.100.0/24", "8080/tcp": "198.51.100.0/24" });
});

test.concurrent("the compose file, under a watcher or a sync", async () => {
  const { services }: Compose = parse(read("examples/compose/compose.yml"));
  const one = await host();
  for (const [index, [name, { ports, labels }]] of Object.entries(services).entries()) {
    const bindings = ports
      .map((port) => port.split(":"))
      .map(([of = "", to = ""]) => [`${to}/tcp`, ON_ALL(of)] as const);
    one.container(name, { ports: Object.fromEntries(bindings), address: `172.17.0.${index + 2}` });
    one.document(name, { ...JSON.parse(one.documentOf(name)), Config: { Labels: labels } });
  }
  expect((await one.ask({ all: true })).warnings).toEqual([]);
  expect(await open(one)).toEqual({
    "8080/tcp": "10.0.0.0/8, 192.168.0.0/16",
    "5432/tcp": "10.20.0.0/24",
    "9090/tcp": "this host",
  });
});

interface Task {
  "ansible.builtin.copy"?: { dest: string; mode: string; content: string };
  "docker_iptables.host.docker_iptables"?: Record<string, unknown>;
}

/** A host that is not set up, with a container beside the database. */
function bare(): FakeHost {
  const one = fakeHost().bare();
  one.container("db", { ports: { "5432/tcp": ON_ALL("5432") } });
  one.container("web", { ports: { "80/tcp": ON_ALL("8080") }, address: "172.17.0.3" });
  for (const directory of [one.iptablesDir, one.ip6tablesDir]) mkdirSync(directory, { recursive: true });
  return one;
}

const EXPECTED = { "5432/tcp": "10.20.0.0/24", "8080/tcp": OFFICE };

test.concurrent("Ansible's play: a second run changes nothing", async () => {
  const [play]: [{ vars: { host_settings: object }; tasks: Task[] }] = parse(read("examples/ansible/allow.yml"));
  const [settings, ...others] = play.tasks;
  expect(settings?.["ansible.builtin.copy"]).toMatchObject({
    dest: "/etc/docker_iptables.json",
    mode: "0644",
    content: "{{ host_settings | to_nice_json }}",
  });
  const one = bare();
  settle(one, { ...play.vars.host_settings, reload: "systemd" });
  for (const changed of [true, false]) {
    for (const task of others) {
      const answer = await one.ask(task["docker_iptables.host.docker_iptables"] ?? {});
      expect(answer, answer.msg).toMatchObject({ changed });
    }
    expect(await open(one)).toEqual(EXPECTED);
  }
});

test.concurrent("Salt's states", async () => {
  type Arguments = Record<string, unknown>[];
  const states: Record<string, Record<string, Arguments>> = parse(read("examples/salt/allow.sls"));
  const { "/etc/docker_iptables.json": { "file.managed": managed = [] } = {}, ...others } = states;
  const one = await host();
  one.container("db", { ports: { "5432/tcp": ON_ALL("5432") } });
  one.container("web", { ports: { "80/tcp": ON_ALL("8080") }, address: "172.17.0.3" });
  settle(one, JSON.parse(String(Object.assign({}, ...managed)["contents"])));
  for (const [id, { "cmd.run": run = [] }] of Object.entries(others)) {
    const { name, stateful }: { name: string; stateful: { test_name: string }[] } = Object.assign({}, ...run);
    const foretold = JSON.parse((await one.shell(stateful[0]?.test_name ?? "")).stdout);
    const done = JSON.parse((await one.shell(name)).stdout);
    expect([id, foretold.changed, done.changed, done.failed]).toEqual([id, true, true, undefined]);
    expect(JSON.parse((await one.shell(name)).stdout)).toMatchObject({ changed: false });
  }
  expect(await open(one)).toEqual(EXPECTED);
});
