/*
 * The module in Ansible: Debian's ansible-core on a host of its own, the built collection, the examples unchanged.
 */

import { readFileSync } from "node:fs";
import { expect } from "vitest";
import args from "../../schema/arguments.schema.json" with { type: "json" };
import result from "../../schema/result.schema.json" with { type: "json" };
import {
  addUser,
  ansibleNftStory,
  asUser,
  collectionTree,
  fqcn,
  installCollection,
  installLibrary,
  inventoryOfItself,
  nodeOf,
  patience,
  play,
  plays,
  put,
  ansibleStory as story,
} from "./ansible.ts";
import { baseRules, example, ourRules, until } from "./fixtures.ts";
import type { Host } from "./host.ts";
import type { Lab } from "./lab.ts";
import { storyWith } from "./story.ts";

async function controller(lab: Lab, files: Record<string, string> = {}): Promise<Host> {
  const host = await lab.host({ name: "web1", files });
  await addUser(host);
  await installCollection(host);
  await inventoryOfItself(host);
  return host;
}

/** Check, apply, check again, apply again, for each of these arguments. */
function fourTimes(wishes: readonly object[]): string {
  const tasks = wishes.flatMap((wish) =>
    [true, false, true, false].map((check) => ({ [fqcn]: wish, check_mode: check, diff: check })),
  );
  return `${JSON.stringify([{ hosts: "docker_hosts", become: true, gather_facts: false, tasks }])}\n`;
}

async function everyState(host: Host): Promise<void> {
  await host.docker.run("web", { publish: ["8080:80"] });
  await host.docker.run("db", { publish: ["5432:5432"] });
  const wishes: [args: object, would: string, did: string, again: string][] = [
    [
      { base: true },
      "the host rules would be set up for the networks bridge",
      "the host rules are set up for the networks bridge",
      "the host rules are up to date for the networks bridge",
    ],
    [{ container: "web" }, "would be published: web", "published: web", "already published: web"],
    [{ all: true }, "would be published: db", "published: db", "the containers are in sync (2 published)"],
    [
      { name: "web", state: "absent" },
      "would be unpublished: web",
      "unpublished: web",
      "web has no rules, nothing to do",
    ],
    [{ all: true, state: "absent" }, "would be unpublished: db", "unpublished: db", "no container is published"],
    [
      { base: true, state: "absent" },
      "the host rules would be removed",
      "the host rules are removed",
      "there are no host rules",
    ],
  ];
  const { results } = await play(host, fourTimes(wishes.map(([args]) => args)));
  expect(results.map(({ msg }) => msg)).toEqual(wishes.flatMap(([, would, did, again]) => [would, did, again, again]));
  expect(results.map(({ changed }) => changed)).toEqual(wishes.flatMap(() => [true, true, false, false]));
}

ansibleNftStory("check, apply, check again, apply again, for every state, by nft", patience, async ({ lab }) => {
  const host = await controller(lab, { "/etc/docker_iptables.json": '{"backend": "nft"}\n' });
  await everyState(host);
  expect((await host.run("nft", ["list", "tables"])).stdout).not.toContain("docker_iptables");
});

story("check, apply, check again, apply again, for every state", patience, async ({ lab }) => {
  const host = await controller(lab);
  await everyState(host);
  expect([await baseRules(host), await ourRules(host)]).toEqual([[], []]);
});

