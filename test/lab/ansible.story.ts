/*
 * The executable as an Ansible module: Debian's ansible-core runs the example playbook on a host.
 */

import { expect } from "vitest";
import { example, hostByHand, ourRules } from "./fixtures.ts";
import type { Host } from "./host.ts";
import { storyWith } from "./story.ts";

const story = storyWith({ packages: ["ansible-core"] });

interface TaskResult {
  changed: boolean;
  msg: string;
  diff?: { after: string }[];
  invocation: { module_args: Record<string, unknown> };
}

/** At this verbosity the plainest of the core's own callbacks prints the whole result, invocation and diff included. */
async function play(host: Host, ...args: string[]): Promise<{ exitCode: number | undefined; result: TaskResult }> {
  const command = ["-vvv", "-i", "localhost,", "-c", "local", ...args, "/root/play/publish.yml"];
  const env = { ANSIBLE_STDOUT_CALLBACK: "minimal" };
  const { stdout, stderr, exitCode } = await host.run("ansible-playbook", command, { env, check: false });
  const [, result] = /^localhost \| \w+!? => (\{\n[\s\S]*?\n\})$/m.exec(stdout) ?? [];
  if (result === undefined) throw new Error(`ansible-playbook told no result:\n${stdout}${stderr}`);
  return { exitCode, result: JSON.parse(result) };
}

story("check, apply, check again, apply again; with diff, and below a home of ES modules", async ({ lab }) => {
  const host = await hostByHand(lab, { name: "web1" });
  await host.write("/root/play/publish.yml", example("ansible/publish.yml"));
  await host.run("mkdir", ["/root/play/library"]);
  await host.run("cp", ["/usr/local/bin/docker_iptables", "/root/play/library/docker_iptables"]);
  await host.write("/root/package.json", '{"type": "module"}\n');
  await host.docker.run("web", { publish: ["8080:80"] });

  const foretold = await play(host, "--check", "--diff");
  expect(foretold.result).toMatchObject({ changed: true, msg: "would be published: web" });
  expect(foretold.result.diff?.[0]?.after).toContain("--dport 8080");
  expect(await ourRules(host)).toEqual([]);

  const done = await play(host);
  expect(done.result).toMatchObject({ changed: true, invocation: { module_args: { container: ["web"] } } });
  expect(done.result.diff ?? []).toEqual([]);
  expect(await ourRules(host)).toHaveLength(3);
  expect((await play(host, "--check")).result.changed).toBe(false);
  expect((await play(host)).result.changed).toBe(false);

  await host.write("/root/play/publish.yml", example("ansible/publish.yml").replace("present", "gone"));
  const wrong = await play(host);
  expect(wrong.result).toMatchObject({ msg: "value of state must be one of: present, absent, got: gone" });
  expect(wrong.exitCode).toBe(2);
});
