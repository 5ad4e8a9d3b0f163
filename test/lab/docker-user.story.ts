/*
 * DOCKER-USER, as fail2ban and ufw-docker use it: what they put there cuts new flows and established ones, and survives all changes
 * of containers, networks and services.
 */

import { describe, expect } from "vitest";
import type { Result } from "../../src/generated/result.ts";
import type { Client } from "./client.ts";
import type { Host } from "./host.ts";
import { statusOf } from "./host-state.ts";
import { story } from "./story.ts";

/** What a person has in FORWARD, appended: it accepts all answers, and would keep standing flows alive. */
const ANSWERS = "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT";

const HOST = `*filter\n${ANSWERS}\nCOMMIT\n`;

/** The chain of ufw-docker's after.rules, in short; an allowed port is an ACCEPT in ufw-user-forward. */
const UFW_DOCKER = (allowed: string) => `*filter
:ufw-user-forward - [0:0]
:ufw-docker-logging-deny - [0:0]
:DOCKER-USER - [0:0]
-A DOCKER-USER -j ufw-user-forward
-A DOCKER-USER -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN
-A DOCKER-USER -m conntrack --ctstate INVALID -j DROP
-A DOCKER-USER -i docker0 -o docker0 -j ACCEPT
-A DOCKER-USER -m conntrack --ctstate NEW -d 172.16.0.0/12 -j ufw-docker-logging-deny
-A DOCKER-USER -j RETURN
-A ufw-docker-logging-deny -m limit --limit 3/min --limit-burst 10 -j LOG --log-prefix "[UFW DOCKER BLOCK] "
-A ufw-docker-logging-deny -j DROP
-A ufw-user-forward -d ${allowed} -p tcp -m tcp --dport 80 -j ACCEPT
COMMIT
`;

async function run(host: Host, ...words: string[]): Promise<Result> {
  const ran = await host.run("docker_iptables", [...words, "--json"], { check: false });
  return JSON.parse(ran.stdout);
}

/** What of FORWARD and of the user's chains runs. */
async function rulesOf(host: Host, ...chains: string[]): Promise<string[]> {
  const lines = (await host.run("iptables-save", ["-t", "filter"])).stdout.split("\n");
  return lines.filter((line) => chains.some((chain) => line.startsWith(`-A ${chain} `)));
}

const JUMP = '-A FORWARD -m comment --comment "docker_iptables: (10_docker)" -j DOCKER-USER';
const USERS = ["DOCKER-USER", "f2b-web", "ufw-user-forward", "ufw-docker-logging-deny"];

