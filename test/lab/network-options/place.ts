/*
 * One host with a network of each kind, and who tries what: by packets, and in words that are the same whatever addresses there are.
 */

import type { Client } from "../client.ts";
import type { Host } from "../host.ts";
import type { Lab } from "../lab.ts";
import type { Family } from "../matrix/place.ts";
import type { ProbeResult } from "../probe.ts";
import { isKnown, KINDS, type Kind } from "./kinds.ts";

export interface Place {
  host: Host;
  /** On the host's wire, and routes all networks of containers to it. */
  remote: Client;
  version: string;
  kinds: readonly Kind[];
  second: string;
  second6: string;
}

/** A container on another network that publishes nothing; and what tries from each place. */
const OTHER = "other";

export interface Probe {
  name: string;
  kind: Kind;
  /** `own` is the container that publishes. */
  from: "remote" | "host" | "peer" | "other" | "own";
  family: Family;
  /** Whether the host is tried, or the container's own address: at the port that is published, at another one, or by an ICMP echo. */
  to: "host" | "second" | "published" | "unpublished" | "icmp" | "outside";
  protocol: "tcp" | "udp";
}

export async function makePlace(lab: Lab, userlandProxy: boolean): Promise<Place> {
  const settings = { iptables: true, ip6tables: true };
  const host = await lab.host({ name: "options", docker: { ipv6: true, userlandProxy, settings } });
  const remote = await lab.client("remote");
  const [second, second6] = [host.address, host.address6].map((one) => one.replace(/\d+$/, "60")) as [string, string];
  await host.run("ip", ["address", "add", `${second}/24`, "dev", "eth0"]);
  await host.run("ip", ["address", "add", `${second6}/64`, "dev", "eth0", "nodad"]);
  // What is refused is asked of conntrack afterwards, all at once.
  const settled = "net.netfilter.nf_conntrack_tcp_timeout_close=120";
  await host.run("sysctl", ["-qw", "net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0", settled]);
  const { stdout } = await host.docker.cli("version", "--format", "{{.Server.Version}}");
  const version = stdout.trim();
  const kinds = KINDS.filter((kind) => isKnown(kind, version));
  for (const subnet of ["172.17.0.0/16", "2001:db8:2::/64"]) await routeTo(remote, subnet, host);
  for (const [index, kind] of kinds.entries()) {
    const subnets = kind.driver === "macvlan" ? [LAN] : kind.families.map((family) => subnetOf(family, index));
    if (kind.driver === undefined) for (const subnet of subnets) await routeTo(remote, subnet, host);
    if (kind.options !== undefined) {
      const bridge = kind.driver
        ? ["--driver", kind.driver]
        : ["--opt", `com.docker.network.bridge.name=br-${kind.name}`];
      const families = [
        ...(kind.families.includes("ipv6") ? ["--ipv6"] : []),
        ...subnets.flatMap((one) => ["--subnet", one]),
      ];
      await host.docker.cli(
        "network",
        "create",
        ...bridge,
        ...families,
        ...kind.options({ second, second6 }),
        kind.name,
      );
    }
    const publish = [`${kind.port}:80`, `${kind.port}:80/udp`];
    await host.docker.run(kind.name, { network: kind.name, publish, ports: [80, 81] });
    await host.docker.run(`${kind.name}-peer`, { network: kind.name });
  }
  await host.docker.cli(
    "network",
    "create",
    "--ipv6",
    "--subnet",
    "172.31.0.0/24",
    "--subnet",
    "2001:db8:31::/64",
    OTHER,
  );
  for (const subnet of ["172.31.0.0/24", "2001:db8:31::/64"]) await routeTo(remote, subnet, host);
  await host.docker.run(OTHER, { network: OTHER });
  return { host, remote, version, kinds, second, second6 };
}

/** The lab's, from which Docker gives its last addresses. */
const LAN = "198.51.100.0/24";

function subnetOf(family: Family, index: number): string {
  return family === "ipv4" ? `172.30.${index}.0/24` : `2001:db8:30:${index}::/64`;
}

