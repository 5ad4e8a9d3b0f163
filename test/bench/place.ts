// The host that is measured: its base set up, one real container that publishes a port, our executable in three forms,
// and a client whose answers cost nothing, for containers that would take Docker a minute to start.

import { chmod, copyFile, mkdir, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import type { Host } from "../lab/host.ts";
import type { Lab } from "../lab/lab.ts";
import { nodeFolder } from "../node-folder.ts";

/** What the lab's hosts get as docker_iptables, and so what their services load with. */
export const NATIVE = fileURLToPath(new URL("../../dist/docker_iptables-linux-x64", import.meta.url));
const SCRIPT = fileURLToPath(new URL("../../dist/docker_iptables", import.meta.url));

/** Debian's packages that a measured host has besides the lab's own. */
export const PACKAGES = ["nftables", "python3", "containernetworking-plugins", "netavark"];

/** One form of our executable: how it is started. */
export interface Form {
  name: string;
  argv: readonly string[];
  env: Record<string, string>;
}

export interface Place {
  host: Host;
  native: Form;
  /** The script under Node.js. */
  nodes: readonly Form[];
  /** What `docker inspect` says of the real container. */
  document: Record<string, unknown>;
}

const PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/** Prints /root/documents/NAME, and does nothing else; it starts one process, as a client does. */
const CLIENT = `#!/bin/sh
[ "$1" = inspect ] || exec docker "$@"
exec cat "/root/documents/$2"
`;
export const FAKE_CLIENT = "/usr/local/bin/documents";

export async function startPlace(lab: Lab, backend: "iptables" | "nft" = "iptables", name = "bench"): Promise<Place> {
  const host = await lab.host({ name: `${name}-${backend}`, files: { [FAKE_CLIENT]: CLIENT } });
  const inHost = async (file: string, path: string) => {
    await host.run("mkdir", ["-p", path.slice(0, path.lastIndexOf("/"))]);
    await copyFile(file, `/proc/${host.pid}/root${path}`);
    await chmod(`/proc/${host.pid}/root${path}`, 0o755);
  };
  await inHost(SCRIPT, "/opt/script/docker_iptables");
  const nodes: Form[] = [];
  for (const version of ["24.21.0", "20.20.2"]) {
    await inHost(`${await nodeFolder(version)}/node`, `/opt/${version}/node`);
    const env = { PATH: `/opt/${version}:${PATH}` };
    nodes.push({ name: `Node.js ${version.split(".")[0]}`, argv: ["/opt/script/docker_iptables"], env });
  }
  await host.docker.run("web", { publish: ["0.0.0.0:8080:80"] });
  await host.run("docker_iptables", ["setup", "--backend", backend]);
  // The state before each measured run.
  await host.run("sh", ["-c", "iptables-save > /root/base.rules"]);
  const native = { name: "native", argv: ["/usr/local/bin/docker_iptables"], env: { PATH } };
  return { host, native, nodes, document: await host.docker.inspect("web") };
}

/** Shell: no container is published, the kernel has only the host rules. */
export const BARE =
  "rm -f /etc/iptables.d/11-* /etc/iptables.d/50-* /etc/ip6tables.d/11-*; iptables-restore < /root/base.rules";

/** Has the client say that a container of this name publishes these ports, to the same ones of its own unless it is said to which. */
export async function pretend(
  { host, document }: Place,
  name: string,
  ports: readonly (number | readonly [ofHost: number, ofContainer: number])[],
  address?: string,
): Promise<void> {
  const bindings = Object.fromEntries(
    ports.map((one) => {
      const [ofHost, ofContainer] = typeof one === "number" ? [one, one] : one;
      return [`${ofContainer}/tcp`, [{ HostIp: "0.0.0.0", HostPort: `${ofHost}` }]];
    }),
  );
  // biome-ignore lint/suspicious/noExplicitAny: the document differs from version to version
  const copy: any = structuredClone(document);
  copy.Name = `/${name}`;
  copy.HostConfig.PortBindings = bindings;
  copy.NetworkSettings.Ports = bindings;
  if (address !== undefined) copy.NetworkSettings.Networks.bridge.IPAddress = address;
  await mkdir(`/proc/${host.pid}/root/root/documents`, { recursive: true });
  await writeFile(`/proc/${host.pid}/root/root/documents/${name}`, JSON.stringify([copy]));
}

/** Ports with a gap between any two, so that no two make a range. */
export function apart(count: number): number[] {
  return Array.from({ length: count }, (_, index) => 20_000 + 2 * index);
}
