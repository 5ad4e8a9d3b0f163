/*
 * The services that setup writes, with what systemd takes from them: they load, try, fall back and follow the daemon all the
 * same, on both backends, wherever directories and executables are; and what they need not do, they cannot.
 */

import { describe, expect } from "vitest";
import { ask, baseRules, ourRules, until } from "./fixtures.ts";
import type { Host } from "./host.ts";
import { expectAllWellSoon } from "./host-state.ts";
import { story, storyWith } from "./story.ts";

const WATCH = "docker_iptables-watch";

async function setup(host: Host, ...args: string[]): Promise<void> {
  const { stdout, stderr } = await host.run("docker_iptables", ["setup", "--json", ...args], { check: false });
  expect(JSON.parse(stdout), stderr).toMatchObject({ changed: true });
  expect(JSON.parse(stdout)).not.toHaveProperty("failed");
}

/** Adds lines to the [Service] of a unit. */
async function dropIn(host: Host, unit: string, lines: string): Promise<void> {
  await host.write(`/etc/systemd/system/${unit}.service.d/test.conf`, `[Service]\n${lines}\n`);
  await host.systemctl(["daemon-reload"]);
}

/** What systemd finds wrong with the text of any unit of ours. */
async function complaintsOf(host: Host): Promise<string> {
  const script = "systemd-analyze verify --man=no $(grep -ls '^# docker_iptables: ' /etc/systemd/system/*.*) 2>&1";
  return (await host.run("sh", ["-c", script], { check: false })).stdout;
}

const stateOf = async (host: Host, unit: string) =>
  (await host.systemctl(["show", "--property=ActiveState", "--value", unit])).stdout.trim();

const inputOf = async (host: Host) => (await host.run("iptables", ["-S", "INPUT"])).stdout;

/** What a service is allowed, as a script sees it that runs in its place: a line each. */
const TRIES = `#!/bin/sh
try() { what=$1; shift; if "$@" > /dev/null 2>&1; then echo "$what: yes"; else echo "$what: no"; fi; }
exec > /run/tries 2>&1
try "a file in /etc" touch /etc/stray
try "a file in /usr" touch /usr/stray
try "a file in /root" touch /root/stray
try "a file of the directory" touch /etc/iptables.d/.stray
try "a file in /run" touch /run/stray
try "a mount" mount -t tmpfs none /mnt
try "a PID namespace" unshare --pid --fork true
try "a network namespace" unshare --net true
try "another host name" hostname stray
try "a device" mknod /run/device c 1 3
try "a setting of the kernel" sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'
try "another owner" chown 1 /run/stray
try "iptables" iptables -w 5 -L -n
# init_module: with rights and allowed, it fails for its arguments, or because this kernel has no modules, not with EPERM (1).
try "a module" perl -e 'syscall(175, 0, 0, 0); exit($! == 1)'
# swapoff
try "swap" perl -e 'syscall(168, 0); exit($! == 1)'
readlink "/proc/$(pgrep -x dockerd)/ns/net" || echo "another's namespace: no"
`;

async function triesOf(host: Host, unit: string, when: string): Promise<string[]> {
  await host.write("/usr/local/bin/tries", TRIES, 0o755);
  await host.run("rm", ["-f", "/run/tries"]);
  await dropIn(host, unit, `${when}=/usr/local/bin/tries`);
  await host.systemctl(["restart", unit]);
  await host.run("rm", ["-r", `/etc/systemd/system/${unit}.service.d`]);
  await host.systemctl(["daemon-reload"]);
  return (await host.read("/run/tries")).trim().split("\n");
}

const DENIED = [
  "a file in /usr",
  "a file in /root",
  "a mount",
  "a PID namespace",
  "another host name",
  "a device",
  "swap",
];
const NEEDED = ["a file of the directory", "a file in /run", "a network namespace", "iptables", "a module"];

