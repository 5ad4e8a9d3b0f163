// Root works in a directory that another user may write to (/tmp, a checkout, a home): nothing there is read for its name,
// neither by the program nor by what starts it and what it starts. And what documents say never becomes another question.

import { mkdirSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { execa } from "execa";
import { describe, expect, test } from "vitest";
import { VERBS } from "../../src/cli/verbs.ts";
import { readContainer } from "../../src/docker/container.ts";
import { askDaemon } from "../../src/docker/socket.ts";
import { daemon, said, truthful } from "../program/daemon.ts";
import { type FakeHost, fakeHost, NATIVE, readAnswer, startProcesses } from "../program/host.ts";

// How it is started is what these are about.
startProcesses();

const PORTS = { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8080" }] };
const WORDS = ["help", "version", "--help", "--version", "-h", "stauts", "web", "args.json", ".", "..", "-"];

/** A program that shows that it was run. */
function plant(host: FakeHost, path: string): void {
  writeFileSync(path, `#!/bin/sh\necho "$0" >> ${host.root}/pwned\nexit 0\n`, { mode: 0o755 });
}

/** Node.js itself reads the package.json of the current directory for what NODE_OPTIONS has it load. */
function hostWithoutHook(): FakeHost {
  const host = fakeHost();
  host.environment["NODE_OPTIONS"] = "";
  return host;
}

/** The attacker's programs that were run. */
async function victims(host: FakeHost): Promise<string> {
  return (await execa("cat", [join(host.root, "pwned")], { reject: false })).stdout;
}

describe.concurrent("a word without a slash is never a file", () => {
  test.each([...WORDS, ...VERBS.map(({ name }) => name)])("%s", async (word) => {
    const host = fakeHost();
    plant(host, join(host.root, "evil"));
    const trap = { ...host.args({ container: "web", reload: "none" }), client: join(host.root, "evil") };
    if (!/^\.+$/.test(word)) writeFileSync(join(host.root, word), JSON.stringify(trap));
    // A verb that finds its files, or that waits for events, is none of this.
    const { stdout } = await host.run([word, ...(word === "watch" ? ["--help"] : [])]);
    expect(await victims(host)).toBe("");
    expect(stdout).not.toContain(host.iptablesDir);
  });

  test.each([
    ["help", /^docker_iptables keeps /],
    ["version", /^docker_iptables \d/],
    ["--version", /^docker_iptables \d/],
    ["--help", /^docker_iptables keeps /],
  ])("%s is answered", async (word, answer) => {
    const { exitCode, stdout, stderr } = await fakeHost().run([word]);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
    expect(stdout).toMatch(answer);
  });

  test.each([
    [["hlep"], "help"],
    [["verison"], "version"],
    [["stauts"], "status"],
    [["help", "laod"], "load"],
  ])("%j is a mistyped %s", async (argv, near) => {
    const { exitCode, stdout, stderr } = await fakeHost().run(argv);
    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: "" });
    expect(stderr).toContain(`unknown verb '${argv.at(-1)}'; did you mean ${near}?`);
  });

  test.each(["help", "version"])("help %s is the help of all", async (word) => {
    expect((await fakeHost().run(["help", word])).stdout).toMatch(/^docker_iptables keeps /);
  });

  test("a file that is named with its path is read", async () => {
    const host = fakeHost();
    host.container("web", { ports: PORTS });
    writeFileSync(join(host.root, "help"), JSON.stringify(host.args({ container: "web" })));
    expect(readAnswer(await host.run(["./help"]))).toMatchObject({ changed: true });
  });
});

