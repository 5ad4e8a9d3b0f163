// How the Docker daemon is started: what command lines and files state, the advice, and the search among real processes,
// each in a network namespace of its own. Those need root; else their name says so.

import { spawn, spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync, symlinkSync, truncateSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import {
  adviseDaemon,
  configFileOf,
  type Daemon,
  type DaemonSettings,
  findDaemon,
  forwardingWarnings,
  readSettings,
} from "../../src/docker/daemon.ts";
import { firstLine } from "../first-line.ts";
import { until } from "../until.ts";

describe("settings", () => {
  const iptablesOf = (...flags: string[]) => readSettings(["dockerd", ...flags], undefined).iptables;

  test.each([
    ["--iptables", true],
    ...["1", "t", "T", "true", "TRUE", "True"].map((value): [string, boolean] => [`--iptables=${value}`, true]),
    ...["0", "f", "F", "false", "FALSE", "False"].map((value): [string, boolean] => [`--iptables=${value}`, false]),
    ["--iptables=", undefined],
    ["--iptables=no", undefined],
    ["--iptables=fALSE", undefined],
    ["--iptables=false ", undefined],
    ["--iptablesx=false", undefined],
    ["--ip6tables=false", undefined],
    ["-iptables=false", undefined],
    ["iptables=false", undefined],
  ])("the flag %j: %s", (flag, stated) => {
    expect(iptablesOf(flag)).toBe(stated);
  });

  test.each([
    ["the last one wins", ["--iptables=true", "--iptables=false"], false],
    ["and again", ["--iptables=false", "-H", "fd://", "--iptables"], true],
    ["it takes no word of its own", ["--iptables", "false"], true],
    ["after -- there are no flags", ["--", "--iptables=false"], undefined],
  ])("%s", (_what, flags, stated) => {
    expect(iptablesOf(...flags)).toBe(stated);
  });

  test("the program's own name is no flag, and no words at all state nothing", () => {
    expect(readSettings(["--iptables=false"], undefined).iptables).toBeUndefined();
    expect(readSettings([], undefined)).toEqual({
      iptables: undefined,
      ip6tables: undefined,
      userlandProxy: undefined,
      flags: [],
    });
  });

  test("all three, by flag and by file", () => {
    expect(readSettings(["dockerd", "--iptables=0", "--ip6tables=0", "--userland-proxy=0"], undefined)).toEqual({
      iptables: false,
      ip6tables: false,
      userlandProxy: false,
      flags: ["--iptables=0", "--ip6tables=0", "--userland-proxy=0"],
    });
    expect(
      readSettings(["dockerd"], '{"iptables":false,"ip6tables":false,"userland-proxy":true,"debug":true}'),
    ).toEqual({
      iptables: false,
      ip6tables: false,
      userlandProxy: true,
      flags: [],
    });
  });

  test.each([
    ['\uFEFF{"iptables": false}', false],
    ['{"iptables": true, "iptables": false}', false],
    ['{"iptables": "false"}', undefined],
    ['{"iptables": 0}', undefined],
    ['{"iptables": null}', undefined],
    ['{"Iptables": false}', undefined],
    ['{"nested": {"iptables": false}}', undefined],
    ['{"__proto__": {"iptables": false}}', undefined],
    ['{"iptables": false', undefined],
    ['{"iptables": false,}', undefined],
    ["[false]", undefined],
    ['"iptables"', undefined],
    ["null", undefined],
    ["false", undefined],
    ["", undefined],
    ["\0\u0001\uFFFD", undefined],
    [`${"[".repeat(200_000)}`, undefined],
  ])("a file, case %#", (text, stated) => {
    expect(readSettings(["dockerd"], text).iptables).toBe(stated);
  });

  test("whatever there is, nothing is thrown and only booleans come of it", () => {
    const word = fc.oneof(
      fc.string({ unit: "binary" }),
      fc.constantFrom("--iptables", "--iptables=f", "--", "--config-file", "--config-file="),
    );
    const text = fc.oneof(fc.string({ unit: "binary" }), fc.json(), fc.constant(undefined));
    fc.assert(
      fc.property(fc.array(word), text, (cmdline, config) => {
        expect(typeof configFileOf(cmdline)).toBe("string");
        const { iptables, ip6tables, userlandProxy } = readSettings(cmdline, config);
        for (const value of [iptables, ip6tables, userlandProxy]) expect([true, false, undefined]).toContain(value);
      }),
    );
  });

  test.each([
    [[], "/etc/docker/daemon.json"],
    [["--config-file", "/a"], "/a"],
    [["--config-file=/a"], "/a"],
    [["--config-file=/a", "-D", "--config-file", "/b"], "/b"],
    [["--config-file"], "/etc/docker/daemon.json"],
    [["--", "--config-file=/a"], "/etc/docker/daemon.json"],
  ])("the file of %j is %s", (flags, file) => {
    expect(configFileOf(["dockerd", ...flags])).toBe(file);
  });
});

describe("advice", () => {
  const daemon = (flags: string[], config: Record<string, boolean> = {}, more: Partial<Daemon> = {}) => ({
    ...readSettings(["dockerd", ...flags], JSON.stringify(config)),
    configFile: "/etc/docker/daemon.json",
    changedSince: false,
    ...more,
  });
  const off = { iptables: false, ip6tables: false };

  test.each<[string, DaemonSettings & Partial<Daemon>, string | undefined]>([
    ["both are off", daemon([], off), "29.0.0"],
    ["both are off, version unknown", daemon([], off), undefined],
    ["before 27 ip6tables is off by itself", daemon([], { iptables: false }), "26.1.4"],
    ["both by flag", daemon(["--iptables=false", "--ip6tables=false"]), "27.0.1"],
    ["by flag and by file", daemon(["--iptables=false"], { ip6tables: false }), "27.0.1"],
    ["changed since, but the flags decide", daemon(["--iptables=0"], {}, { changedSince: true }), "20.10.24"],
  ])("none: %s", (_what, given, version) => {
    expect(adviseDaemon(given, version)).toEqual([]);
  });

  test("none without a daemon", () => {
    expect(adviseDaemon(undefined, "27.0.1")).toEqual([]);
  });

  const PUT = "put";
  const END = ", and restart it ('systemctl restart docker'), or it will conflict with these rules";
  test.each<[DaemonSettings & Partial<Daemon>, string | undefined, string]>([
    [
      daemon([]),
      "27.0.1",
      `iptables itself: ${PUT} "iptables": false and "ip6tables": false into /etc/docker/daemon.json${END}`,
    ],
    [
      daemon([]),
      undefined,
      `iptables itself: ${PUT} "iptables": false and "ip6tables": false into /etc/docker/daemon.json ("ip6tables" only from Docker 20.10 on)${END}`,
    ],
    // Docker before 20.10 does not start with "ip6tables" in its file.
    [daemon([]), "19.03.15", `iptables itself: ${PUT} "iptables": false into /etc/docker/daemon.json${END}`],
    [
      daemon([]),
      "v26.0.0",
      `iptables itself: ${PUT} "iptables": false and "ip6tables": false into /etc/docker/daemon.json${END}`,
    ],
    [
      daemon([], { iptables: false }),
      "27.0.1",
      `ip6tables itself: ${PUT} "ip6tables": false into /etc/docker/daemon.json${END}`,
    ],
    [
      daemon([], { iptables: false, ip6tables: true }),
      "20.10.24",
      `ip6tables itself: ${PUT} "ip6tables": false into /etc/docker/daemon.json${END}`,
    ],
    [
      daemon([], { iptables: true }, { configFile: "/srv/d.json" }),
      "20.10.24",
      `iptables itself: ${PUT} "iptables": false and "ip6tables": false into /srv/d.json${END}`,
    ],
    [
      daemon(["--iptables=true"]),
      "20.10.24",
      `iptables itself: it is started with --iptables=true: change that to --iptables=false where it is started (see 'systemctl cat docker'); ${PUT} "ip6tables": false into /etc/docker/daemon.json${END}`,
    ],
    [
      daemon(["--iptables"]),
      "28.0.0",
      `iptables itself: it is started with --iptables: change that to --iptables=false where it is started (see 'systemctl cat docker'); ${PUT} "ip6tables": false into /etc/docker/daemon.json${END}`,
    ],
    [
      daemon(["--iptables=1", "--ip6tables=t"]),
      "28.0.0",
      `iptables itself: it is started with --iptables=1 --ip6tables=t: change that to --iptables=false --ip6tables=false where it is started (see 'systemctl cat docker')${END}`,
    ],
    [
      daemon([], {}, { configFile: "" }),
      "20.10.24",
      `iptables itself: ${PUT} "iptables": false and "ip6tables": false into /etc/docker/daemon.json${END}`,
    ],
  ])("%j of Docker %s", (given, version, advice) => {
    expect(adviseDaemon(given, version)).toEqual([`the Docker daemon manages ${advice}`]);
  });

  test.each(["garbage", "", "-1.2", "1e9", "27"])("the version %j is unknown, and counts as new", (version) => {
    expect(adviseDaemon(daemon([], { iptables: false }), version)).toHaveLength(1);
  });

  test.each([
    [daemon([], off, { changedSince: true }), "27.0.1"],
    [daemon(["--iptables=false"], { ip6tables: false }, { changedSince: true }), "27.0.1"],
    [daemon([], { iptables: false }, { changedSince: true }), "20.10.24"],
  ])("a file that is newer than the daemon", (given, version) => {
    expect(adviseDaemon(given, version)).toEqual([
      expect.stringMatching(/^\/etc\/docker\/daemon\.json was changed after the Docker daemon started.*restart/),
    ]);
  });
});

const LACKS = whatLacks();
const DAEMON = fileURLToPath(new URL("../../src/docker/daemon.ts", import.meta.url));
const TOP = fileURLToPath(new URL("../..", import.meta.url));

const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0).reverse()) end();
});

