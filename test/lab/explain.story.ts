/*
 * explain's words against packets: each of its views is tried, and ends as it says, seen as whom it says.
 */

import { describe, expect } from "vitest";
import type { Result } from "../../src/generated/result.ts";
import type { Client } from "./client.ts";
import type { Host } from "./host.ts";
import type { ProbeResult } from "./probe.ts";
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
