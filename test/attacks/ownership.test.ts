// Whoever can write a fragment, or into a directory of them, decides about the host's packets.

import { execFileSync } from "node:child_process";
import { chmodSync, chownSync, existsSync, lchownSync, mkdirSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { Problem } from "../../src/generated/result.ts";
import { validate } from "../../src/generated/validate-result.js";
import { BRIDGE, type FakeHost, fakeHost, readAnswer } from "../program/host.ts";

const isRoot = process.getuid?.() === 0;
if (!isRoot) console.warn("skipped: files of another user (only root can make them)");
const ANOTHER = 12345;
const RULES = "*filter\n-A INPUT -s 192.0.2.7/32 -j DROP\nCOMMIT\n";

const dirs = (host: FakeHost) => ["--iptables-dir", host.iptablesDir, "--ip6tables-dir", host.ip6tablesDir];

/** A host with a fragment of its administrator's. */
function hostWithFile(): FakeHost {
  const host = fakeHost();
  host.container("web", { ports: { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8080" }] } });
  host.write("20_mine", RULES);
  return host;
}

async function untrusted(host: FakeHost): Promise<Problem[]> {
  const { stdout, stderr } = await host.run(["status", "--json", ...dirs(host)]);
  expect(stderr).toBe("");
  const result: unknown = JSON.parse(stdout);
  if (!validate(result)) throw new Error(`not a result: ${JSON.stringify(validate.errors)}`);
  return (result.problems ?? []).filter(({ kind }) => kind === "fragment_untrusted");
}

/** As a warning has it. */
const sentenceOf = ({ msg, hint }: Partial<Problem> = {}) => `${msg}: ${hint}`;

/** Status reports only one path. */
async function expectTold(host: FakeHost, path: string, words: string): Promise<void> {
  const told = await untrusted(host);
  expect(told.map((one) => one.path)).toEqual([path]);
  expect(sentenceOf(told[0])).toContain(words);
}

test("each verb that has rules loaded reports it, a warning each, and is not stopped by it", async () => {
  const host = fakeHost().bare();
  const Options = { "com.docker.network.bridge.name": BRIDGE };
  host.network("bridge", { Options, IPAM: { Config: [{ Subnet: "172.17.0.0/16" }] } });
  host.container("web", { ports: { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8080" }] } });
  await host.ask({ container: "web", base: true });
  host.write("20_mine", RULES);
  for (const path of [host.iptablesDir, join(host.iptablesDir, "20_mine")]) chmodSync(path, 0o777);
  const told = (await untrusted(host)).map(sentenceOf);
  expect(told).toHaveLength(2);
  for (const words of [["create", "web"], ["sync"], ["setup"], ["load"], ["load", "--check"]]) {
    const { stdout } = await host.run([...words, "--json", ...dirs(host)]);
    const { failed, msg, warnings } = JSON.parse(stdout);
    expect(failed, msg).toBeUndefined();
    expect(warnings.filter((one: string) => one.startsWith("users other than root"))).toEqual(told);
  }
  expect(host.kernel("filter")).toContain("192.0.2.7");
});

describe("a file that only root can change", () => {
  test("is nothing to tell", async () => {
    const host = hostWithFile();
    for (const mode of [0o644, 0o600, 0o444, 0o755]) {
      chmodSync(join(host.iptablesDir, "20_mine"), mode);
      expect(await untrusted(host), mode.toString(8)).toEqual([]);
    }
  });

  test("behind a symbolic link, whoever made the link", async () => {
    const host = hostWithFile();
    writeFileSync(join(host.root, "rules"), RULES);
    symlinkSync(join(host.root, "rules"), join(host.iptablesDir, "30_link"));
    if (isRoot) lchownSync(join(host.iptablesDir, "30_link"), ANOTHER, ANOTHER);
    expect(await untrusted(host)).toEqual([]);
  });

  test("and others that nobody loads: hidden ones, left ones, folders", async () => {
    const host = hostWithFile();
    for (const name of [".hidden", "20_mine~", "20_mine.dpkg-old"]) {
      host.write(name, RULES);
      chmodSync(join(host.iptablesDir, name), 0o666);
    }
    mkdirSync(join(host.iptablesDir, "folder"));
    chmodSync(join(host.iptablesDir, "folder"), 0o777);
    expect(await untrusted(host)).toEqual([]);
  });
});

describe("others may write", () => {
  test("a fragment, until they may not", async () => {
    const host = hostWithFile();
    const path = join(host.iptablesDir, "20_mine");
    for (const mode of [0o664, 0o646, 0o420]) {
      chmodSync(path, mode);
      const who = `${path} (uid ${process.getuid?.()}, mode 0${mode.toString(8)})`;
      await expectTold(
        host,
        path,
        `${who}, and with it this host's rules: 'chown root:root ${path}; chmod go-w ${path}'`,
      );
    }
    chmodSync(path, 0o400);
    expect(await untrusted(host)).toEqual([]);
  });

  test("a directory", async () => {
    const host = hostWithFile();
    for (const mode of [0o775, 0o1777]) {
      chmodSync(host.ip6tablesDir, mode);
      await expectTold(host, host.ip6tablesDir, `chmod go-w ${host.ip6tablesDir}'`);
    }
  });

  test("what a link leads to, or the directory of that", async () => {
    const host = hostWithFile();
    const link = join(host.iptablesDir, "30_link");
    const target = join(host.root, "theirs", "rules");
    mkdirSync(join(host.root, "theirs"));
    writeFileSync(target, "# nothing\n");
    symlinkSync("../theirs/rules", link);
    expect(await untrusted(host)).toEqual([]);
    chmodSync(target, 0o666);
    await expectTold(host, link, `'cp --remove-destination ${target} ${link}'`);
    chmodSync(target, 0o644);
    chmodSync(join(host.root, "theirs"), 0o777);
    await expectTold(host, link, `'cp --remove-destination ${target} ${link}'`);
  });

  test("a container's fragment: whose problem it is; the next that is written is root's alone", async () => {
    const host = hostWithFile();
    const path = join(host.iptablesDir, "11-docker-container_web");
    host.write("11-docker-container_web", RULES);
    chmodSync(path, 0o666);
    expect(await untrusted(host)).toMatchObject([{ container: "web", path }]);
    const { warnings } = await host.ask({ container: "web" });
    expect(warnings.join()).not.toContain("users other than root");
    expect(statSync(path).mode & 0o7777).toBe(0o644);
    expect(await untrusted(host)).toEqual([]);
  });
});

test("the name of a file is no part of the command", async () => {
  const host = hostWithFile();
  chmodSync(host.iptablesDir, 0o777);
  const name = "40 $(touch it); x'y";
  host.write(name, RULES);
  chmodSync(join(host.iptablesDir, name), 0o666);
  const [told] = (await untrusted(host)).filter(({ path }) => path === join(host.iptablesDir, name));
  const command = /'(chown .*)' fixes it$/.exec(told?.hint ?? "")?.[1] ?? "";
  // A shell reads its words, and does nothing else.
  const words = execFileSync(
    "/bin/sh",
    ["-c", `chown() { printf '%s\\n' "$@"; }; chmod() { chown "$@"; }; ${command}`],
    {
      cwd: host.root,
      encoding: "utf8",
    },
  );
  const path = join(host.iptablesDir, name);
  expect(words).toBe(`root:root\n${path}\ngo-w\n${path}\n`);
  expect(existsSync(join(host.root, "it"))).toBe(false);
});

test("setup makes directories that only root can write, under any umask", async () => {
  const host = fakeHost().bare();
  const answered = await host.shell(`umask 000; printf %s "$JSON" | "$EXE"`, { base: true });
  expect(readAnswer(answered)).toMatchObject({ changed: true });
  expect(await untrusted(host)).toEqual([]);
});

describe.runIf(isRoot)("another user's", () => {
  test("fragment", async () => {
    const host = hostWithFile();
    const path = join(host.iptablesDir, "20_mine");
    chownSync(path, ANOTHER, 0);
    await expectTold(host, path, `(uid ${ANOTHER}, mode 0644)`);
  });

  test("directory", async () => {
    const host = hostWithFile();
    chownSync(host.iptablesDir, ANOTHER, ANOTHER);
    await expectTold(host, host.iptablesDir, `'chown root:root ${host.iptablesDir};`);
  });

  test("file behind a link", async () => {
    const host = hostWithFile();
    const target = join(host.root, "theirs");
    writeFileSync(target, "# nothing\n");
    chownSync(target, ANOTHER, ANOTHER);
    symlinkSync(target, join(host.iptablesDir, "30_link"));
    await expectTold(host, join(host.iptablesDir, "30_link"), target);
  });
});