describe.concurrent("what a directory holds is not read by what runs the program there", () => {
  /** A package.json that says which file the program's own path means. */
  function claims(host: FakeHost): string {
    writeFileSync(join(host.root, "evil.js"), `require("fs").writeFileSync("${host.root}/pwned", "node");`);
    return JSON.stringify({
      name: dirname(host.executable),
      exports: { [`./${basename(host.executable)}`]: "./evil.js", "./*": "./evil.js" },
    });
  }

  test.skipIf(NATIVE).each(["", "below"])("package.json, in the directory or above it: /%s", async (below) => {
    const host = hostWithoutHook();
    writeFileSync(join(host.root, "package.json"), claims(host));
    mkdirSync(join(host.root, below), { recursive: true });
    const { stdout } = await host.shell(`cd "./${below}" && exec "$EXE" version`);
    expect(await victims(host)).toBe("");
    expect(stdout).toMatch(/^docker_iptables \d/);
  });

  test("files that only disturb", async () => {
    const host = hostWithoutHook();
    writeFileSync(join(host.root, "tsconfig.json"), "garbage");
    writeFileSync(join(host.root, "bunfig.toml"), 'preload = ["./evil.js"]\n');
    writeFileSync(join(host.root, "evil.js"), `require("fs").writeFileSync("${host.root}/pwned", "preload");`);
    writeFileSync(
      join(host.root, ".env"),
      `DOCKER_HOST=unix://${host.root}/evil.sock\nBUN_OPTIONS=--preload=./evil.js\n`,
    );
    host.container("web", { ports: PORTS });
    for (const json of ["garbage", '{"type": "module"}', '{"name": "", "imports": {"#x": "./evil.js"}}']) {
      writeFileSync(join(host.root, "package.json"), json);
      expect((await host.run(["version"])).stdout).toMatch(/^docker_iptables \d/);
    }
    expect(await host.ask({ container: "web" })).toMatchObject({ changed: true });
    expect(await victims(host)).toBe("");
  });

  test("a pipe that nobody writes to, called package.json", async () => {
    const { stdout } = await hostWithoutHook().shell(
      'mkfifo package.json bunfig.toml tsconfig.json; exec "$EXE" version',
    );
    expect(stdout).toMatch(/^docker_iptables \d/);
  });

  const COMMANDS = [
    ...["node", "docker", "flock", "systemctl", "unshare", "conntrack", "nft", "env", "logger"],
    ...["iptables", "iptables-save", "iptables-restore", "ip6tables-save", "ip6tables-restore"],
  ];

  test.each(["", ".", "./sub:.."])("PATH with the element %j", async (element) => {
    const host = fakeHost();
    host.container("web", { ports: PORTS });
    mkdirSync(join(host.root, "sub"));
    for (const name of COMMANDS) {
      for (const folder of [".", "sub"]) plant(host, join(host.root, folder, name));
    }
    // The shell that starts it has a good PATH of its own.
    const script = `export PATH="${element}:$PATH"; printf %s "$JSON" | "$EXE"`;
    const answer = await host.shell(script, { container: "web" });
    expect(await victims(host)).toBe("");
    expect(readAnswer(answer)).toMatchObject({ changed: true });
    // With nothing else on PATH the machine's own programs are meant (exec.test.ts); here only node is looked for.
    await host.shell(`export PATH="${element}"; "$EXE" version`);
    expect(await victims(host)).toBe("");
  });

  test("nor by what it starts: each command is started elsewhere", async () => {
    const host = fakeHost();
    host.container("web", { ports: PORTS });
    for (const name of ["docker", "systemctl", "iptables-save"]) host.on(name, `pwd >> ${host.root}/places\n`);
    expect(await host.ask({ container: "web" })).toMatchObject({ changed: true });
    const { stdout } = await execa("sort", ["-u", join(host.root, "places")]);
    expect(stdout).toBe("/");
  });

  // Bun, which the native executable is made with, stops by itself.
  test.skipIf(NATIVE)("a directory that was removed meanwhile", async () => {
    const host = fakeHost();
    host.container("web", { ports: PORTS });
    const gone = 'mkdir gone && cd gone && rmdir ../gone && printf %s "$JSON" | "$EXE" 2>/dev/null';
    expect(readAnswer({ ...(await host.shell(gone, { container: "web" })), stderr: "" })).toMatchObject({
      changed: true,
    });
    const relative = readAnswer(await host.shell(gone, { container: "web", iptables_dir: "iptables.d" }));
    expect(relative.error).toMatchObject({ code: "arguments_invalid" });
    expect(relative.msg).toContain("the current directory does not exist any more");
  });
});

describe.concurrent("a question to the daemon, or to its client, cannot become another", () => {
  const IDS = [
    "x HTTP/1.0\r\nX-Evil: 1\r\n\r\nGET /info",
    "x\n",
    "../containers/json",
    "..",
    "x/../../containers/json",
    "x?all=1",
    "x#y",
    "a b",
    "%2e%2e",
    "--format={{.}}",
    "-f",
    "\u202e",
  ];

  function hostWith(NetworkID: string, network = "bridge"): FakeHost {
    const host = fakeHost();
    host.container("web", { ports: PORTS });
    const document = JSON.parse(host.documentOf("web"));
    document.NetworkSettings.Networks = { [network]: { ...document.NetworkSettings.Networks.bridge, NetworkID } };
    host.document("web", document);
    return host;
  }

  test.each(IDS)("the id %j is no id", (id) => {
    const document = JSON.parse(hostWith(id).documentOf("web"));
    expect(() => readContainer(document)).toThrow("where a network's id should be");
  });

  test.each(IDS)("the name %j of a network without an id is not asked for", (name) => {
    const document = JSON.parse(hostWith("", name).documentOf("web"));
    expect(readContainer(document).attachments.map(({ networkId }) => networkId)).toEqual([undefined]);
  });

  test("neither on the socket nor by the client", async () => {
    const host = hostWith(IDS[0] ?? "");
    const asked = await daemon(host, truthful(host, ["web"]));
    const result = await host.ask({ container: "web", docker_host: `unix://${host.root}/docker.sock` });
    expect(result.error).toMatchObject({ code: "client_answer_invalid" });
    expect(asked).toEqual(["/containers/web/json"]);
    expect((await host.ask({ container: "web" })).error).toMatchObject({ code: "client_answer_invalid" });
    expect(host.calls().filter((call) => call.startsWith("docker "))).toEqual(["docker inspect web"]);
  });

  test("and a path that is none gets no connection", async () => {
    const host = fakeHost();
    const asked = await daemon(host, () => said("{}"));
    const client = { client: "docker", docker_host: `unix://${host.root}/docker.sock`, timeout: 120 };
    for (const id of IDS) expect(await askDaemon(client, [`/networks/${id}`])).toBeUndefined();
    expect(await askDaemon(client, ["/networks/x"])).toEqual([{}]);
    expect(asked).toEqual(["/networks/x"]);
  });
});
