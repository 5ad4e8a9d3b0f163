/*
 * What somebody who knows Docker, and not this program, does: the README line by line, as it stands there, on a host that is not set
 * up; then the blocks of docs/setup.md, docs/doors.md and docs/confirm.md.
 */

import { readFileSync } from "node:fs";
import { expect } from "vitest";
import { commandsOf } from "../shown-commands.ts";
import { baseRules, until } from "./fixtures.ts";
import type { Host } from "./host.ts";
import { serverImage } from "./image.ts";
import { story } from "./story.ts";

const type = (host: Host, line: string) => host.run("sh", ["-c", `cd /root && ${line}`], { check: false });

/** Two warnings that the README speaks of. */
const POLICY = /^warning: IPv[46] FORWARD has the policy DROP, .* stays until the next boot .*\n/gm;
const PROXY = /^warning: docker-proxy answers.*\n/gm;

/** Runs lines in the folder of a built clone; returns what each printed. */
async function follow(host: Host, lines: readonly string[]): Promise<string[]> {
  const printed: string[] = [];
  for (const line of lines) {
    const { exitCode, stdout, stderr } = await type(host, line);
    expect([line, exitCode, stderr.replaceAll(POLICY, "").replaceAll(PROXY, "")]).toEqual([line, 0, ""]);
    printed.push(stdout);
  }
  return printed;
}

/** What Docker's own rules have. */
const DOCKERS = /^:?(-A )?DOCKER(-ISOLATION\S*|-FORWARD|-BRIDGE|-CT|-INTERNAL)? /m;

/** A host as a new user has it: the clone is built, the image is there, and the daemon makes its own rules. */
const BARE = { name: "web1", docker: { settings: { iptables: true, ip6tables: true } } };

async function prepare(host: Host): Promise<void> {
  await host.run("sh", ["-c", "mkdir /root/dist && mv /usr/local/bin/docker_iptables /root/dist/"]);
  await host.docker.loadImage();
  await host.docker.cli("tag", serverImage, "nginx");
}

story("the README: a published container, a second network that is allowed, a red status cured", async ({ lab }) => {
  const host = await lab.host(BARE);
  await prepare(host);
  const [office, branch, stranger] = await Promise.all(
    ["office", "branch", "stranger"].map((name) => lab.client(name)),
  );
  if (!(office && branch && stranger)) throw new Error("three clients are needed");
  const networks = [
    [office, "10.1.2.3"],
    [branch, "192.168.7.8"],
  ] as const;
  for (const [client, address] of networks) {
    await client.run("ip", ["address", "add", `${address}/32`, "dev", "eth0"]);
    await client.run("ip", ["route", "replace", `${host.address}/32`, "dev", "eth0", "src", address]);
    await host.run("ip", ["route", "add", `${address}/32`, "via", client.address]);
  }
  const reached = async () =>
    (await Promise.all([office, branch, stranger].map((client) => client.connect(host.address, 8080)))).map(
      (one) => one.reached,
    );

  const quickStart = commandsOf("README.md", "quick start");
  expect(quickStart).toHaveLength(6);
  const [install = "", daemon = "", setup = "", run = ""] = quickStart;
  await follow(host, [install, daemon]);
  const rule = ["INPUT", "-s", "192.0.2.7", "-j", "DROP"];
  await host.run("iptables", ["-A", ...rule]);
  const stopped = await type(host, setup);
  expect(stopped.exitCode).toBe(1);
  expect(stopped.stderr).toMatch(/INPUT -s 192\.0\.2\.7.*--adopt.*--replace.*--reload patch/s);
  expect(await baseRules(host)).toEqual([]);
  await host.run("iptables", ["-D", ...rule]);
  const policy = async () => (await host.run("iptables", ["-S", "FORWARD"])).stdout.split("\n")[0];
  expect((await host.run("iptables-save")).stdout).toMatch(DOCKERS);
  const set = await type(host, setup);
  expect([set.exitCode, set.stderr.replaceAll(POLICY, "")]).toEqual([0, ""]);
  expect(set.stderr).toMatch(POLICY);
  expect((await host.run("iptables-save")).stdout).not.toMatch(DOCKERS);
  expect(await policy()).toBe("-P FORWARD DROP");
  await follow(host, [run]);
  // As somebody who types: not before the watcher is done.
  const [, , , , ls = "", explain = ""] = quickStart;
  await until(async () => (await follow(host, [ls]))[0] === printedIn("README.md", "PUBLISHED"));
  expect((await follow(host, [explain]))[0]).toMatch(/another machine .* reaches it/);
  expect(await office.connect(host.address, 8080)).toMatchObject({ reached: true, peer: "10.1.2.3" });
  expect(await reached()).toEqual([true, true, true]);

  const [one = "", two = ""] = commandsOf("README.md", "second network");
  await follow(host, [one]);
  expect(await reached()).toEqual([true, false, false]);
  await follow(host, [two]);
  expect(await reached()).toEqual([true, true, false]);

  const [stop = "", status = ""] = commandsOf("README.md", "red");
  const [cure = ""] = commandsOf("README.md", "cure");
  await follow(host, [status, stop]);
  const red = await host.run("sh", ["-c", status], { check: false });
  expect(red.exitCode).toBe(3);
  expect(red.stdout).toMatch(/^watcher_down: /m);
  expect(red.stdout).toMatch(/^rules_missing: /m);
  expect(red.stdout).toContain(cure);
  await follow(host, [cure]);
  await until(async () => (await host.run("sh", ["-c", status], { check: false })).exitCode === 0);
  expect(await reached()).toEqual([true, true, false]);

  await host.reboot();
  expect(await policy()).toBe("-P FORWARD ACCEPT");
  expect(await baseRules(host)).not.toEqual([]);
});