async function routeTo(remote: Client, subnet: string, host: Host): Promise<void> {
  await remote.route(subnet, subnet.includes(":") ? host.address6 : host.address);
}

/** Whether Docker or nobody makes rules. The containers start again. */
export async function setDaemon({ host, kinds }: Place, makesRules: boolean): Promise<void> {
  const path = "/etc/docker/daemon.json";
  const settings = JSON.parse(await host.read(path));
  await host.write(path, JSON.stringify({ ...settings, iptables: makesRules, ip6tables: makesRules }));
  await host.systemctl(["restart", "docker"]);
  for (const { name } of kinds) await host.docker.cli("start", name, `${name}-peer`);
  await host.docker.cli("start", OTHER);
  await host.docker.forget();
}

export function listProbes({ kinds }: Place): Probe[] {
  const froms = ["remote", "host", "peer", "other"] as const;
  const probes = kinds.flatMap((kind) =>
    kind.families.flatMap((family) => [
      ...froms.flatMap((from) =>
        (["host", "second"] as const).flatMap((to) =>
          (["tcp", "udp"] as const).map((protocol) => ({ kind, from, family, to, protocol })),
        ),
      ),
      ...froms.flatMap((from) => [
        ...(["tcp", "udp"] as const).map((protocol) => ({ kind, from, family, to: "published" as const, protocol })),
        { kind, from, family, to: "unpublished" as const, protocol: "tcp" as const },
      ]),
      { kind, from: "remote" as const, family, to: "icmp" as const, protocol: "tcp" as const },
      ...(["own", "peer"] as const).map((from) => ({
        ...{ kind, from, family, to: "outside" as const, protocol: "tcp" as const },
      })),
    ]),
  );
  return probes.map((probe) => ({ ...probe, name: nameOf(probe) }));
}

const WORDS: Record<Probe["to"], string> = {
  host: "the host's port",
  second: "the port at the host's second address",
  published: "the published port at its own address",
  unpublished: "another port at its own address",
  icmp: "its own address by ICMP",
  outside: "remote",
};

function nameOf({ kind, from, family, to, protocol }: Omit<Probe, "name">): string {
  const what = to === "icmp" || to === "outside" ? WORDS[to] : `${WORDS[to]}/${protocol}`;
  return `${kind.name}, ${family}: ${from} to ${what}`;
}

/** How each probe ends, by its name. Who gets no answer asks a second time: a busy machine answers late. */
export async function measure(place: Place): Promise<Map<string, string>> {
  const { host, kinds } = place;
  await host.run("conntrack", ["--flush"]);
  const words = await addressesIn(place);
  const all = listProbes(place);
  const found = new Map<string, string>();
  for (const timeoutMs of [1500, 4000]) {
    const open = all.filter(({ name }) => timeoutMs === 1500 || found.get(name) === "timeout");
    const ended = await Promise.all(open.map((probe) => end(place, probe, words, timeoutMs)));
    for (const [index, { name }] of open.entries()) found.set(name, ended[index] ?? "");
  }
  if (found.size !== all.length || kinds.length === 0) throw new Error("probes without names of their own");
  return found;
}

interface Words {
  /** An address -> whose it is. */
  of: ReadonlyMap<string, string>;
  own: (kind: Kind, family: Family, who?: "peer") => string;
}

async function addressesIn({ host, remote, kinds, second, second6 }: Place): Promise<Words> {
  const of = new Map([
    [host.address, "the host"],
    [host.address6, "the host"],
    [second, "the host's second"],
    [second6, "the host's second"],
    [remote.address, "remote"],
    [remote.address6, "remote"],
  ]);
  const own = new Map<string, string>();
  const names = [...kinds.flatMap(({ name }) => [name, `${name}-peer`]), OTHER];
  const documents = JSON.parse((await host.docker.cli("inspect", ...names)).stdout);
  for (const [index, name] of names.entries()) {
    for (const network of Object.values<Record<string, string>>(documents[index].NetworkSettings.Networks)) {
      const pairs = [
        ["ipv4", network["IPAddress"], network["Gateway"]],
        ["ipv6", network["GlobalIPv6Address"], network["IPv6Gateway"]],
      ] as const;
      for (const [family, address, gateway] of pairs) {
        if (address) own.set(`${name} ${family}`, address);
        if (address) of.set(address, name);
        if (gateway) of.set(gateway, `${name.replace(/-peer$/, "")}'s gateway`);
      }
    }
  }
  return { of, own: (kind, family, who) => own.get(`${kind.name}${who ? "-peer" : ""} ${family}`) ?? "" };
}

