// The benchmarks. Each brings the host to where it starts, has commands measured in turn, and says what came of it.

import { writeFile } from "node:fs/promises";
import type { Host } from "../lab/host.ts";
import { type Command, measure, type Sample } from "./measure.ts";
import { apart, BARE, FAKE_CLIENT, type Form, type Place, pretend } from "./place.ts";
import { rivalsFor } from "./rivals.ts";

/** One line of the table. */
export interface Figure {
  /** What was measured, and against what. */
  what: string;
  measured: string;
  against: string;
  ratio: number;
  /** The ratio that is aimed at, at most; or at least. Undefined where there is no aim. */
  goal?: { most: number } | { least: number };
}

/** One line of the plot: seconds by number of ports. */
export interface Series {
  name: string;
  points: [ports: number, seconds: number][];
}

const CHANGED = '"changed":true';

/** Seconds of one command against those of another. */
export function compare(
  what: string,
  samples: ReadonlyMap<string, Sample>,
  [one, other]: readonly [string, string],
  goal?: Figure["goal"],
): Figure {
  const [measured, against] = [secondsOf(samples, one), secondsOf(samples, other)];
  const told = { what, measured: spellSeconds(measured), against: `${other}: ${spellSeconds(against)}` };
  return { ...told, ratio: measured / against, ...(goal ? { goal } : {}) };
}

function secondsOf(samples: ReadonlyMap<string, Sample>, name: string): number {
  const sample = samples.get(name);
  if (sample === undefined) throw new Error(`nothing was measured under the name ${name}`);
  return sample.seconds;
}

export function spellSeconds(seconds: number): string {
  return seconds < 1 ? `${(seconds * 1000).toFixed(seconds < 0.1 ? 1 : 0)} ms` : `${seconds.toFixed(1)} s`;
}

/** A form of ours, given JSON on stdin. */
export async function ours(host: Host, form: Form, given: Record<string, unknown>, more: Partial<Command> = {}) {
  const stdin = `/root/given-${Object.values(given).join("-").replace(/\W+/g, "_")}.json`;
  await host.write(stdin, JSON.stringify(given));
  return { name: form.name, argv: form.argv, env: form.env, stdin, rounds: 9, ...more };
}

/** 1: nothing is to be done. */
export async function unchanged({ host, native, nodes }: Place): Promise<Figure[]> {
  await host.run("sh", ["-c", BARE]);
  await host.run("docker_iptables", ["create", "web"]);
  const floor = "docker inspect web > /dev/null; iptables-save > /dev/null";
  const forms = [native, ...nodes];
  const mine = await Promise.all(
    forms.map((form) => ours(host, form, { container: "web" }, { expect: '"changed":false', rounds: 25 })),
  );
  const samples = await measure(host, [{ name: "floor", argv: ["sh", "-c", floor], rounds: 25 }, ...mine]);
  const goals = [{ most: 1.3 }, { most: 3 }, undefined];
  return forms.map(({ name }, index) =>
    compare(`unchanged \`present\`, ${name}`, samples, [name, "floor"], goals[index]),
  );
}

/** Our names among those of others. */
const OURS = new Map([
  ["native", "docker_iptables"],
  ["Node.js 24", "its script, Node.js 24"],
]);

/** 2: N ports that are no range, from nothing to live. */
export async function ports(place: Place, counts: readonly number[]): Promise<{ figures: Figure[]; series: Series[] }> {
  const figures: Figure[] = [];
  const seconds = new Map<string, [number, number][]>();
  for (const count of counts) {
    const samples = await measurePorts(place, count);
    for (const [name, sample] of samples) seconds.set(name, [...(seconds.get(name) ?? []), [count, sample.seconds]]);
    const what = `${count} ${count === 1 ? "port" : "ports"}, \`reload: restore\`, native`;
    const goal = count === 1000 ? { most: 2.5 } : undefined;
    figures.push(compare(what, samples, ["native", "iptables-restore"], goal));
    if (count === 1) figures.push(compare(what, samples, ["native", "docker inspect, iptables-restore"], { most: 2 }));
    for (const rival of ["CNI portmap", "netavark"].filter((name) => samples.has(name))) {
      const { measured, against, ratio } = compare(what, samples, ["native", rival]);
      figures.push({
        what: `${what}: how many times faster`,
        measured,
        against,
        ratio: 1 / ratio,
        ...(count === 1 ? { goal: { least: 1 } } : {}),
        ...(count === 1000 ? { goal: { least: 100 } } : {}),
      });
    }
  }
  const native = new Map(seconds.get("native"));
  const [few, many] = [native.get(1000), native.get(10_000)];
  if (few !== undefined && many !== undefined) {
    const told = { measured: spellSeconds(many), against: `1000 ports: ${spellSeconds(few)}` };
    figures.push({ what: "10000 ports, native", ...told, ratio: many / few, goal: { most: 12 } });
  }
  return { figures, series: [...seconds].map(([name, points]) => ({ name: OURS.get(name) ?? name, points })) };
}

