// The three doors: what each takes, what it prints, and with which exit status it ends.

import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { execa } from "execa";
import { describe, expect, test } from "vitest";
import { VERBS } from "../../src/cli/verbs.ts";
import type { Result } from "../../src/generated/result.ts";
import { type FakeHost, fakeHost, NATIVE, readAnswer, STACK } from "./host.ts";

const PORTS = { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8080" }] };

function hostWithWeb(): FakeHost {
  const host = fakeHost();
  host.container("web", { ports: PORTS });
  return host;
}

function argumentsOf(result: Result): Record<string, unknown> {
  return (result.invocation?.module_args ?? {}) as Record<string, unknown>;
}

describe.concurrent("each door, as a process of its own", () => {
  const flags = ({ iptablesDir, ip6tablesDir }: FakeHost) => [
    ...["--iptables-dir", iptablesDir, "--ip6tables-dir", ip6tablesDir],
  ];

  test("stdin", async () => {
    const host = hostWithWeb();
    const json = JSON.stringify(host.args({ container: "web" }));
    expect(readAnswer(await host.start([], json))).toMatchObject({ changed: true, msg: "published: web" });
    expect(readAnswer(await host.start([], "[]"))).toMatchObject({ exitCode: 1, failed: true });
  });

  test("a file", async () => {
    const host = hostWithWeb();
    const path = join(host.root, "args");
    writeFileSync(path, JSON.stringify(host.args({ container: "web" })));
    expect(readAnswer(await host.start([path]))).toMatchObject({ changed: true, msg: "published: web" });
    expect(readAnswer(await host.start([`${path}s`]))).toMatchObject({ exitCode: 1, failed: true });
  });

  test("a verb", async () => {
    const host = hostWithWeb();
    const created = await host.start(["create", "web", ...flags(host)]);
    expect(created).toMatchObject({ exitCode: 0, stdout: expect.stringMatching(/^published: web\n/), stderr: "" });
    host.flush("nat");
    const status = await host.start(["status", ...flags(host)]);
    expect(status).toMatchObject({ exitCode: 3, stdout: expect.stringContaining("rules_missing"), stderr: "" });
    const wrong = await host.start(["creat", "web"]);
    expect(wrong).toMatchObject({ exitCode: 2, stdout: "", stderr: expect.stringContaining("did you mean create?") });
    const failed = await host.start(["create", "none", "--wait-timeout", "0", ...flags(host)]);
    expect(failed).toMatchObject({ exitCode: 1, stdout: "", stderr: expect.stringContaining("[container_missing]") });
  });
});

describe.concurrent("door 1, JSON on stdin", () => {
  test.each<[string, string | Uint8Array, RegExp]>([
    ["empty", "", /stdin is empty/],
    ["blank", " \n\t\n", /stdin is empty/],
    ["no JSON", "container=web state=present", /stdin is not JSON/],
    ["half an object", '{"container": "web"', /stdin is not JSON/],
    ["an array", '[{"container": "web"}]', /is JSON but not an object/],
    ["a string", '"web"', /is JSON but not an object/],
    ["a number", "7", /is JSON but not an object/],
    ["null", "null", /is JSON but not an object/],
    ["zero bytes", new Uint8Array(1000), /stdin is not JSON/],
    ["bytes that are no text", Uint8Array.from([0xff, 0xfe, 0x80, 0xc0, 0x7b]), /stdin is not JSON/],
    ["two objects", '{"container": "web"}\n{"container": "db"}', /stdin is not JSON/],
  ])("%s", async (_what, stdin, message) => {
    const host = fakeHost();
    const result = readAnswer(await host.run([], stdin));
    expect(result).toMatchObject({ failed: true, changed: false, error: { code: "arguments_invalid" } });
    expect(result.msg).toMatch(message);
    expect(result.comment).toBe(result.msg);
    expect(host.calls()).toEqual([]);
  });

  test.each([
    ["/dev/null", '"$EXE" < /dev/null'],
    ["a closed descriptor", '"$EXE" <&-'],
    ["a directory", '"$EXE" < /'],
    ["a pipe that nobody writes to", ': | "$EXE"'],
  ])("no stdin: %s", async (_what, script) => {
    const result = readAnswer(await fakeHost().shell(script));
    expect(result).toMatchObject({ failed: true, error: { code: "arguments_invalid" } });
  });

  test("a terminal gets the usage, and is not waited for", async () => {
    const answered = await fakeHost().shell(`script --quiet --return --command '"$EXE"' /dev/null < /dev/null`);
    expect(answered.stdout).toMatch(/give a verb, or JSON on stdin/);
    expect(answered.exitCode).toBe(2);
  });

  test("50 MB of JSON are refused, and their writer sees no broken pipe", async () => {
    const stdin = JSON.stringify({ container: "w".repeat(50 * 1024 * 1024) });
    const result = readAnswer(await fakeHost().run([], stdin));
    expect(result).toMatchObject({ failed: true, error: { code: "arguments_invalid" } });
    expect(result.msg).toMatch(/larger than \d+ bytes/);
    expect(JSON.stringify(result).length).toBeLessThan(10_000);
  });

  test("deeply nested JSON is refused as any other wrong type", async () => {
    const result = readAnswer(await fakeHost().run([], `{"container": ${"[".repeat(200_000)}${"]".repeat(200_000)}}`));
    expect(result).toMatchObject({ failed: true, error: { code: "arguments_invalid" } });
  });

  test("a byte order mark, white space and CRLF are no part of the JSON", async () => {
    const host = hostWithWeb();
    const stdin = `\uFEFF\r\n${JSON.stringify(host.args({ container: "web" }), null, 2).replaceAll("\n", "\r\n")}\r\n`;
    expect(readAnswer(await host.run([], stdin))).toMatchObject({ changed: true });
  });

  test("arguments in ANSIBLE_MODULE_ARGS", async () => {
    const host = hostWithWeb();
    const stdin = JSON.stringify({ ANSIBLE_MODULE_ARGS: host.args({ container: "web", _ansible_check_mode: true }) });
    expect(readAnswer(await host.run([], stdin))).toMatchObject({ changed: true, state: "present" });
    expect(host.fragment("web")).toBeUndefined();
  });

  test("a reader that is gone gets no stack trace", async () => {
    const host = hostWithWeb();
    const script = '{ printf %s "$JSON" | "$EXE"; } | :; sleep 0.5; printf %s "$JSON" | "$EXE" > /dev/full';
    expect((await host.shell(script, { container: "web" })).stderr).not.toMatch(STACK);
    expect(host.fragment("web")).toBeDefined();
  });
});

describe.concurrent("a question by JSON", () => {
  const ask = (host: FakeHost, given: Record<string, unknown>) => host.ask({ ...given, reload: "restore" });

  test("is answered as the verb does, and changes nothing", async () => {
    const host = hostWithWeb();
    await ask(host, { container: "web" });
    const before = host.state();
    expect(await ask(host, { query: "ls" })).toMatchObject({
      changed: false,
      published: [{ container: "web", publish: "0.0.0.0:8080/tcp", to: "172.17.0.2:80", from: "everyone", live: true }],
    });
    expect((await ask(host, { query: "explain", container: "web" })).explained).toHaveLength(1);
    host.flush("nat");
    const { exitCode, problems } = await ask(host, { query: "status", state: "absent", container: "web" });
    // Not the verb's exit status 3: Ansible would take it for a failure.
    expect([exitCode, problems?.map(({ kind }) => kind)]).toEqual([0, ["rules_missing"]]);
    const { "kernel/ipv4/nat": _flushed, ...others } = before;
    expect(host.state()).toEqual(others);
  });

  test.each([
    [{ query: "what" }, /value of query must be one of: status, ls, explain/],
    [{ query: "explain" }, /missing parameter\(s\) required by 'query: explain': container/],
  ])("%j", async (given, message) => {
    expect((await hostWithWeb().refuses(given, "arguments_invalid")).msg).toMatch(message);
  });

  test.skipIf(NATIVE).each([{}, { query: null }, { base: true, query: null }, { query: "ls" }])(
    "the module that only asks publishes nothing, also with %j",
    async (given) => {
      const host = hostWithWeb();
      const before = host.state();
      const path = join(host.root, "args");
      writeFileSync(
        path,
        JSON.stringify(host.args({ container: "web", state: "present", reload: "restore", ...given })),
      );
      const module = join(dirname(host.executable), INFO_MODULE);
      const { exitCode, stdout, stderr } = await execa(process.execPath, [module, path], host.options());
      const result = readAnswer({ exitCode: exitCode ?? -1, stdout, stderr });
      if (given.query === "ls") expect(result.published).toMatchObject([{ container: "web", live: false }]);
      else expect(result.problems?.map(({ kind }) => kind)).toEqual(["fragment_missing"]);
      expect(host.state()).toEqual(before);
    },
  );
});

/** Beside the built executable. */
const INFO_MODULE = "ansible_collections/docker_iptables/host/plugins/modules/docker_iptables_info.cjs";

describe.concurrent("door 2, a file of arguments", () => {
  test.each(["./args.json", "dir/args.json"])("%s", async (name) => {
    const host = hostWithWeb();
    mkdirSync(join(host.root, "dir"));
    writeFileSync(join(host.root, name), JSON.stringify(host.args({ container: "web" })));
    expect(readAnswer(await host.start([name]))).toMatchObject({ changed: true, msg: "published: web" });
  });

  test("an absolute path, as Ansible gives it; stdin is not read", async () => {
    const host = hostWithWeb();
    const path = join(host.root, "args");
    writeFileSync(path, JSON.stringify(host.args({ container: "web", _ansible_check_mode: false })));
    expect(readAnswer(await host.run([path], "not JSON"))).toMatchObject({ changed: true });
  });

  test.each([
    ["missing", "/nowhere/args", /\/nowhere\/args cannot be read \(ENOENT\)/],
    ["a directory", "/", /\/ cannot be read \(EISDIR\)/],
    ["empty", "/dev/null", /\/dev\/null is empty/],
  ])("%s", async (_what, path, message) => {
    const result = readAnswer(await fakeHost().run([path]));
    expect(result).toMatchObject({ failed: true, error: { code: "arguments_invalid" } });
    expect(result.msg).toMatch(message);
  });

  test("a file that happens to have a verb's name does not hide the verb", async () => {
    const host = fakeHost();
    writeFileSync(join(host.root, "create"), "{}");
    expect((await host.run(["create"])).exitCode).toBe(2);
  });
});

describe.concurrent("Ansible's and Bolt's ways with arguments", () => {
  test.each<[string, Record<string, unknown>, Record<string, unknown>]>([
    ["words for booleans", { ipv6: "no", guards: "Off", debug: "YES" }, { ipv6: false, guards: false, debug: true }],
    ["numbers for booleans", { ipv6: 0, guards: 1, debug: "t" }, { ipv6: false, guards: true, debug: true }],
    ["strings for numbers", { timeout: "9", wait_timeout: " 0 " }, { timeout: 9, wait_timeout: 0 }],
    ["null as absent", { chain: null, network: null, ipv6: null }, { chain: "DOCKER_CONTAINERS", ipv6: false }],
    ["a name", { container: "web" }, { container: ["web"] }],
    ["names with commas", { container: "web, 10,web" }, { container: ["web", "10"] }],
    ["a number as a name", { container: 10 }, { container: ["10"] }],
    ["numbers in a list", { container: [10, "web"] }, { container: ["10", "web"] }],
    ["control keys of Ansible's", { _ansible_verbosity: 3, _ansible_no_log: false, _ansible_new_key: {} }, {}],
    ["control keys of Bolt's", { _task: "docker_iptables", _installdir: "/x", _target: { name: "y" } }, {}],
  ])("%s", async (_what, given, understood) => {
    const host = hostWithWeb();
    host.container("10", { ports: {}, address: "172.17.0.3" });
    const result = await host.ask({ container: "web", _ansible_check_mode: true, ...given });
    expect(result.failed, result.msg).toBeUndefined();
    expect(argumentsOf(result)).toMatchObject(understood);
    expect(Object.keys(argumentsOf(result)).filter((key) => key.startsWith("_"))).toEqual([]);
  });

  test("the arguments are not in the answer where Ansible, from 2.21 on, says that nobody asked for them", async () => {
    const host = hostWithWeb();
    const web = { container: "web", _ansible_check_mode: true };
    for (const [injects, args, isThere] of [
      [undefined, web, true],
      [true, web, true],
      [false, web, false],
      [false, { ...web, container: "nobody", wait_timeout: 0 }, false],
    ] as const) {
      const asked = injects === undefined ? args : { ...args, _ansible_inject_invocation: injects };
      expect(["invocation" in (await host.ask(asked)), injects]).toEqual([isThere, injects]);
    }
  });

  test("name is an alias of container; with both, the alias wins and a warning says so", async () => {
    const host = hostWithWeb();
    const alone = await host.ask({ name: "web", _ansible_check_mode: true });
    expect(argumentsOf(alone)).toMatchObject({ container: ["web"] });
    expect(alone.warnings).toEqual([]);
    const both = await host.ask({ name: "web", container: "db", _ansible_check_mode: true });
    expect(argumentsOf(both)).toMatchObject({ container: ["web"] });
    expect(both.warnings).toEqual(["Both option container and its alias name are set."]);
  });

  test("paths: ~, variables, and relative ones", async () => {
    const host = hostWithWeb();
    const paths = { iptables_dir: "~/iptables.d/", ip6tables_dir: `$\{DIRS}/x/../ip6tables.d` };
    expect(argumentsOf(await host.ask({ container: "web", ...paths }))).toMatchObject({
      iptables_dir: host.iptablesDir,
      ip6tables_dir: host.ip6tablesDir,
    });
    const relative = await host.ask({
      container: "web",
      iptables_dir: "iptables.d",
      ip6tables_dir: "$HOME/ip6tables.d",
    });
    expect(relative).toMatchObject({ changed: false });
    expect(host.fragment("web")).toBeDefined();
  });

  test("check mode and diff come by _ansible_check_mode, _ansible_diff and _noop", async () => {
    const host = hostWithWeb();
    for (const control of [{ _ansible_check_mode: true }, { _noop: true, _task: "docker_iptables" }]) {
      expect(await host.ask({ container: "web", ...control })).toMatchObject({ changed: true, reloaded: [] });
      expect(host.fragment("web")).toBeUndefined();
    }
    expect(await host.ask({ container: "web", _ansible_check_mode: true })).not.toHaveProperty("diff");
    expect((await host.ask({ container: "web", _ansible_check_mode: true, _ansible_diff: true })).diff).toHaveLength(1);
  });

  test("Bolt gets its _error, and nobody else does", async () => {
    const host = fakeHost();
    const plain = await host.ask({ container: "web" });
    expect(plain).not.toHaveProperty("_error");
    const bolt = await host.ask({ container: "web", _task: "docker_iptables" });
    expect(bolt._error).toEqual({ msg: bolt.msg, kind: "docker_iptables/container_missing", details: bolt.error });
    expect(await host.ask({ colour: "red", _task: "docker_iptables" })).toMatchObject({
      _error: { kind: "docker_iptables/arguments_invalid" },
    });
  });

  test("debug adds the stack to a failure, also to one of the arguments", async () => {
    const host = fakeHost();
    expect((await host.ask({ container: "web", debug: true })).error?.["stack"]).toMatch(STACK);
    expect((await host.ask({ container: "-rf", debug: true })).error?.["stack"]).toMatch(STACK);
    expect((await host.ask({ container: "web", debug: false })).error).not.toHaveProperty("stack");
  });
});

describe.concurrent("door 3, verbs", () => {
  const directories = (host: FakeHost) => [
    `--iptables-dir=${host.iptablesDir}`,
    `--ip6tables-dir=${host.ip6tablesDir}`,
  ];

  test("create and delete as in the original's unit", async () => {
    const host = hostWithWeb();
    const created = await host.run(["create", "web", ...directories(host)]);
    expect(created).toMatchObject({ exitCode: 0, stderr: "" });
    expect(created.stdout).toBe(
      `published: web\n  0.0.0.0:8080/tcp -> 172.17.0.2:80, from everyone\n  created ${host.iptablesDir}/11-docker-container_web\n  reloaded iptables.service\n`,
    );
    expect(await host.run(["create", "web", ...directories(host)])).toEqual({
      exitCode: 0,
      stdout: "already published: web\n",
      stderr: "",
    });
    const deleted = await host.run(["delete", "web", ...directories(host)]);
    expect(deleted).toMatchObject({ exitCode: 0, stderr: "" });
    expect(deleted.stdout).toMatch(/^unpublished: web\n {2}removed /);
    expect(host.fragment("web")).toBeUndefined();
  });

  test.each<[string, (options: string[]) => string[]]>([
    ["after the name", (options) => ["create", "web", "--json", ...options]],
    ["between verb and name", (options) => ["create", "--json", ...options, "web"]],
    ["before the verb", (options) => [...options, "--json", "create", "web"]],
    ["before --", (options) => ["create", "--json", ...options, "--", "web"]],
  ])("flags %s", async (_where, argv) => {
    const host = hostWithWeb();
    expect(readAnswer(await host.run(argv(directories(host))))).toMatchObject({ changed: true, msg: "published: web" });
  });

  test("several names are one call", async () => {
    const host = hostWithWeb();
    host.container("db", { ports: { "5432/tcp": [{ HostIp: "127.0.0.1", HostPort: "5432" }] }, address: "172.17.0.3" });
    const result = readAnswer(await host.run(["create", "web", "db", "--json", ...directories(host)]));
    expect(result).toMatchObject({ changed: true, msg: "published: web, db" });
    expect(host.calls().filter((call) => call.startsWith("docker inspect"))).toEqual(["docker inspect web db"]);
  });

  test("every argument has its flag", async () => {
    const host = hostWithWeb();
    const argv = [
      ...["create", "web", "--check", "--json", ...directories(host), "--chain", "DOCKER_CONTAINERS", "--ipv6"],
      ...["--no-guards", "--reload=restore", "--iptables-service=a", "--ip6tables-service", "b.service"],
      ...["--backend", "iptables", "--nftables-dir", host.root, "--nftables-service=c"],
      ...["--network", "bridge", "--wait-timeout", "3", "--timeout=4", "--client", "docker"],
      ...[
        "--docker-host",
        `unix://${host.root}/docker.sock`,
        "--debug",
        "--no-base",
        "--no-adopt",
        "--no-replace",
        "--no-all",
      ],
    ];
    const result = readAnswer(await host.run(argv));
    expect(argumentsOf(result)).toEqual({
      container: ["web"],
      state: "present",
      all: false,
      base: false,
      watch: false,
      adopt: false,
      replace: false,
      chain: "DOCKER_CONTAINERS",
      ipv6: true,
      guards: false,
      iptables_dir: host.iptablesDir,
      ip6tables_dir: host.ip6tablesDir,
      reload: "restore",
      iptables_service: "a",
      ip6tables_service: "b.service",
      backend: "iptables",
      nftables_dir: host.root,
      nftables_service: "c",
      nftables_include: false,
      network: "bridge",
      wait_timeout: 3,
      timeout: 4,
      client: "docker",
      docker_host: `unix://${host.root}/docker.sock`,
      debug: true,
    });
    expect(result.rules?.ipv4).not.toHaveProperty("raw");
  });

  test("--check --diff shows a person what would change, and changes nothing", async () => {
    const host = hostWithWeb();
    const before = host.state();
    const { exitCode, stdout, stderr } = await host.run(["create", "web", "--check", "--diff", ...directories(host)]);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
    expect(stdout).toMatch(/^would be published: web$/m);
    expect(stdout).toMatch(/^\+\+\+ .*11-docker-container_web/m);
    expect(stdout).toMatch(/^\+-A DOCKER_CONTAINERS .*--to-destination 172\.17\.0\.2:80$/m);
    expect(stdout).not.toMatch(/No newline at end of file/);
    expect(host.state()).toEqual(before);
  });

  test("a failure goes to stderr in a line, with its code and without a stack trace", async () => {
    const host = fakeHost();
    const dirs = ["--iptables-dir", host.iptablesDir, "--ip6tables-dir", host.ip6tablesDir];
    const { exitCode, stdout, stderr } = await host.run(["create", "web", "--wait-timeout=0", ...dirs]);
    expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: "" });
    expect(stderr).toMatch(/^docker_iptables: .*web does not exist.* \[container_missing\]\n$/);
  });

  test("a failure with --json is the JSON of the other doors", async () => {
    const host = fakeHost();
    const result = readAnswer(await host.run(["create", "web", "--wait-timeout=0", "--json", ...directories(host)]));
    expect(result).toMatchObject({ failed: true, error: { code: "container_missing" } });
  });

  test.each([
    [["create", "a b"], /must be the name or id of a container/],
    [["create", "web", "--reload", "foo"], /value of --reload must be one of: systemd, restore, patch, none, got: foo/],
    [["setup", "--timeout", "soon"], /--timeout takes a number, not 'soon'/],
    [["create", "web", "--adopt"], /--adopt needs --base/],
  ])("a value that no argument takes is wrong usage: %j", async (argv, message) => {
    const host = fakeHost();
    const { exitCode, stdout, stderr } = await host.run(argv);
    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: "" });
    expect(stderr).toMatch(message);
    expect(stderr).toMatch(new RegExp(`\nTry 'docker_iptables ${argv[0]} --help'\\.\n$`));
    const json = await host.run([...argv, "--json"]);
    expect(json).toMatchObject({ exitCode: 2, stderr: "" });
    expect(JSON.parse(json.stdout)).toMatchObject({ failed: true, error: { code: "arguments_invalid" } });
    expect(host.calls()).toEqual([]);
  });

  test.each([
    [["create", "web", "--allow", "8080/tcp"], /--allow takes PORTS=SOURCES, .*; not '8080\/tcp'\n/],
    [["load", "--confirm"], /--confirm .*missing\n/],
  ])("an option without its value names the help of its verb: %j", async (argv, message) => {
    const { exitCode, stderr } = await fakeHost().run(argv);
    expect(exitCode).toBe(2);
    expect(stderr).toMatch(new RegExp(`${message.source}Try 'docker_iptables ${argv[0]} --help'\\.\n$`));
  });

  test("--debug prints the stack", async () => {
    expect((await fakeHost().run(["create", "web", "--wait-timeout=0", "--debug"])).stderr).toMatch(STACK);
  });

  test.each([
    [["--colour"], /--colour/],
    [["create", "web", "--colour=red"], /--colour/],
    [["create"], /create needs the name of a container/],
    [["delete"], /delete needs the name of a container/],
    [["--json"], /verb missing/],
    [["publish", "web"], /unknown verb 'publish'; use one of setup, create, /],
    [["web"], /unknown verb 'web'; use one of setup, create, /],
    [["crate", "web"], /unknown verb 'crate'; did you mean create\?/],
    [["help", "stauts"], /unknown verb 'stauts'; did you mean status\?/],
    [["create", "web", "--chekc"], /unknown option --chekc; did you mean --check\?/],
    [["create", "web", "--no-gaurds"], /unknown option --no-gaurds; did you mean --no-guards\?/],
    [["setup", "--wait-timeout", "3"], /setup takes no --wait-timeout; create does/],
    [["--check", "status"], /status takes no --check; setup, create, delete, sync, load, confirm, revert do/],
    [["load", "ipv5"], /load takes ipv4 or ipv6, not "ipv5"/],
    [["completion"], /completion takes bash or zsh or fish, not nothing/],
    [["completion", "tcsh"], /not "tcsh"/],
    [[""], /verb/],
    [["create", "-rf"], /-r/],
    [["create", "web", "--timeout"], /--timeout/],
    [["create", "web", "--ipv6=yes"], /--ipv6/],
    [["sync", "web"], /sync applies to all containers and takes no name/],
    [["watch", "web"], /watch applies to all containers and takes no name/],
    [["explain", "--all"], /explain takes no --all; create, delete do/],
    [["status", "--remove"], /takes no --remove; setup does/],
    [["sync", "--remove"], /takes no --remove; setup does/],
    [["load", "--remove"], /takes no --remove; setup does/],
    [["create", "web", "--keep-undeclared"], /takes no --keep-undeclared; load does/],
  ])("wrong usage: %j", async (argv, message) => {
    const host = fakeHost();
    const { exitCode, stdout, stderr } = await host.run(argv);
    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: "" });
    expect(stderr).toMatch(message);
    expect(stderr).toMatch(/\nTry 'docker_iptables (\w+ )?--help'\.\n$/);
    expect(stderr).not.toMatch(STACK);
    expect(host.calls()).toEqual([]);
  });

  test.each([[["--help"]], [["-h"]], [["help"]]])("%j lists the verbs, each with an example", async (argv) => {
    const { exitCode, stdout, stderr } = await fakeHost().run(argv);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
    const [usage = "", examples = ""] = stdout.split("Examples:");
    for (const { name } of VERBS) {
      expect(usage).toMatch(new RegExp(`^  ${name}\\b`, "m"));
      expect(examples).toMatch(new RegExp(`^  docker_iptables ${name}\\b`, "m"));
    }
  });

  test.each(VERBS.map((verb) => [verb.name, verb] as const))(
    "%s --help: its own flags, with examples",
    async (name, verb) => {
      const told = await fakeHost().run([name, "--help"]);
      expect(told).toMatchObject({ exitCode: 0, stderr: "" });
      expect(await fakeHost().run(["help", name])).toEqual(told);
      for (const [command] of verb.examples) expect(told.stdout).toMatch(lineOf(`  docker_iptables ${command}`));
      const shown = [...told.stdout.matchAll(/^ {2}--(?:no-)?([\w-]+)/gm)].map(([, option]) => option);
      expect(shown.sort()).toEqual([...verb.options].sort());
    },
  );

  /** Followed by what it does, behind it or below. */
  const lineOf = (command: string) =>
    new RegExp(`^${command.replaceAll(/[^\w ]/g, "\\$&")}(  # \\S.*|\\n {6}# \\S.*)$`, "m");

  test("no line of help is wider than a terminal's 80 columns, but for a command", async () => {
    for (const argv of [["help"], ...VERBS.map(({ name }) => ["help", name])]) {
      const { stdout } = await fakeHost().run(argv);
      const wide = stdout
        .split("\n")
        .filter((line) => [...line].length > 80 && !/^ {2}(docker_iptables|echo) /.test(line));
      expect(wide, argv.join(" ")).toEqual([]);
    }
  });

  test("each example is what the executable takes", async () => {
    for (const [command] of VERBS.flatMap(({ examples }) => examples)) {
      const [words = ""] = command.split(/ [|>] /);
      const host = hostWithWeb();
      host.container("db", { ports: { "53/udp": [{ HostIp: "0.0.0.0", HostPort: "53" }] }, address: "172.17.0.3" });
      const verb = VERBS.find(({ name }) => words.startsWith(name));
      const argv = [
        ...words.replaceAll("'", "").split(" "),
        ...(verb?.options.includes("iptables-dir") ? directories(host) : []),
      ];
      if (verb?.name === "watch") continue;
      const { exitCode, stdout } = await host.run(argv);
      // Of a check of Nagios 2 means something else.
      if (words.includes("nagios")) expect(stdout).toMatch(/^(OK|WARNING|CRITICAL) - /);
      else expect([command, exitCode]).not.toEqual([command, 2]);
    }
  });

  test("--version, with the commit, and which kind of program it is", async () => {
    const { exitCode, stderr, stdout } = await fakeHost().run(["--version"]);
    expect([exitCode, stderr]).toEqual([0, ""]);
    const kind = NATIVE ? "native linux-(x64|arm64)" : "script";
    const origin = "(commit ([0-9a-f]{12}( and changes)?|unknown)|built outside git)";
    expect(stdout).toMatch(new RegExp(`^docker_iptables \\d+\\.\\d+\\.\\d+ \\(${origin}, ${kind}\\)\n$`));
  });
});
