/*
 * The packet matrix of sources: who reaches which published port where lists say who may connect. Real packets on a real host; each
 * regime is held to a table and words that know no rules (allow-matrix/place.ts, allow-matrix/expected.ts).
 */

import { describe, expect } from "vitest";
import { expectedOf, type Setting } from "./allow-matrix/expected.ts";
import { Flow } from "./allow-matrix/flows.ts";
import { MISSING, UNGUARDED, without } from "./allow-matrix/missing.ts";
import { makePlace, type Place } from "./allow-matrix/place.ts";
import { deviations, isAbout, listProbes, nameOf, type Probe } from "./allow-matrix/probes.ts";
import { apply, done, type Regime } from "./allow-matrix/regimes.ts";
import type { Client } from "./client.ts";
import { ask } from "./fixtures.ts";
import { KINDS } from "./matrix/place.ts";
import { story } from "./story.ts";

/** Any two values of `ipv6`, `guards`, `bridgeNf` and `base` meet in some row. */
const REGIMES: readonly Regime[] = [
  { ipv6: true, guards: true, bridgeNf: false, base: "ours", reload: "restore" },
  { ipv6: false, guards: false, bridgeNf: true, base: "ours", reload: "restore" },
  { ipv6: true, guards: false, bridgeNf: true, base: "by hand", reload: "restore" },
  { ipv6: false, guards: true, bridgeNf: false, base: "by hand", reload: "patch" },
  { ipv6: true, guards: false, bridgeNf: false, base: "ours", reload: "patch" },
  { ipv6: false, guards: true, bridgeNf: true, base: "ours", reload: "systemd" },
];

describe.each(KINDS)("iptables-$backend, docker-proxy $userlandProxy", ({ backend, userlandProxy }) => {
  story("who is listed reaches a port, and no other machine does", async ({ lab }) => {
    const place = await makePlace(lab, { backend, userlandProxy });
    expect(listProbes(place).length).toBeGreaterThan(1000);
    for (const regime of REGIMES) {
      await apply(place, regime, userlandProxy);
      await hold(place, { ...regime, userlandProxy }, listProbes(place), JSON.stringify(regime));
      if (regime.base === "ours" && regime.ipv6) await accepted(place, { ...regime, userlandProxy });
    }
    if (userlandProxy) await oneRuleLess(place);
  });
});

/** Measures the probes under the rules that the host has, and holds each to the table. */
async function hold(place: Place, setting: Setting, probes: readonly Probe[], words: string): Promise<void> {
  const found = await deviations(place, probes, (probe) => expectedOf(probe, place, setting));
  expect.soft(found, words).toEqual([]);
}

/** What a person accepts does not open what a list closes: neither in DOCKER-USER nor before it, nor for docker-proxy. */
async function accepted(place: Place, setting: Setting): Promise<void> {
  const { host, clients } = place;
  for (const [command, source] of [
    ["iptables", clients.stranger.address],
    ["ip6tables", clients.stranger.address6],
  ] as const)
    for (const chain of ["DOCKER-USER", "FORWARD", "INPUT"])
      await host.run(command, ["-I", chain, "-s", source, "-j", "ACCEPT"]);
  const probes = listProbes(place).filter(({ from }) => from === "stranger");
  await hold(place, setting, probes, `the stranger is accepted, ${JSON.stringify(setting)}`);
}

/** The matrix itself: it sees when a single rule is missing, and what is then open is what that rule is there for. */
async function oneRuleLess(place: Place): Promise<void> {
  const setting: Setting = { ...UNGUARDED, userlandProxy: true };
  const expected = (probe: Probe) => expectedOf(probe, place, setting);
  await apply(place, UNGUARDED, true);
  for (const missing of MISSING) {
    const { words, family, opens } = missing;
    const probes = listProbes(place).filter((probe) => probe.family === family && isAbout(probe, "web"));
    const open = probes.filter((probe) => expected(probe) === "closed" && opens(probe));
    expect(open.length, words).toBeGreaterThan(3);
    await without(place.host, missing, async () => {
      const found = await deviations(place, probes, expected);
      expect.soft(found, words).toEqual(open.map((probe) => expect.stringContaining(`${nameOf(probe)}: web:`)));
    });
  }
}

/** For what is answered, on a machine that has much to do; and for what is not. */
const [LONG_MS, BRIEF_MS] = [15_000, 1500];