describe.each(["nft", "legacy"] as const)("iptables-%s", (backend) => {
  story("the services can do what they need, and little else", async ({ lab }) => {
    const host = await lab.host({ name: "hard", backend });
    const client = await lab.client("laptop");
    await setup(host, "--watch");
    expect(await complaintsOf(host)).toBe("");
    for (const unit of ["iptables.service", "ip6tables.service", `${WATCH}.service`]) {
      // It fails where the exposure is more than 5.0.
      const told = await host.run("systemd-analyze", ["security", "--no-pager", "--threshold=50", unit]);
      console.log(told.stdout.trim().split("\n").at(-1));
    }

    const loader = await triesOf(host, "iptables", "ExecStartPre");
    expect(loader.filter((line) => line.endsWith(": no")).sort()).toEqual(
      [...DENIED, "a file in /etc", "a setting of the kernel", "another owner", "another's namespace"]
        .map((what) => `${what}: no`)
        .sort(),
    );
    expect(loader.filter((line) => line.endsWith(": yes"))).toEqual(NEEDED.map((what) => `${what}: yes`));

    // The watcher writes what directories are in, and sees whose namespace a daemon is in.
    const watcher = await triesOf(host, WATCH, "ExecStartPre");
    expect(watcher.filter((line) => line.endsWith(": no")).sort()).toEqual(
      [...DENIED, "a setting of the kernel", "another owner"].map((what) => `${what}: no`).sort(),
    );
    expect(watcher).toEqual(expect.arrayContaining(NEEDED.map((what) => `${what}: yes`)));
    expect(watcher.at(-1)).toBe((await host.run("readlink", ["/proc/self/ns/net"])).stdout.trim());

    await host.docker.run("web", { publish: ["8080:80"] });
    expect(await expectAllWellSoon(host, client)).toEqual(["web"]);
    // Moved away and recreated, the directory is another one.
    await host.run("sh", [
      "-c",
      "cp -r /etc/iptables.d /root/d && mv /etc/iptables.d /etc/away && mv /root/d /etc/iptables.d",
    ]);
    await host.docker.run("db", { publish: ["5432:80"] });
    expect(await expectAllWellSoon(host, client)).toEqual(["db", "web"]);
    expect(await host.journal(WATCH)).not.toMatch(/warning|docker_iptables: /);
  });

  story("a broken fragment is tried, refused, and never opens the host at boot", async ({ lab }) => {
    const host = await lab.host({ name: "boot", backend });
    await setup(host);
    await host.write("/etc/iptables.d/00_policy", "*filter\n:INPUT DROP [0:0]\n-A INPUT -i lo -j ACCEPT\nCOMMIT\n");
    await host.systemctl(["reload", "iptables"]);
    await host.write("/etc/iptables.d/20_other", "*filter\n-A FORWARD -j NO_SUCH_CHAIN\nCOMMIT\n");
    const closed = "-P INPUT DROP\n-A INPUT -i lo -j ACCEPT\n";
    const expectClosed = async (words: string) => {
      await host.reboot();
      expect(await inputOf(host)).toBe(closed);
      expect((await host.systemctl(["is-failed", "iptables"], { check: false })).stdout).toBe("failed\n");
      // A boot may fail before ours runs (systemd 252: status=226/NAMESPACE, once in some hundred boots of the lab): closed as
      // well, and started again by the timer.
      await until(async () => (await host.journal("iptables")).includes(words));
    };
    // Tried in a namespace: otherwise only the kernel would find the error, without a line.
    await expectClosed("/etc/iptables.d/20_other line 2");
    expect(await host.journal("iptables")).toContain("the last good IPv4 rules were loaded instead");
    // Where what it may do is too little for any of it.
    await dropIn(host, "iptables", "CapabilityBoundingSet=");
    await expectClosed("Failed with result 'exit-code'");
    await host.run("rm", ["/etc/iptables.d/20_other"]);
    await dropIn(host, "iptables", "");
    await host.systemctl(["restart", "iptables"]);
    expect(await inputOf(host)).toBe(closed);
  });
});