describe.skipIf(LACKS !== "")(`real processes${LACKS}`, () => {
  test("one in another network namespace is not ours; seen from its own it is", async () => {
    const world = new World();
    const pid = await world.start(["--iptables", "--config-file", world.config]);
    expect(world.settings(pid)).toMatchObject({ iptables: true, flags: ["--iptables"], configFile: world.config });
    // This machine may have a daemon of its own; it is not this one.
    expect((await findDaemon())?.configFile).not.toBe(world.config);
  });

  test("none, one that is called so by another user, and one that is called otherwise", async () => {
    const world = new World();
    const pid = await world.start([], { name: "dockerd-rootless" });
    expect(world.settings(pid)).toBeNull();
    const foreign = await world.start(["--iptables=false"], { enter: pid, before: ["setpriv", "--reuid=65534"] });
    expect(foreign).not.toBe(pid);
    expect(world.settings(pid)).toBeNull();
  });

  test("a helper that it starts under its own name is not taken for it", async () => {
    const world = new World();
    // sh gives /dev/null to what it starts in the background; the inner one is to end with the outer one's stdin.
    const script = `exec 3<&0; "$0" -c 'echo; read line <&3' helper --iptables=true & read line`;
    const pid = await world.start(["--iptables=false"], { script });
    expect(world.settings(pid)).toMatchObject({ iptables: false });
  });

  test("of two, the one that manages iptables counts", async () => {
    const world = new World();
    const pid = await world.start(["--iptables=false"]);
    await world.start(["--iptables=true"], { enter: pid });
    await world.start(["--iptables=false"], { enter: pid });
    expect(world.settings(pid)).toMatchObject({ iptables: true });
  });

  test("its file is read where the daemon sees it, not where we do", async () => {
    const world = new World();
    writeFileSync(world.config, '{"iptables": true}');
    const inside = `mount -t tmpfs none ${world.root} && echo '{"iptables": false}' > ${world.config}`;
    const before = ["unshare", "--mount", "--", "sh", "-c", `${inside}; cd ${world.root}; exec "$@"`, "sh"];
    // Its program is hidden by that mount, so that it is elsewhere.
    const elsewhere = new World();
    const pid = await elsewhere.start(["--config-file", world.config], { before });
    expect(world.settings(pid)).toMatchObject({ iptables: false, configFile: world.config });
    const relative = await elsewhere.start(["--config-file=daemon.json"], { before });
    expect(world.settings(relative)).toMatchObject({ iptables: false, configFile: "daemon.json" });
  });

  test.each<[string, (path: string) => void]>([
    ["is missing", () => {}],
    [
      "is huge",
      (path) => {
        writeFileSync(path, '{"iptables": false}');
        // Spaces would still be JSON: only the limit stops it.
        writeFileSync(path, `{"iptables": false}${" ".repeat(2 ** 20)}`);
      },
    ],
    [
      "is sparse and endless",
      (path) => {
        writeFileSync(path, "");
        truncateSync(path, 2 ** 40);
      },
    ],
    ["is binary", (path) => writeFileSync(path, Buffer.from([0xff, 0xfe, 0, 0x80, 0xc3]))],
    ["is a directory", (path) => symlinkSync("/", path)],
    ["is a device", (path) => symlinkSync("/dev/zero", path)],
    ["is a pipe that nobody writes", (path) => void spawnSync("sh", ["-c", 'mkfifo "$0"', path])],
    ["is a link to itself", (path) => symlinkSync(path, path)],
  ])("a file that %s states nothing, and flags hold", async (_what, make) => {
    const world = new World();
    make(world.config);
    const pid = await world.start(["--config-file", world.config, "--ip6tables=false"]);
    expect(world.settings(pid)).toMatchObject({ ip6tables: false, changedSince: false });
    expect(world.settings(pid)).not.toHaveProperty("iptables");
  });

  test("a file that is changed after the start, even with the time of an older one", async () => {
    const world = new World();
    writeFileSync(world.config, "{}");
    const pid = await world.start(["--config-file", world.config]);
    expect(world.settings(pid)).toMatchObject({ changedSince: false });
    // When a process has started is known to a second or so.
    await until("a change counts as later", () => {
      writeFileSync(world.config, '{"iptables": false}');
      utimesSync(world.config, 1, 1);
      return JSON.stringify(world.settings(pid)).includes('"changedSince":true');
    });
    expect(world.settings(pid)).toMatchObject({ iptables: false, changedSince: true });
  });

  test("odd words on its command line", async () => {
    const world = new World();
    const pid = await world.start([
      "",
      "\u001b[2J",
      "--label=\n--iptables=true",
      "--iptables=false",
      "x".repeat(100_000),
    ]);
    expect(world.settings(pid)).toMatchObject({ iptables: false });
  });

  test.each([
    [
      "0",
      "0",
      [
        /IPv4.*'net\.ipv4\.ip_forward = 1' into \/etc\/sysctl\.d\/\S+\.conf.*sysctl --system/,
        /IPv6.*all\.forwarding = 1/,
      ],
    ],
    ["1", "0", [/IPv6/]],
    ["0", "1", [/IPv4/]],
    ["1", "1", []],
  ])("forwarding %s for IPv4, %s for IPv6", async (ipv4, ipv6, expected) => {
    const world = new World();
    const script = `echo ${ipv4} > /proc/sys/net/ipv4/ip_forward; echo ${ipv6} > /proc/sys/net/ipv6/conf/all/forwarding; echo; read line`;
    const pid = await world.start([], { script });
    const warnings = world.evaluate(pid, `forwardingWarnings(["ipv4", "ipv6"])`);
    expect(warnings).toEqual(expected.map((pattern) => expect.stringMatching(pattern)));
  });
});