async function end(place: Place, probe: Probe, words: Words, timeoutMs: number): Promise<string> {
  const { host, remote } = place;
  const { kind, from, family, to, protocol } = probe;
  const isIpv4 = family === "ipv4";
  if (to === "icmp") return echo(remote, words.own(kind, family));
  if (to === "outside") return leave(place, probe, words, timeoutMs);
  const addresses = {
    host: isIpv4 ? host.address : host.address6,
    second: isIpv4 ? place.second : place.second6,
    published: words.own(kind, family),
    unpublished: words.own(kind, family),
  };
  const port = to === "published" ? 80 : to === "unpublished" ? 81 : kind.port;
  const options = { protocol, timeoutMs };
  const result = await tryFrom(place, from, kind, addresses[to], port, options);
  return result.reached
    ? `${result.server}:${result.port} sees ${words.of.get(result.peer) ?? result.peer}`
    : result.why;
}

function tryFrom(
  { host, remote }: Place,
  from: Probe["from"],
  { name }: Kind,
  address: string,
  port: number,
  options: { protocol: "tcp" | "udp"; timeoutMs: number },
): Promise<ProbeResult> {
  if (from === "remote") return remote.connect(address, port, options);
  if (from === "host") return host.connect(address, port, options);
  return host.docker.connect(from === "peer" ? `${name}-peer` : OTHER, address, port, options);
}

/** Nothing listens there, so it refuses, which is an answer; conntrack knows to whom it was given. */
async function leave(
  { host, remote }: Place,
  { kind, family, from }: Probe,
  words: Words,
  timeoutMs: number,
): Promise<string> {
  const who = from === "peer" ? from : undefined;
  const [own, to] = [words.own(kind, family, who), family === "ipv4" ? remote.address : remote.address6];
  const result = await host.docker.connect(who ? `${kind.name}-peer` : kind.name, to, kind.port, { timeoutMs });
  const selector = ["--family", family, "--proto", "tcp", "--src", own, "--orig-port-dst", String(kind.port)];
  const { stdout } = await host.run("conntrack", ["--dump", ...selector], { check: false });
  const [, answered = ""] = /src=\S+ dst=\S+ sport=\d+ dport=\d+ .*?src=\S+ dst=(\S+) /.exec(stdout) ?? [];
  const why = result.reached ? "reached" : result.why;
  return why === "refused" ? `refused, as ${words.of.get(answered) ?? answered}` : why;
}

/** The machine has no ping. */
const ECHO = `
import os, socket, struct, sys
six = ":" in sys.argv[1]
raw = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP)
raw.settimeout(2)
name = os.getpid() & 0xffff
head = struct.pack("!BBHHH", 128 if six else 8, 0, 0, name, 1)
total = sum(struct.unpack("!4H", head))
if not six: head = struct.pack("!BBHHH", 8, 0, ~((total >> 16) + (total & 0xffff)) & 0xffff, name, 1)
raw.sendto(head, (sys.argv[1], 0))
try:
    while True:
        data = raw.recv(2000)
        kind, _, _, of, _ = struct.unpack("!BBHHH", data[0 if six else 20:][:8])
        if kind == (129 if six else 0) and of == name: print("answers"); break
except TimeoutError: print("timeout")
except OSError: print("unreachable")
`;

async function echo(remote: Client, address: string): Promise<string> {
  return (await remote.run("python3", ["-c", ECHO, address])).stdout.trim();
}
