/*
 * A fragment is broken, so nothing can be loaded; a container dies, and the next one gets its address. That one is not reached by
 * the dead one's port: with a service and without, after delete, sync, and with the watcher.
 */

import { expect } from "vitest";
import type { Client } from "./client.ts";
import { ask, ourRules, until } from "./fixtures.ts";
import type { Host } from "./host.ts";
import { statusOf } from "./host-state.ts";
import type { Lab } from "./lab.ts";
import { story } from "./story.ts";

const BAD = "/etc/iptables.d/20_bad";
const NAMED = `${BAD} line 2: iptables refuses '-A FORWARD -j NOPE'`;
const REFUSED = { reached: false, why: "refused" };

/** web is published, with a rule of the host's own, a fragment is broken, and private has web's address since web is dead. */
async function hostWithDeadPort(lab: Lab, name: string, ...flags: string[]): Promise<{ host: Host; client: Client }> {
  const own = "*filter\n-A FORWARD -s 192.0.2.99/32 -j DROP\nCOMMIT\n";
  const host = await lab.host({ name, files: { "/etc/iptables.d/05_own": own } });
  const client = await lab.client(`${name}-laptop`);
  await host.run("docker_iptables", ["setup", ...flags]);
  await host.docker.run("web", { publish: ["8080:80"] });
  if (!flags.includes("--watch")) await host.run("docker_iptables", ["create", "web"]);
  await until(async () => (await ourRules(host)).some((rule) => rule.includes("DNAT")));
  const address = await host.docker.address("web");
  await host.write(BAD, "*filter\n-A FORWARD -j NOPE\nCOMMIT\n");
  await host.docker.cli("rm", "--force", "web");
  await host.docker.run("private");
  expect(await host.docker.address("private")).toBe(address);
  return { host, client };
}

const strangers = async (host: Host) =>
  (await host.run("iptables-save")).stdout
    .split("\n")
    .filter((line) => /^-A/.test(line) && !line.includes("docker_ip"));

for (const reload of ["systemd", "restore"]) {
  story(`a broken fragment keeps no dead port open (reload: ${reload})`, async ({ lab }) => {
    const { host, client } = await hostWithDeadPort(lab, reload);
    // So the danger is real.
    expect(await client.connect(host.address, 8080)).toMatchObject({ reached: true, server: "private" });

    const { problems = [] } = await statusOf(host);
    expect(problems[0]).toMatchObject({ kind: "fragment_invalid", path: BAD, line: 2, rule: "-A FORWARD -j NOPE" });
    expect(problems[0]?.hint).toBe(`'sed -n 2p ${BAD}' shows the line`);
    const gone = problems.find(({ kind }) => kind === "container_gone");
    expect(gone?.hint).toMatch(/^'docker_iptables delete web.*' removes it, 'docker_iptables sync/);

    const before = await strangers(host);
    const deleted = await ask(host, { container: "web", state: "absent", reload });
    expect(deleted, deleted.msg).toMatchObject({
      changed: true,
      msg: "unpublished: web",
      reloaded: ["iptables-restore"],
    });
    expect(deleted.warnings.join()).toContain(NAMED);
    expect(await client.connect(host.address, 8080)).toEqual(REFUSED);
    expect(await strangers(host)).toEqual(before);

    // The same by sync, which cannot publish what was started: it fails, and has removed the rules of what stopped.
    await host.run("rm", [BAD]);
    await host.docker.cli("rm", "--force", "private");
    await host.docker.run("web", { publish: ["8080:80"] });
    await ask(host, { container: "web", reload });
    await host.write(BAD, "*filter\n-A FORWARD -j NOPE\nCOMMIT\n");
    await host.docker.cli("rm", "--force", "web");
    await host.docker.run("private");
    await host.docker.run("api", { publish: ["9090:80"] });
    const failed = await ask(host, { all: true, reload });
    expect(failed).toMatchObject({ failed: true, changed: true });
    expect(failed.msg).toContain(NAMED);
    expect(failed.msg).toMatch(/; unpublished anyway: web$/);
    expect(await client.connect(host.address, 8080)).toEqual(REFUSED);
    await host.run("rm", [BAD]);
    expect(await ask(host, { all: true, reload })).toMatchObject({ msg: "published: api" });
    expect(await client.connect(host.address, 9090)).toMatchObject({
      reached: true,
      peer: client.address,
      server: "api",
    });
  });
}

story("a set that is not there is a broken fragment, too", async ({ lab }) => {
  const { host, client } = await hostWithDeadPort(lab, "sets");
  const rule = "-A FORWARD -m set --match-set banned src -j DROP";
  await host.write(BAD, `*filter\n${rule}\nCOMMIT\n`);
  const { problems = [] } = await statusOf(host);
  expect(problems[0]).toMatchObject({ kind: "fragment_invalid", path: BAD, line: 2, rule });
  const deleted = await ask(host, { container: "web", state: "absent" });
  expect(deleted.warnings.join()).toContain(`${BAD} line 2: iptables refuses '${rule}': Set banned doesn't exist; `);
  expect(await client.connect(host.address, 8080)).toEqual(REFUSED);
});

story(
  "the watcher closes a dead port though a fragment is broken, and publishes again once it is mended",
  async ({ lab }) => {
    const { host, client } = await hostWithDeadPort(lab, "watched", "--watch");
    await until(async () => !(await client.connect(host.address, 8080)).reached);
    expect((await ourRules(host)).join()).not.toContain("DNAT");
    await host.docker.run("api", { publish: ["9090:80"] });
    const journal = async () =>
      (await host.run("journalctl", ["--unit", "docker_iptables-watch", "--output=cat"])).stdout;
    await until(async () => (await journal()).includes(NAMED));
    await host.run("rm", [BAD]);
    await until(async () => {
      const answer = await client.connect(host.address, 9090);
      return answer.reached && answer.peer === client.address;
    });
  },
);