story("a service that fails is started again until it succeeds, or until somebody stops it", async ({ lab }) => {
  const host = await lab.host({ name: "again" });
  const [service, timer] = ["iptables.service", "iptables-retry.timer"];
  await setup(host);
  expect(await stateOf(host, timer)).toBe("inactive");
  const broken = (): Promise<void> =>
    host.write("/etc/iptables.d/20_other", "*filter\n-A FORWARD -j NO_SUCH_CHAIN\nCOMMIT\n");
  const mended = (): Promise<void> =>
    host.write("/etc/iptables.d/20_other", "*filter\n-A INPUT -s 192.0.2.7/32 -j DROP\nCOMMIT\n");
  const states = async () => [await stateOf(host, service), await stateOf(host, timer)];

  await broken();
  await host.reboot();
  expect(await states()).toEqual(["failed", "active"]);
  expect((await host.run("systemctl", ["is-system-running"], { check: false })).stdout).toBe("degraded\n");
  await mended();
  await until(async () => (await stateOf(host, service)) === "active");
  expect(await inputOf(host)).toContain("192.0.2.7");
  expect((await host.run("systemctl", ["is-system-running"])).stdout).toBe("running\n");

  // By hand, and then stopped on purpose, failed as it is: nothing starts it.
  await broken();
  expect((await host.systemctl(["restart", service], { check: false })).exitCode).not.toBe(0);
  expect(await states()).toEqual(["failed", "active"]);
  await host.systemctl(["stop", service]);
  expect(await stateOf(host, timer)).toBe("inactive");
  expect((await host.systemctl(["start", service], { check: false })).exitCode).not.toBe(0);
  expect(await states()).toEqual(["failed", "active"]);
  await mended();
  await host.systemctl(["start", service]);
  expect(await stateOf(host, service)).toBe("active");
  await host.systemctl(["stop", service]);
  expect(await states()).toEqual(["inactive", "inactive"]);

  // One that waits keeps neither a shutdown nor a removal.
  await broken();
  await host.reboot();
  expect(await states()).toEqual(["failed", "active"]);
  await host.run("rm", ["/etc/iptables.d/20_other"]);
  await host.run("docker_iptables", ["setup", "--remove"]);
  expect(await states()).toEqual(["inactive", "inactive"]);
  expect(await host.exists(`/etc/systemd/system/${timer}`)).toBe(false);
});

/** When a unit's start began and ended in this boot. */
async function startOf(host: Host, unit: string): Promise<[began: number, ended: number]> {
  const at = async (property: string) =>
    Number((await host.systemctl(["show", `--property=${property}TimestampMonotonic`, "--value", unit])).stdout);
  return [await at("InactiveExit"), await at("ActiveEnter")];
}

/** When the first of our services began, and the last one ended, to start in this boot. */
async function ourStart(host: Host, units: string[]): Promise<{ began: number; ended: number }> {
  const ours = await Promise.all(units.map((unit) => startOf(host, unit)));
  return { began: Math.min(...ours.map(([first]) => first)), ended: Math.max(...ours.map(([, last]) => last)) };
}

async function expectNoCycle(host: Host): Promise<void> {
  expect((await host.run("journalctl", ["--boot", "--no-pager"])).stdout).not.toMatch(/ordering cycle/i);
  expect(await complaintsOf(host)).toBe("");
}

storyWith({ packages: ["iptables-persistent", "nftables"] })(
  "at a boot, what flushes rules starts before our services, and takes nothing of ours away",
  async ({ lab }) => {
    const host = await lab.host({ name: "flushed" });
    // The package's own service has the names iptables.service and ip6tables.service, too.
    await setup(host, "--iptables-service=fw4", "--ip6tables-service=fw6");
    const base = await baseRules(host);
    expect(base.length).toBeGreaterThan(5);
    await host.write("/etc/iptables/rules.v4", "*filter\n-A INPUT -s 192.0.2.7/32 -j DROP\nCOMMIT\n*nat\nCOMMIT\n");
    await host.systemctl(["enable", "netfilter-persistent", "nftables"]);
    await host.reboot();
    const { began } = await ourStart(host, ["fw4", "fw6"]);
    for (const unit of ["netfilter-persistent", "nftables"]) {
      const [, active] = await startOf(host, unit);
      expect(active, unit).toBeGreaterThan(0);
      expect(active, unit).toBeLessThanOrEqual(began);
    }
    expect(await baseRules(host)).toEqual(base);
    await expectNoCycle(host);
  },
);

storyWith({ packages: ["ufw"] })(
  "at a boot, ufw starts behind our services, and adds to their rules",
  async ({ lab }) => {
    const host = await lab.host({ name: "added" });
    await setup(host);
    const base = await baseRules(host);
    // As the package's own script does it.
    await host.run("sh", ["-c", "cp /usr/share/ufw/*.rules /usr/share/ufw/*.init /usr/share/ufw/ufw.conf /etc/ufw/"]);
    await host.run("sed", ["-i", "s/^ENABLED=.*/ENABLED=yes/", "/etc/ufw/ufw.conf"]);
    await host.systemctl(["enable", "ufw"]);
    await host.reboot();
    const { ended } = await ourStart(host, ["iptables", "ip6tables"]);
    const [began] = await startOf(host, "ufw");
    expect(began).toBeGreaterThanOrEqual(ended);
    expect(await baseRules(host)).toEqual(base);
    expect((await host.run("iptables-save")).stdout).toContain("-A INPUT -j ufw-before-input");
    await expectNoCycle(host);
  },
);

