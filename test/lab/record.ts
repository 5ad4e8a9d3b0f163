/*
 * `npm run record`: records what the lab's own dockerd and podman (Debian's) print for containers of every kind, as
 * golden cases test/cases/recorded-*.json. `LAB_ROOT=trixie npm run record -- podman dual-stack` records one kind of one client,
 * of a release, whose name is then in the file's. Then `npx vitest run test/cases.test.ts -u` writes what comes of them, to be
 * read before it is kept. Ids and times differ from record to record.
 */

import { writeFileSync } from "node:fs";
import type { networkInterfaces } from "node:os";
import { fileURLToPath } from "node:url";
import type { Host } from "./host.ts";
import { serverImage } from "./image.ts";
import { startLab } from "./lab.ts";
import { CONTAINERS_CONF, canSwitchOff, containersConf, PODMAN_PACKAGES, Podman } from "./podman.ts";
import { chosenSuite } from "./suites.ts";

const CASES = fileURLToPath(new URL("../cases/", import.meta.url));

interface Kind {
  about: string;
  /** For `CLIENT run --name web …`. */
  options: string[];
  args?: Record<string, unknown>;
  /** What the server listens on; 80 by default. */
  port?: number;
  /** Commands of the client, before and after. */
  before?: string[][];
  after?: string[][];
}

const DOCKER: Record<string, Kind> = {
  default: { about: "the default network", options: ["--publish=8080:80"] },
  "user-defined": {
    about: "a user-defined network",
    before: [["network", "create", "app"]],
    options: ["--network=app", "--publish=8080:80"],
  },
  "several-networks": {
    about: "two networks, connected while it runs",
    before: [
      ["network", "create", "app"],
      ["network", "create", "back"],
    ],
    options: ["--network=back", "--publish=8080:80"],
    after: [["network", "connect", "app", "web"]],
  },
  "bridge-named": {
    about: "a network whose bridge has a name",
    before: [["network", "create", "--opt=com.docker.network.bridge.name=br-shop", "shop"]],
    options: ["--network=shop", "--publish=8080:80"],
  },
  "internal-beside": {
    about: "an internal network beside the default one",
    before: [["network", "create", "--internal", "inner"]],
    options: ["--publish=8080:80"],
    after: [["network", "connect", "inner", "web"]],
  },
  internal: {
    about: "an internal network",
    before: [["network", "create", "--internal", "inner"]],
    options: ["--network=inner", "--publish=8080:80"],
  },
  macvlan: {
    about: "a macvlan network",
    before: [["network", "create", "--driver=macvlan", "--opt=parent=eth0", "--subnet=192.0.2.0/24", "lan"]],
    options: ["--network=lan", "--publish=8080:80"],
  },
  addresses: {
    about:
      "published on every address, on one, on 127.0.0.1, on ::1; tcp and udp; a range; one port that is only exposed",
    options: [
      ...[
        "8080:80",
        "198.51.100.10:8081:80",
        "127.0.0.1:8082:80",
        "[::1]:8083:80",
        "5353:53/udp",
        "7000-7002:7000-7002",
      ],
      "[2001:db8:1::10]:8084:80",
    ]
      .map((publish) => `--publish=${publish}`)
      .concat("--expose=9000"),
    args: { ipv6: true },
  },
  "publish-all": { about: "--publish-all", options: ["--publish-all", "--expose=80"] },
  host: { about: "the host's network", options: ["--network=host"] },
  none: { about: "no network", options: ["--network=none"] },
  container: {
    about: "another container's network",
    before: [["run", "--detach", "--name=other", "--publish=8080:80", serverImage]],
    options: ["--network=container:other"],
    port: 81,
  },
  exited: { about: "exited", options: ["--publish=8080:80"], after: [["stop", "web"]] },
};