for (const backend of ["nft", "legacy"] as const) {
  describe(`DOCKER-USER on iptables-${backend}`, () => {
    for (const reload of ["systemd", "patch"] as const) {
      story(`reload ${reload}: what is there is asked first, and stays`, async ({ lab }) => {
        const host = await lab.host({ name: "front", backend, files: { "/etc/iptables.d/05_host": HOST } });
        const [banned, friend] = [await lab.client("banned"), await lab.client("friend")];
        const own = (...words: string[]) => run(host, ...words, "--reload", reload);
        // The same flow each time, established after the first.
        const flow = (client: Client, timeoutMs: number) =>
          client.connect(host.address, 53, { protocol: "udp", sourcePort: 40_000, timeoutMs });
        const reaches = async (client: Client, timeoutMs = 15_000) =>
          [await client.connect(host.address, 8080, { timeoutMs }), await flow(client, timeoutMs)].map(
            (one) => one.reached,
          );
        await host.docker.run("web", { publish: ["8080:80", "53:53/udp"] });
        if (reload === "patch") await host.run("iptables", ANSWERS.split(" "));
        const set = await own("setup");
        expect(set, set.msg).toMatchObject({ changed: true });
        expect(await own("create", "web")).toMatchObject({ changed: true });
        expect((await rulesOf(host, "FORWARD")).slice(0, 2)).toEqual([JUMP, ANSWERS]);
        expect((await host.run("ip6tables", ["-S", "FORWARD"])).stdout.split("\n")[1]).toBe(JUMP);
        expect(await reaches(banned)).toEqual([true, true]);
        expect(await own("setup")).toMatchObject({ changed: false });

        /** What is there stays and works, whatever else is done. */
        const holds = async (works: () => Promise<void>) => {
          const before = await rulesOf(host, ...USERS);
          const stays = async (step: string) => {
            expect(await rulesOf(host, ...USERS), step).toEqual(before);
            expect((await rulesOf(host, "FORWARD"))[0], step).toBe(JUMP);
            await works();
          };
          await stays("at first");
          await host.docker.run("other", { publish: ["8081:80"] });
          for (const words of [["create", "other"], ["delete", "other"], ["sync"]]) {
            const result = await own(...words);
            expect(result, result.msg).toMatchObject({ changed: true });
            await stays(words.join(" "));
          }
          await host.docker.cli("network", "create", "app");
          expect(await own("setup")).toMatchObject({ changed: true });
          await stays("setup");
          if (reload === "systemd") {
            await host.write("/etc/iptables.d/50_more", "*filter\n-A INPUT -s 192.0.2.1/32 -j DROP\nCOMMIT\n");
            const loaded = await run(host, "load");
            expect(loaded, loaded.msg).toMatchObject({ changed: true, warnings: [] });
            expect(await run(host, "load")).toMatchObject({ changed: false, warnings: [] });
            await stays("load");
            await host.systemctl(["restart", "iptables"]);
            await stays("restart");
            await host.run("rm", ["/etc/iptables.d/50_more"]);
          }
          const { problems = [] } = await statusOf(host, "--reload", reload);
          expect(problems).toEqual([]);
          expect(await own("delete", "other")).toMatchObject({ changed: true });
          await host.docker.cli("rm", "--force", "other");
          await host.docker.cli("network", "rm", "app");
          expect(await own("setup")).toMatchObject({ changed: true });
        };

        // A ban of one client's, at once and by a chain of fail2ban's.
        const cut = async () => {
          expect(await reaches(banned, 500)).toEqual([false, false]);
          expect(await reaches(friend)).toEqual([true, true]);
        };
        await host.run("iptables", ["-I", "DOCKER-USER", "-s", banned.address, "-j", "DROP"]);
        await cut();
        await host.run("iptables", ["-D", "DOCKER-USER", "-s", banned.address, "-j", "DROP"]);
        expect(await reaches(banned)).toEqual([true, true]);
        const fail2ban = `iptables -N f2b-web && iptables -A f2b-web -j RETURN && iptables -I DOCKER-USER -j f2b-web &&
          iptables -I f2b-web 1 -s ${banned.address} -j REJECT --reject-with icmp-port-unreachable`;
        await host.run("sh", ["-ec", fail2ban]);
        await holds(cut);

        // What ufw-docker blocks, and what it lets through; it empties the chain at each reload of ufw.
        const web = `${await host.docker.address("web")}/32`;
        await host.run("iptables-restore", ["--noflush"], { input: UFW_DOCKER(web) });
        await host.run("sh", ["-ec", "iptables -F f2b-web && iptables -X f2b-web"]);
        await holds(async () => {
          expect((await banned.connect(host.address, 8080)).reached).toBe(true);
          // A new one, of another port of the client's.
          const fresh = await friend.connect(host.address, 53, { protocol: "udp", timeoutMs: 500 });
          expect(fresh.reached).toBe(false);
        });

        // A rule that comes before it and accepts is reported; a patch moves the jump to the front.
        await host.run("iptables", ["-I", "FORWARD", "-o", "docker0", "-j", "ACCEPT"]);
        const { problems = [] } = await statusOf(host, "--reload", reload);
        expect(problems.filter(({ kind }) => kind === "rules_shadowed")).toMatchObject([
          { rule: "-A FORWARD -o docker0 -j ACCEPT" },
        ]);
        if (reload === "patch") {
          expect(await own("setup")).toMatchObject({ changed: true });
          expect((await rulesOf(host, "FORWARD")).slice(0, 2)).toEqual([JUMP, "-A FORWARD -o docker0 -j ACCEPT"]);
        }
        await host.run("iptables", ["-D", "FORWARD", "-o", "docker0", "-j", "ACCEPT"]);

        // The host rules are removed, the user's stay.
        const before = await rulesOf(host, ...USERS);
        expect(await own("delete", "web")).toMatchObject({ changed: true });
        const removed = await own("setup", "--remove");
        expect(removed, removed.msg).toMatchObject({ changed: true });
        expect(await rulesOf(host, ...USERS)).toEqual(before);
        expect(await rulesOf(host, "FORWARD")).toEqual([ANSWERS]);
        expect(await own("setup")).toMatchObject({ changed: true });
        await host.run("iptables", ["-F", "DOCKER-USER"]);
        expect(await own("setup", "--remove")).toMatchObject({ changed: true });
        expect((await host.run("iptables-save")).stdout).not.toContain("DOCKER-USER");
      });
    }
  });
}
