/*
 * A host's state: what status says of it, and whether packets agree with Docker and with it.
 */

import { expect } from "vitest";
import type { Problem, Result } from "../../src/generated/result.ts";
import type { Client } from "./client.ts";
import { until } from "./fixtures.ts";
import type { Host } from "./host.ts";

/** What `docker_iptables status` says, and its exit status. */
export async function statusOf(host: Host, ...args: string[]): Promise<Result & { exitCode: number | undefined }> {
  const { stdout, exitCode } = await host.run("docker_iptables", ["status", "--json", ...args], { check: false });
  return { ...JSON.parse(stdout), exitCode };
}

/** The kinds of a host's problems, with whose they are: "rules_missing web". */
export async function problemsOf(host: Host): Promise<string[]> {
  const { problems = [], exitCode } = await statusOf(host);
  expect(exitCode).toBe(problems.length === 0 ? 0 : 3);
  return problems.map(spellProblem).sort();
}

export function spellProblem({ kind, container, path }: Problem): string {
  return `${kind} ${container ?? path ?? ""}`.trim();
}

/** Of each running container that publishes, as Docker says it: its name, its host name, and its ports on the host. */
async function published(host: Host): Promise<{ name: string; hostname: string; ports: number[] }[]> {
  const ids = (await host.docker.cli("ps", "--quiet")).stdout.split("\n").filter(Boolean);
  if (ids.length === 0) return [];
  const documents = JSON.parse((await host.docker.cli("inspect", ...ids)).stdout);
  // biome-ignore lint/suspicious/noExplicitAny: the document differs from version to version
  const all = documents.map(({ Name, Config, NetworkSettings }: any) => ({
    name: Name.slice(1),
    hostname: Config.Hostname,
    ports: Object.values<{ HostIp: string; HostPort: string }[] | null>(NetworkSettings.Ports)
      .flatMap((bindings) => bindings ?? [])
      .filter(({ HostIp }) => HostIp === "0.0.0.0")
      .map(({ HostPort }) => Number(HostPort)),
  }));
  return all.filter(({ ports }: { ports: number[] }) => ports.length > 0);
}

/**
 * Status says that all is well, of exactly the containers that publish; and a client reaches each of their ports, and is seen
 * as itself. `args` are what the host was set up with. Returns their names.
 */
export async function expectAllWell(host: Host, client: Client, ...args: string[]): Promise<string[]> {
  const { status = [], problems, warnings, exitCode } = await statusOf(host, ...args);
  expect(problems).toEqual([]);
  expect(warnings).toEqual([]);
  expect(exitCode).toBe(0);
  const containers = await published(host);
  const names = containers.map(({ name }) => name).sort();
  expect(status.map(({ container }) => container)).toEqual(names);
  const probes = containers.flatMap(({ hostname, ports }) => ports.map((port) => ({ hostname, port })));
  const reached = await Promise.all(
    probes.map(async ({ port }) => ({
      published: port,
      ...(await client.connect(host.address, port, { timeoutMs: 10_000 })),
    })),
  );
  expect(reached).toMatchObject(
    probes.map(({ hostname, port }) => ({ published: port, reached: true, server: hostname, peer: client.address })),
  );
  return names;
}

/** The same, as soon as who keeps it so has caught up. */
export async function expectAllWellSoon(host: Host, client: Client, ...args: string[]): Promise<string[]> {
  await until(async () => (await statusOf(host, ...args)).exitCode === 0).catch(() => {});
  return expectAllWell(host, client, ...args);
}