story("the examples unchanged, with --check and --diff first", patience, async ({ lab }) => {
  const host = await controller(lab);
  await host.docker.run("web", { publish: ["8080:80"] });
  await host.docker.run("db", { publish: ["5432:5432"] });
  const [setUp, base, published] = (await play(host, ["confirm.yml", "base.yml", "publish.yml"])).results;
  expect([setUp, base, published]).toMatchObject([
    { changed: true, unconfirmed: { by: "timer" } },
    { changed: false },
    { changed: true, msg: "published: web" },
  ]);
  expect(await host.exists("/var/lib/docker_iptables/ipv4.unconfirmed")).toBe(false);
  expect((await play(host, ["confirm.yml"])).results).toMatchObject([{ changed: false }]);
  expect([published?.diff ?? [], await ourRules(host)]).toEqual([[], Array(3).fill(expect.stringContaining(": web"))]);

  const foretold = await play(host, ["all.yml", "unpublish.yml"], ["--check", "--diff"]);
  expect(foretold.results.map(({ changed }) => changed)).toEqual([true, true]);
  expect(foretold.results[0]?.diff?.[0]?.after).toContain("--dport 5432");
  expect(await ourRules(host)).toHaveLength(3);
  await play(host, ["all.yml", "unpublish.yml"]);
  expect(await ourRules(host)).toEqual(Array(3).fill(expect.stringContaining(": db")));

  const asked = await play(host, ["info.yml"]);
  expect(asked.results[0]).toMatchObject({
    changed: false,
    problems: [{ kind: "fragment_missing", container: "web" }],
  });
  expect(asked.stdout).toContain("web runs and publishes ports, but there is no /etc/iptables.d/");
  expect(await ourRules(host)).toHaveLength(3);
});

story("who may connect, as its play has it; the second run changes nothing", patience, async ({ lab }) => {
  const host = await controller(lab);
  const office = await lab.client("office");
  const application = await lab.client("application");
  await host.docker.run("web", { publish: ["8080:80"] });
  await host.docker.run("db", { publish: ["5432:80"] });
  const text = example("ansible/allow.yml")
    .replace("203.0.113.0/24", office.address)
    .replace("10.20.0.0/24", application.address);
  const first = await play(host, text);
  expect([first.exitCode, first.exitCode === 0 ? "" : first.stdout]).toEqual([0, ""]);
  expect((await play(host, text)).results.map(({ changed }) => changed)).toEqual([false, false, false]);
  for (const [client, port, reached] of [
    [office, 8080, true],
    [application, 5432, true],
    [application, 8080, false],
    [office, 5432, false],
  ] as const) {
    const tried = await client.connect(host.address, port, { timeoutMs: reached ? 15_000 : 1500 });
    expect([client.name, port, tried.reached]).toEqual([client.name, port, reached]);
  }
});

storyWith({ packages: ["ansible-lint", "git"] })(
  "the examples and the role as ansible-lint likes them",
  async ({ lab }) => {
    const host = await lab.host({ name: "linted", docker: { atBoot: false } });
    await addUser(host);
    await installCollection(host);
    await host.run("cp", [
      "-r",
      "/home/ops/.ansible/collections/ansible_collections/docker_iptables",
      "/home/ops/tree",
    ]);
    await host.run("chown", ["-R", "ops:", "/home/ops"]);
    const words = ["ansible-lint", "--offline", "--profile", "production", "--strict", "-p"];
    for (const folder of ["/home/ops/play", "/home/ops/tree/host/roles"]) {
      const { stdout, stderr, exitCode } = await asUser(host, ["env", "-C", folder, ...words]);
      expect([exitCode, exitCode === 0 ? "" : stdout + stderr]).toEqual([0, ""]);
    }
  },
);

const registered = ["looped", "words", "template", "alias", "polled", "waited", "interpreter", "choice", "missing"];

