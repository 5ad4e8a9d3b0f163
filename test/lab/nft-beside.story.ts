/*
 * Our table in nftables on hosts that have other firewalls, with real ones: ufw, firewalld, the legacy backend of iptables; and on one that
 * has no iptables.
 */

import { expect } from "vitest";
import type { Result } from "../../src/generated/result.ts";
import type { Client } from "./client.ts";
import { FIREWALLD, lackingFirewalld, until } from "./fixtures.ts";
import type { Host } from "./host.ts";
import { problemsOf } from "./host-state.ts";
import type { Lab } from "./lab.ts";
import { storyWith } from "./story.ts";

async function run(host: Host, ...words: string[]): Promise<Result> {
  return JSON.parse((await host.run("docker_iptables", [...words, "--json"], { check: false })).stdout);
}

const reaches = async (client: Client, host: Host, port: number) =>
  client.connect(host.address, port, { timeoutMs: 15_000 });

/** The same where no answer is expected. */
const silence = async (client: Client, host: Host, port: number) =>
  client.connect(host.address, port, { timeoutMs: 500 });

/** By our rules: docker-proxy answers for itself. */
async function isPublished(client: Client, host: Host): Promise<boolean> {
  const answer = await reaches(client, host, 8080);
  return answer.reached && answer.peer === client.address;
}

/** It is set up, and web is published. What setup and create have warned of. */
async function publish(host: Host): Promise<string[]> {
  const results = [await run(host, "setup", "--backend", "nft"), await run(host, "create", "web")];
  for (const result of results) expect(result, result.msg).toMatchObject({ changed: true });
  return results.map(({ warnings }) => warnings.join("\n"));
}

async function hostWithWeb(lab: Lab, name: string) {
  const host = await lab.host({ name });
  const client = await lab.client("laptop");
  await host.docker.run("web", { publish: ["8080:80"] });
  return { host, client };
}

storyWith({ packages: ["nftables", "ufw"] })(
  "ufw: its rules stay as they are, and what they refuse is told with the line that lets it pass",
  async ({ lab }) => {
    const { host, client } = await hostWithWeb(lab, "ufw");
    // As the package's own script does it.
    await host.run("sh", ["-c", "cp /usr/share/ufw/*.rules /usr/share/ufw/*.init /usr/share/ufw/ufw.conf /etc/ufw/"]);
    await host.run("ufw", ["allow", "22/tcp"]);
    await host.run("ufw", ["--force", "enable"]);
    const theirs = async () => (await host.run("iptables-save")).stdout.match(/^(:\S+ \S+|-A .*)/gm);
    const before = await theirs();
    expect(before?.length).toBeGreaterThan(90);

    const line = "iptables-nft -I FORWARD -m conntrack --ctstate DNAT -j ACCEPT";
    for (const told of await publish(host)) expect(told).toContain(`'${line}' lets `);
    expect(await silence(client, host, 8080)).toEqual({ reached: false, why: "timeout" });
    expect(await problemsOf(host)).toEqual(["firewall_foreign"]);
    const { problems = [] } = await run(host, "status");
    expect(problems[0]?.hint).toContain(line);
    expect(await theirs()).toEqual(before);

    await host.run("sh", ["-c", line]);
    expect(await reaches(client, host, 8080)).toMatchObject({ server: "web", peer: client.address });
    expect(await reaches(client, host, 22)).toEqual({ reached: false, why: "refused" });
    expect(await silence(client, host, 9999)).toEqual({ reached: false, why: "timeout" });
    expect(await problemsOf(host)).toEqual([]);

    // To last, it is one of ufw's own.
    await host.run("sh", ["-c", line.replace(" -I ", " -D ")]);
    expect(await problemsOf(host)).toEqual(["firewall_foreign"]);
    const lasting = "-A ufw-before-forward -m conntrack --ctstate DNAT -j ACCEPT";
    await host.run("sed", ["-i", `0,/^COMMIT/s//${lasting}\\nCOMMIT/`, "/etc/ufw/before.rules"]);
    await host.run("ufw", ["reload"]);
    expect(await problemsOf(host)).toEqual([]);
    const { explained = [], warnings } = await run(host, "explain", "web");
    expect(JSON.stringify(explained)).toContain(
      JSON.stringify(
        'add element inet docker_iptables publish4 { tcp . 8080 comment "docker_iptables: web" : 172.17.0.2 . 80 }',
      ),
    );
    expect(warnings.join()).toContain("iptables-nft's table ip filter also filters packets, and is not followed here");
    expect(await run(host, "sync")).toMatchObject({ changed: false });
    expect(await reaches(client, host, 8080)).toMatchObject({ server: "web", peer: client.address });
    expect(await run(host, "delete", "web")).toMatchObject({ changed: true });
    expect(await run(host, "setup", "--remove")).toMatchObject({ changed: true });
    expect((await theirs())?.filter((rule) => !rule.includes("ctstate DNAT")).sort()).toEqual(before?.sort());
  },
);

