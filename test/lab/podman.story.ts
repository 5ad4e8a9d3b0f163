/*
 * podman with its own firewall switched off, as docs/podman.md has it: rules for its published ports, of both families, by its
 * command and by its service, while containers come, move and go.
 */

import { describe, expect } from "vitest";
import type { Result } from "../../src/generated/result.ts";
import type { Client } from "./client.ts";
import { until } from "./fixtures.ts";
import type { Host } from "./host.ts";
import type { Lab } from "./lab.ts";
import { CONTAINERS_CONF, containersConf, Podman, podmanStory } from "./podman.ts";

const SOCKET = "unix:///run/podman/podman.sock";

async function podmanHost(lab: Lab): Promise<{ host: Host; podman: Podman; client: Client }> {
  const host = await lab.host({
    name: "pods",
    docker: { atBoot: false },
    files: { [CONTAINERS_CONF]: containersConf("none") },
  });
  return { host, podman: new Podman(host), client: await lab.client("laptop") };
}

async function run(host: Host, ...words: string[]): Promise<Result> {
  return JSON.parse((await host.run("docker_iptables", [...words, "--json"], { check: false })).stdout);
}

/** The host rules' files, of both families. */
async function hostRules(host: Host): Promise<string[]> {
  const files = ["iptables.d", "ip6tables.d"].flatMap((directory) =>
    ["10_docker", "90_docker"].map((name) => `/etc/${directory}/${name}`),
  );
  return Promise.all(files.map((file) => host.read(file)));
}

describe.each(["iptables", "nft"])("with %s", (backend) => {
  podmanStory("publishes of both families: create, a restart by hand, delete", async ({ lab }) => {
    const { host, podman, client } = await podmanHost(lab);
    // Before any container runs, and so before any bridge is there.
    await podman.cli("network", "create", "--ipv6", "--subnet=10.90.0.0/24", "--subnet=2001:db8:90::/64", "dual");
    expect(await run(host, "setup", "--client", "podman", "--backend", backend)).toMatchObject({
      changed: true,
      base: { networks: ["dual", "podman"] },
      warnings: [],
    });
    await podman.run("web", { publish: ["8080:80", "127.0.0.1:8082:80"] });
    await podman.run("duo", {
      network: "dual",
      publish: ["8081:80", "0.0.0.0:8083:80", "[::1]:8084:80", "8085:80/udp"],
    });
    // podman itself only holds the ports: who comes there waits for ever.
    expect(await client.connect(host.address, 8080, { timeoutMs: 500 })).toMatchObject({ reached: false });

    const halfway = await run(host, "create", "web", "duo");
    expect(halfway.warnings).toEqual(
      [
        expect.stringMatching(
          /^duo publishes on \[::\]:8081\/tcp, \[::\]:8083\/tcp, \[::\]:8085\/udp, too, .* without ipv6$/,
        ),
        expect.stringMatching(/^duo publishes on \[::1\]:8084\/tcp only/),
      ].reverse(),
    );
    expect(await client.connect(host.address6, 8081)).toMatchObject({ reached: false });
    const created = await run(host, "create", "web", "duo", "--ipv6");
    expect(created, created.msg).toMatchObject({ changed: true, warnings: [] });

    const reached = async (server: string, port: number, protocol: "tcp" | "udp" = "tcp") => {
      expect(await client.connect(host.address, port, { protocol })).toMatchObject({ server, peer: client.address });
    };
    const reached6 = async (server: string, port: number, protocol: "tcp" | "udp" = "tcp") => {
      expect(await client.connect(host.address6, port, { protocol })).toMatchObject({ server, peer: client.address6 });
    };
    await reached("web", 8080);
    for (const [port, protocol] of [
      [8081, "tcp"],
      [8083, "tcp"],
      [8085, "udp"],
    ] as const) {
      await reached("duo", port, protocol);
      await reached6("duo", port, protocol);
    }
    for (const port of [8082, 8084]) {
      expect(await client.connect(host.address, port)).toMatchObject({ reached: false });
      expect(await client.connect(host.address6, port)).toMatchObject({ reached: false });
    }
    // What no docker-proxy does for podman.
    for (const port of [8080, 8081, 8082])
      expect(await host.connect("127.0.0.1", port)).toMatchObject({ reached: true });
    // Not what is not published, also with a route to it.
    const [address = "", address6 = ""] = await podman.addresses("duo");
    await client.route("10.90.0.0/24", host.address);
    await client.route("2001:db8:90::/64", host.address6);
    for (const one of [address, address6]) {
      expect(await client.connect(one, 80, { timeoutMs: 500 })).toEqual({ reached: false, why: "timeout" });
    }
    expect(await run(host, "status")).toMatchObject({ problems: [] });
    const { explained = [] } = await run(host, "explain", "duo");
    const fromOutside = explained.map(({ publish, views }) => [
      publish,
      views.find(({ from }) => from === "another machine")?.reaches,
    ]);
    expect(fromOutside).toEqual(
      expect.arrayContaining([
        ["0.0.0.0:8081/tcp", true],
        ["[::]:8081/tcp", true],
      ]),
    );

    // Another address at each start.
    await podman.restart("web");
    expect(await run(host, "status")).toMatchObject({ problems: [{ kind: "fragment_outdated" }] });
    expect(await run(host, "create", "web")).toMatchObject({ changed: true });
    await reached("web", 8080);
    expect(await run(host, "setup")).toMatchObject({ changed: false });

    expect(await run(host, "delete", "--all")).toMatchObject({ changed: true });
    expect(await client.connect(host.address, 8080, { timeoutMs: 500 })).toMatchObject({ reached: false });
    expect(await run(host, "setup", "--remove")).toMatchObject({ changed: true, warnings: [] });
  });
});

