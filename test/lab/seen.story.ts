/*
 * What a run leaves to the next: the kernel's rules as it has seen them last, which the next relies on while the kernel says that nothing
 * has changed. Only the native executable can ask the kernel for that; the script looks each time. Neither is ever wrong.
 */

import { expect } from "vitest";
import { transactionsIn } from "../../src/netfilter/iptables.ts";
import { until } from "./fixtures.ts";
import type { Host } from "./host.ts";
import { storyWith } from "./story.ts";

const story = storyWith({ packages: ["nftables"] });
const IS_NATIVE = (process.env["DOCKER_IPTABLES"] ?? "").includes("-linux-");

const BACKENDS = {
  iptables: {
    state: "/var/lib/docker_iptables/ipv4.seen",
    lists: /run ip6?tables-save/,
    take: "iptables -t nat -F DOCKER_CONTAINERS",
    program: "iptables-save",
  },
  nft: {
    state: "/var/lib/docker_iptables/nft/ipv4.seen",
    lists: /run nft --json list table/,
    take: "nft flush map inet docker_iptables publish4",
    program: "nft",
  },
};

/** What a call answers, and what it does meanwhile. */
async function called(host: Host, command: string) {
  const { stdout, stderr } = await host.run("sh", ["-c", `${command} --verbose --json`], { check: false });
  return { result: JSON.parse(stdout), events: stderr };
}

/** The number of the last state of nftables that a run has relied on. */
function generationIn(events: string): number {
  return Number(/generation (\d+)/.exec(events)?.[1]);
}

for (const [backend, { state, lists, take, program }] of Object.entries(BACKENDS)) {
  story(`what the last run left is relied on until something changes, by ${backend}`, async ({ lab }) => {
    const host = await lab.host({ name: "seen" });
    const client = await lab.client("laptop");
    const create = "docker_iptables create web --reload restore";
    await host.docker.run("web", { publish: ["8080:80"] });
    await host.run("docker_iptables", ["setup", "--backend", backend]);
    const first = await called(host, create);
    expect(first.result, first.result.msg).toMatchObject({ changed: true });
    // The journal knows who has sent the record: this process itself, where it can; logger may have ended before the journal asks.
    let record: Record<string, unknown> = {};
    await until(async () => {
      const last = await host.run("journalctl", ["-o", "json", "-n", "1", "SYSLOG_IDENTIFIER=docker_iptables"]);
      record = JSON.parse(last.stdout || "{}");
      return record["DOCKER_IPTABLES_CONTAINERS"] === "web";
    });
    if (IS_NATIVE) expect(record["_PID"]).toBe(record["OBJECT_PID"]);

    // Nothing has changed: what both families have is known, or was looked for a second time at most.
    await called(host, create);
    const again = await called(host, create);
    expect(again.result).toMatchObject({ changed: false });
    expect(lists.test(again.events), again.events).toBe(!IS_NATIVE);
    if (IS_NATIVE) expect((await host.run("stat", ["-c", "%a %U", state])).stdout.trim()).toBe("600 root");
    // What only asks looks for itself, and writes nothing.
    const asked = await called(host, "docker_iptables status");
    expect(asked.result).toMatchObject({ problems: [] });
    expect(lists.test(asked.events), asked.events).toBe(true);

    // Somebody takes rules away.
    await host.run("sh", ["-c", take]);
    expect(await client.connect(host.address, 8080)).not.toMatchObject({ peer: client.address });
    expect((await called(host, `${create} --check`)).result).toMatchObject({ changed: true });
    const mended = await called(host, create);
    expect(mended.result, mended.result.msg).toMatchObject({ changed: true });
    expect(await client.connect(host.address, 8080)).toMatchObject({ reached: true, peer: client.address });

    // Another network namespace of this machine has none of it, though its nftables may have the same number.
    await called(host, create);
    const now = await called(host, create);
    const count = IS_NATIVE ? generationIn(now.events) : 5;
    expect(count).toBeGreaterThan(1);
    const bridge = "ip link add docker0 type bridge; ip address add 172.17.0.1/16 dev docker0; ip link set docker0 up";
    const reach = `for one in $(seq ${count - 1}); do nft add table ip "other$one"; done`;
    const there = await called(host, `unshare --net sh -c '${bridge}; ${reach}; exec ${create} --check "$@"' sh`);
    expect(there.result, there.result.msg).toMatchObject({ changed: true });

    // What is carried over our own load relies on it: iptables' own is one transaction for each table with a rule.
    if (IS_NATIVE && backend === "iptables") {
      const text = (await host.run("iptables-save", [])).stdout;
      await host.run("iptables-restore", [], { input: text });
      await called(host, create);
      const since = generationIn((await called(host, create)).events) - count;
      const tables = text.match(/^COMMIT$/gm)?.length;
      expect({ since, counted: transactionsIn(text) }).toEqual({ since: tables, counted: tables });
    }

    // Of a script nobody knows what it reads.
    const path = (await host.run("sh", ["-c", `command -v ${program}`])).stdout.trim();
    await host.write(`/usr/local/sbin/${program}`, `#!/bin/sh\nexec ${path} "$@"\n`);
    await host.run("chmod", ["755", `/usr/local/sbin/${program}`]);
    await called(host, create);
    const byScript = await called(host, create);
    expect(byScript.result).toMatchObject({ changed: false });
    expect(lists.test(byScript.events), byScript.events).toBe(true);
    await host.run("rm", [`/usr/local/sbin/${program}`]);

    // What another user has put there is not read, what breaks off neither, nor what was before a boot.
    await called(host, create);
    await host.run("sh", ["-c", `[ ! -e ${state} ] || chown nobody ${state}`]);
    expect(lists.test((await called(host, `${create} --check`)).events)).toBe(true);
    await host.write(state, '{"format":1,');
    expect(lists.test((await called(host, `${create} --check`)).events)).toBe(true);
    await called(host, create);
    if (backend === "nft") {
      await host.run("sh", ["-c", `[ ! -e ${state} ] || sed -i 's/"sets"/"others"/' ${state}`]);
      const odd = await called(host, `${create} --check`);
      expect(odd.result, odd.result.msg).toMatchObject({ changed: false });
      expect(lists.test(odd.events), odd.events).toBe(true);
    }
    await host.reboot();
    const booted = await called(host, `${create} --check`);
    expect(lists.test(booted.events), booted.events).toBe(true);

    await host.run("docker_iptables", ["delete", "--all"]);
    await host.run("docker_iptables", ["setup", "--remove"]);
    // A host that is not set up any more gets no state by what finds nothing to remove.
    await called(host, "docker_iptables delete web --reload restore");
    expect(await host.run("test", ["-e", state], { check: false })).toMatchObject({ exitCode: 1 });
  });
}

