/*
 * explain's words against packets: each of its views is tried, and ends as it says, seen as whom it says.
 */

import { describe, expect } from "vitest";
import type { Result } from "../../src/generated/result.ts";
import type { Client } from "./client.ts";
import type { Host } from "./host.ts";
import { type ProbeResult, Prober } from "./probe.ts";
import { story } from "./story.ts";

type View = NonNullable<Result["explained"]>[number]["views"][number];

async function explained(host: Host, ...names: string[]): Promise<NonNullable<Result["explained"]>> {
  const { stdout } = await host.run("docker_iptables", ["explain", "--json", ...names]);
  return JSON.parse(stdout).explained;
}

describe.each([true, false])("userland proxy %s", (userlandProxy) => {
  story("every view of explain is what packets do", async ({ lab }) => {
    const host = await lab.host({ name: "web1", docker: { ipv6: true, userlandProxy } });
    const [client, neighbour] = [await lab.client("laptop"), await lab.client("neighbour")];
    await neighbour.route("127.0.0.1/32", host.address);
    await neighbour.route("172.16.0.0/12", host.address);
    await neighbour.route("2001:db8:2::/64", host.address6);
    await host.docker.cli("network", "create", "--opt", "com.docker.network.bridge.name=br-app", "app");
    const publish = [
      "8080:80",
      "8080:80/udp",
      "127.0.0.1:8081:80",
      `${host.address}:8082:80`,
      "[::1]:8083:80",
      "9000-9003:9000-9003",
    ];
    await host.docker.run("web", { publish });
    await host.docker.run("beside");
    await host.docker.run("elsewhere", { network: "app" });

    const tell = async (when: string) => {
      const told = (await explained(host, "web")).flatMap(({ publish, views }) =>
        views.map((view) => ({ publish, view })),
      );
      const wrong: unknown[] = [];
      await Promise.all(
        told.map(async ({ publish, view }) => {
          const result = await attempt(view, publish.endsWith("udp") ? "udp" : "tcp", { host, client, neighbour });
          const { reaches, seen_as } = view;
          const said = reaches ? { reached: true, server: "web" } : { reached: false };
          // Each view represents others, too: another machine, another container.
          const named = ![
            "another machine",
            "a container on the same network",
            "a container on another network",
            "an on-link host",
          ].some((one) => view.from.startsWith(one));
          const as = named && reaches ? { peer: seen_as } : {};
          if (!isLike(result, { ...said, ...as })) wrong.push({ when, publish, view, result });
        }),
      );
      expect(wrong).toEqual([]);
      return told.length;
    };
    expect(await tell("without rules")).toBeGreaterThan(30);
    await host.run("docker_iptables", ["setup", "--reload", "restore"]);
    await host.run("docker_iptables", ["create", "web", "--ipv6", "--reload", "restore"]);
    await tell("with ours");
    const views = (await explained(host, "web")).flatMap((one) => one.views);
    expect(
      views.filter(
        ({ from, reaches, seen_as }) =>
          from === "another machine" && reaches && /^(203|2001:db8:ffff)/.test(seen_as ?? ""),
      ).length,
    ).toBe(7);
    // A foreign rule decides: explain names it, and packets agree.
    await host.run("iptables", ["-I", "FORWARD", "-p", "tcp", "--dport", "80", "-j", "REJECT"]);
    await host.run("iptables", ["-t", "raw", "-F"]);
    await tell("with a stranger's rule, and without guards");
    const said = await host.run("docker_iptables", ["explain", "web"]);
    expect(said.stdout).toMatch(
      /another machine +198\.51\.100\.10:8080 +no: rejected by a rule\n(.*\n)? +-A FORWARD -p tcp .*REJECT/,
    );
  });
});