describe.each([
  { by: "its command", flags: ["--client", "podman"] },
  { by: "its service, which Docker's client asks, too", flags: ["--docker-host", SOCKET] },
])("followed through $by", ({ flags }) => {
  podmanStory("a start, a restart, a network, a pod, a removal, a boot", async ({ lab }) => {
    const { host, podman, client } = await podmanHost(lab);
    await host.systemctl(["enable", "--now", "podman.socket"]);
    await podman.cli("network", "create", "--ipv6", "--subnet=10.90.0.0/24", "--subnet=2001:db8:90::/64", "dual");
    const set = await run(host, "setup", "--watch", "--ipv6", ...flags);
    expect(set, set.msg).toMatchObject({ changed: true, warnings: [] });
    const answers = async (server: string, port: number) => {
      const found = await client.connect(host.address, port, { timeoutMs: 500 });
      return found.reached && found.server === server && found.peer === client.address;
    };
    const answers6 = async (server: string, port: number) => {
      const found = await client.connect(host.address6, port, { timeoutMs: 500 });
      return found.reached && found.server === server && found.peer === client.address6;
    };

    await podman.run("web", { publish: ["8080:80"], options: ["--restart=always"] });
    await podman.run("duo", { network: "dual", publish: ["8081:80"] });
    await until(() => answers("web", 8080));
    await until(async () => (await answers("duo", 8081)) && (await answers6("duo", 8081)));
    const before = await podman.addresses("web");
    await podman.restart("web");
    expect(await podman.addresses("web")).not.toEqual(before);
    await until(() => answers("web", 8080));

    await podman.cli("network", "create", "--subnet=10.91.0.0/24", "later");
    await until(async () => (await host.read("/etc/iptables.d/10_docker")).includes("10.91.0.0/24"));
    await podman.run("third", { network: "later", publish: ["8082:80"] });
    await until(() => answers("third", 8082));
    // A pod's ports are those of the container that holds its network.
    await podman.cli("pod", "create", "--name=pod", "--hostname=pod", "--publish=8083:80");
    await podman.cli("run", "--detach", "--pod=pod", "--name=member", "lab/server");
    await until(() => answers("pod", 8083));
    expect(await host.connect("127.0.0.1", 8080)).toMatchObject({ reached: true });
    await until(async () => (await run(host, "status")).problems?.length === 0);

    await podman.cli("rm", "--force", "--time=0", "third");
    await podman.cli("network", "rm", "later");
    await podman.cli("pod", "rm", "--force", "--time=0", "pod");
    await until(async () => !(await host.read("/etc/iptables.d/10_docker")).includes("10.91.0.0/24"));
    await until(async () => (await host.list("/etc/iptables.d")).length === 4);
    expect(await host.list("/etc/iptables.d")).toEqual([
      "10_docker",
      "11-docker-container_duo",
      "11-docker-container_web",
      "90_docker",
    ]);
    const rules = await hostRules(host);

    await host.systemctl(["enable", "podman-restart.service"]);
    await host.reboot();
    await until(() => answers("web", 8080));
    expect(await client.connect(host.address, 8081, { timeoutMs: 500 })).toMatchObject({ reached: false });
    expect(await hostRules(host)).toEqual(rules);
    expect(await host.connect("127.0.0.1", 8080)).toMatchObject({ reached: true });
  });
});

podmanStory("the host rules are the same by its command and by its service", async ({ lab }) => {
  const { host, podman } = await podmanHost(lab);
  await host.systemctl(["start", "podman.socket"]);
  await podman.cli("network", "create", "--ipv6", "dual");
  await podman.cli("network", "create", "--internal", "inner");
  await podman.run("web", { publish: ["8080:80"] });
  expect(await run(host, "setup", "--client", "podman")).toMatchObject({ changed: true });
  const rules = await hostRules(host);
  expect(rules[0]).toContain("podman0");
  const byCommand = await run(host, "create", "web", "--check", "--client", "podman");
  await host.run("rm", ["/etc/docker_iptables.json"]);
  expect(await run(host, "setup", "--docker-host", SOCKET)).toMatchObject({ files: expect.anything(), warnings: [] });
  expect(await hostRules(host)).toEqual(rules);
  await host.run("rm", ["/etc/docker_iptables.json"]);
  const bySocket = await host.run("docker_iptables", ["create", "web", "--check", "--json"], {
    env: { DOCKER_HOST: SOCKET },
  });
  expect(JSON.parse(bySocket.stdout).rules).toEqual(byCommand.rules);
});