/** What a playbook's author writes, and sees in what is registered. */
const habits = `
- hosts: docker_hosts
  become: true
  gather_facts: true
  gather_subset: min
  module_defaults:
    group/${fqcn}:
      wait_timeout: "0"
      timeout: 61
  vars:
    names: [web, db]
  tasks:
    - ${fqcn}:
        container: "{{ item }}"
      loop: "{{ names }}"
      register: looped
    - ${fqcn}: name=web guards=no timeout="80" iptables_dir=/etc/iptables.d
      register: words
    - ${fqcn}:
        container: "{{ names | join(',') }}"
        guards: "{{ ansible_facts.system == 'Linux' }}"
        timeout: "{{ 8 * 10 }}"
        network: "{{ nothing | default(omit) }}"
        docker_host: null
      check_mode: true
      diff: true
      register: template
    - ${fqcn}:
        container: web
        name: web
      register: alias
    - ${fqcn}:
        container: web
      async: 60
      poll: 1
      register: polled
    - ${fqcn}:
        container: web
      async: 60
      poll: 0
      register: started
    - ansible.builtin.async_status:
        jid: "{{ started.ansible_job_id }}"
      register: waited
      until: waited.finished
      retries: 60
      delay: 1
    - ${fqcn}:
        container: web
      vars:
        ansible_node_interpreter: /srv/own-node
      register: interpreter
    - ${fqcn}:
        container: web
        state: gone
      ignore_errors: true
      register: choice
    - ${fqcn}:
        container: nobody
      ignore_errors: true
      register: missing
    - ansible.builtin.copy:
        content: "{{ {${registered.map((name) => `'${name}': ${name}`).join(", ")}} | to_json }}"
        dest: /srv/seen.json
        mode: "0644"
`;

/** The arguments are not registered, unless the user of 2.21 or later asks for them. */
const unasked = `
- hosts: docker_hosts
  become: true
  gather_facts: false
  tasks:
    - ${fqcn}:
        container: web
      register: web
    - ansible.builtin.assert:
        that:
          - web is not changed
          - web.invocation is undefined
`;

story(
  "loops, words, templates, defaults, async, another interpreter, failures; pipelined, and from library/",
  patience,
  async ({ lab }) => {
    const host = await controller(lab);
    await installLibrary(host);
    await host.write(
      "/srv/own-node",
      `#!/bin/sh\necho "$1" >>/srv/interpreted\nexec ${await nodeOf(host)} "$@"\n`,
      0o755,
    );
    await host.docker.run("web", { publish: ["8080:80"] });
    await host.docker.run("db", { publish: ["5432:5432"] });
    await play(host, ["base.yml"]);
    const short = habits.replaceAll(/(group\/)?docker_iptables\.host\./g, "");
    const ways = [
      { text: habits, pipelining: "false", type: "commonjs" },
      { text: habits, pipelining: "true", type: "module" },
      { text: short, pipelining: "false", type: "module" },
    ];
    for (const [turn, { text, pipelining, type }] of ways.entries()) {
      // Modules run in a folder below the home.
      await host.write("/home/ops/package.json", JSON.stringify({ type }));
      const { exitCode, stdout, stderr, results } = await play(host, text, [], { ANSIBLE_PIPELINING: pipelining }, [
        /^\[WARNING\]: Both option container and its alias name are set\./,
        /^\[WARNING\]: web: this call does not give --no-guards, as an earlier call did; it is dropped/,
      ]);
      expect([exitCode, exitCode === 0 ? "" : stdout + stderr]).toEqual([0, ""]);
      const seen = JSON.parse(await host.read("/srv/seen.json"));
      expect(seen.looped).toMatchObject({ changed: turn === 0, results: [{ item: "web" }, { item: "db" }] });
      // Up to 2.20 Ansible takes the invocation out of what is registered, and shows it here.
      const understood = results.map(({ invocation }) => invocation?.module_args);
      const words = {
        container: ["web"],
        guards: false,
        timeout: 80,
        wait_timeout: 0,
        iptables_dir: "/etc/iptables.d",
      };
      expect(understood).toContainEqual(expect.objectContaining(words));
      expect(seen.words.changed).toBe(true);
      expect(seen.template).toMatchObject({ changed: true, msg: "would be published: web, db" });
      const fromTemplates = { container: ["web", "db"], guards: true, timeout: 80 };
      expect(understood).toContainEqual(expect.objectContaining(fromTemplates));
      expect(seen.template.diff).toHaveLength(2);
      expect(seen.alias).toMatchObject({
        changed: true,
        warnings: [
          "Both option container and its alias name are set.",
          "web: this call does not give --no-guards, as an earlier call did; it is dropped",
        ],
      });
      expect(seen.polled).toMatchObject({ changed: false, msg: "already published: web" });
      // A number up to 2.18, and then a boolean.
      expect(Number(seen.polled.finished)).toBe(1);
      expect(understood).toContainEqual(expect.objectContaining({ guards: true, timeout: 61, wait_timeout: 0 }));
      expect(seen.waited).toMatchObject({ changed: false, msg: "already published: web" });
      expect(seen.interpreter).toMatchObject({ changed: false });
      const interpreted = (await host.read("/srv/interpreted")).trim().split("\n");
      expect(interpreted).toHaveLength(turn + 1);
      expect(seen.choice).toMatchObject({
        failed: true,
        msg: "value of state must be one of: present, absent, got: gone",
      });
      expect(seen.missing).toMatchObject({ failed: true, error: { code: "container_missing" } });
      expect(seen.missing.msg).toMatch(/nobody does not exist/);
      expect(stdout).toContain("nobody does not exist");
    }
    const { exitCode, stdout } = await play(host, unasked, [], { ANSIBLE_INJECT_INVOCATION: "false" });
    expect([exitCode, exitCode === 0 ? "" : stdout]).toEqual([0, ""]);
  },
);