async function measurePorts(place: Place, count: number): Promise<Map<string, Sample>> {
  const { host, native, nodes } = place;
  await pretend(place, "web", apart(count));
  const given = { container: "web", reload: "restore", client: FAKE_CLIENT };
  const rounds = count < 10_000 ? 7 : 3;
  const forms = [native, ...nodes.slice(0, 1)];
  const mine = await Promise.all(
    forms.map((form) => ours(host, form, given, { before: BARE, expect: CHANGED, rounds })),
  );
  const rules = `/root/rules-${count}`;
  await host.run("sh", ["-c", `${BARE}; docker_iptables < ${mine[0]?.stdin} && iptables-save > ${rules}`]);
  const restore = { name: "iptables-restore", argv: ["iptables-restore"], stdin: rules, before: BARE, rounds };
  const asking = {
    name: "docker inspect, iptables-restore",
    argv: ["sh", "-c", `docker inspect web > /dev/null; iptables-restore < ${rules}`],
  };
  const floors = count === 1 ? [{ ...asking, before: BARE, rounds }] : [];
  const rivals = count <= 1000 ? await rivalsFor(host, apart(count), count < 1000 ? 3 : 1) : [];
  return measure(host, [restore, ...floors, ...mine, ...rivals]);
}

/** Shell: the lists are gone, too. */
const UNLISTED = `${BARE}; for command in iptables ip6tables; do $command -t mangle -F; $command -t mangle -X; done`;

/** 8: so many sources on one port; and as many ports that share a list of a hundredth as many. */
export async function sources(place: Place, count: number): Promise<Figure[]> {
  const { host, native } = place;
  const figures: Figure[] = [];
  for (const [ports, size] of [
    [1, count],
    [count, count / 100],
  ] as const) {
    await pretend(place, "web", apart(ports));
    const from = Array.from({ length: size }, (_, index) => `10.${index >> 8}.${index & 255}.7`);
    const given = { container: "web", reload: "restore", client: FAKE_CLIENT, allow: { "*": from } };
    const mine = await ours(host, native, given, { before: UNLISTED, expect: CHANGED, rounds: 9 });
    const rules = `/root/rules-sources-${ports}`;
    const save = `iptables-save > ${rules} && ip6tables-save > ${rules}-6`;
    await host.run("sh", ["-c", `${UNLISTED}; docker_iptables < ${mine.stdin} && ${save}`]);
    const common = { before: UNLISTED, rounds: 9 };
    const ipv4 = { name: "iptables-restore alone", argv: ["iptables-restore"], stdin: rules, ...common };
    // What a list closes it closes in both families.
    const script = `iptables-restore < ${rules} && ip6tables-restore < ${rules}-6`;
    const both = { name: "iptables-restore, ip6tables-restore", argv: ["sh", "-c", script], ...common };
    const samples = await measure(host, [both, ipv4, mine]);
    const what = `${size} sources on ${ports} ${ports === 1 ? "port" : "ports"}, \`reload: restore\`, native`;
    figures.push(compare(what, samples, ["native", both.name], ports === 1 ? { most: 3 } : undefined));
    figures.push(compare(what, samples, ["native", ipv4.name]));
  }
  return figures;
}

/** 3: many ports that are one range. */
export async function range(place: Place, count: number): Promise<Figure[]> {
  const { host, native } = place;
  await pretend(place, "one", [20_000]);
  await pretend(
    place,
    "range",
    Array.from({ length: count }, (_, index) => 20_000 + index),
  );
  const plan = await Promise.all(
    ["one", "range"].map(async (container) => {
      const given = { container, reload: "restore", client: FAKE_CLIENT };
      return { ...(await ours(host, native, given, { before: BARE, expect: CHANGED, rounds: 9 })), name: container };
    }),
  );
  const documents = ["one", "range"].map((name) => ({
    name: `client, ${name}`,
    argv: [FAKE_CLIENT, "inspect", name],
    rounds: 9,
  }));
  const samples = await measure(host, [...plan, ...documents]);
  return [compare(`a range of ${count} ports, native`, samples, ["range", "one"], { most: 1.2 })];
}

