// Few descriptors, processes, little memory: an error with a code, or the whole work; never a stack trace, never half of it.
//
// Below some 18 descriptors, and with less memory than its own start needs (`ulimit -v`, `ulimit -d`), Node.js ends before the
// program is read; a heap that is full ends it (abort). Both are its own words, and nothing can be said instead.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { errno, Failure, orElse } from "../../src/model/errors.ts";
import { inLanes } from "../../src/system/lanes.ts";
import { type FakeHost, fakeHost, NATIVE, readAnswer, STACK, startProcesses } from "../program/host.ts";

// What a process may have is what these are about.
startProcesses();

const PORTS = { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8080" }] };

function hostWithWeb(): FakeHost {
  const host = fakeHost();
  host.container("web", { ports: PORTS });
  return host;
}

describe.concurrent("few descriptors", () => {
  test.each([18, 19, 20, 22, 24, 26, 28, 30, 33, 36, 40])("ulimit -n %i", async (limit) => {
    const host = hostWithWeb();
    await host.boot();
    const before = host.state();
    const ran = await host.shell(`ulimit -n ${limit}; printf %s "$JSON" | "$EXE"`, { container: "web" });
    // Its own start, before the program.
    if (/^(node:|\S*node: )/.test(ran.stderr) && ran.stdout === "" && limit < 24) return;
    const result = readAnswer(ran);
    expect(result.msg).not.toMatch(STACK);
    if (!result.failed) return expect(host.fragment("web")).toBeDefined();
    expect(result.error, result.msg).toMatchObject({ code: "resources_exhausted" });
    expect(result.msg).toContain("ulimit -n");
    expect(host.state()).toEqual(before);
  });

  test("a thousand fragments are read a few at a time", async () => {
    const host = hostWithWeb();
    for (let index = 0; index < 1000; index++) host.write(`20_${index}`, "*filter\nCOMMIT\n");
    const script = 'ulimit -n 64; printf %s "$JSON" | "$EXE"';
    const result = readAnswer(await host.shell(script, { container: "web", reload: "none" }));
    expect(result.failed, result.msg).toBeUndefined();
  });
});

describe.skipIf(NATIVE).concurrent("what the kernel refuses", () => {
  /** A run under a script of Node.js's that is loaded first. */
  async function under(host: FakeHost, script: string, given: Record<string, unknown> = {}) {
    const hook = join(host.root, "hook.cjs");
    writeFileSync(hook, script);
    const command = `export NODE_OPTIONS="--require ${hook}"; printf %s "$JSON" | "$EXE"`;
    return readAnswer(await host.shell(command, { container: "web", ...given }));
  }

  test.each([
    ["EAGAIN", -11, "ulimit -u"],
    ["ENOMEM", -12, "memory"],
    ["ENFILE", -23, "open files"],
    ["EMFILE", -24, "ulimit -n"],
  ])("a process: %s", async (_code, number, words) => {
    const host = hostWithWeb();
    const before = host.state();
    const result = await under(host, `process.binding("process_wrap").Process.prototype.spawn = () => ${number};`);
    expect(result.error, result.msg).toMatchObject({ code: "resources_exhausted" });
    expect(result.msg).toContain(words);
    expect(host.state()).toEqual(before);
  });

  test.each(["EMFILE", "ENFILE", "ENOMEM"])("a file: %s", async (code) => {
    const host = hostWithWeb();
    host.write("20_x", "*filter\nCOMMIT\n");
    const before = host.state();
    const script = `const files = require("fs/promises"), open = files.open;
files.open = async (path, ...rest) => {
  if (String(path).endsWith("20_x")) throw Object.assign(new Error("${code}: no more"), { code: "${code}" });
  return open(path, ...rest);
};`;
    const result = await under(host, script);
    expect(result.error, result.msg).toMatchObject({ code: "resources_exhausted", errno: code });
    expect(host.state()).toEqual(before);
  });

  test("an error that nothing catches is the answer", async () => {
    const result = await under(hostWithWeb(), 'setTimeout(() => { throw new Error("astray"); }, 1000);', {
      container: "missing",
      wait_timeout: 600,
    });
    expect(result.error).toMatchObject({ code: "internal" });
    expect(result.msg).toMatch(/^a bug in docker_iptables: astray; /);
  });
});

describe("what looks at the host", () => {
  const broken = (code: string) => Object.assign(new Error(`${code}: x`), { code });

  test("takes what is missing for missing, and nothing else", () => {
    expect(orElse("")(broken("ENOENT"))).toBe("");
    expect(orElse("")(new Failure("command_missing", "x"))).toBe("");
    for (const code of ["EMFILE", "ENFILE", "ENOMEM", "EAGAIN"]) {
      expect(() => orElse("")(broken(code))).toThrow(expect.objectContaining({ code: "resources_exhausted" }));
    }
    expect(() => orElse("")(new Failure("resources_exhausted", "x"))).toThrow("x");
    expect(errno(broken("EMFILE"))).toBe("EMFILE");
  });

  test("does a few things at once, in order, and begins no other after a failure", async () => {
    let open = 0;
    let most = 0;
    const step = async (item: number) => {
      most = Math.max(most, ++open);
      await new Promise((done) => setImmediate(done));
      open--;
      if (item === 500) throw new Error("500");
      return 2 * item;
    };
    const items = Array.from({ length: 400 }, (_, index) => index);
    expect(await inLanes(items, step)).toEqual(items.map((item) => 2 * item));
    expect(most).toBe(8);
    const begun: number[] = [];
    const counted = (item: number) => {
      begun.push(item);
      return step(item);
    };
    await expect(
      inLanes(
        Array.from({ length: 2000 }, (_, index) => index),
        counted,
      ),
    ).rejects.toThrow("500");
    expect(begun.length).toBeLessThan(520);
    expect(await inLanes([], step)).toEqual([]);
  });
});