story(
  "until a starting container's rules are made, and once they are deleted, docker-proxy answers everybody",
  async ({ lab }) => {
    const host = await lab.host({ name: "web1" });
    const stranger = await lab.client("stranger");
    await follow(host, ["docker_iptables setup"]);
    const isReached = async () => (await stranger.connect(host.address, 8080)).reached;
    await host.docker.run("web", {
      publish: ["8080:80"],
      options: ["--label", "docker_iptables.allow.8080/tcp=10.0.0.0/8"],
    });
    expect(await isReached()).toBe(true);
    await follow(host, ["docker_iptables sync"]);
    expect(await isReached()).toBe(false);
    const { exitCode, stderr } = await type(host, "docker_iptables status");
    expect([exitCode, stderr]).toEqual([
      0,
      expect.stringMatching(/^warning: docker-proxy answers everybody .*\(web\)/),
    ]);
    expect(stderr).toContain('"userland-proxy": false in daemon.json closes that');
    await follow(host, ["docker_iptables delete web"]);
    expect(await isReached()).toBe(true);
    await follow(host, ["docker_iptables create web --allow '*='"]);
    expect(await isReached()).toBe(false);

    const daemon = JSON.parse(await host.read("/etc/docker/daemon.json"));
    await host.write("/etc/docker/daemon.json", JSON.stringify({ ...daemon, "userland-proxy": false }));
    await host.systemctl(["restart", "docker"]);
    await host.docker.cli("start", "web");
    await follow(host, ["docker_iptables setup", "docker_iptables delete web"]);
    expect(await isReached()).toBe(false);
    expect((await type(host, "docker_iptables status")).stderr).not.toMatch(/docker-proxy answers/);
  },
);

story("docs/setup.md, docs/doors.md, docs/confirm.md: their blocks", async ({ lab }) => {
  const host = await lab.host(BARE);
  const client = await lab.client("laptop");
  const [daemon = "", setup = ""] = commandsOf("docs/setup.md", "once");
  await follow(host, [daemon]);
  expect(await follow(host, [setup])).toEqual([printedIn("docs/setup.md", "the host rules are set up")]);
  await host.write("/etc/iptables.d/50_own", "*filter\n-A INPUT -s 192.0.2.7/32 -j DROP\nCOMMIT\n");
  await follow(host, ["docker_iptables load --confirm 600", ...commandsOf("docs/confirm.md", "confirm")]);

  await host.docker.run("web", { publish: ["8080:80"] });
  const [create = "", remove = "", ...others] = commandsOf("docs/doors.md", "shell");
  await follow(host, [create, create.replace(" --check --diff", "")]);
  expect(await client.connect(host.address, 8080)).toMatchObject({ reached: true, peer: client.address });
  await follow(host, [remove, "mkdir -p /etc/bash_completion.d", ...others]);
  await follow(host, commandsOf("docs/doors.md", "watch"));
  await until(async () => {
    const result = await client.connect(host.address, 8080);
    return result.reached && result.peer === client.address;
  });
});

story(
  "the doors table, docs/settings.md: what --reload none has written, a setup loads, and from then on each boot",
  async ({ lab }) => {
    const host = await lab.host({ name: "web1" });
    await follow(host, ["docker_iptables setup --reload none"]);
    expect(await host.list("/etc/iptables.d")).toEqual(["10_docker", "90_docker"]);
    await host.reboot();
    expect(await baseRules(host)).toEqual([]);
    await follow(host, ["docker_iptables setup"]);
    expect(await baseRules(host)).not.toEqual([]);
    await follow(host, ["systemctl is-enabled iptables", "docker_iptables status"]);
    await host.reboot();
    expect(await baseRules(host)).not.toEqual([]);
  },
);

story("docs/setup.md: without services a boot loads nothing, but for the watcher", async ({ lab }) => {
  const setups = [
    ["restore", "", false],
    ["restore", " --watch", true],
    ["patch", " --watch", true],
    ["none", " --watch", false],
  ] as const;
  for (const [reload, watch, loads] of setups) {
    const host = await lab.host({ name: `${reload}${watch.replace(" -", "")}` });
    await follow(host, [`docker_iptables setup --reload ${reload}${watch}`]);
    await host.reboot();
    if (watch !== "")
      await until(async () => (await host.systemctl(["status", "docker_iptables-watch"])).stdout.includes("following"));
    expect([reload, watch, (await baseRules(host)).length > 0]).toEqual([reload, watch, loads]);
    await host.shutdown();
  }
});

/** The block of a page without a language that begins so. */
function printedIn(page: string, first: string): string {
  const text = readFileSync(new URL(`../../${page}`, import.meta.url), "utf8");
  return new RegExp(`\`\`\`\n(${first}[^]*?)\`\`\``).exec(text)?.[1] ?? `${page} shows nothing that begins so`;
}
