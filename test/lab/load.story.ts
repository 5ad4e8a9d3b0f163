/*
 * docker_iptables load, the service that loads all fragments: no window, no half load, no open host after a boot, and no port that
 * leads to another container after a power failure.
 */

import { describe, expect } from "vitest";
import { ask, hostByHand, ourRules } from "./fixtures.ts";
import type { Host } from "./host.ts";
import { story } from "./story.ts";
import { conversation, lossesDuring } from "./traffic.ts";

async function load(host: Host, ...args: string[]) {
  const { stdout, exitCode } = await host.run("docker_iptables", ["load", "--json", ...args], { check: false });
  return { ...JSON.parse(stdout), exitCode };
}

const withoutCounters = async (host: Host) =>
  (await host.run("iptables-save")).stdout.replaceAll(/^#.*|\[\d+:\d+\]/gm, "");

describe.each(["nft", "legacy"] as const)("load on iptables-%s", (backend) => {
  story("says which line is wrong, in iptables' words, and changes nothing", async ({ lab }) => {
    const host = await hostByHand(lab, { name: "web1", backend });
    const before = await withoutCounters(host);
    const broken: [text: string, line: number, words: RegExp][] = [
      ["*filter\n-A FORWARD -j ACCEPT\n-A FORWARD -j NO_SUCH_CHAIN\nCOMMIT\n", 3, /NO_SUCH_CHAIN/],
      ["*filter\n-A FORWARD --frobnicate\nCOMMIT\n", 2, /frobnicate/],
      [
        "*nat\n-A POSTROUTING -p tcp -j ACCEPT\n-A POSTROUTING -p tcp -j DNAT --to-destination 192.0.2.1\nCOMMIT\n",
        3,
        /./,
      ],
      ["*filter\n-A NO_SUCH_CHAIN -j ACCEPT\nCOMMIT\n", 2, /./],
      ["*filter\nnonsense\nCOMMIT\n", 2, /not a rule/],
      ["*filter\n-A FORWARD -j ACCEPT\n", 3, /no COMMIT/],
    ];
    for (const [text, line, words] of broken) {
      await host.write("/etc/iptables.d/20_web", text);
      for (const args of [[], ["--check"]]) {
        const result = await load(host, ...args);
        expect(result).toMatchObject({
          failed: true,
          changed: false,
          exitCode: 1,
          error: { code: "fragment_invalid", line },
        });
        expect(result.msg).toMatch(new RegExp(`^/etc/iptables\\.d/20_web line ${line}: `));
        expect(result.msg).toMatch(words);
      }
      expect(await withoutCounters(host)).toBe(before);
    }
  });

  story(
    "replaces what runs by what stands in the fragments, tables that no fragment names included",
    async ({ lab }) => {
      const host = await hostByHand(lab, { name: "web1", backend });
      await host.run("iptables", ["-t", "mangle", "-A", "OUTPUT", "-j", "MARK", "--set-mark", "7"]);
      await host.run("iptables", ["-A", "INPUT", "-s", "192.0.2.7", "-j", "DROP"]);
      await host.write(
        "/etc/iptables.d/20_a",
        "*filter\n:SHARED - [0:0]\n-A SHARED -s 192.0.2.1/32 -j DROP\n-A FORWARD -j SHARED\nCOMMIT\n",
      );
      await host.write("/etc/iptables.d/30_b", "*filter\n:SHARED - [0:0]\n-A SHARED -s 192.0.2.2/32 -j DROP\nCOMMIT\n");
      await host.write("/etc/iptables.d/30_b.dpkg-old", "nonsense\n");
      expect(await load(host, "--check")).toMatchObject({ changed: true, exitCode: 0 });
      expect((await host.run("iptables-save")).stdout).not.toContain("SHARED");
      const result = await load(host);
      expect(result).toMatchObject({ changed: true, exitCode: 0 });
      expect(result.warnings.join()).toMatch(/not in any fragment were removed: .*(set-xmark|192\.0\.2\.7)/);
      const { stdout } = await host.run("iptables-save");
      expect(stdout).toMatch(/-A SHARED -s 192.0.2.1\/32 -j DROP\n-A SHARED -s 192.0.2.2\/32 -j DROP/);
      expect(stdout).not.toMatch(/MARK|192\.0\.2\.7/);
      expect(stdout).toContain(":FORWARD DROP");
      expect(await load(host)).toMatchObject({ changed: false, reloaded: [] });
    },
  );
});

story("a rule that depends on an ipset of the host is not refused", async ({ lab }) => {
  const host = await hostByHand(lab, { name: "web1" });
  await host.write("/etc/iptables.d/20_set", "*filter\n-A INPUT -m set --match-set no_such_set src -j DROP\nCOMMIT\n");
  // The set is not there, so the kernel refuses it; the trial, which could not know, did not.
  expect(await load(host)).toMatchObject({ failed: true, error: { code: "reload_failed" } });
});

describe.each(["nft", "legacy"] as const)("a hundred loads in a row on iptables-%s", (backend) => {
  story("lose no connection, new or established; flush and restore does", async ({ lab }) => {
    const host = await hostByHand(lab, { name: "web1", backend });
    const client = await lab.client("laptop");
    await host.docker.run("web", { publish: ["8080:80", "8081:81"], ports: [80] });
    await ask(host, { container: "web" });
    const endConversation = await conversation(host, client);
    const connect = async () => {
      const result = await client.connect(host.address, 8080, { timeoutMs: 900 });
      return result.reached && result.peer === client.address;
    };
    // Two texts in turn, so that each load has each table to load.
    const rules = [
      ["raw", "-A PREROUTING -s 192.0.2.9/32 -j DROP"],
      ["mangle", "-A FORWARD -s 192.0.2.9/32 -j DROP"],
      ["nat", "-A POSTROUTING -d 192.0.2.9/32 -j RETURN"],
      ["filter", "-A INPUT -s 192.0.2.9/32 -j DROP"],
    ];
    await host.write("/root/turn", rules.map(([table, rule]) => `*${table}\n${rule}\nCOMMIT\n`).join(""));
    const script = `for i in $(seq 50); do
      echo '# one' > /etc/iptables.d/50_turn && docker_iptables load ipv4 &&
      cp /root/turn /etc/iptables.d/50_turn && docker_iptables load ipv4 || exit 1
    done`;
    const loads = await lossesDuring(connect, async () => {
      await host.run("sh", ["-c", script]);
    });
    console.log(`${backend}: ${loads.lost} of ${loads.opened} connections lost over 100 loads`);
    expect(loads.opened).toBeGreaterThan(500);
    expect(loads.lost).toBe(0);
    const { peer, answers } = await endConversation();
    expect(peer).toBe(client.address);
    expect(answers).toBeGreaterThan(100);

    const flushing = `iptables-save > /run/all; for i in $(seq 10); do
      for t in raw nat filter; do iptables -t $t -F; done; sleep 0.02; iptables-restore < /run/all || exit 1
    done`;
    const flushes = await lossesDuring(connect, async () => {
      await host.run("sh", ["-c", flushing]);
    });
    console.log(`${backend}: ${flushes.lost} of ${flushes.opened} connections lost over 10 times flush and restore`);
    expect(flushes.lost).toBeGreaterThan(0);
  });
});

describe("boot", () => {
  story("with a broken fragment: the last good rules, and a unit that failed and says so", async ({ lab }) => {
    const host = await hostByHand(lab, { name: "web1" });
    await host.write("/etc/iptables.d/00_policy", "*filter\n:INPUT DROP [0:0]\n-A INPUT -i lo -j ACCEPT\nCOMMIT\n");
    await host.systemctl(["reload", "iptables"]);
    await host.write("/etc/iptables.d/20_other", "*filter\n-A FORWARD -j NO_SUCH_CHAIN\nCOMMIT\n");
    await host.reboot();
    expect((await host.run("iptables", ["-S", "INPUT"])).stdout).toBe("-P INPUT DROP\n-A INPUT -i lo -j ACCEPT\n");
    expect((await host.systemctl(["is-failed", "iptables"], { check: false })).stdout).toBe("failed\n");
    const journal = await host.journal("iptables");
    expect(journal).toContain("/etc/iptables.d/20_other line 2");
    expect(journal).toContain("the last good IPv4 rules were loaded instead");

    // And where the executable itself cannot run, plain iptables-restore does it.
    await host.run("mv", ["/usr/local/bin/docker_iptables", "/usr/local/bin/away"]);
    await host.reboot();
    expect((await host.run("iptables", ["-S", "INPUT"])).stdout).toBe("-P INPUT DROP\n-A INPUT -i lo -j ACCEPT\n");
    expect((await host.systemctl(["is-failed", "iptables"], { check: false })).stdout).toBe("failed\n");
    expect((await host.run("stat", ["--format=%a %U", "/var/lib/docker_iptables/ipv4.rules"])).stdout).toBe(
      "600 root\n",
    );
  });

  story("after a power cut no port leads to another container", async ({ lab }) => {
    const host = await hostByHand(lab, { name: "web1" });
    const client = await lab.client("laptop");
    await host.docker.run("web", { publish: ["8080:80"] });
    await host.docker.run("db", { publish: ["8081:80"] });
    for (const container of ["web", "db"]) await ask(host, { container });
    await host.powerCut();
    await host.boot();
    expect(await ourRules(host)).toEqual([]);
    expect(await host.journal("iptables")).toContain("11-docker-container_web is from before this boot");

    // The other way round, so that each gets the other's address.
    await host.docker.cli("start", "db");
    await host.docker.cli("start", "web");
    expect(await ask(host, { container: "web" })).toMatchObject({ changed: true });
    expect(await client.connect(host.address, 8080)).toMatchObject({ server: "web", peer: client.address });
    expect((await ourRules(host)).join()).not.toContain("docker_iptables: db");
    await host.systemctl(["reload", "iptables"]);
    expect(await client.connect(host.address, 8080)).toMatchObject({ server: "web", peer: client.address });
    expect(await ask(host, { container: "db" })).toMatchObject({ changed: true });
    expect(await client.connect(host.address, 8081)).toMatchObject({ server: "db", peer: client.address });
  });
});