storyWith({ packages: ["nftables", "firewalld"] }, lackingFirewalld)(
  "firewalld: its tables stay as they are, and a zone lets containers send",
  async ({ lab }) => {
    const { host, client } = await hostWithWeb(lab, "firewalld");
    await host.run("sh", ["-ec", FIREWALLD]);
    const theirs = async () => (await host.run("nft", ["--stateless", "list", "table", "inet", "firewalld"])).stdout;
    const before = await theirs();
    const zone = "'firewall-cmd --permanent --zone=trusted --add-interface=docker0'";
    const [set, created] = await publish(host);
    expect(set).toContain(zone);
    expect(created).toBe("");
    // What a DNAT has translated firewalld lets pass, and rejects what containers send.
    expect(await reaches(client, host, 8080)).toMatchObject({ server: "web", peer: client.address });
    expect(await reaches(client, host, 9999)).toEqual({ reached: false, why: "unreachable" });
    expect(await host.docker.connect("web", client.address, 22)).toEqual({ reached: false, why: "unreachable" });
    const { problems = [], warnings } = await run(host, "status");
    expect(problems).toMatchObject([{ kind: "firewall_foreign", hint: expect.stringContaining(zone) }]);
    expect(warnings.join()).toContain("inet firewalld also filters packets");
    expect(await theirs()).toBe(before);

    await host.run("firewall-cmd", ["--permanent", "--zone=trusted", "--add-interface=docker0"]);
    await host.run("firewall-cmd", ["--reload"]);
    // While it reloads it drops all, on a busy machine for seconds.
    const connect = () => host.docker.connect("web", client.address, 22);
    await expect.poll(connect, { timeout: 60_000 }).toEqual({ reached: false, why: "refused" });
    expect(await reaches(client, host, 8080)).toMatchObject({ server: "web", peer: client.address });
    expect(await run(host, "sync")).toMatchObject({ changed: false });
    expect(await problemsOf(host)).toEqual([]);
  },
);

storyWith({ packages: ["nftables"] })("the legacy backend: what it refuses is told, too", async ({ lab }) => {
  const { host, client } = await hostWithWeb(lab, "legacy");
  await host.run("iptables-legacy", ["-P", "FORWARD", "DROP"]);
  const line = "iptables-legacy -I FORWARD -m conntrack --ctstate DNAT -j ACCEPT";
  for (const told of await publish(host)) expect(told).toContain(`'${line}' lets `);
  expect(await silence(client, host, 8080)).toEqual({ reached: false, why: "timeout" });
  expect(await problemsOf(host)).toEqual(["firewall_foreign"]);
  await host.run("sh", ["-c", line]);
  expect(await reaches(client, host, 8080)).toMatchObject({ server: "web", peer: client.address });
  expect(await problemsOf(host)).toEqual([]);
});

storyWith({ packages: ["nftables"] })(
  "a host without iptables: the backend is nftables, by itself",
  async ({ lab }) => {
    const { host, client } = await hostWithWeb(lab, "bare");
    await host.run("sh", [
      "-ec",
      "rm -f /usr/sbin/*tables-* /usr/sbin/iptables /usr/sbin/ip6tables; ! command -v iptables",
    ]);
    const set = await run(host, "setup", "--watch");
    expect(set, set.msg).toMatchObject({ changed: true });
    expect(set.warnings.join()).toContain("this host has no iptables, so the backend is nftables");
    await until(() => isPublished(client, host));
    expect(await reaches(client, host, 8080)).toMatchObject({ server: "web", peer: client.address });
    // What it has chosen it keeps, and every verb follows it.
    expect(await host.read("/etc/docker_iptables.json")).toContain('"backend": "nft"');
    expect(await run(host, "setup")).toMatchObject({ changed: false });
    expect(await run(host, "sync")).toMatchObject({ changed: false });
    expect(await problemsOf(host)).toEqual([]);
    await host.reboot();
    await host.docker.cli("start", "web");
    await until(() => isPublished(client, host));
    expect(await problemsOf(host)).toEqual([]);
    await host.docker.cli("rm", "--force", "web");
    await until(async () => !(await host.list("/etc/nftables.d")).some((name) => name.includes("web")));
    expect(await run(host, "setup", "--remove")).toMatchObject({ changed: true });
    expect((await host.run("nft", ["list", "tables"])).stdout).not.toContain("docker_iptables");
  },
);