story("directories, executables and sockets may be anywhere", async ({ lab }) => {
  const host = await lab.host({ name: "elsewhere" });
  const client = await lab.client("laptop");
  await host.run("sh", [
    "-c",
    `mkdir -p "/srv/fire wall 100%" /home/admin/bin /srv/real
     mv /usr/local/bin/docker_iptables /home/admin/bin/
     ln -s /home/admin/bin/docker_iptables /usr/local/bin/
     ln -s /srv/real /etc/link
     mv /usr/bin/docker /usr/local/bin/docker
     ln -s /run/docker.sock /tmp/docker.sock`,
  ]);
  const flags = {
    iptables_dir: "/srv/fire wall 100%/iptables.d",
    ip6tables_dir: "/etc/link/v6",
    docker_host: "unix:///tmp/docker.sock",
  };
  const words = Object.entries(flags).map(([name, value]) => `--${name.replaceAll("_", "-")}=${value}`);
  await setup(host, "--watch", ...words);
  expect(await complaintsOf(host)).toBe("");
  await host.docker.run("web", { publish: ["8080:80"] });
  await until(async () => (await ourRules(host)).length > 0);
  expect(await client.connect(host.address, 8080)).toMatchObject({ reached: true, peer: client.address });
  expect(await host.list(flags.iptables_dir)).toContain("11-docker-container_web");
  expect(await host.list("/srv/real/v6")).toEqual(["10_docker"]);
  // Both services load by themselves, too.
  await host.write(`${flags.iptables_dir}/20_mine`, "*filter\n-A INPUT -s 192.0.2.7/32 -j DROP\nCOMMIT\n");
  await host.systemctl(["reload", "iptables", "ip6tables"]);
  expect(await inputOf(host)).toContain("192.0.2.7");
  expect(await ask(host, { ...flags, container: "web" })).toMatchObject({ changed: false, warnings: [] });
  expect(await host.journal(WATCH)).not.toMatch(/warning|docker_iptables: /);
});

story("another user's fragments are loaded, reported, and replaced by root's", async ({ lab }) => {
  const host = await lab.host({ name: "shared" });
  await setup(host);
  await host.docker.run("web", { publish: ["8080:80"] });
  await host.write("/etc/iptables.d/20_theirs", "*filter\n-A INPUT -s 192.0.2.7/32 -j DROP\nCOMMIT\n", 0o600);
  await host.run("chown", ["1000:1000", "/etc/iptables.d/20_theirs"]);
  await host.write("/etc/iptables.d/11-docker-container_web", "# theirs\n", 0o666);
  await host.run("chown", ["1000:1000", "/etc/iptables.d/11-docker-container_web"]);
  const { warnings } = await ask(host, { container: "web" });
  expect(warnings).toEqual([expect.stringContaining("/etc/iptables.d/20_theirs (uid 1000, mode 0600)")]);
  expect(await inputOf(host)).toContain("192.0.2.7");
  expect(await host.journal("iptables")).toContain("users other than root can change /etc/iptables.d/20_theirs");
  const { stdout } = await host.run("stat", ["--format=%a %U:%G", "/etc/iptables.d/11-docker-container_web"]);
  expect(stdout).toBe("644 root:root\n");

  // A directory of theirs, which only they may enter.
  await host.run("chown", ["1000:1000", "/etc/iptables.d"]);
  await host.run("chmod", ["700", "/etc/iptables.d"]);
  await host.run("iptables", ["-F", "INPUT"]);
  await host.systemctl(["reload", "iptables"]);
  expect(await inputOf(host)).toContain("192.0.2.7");
  const status = await host.run("docker_iptables", ["status", "--json"], { check: false });
  expect(JSON.parse(status.stdout).problems).toMatchObject([
    { kind: "fragment_untrusted", path: "/etc/iptables.d" },
    { kind: "fragment_untrusted", path: "/etc/iptables.d/20_theirs" },
  ]);
  await host.run("sh", ["-c", "chown root:root /etc/iptables.d /etc/iptables.d/20_theirs; chmod go-w /etc/iptables.d"]);
  expect((await host.run("docker_iptables", ["status"])).exitCode).toBe(0);
});
