/*
 * Ansible on a host: Debian's ansible-core, run by a user who may become root with sudo, and the built collection.
 */

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import packageJson from "../../package.json" with { type: "json" };
import { tarballName } from "../../src/ansible/collection.ts";
import { example } from "./fixtures.ts";
import type { Host } from "./host.ts";
import type { RunResult } from "./run.ts";
import { storyWith } from "./story.ts";

export const ansibleStory = storyWith({ packages: ["ansible-core", "openssh-server", "sudo"] });

/** For stories of many plays: each task is several processes, and the machine may be busy. */
export const patience = { timeout: 900_000 };

/** The module's full name. */
export const fqcn = "docker_iptables.host.docker_iptables";

const dist = new URL("../../dist/", import.meta.url);
export const collectionTree = fileURLToPath(new URL("ansible_collections/docker_iptables/host/", dist));
const home = "/home/ops";
export const plays = `${home}/play`;

/** The user who runs playbooks, or whom they log in as. `publicKey` lets its holder in over ssh, for which sshd is started. */
export async function addUser(host: Host, publicKey?: string): Promise<void> {
  // Without a password, and not locked, which sshd would refuse.
  await host.run("useradd", ["--create-home", "--shell", "/bin/sh", "--password", "*", "ops"]);
  await host.write("/etc/sudoers.d/ops", "ops ALL=(ALL) NOPASSWD: ALL\n", 0o440);
  if (publicKey === undefined) return;
  await host.write(`${home}/.ssh/authorized_keys`, publicKey);
  await host.run("chown", ["-R", "ops:", home]);
  await host.write("/etc/ssh/sshd_config", "HostKey /etc/ssh/ssh_host_ed25519_key\nSubsystem sftp internal-sftp\n");
  await host.run("useradd", ["--system", "--home-dir", "/run/sshd", "sshd"]);
  await host.run("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", "/etc/ssh/ssh_host_ed25519_key"]);
  await host.systemctl(["enable", "--now", "ssh.service"]);
}

/** A command as that user, in the directory of the plays. */
export function asUser(host: Host, words: readonly string[], env: Record<string, string> = {}): Promise<RunResult> {
  const variables = { HOME: home, ANSIBLE_HOST_KEY_CHECKING: "false", ...env };
  const settings = Object.entries(variables).map(([name, value]) => `${name}=${value}`);
  return host.run("runuser", ["-u", "ops", "--", "env", "-C", plays, ...settings, ...words], {
    check: false,
    timeoutMs: 900_000,
  });
}

/** Installs the built collection as its README says, with the examples beside; returns what ansible-galaxy printed. */
export async function installCollection(host: Host): Promise<string> {
  const tarball = tarballName(packageJson);
  await put(host, `${plays}/${tarball}`, readFileSync(new URL(tarball, dist)));
  for (const name of ["base", "confirm", "publish", "allow", "all", "unpublish", "info", "site", "inventory"]) {
    await host.write(`${plays}/${name}.yml`, example(`ansible/${name}.yml`));
  }
  // The module itself is run below a home of ES modules.
  await host.write(`${home}/package.json`, '{"type": "module"}\n');
  await host.run("chown", ["-R", "ops:", home]);
  const { stdout, stderr, exitCode } = await asUser(host, ["ansible-galaxy", "collection", "install", tarball]);
  if (exitCode !== 0) throw new Error(`ansible-galaxy did not install ${tarball}:\n${stdout}${stderr}`);
  return stdout;
}

/** The host itself as the only one of the examples' group. */
export async function inventoryOfItself(host: Host): Promise<void> {
  const variables = "ansible_connection=local ansible_node_interpreter=/usr/local/bin/node";
  await host.write(`${plays}/itself.ini`, `[docker_hosts]\nlocalhost ${variables}\n`);
}

/** The single file in the playbooks' library/. */
export async function installLibrary(host: Host): Promise<void> {
  for (const name of ["docker_iptables.cjs", "docker_iptables.yml"]) {
    await put(host, `${plays}/library/${name}`, readFileSync(`${collectionTree}plugins/modules/${name}`));
  }
}

export async function put(host: Host, path: string, content: Buffer): Promise<void> {
  await host.run("mkdir", ["-p", path.replace(/\/[^/]*$/, "")]);
  await host.run("dd", ["status=none", `of=${path}`], { input: content });
}

export interface TaskResult {
  changed: boolean;
  msg: string;
  diff?: { after: string }[];
  invocation?: { module_args: Record<string, unknown> };
}

/**
 * Runs playbooks of `plays` in one go, or the text of one; `results` are those of their tasks, in order. At this verbosity
 * the plainest of the core's own callbacks prints the whole result, invocation and diff included.
 */
export async function play(
  host: Host,
  playbooks: string | readonly string[],
  args: readonly string[] = [],
  env: Record<string, string> = {},
) {
  if (typeof playbooks === "string") await host.write(`${plays}/story.yml`, playbooks);
  const files = typeof playbooks === "string" ? ["story.yml"] : playbooks;
  const command = ["ansible-playbook", "-vvv", "-i", "itself.ini", ...args, ...files];
  const ran = await asUser(host, command, { ANSIBLE_STDOUT_CALLBACK: "minimal", ...env });
  const found = [...ran.stdout.matchAll(/^localhost \| \w+!? => (\{\n[\s\S]*?\n\})$/gm)];
  if (found.length === 0) throw new Error(`ansible-playbook told no result:\n${ran.stdout}${ran.stderr}`);
  return { ...ran, results: found.map(([, text = ""]): TaskResult => JSON.parse(text)) };
}
