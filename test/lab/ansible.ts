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

const PACKAGES = ["ansible-core", "openssh-server", "sudo"];
export const ansibleStory = storyWith({ packages: PACKAGES });
export const ansibleNftStory = storyWith({ packages: [...PACKAGES, "nftables"] });

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

/** Nothing that Ansible has to say is hidden; the last is of 2.19 and later, which else does not say it. */
const TALKATIVE = {
  ANSIBLE_DEPRECATION_WARNINGS: "true",
  ANSIBLE_SYSTEM_WARNINGS: "true",
  ANSIBLE_ACTION_WARNINGS: "true",
  _ANSIBLE_TEMPLAR_UNTRUSTED_TEMPLATE_BEHAVIOR: "warning",
};

/** The warnings that may appear in any run: they are not about the collection. */
const KNOWN_WARNINGS: readonly [says: RegExp, why: string][] = [
  [
    /^\[WARNING\]: Host '\S+' is using the discovered Python interpreter at '\S+', but future installation of another/,
    "2.19 and later, once for each host whose inventory has no ansible_python_interpreter; said by Ansible's own modules",
  ],
  [
    /^\[WARNING\]: Platform linux on host \S+ is using the discovered Python interpreter at \S+, but future installation/,
    "the same of earlier versions",
  ],
  [
    /^\[WARNING\]: Collection at '\S+\/ansible\/_internal\/\S+' does not have a MANIFEST\.json file/,
    "ansible-doc of 2.22, of a collection inside ansible-core itself",
  ],
  [
    /^\[WARNING\]: Reset is not implemented for this connection/,
    "2.14, of the tasks' reset_connection, which is for ssh, where these stories have a host configure itself",
  ],
];

/** A command as that user, in the directory of the plays. Of Ansible's own ones each warning must be known or expected. */
export async function asUser(
  host: Host,
  words: readonly string[],
  env: Record<string, string> = {},
  expected: readonly RegExp[] = [],
): Promise<RunResult> {
  const variables = { HOME: home, ANSIBLE_HOST_KEY_CHECKING: "false", ...TALKATIVE, ...env };
  const settings = Object.entries(variables).map(([name, value]) => `${name}=${value}`);
  const ran = await host.run("runuser", ["-u", "ops", "--", "env", "-C", plays, ...settings, ...words], {
    check: false,
    timeoutMs: 900_000,
  });
  if (/^ansible(?!-(?:lint|test)$)/.test(words[0] ?? "")) checkWarnings(words.join(" "), ran, expected);
  return ran;
}

/** Throws where a run warned of what is neither known nor expected, or did not warn of what is. */
function checkWarnings(command: string, { stdout, stderr }: RunResult, expected: readonly RegExp[]): void {
  const warnings = warningsOf(stdout + stderr);
  const allowed = [...KNOWN_WARNINGS.map(([says]) => says), ...expected];
  const ours = warnings.filter((warning) => !allowed.some((says) => says.test(warning)));
  if (ours.length > 0) throw new Error(`${command} warned ${ours.length} times:\n${ours.join("\n")}`);
  const missing = expected.filter((says) => !warnings.some((warning) => says.test(warning)));
  if (missing.length > 0) throw new Error(`${command} did not warn of ${missing.join(", ")}:\n${stdout}${stderr}`);
}

/**
 * Each `[WARNING]` and `[DEPRECATION WARNING]`, with what follows it on one line: up to 2.18 Ansible breaks them at column 79,
 * and later it adds the place in the play.
 */
function warningsOf(output: string): string[] {
  return output
    .split(/(?=\[(?:DEPRECATION )?WARNING\])/)
    .filter((part) => /^\[(?:DEPRECATION )?WARNING\]/.test(part))
    .map((part) => part.slice(0, 400).replace(/\s+/g, " "));
}

/** Installs the built collection as its README says, with the examples beside; returns what ansible-galaxy printed. */
export async function installCollection(host: Host): Promise<string> {
  const tarball = tarballName(packageJson);
  await put(host, `${plays}/${tarball}`, readFileSync(new URL(tarball, dist)));
  for (const name of ["base", "confirm", "publish", "allow", "all", "unpublish", "info", "site"]) {
    await host.write(`${plays}/${name}.yml`, example(`ansible/${name}.yml`));
  }
  const inventory = example("ansible/inventory.yml").replace("/usr/local/bin/node", await nodeOf(host));
  await host.write(`${plays}/inventory.yml`, inventory);
  // The module itself is run below a home of ES modules.
  await host.write(`${home}/package.json`, '{"type": "module"}\n');
  await host.run("chown", ["-R", "ops:", home]);
  const { stdout, stderr, exitCode } = await asUser(host, ["ansible-galaxy", "collection", "install", tarball]);
  if (exitCode !== 0) throw new Error(`ansible-galaxy did not install ${tarball}:\n${stdout}${stderr}`);
  return stdout;
}

/** Where a host has Node.js: a release its own package, the machine's own files a copy in /usr/local. */
export async function nodeOf(host: Host): Promise<string> {
  return (await host.run("sh", ["-c", "command -v node"])).stdout.trim();
}

/** The host itself as the only one of the examples' group. */
export async function inventoryOfItself(host: Host): Promise<void> {
  const node = await nodeOf(host);
  // As on a user's machine: nothing is said of Node.js where it is at its usual place.
  const interpreter = node === "/usr/bin/node" ? "" : ` ansible_node_interpreter=${node}`;
  await host.write(`${plays}/itself.ini`, `[docker_hosts]\nlocalhost ansible_connection=local${interpreter}\n`);
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

/** The plainest of the core's own callbacks; and the arguments, which 2.21 and later show on demand only. */
const SHOWN = { ANSIBLE_STDOUT_CALLBACK: "minimal", ANSIBLE_INJECT_INVOCATION: "true" };

/**
 * Runs playbooks of `plays` in one go, or the text of one; `results` are those of their tasks, in order. At this verbosity
 * the plainest of the core's own callbacks prints the whole result, invocation and diff included.
 */
export async function play(
  host: Host,
  playbooks: string | readonly string[],
  args: readonly string[] = [],
  env: Record<string, string> = {},
  expected: readonly RegExp[] = [],
) {
  if (typeof playbooks === "string") await host.write(`${plays}/story.yml`, playbooks);
  const files = typeof playbooks === "string" ? ["story.yml"] : playbooks;
  const command = ["ansible-playbook", "-vvv", "-i", "itself.ini", ...args, ...files];
  const ran = await asUser(host, command, { ...SHOWN, ...env }, expected);
  const found = [...ran.stdout.matchAll(/^localhost \| \w+!? => (\{\n[\s\S]*?\n\})$/gm)];
  if (found.length === 0) throw new Error(`ansible-playbook told no result:\n${ran.stdout}${ran.stderr}`);
  return { ...ran, results: found.map(([, text = ""]): TaskResult => JSON.parse(text)) };
}
