// Text from outside (names, labels, events, paths, what commands print) reaches a terminal, a journal and a fragment without
// what those would obey: escapes, line breaks, C1 controls, marks that turn or hide text.

import { existsSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { execa } from "execa";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Result } from "../../src/generated/result.ts";
import { fragmentText } from "../../src/iptables/fragment-text.ts";
import { recordText } from "../../src/systemd/journal.ts";
import { allVisible, oneLine, visible } from "../../src/text/visible.ts";
import { type FakeHost, fakeHost, readAnswer, startProcesses } from "../program/host.ts";

// What reaches a terminal is what these are about.
startProcesses();

const PORTS = { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8080" }] };
/** ESC, a bell, a C1 control, a line of our own kind, a bidi override, a zero width space. */
const EVIL = "x\u001b[2J\u0007\u009b31m\r\ndocker_iptables: all is well\u202e\u200b";
const OBEYED = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u;
const BUT_LINES = /[^\P{Cc}\n\t]|[\p{Cf}\p{Zl}\p{Zp}]/u;

const directories = (host: FakeHost) => ["--iptables-dir", host.iptablesDir, "--ip6tables-dir", host.ip6tablesDir];

/** Every string in a value. */
function stringsIn(value: unknown): string[] {
  if (typeof value === "string") return [value];
  return typeof value === "object" && value !== null ? Object.values(value).flatMap(stringsIn) : [];
}

describe("pure", () => {
  const anyText = fc.string({ unit: fc.oneof(fc.constantFrom(...EVIL), fc.string({ unit: "binary", maxLength: 1 })) });

  test("nothing that is obeyed is left, and what is left is what was there", () => {
    const property = fc.property(anyText, (text) => {
      expect(oneLine(text)).not.toMatch(OBEYED);
      expect(visible(text)).not.toMatch(BUT_LINES);
      if (!BUT_LINES.test(text) && !/\p{Cs}/u.test(text)) expect(visible(text)).toBe(text);
    });
    fc.assert(property, { seed: 3, numRuns: 2000 });
  });

  test("it is shown", () => {
    expect(oneLine(EVIL)).toBe("x\\x1b[2J\\x07\\x9b31m docker_iptables: all is well\\u{202e}\\u{200b}");
    expect(visible("a\r\n\tb\u0000")).toBe("a\\x0d\n\tb\\x00");
    expect(oneLine("a\ud800")).toBe("a\\u{d800}");
    expect(oneLine("Grüße, 你好, 👋")).toBe("Grüße, 你好, 👋");
  });

  test("in a result only a diff, a stack and what was printed have lines", () => {
    const stdout = "a\nb\u001b";
    expect(allVisible({ msg: "a\nb", list: ["a\nb"], error: { stdout, rule: null, line: 3 } })).toEqual({
      msg: "a b",
      list: ["a b"],
      error: { stdout: "a\nb\\x1b", rule: null, line: 3 },
    });
  });

  test("the journal's record", () => {
    const result = { changed: true, msg: EVIL, comment: "", warnings: [] } as Result;
    const caller = { pid: 1, self: "2", command: `sh ${EVIL}`, unit: EVIL };
    for (const line of recordText(result, caller, [EVIL]).trimEnd().split("\n")) {
      expect(line).toMatch(/^[A-Z_]+=/);
      expect(line).not.toMatch(OBEYED);
    }
  });

  test("a fragment's notes", () => {
    const text = fragmentText("web", { nat: [["-A", "C", "-j", "ACCEPT"]] }, { notes: [`${EVIL}\n*filter\n-F`] }) ?? "";
    expect(text.split("\n").filter((line) => !line.startsWith("#"))).toEqual(["*nat", "-A C -j ACCEPT", "COMMIT", ""]);
  });
});

describe.concurrent("of every door", () => {
  /** What a call says, by JSON and to a person: nothing in it is obeyed. */
  async function clean(host: FakeHost, argv: readonly string[]): Promise<string> {
    const json = await host.run([...argv, "--json"]);
    for (const text of stringsIn(JSON.parse(json.stdout))) expect(text).not.toMatch(BUT_LINES);
    const { msg, warnings, comment } = JSON.parse(json.stdout) as Result;
    for (const text of [msg, comment, ...warnings]) expect(text).not.toMatch(OBEYED);
    const { stdout, stderr } = await host.run(argv);
    expect(`${stdout}${stderr}`).not.toMatch(BUT_LINES);
    expect(`${stdout}${stderr}`).not.toMatch(/^docker_iptables: all is well/m);
    return `${stdout}${stderr}`;
  }

  test("what a command says when it fails, with its stack", async () => {
    const host = fakeHost();
    host.container("web", { ports: PORTS });
    host.on("docker", `printf '${EVIL.replaceAll("\u0007", "")}' >&2; exit 3\n`);
    const said = await clean(host, ["create", "web", "--debug", ...directories(host)]);
    expect(said).toContain("x\\x1b[2J");
    expect(said).toMatch(/^\s+at /m);
  });

  test("a container's state and network", async () => {
    const host = fakeHost();
    host.container("web", { ports: PORTS });
    const document = JSON.parse(host.documentOf("web"));
    document.State = { Status: EVIL, Running: false };
    host.document("web", document);
    expect(await clean(host, ["create", "web", "--wait-timeout=0", ...directories(host)])).toContain("x\\x1b[2J");
    document.State = { Status: "running", Running: true };
    document.NetworkSettings.Networks = { [EVIL]: document.NetworkSettings.Networks.bridge };
    host.document("web", document);
    const said = await clean(host, ["create", "web", "--network", "other", ...directories(host)]);
    expect(said).toContain("x\\x1b[2J");
  });

  test("a file's name and what it holds, in status, load and a diff", async () => {
    const host = fakeHost();
    host.container("web", { ports: PORTS });
    host.write(`20_${EVIL.replaceAll("/", "")}`, `garbage ${EVIL}\n`);
    host.write("11-docker-container_web", `# ${EVIL.replaceAll(/[\r\n]/g, "")}\n`);
    await host.boot();
    expect(await clean(host, ["status", ...directories(host)])).toContain("x\\x1b[2J");
    expect(await clean(host, ["load", "--check", ...directories(host)])).toContain("x\\x1b[2J");
    const check = ["create", "web", "--check", "--diff", ...directories(host)];
    expect(await clean(host, check)).toContain("-# x\\x1b[2J");
  });

  test("a word on the command line", async () => {
    const { stderr } = await fakeHost().run([EVIL]);
    expect(stderr).not.toMatch(BUT_LINES);
    expect(stderr).toContain("unknown verb 'x\\x1b[2J");
    expect((await fakeHost().run(["create", `--${EVIL}`])).stderr).not.toMatch(BUT_LINES);
  });

  test("whoever holds a lock", async () => {
    const ask = async (timeout: number) => {
      const host = fakeHost();
      host.container("web", { ports: PORTS });
      const holder = "flock 9; touch held; while :; do sleep 1 9>&-; done";
      const script = `sh -c '${holder}' "$EVIL" 9> "$DIR/.docker_iptables.lock" & until [ -e held ]; do sleep 0.1; done
printf %s "$JSON" | "$EXE"; kill $!`;
      const { env, ...options } = host.options();
      const more = {
        EVIL,
        EXE: host.executable,
        DIR: host.iptablesDir,
        JSON: JSON.stringify(host.args({ container: "web", timeout })),
      };
      const { stdout } = await execa("/bin/sh", ["-c", script], { ...options, env: { ...env, ...more } });
      return readAnswer({ exitCode: 1, stdout, stderr: "" });
    };
    let result = await ask(1);
    // A slow machine may not get as far as the lock.
    if (result.error?.code !== "locked") result = await ask(60);
    expect(result.error).toMatchObject({ code: "locked" });
    expect(result.msg).toContain("x\\x1b[2J");
    for (const text of stringsIn(result)) expect(text).not.toMatch(OBEYED);
  });

  test("the client's networks and the files of containers are completed, and never run", async () => {
    const host = fakeHost();
    for (const name of ["$(touch pwned)", "`touch pwned`", "a;touch pwned", "x\u001b[2J", "good"]) {
      host.network(name, {});
      host.write(`11-docker-container_${name}`, "# docker_iptables: x\n");
    }
    writeFileSync(join(host.root, "completion"), (await host.run(["completion", "bash"])).stdout);
    symlinkSync(host.executable, join(host.bin, "docker_iptables"));
    const settings = { iptables_dir: host.iptablesDir, ip6tables_dir: host.ip6tablesDir };
    writeFileSync(host.settingsPath, JSON.stringify(settings));
    for (const [words, offered] of [
      // A list with such a name is not understood.
      ["create --network ''", []],
      ["delete ''", ["good"]],
    ] as const) {
      const run = `source ./completion; COMP_WORDS=(docker_iptables ${words}); COMP_CWORD=$((\${#COMP_WORDS[@]} - 1))
_docker_iptables; printf '%s\\n' "\${COMPREPLY[@]}"`;
      const { stdout } = await execa("bash", ["-c", run], host.options());
      expect(stdout.split("\n").filter(Boolean).sort()).toEqual(offered);
    }
    expect(existsSync(join(host.root, "pwned"))).toBe(false);
    expect(readFileSync(join(host.root, "completion"), "utf8")).toContain("_docker_iptables");
  });
});
