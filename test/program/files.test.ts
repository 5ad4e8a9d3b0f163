// The fragment directories: what may be wrong with them, and how a fragment is put in its place.

import {
  chmodSync,
  chownSync,
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { execaSync } from "execa";
import { describe, expect, test } from "vitest";
import { type FakeHost, fakeHost, readAnswer } from "./host.ts";

const PORTS = { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8080" }] };
const BOTH = {
  "80/tcp": [
    { HostIp: "0.0.0.0", HostPort: "8080" },
    { HostIp: "::", HostPort: "8080" },
  ],
};
const isRoot = process.getuid?.() === 0;

function hostWithWeb(): FakeHost {
  const host = fakeHost();
  host.container("web", { ports: PORTS, address6: "fd00::2" });
  return host;
}

/** The path of web's fragment. */
function pathOf(host: FakeHost, directory = host.iptablesDir): string {
  return join(directory, "11-docker-container_web");
}

describe.concurrent("a host that is not set up", () => {
  test("is named by present, with the command that sets it up", async () => {
    const host = hostWithWeb();
    rmSync(host.iptablesDir, { recursive: true });
    const { msg, error } = await host.refuses({ container: "web" }, "directory_unusable");
    expect(msg).toMatch(/^this host is not set up: \S+ does not exist; 'docker_iptables setup .*' makes it/);
    expect(error).toMatchObject({ path: host.iptablesDir });
  });

  test("is a change that cannot be predicted yet in check mode: setup comes first in the same play", async () => {
    const host = hostWithWeb();
    for (const directory of [host.iptablesDir, host.ip6tablesDir]) rmSync(directory, { recursive: true });
    const result = await host.ask({ container: "web", _ansible_check_mode: true });
    expect(result).toMatchObject({ changed: true, msg: "would be published: web" });
    expect(result.warnings).toContainEqual(
      expect.stringMatching(/^this host is not set up: the rules of web cannot be/),
    );
  });

  test("has nothing for absent to do", async () => {
    const host = hostWithWeb();
    for (const directory of [host.iptablesDir, host.ip6tablesDir]) rmSync(directory, { recursive: true });
    const { changed, failed, msg } = await host.ask({ container: "web", state: "absent" });
    expect({ changed, failed, msg }).toEqual({
      changed: false,
      failed: undefined,
      msg: "web has no rules, nothing to do",
    });
  });

  test("unless the kernel has rules: that the directory is missing is then a failure", async () => {
    const host = hostWithWeb();
    await host.ask({ container: "web", reload: "restore" });
    rmSync(host.iptablesDir, { recursive: true });
    await host.refuses({ container: "web", state: "absent" }, "directory_unusable");
  });
});

describe.concurrent.each(["present", "absent"])("a directory that cannot be used (%s)", (state) => {
  test("is a file", async () => {
    const host = hostWithWeb();
    rmSync(host.iptablesDir, { recursive: true });
    writeFileSync(host.iptablesDir, "precious");
    const { msg } = await host.ask({ container: "web", state });
    expect(msg).toContain(`${host.iptablesDir} is not a directory`);
    expect(readFileSync(host.iptablesDir, "utf8")).toBe("precious");
  });

  test("lies behind a file, or behind a loop", async () => {
    const host = hostWithWeb();
    const behind = join(host.iptablesDir, "10_docker", "x");
    await host.refuses({ container: "web", state, iptables_dir: behind }, "directory_unusable");
    symlinkSync("loop", join(host.root, "loop"));
    await host.refuses({ container: "web", state, iptables_dir: join(host.root, "loop") }, "directory_unusable");
  });

  test("of IPv6 is a file", async () => {
    const host = hostWithWeb();
    rmSync(host.ip6tablesDir, { recursive: true });
    writeFileSync(host.ip6tablesDir, "precious");
    expect(await host.ask({ container: "web", state })).toMatchObject({ error: { code: "directory_unusable" } });
    expect(host.fragment("web")).toBeUndefined();
  });
});

describe.concurrent("a host without IPv6", () => {
  test("needs no directory and no ip6tables", async () => {
    const host = hostWithWeb();
    rmSync(host.ip6tablesDir, { recursive: true });
    rmSync(join(host.bin, "ip6tables-save"));
    expect(await host.ask({ container: "web" })).toMatchObject({ changed: true, warnings: [] });
    expect(await host.ask({ container: "web", state: "absent" })).toMatchObject({ changed: true, warnings: [] });
    expect(existsSync(host.ip6tablesDir)).toBe(false);
  });

  test("fails when IPv6 is requested", async () => {
    const host = hostWithWeb();
    rmSync(host.ip6tablesDir, { recursive: true });
    const { msg } = await host.refuses({ container: "web", ipv6: true }, "directory_unusable");
    expect(msg).toContain(host.ip6tablesDir);
  });
});

describe.concurrent("in the fragment's place is", () => {
  const obstacles: [string, (path: string, host: FakeHost) => void, string][] = [
    ["a symbolic link to a file", (path, host) => symlinkSync(join(host.root, "secret"), path), "a symbolic link"],
    ["a link to nowhere", (path) => symlinkSync("/nowhere/at/all", path), "a symbolic link"],
    ["a directory", (path) => mkdirSync(path), "a directory"],
    ["a pipe", (path) => makePipe(path), "a special file"],
    ["a link to /dev/zero", (path) => symlinkSync("/dev/zero", path), "a symbolic link"],
  ];
  describe.concurrent.each(["present", "absent"])("(%s)", (state) => {
    test.each(obstacles)("%s", async (_what, make, what) => {
      const host = hostWithWeb();
      writeFileSync(join(host.root, "secret"), "precious");
      make(pathOf(host), host);
      const { msg, error } = await host.refuses({ container: "web", state }, "fragment_not_a_file");
      expect(msg).toContain(`${pathOf(host)} is ${what}`);
      expect(error).toMatchObject({ path: pathOf(host) });
      expect(readFileSync(join(host.root, "secret"), "utf8")).toBe("precious");
    });
  });

  test("a hard link: the other name keeps its bytes", async () => {
    const host = hostWithWeb();
    writeFileSync(join(host.root, "other"), "# precious\n");
    linkSync(join(host.root, "other"), pathOf(host));
    expect(await host.ask({ container: "web" })).toMatchObject({ changed: true });
    expect(readFileSync(join(host.root, "other"), "utf8")).toBe("# precious\n");
  });

  test("a link in the temporary file's place: its target keeps its bytes", async () => {
    const host = hostWithWeb();
    writeFileSync(join(host.root, "secret"), "precious");
    symlinkSync(join(host.root, "secret"), join(host.iptablesDir, ".docker_iptables.tmp"));
    expect(await host.ask({ container: "web" })).toMatchObject({ changed: true });
    expect(readFileSync(join(host.root, "secret"), "utf8")).toBe("precious");
    expect(host.names(host.iptablesDir).sort()).toEqual(["10_docker", "11-docker-container_web"]);
  });

  test("a directory in the temporary file's place: a failure, and nothing is removed", async () => {
    const host = hostWithWeb();
    mkdirSync(join(host.iptablesDir, ".docker_iptables.tmp"));
    await host.refuses({ container: "web" }, "write_failed");
  });
});

describe.concurrent("mode and owner", () => {
  test.each(["077", "000", "022", "0777"])("a new fragment has mode 0644 under umask %s", async (umask) => {
    const host = hostWithWeb();
    const answered = await host.shell(`umask ${umask}; printf %s "$JSON" | "$EXE"`, {
      container: "web",
      reload: "none",
    });
    expect(readAnswer(answered)).toMatchObject({ changed: true });
    expect(statSync(pathOf(host)).mode & 0o7777).toBe(0o644);
  });

  test.each([
    [0o600, 0o600],
    [0o640, 0o640],
    [0o400, 0o400],
    [0o666, 0o644],
    [0o664, 0o644],
    [0o6755, 0o644],
  ])("a replaced one of mode %o has %o: nobody else writes it", async (mode, kept) => {
    const host = hostWithWeb();
    writeFileSync(pathOf(host), "# former\n");
    chmodSync(pathOf(host), mode);
    expect(await host.ask({ container: "web" })).toMatchObject({ changed: true });
    expect(statSync(pathOf(host)).mode & 0o7777).toBe(kept);
    expect(host.fragment("web")).toContain("172.17.0.2");
  });

  test.runIf(isRoot)("a replaced one is ours, whoever wrote it; a rolled back one too", async () => {
    const host = hostWithWeb();
    writeFileSync(pathOf(host), "# former\n");
    chownSync(pathOf(host), 12345, 23456);
    host.on("iptables-restore", "exit 1");
    expect(await host.ask({ container: "web" })).toMatchObject({ failed: true });
    expect(host.fragment("web")).toBe("# former\n");
    expect(statSync(pathOf(host))).toMatchObject({ uid: 0, gid: 0 });
    chownSync(pathOf(host), 12345, 23456);
    host.on("iptables-restore", "");
    await host.ask({ container: "web" });
    expect(statSync(pathOf(host))).toMatchObject({ uid: 0, gid: 0 });
  });
});

// Root may write anywhere: it lays its overriding right down first. Anybody else has none to lay down.
const asUser = isRoot ? "setpriv --bounding-set=-dac_override,-dac_read_search --inh-caps=-all --" : "";
const canBeUser = !isRoot || execaSync(`${asUser} true`, { shell: true, reject: false }).exitCode === 0;
if (!canBeUser) console.warn("skipped: missing rights (setpriv cannot lay capabilities down here)");

describe.runIf(canBeUser)("rights that the caller has not", { concurrent: true }, () => {
  const script = `printf %s "$JSON" | ${asUser} "$EXE"`;
  test.each(["present", "absent"])("to write into the directory (%s)", async (state) => {
    const host = hostWithWeb();
    if (state === "absent") await host.ask({ container: "web" });
    const before = host.state();
    chmodSync(host.iptablesDir, 0o555);
    const result = readAnswer(await host.shell(script, { container: "web", state }));
    chmodSync(host.iptablesDir, 0o755);
    expect(result, result.msg).toMatchObject({ failed: true, error: { code: "permission_denied" } });
    expect(result.msg).toContain(host.iptablesDir);
    expect(host.state()).toEqual(before);
  });

  test.each(["10_docker", "11-docker-container_web", "."])("to read %s", async (name) => {
    const host = hostWithWeb();
    await host.ask({ container: "web" });
    host.container("web", { ports: PORTS, address: "172.17.0.3" });
    const before = host.state();
    chmodSync(join(host.iptablesDir, name), 0o300);
    const result = readAnswer(await host.shell(script, { container: "web" }));
    chmodSync(join(host.iptablesDir, name), 0o755);
    expect(result, result.msg).toMatchObject({ failed: true, error: { code: "permission_denied" } });
    expect(host.state()).toEqual(before);
  });

  test("to write the second family: the first is restored", async () => {
    const host = hostWithWeb();
    host.container("web", { ports: BOTH, address6: "fd00::2" });
    await host.boot();
    const before = host.state();
    chmodSync(host.ip6tablesDir, 0o555);
    const result = readAnswer(await host.shell(script, { container: "web", ipv6: true }));
    expect(result).toMatchObject({ failed: true, error: { code: "permission_denied" }, rolled_back: [pathOf(host)] });
    chmodSync(host.ip6tablesDir, 0o755);
    expect(host.state()).toEqual(before);
  });
});

const canMount = execaSync("unshare", ["--map-root-user", "--mount", "true"], { reject: false }).exitCode === 0;
if (!canMount) console.warn("skipped: full and read-only disks (no user namespaces here)");

describe.runIf(canMount)("disks", { concurrent: true }, () => {
  /** Runs it with the IPv4 directory on a small disk of its own, made ready by `prepare`; then lists that disk. */
  async function onDisk(host: FakeHost, prepare: string, given: Record<string, unknown>) {
    const script = `export EXE JSON DIR; cp -a "$DIR" "$DIR.copy"; unshare --map-root-user --mount sh -c '
      mount -t tmpfs -o size=8k tmpfs "$DIR" && cp "$DIR.copy"/* "$DIR" && { ${prepare}; } &&
      printf %s "$JSON" | "$EXE"; cd "$DIR"; for file in $(ls -A | grep -v "[.]docker_iptables[.]l"); do echo "$file $(wc -c < $file)"; done >&2'`;
    const { stderr, ...answered } = await host.shell(script, given);
    return {
      result: readAnswer({ ...answered, stderr: "", exitCode: answered.stdout.includes('"failed":true') ? 1 : 0 }),
      disk: stderr,
    };
  }

  test("full: no part of a fragment is left", async () => {
    const host = hostWithWeb();
    const { result, disk } = await onDisk(host, 'head -c 4096 /dev/zero > "$DIR/.filler"', { container: "web" });
    expect(result, result.msg).toMatchObject({ failed: true, error: { code: "write_failed", errno: "ENOSPC" } });
    expect(result.msg).toMatch(/11-docker-container_web could not be written: the disk is full/);
    expect(disk).toMatch(/^\.filler 4096\n10_docker \d+\n$/);
  });

  test("full: a former fragment stays whole", async () => {
    const host = hostWithWeb();
    host.write("11-docker-container_web", "# former\n");
    const { result, disk } = await onDisk(host, ":", { container: "web" });
    expect(result, result.msg).toMatchObject({ failed: true, error: { code: "write_failed" } });
    expect(disk).toMatch(/^10_docker \d+\n11-docker-container_web 9\n$/);
  });

  test("full: absent needs no room", async () => {
    const host = hostWithWeb();
    host.write("11-docker-container_web", "# former\n");
    const { result, disk } = await onDisk(host, ":", { container: "web", state: "absent" });
    expect(result, result.msg).toMatchObject({ changed: true });
    expect(disk).toMatch(/^10_docker \d+\n$/);
  });

  test.each(["present", "absent"])("read-only (%s)", async (state) => {
    const host = hostWithWeb();
    host.write("11-docker-container_web", "# former\n");
    const { result, disk } = await onDisk(host, 'mount -o remount,bind,ro "$DIR"', { container: "web", state });
    expect(result, result.msg).toMatchObject({ failed: true, error: { code: "write_failed", errno: "EROFS" } });
    expect(result.msg).toMatch(/the file system is read-only/);
    expect(disk).toMatch(/^10_docker \d+\n11-docker-container_web 9\n$/);
  });
});

describe.concurrent("what else is in the directory", () => {
  test.each(["restore", "systemd"])("editors' leftovers and hidden files are no fragments (%s)", async (reload) => {
    const host = hostWithWeb();
    const leftovers = [
      ".10_docker.swp",
      "10_docker~",
      "10_docker.bak",
      "10_docker.dpkg-old",
      "10_docker.rpmsave",
      "#x#",
    ];
    if (reload === "restore") for (const name of leftovers) host.write(name, "no fragment\n");
    mkdirSync(join(host.iptablesDir, "subdirectory"));
    const result = await host.ask({ container: "web", reload });
    expect(result.failed, result.msg).toBeUndefined();
    expect(host.kernel("nat")).toContain("--to-destination 172.17.0.2:80");
  });

  test.each(["present", "absent"])("what is no file is no fragment: a pipe, a link to nowhere (%s)", async (state) => {
    const host = hostWithWeb();
    if (state === "absent") await host.ask({ container: "web", reload: "restore" });
    makePipe(join(host.iptablesDir, "20-pipe"));
    symlinkSync("/nowhere/at/all", join(host.iptablesDir, "20-gone"));
    const result = await host.ask({ container: "web", state, reload: "restore" });
    expect(result, result.msg).toMatchObject({ changed: true });
    expect(host.kernel("nat").includes("172.17.0.2")).toBe(state === "present");
  });

  test("the directory may be a link", async () => {
    const host = hostWithWeb();
    renameSync(host.iptablesDir, `${host.iptablesDir}.real`);
    symlinkSync(`${host.iptablesDir}.real`, host.iptablesDir);
    expect(await host.ask({ container: "web" })).toMatchObject({ changed: true });
    expect(existsSync(join(`${host.iptablesDir}.real`, "11-docker-container_web"))).toBe(true);
  });

  test("other files keep their bytes, their times and their modes", async () => {
    const host = hostWithWeb();
    host.write("99_other", "# mine\n");
    const stat = () => {
      const { mtimeMs, ctimeMs, ino, mode } = statSync(join(host.iptablesDir, "99_other"));
      return { mtimeMs, ctimeMs, ino, mode };
    };
    const before = stat();
    await host.ask({ container: "web" });
    await host.ask({ container: "web", state: "absent" });
    expect(stat()).toEqual(before);
  });

  test("an unchanged fragment is not written again", async () => {
    const host = hostWithWeb();
    await host.ask({ container: "web" });
    const { ino, mtimeMs } = statSync(pathOf(host));
    host.flush("nat");
    expect(await host.ask({ container: "web" })).toMatchObject({ changed: true, files: [{ change: "unchanged" }] });
    expect(statSync(pathOf(host))).toMatchObject({ ino, mtimeMs });
  });
});

function makePipe(path: string): void {
  execaSync("sh", ["-c", 'mkfifo "$0"', path]);
}