story(
  "a load of few changes exchanges those rules alone, and all where another transaction comes between",
  async ({ lab }) => {
    const host = await lab.host({ name: "few" });
    const client = await lab.client("laptop");
    await host.docker.run("web", { publish: ["8080:80"] });
    await host.docker.run("db", { publish: ["8081:80"] });
    await host.run("docker_iptables", ["setup", "--reload", "restore"]);
    // With a list from the beginning: a table that is new is loaded.
    await host.run("docker_iptables", ["create", "db", "--allow", `8081/tcp=${client.address}`]);
    await host.run("docker_iptables", ["create", "web"]);
    expect(await client.connect(host.address, 8081)).toMatchObject({ server: "db", peer: client.address });
    const counted = async () => {
      const { stdout } = await host.run("iptables-save", ["-c"]);
      return stdout.split("\n").filter((line) => /docker_iptables: db/.test(line) && !line.startsWith("[0:0]"));
    };
    const before = await counted();
    expect(before.length).toBeGreaterThan(0);
    const exchanges = /run iptables-restore --wait \d+ --noflush/;
    const loads = /run iptables-restore --wait \d+,/;
    for (const call of ["delete web", "create web", "create web --allow 8080/tcp=198.51.100.0/24", "create web"]) {
      const { result, events } = await called(host, `docker_iptables ${call}`);
      expect(result, result.msg).toMatchObject({ changed: true });
      // The script cannot know that nothing came between.
      expect({ exchanged: exchanges.test(events), loaded: loads.test(events) }, events).toEqual({
        exchanged: IS_NATIVE,
        loaded: !IS_NATIVE,
      });
      expect((await host.run("docker_iptables", ["load", "--check"])).stdout).toMatch(
        /^the rules are loaded already$/m,
      );
      if (IS_NATIVE) expect(await counted()).toEqual(before);
    }
    expect(await client.connect(host.address, 8080)).toMatchObject({ server: "web", peer: client.address });

    const others = "while [ ! -e /root/enough ]; do nft add table ip other; nft delete table ip other; done";
    const busy = host.run("sh", ["-c", others], { timeoutMs: 120_000 });
    let fellBack = 0;
    for (let turn = 0; turn < 15; turn++) {
      for (const verb of ["delete", "create"]) {
        const { result, events } = await called(host, `docker_iptables ${verb} web`);
        expect(result, result.msg).toMatchObject({ changed: true });
        if (loads.test(events)) fellBack++;
      }
    }
    await host.run("touch", ["/root/enough"]);
    await busy;
    expect(fellBack).toBeGreaterThan(0);
    expect((await called(host, "docker_iptables create web")).result).toMatchObject({ changed: false });
    expect(await client.connect(host.address, 8080)).toMatchObject({ server: "web", peer: client.address });
  },
);