/** Changes of the rules of a host that runs; each is taken back before the next. */
const STRANGERS: Record<string, string[][]> = {
  "nothing of a stranger's": [],
  "a chain without rules that is gone to": [
    ["-N", "EMPTY"],
    ["-I", "FORWARD", "-g", "EMPTY"],
  ],
  "an interface that is closed": [["-I", "FORWARD", "-i", "eth0", "-j", "DROP"]],
  "a queue that is passed by": [["-I", "FORWARD", "-j", "NFQUEUE", "--queue-num", "7", "--queue-bypass"]],
  "a queue that nobody reads": [["-I", "FORWARD", "-j", "NFQUEUE", "--queue-num", "7"]],
  "the last hook": [["-t", "mangle", "-I", "POSTROUTING", "-o", "docker0", "-j", "DROP"]],
  "the security table": [["-t", "security", "-I", "FORWARD", "-p", "tcp", "-j", "DROP"]],
  "no conntrack": [["-t", "raw", "-I", "PREROUTING", "-p", "tcp", "--dport", "8080", "-j", "CT", "--notrack"]],
  "another subnet": [["-t", "nat", "-I", "PREROUTING", "-i", "eth0", "-j", "NETMAP", "--to", "192.168.77.0/24"]],
  "a local program": [
    ["-t", "mangle", "-I", "PREROUTING", "-p", "tcp", "--dport", "8080", "-j", "TPROXY", "--on-port", "9"],
  ],
  "what docker-proxy sends": [["-I", "OUTPUT", "-o", "docker0", "-j", "DROP"]],
  "packets to itself": [["-t", "raw", "-I", "PREROUTING", "-i", "lo", "-p", "tcp", "--dport", "8080", "-j", "DROP"]],
};

story("where rules tell clients apart, and where a packet ends", async ({ lab }) => {
  const host = await lab.host({ name: "web2" });
  const [friend, stranger] = [await lab.client("friend"), await lab.client("stranger")];
  await host.run("docker_iptables", ["setup", "--reload", "restore"]);
  await host.docker.run("web", { publish: ["8080:80"] });
  // A machine behind another interface.
  await host.run("ip", ["netns", "add", "far"]);
  for (const command of [
    "link add eth1 type veth peer name eth0 netns far",
    "address add 192.168.9.1/24 dev eth1",
    "link set eth1 up",
    "-n far address add 192.168.9.2/24 dev eth0",
    "-n far link set eth0 up",
    `-n far route add default via 192.168.9.1`,
  ])
    await host.run("ip", command.split(" "));
  const far = new Prober(host.world, `/proc/${host.pid}/root/run/netns/far`);
  try {
    await host.run("docker_iptables", ["create", "web", "--reload", "restore"]);
    const clean = (await host.run("iptables-save")).stdout;
    const wrong: unknown[] = [];
    const said = async (when: string) => {
      const all = (await explained(host, "web")).filter(({ publish }) => publish.startsWith("0.0.0.0"));
      const views = all.flatMap((one) => one.views).filter(({ from }) => /^(another machine|this host)/.test(from));
      const asked = await Promise.all(
        views.flatMap((view) =>
          clientsOf(view, { friend, stranger, far, host }).map(async (client) => {
            const [, address = "", port = ""] = /^(.*):(\d+)$/.exec(view.to) ?? [];
            const options = { timeoutMs: view.reaches ? 15_000 : 1500 };
            return { view, result: await client.connect(address, Number(port), options) };
          }),
        ),
      );
      for (const { view, result } of asked) if (result.reached !== view.reaches) wrong.push({ when, view, result });
      const peers = asked.flatMap(({ view: { seen_as, source }, result }) =>
        result.reached && seen_as !== source && result.peer !== seen_as ? [{ when, seen_as, result }] : [],
      );
      wrong.push(...peers);
      return views.map(
        ({ from, reaches, unless }) => `${reaches ? "yes" : "no"}${unless.length > 0 ? "?" : ""} ${from}`,
      );
    };
    const told: Record<string, string[]> = {};
    const strangers = {
      ...STRANGERS,
      "some that are let in": [
        ["-I", "FORWARD", "!", "-o", "eth0", "-j", "DROP"],
        ["-I", "FORWARD", "-s", friend.address, "-j", "ACCEPT"],
      ],
      "one that is kept out": [["-I", "FORWARD", "-s", friend.address, "-j", "DROP"]],
    };
    for (const [when, rules] of Object.entries(strangers)) {
      for (const rule of rules) await host.run("iptables", rule);
      told[when] = await said(when);
      // A table that was not there then is not in that text.
      for (const table of ["mangle", "security"]) await host.run("iptables", ["-t", table, "-F"]);
      await host.run("iptables-restore", [], { input: clean });
    }
    await host.run("docker_iptables", [
      "create",
      "web",
      "--allow",
      `8080=${friend.address},eth1`,
      "--reload",
      "restore",
    ]);
    told["a list"] = await said("a list");
    const list = (await host.run("docker_iptables", ["explain", "web"])).stdout;
    expect(list).toContain(`0.0.0.0:8080/tcp of web, from ${friend.address}/32, eth1 only\n`);
    expect(wrong).toEqual([]);
    const machines = Object.fromEntries(
      Object.entries(told).map(([when, all]) => [when, all.filter((one) => one.includes("another machine"))]),
    );
    expect(machines).toEqual({
      "nothing of a stranger's": ["yes another machine"],
      "a chain without rules that is gone to": ["yes another machine"],
      "an interface that is closed": ["no another machine by eth0", "yes another machine by eth1"],
      "a queue that is passed by": ["yes? another machine"],
      "a queue that nobody reads": ["no? another machine"],
      "the last hook": ["no another machine"],
      "the security table": ["no another machine"],
      "no conntrack": ["yes another machine"],
      "another subnet": ["no another machine by eth0", "yes another machine by eth1"],
      "a local program": ["no? another machine"],
      "what docker-proxy sends": ["yes another machine"],
      "packets to itself": ["yes another machine"],
      "some that are let in": [`yes another machine from ${friend.address}`, "no another machine from elsewhere"],
      "one that is kept out": [`no another machine from ${friend.address}`, "yes another machine from elsewhere"],
      "a list": [
        `yes another machine from ${friend.address} by eth0`,
        "no another machine from elsewhere by eth0",
        "yes another machine by eth1",
      ],
    });
    expect(told["packets to itself"]?.filter((one) => one.includes("this host"))).toContain("no this host");
    expect(told["what docker-proxy sends"]?.filter((one) => one.includes("this host"))).toContain("no this host");
  } finally {
    await far.stop();
  }
});