story(
  "a secret, a hidden result, a host without Python's path, and twenty calls at once",
  patience,
  async ({ lab }) => {
    const host = await controller(lab);
    await host.docker.run("web", { publish: ["8080:80"] });
    await host.docker.run("db", { publish: ["5432:5432"] });
    await host.write(`${plays}/password`, "word\n", 0o644);
    const encrypt = ["ansible-vault", "encrypt_string", "--vault-password-file", "password", "10.77.0.0/16"];
    const [first = "", ...secret] = (await asUser(host, encrypt)).stdout.trim().split("\n");
    expect(first).toBe("!vault |");
    const text = `
- hosts: docker_hosts
  become: true
  gather_facts: false
  vars:
    office: !vault |
${secret.join("\n")}
  tasks:
    - ${fqcn}:
        base: true
        container: web
        allow:
          8080/tcp: ["{{ office }}"]
      vars:
        ansible_python_interpreter: /nowhere/python
    - ${fqcn}:
        container: db
        wait_timeout: "{{ 1 - 1 }}"
      no_log: true
`;
    const { exitCode, stdout } = await play(host, text, ["--vault-password-file", "password"]);
    expect([exitCode, exitCode === 0 ? "" : stdout]).toEqual([0, ""]);
    expect(await host.read("/etc/iptables.d/11-docker-container_web")).toContain("-s 10.77.0.0/16 ");
    expect(stdout).toContain("the output has been hidden");
    expect(stdout).not.toContain("published: db");
    expect(await ourRules(host)).toContainEqual(expect.stringContaining(": db"));

    const node = await nodeOf(host);
    const aliases = Array.from({ length: 20 }, (_, index) => `h${index} number=${index} ansible_connection=local`);
    await host.write(
      `${plays}/many.ini`,
      `[docker_hosts]\n${aliases.map((alias) => `${alias} ansible_node_interpreter=${node}\n`).join("")}`,
    );
    const many = `
- hosts: docker_hosts
  become: true
  gather_facts: false
  tasks:
    - ${fqcn}:
        container: "{{ ['web', 'db'][number | int % 2] }}"
        timeout: 300
    - ${fqcn}:
        all: true
        timeout: 300
      register: again
    - ansible.builtin.assert:
        that: again is not changed
`;
    await host.write(`${plays}/many.yml`, many);
    await host.run("docker_iptables", ["delete", "web", "db"]);
    const ran = await asUser(host, ["ansible-playbook", "-i", "many.ini", "--forks", "20", "many.yml"]);
    expect([ran.exitCode, ran.exitCode === 0 ? "" : ran.stdout]).toEqual([0, ""]);
    expect((await ourRules(host)).filter((rule) => /: (web|db)/.test(rule))).toHaveLength(6);
  },
);

