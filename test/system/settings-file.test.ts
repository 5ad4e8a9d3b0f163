// The file of the settings: whoever else could have written it, it is not obeyed; what was valid last is.

import { execFileSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { copyOf, keepLastValid, readSettingsFile } from "../../src/system/settings-file.ts";

let root: string;
let path: string;

beforeEach(() => {
  root = realpathSync(mkdtempSync(join(tmpdir(), "docker_iptables-test-")));
  path = join(root, "etc", "docker_iptables.json");
  mkdirSync(join(root, "etc"), { mode: 0o755 });
});
afterEach(() => rmSync(root, { recursive: true }));

const write = (text = '{"ipv6": true}', mode = 0o644) => {
  writeFileSync(path, text);
  chmodSync(path, mode);
};

const why = async () => (await readSettingsFile(path)).unusable?.message;

test("none is none, and its values are none", async () => {
  expect(await readSettingsFile(path)).toEqual({ path, file: undefined, values: {} });
});

test("one that only its owner may write is in force", async () => {
  write();
  expect(await readSettingsFile(path)).toEqual({
    path,
    file: { text: '{"ipv6": true}', mode: 0o644 },
    values: { ipv6: true },
  });
});

describe("not in force", () => {
  test.each([
    ["its group may write it", 0o664],
    ["everybody may write it", 0o646],
  ])("%s", async (_, mode) => {
    write('{"client": "/tmp/evil"}', mode);
    expect(await readSettingsFile(path)).toMatchObject({ file: undefined, values: {} });
    expect(await why()).toBe(
      `the settings in ${path} cannot be used: users other than root can change ${path} (uid ${process.getuid?.()}, mode 0${mode.toString(8)}); ` +
        `'chown root:root ${path}; chmod go-w ${path}' fixes it`,
    );
  });

  test("everybody may put another one in its place", async () => {
    write();
    chmodSync(join(root, "etc"), 0o777);
    expect(await why()).toMatch(/users other than root can change .*\/etc \(uid \d+, mode 0777\)/);
    // As in /tmp: nobody can rename or remove a file of ours.
    chmodSync(join(root, "etc"), 0o1777);
    expect(await why()).toBeUndefined();
  });

  test("everybody may put another one in the place of a directory above", async () => {
    mkdirSync(join(root, "etc", "a"));
    path = join(root, "etc", "a", "docker_iptables.json");
    write();
    chmodSync(join(root, "etc"), 0o777);
    expect(await why()).toMatch(/users other than root can change .*\/etc \(/);
  });

  test.skipIf(process.getuid?.() !== 0)("it is another user's, or its directory is", async () => {
    write();
    chownSync(path, 65534, 65534);
    expect(await why()).toContain(`users other than root can change ${path} (uid 65534, mode 0644)`);
    chownSync(path, 0, 0);
    chownSync(join(root, "etc"), 65534, 65534);
    expect(await why()).toContain(`users other than root can change ${root}/etc (uid 65534, mode 0755)`);
  });

  test.skipIf(process.getuid?.() !== 0)("a link that another user can lead elsewhere is on its way", async () => {
    write();
    mkdirSync(join(root, "open"));
    symlinkSync(join(root, "etc"), join(root, "open", "link"));
    path = join(root, "open", "link", "docker_iptables.json");
    expect(await why()).toBeUndefined();
    chmodSync(join(root, "open"), 0o777);
    expect(await why()).toContain(`users other than root can change ${root}/open (`);
  });

  test.skipIf(process.getuid?.() !== 0)("a link on its way leads through another user's directory", async () => {
    write();
    mkdirSync(join(root, "theirs"));
    symlinkSync(join(root, "etc"), join(root, "theirs", "current"));
    symlinkSync(join(root, "theirs", "current"), join(root, "mine"));
    path = join(root, "mine", "docker_iptables.json");
    expect(await why()).toBeUndefined();
    chownSync(join(root, "theirs"), 65534, 65534);
    expect(await why()).toContain(`users other than root can change ${root}/theirs (uid 65534`);
  });

  test("links that lead in a circle end", async () => {
    symlinkSync(join(root, "two"), join(root, "one"));
    symlinkSync(join(root, "one"), join(root, "two"));
    path = join(root, "one", "docker_iptables.json");
    expect(await why()).toBeDefined();
  });

  test("a symbolic link, a directory, a pipe, a file that is too large", async () => {
    write();
    const real = path;
    path = join(root, "etc", "link.json");
    symlinkSync(real, path);
    expect(await why()).toContain("it is a symbolic link; name the file itself with --config");
    path = join(root, "etc", "directory.json");
    mkdirSync(path);
    expect(await why()).toContain("it is not a plain file");
    path = join(root, "etc", "pipe.json");
    execFileSync("sh", ["-c", 'mkfifo "$0"', path]);
    expect(await why()).toContain("it is not a plain file");
    path = real;
    write(`{${" ".repeat(70_000)}}`);
    expect(await why()).toContain("it has more than 65536 bytes");
  });
});

describe("the last that were valid", () => {
  test("are in force where the file is broken, and only if nobody else can write the copy", async () => {
    write();
    await keepLastValid(await readSettingsFile(path));
    write('{"ipv6": tru');
    expect(await readSettingsFile(path)).toMatchObject({ file: undefined, values: { ipv6: true } });
    expect(await why()).toContain("is not valid JSON");
    chmodSync(copyOf(path), 0o666);
    expect((await readSettingsFile(path)).values).toEqual({});
  });

  test("are not in force where there is no file: whoever has removed it means that", async () => {
    write();
    await keepLastValid(await readSettingsFile(path));
    rmSync(path);
    expect(await readSettingsFile(path)).toEqual({ path, file: undefined, values: {} });
  });

  test("are forgotten by a call on a host that has none any more", async () => {
    write();
    await keepLastValid(await readSettingsFile(path));
    rmSync(path);
    await keepLastValid(await readSettingsFile(path));
    expect(existsSync(copyOf(path))).toBe(false);
  });

  test("are in force where a file that the call names is gone", async () => {
    expect((await readSettingsFile(path, true)).unusable?.message).toContain(
      "there is no such file; 'docker_iptables setup'",
    );
    write();
    await keepLastValid(await readSettingsFile(path, true));
    rmSync(path);
    expect(await readSettingsFile(path, true)).toMatchObject({ values: { ipv6: true }, unusable: {} });
  });

  test("are not written through a link that somebody has put there", async () => {
    write();
    const precious = join(root, "precious");
    writeFileSync(precious, "precious");
    symlinkSync(precious, `${copyOf(path)}.${process.pid}.tmp`);
    await keepLastValid(await readSettingsFile(path));
    expect(readFileSync(precious, "utf8")).toBe("precious");
    expect(readFileSync(copyOf(path), "utf8")).toContain("ipv6");
  });

  test("are not replaced by what is broken", async () => {
    write();
    await keepLastValid(await readSettingsFile(path));
    write("broken");
    await keepLastValid(await readSettingsFile(path));
    expect((await readSettingsFile(path)).values).toEqual({ ipv6: true });
  });
});
