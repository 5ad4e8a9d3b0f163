// What a person at a terminal gets: what is waited for, near names, completion, colours, recipes.

import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { execa } from "execa";
import { describe, expect, test } from "vitest";
import { recipes } from "../recipes.ts";
import { type FakeHost, fakeHost, readAnswer } from "./host.ts";

const PORTS = { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8080" }] };
const OTHER_PORTS = { "5432/tcp": [{ HostIp: "127.0.0.1", HostPort: "5432" }] };

function hostWithWeb(): FakeHost {
  const host = fakeHost();
  host.container("web", { ports: PORTS });
  return host;
}

function directories(host: FakeHost): string[] {
  return [`--iptables-dir=${host.iptablesDir}`, `--ip6tables-dir=${host.ip6tablesDir}`];
}

describe.concurrent("what create waits for", () => {
  test("is reported on stderr, and again when the reason changes", async () => {
    const host = fakeHost();
    host.container("web1", { ports: OTHER_PORTS, address: "172.17.0.3" });
    const running = execa(host.executable, ["create", "web", ...directories(host)], host.options());
    const lines = running.stderr.setEncoding("utf8")[Symbol.asyncIterator]();
    expect((await lines.next()).value).toBe(
      "waiting for the container web, which does not exist (did you mean web1?) (up to 60 s)\n",
    );
    host.container("web", { ports: PORTS, status: "created" });
    expect((await lines.next()).value).toBe("waiting for the container web, which is created (up to 60 s)\n");
    host.container("web", { ports: PORTS });
    expect(await running).toMatchObject({ exitCode: 0, stdout: expect.stringMatching(/^published: web\n/) });
  });

  test("JSON stays silent", async () => {
    const host = fakeHost();
    const argv = ["create", "web", "--wait-timeout=4", "--json", ...directories(host)];
    const [verb, door] = await Promise.all([
      host.run(argv),
      host.run([], JSON.stringify(host.args({ container: "web", wait_timeout: 4 }))),
    ]);
    for (const answered of [verb, door]) {
      expect(readAnswer(answered)).toMatchObject({ failed: true, error: { code: "container_missing" } });
    }
  });
});

describe.concurrent("a mistyped container", () => {
  test.each(["create", "explain"])("%s names the near one", async (verb) => {
    const host = hostWithWeb();
    host.container("db", { status: "exited" });
    const wait = verb === "create" ? ["--wait-timeout=0", ...directories(host)] : [];
    const { stderr, exitCode } = await host.run([verb, "wbe", ...wait]);
    expect(exitCode).toBe(1);
    expect(stderr).toContain("wbe does not exist (did you mean web?);");
  });

  test("create --check, too", async () => {
    const host = hostWithWeb();
    const { stderr } = await host.run(["create", "wbe", "--check", ...directories(host)]);
    expect(stderr).toBe(
      "warning: the container wbe does not exist (did you mean web?): its rules cannot be predicted yet\n",
    );
  });

  test("a client that cannot list its containers costs no answer", async () => {
    const host = hostWithWeb();
    host.on("docker", '[ "$1" = ps ] && { echo "Error: out of order" >&2; exit 1; }');
    const { stderr } = await host.run(["create", "wbe", "--wait-timeout=0", ...directories(host)]);
    expect(stderr).toMatch(/not all containers are running: wbe does not exist; see/);
  });

  test("one that exists is not asked about", async () => {
    const host = hostWithWeb();
    await host.run(["create", "web", ...directories(host)]);
    expect(host.calls().filter((call) => call.startsWith("docker ps"))).toEqual([]);
  });

  test("status names the near one", async () => {
    const host = hostWithWeb();
    await host.run(["create", "web", ...directories(host)]);
    const { stdout } = await host.run(["status", "wbe", ...directories(host)]);
    expect(stdout).toContain("container_gone: the container wbe does not exist\n    did you mean web?\n");
  });

  test("delete says that there is nothing, and names the near one", async () => {
    const host = hostWithWeb();
    const nothing = await host.run(["delete", "web", ...directories(host)]);
    expect(nothing).toEqual({ exitCode: 0, stdout: "web has no rules, nothing to do\n", stderr: "" });
    await host.run(["create", "web", ...directories(host)]);
    const mistyped = await host.run(["delete", "wbe", ...directories(host)]);
    expect(mistyped.stdout).toBe("wbe has no rules, nothing to do (did you mean web?)\n");
    expect(host.fragment("web")).toBeDefined();
    const unloaded = await host.run(["delete", "db", "--reload=none", ...directories(host)]);
    expect(unloaded.stdout).toBe("db has no fragment, nothing to do\n");
    const both = await host.run(["delete", "web", "db", ...directories(host)]);
    expect(both.stdout).toMatch(/^unpublished: web; db has no rules, nothing to do\n/);
  });
});

describe.concurrent("a service that is not enabled", () => {
  test.each<[string, Record<string, string>, string[], string]>([
    ["create", { UnitFileState: "disabled" }, ["create", "web"], "warning: iptables.service is not enabled"],
    [
      "foretold",
      { UnitFileState: "disabled" },
      ["create", "web", "--check"],
      "warning: iptables.service is not enabled",
    ],
    ["started by others", { UnitFileState: "static" }, ["create", "web"], ""],
    ["of no use to it", { UnitFileState: "disabled" }, ["create", "web", "--reload=restore"], ""],
  ])("%s", async (_what, properties, argv, warning) => {
    const host = hostWithWeb();
    host.unit("iptables.service", host.iptablesDir, properties);
    const { stderr, exitCode } = await host.run([...argv, ...directories(host)]);
    expect(exitCode).toBe(0);
    expect(stderr.slice(0, warning.length || undefined)).toBe(warning);
  });
});

describe.concurrent("a terminal", () => {
  const onTerminal = (host: FakeHost, command: string, before = "") =>
    host.shell(`${before} export TERM=xterm; script --quiet --return --command '${command}' /dev/null < /dev/null`);

  test("has colours, and a table for several containers", async () => {
    const host = hostWithWeb();
    host.container("db", { ports: OTHER_PORTS, address: "172.17.0.3" });
    const { stdout } = await onTerminal(host, `"$EXE" create web db ${directories(host).join(" ")} 2> /dev/null`);
    expect(stdout).toMatch(
      /^CONTAINER {2}CHANGED {2}FRAGMENT {2}KERNEL\r\n\u001b\[32mweb +yes +created +changed\u001b\[0m\r\n/,
    );
    expect(stdout).toContain("\u001b[32mpublished: web, db\u001b[0m\r\n");
    expect(stdout).not.toContain("created /");
  });

  test.each(["NO_COLOR=1", "TERM=dumb"])("%s: none", async (setting) => {
    const host = hostWithWeb();
    const { stdout } = await onTerminal(
      host,
      `${setting} "$EXE" create web --diff ${directories(host).join(" ")} 2> /dev/null`,
    );
    expect(stdout).toContain("published: web\r\n");
    expect(stdout).not.toContain("\u001b");
  });

  test.each([
    ["TERM=xterm", true],
    ["TERM=dumb", false],
  ])("%s: what takes long is named, over and over, only where a line can be written over", async (setting, isNamed) => {
    const host = hostWithWeb();
    host.on("docker", '[ "$1" = inspect ] && sleep 3');
    const { stdout } = await onTerminal(host, `${setting} "$EXE" create web ${directories(host).join(" ")}`);
    expect(stdout).toContain("published: web");
    expect(stdout.includes("\u001b[K")).toBe(isNamed);
  });

  test("one that erases nothing has whoever looks on, too", async () => {
    const host = hostWithWeb();
    const dumb = (words: string) => onTerminal(host, `TERM=dumb "$EXE" ${words} ${directories(host).join(" ")}`);
    expect((await dumb("create wbe")).stdout).toContain(
      "the container wbe does not exist, and web runs: did you mean that?",
    );
    const { stdout } = await dumb("create wbe --wait-timeout 5");
    expect(stdout.match(/^waiting for the container wbe.*: \d+ s\r$/gm), stdout).toHaveLength(1);
    expect(stdout).not.toContain("\u001b");
  });

  test("a mistyped name whose near one runs is not waited for there, unless that is asked for", async () => {
    const host = hostWithWeb();
    const flags = directories(host).join(" ");
    const mistyped = (await onTerminal(host, `"$EXE" create wbe ${flags}`)).stdout;
    expect(mistyped).toContain("the container wbe does not exist, and web runs: did you mean that?");
    const waited = (await onTerminal(host, `"$EXE" create wbe --wait-timeout 1 ${flags}`)).stdout;
    expect(waited).toContain("not all containers are running after 1 s");
    // In a pipe, which a pipeline or a unit has, it is waited for.
    const piped = await host.start(["create", "wbe", "--wait-timeout", "0", ...directories(host)]);
    expect(piped.stderr).toContain("not all containers are running");
  });

  test("a mistake is red there, and plain in a pipe", async () => {
    expect((await onTerminal(fakeHost(), '"$EXE" crate')).stdout).toContain("\u001b[31mdocker_iptables: unknown verb");
    expect((await fakeHost().shell('export TERM=xterm; "$EXE" crate 2>&1 | cat')).stdout).not.toContain("\u001b");
  });
});

/** The scripts ask the executable on PATH, which knows this host's settings. */
function completesOn(host: FakeHost): void {
  symlinkSync(host.executable, join(host.bin, "docker_iptables"));
  writeFileSync(
    host.settingsPath,
    JSON.stringify({ iptables_dir: host.iptablesDir, ip6tables_dir: host.ip6tablesDir }),
  );
}

describe.concurrent("bash completes", () => {
  /** The last word is the one that is completed. */
  async function complete(words: readonly string[]): Promise<string[]> {
    const host = hostWithWeb();
    host.container("web-two", { ports: OTHER_PORTS });
    host.write("11-docker-container_old", "# docker_iptables: old\n");
    writeFileSync(join(host.root, "completion"), (await host.run(["completion", "bash"])).stdout);
    completesOn(host);
    const array = words.map((word) => `'${word}'`).join(" ");
    const run = `source ./completion; complete -p docker_iptables >&2
COMP_WORDS=(docker_iptables ${array}); COMP_CWORD=${words.length}; compopt() { :; }
_docker_iptables; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const { stdout, stderr } = await execa("bash", ["-c", run], host.options());
    expect(stderr).toBe("complete -F _docker_iptables docker_iptables\n");
    return stdout.split("\n").filter(Boolean).sort();
  }

  test.each<[string[], string[]]>([
    [["cr"], ["create"]],
    [["s"], ["setup", "status", "sync"]],
    [["--v"], ["--version"]],
    [
      ["create", ""],
      ["web", "web-two"],
    ],
    [["create", "--check", "web-"], ["web-two"]],
    [["--ipv6", "create", "web", "web-"], ["web-two"]],
    [["delete", ""], ["old"]],
    [["create", "--wait"], ["--wait-timeout"]],
    [["setup", "--wait"], []],
    [["create", "web", "--reload", "re"], ["restore"]],
    [["create", "web", "--reload", "=", "no"], ["none"]],
    [
      ["create", "web", "--reload", "="],
      ["systemd", "restore", "patch", "none"],
    ],
    [["create", "--network", "br"], ["bridge"]],
    [["create", "--timeout", ""], []],
    [["create", "--iptables-dir", "iptables"], ["iptables.d"]],
    [
      ["load", "ipv"],
      ["ipv4", "ipv6"],
    ],
    [["help", "exp"], ["explain"]],
    [
      ["completion", ""],
      ["bash", "zsh", "fish"],
    ],
  ])("%j", async (words, offered) => {
    expect(await complete(words)).toEqual([...offered].sort());
  });
});

test("Puppet's exec: `unless` is true exactly when there is nothing to do, and changes nothing", async () => {
  const manifest = readFileSync(new URL("../../examples/puppet/docker_iptables.pp", import.meta.url), "utf8");
  const unless = /unless => '((?:[^'\\]|\\.)*)'/.exec(manifest)?.[1]?.replaceAll("\\'", "'") ?? "";
  const [, title = ""] = /^exec \{ '([^']*)'/m.exec(manifest) ?? [];
  const host = hostWithWeb();
  await host.boot();
  completesOn(host);
  const before = host.state();
  expect((await host.shell(unless)).exitCode).toBe(1);
  expect(host.state()).toEqual(before);
  expect((await host.shell(title)).exitCode).toBe(0);
  expect((await host.shell(unless)).exitCode).toBe(0);
});

test.skipIf(spawnSync("jq", ["--version"]).status !== 0)("the recipes with jq", async () => {
  const host = hostWithWeb();
  host.container("db", { ports: OTHER_PORTS, address: "172.17.0.3" });
  await host.boot();
  // The recipes unchanged, except for the directories.
  const flags = directories(host).join(" ");
  const json = `. + ${JSON.stringify({ iptables_dir: host.iptablesDir, ip6tables_dir: host.ip6tablesDir })}`;
  const wrapper = `#!/bin/sh
case $1 in
  "") jq -c '${json}' | "${host.executable}" ;;
  explain) exec "${host.executable}" "$@" ;;
  *) exec "${host.executable}" "$@" ${flags} ;;
esac
`;
  writeFileSync(join(host.bin, "docker_iptables"), wrapper, { mode: 0o755 });
  const said: Record<string, string> = {};
  for (const { what, command } of recipes()) {
    const { exitCode, stdout, stderr } = await host.shell(command);
    expect([what, exitCode, stderr]).toEqual([what, 0, ""]);
    said[what] = stdout;
  }
  expect(said).toMatchObject({
    "publish what a list names, and say which of it changed anything": "changed: web db\n",
    "stop with the reason where it failed": "already published: web\n",
    "the rules of one table": expect.stringMatching(/^-A DOCKER_CONTAINERS .*172\.17\.0\.2:80\n$/),
    "each file that was looked at, and what became of it": expect.stringContaining(
      `unchanged\t${host.iptablesDir}/11-docker-container_db\n`,
    ),
    "how many problems, by kind": expect.stringMatching(/^\{.*\}\n$/),
    "from where a port is reached": expect.stringMatching(/^0\.0\.0\.0:8080\/tcp: /),
  });
  const stop = recipes()
    .find(({ what }) => what.startsWith("stop"))
    ?.command.replace("web", "nobody --wait-timeout 0");
  expect(await host.shell(stop ?? "")).toMatchObject({
    exitCode: 1,
    stderr: expect.stringMatching(/^container_missing: not all containers are running/),
  });
});

test("the manual has every verb, option and page of docs, and no line that man(7) does not understand", async () => {
  const { VERBS, optionsOf } = await import("../../src/cli/verbs.ts");
  const manual = readFileSync(new URL("../../dist/docker_iptables.1", import.meta.url), "utf8");
  for (const verb of VERBS) {
    expect(manual).toMatch(new RegExp(`^\\.SS "${verb.name}\\b`, "m"));
    for (const { spelling } of optionsOf(verb)) expect(manual).toContain(`\\fB${spelling.replaceAll("-", "\\-")}\\fR`);
  }
  const pages = readdirSync(new URL("../../docs", import.meta.url)).filter((name) => name.endsWith(".md"));
  for (const page of pages) expect(manual).toContain(`\n.B docs/${page.replaceAll("-", "\\-")}\n`);
  const macros = new Set([...manual.matchAll(/^\.(\w*)/gm)].map(([, macro]) => macro));
  expect([...macros].sort()).toEqual(["B", "BR", "PP", "RE", "RS", "SH", "SS", "TH", "TP", "br", "fi", "nf"]);
  expect(manual).not.toMatch(/^'/m);
});