for (const backend of ["nft", "legacy"] as const) {
  story(
    `iptables-${backend}: what stands ends when it is no longer allowed, and goes on while it is`,
    async ({ lab }) => {
      const host = await lab.host({ name: "standing", backend, docker: { ipv6: true } });
      const clients = { friend: await lab.client("friend"), stranger: await lab.client("stranger") };
      const { friend, stranger } = clients;
      const everyone = [friend.address, friend.address6, stranger.address, stranger.address6];
      const settled = (office: string[]) =>
        host.write("/etc/docker_iptables.json", JSON.stringify({ ipv6: true, sources: { office } }));
      await settled(everyone);
      done(await ask(host, { base: true, replace: true, reload: "restore" }));
      // What comes before our rules, and accepts all that stands.
      for (const command of ["iptables", "ip6tables"])
        for (const chain of ["INPUT", "FORWARD"])
          await host.run(command, ["-I", chain, ..."-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT".split(" ")]);
      await host.docker.run("web", { publish: ["7000:7000/tcp", "7000:7000/udp"], ports: ["hold:7000", 80] });

      const kinds = [host.address, host.address6].flatMap((address) =>
        (["tcp", "udp"] as const).map((protocol) => ({ protocol, address, port: 7000 })),
      );
      const all = kinds.flatMap((kind) => (["hello", "push"] as const).map((words) => ({ kind, words })));
      const open = async (client: Client) => {
        const flows = all.map((one) => ({ ...one, flow: new Flow(lab.world, client, one.kind) }));
        const answered = await Promise.all(flows.map(({ flow, words }) => flow.isAnswered(words, LONG_MS)));
        expect.soft(answered).toEqual(flows.map(() => true));
        return flows;
      };
      /** Those of the stranger end, those of the friend go on. */
      const holdCut = async (step: string, flows: Record<"friend" | "stranger", Awaited<ReturnType<typeof open>>>) => {
        const isAlive = async ({ flow, words }: (typeof flows.friend)[0], timeoutMs: number) =>
          words === "push" ? flow.goesOn(timeoutMs) : flow.isAnswered("hello", timeoutMs);
        const name = ({ kind: { protocol, address }, words }: (typeof all)[0]) => `${protocol} ${address} ${words}`;
        const ended = await Promise.all(
          flows.stranger.map(async (one) =>
            one.words === "push" ? one.flow.fallsSilent() : !(await isAlive(one, BRIEF_MS)),
          ),
        );
        const alive = await Promise.all(flows.friend.map((one) => isAlive(one, LONG_MS)));
        expect.soft(flows.stranger.filter((_, at) => !ended[at]).map(name), `${step}: not ended`).toEqual([]);
        expect.soft(flows.friend.filter((_, at) => !alive[at]).map(name), `${step}: ended`).toEqual([]);
        await Promise.all([...flows.stranger, ...flows.friend].map(({ flow }) => flow.close()));
      };
      const openBoth = async () => ({ friend: await open(friend), stranger: await open(stranger) });
      const create = async (allow: Record<string, string[]>) =>
        done(await ask(host, { container: "web", allow, reload: "patch" }));

      const proxied = await openBoth();
      await create({ "7000": [friend.address, friend.address6] });
      await holdCut("docker-proxy's", proxied);

      await create({ "7000": everyone });
      const forwarded = await openBoth();
      await create({ "7000": [friend.address, friend.address6] });
      await holdCut("forwarded", forwarded);

      await create({ "7000": ["@office"] });
      const grouped = await openBoth();
      await settled([friend.address, friend.address6]);
      done(await ask(host, { all: true, reload: "patch" }));
      await holdCut("of a group", grouped);
    },
  );
}

story("where a port of a range is taken, no other port's list is passed by", async ({ lab }) => {
  const host = await lab.host({ name: "clash", docker: { ipv6: true } });
  const stranger = await lab.client("stranger");
  // 7002 and 7003 are a range of one DNAT: where a flow of 7001 has the way to 81, the kernel takes 82 for one of 7002.
  await host.docker.run("web", { publish: ["7001:81/udp", "7002:81/udp", "7003:82/udp"], ports: [81, 82] });
  await host.run("docker_iptables", ["setup"]);
  for (const [second, third] of [
    [[], []],
    [[], ["192.0.2.1"]],
    [[stranger.address], []],
    [undefined, []],
  ] as const) {
    const allow = { ...(second === undefined ? {} : { 7002: second }), 7003: third };
    done(await ask(host, { container: "web", allow }));
    await host.run("conntrack", ["--flush"]);
    const from = { protocol: "udp", sourcePort: 41_000 } as const;
    expect(await stranger.connect(host.address, 7001, from)).toMatchObject({ reached: true, port: 81 });
    const found = await stranger.connect(host.address, 7002, { ...from, timeoutMs: 1500 });
    expect.soft(found, JSON.stringify(allow)).not.toMatchObject({ port: 82 });
  }
});

story("what stands on another port of a range ends by the list of the port that it asked for", async ({ lab }) => {
  const host = await lab.host({ name: "shifted", docker: { ipv6: true } });
  const stranger = await lab.client("stranger");
  const publish = ["7001:81/tcp", "7002:81/tcp", "7003:82/tcp"];
  await host.docker.run("web", { publish, ports: ["hold:81-82", 80] });
  await host.run("docker_iptables", ["setup"]);
  done(await ask(host, { container: "web" }));
  const flows: Flow[] = [];
  for (const port of [7001, 7002]) {
    const flow = new Flow(lab.world, stranger, { protocol: "tcp", address: host.address, port, sourcePort: 41_000 });
    expect(await flow.isAnswered("hello", LONG_MS)).toBe(true);
    flows.push(flow);
  }
  const { stdout } = await host.run("conntrack", ["--dump", "--proto", "tcp", "--orig-port-dst", "7002"]);
  expect(stdout, "the kernel took the range's other port").toContain("sport=82 ");
  done(await ask(host, { container: "web", allow: { 7002: [], 7003: ["192.0.2.1"] } }));
  const [open, shifted] = await Promise.all(
    flows.map((flow, at) => flow.isAnswered("hello", at === 0 ? LONG_MS : BRIEF_MS)),
  );
  expect([open, shifted]).toEqual([true, false]);
});