const PODMAN: Record<string, Kind> = {
  default: { about: "the default network", options: ["--publish=8080:80"] },
  addresses: {
    about: "published on every address, on one, on 127.0.0.1; tcp and udp",
    options: ["8080:80", "198.51.100.10:8081:80", "127.0.0.1:8082:80", "5353:53/udp"].map((one) => `--publish=${one}`),
  },
  "user-defined": {
    about: "a user-defined network",
    before: [["network", "create", "app"]],
    options: ["--network=app", "--publish=8080:80"],
  },
  exited: { about: "exited", options: ["--publish=8080:80"], after: [["stop", "--time=0", "web"]] },
  host: { about: "the host's network", options: ["--network=host"] },
  "dual-stack": {
    about:
      "a network of both families; published on every address, on 0.0.0.0, on [::], on 127.0.0.1 and ::1; tcp and udp",
    before: [["network", "create", "--ipv6", "--subnet=10.90.0.0/24", "--subnet=2001:db8:90::/64", "dual"]],
    options: ["8080:80", "0.0.0.0:8081:80", "[::]:8082:80", "127.0.0.1:8083:80", "[::1]:8084:80", "5353:53/udp"]
      .map((one) => `--publish=${one}`)
      .concat("--network=dual"),
    args: { ipv6: true },
  },
};

const [onlyClient, ...onlyKinds] = process.argv.slice(2);

/** What is to be recorded of a client. */
function chosen(client: string, kinds: Record<string, Kind>): [string, Kind][] {
  if (onlyClient !== undefined && onlyClient !== client) return [];
  return Object.entries(kinds).filter(([name]) => onlyKinds.length === 0 || onlyKinds.includes(name));
}

/** The interfaces of a host, as the product reads them on it. */
async function interfacesOf(host: Host) {
  const names = (await host.list("/sys/class/net")).sort();
  const script = 'console.log(JSON.stringify(require("os").networkInterfaces()))';
  const all: ReturnType<typeof networkInterfaces> = JSON.parse((await host.run("node", ["-e", script])).stdout);
  const subnets = Object.entries(all).flatMap(([name, ones]) =>
    (ones ?? []).flatMap(({ cidr }) => (cidr === null || cidr.startsWith("fe80") ? [] : [{ name, cidr }])),
  );
  return { names, subnets };
}

async function record(host: Host, client: string, version: string, name: string, kind: Kind): Promise<void> {
  const run = (...args: string[]) => host.run(client, args);
  for (const command of kind.before ?? []) await run(...command);
  await run("run", "--detach", "--name=web", ...kind.options, serverImage, String(kind.port ?? 80));
  for (const command of kind.after ?? []) await run(...command);
  const inspect = JSON.parse((await run("inspect", "web")).stdout);
  const attached = Object.entries<{ NetworkID?: string }>(inspect[0].NetworkSettings.Networks ?? {});
  const ids = attached.map(([network, { NetworkID }]) => NetworkID || network);
  const networks = ids.length === 0 ? [] : JSON.parse((await run("network", "inspect", ...ids)).stdout);
  const args = { container: "web", ...(client === "docker" ? {} : { client }), ...kind.args };
  const suite = chosenSuite();
  const about = `Recorded from ${version} of Debian${suite === undefined ? "" : ` ${suite}`}: ${kind.about}.`;
  const recorded = { about, args, inspect, networks, interfaces: await interfacesOf(host) };
  const file = `recorded-${client}-${name}${suite === undefined ? "" : `-${suite}`}.json`;
  writeFileSync(`${CASES}${file}`, `${JSON.stringify(recorded, null, 2)}\n`);
  const containers = (await run("ps", "--all", "--quiet")).stdout.split("\n").filter(Boolean);
  await run("rm", "--force", ...containers);
  await run("network", "prune", "--force");
  console.log(about);
}

await using lab = await startLab({ packages: PODMAN_PACKAGES });
const host = await lab.host({
  name: "web1",
  docker: { ipv6: true },
  files: { [CONTAINERS_CONF]: containersConf(canSwitchOff ? "none" : undefined) },
});
const docker = (await host.run("docker", ["version", "--format={{.Server.Version}}"])).stdout.trim();
for (const [name, kind] of chosen("docker", DOCKER)) await record(host, "docker", `dockerd ${docker}`, name, kind);

await new Podman(host).loadImage();
const podman = (await host.run("podman", ["version", "--format={{.Client.Version}}"])).stdout.trim();
for (const [name, kind] of chosen("podman", PODMAN)) await record(host, "podman", `podman ${podman}`, name, kind);
