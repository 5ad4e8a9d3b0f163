/*
 * What stories start from: a host that its user set up by hand, with the files of examples/ unchanged.
 */

import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { Result } from "../../src/generated/result.ts";
import type { Host, HostOptions } from "./host.ts";
import { serverImage } from "./image.ts";
import type { Lab } from "./lab.ts";
import { chosenSuite } from "./suites.ts";

/** One file of examples/, e.g. "systemd/iptables.service". */
export function example(path: string): string {
  return readFileSync(new URL(`../../examples/${path}`, import.meta.url), "utf8");
}

/** The files of a host that is set up by hand: the host rules and the services that load them, from examples/. */
export function filesByHand(): Record<string, string> {
  return {
    "/etc/iptables.d/10_docker": example("iptables.d/10_docker"),
    "/etc/iptables.d/90_docker": example("iptables.d/90_docker"),
    "/etc/ip6tables.d/10_docker": example("ip6tables.d/10_docker"),
    "/etc/ip6tables.d/90_docker": example("ip6tables.d/90_docker"),
    "/etc/systemd/system/iptables.service": example("systemd/iptables.service"),
    "/etc/systemd/system/ip6tables.service": example("systemd/ip6tables.service"),
    "/etc/systemd/system/iptables-retry.timer": example("systemd/iptables-retry.timer"),
    "/etc/systemd/system/ip6tables-retry.timer": example("systemd/ip6tables-retry.timer"),
  };
}

/** Boots a host that was set up by hand, its rules loaded, and FORWARD's policy DROP in the kernel. */
export async function hostByHand(lab: Lab, options: HostOptions): Promise<Host> {
  const host = await lab.host({ ...options, files: { ...filesByHand(), ...options.files } });
  for (const command of ["iptables", "ip6tables"]) await host.run(command, ["-P", "FORWARD", "DROP"]);
  await host.systemctl(["enable", "--now", "iptables.service", "ip6tables.service"]);
  return host;
}

/** The answer of the executable to JSON on stdin, on a host. */
export async function ask(host: Host, args: Record<string, unknown>): Promise<Result> {
  const { stdout, stderr } = await host.run("docker_iptables", [], {
    input: JSON.stringify(args),
    check: false,
  });
  if (stderr !== "") throw new Error(`docker_iptables wrote to stderr: ${stderr}`);
  return JSON.parse(stdout);
}

/** Gives the lab's image the name that the original's unit runs. */
export async function tagOriginalImage(host: Host): Promise<void> {
  await host.docker.cli("tag", serverImage, "quay.io/getpantheon/hello-world:master");
}

/** The containers' rules in a host's kernel, IPv4. */
export async function ourRules(host: Host): Promise<string[]> {
  const { stdout } = await host.run("iptables-save");
  return stdout.split("\n").filter((line) => /docker_iptables: [^(]/.test(line));
}

/** The host rules in a host's kernel, IPv4 by default. */
export async function baseRules(host: Host, command = "iptables-save"): Promise<string[]> {
  const { stdout } = await host.run(command);
  return stdout.split("\n").filter((line) => line.includes('"docker_iptables: ('));
}

/** Waits until something holds; what never comes is given up after ten minutes. */
export async function until(holds: () => Promise<boolean>): Promise<void> {
  const end = Date.now() + 600_000;
  // To ask costs a machine's time, too: what is long in coming is asked for less often.
  for (let pause = 100; !(await holds()); pause = Math.min(pause * 1.1, 1000)) {
    if (Date.now() > end) throw new Error(`within ten minutes it did not become true that ${holds}`);
    await sleep(pause);
  }
}

/** What the scripts of the packages polkitd and firewalld do. */
export const FIREWALLD = `echo 'polkitd:x:991:991::/nonexistent:/usr/sbin/nologin' >>/etc/passwd
echo 'polkitd:x:991:' >>/etc/group
cd /usr/share/polkit-1/actions
ln -s org.fedoraproject.FirewallD1.server.policy.choice org.fedoraproject.FirewallD1.policy
systemctl start dbus.socket
systemctl start firewalld
# From 2.5 on its unit is started before it has any rule.
until firewall-cmd --state; do sleep 0.1; done
`;

/** Why this host can have none. */
export const lackingFirewalld =
  chosenSuite() === undefined ? "firewalld needs what its packages' scripts set up, which a release has" : undefined;
