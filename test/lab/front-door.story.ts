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

/** Runs lines in the folder of a built clone; returns what each printed. */
async function follow(host: Host, lines: readonly string[]): Promise<string[]> {
  const printed: string[] = [];
  for (const line of lines) {
    const { exitCode, stdout, stderr } = await host.run("sh", ["-c", `cd /root && ${line}`], { check: false });
    // Two warnings that the README speaks of.
    const unexpected = stderr.replaceAll(
      /^warning: (IPv[46] FORWARD has the policy DROP|docker-proxy answers).*\n/gm,
      "",
    );
    expect([line, exitCode, unexpected]).toEqual([line, 0, ""]);
    printed.push(stdout);
  }
  return printed;
}

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
  await follow(host, quickStart.slice(0, 4));
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
});

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

story("the doors table: what --reload none has written, a setup loads", async ({ lab }) => {
  const host = await lab.host({ name: "web1" });
  await follow(host, ["docker_iptables setup --reload none"]);
  expect(await host.list("/etc/iptables.d")).toEqual(["10_docker", "90_docker"]);
  expect(await baseRules(host)).toEqual([]);
  await follow(host, ["docker_iptables setup"]);
  expect(await baseRules(host)).not.toEqual([]);
  await follow(host, ["systemctl is-enabled iptables", "docker_iptables status"]);
});

/** The block of a page without a language that begins so. */
function printedIn(page: string, first: string): string {
  const text = readFileSync(new URL(`../../${page}`, import.meta.url), "utf8");
  return new RegExp(`\`\`\`\n(${first}[^]*?)\`\`\``).exec(text)?.[1] ?? `${page} shows nothing that begins so`;
}