test("no family, no warning about forwarding", async () => {
  expect(await forwardingWarnings([])).toEqual([]);
});

interface Started {
  /** The name of the program. */
  name?: string;
  /** A process whose network namespace it shares; else it gets a new one. */
  enter?: number;
  /** What starts it. */
  before?: string[];
  /** What it does; it must print a line, and end with its stdin. */
  script?: string;
}

/** Processes called dockerd (/bin/sh under that name, which waits), each in a network namespace of its own. */
class World {
  readonly root = mkdtempSync(join(tmpdir(), "docker_iptables-daemon-"));
  readonly config = join(this.root, "daemon.json");

  constructor() {
    chmodSync(this.root, 0o755);
    ends.push(() => rmSync(this.root, { recursive: true, force: true }));
  }

  async start(flags: string[], { name = "dockerd", enter, before = [], script = "echo; read line" }: Started = {}) {
    const program = join(this.root, name);
    rmSync(program, { force: true });
    symlinkSync("/bin/sh", program);
    const net = enter === undefined ? ["unshare", "--net"] : ["nsenter", `--net=/proc/${enter}/ns/net`];
    // $0 is the program, for a script that starts it again.
    const [file = "", ...args] = [...net, "--", ...before, program, "-c", script, program, ...flags];
    const child = spawn(file, args, { stdio: ["pipe", "pipe", "inherit"] });
    ends.push(() => child.kill("SIGKILL"));
    await firstLine(child);
    return child.pid ?? 0;
  }

  /** What findDaemon says in the network namespace of a process. */
  settings(pid: number): unknown {
    return this.evaluate(pid, "findDaemon()");
  }

  evaluate(pid: number, call: string): unknown {
    const code = `const daemon = await import(${JSON.stringify(DAEMON)}); console.log(JSON.stringify((await daemon.${call}) ?? null));`;
    const node = [process.execPath, "--import", "tsx", "--input-type=module", "--eval", code];
    const options = { cwd: TOP, encoding: "utf8", timeout: 600_000 } as const;
    const { status, stdout, stderr } = spawnSync("nsenter", [`--net=/proc/${pid}/ns/net`, "--", ...node], options);
    expect(status, stderr).toBe(0);
    return JSON.parse(stdout);
  }
}

/** Why the tests with processes cannot run, for their name; "" if they can. */
function whatLacks(): string {
  if (process.getuid?.() !== 0) return " (skipped: needs root)";
  const trial = "echo 1 > /proc/sys/net/ipv4/ip_forward && mount -t tmpfs none /mnt && setpriv --reuid=65534 true";
  const { status } = spawnSync("unshare", ["--net", "--mount", "--", "sh", "-c", trial]);
  return status === 0 ? "" : " (skipped: needs namespaces and mounts)";
}
