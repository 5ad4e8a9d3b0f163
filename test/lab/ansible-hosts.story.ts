/*
 * Many hosts: one playbook, by ssh and sudo, rolling over the eight of the example's inventory. One is down, and one's
 * daemon is.
 */

import { expect } from "vitest";
import { addUser, asUser, fqcn, installCollection, patience, ansibleStory as story } from "./ansible.ts";
import { example, ourRules, until } from "./fixtures.ts";
import type { Host } from "./host.ts";
import { problemsOf } from "./host-state.ts";

interface Recap {
  ok: number;
  changed: number;
  unreachable: number;
  failed: number;
}

/** The report's last lines, by host. */
function recapOf(stdout: string): Record<string, Recap> {
  const lines = stdout.matchAll(/^(\w+) +: (ok=.*)$/gm);
  return Object.fromEntries(
    [...lines].map(([, name = "", counts = ""]) => {
      const pairs = [...counts.matchAll(/(\w+)=(\d+)/g)].map(([, what = "", count]) => [what, Number(count)]);
      return [name, Object.fromEntries(pairs)];
    }),
  );
}

story("eight hosts, three at a time; one is down, one's daemon is: the others go on", patience, async ({ lab }) => {
  const names = ["web1", "web2", "web3", "web4", "web5", "web6", "web7", "web8"];
  const hosts = await Promise.all(names.map((name) => lab.host({ name })));
  const control = await lab.host({ name: "control", docker: { atBoot: false } });
  const client = await lab.client("laptop");
  await addUser(control);
  await installCollection(control);
  await asUser(control, ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/home/ops/.ssh/id_ed25519"]);
  const key = await control.read("/home/ops/.ssh/id_ed25519.pub");
  await Promise.all(
    hosts.map(async (host) => {
      await addUser(host, key);
      await host.docker.run("web", { publish: ["8080:80"], options: ["--restart", "always"] });
      await host.run("rm", ["/usr/local/bin/docker_iptables"]);
    }),
  );
  const site = async (...args: string[]) => {
    const ran = await asUser(control, ["ansible-playbook", "-i", "inventory.yml", ...args, "site.yml"], {
      ANSIBLE_PIPELINING: "true",
      ANSIBLE_TIMEOUT: "60",
    });
    return { ...ran, recap: recapOf(ran.stdout) };
  };
  const [web1, web2, , , web5] = hosts as [Host, Host, Host, Host, Host];
  const good = names.filter((name) => name !== "web2" && name !== "web5");
  await web2.powerCut();
  await web5.systemctl(["stop", "docker.socket", "docker.service"]);

  const first = await site();
  expect(first.recap).toMatchObject({
    ...Object.fromEntries(good.map((name) => [name, { changed: 2, unreachable: 0, failed: 0 }])),
    web2: { changed: 0, unreachable: 1, failed: 0 },
    web5: { changed: 1, unreachable: 0, failed: 1 },
  });
  expect(first.exitCode).not.toBe(0);
  expect(first.stdout).toMatch(/^fatal: \[web2\]: UNREACHABLE! .*No route to host/m);
  expect(first.stdout).toMatch(/^fatal: \[web5\]: FAILED! .*"code": "daemon_unreachable".*"msg": "[^"]*daemon/m);
  for (const host of hosts.filter(({ name }) => good.includes(name))) {
    expect(await client.connect(host.address, 8080)).toMatchObject({ server: "web", peer: client.address });
  }

  const second = await site();
  expect(second.recap).toMatchObject(Object.fromEntries(good.map((name) => [name, { changed: 0, failed: 0 }])));

  await web2.boot();
  await web5.systemctl(["start", "docker.service"]);
  const third = await site("--limit", "web1,web2,web5");
  expect([third.exitCode, third.recap]).toMatchObject([
    0,
    { web1: { changed: 0 }, web2: { changed: 2 }, web5: { changed: 1 } },
  ]);
  expect(await client.connect(web2.address, 8080)).toMatchObject({ server: "web", peer: client.address });

  await overSsh(control);
  expect(await ourRules(web1)).toEqual([]);
  await lockOut(control, web1);
});

/** Rules that let in no new connection of Ansible's are put back, and those that do stay. */
async function lockOut(control: Host, web1: Host): Promise<void> {
  const playbook = example("ansible/confirm.yml").replace("confirm: 60", "confirm: 15\n        guards: false");
  await control.write("/home/ops/play/lockout.yml", playbook);
  const words = ["ansible-playbook", "-i", "inventory.yml", "--limit", "web1", "lockout.yml"];
  const waits = () => web1.exists("/var/lib/docker_iptables/ipv4.unconfirmed");
  const closed =
    "*filter\n-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT\n-A INPUT -p tcp -m tcp --dport 22 -j DROP\nCOMMIT\n";
  await web1.write("/etc/iptables.d/50_own", closed);
  expect(await web1.exists("/etc/docker_iptables.json")).toBe(false);

  const locked = await asUser(control, words, { ANSIBLE_TIMEOUT: "5" });
  expect(locked.stdout).toMatch(/^fatal: \[web1\]: UNREACHABLE!/m);
  await until(
    async () =>
      (await asUser(control, ["ansible", "-i", "inventory.yml", "-m", "raw", "-a", "true", "web1"])).exitCode === 0,
  );
  expect(await web1.exists("/etc/docker_iptables.json")).toBe(false);
  expect(await problemsOf(web1)).toContain("unconfirmed");

  await web1.run("rm", ["/etc/iptables.d/50_own"]);
  const { exitCode, stdout } = await asUser(control, words);
  expect([exitCode, exitCode === 0 ? "" : stdout]).toEqual([0, ""]);
  expect(await waits()).toBe(false);
  expect(JSON.parse(await web1.read("/etc/docker_iptables.json"))).toMatchObject({ guards: false });
}

/** One host does it for another, in the background, and without pipelining. */
async function overSsh(control: Host): Promise<void> {
  const playbook = `
- hosts: web3
  become: true
  gather_facts: false
  tasks:
    - ${fqcn}: {container: web, state: absent}
      delegate_to: web1
      async: 60
      poll: 1
      register: gone
    - ansible.builtin.assert:
        that:
          - gone is changed
          - "gone.msg == 'unpublished: web'"
`;
  await control.write("/home/ops/play/ssh.yml", playbook);
  const words = ["ansible-playbook", "-i", "inventory.yml", "ssh.yml"];
  const { stdout, stderr, exitCode } = await asUser(control, words);
  expect([exitCode, exitCode === 0 ? "" : stdout + stderr]).toEqual([0, ""]);
}