story("the role installs everything, and a watcher; wrong arguments are refused", patience, async ({ lab }) => {
  const host = await controller(lab);
  await host.docker.run("web", { publish: ["8080:80"] });
  // Used in place of the native one, which is also put beside the playbook.
  const native = `${readFileSync(`${collectionTree}roles/docker_iptables/files/docker_iptables`, "utf8")}// native\n`;
  const kind = process.arch === "arm64" ? "arm64" : "x64";
  await host.write(`${plays}/files/docker_iptables-linux-${kind}`, native);
  const changes = async (...args: string[]) => {
    const { results, exitCode, stdout, stderr } = await play(
      host,
      ["site.yml"],
      ["-e", "docker_iptables_watch=true", ...args],
    );
    expect([exitCode, exitCode === 0 ? "" : stdout + stderr]).toEqual([0, ""]);
    return results.filter(({ changed }) => changed).map(({ msg }) => msg);
  };
  // Another executable is there, and no watcher yet that its handler could restart.
  expect(await changes("--check")).toContain(
    "the host rules would be set up for the networks bridge; would be published: web",
  );
  await host.run("rm", ["/usr/local/bin/docker_iptables"]);
  const foretold = await changes("--check", "--diff");
  expect(foretold.at(-1)).toBe("the host rules would be set up for the networks bridge; would be published: web");
  expect([await host.exists("/usr/local/bin/docker_iptables"), await host.list("/etc/iptables.d")]).toEqual([
    false,
    [],
  ]);
  expect(await changes()).toContain("the host rules are set up for the networks bridge; published: web");
  expect(await host.read("/usr/local/bin/docker_iptables")).toBe(native);
  expect(await changes("--check")).toEqual([]);
  expect(await changes()).toEqual([]);
  await host.docker.run("db", { publish: ["5432:5432"] });
  await until(async () => (await ourRules(host)).length === 6);

  const wrong = await play(host, ["site.yml"], ["-e", "docker_iptables_reload=often"]);
  expect(wrong.results.at(-1)?.msg).toContain("Validation of arguments failed");
  expect(JSON.stringify(wrong.results.at(-1))).toContain(
    "value of docker_iptables_reload must be one of: systemd, restore, patch, none, got: often",
  );
  // What Ansible says where the host has no such Node.js.
  const lost = await play(host, ["base.yml"], ["-e", "ansible_node_interpreter=/nowhere/node"]);
  expect([lost.exitCode, lost.results[0]?.msg]).toEqual([
    2,
    expect.stringMatching(
      /you probably need to set the interpreter|^The module interpreter '\/nowhere\/node' was not found/,
    ),
  ]);
});

/** The tests of ansible-test that need no packages of Python's: it takes those from elsewhere, which a host here has not. */
const SANITY =
  "action-plugin-docs ansible-doc compile empty-init ignores line-endings no-illegal-filenames no-smart-quotes shebang symlinks".split(
    " ",
  );