/** 4: many processes at once, the service loads. */
export async function atOnce(place: Place, count: number): Promise<Figure[]> {
  const { host, native } = place;
  const numbers = Array.from({ length: count }, (_, index) => index);
  for (const number of numbers) {
    await pretend(place, `c${number}`, [9000 + number], `172.17.1.${number + 1}`);
  }
  const create = (number: number) => `docker_iptables create c${number} --client ${FAKE_CLIENT} --timeout 120 --json`;
  const all = numbers.map((number) => `${create(number)} > /root/c${number}.json &`).join("\n");
  await host.write("/root/at-once", `${all}\nwait\ncat /root/c*.json | grep -c '"changed":true'\n`);
  const shell = { before: BARE, env: native.env };
  const plan: Command[] = [
    { ...shell, name: "one", argv: ["sh", "-c", create(0)], expect: CHANGED, rounds: 3 },
    { ...shell, name: "all", argv: ["sh", "/root/at-once"], expect: `${count}\n`, rounds: 3 },
  ];
  const loads = async () =>
    (await host.journal("iptables")).split("\n").filter((line) => /^(Reloading|Starting) /.test(line)).length;
  const before = await loads();
  const samples = await measure(host, plan);
  const reloads = (await loads()) - before - 3;
  return [
    compare(`${count} processes at once, service, native`, samples, ["all", "one"], { most: 20 }),
    {
      what: `${count} processes at once: reloads of the service`,
      measured: `${reloads} in 3 turns`,
      against: "one turn",
      ratio: reloads / 3,
      goal: { most: 5 },
    },
  ];
}

const FRAGMENTS = 200;

/** 5: with 20,000 foreign rules. */
export async function besideMany(place: Place, rules: number): Promise<Figure[]> {
  const { host, native, nodes } = place;
  await pretend(place, "web", [8080]);
  const names = Array.from({ length: FRAGMENTS }, (_, index) => `50-${String(index).padStart(3, "0")}`);
  const each = Math.ceil(rules / FRAGMENTS);
  await host.run("mkdir", ["-p", "/root/many"]);
  for (const [index, name] of names.entries()) {
    const lines = Array.from({ length: each }, (_, at) => strangersRule(index * each + at));
    await writeFile(`/proc/${host.pid}/root/root/many/${name}`, `*filter\n${lines.join("\n")}\nCOMMIT\n`);
  }
  const filled = `${BARE}; cp /root/many/* /etc/iptables.d/`;
  await host.run("sh", ["-c", `${filled}; docker_iptables load ipv4; iptables-save > /root/many.rules`]);
  const load = [native, ...nodes.slice(0, 1)].map(({ name, argv, env }) => ({
    ...{ name, argv: [...argv, "load", "ipv4", "--json"], env },
    ...{ before: filled, expect: CHANGED, rounds: 3 },
  }));
  const restore = { name: "iptables-restore", argv: ["iptables-restore"], stdin: "/root/many.rules", before: BARE };
  const loaded = await measure(host, [{ ...restore, rounds: 3 }, ...load]);

  const before = `${filled}; iptables-restore < /root/many.rules`;
  const given = { container: "web", reload: "patch", client: FAKE_CLIENT };
  const patch = await ours(host, native, given, { before, expect: CHANGED, rounds: 3 });
  const save = { name: "iptables-save", argv: ["iptables-save"], before, rounds: 3 };
  const patched = await measure(host, [save, patch]);
  // A run reads what an earlier one has kept of these rules.
  await host.run("sh", ["-c", `${BARE}; docker_iptables load ipv4`]);
  return [
    ...load.map(({ name }, index) =>
      compare(
        `\`load\` of ${FRAGMENTS} fragments, ${each * FRAGMENTS} rules, ${name}`,
        loaded,
        [name, "iptables-restore"],
        index === 0 ? { most: 3 } : undefined,
      ),
    ),
    compare(
      `\`reload: patch\` of one container beside ${each * FRAGMENTS} rules, native`,
      patched,
      ["native", "iptables-save"],
      { most: 3 },
    ),
  ];
}

function strangersRule(index: number): string {
  const address = `10.${index >> 16}.${(index >> 8) & 255}.${index & 255}`;
  return `-A INPUT -s ${address}/32 -p tcp -m tcp --dport ${1024 + (index % 60_000)} -j ACCEPT`;
}

/** A floor to compare memory with, in KB: the goal. */
const MEMORY = 50 * 1024;

/** 6: the most memory that one process of ours holds; the client and iptables are smaller than any of ours. */
export async function memory(place: Place): Promise<Figure[]> {
  const { host, native, nodes } = place;
  const figures: Figure[] = [];
  for (const count of [1, 10_000]) {
    await pretend(place, "web", apart(count));
    const given = { container: "web", reload: "restore", client: FAKE_CLIENT };
    const forms = [native, ...nodes];
    const plan = await Promise.all(forms.map((form) => ours(host, form, given, { before: BARE, rounds: 1 })));
    const samples = await measure(host, plan);
    for (const { name } of forms) {
      const kilobytes = samples.get(name)?.kilobytes ?? 0;
      figures.push({
        what: `peak memory, ${count} ${count === 1 ? "port" : "ports"}, ${name}`,
        measured: `${(kilobytes / 1024).toFixed(0)} MB`,
        against: "50 MB",
        ratio: kilobytes / MEMORY,
        ...(count === 1 && name === "native" ? { goal: { most: 1 } } : {}),
      });
    }
  }
  return figures;
}
