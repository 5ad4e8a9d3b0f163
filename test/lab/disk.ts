/*
 * What a host starts from: an empty disk over the machine's own root, the files that its first boot puts there,
 * and the settings that boot.sh reads from its environment.
 */

import { chmod, copyFile, mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { type DaemonOptions, daemonSettings } from "./docker.ts";
import type { World } from "./world.ts";

export interface HostOptions {
  /** The host's name: at most 60 small letters, digits and hyphens. */
  name: string;
  /** What `iptables` is; "nft" by default. */
  backend?: "nft" | "legacy";
  docker?: DaemonOptions;
  /** Whether the LAN comes up as on a machine, by a unit after network-pre.target; else it is up before systemd starts. */
  lanByUnit?: boolean;
  /** Files to be there at the first boot, by absolute path; executable when they start with "#!". */
  files?: Record<string, string>;
}

/** A host's place in its lab. */
export interface HostPlace {
  world: World;
  address: string;
  address6: string;
  /** The name of its port on the LAN's bridge. */
  lanPort: string;
  /** The same at every boot, because neighbours cache it. */
  mac: string;
  /** The containers' image (see image.ts). */
  serverArchive: string;
  /** The product's built file, if it has been built. */
  product: string | undefined;
}

/** The archive of the containers' image, inside a host. */
export const archiveInHost = "/usr/local/share/lab-server.tar";

const LAN_UNIT: Record<string, string> = {
  "/etc/systemd/system/lan.service": `[Unit]
DefaultDependencies=no
After=network-pre.target
Before=network.target shutdown.target
Conflicts=shutdown.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=ip link set eth0 up
ExecStop=ip link set eth0 down
`,
  "/etc/systemd/system/multi-user.target.d/lan.conf": "[Unit]\nWants=lan.service\n",
};

/** Makes an empty disk, and beside it the files that prepare.sh copies to it at the first boot. */
export async function makeDisk(directory: string, options: HostOptions, place: HostPlace): Promise<void> {
  const disk = place.world.path(directory);
  for (const part of ["upper", "work", "root", "docker", "containerd", "containers"]) {
    await mkdir(join(disk, part), { recursive: true });
  }
  const seed = async (path: string) => {
    await mkdir(dirname(join(disk, "seed", path)), { recursive: true });
    return join(disk, "seed", path);
  };
  const files: Record<string, string> = {
    "/etc/docker/daemon.json": daemonSettings(options.docker ?? {}),
    // The part of containerd that only Kubernetes uses takes most of its start.
    "/etc/containerd/config.toml": 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n',
    ...(options.lanByUnit ? LAN_UNIT : {}),
    ...options.files,
  };
  for (const [path, text] of Object.entries(files)) {
    await writeFile(await seed(path), text, { mode: text.startsWith("#!") ? 0o755 : 0o644 });
  }
  await copyFile(place.serverArchive, await seed(archiveInHost));
  if (place.product !== undefined) {
    const executable = await seed("/usr/local/bin/docker_iptables");
    await copyFile(place.product, executable);
    await chmod(executable, 0o755);
  }
}

/** Settings for host.sh and boot.sh, as NAME=value. */
export function bootEnvironment(directory: string, options: HostOptions, place: HostPlace): string[] {
  const variables = {
    HOST_NAME: options.name,
    HOST_DIRECTORY: directory,
    LAN_PORT: place.lanPort,
    MAC: place.mac,
    ADDRESS: `${place.address}/24`,
    ADDRESS6: `${place.address6}/64`,
    BACKEND: options.backend ?? "nft",
    LAN: options.lanByUnit ? "down" : "up",
    DOCKER_AT_BOOT: (options.docker?.atBoot ?? true) ? "yes" : "no",
    ROOT: place.world.root,
    NODE: process.execPath,
  };
  return Object.entries(variables).map(([name, value]) => `${name}=${value}`);
}