/** Those in the lab whom a view is about. */
function clientsOf(
  { from, sources, interfaces }: View,
  { friend, stranger, far, host }: { friend: Client; stranger: Client; far: Prober; host: Host },
): Pick<Prober, "connect">[] {
  if (from === "this host") return [host];
  const isNamed = (sources ?? []).some((one) => one.startsWith(friend.address));
  const hasRest = sources === undefined || sources.includes("0.0.0.0/0");
  const near = interfaces === undefined || interfaces.includes("eth0");
  return [
    ...(near && (isNamed || sources === undefined) ? [friend] : []),
    ...(near && hasRest ? [stranger] : []),
    ...(hasRest && (interfaces === undefined || interfaces.includes("eth1")) ? [far] : []),
  ];
}

function isLike(result: ProbeResult, said: Record<string, unknown>): boolean {
  return Object.entries(said).every(([key, value]) => (result as Record<string, unknown>)[key] === value);
}

interface Places {
  host: Host;
  client: Client;
  neighbour: Client;
}

function attempt(
  { from, to, reaches }: View,
  protocol: "tcp" | "udp",
  { host, client, neighbour }: Places,
): Promise<ProbeResult> {
  const [, address = "", port = ""] = /^\[?([^\]]*?)\]?:(\d+)$/.exec(to) ?? [];
  // An answer that is to come may be late; silence is waited for no longer than need be.
  const options = { protocol, timeoutMs: reaches ? 30_000 : 1000 };
  if (from === "another machine") return client.connect(address, Number(port), options);
  if (from === "this host") return host.connect(address, Number(port), options);
  if (from.startsWith("an on-link host")) return neighbour.connect(address, Number(port), options);
  const container =
    from === "web itself" ? "web" : from.startsWith("a container on the same network") ? "beside" : "elsewhere";
  return host.docker.connect(container, address, Number(port), options);
}
