/*
 * `reload: patch` on a host whose rules others change, too. And the text of a patch, and of a difference, given to the real iptables-restore
 * --noflush of both backends, for random hosts: the kernel then has the rules that the model in test/iptables says, and every rule that was
 * not touched has its counters.
 */

import fc from "fast-check";
import { describe, expect } from "vitest";
import { differenceText } from "../../src/iptables/difference.ts";
import { readLive } from "../../src/iptables/live.ts";
import { goalOf, patchText } from "../../src/iptables/patch.ts";
import { anyCase, applyPatch, linesOf, type Model, saveModel } from "../iptables/patch-model.ts";
import { ask, hostByHand, ourRules } from "./fixtures.ts";
import { story } from "./story.ts";

/** What fail2ban and a person put into the kernel; no fragment has it. The rules that count have counters. */
const LIVE = `*filter
:f2b-sshd - [0:0]
[7:420] -A f2b-sshd -s 192.0.2.66/32 -j REJECT --reject-with icmp-port-unreachable
[9:540] -A f2b-sshd -j RETURN
[11:660] -A INPUT -p tcp -m tcp --dport 2222 -j f2b-sshd
[13:780] -A FORWARD -s 192.0.2.67/32 -j DROP
[15:900] -A FORWARD -j REJECT --reject-with icmp-host-prohibited
COMMIT
`;

story("other people's rules and counters stay, whatever becomes of ours", async ({ lab }) => {
  const host = await hostByHand(lab, { name: "web1" });
  const client = await lab.client("laptop");
  const patch = { container: "web", reload: "patch", timeout: 60 };
  const strangers = async () => {
    const { stdout } = await host.run("iptables-save", ["-c"]);
    return stdout.split("\n").filter((line) => /^\[.*(2222|f2b-|192\.0\.2\.|icmp-host-prohibited)/.test(line));
  };
  const reach = () => client.connect(host.address, 8080);
  await host.docker.run("web", { publish: ["8080:80"] });
  await host.run("iptables-restore", ["--noflush", "--counters"], { input: LIVE });
  await host.write("/etc/iptables.d/50_stranger", "*filter\n-A INPUT -m nonsense -j ACCEPT\nhello\n");
  expect((await host.systemctl(["reload", "iptables"], { check: false })).exitCode).not.toBe(0);
  const before = await strangers();
  expect(before).toHaveLength(5);

  expect(await ask(host, patch)).toMatchObject({ changed: true, reloaded: ["iptables-restore"], warnings: [] });
  // The REJECT at the chain's end was made by hand and is in no fragment: our ACCEPT is before it.
  expect(await reach()).toMatchObject({ server: "web", peer: client.address });
  expect(await strangers()).toEqual(before);
  expect(await ask(host, patch)).toMatchObject({ changed: false, reloaded: [] });

  await host.run("iptables", ["-t", "nat", "-F"]);
  expect(await reach()).not.toMatchObject({ peer: client.address });
  expect(await ask(host, patch)).toMatchObject({ containers: [{ name: "web", reasons: ["kernel"] }] });
  expect(await reach()).toMatchObject({ server: "web", peer: client.address });
  expect(await strangers()).toEqual(before);

  await host.systemctl(["stop", "docker.socket", "docker.service"]);
  expect(await ask(host, { ...patch, state: "absent" })).toMatchObject({ changed: true, msg: "unpublished: web" });
  expect(await ourRules(host)).toEqual([]);
  expect(await strangers()).toEqual(before);
  expect((await host.run("iptables", ["-S", "FORWARD"])).stdout).toContain("-P FORWARD DROP");
});

const CASES = 300;

/** A line that no iptables prints; the next case follows. */
const NEXT = "=== next";

describe.each(["nft", "legacy"])("iptables-%s", (backend) => {
  story(
    `does with ${CASES} patches, and as many differences, what the model says, and leaves counters alone`,
    async ({ lab }) => {
      const host = await lab.host({ name: "web1" });
      const cases = fc.sample(anyCase, { seed: 21, numRuns: CASES }).flatMap(({ live, fragments }) => {
        const running = readLive(saveModel(live));
        const text = patchText(goalOf(fragments, [], running), running);
        if (text === undefined) return [];
        const after = applyPatch(live, text);
        const difference = differenceText(running, linesOf(after));
        const texts = difference === undefined ? [text] : [text, difference];
        return texts.map((one) => ({ live, text: one, after: applyPatch(live, one) }));
      });
      expect(cases.length).toBeGreaterThan(CASES / 2);
      const script = cases.map(({ live, text }) =>
        [
          `unshare -n sh <<'CASE'`,
          `xtables-${backend}-multi iptables-restore --counters <<'LIVE'`,
          `${saveModel(live, ({ id }) => `[${counters(id)}] `)}LIVE`,
          `xtables-${backend}-multi iptables-restore --wait 5 --noflush <<'PATCH'`,
          `${text}PATCH`,
          `xtables-${backend}-multi iptables-save -c`,
          "CASE",
          `echo '${NEXT}'`,
        ].join("\n"),
      );
      const { stdout, stderr } = await host.run("sh", [], { input: `${script.join("\n")}\n` });
      expect(stderr).toBe("");
      const saved = stdout.split(`${NEXT}\n`);
      for (const [index, { text, after }] of cases.entries()) {
        expect(rulesOf(saved[index] ?? ""), text).toEqual(expectedRules(after));
      }
    },
  );
});

/** Each rule that was there has counters of its own; a new one has none. */
function counters(id: number | undefined): string {
  return id === undefined ? "0:0" : `${id + 1}:${(id + 1) * 100}`;
}

function expectedRules(model: Model): string[] {
  const lines = [...model].flatMap(([table, chains]) =>
    [...chains].flatMap(([chain, rules]) =>
      rules.map(({ id, spec }, at) => `${table} ${chain} ${at}: [${counters(id)}] ${spec}`),
    ),
  );
  return lines.sort();
}

function rulesOf(saved: string): string[] {
  const lines: string[] = [];
  const places = new Map<string, number>();
  let table = "";
  for (const line of saved.split("\n")) {
    if (line.startsWith("*")) table = line.slice(1);
    const [, counts, chain, spec] = /^(\[\d+:\d+\]) -A (\S+) (.*)$/.exec(line) ?? [];
    if (counts === undefined) continue;
    const place = `${table} ${chain}`;
    const at = places.get(place) ?? 0;
    places.set(place, at + 1);
    lines.push(`${place} ${at}: ${counts} ${spec}`);
  }
  return lines.sort();
}