story(
  "the collection is what ansible-galaxy would make of it, and ansible-doc shows the schema",
  patience,
  async ({ lab }) => {
    const host = await lab.host({ name: "web1", docker: { atBoot: false } });
    await addUser(host);
    expect(await installCollection(host)).toContain("docker_iptables.host:0.1.0 was installed successfully");
    const verify = await asUser(host, ["ansible-galaxy", "collection", "verify", "--offline", "docker_iptables.host"]);
    expect(verify.stdout).toContain("Successfully verified");
    const installed = "/home/ops/.ansible/collections/ansible_collections/docker_iptables/host";
    expect(
      (await host.run("find", [installed, "-perm", "-111", "-type", "f", "-printf", "%P\\n"])).stdout
        .split("\n")
        .sort(),
    ).toEqual([
      "",
      "plugins/modules/docker_iptables.cjs",
      "plugins/modules/docker_iptables_info.cjs",
      "roles/docker_iptables/files/docker_iptables",
    ]);

    const shown = await asUser(host, ["ansible-doc", "--json", "--type", "module", fqcn]);
    const { doc, examples, return: returned } = JSON.parse(shown.stdout)[fqcn];
    expect(Object.keys(doc.options).sort()).toEqual(Object.keys(args.properties).sort());
    const types: Record<string, string> = { array: "list", boolean: "bool", integer: "int", string: "str" };
    for (const [name, property] of Object.entries<Property>(args.properties)) {
      const option = doc.options[name];
      expect([name, option.type]).toEqual([name, property["x-type"] ?? types[property.type]]);
      expect([name, option.default]).toEqual([name, property.default]);
      expect([name, option.choices]).toEqual([name, property.enum]);
      expect([name, option.aliases]).toEqual([name, property["x-aliases"]]);
      expect([name, option.elements]).toEqual([name, property.type === "array" ? "str" : undefined]);
      expect(option.description.replace(/C\(([^)]*)\)/g, "`$1`")).toBe(property.description);
    }
    // Which keys those are, and which are the verbs' alone, is held in test/ansible/collection.test.ts.
    const ofModules = Object.entries(result.properties).filter(([, schema]) => "x-returned" in schema);
    expect(Object.keys(returned).sort()).toEqual(ofModules.map(([key]) => key).sort());
    expect(Object.keys(doc.attributes).sort()).toEqual([
      "action_group",
      "async",
      "check_mode",
      "diff_mode",
      "idempotent",
      "platform",
    ]);
    expect(doc).toMatchObject({
      version_added: "0.1.0",
      version_added_collection: "docker_iptables.host",
      has_action: false,
    });
    expect([doc.notes.length > 0, doc.seealso.length > 0, doc.requirements.length > 0]).toEqual([true, true, true]);
    expect(examples).toContain(`${fqcn}:\n        container: web`);
    const role = await asUser(host, ["ansible-doc", "--json", "--type", "role", fqcn]);
    expect(Object.keys(JSON.parse(role.stdout)[fqcn].entry_points.main.options)).toContain(
      "docker_iptables_containers",
    );

    // The tree, which ansible-galaxy builds and ansible-test examines.
    const tree = "/home/ops/ansible_collections/docker_iptables/host";
    const ours = "/home/ops/play/docker_iptables-host-0.1.0.tar.gz";
    await host.run("mkdir", ["-p", tree]);
    await host.run("tar", ["-xzf", ours, "-C", tree]);
    await put(host, `${tree}/galaxy.yml`, readFileSync(`${collectionTree}galaxy.yml`));
    await host.run("chown", ["-R", "ops:", "/home/ops/ansible_collections"]);
    const theirs = "/home/ops/theirs/docker_iptables-host-0.1.0.tar.gz";
    await asUser(host, ["ansible-galaxy", "collection", "build", tree, "--output-path", "/home/ops/theirs"]);
    const [own, reference] = await Promise.all([ours, theirs].map((path) => contents(host, path)));
    expect(own).toEqual(reference);
    const examined = await asUser(host, [
      ...["env", "-C", tree, "ansible-test", "sanity", "--color", "no"],
      ...SANITY.flatMap((test) => ["--test", test]),
    ]);
    expect([examined.exitCode, examined.exitCode === 0 ? "" : examined.stdout + examined.stderr]).toEqual([0, ""]);
  },
);

/** What a collection's tarball says of itself, in an order of its own. */
async function contents(host: Host, path: string) {
  const read = async (name: string) => JSON.parse((await host.run("tar", ["-xzOf", path, name])).stdout);
  const { files } = (await read("FILES.json")) as { files: { name: string }[] };
  const { collection_info } = await read("MANIFEST.json");
  const listed = (await host.run("tar", ["-tzvf", path])).stdout.trim().split("\n");
  const modes = listed
    .filter((line) => !line.includes(".json"))
    .map((line) => [line.split(/ +/).at(-1)?.replace(/\/$/, ""), line.slice(0, 10)].join(" "));
  return { collection_info, modes: modes.sort(), files: files.sort((a, b) => (a.name < b.name ? -1 : 1)) };
}

interface Property {
  type: string;
  description: string;
  default?: unknown;
  enum?: string[];
  "x-type"?: string;
  "x-aliases"?: string[];
}
